"""From a stage task to processes."""
