"""Texts of a dataset for a terminal. Standard library only."""

from __future__ import annotations


def printable(text: str) -> str:
    """Without the control characters that a sample may hold, which a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
