"""Stepladder: multi-stage fine-tuning that behaves as one training run, and proves it."""

__version__ = "0.1.0"
