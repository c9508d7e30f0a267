"""`python -m stepladder.data.rooms OUT`: make the rooms data set in the folder OUT, unless it is there already."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stepladder import console
from stepladder.data.build.points import POINT_RULES
from stepladder.data.rooms.build import build
from stepladder.data.rooms.settings import RoomsError, Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done or already there, 2 bad input."""
    arguments = _parser().parse_args(argv)
    settings = Settings(
        arguments.scenes, arguments.seed, arguments.width, arguments.height, point_rule=arguments.point_rule
    )
    started = time.perf_counter()
    try:
        description, built = build(arguments.out, settings)
    except RoomsError as error:
        console.report(error)
        return error.exit_code
    counts = ", ".join(f"{name} {count}" for name, count in description["samples"].items())
    how = f"built in {time.perf_counter() - started:.1f} s" if built else "already built with these settings"
    console.note(f"{arguments.out}: {how}; samples: {counts}")
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser("python -m stepladder.data.rooms", description="Make the rooms data set.")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the data set; made by this command")
    for name, text in (
        ("scenes", "rooms in all, a fifth of them held out"),
        ("seed", "everything follows from it"),
        ("width", "of the images, pixels"),
        ("height", "of the images, pixels"),
    ):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default {default})")
    parser.add_argument(
        "--point-rule",
        choices=POINT_RULES,
        default=defaults.point_rule,
        help="mask pixel farthest from the edge, or centre of the bounding box (default %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
