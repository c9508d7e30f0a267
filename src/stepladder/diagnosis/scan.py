"""Reads a log of any size once, in little memory: progress bars, broken UTF-8 and endless lines included."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO

from stepladder.data.printable import printable
from stepladder.diagnosis.log_lines import EXCEPTION, Evidence, Finding, Place
from stepladder.diagnosis.needles import needles
from stepladder.diagnosis.table import TABLE
from stepladder.records.log_file import HEADING

#: Bytes that are read at once; a line that is longer is cut.
_BLOCK = 1 << 20
#: Bytes of a line that are looked at, and characters of it that are shown.
_LOOKED_AT, _SHOWN = 4096, 300

#: Which of so many kinds of lines say nothing is remembered.
_REMEMBERED = 10_000
_DIGITS = b"0123456789"
_HEADING = re.compile(rf"^{HEADING}stage \S+, attempt (\d+), .* ===$")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: How torch and torchrun mark whose line it is.
_PREFIX = re.compile(r"^\[(?:rank|default)(\d+)\]:\s?")
_RANK = re.compile(r"\[(?:PG .*)?Rank (\d+)\]|local_rank: (\d+)")
#: Such a line tells of something that did not end the training.
_WARNING = re.compile(r"\bWARN(?:ING)?\b|Warning: |^\[?W\d{3,4} ")
#: A loss that is a number: the training goes on.
_PROGRESS = re.compile(r"['\"]loss['\"]: ['\"]?-?\d")
#: So many of them after an error say that it was survived. Another rank may still write one after an error.
_SURVIVED = 2
#: The last line of a traceback names an exception.
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:: .*|:)?$")
#: Of the script itself these are told without a traceback.
_COMPILED = ("SyntaxError", "IndentationError", "TabError")

#: What is often tried, and done otherwise where it fails.
_INCIDENTAL = frozenset(
    {EXCEPTION.name, "missing_file", "missing_module", "version_clash", "permission", "damaged_file", "hub_missing"}
)


def _needles() -> tuple[bytes, ...]:
    """One of these is in every line that says anything; of two that are in each other the shorter one is enough."""
    own = (
        HEADING,
        "Traceback (most recent",
        '  File "',
        "Root Cause",
        "ChildFailedError",
        "During handling of the above",
    )
    found = {*own, *(text for signature in TABLE for pattern in signature.patterns for text in needles(pattern))}
    return tuple(sorted(text.encode() for text in found if not any(other in text for other in found - {text})))


_NEEDLES = _needles()


class Scanner:
    """Collects the evidence of one attempt: number `attempt`, or the last one; the whole log where there is none."""

    def __init__(self, attempt: int | None = None) -> None:
        self.evidence = Evidence()
        self.lines = 0
        self._wanted = attempt
        self._collects = True
        self._progress = 0
        self._tracebacks: Counter[int | None] = Counter()
        self._frames: dict[int | None, str] = {}
        self._lists_others = False
        self._silent: set[bytes] = set()

    def read(self, log: IO[bytes]) -> None:
        """Take a whole log."""
        for block in _blocks(log):
            self._feed(block)

    def add(self, text: str, rank: int | None = None) -> bool:
        """Take a line that is not in the log: what else is known of its end. Returns whether a signature knows it."""
        finding = self._classified(None, rank, text, ends=False)
        if finding is not None:
            self.evidence.add(finding)
        return finding is not None

    def _feed(self, block: bytes) -> None:
        telling = self._telling(block)
        goes_on = self.evidence.any and b"loss" in block
        if telling or goes_on or self._tracebacks:
            for number, line in enumerate(block.split(b"\n"), self.lines + 1):
                for piece in line.split(b"\r"):
                    if self._tracebacks or _kind(piece) in telling or (self.evidence.any and b"loss" in piece):
                        self._line(number, piece[:_LOOKED_AT].decode("utf-8", errors="replace"))
        self.lines += block.count(b"\n")

    def _telling(self, block: bytes) -> set[bytes]:
        """The kinds of lines in a block that may say something. Large logs repeat few kinds very often."""
        kinds = set(_kind(block).replace(b"\r", b"\n").split(b"\n")) - self._silent
        telling = {kind for kind in kinds if any(needle in kind for needle in _NEEDLES)}
        self._silent |= {kind for kind in kinds - telling if len(kind) <= _LOOKED_AT}
        if len(self._silent) > _REMEMBERED:
            self._silent.clear()
        return telling

    def _line(self, number: int, text: str) -> None:
        heading = _HEADING.match(text)
        if heading:
            self._heading(int(heading[1]))
        if heading or not self._collects:
            return
        text = _COLOURS.sub("", text).replace("\0", "")
        prefix = _PREFIX.match(text)
        rank = int(prefix[1]) if prefix else None
        text = text[prefix.end() :] if prefix else text
        if not self._goes_on(text) and not self._in_traceback(rank, text):
            self._evidence_of(number, rank, text)

    def _heading(self, attempt: int) -> None:
        """Another attempt begins: it is the one that is looked for, or what follows is not."""
        self._collects = self._wanted in (None, attempt)
        if self._collects:
            self.evidence.forget()
            self._tracebacks.clear()
            self._lists_others = False

    def _goes_on(self, text: str) -> bool:
        """Whether a line shows that training goes on; what was found before did not end it then."""
        if not _PROGRESS.search(text):
            return False
        self._progress = self._progress + 1 if self.evidence.any else 0
        if self._progress >= _SURVIVED:
            self.evidence.forget()
            self._tracebacks.clear()
            self._progress = 0
        return True

    def _in_traceback(self, rank: int | None, text: str) -> bool:
        """Whether a line is part of a traceback, but not its last one."""
        if "Traceback (most recent call last)" in text:
            self._tracebacks[rank] += 1
            return True
        if text.startswith('  File "'):
            self._frames[rank] = text.strip()
            return True
        # Source code and markers below them; a report of torchrun is indented by two.
        return text.startswith("    ") or (self._tracebacks[rank] > 0 and text[:1] in (" ", ""))

    def _evidence_of(self, number: int, rank: int | None, text: str) -> None:
        if text.startswith("During handling of the above exception"):
            self.evidence.handled(rank, _INCIDENTAL)
        ends = self._tracebacks[rank] > 0
        self._tracebacks -= Counter({rank: 1})
        finding = self._classified(number, rank, text, ends)
        if finding is not None and not self._lists_others:
            self.evidence.add(finding)
        # Of torchrun's report only the first failure counts: it ended the other processes itself.
        self._lists_others = not text.startswith("Root Cause") and (self._lists_others or "ChildFailedError" in text)

    def _classified(self, number: int | None, rank: int | None, text: str, ends: bool) -> Finding | None:
        if rank is None:
            named = _RANK.search(text)
            rank = int(named[1] or named[2]) if named else None
        framed = ends or text.startswith(_COMPILED)
        place = Place(number, printable(text.strip())[:_SHOWN], rank, self._frames.get(rank) if framed else None)
        for signature in TABLE:
            groups = signature.match(text)
            if groups is not None:
                ignored = signature.kind in ("root", "symptom") and _WARNING.search(text)
                return None if ignored else Finding(signature, groups, place)
        if ends and _EXCEPTION.match(text):
            return Finding(EXCEPTION, {"what": place.text}, place)
        return None


def _kind(text: bytes) -> bytes:
    """A text without its numbers."""
    return text.translate(None, _DIGITS)


def _blocks(log: IO[bytes]) -> Iterator[bytes]:
    """Parts of a log that end where a line or the state of a progress bar ends; of an endless line its beginning."""
    rest = b""
    while data := log.read(_BLOCK):
        data = rest + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end:
            yield data[:end]
        rest = data[end:][:_BLOCK]
    yield rest
