"""From the log of a training that failed, and how its processes ended, to one cause and what to do about it."""
