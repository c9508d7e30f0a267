"""What an error says to a person."""

from __future__ import annotations


def said(error: Exception) -> str:
    """The error's own text; torch puts a data worker's traceback before that of an error from there."""
    text = str(error)
    if text.startswith(f"Caught {type(error).__name__} in "):
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return text.strip()
