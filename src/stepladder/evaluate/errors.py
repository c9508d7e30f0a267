"""What ends an evaluation: input that a person can mend."""

from __future__ import annotations


class EvaluationError(ValueError):
    """The model or a file cannot be used; the message says what was found and ends with a hint."""
