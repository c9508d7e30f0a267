"""Checks of a stage's data before it trains."""
