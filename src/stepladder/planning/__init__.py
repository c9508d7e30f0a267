"""From a curriculum to the plan of its stages."""
