"""The table of causes in docs/diagnosis.md: `python tests/diagnosis_table.py` prints it."""

from __future__ import annotations

from stepladder.diagnosis.signature import Signature
from stepladder.diagnosis.table import TABLE


def table() -> str:
    """One row a signature, in the order in which they are tried, in Markdown."""
    head = ["| cause | kind | what happened | hint | retry helps |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(_row, TABLE)]) + "\n"


def _row(signature: Signature) -> str:
    helps = [
        *(["yes"] if signature.retry else []),
        *(["with less memory"] if signature.memory else []),
        *(["with less memory where memory ran out"] if signature.memory_if_told else []),
    ]
    cells = [f"`{signature.name}`", signature.kind, signature.cause, signature.hint, ", ".join(helps) or "no"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
