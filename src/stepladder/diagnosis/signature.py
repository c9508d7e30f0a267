"""How a log shows what went wrong: one signature a cause."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Kind = Literal["root", "symptom", "confirmation", "cascade"]


@dataclass(frozen=True)
class Signature:
    """One thing that a line of a log may show.

    Attributes:
        name: of the cause.
        kind: "root": it ends a training by itself. "symptom": it ends a training, but only because something else did
            not come; any root found beside it says more. "confirmation": it tells of a process that could say nothing
            itself. "cascade": it follows from the end of another process.
        cause: what happened, one sentence; `{name}` stands for a group of the pattern.
        hint: what to do about it, one sentence; may use groups as well.
        patterns: regular expressions; one of them is found in a line. Groups that the sentences use are in all of them.
        retry: the same attempt may well succeed when it is made again.
        memory: it succeeds with less memory: a smaller batch, fewer tiles, fewer data workers.
        memory_if_told: the same, but only where a confirmation tells that memory ran out.
        replaces: names of causes that a confirmation stands in for, because it says why they came about.
        replaces_beside: the same of causes that may have come about otherwise, each with what has to be seen beside it.
    """

    name: str
    kind: Kind
    cause: str
    hint: str
    patterns: tuple[str, ...]
    retry: bool = False
    memory: bool = False
    memory_if_told: bool = False
    replaces: tuple[str, ...] = ()
    replaces_beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @cached_property
    def _expressions(self) -> list[re.Pattern[str]]:
        return [re.compile(pattern) for pattern in self.patterns]

    def match(self, line: str) -> dict[str, str] | None:
        """The groups of the first pattern that is found in a line; None when none is."""
        for expression in self._expressions:
            found = expression.search(line)
            if found is not None:
                return {name: value or "" for name, value in found.groupdict().items()}
        return None

    def sentence(self, groups: Mapping[str, str]) -> str:
        """The cause with what the line said."""
        return self.cause.format_map(groups)

    def advice(self, groups: Mapping[str, str]) -> str:
        """The hint with what the line said."""
        return self.hint.format_map(groups)
