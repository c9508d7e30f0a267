"""Task metrics of a pointing model: ``python -m stepladder.evaluate MODEL DATA``."""
