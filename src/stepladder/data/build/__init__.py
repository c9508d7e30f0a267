"""From views of objects with masks (the five-frames layout) to training samples with tiers of negatives."""
