"""Patterns over parameter names: which parameters a stage trains. Standard library only.

A pattern is one of `fnmatch` (`*`, `?`, `[abc]`), and upper and lower case differ. A leading `!` takes away what
earlier patterns chose. The last pattern that matches a parameter decides; what none matches is frozen.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

#: Begins a pattern that takes parameters away.
AWAY = "!"


def selected(names: Iterable[str], patterns: Sequence[str], aliases: Mapping[str, str]) -> set[str]:
    """The names that the patterns choose.

    Args:
        names: one a parameter.
        patterns: in the order in which they were written.
        aliases: other name of a shared (tied) parameter -> the one in `names`; it goes by any of them.
    """
    known = {**{name: name for name in names}, **aliases}
    found: set[str] = set()
    for pattern in patterns:
        matched = {known[name] for name in _matching(known, pattern)}
        found = found - matched if pattern.startswith(AWAY) else found | matched
    return found


def unmatched(names: Iterable[str], patterns: Sequence[str]) -> dict[str, list[str]]:
    """Patterns that match none of the names -> the names that are most like them, best first."""
    names = list(names)
    lost = [pattern for pattern in patterns if not _matching(names, pattern)]
    return {pattern: difflib.get_close_matches(glob(pattern), names, n=3, cutoff=0.0) for pattern in lost}


def glob(pattern: str) -> str:
    """The pattern without a leading `!`."""
    return pattern.removeprefix(AWAY)


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatch.fnmatchcase(name, glob(pattern))]
