"""Every fault of the corpus, and the table of them in docs/faults.md: `python tests/faults/listing.py` prints it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # started as a script, it finds what the tests share

import in_checkpoints
import in_curricula
import in_engines
import in_records
import in_training
from corpus import Fault

FAULTS: dict[str, list[Fault]] = {
    "In a curriculum": [*in_curricula.CURRICULA],
    "In what a stage starts from": [*in_curricula.STARTS],
    "In the files of a finished chain": [*in_checkpoints.FAULTS],
    "In the records of a finished chain": [*in_records.AS_RECORDED, *in_records.FORGED],
    "In the training": [*in_training.FAULTS],
    "In one process of several": [*in_engines.FAULTS],
}


def table() -> str:
    """One section a place, one row a fault, in Markdown."""
    lines = []
    for place, faults in FAULTS.items():
        lines += ["", f"### {place}", "", "| planted | trap | named by | as |", "|---|---|---|---|"]
        lines += [_row(fault) for fault in faults]
    return "\n".join(lines) + "\n"


def _row(fault: Fault) -> str:
    named = ", ".join(f"`{name}`" for name in fault.named)
    return f"| {fault.name} | {fault.trap} | {fault.caught_by} | {named} |".replace("``", "`")


if __name__ == "__main__":
    print(table())
