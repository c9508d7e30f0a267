"""Data to stdout; notes, warnings, errors and `hint:` lines to stderr. Colour only on a terminal without NO_COLOR."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

from stepladder_worker import redaction

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stepladder.errors import StepladderError

_RED, _YELLOW, _CYAN = "31", "33", "36"

#: Columns that no table fills.
_UNFOLDED = 100_000


def data(text: str) -> None:
    """Print what the command was asked for."""
    sys.stdout.write(redaction.hide(text) + "\n")


def render(item: RenderableType, whole: bool = False) -> None:
    """Print a rich renderable to stdout; 80 columns where the width is not known.

    Args:
        item: what is printed.
        whole: where stdout is no terminal, lines are as long as they need to be, so that what reads them finds each
            path in one piece.
    """
    from rich.console import Console

    width = _UNFOLDED if whole and not sys.stdout.isatty() else None
    shown = Console(file=sys.stdout, highlight=False, markup=False, width=width)
    with shown.capture() as capture:
        shown.print(item)
    sys.stdout.write(redaction.hide(capture.get()))


def note(text: str) -> None:
    """Say something beside the data."""
    _say("note", _CYAN, text)


def warn(text: str) -> None:
    """Say something that may go wrong."""
    _say("warning", _YELLOW, text)


def report(error: StepladderError) -> None:
    """Print an error, and its one hint."""
    _say("error", _RED, error.message)
    if error.hint:
        _say("hint", _CYAN, error.hint)


def _say(label: str, colour: str, text: str) -> None:
    text = redaction.hide(text)
    start = f"\x1b[{colour}m{label}:\x1b[0m" if _coloured(sys.stderr) else f"{label}:"
    # A message of several lines starts on its own line, so that every `file:line:column` can be clicked.
    with contextlib.suppress(OSError):  # a console that is gone must not end a run
        sys.stdout.flush()
        sys.stderr.write(start + ("\n" if "\n" in text else " ") + text + "\n")
        sys.stderr.flush()


def _coloured(stream: TextIO) -> bool:
    """See no-color.org: any non-empty NO_COLOR turns colour off."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
