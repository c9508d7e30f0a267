"""Faults that tests and people plant in a training by the environment variable STEPLADDER_FAULT: what is asked for.

    STEPLADDER_FAULT="kill:rank=1,step=57"        several are separated by ";"

`hooks/fault.py` makes them happen. docs/fault_injection.md has the grammar for people. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stepladder_worker.contract import ContractError

#: The environment variable that plants faults. Nothing of this is in place where it is not set.
FAULT_VARIABLE = "STEPLADDER_FAULT"

#: Where a fault can strike, in the order in which a training comes by.
PLACES = ("start", "load", "step", "save", "manifest", "end")
_STEP, _SAVE = ("step",), ("save",)

#: Kind -> (places, the first is the default; keys of its own).
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "exception": (("step", *PLACES), ()),
    "exit": (("step", *PLACES), ("code",)),
    "kill": (("step", *PLACES), ()),
    "term": (("step", *PLACES), ()),
    "stop": (("step", *PLACES), ()),
    "segfault": (("step", *PLACES), ()),
    "hang_collective": (("step", *PLACES), ()),
    "out_of_memory": (("step", *PLACES), ("memory",)),
    "hang_loader": (_STEP, ()),
    "slow": (_STEP, ("seconds",)),
    "nan": (_STEP, ()),
    "disk_full": (_SAVE, ("file",)),
    "truncate": (_SAVE, ("byte",)),
}
#: Keys of every kind, and those of a place whatever the kind.
_EVERYWHERE = ("rank", "step", "stage", "attempt", "at")
_OF_PLACE = {"save": ("files", "byte"), "manifest": ("when",)}


class FaultError(ContractError):
    """The variable cannot be read; the message says what is wrong in it and what is known."""


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        text: as it was written.
        kind: one of KINDS.
        at: one of PLACES.
        rank: which process; None for every one.
        step: the global step that is being trained (`step`), whose checkpoint is written (`save`, `manifest`), at
            which the process resumes (`start`, `load`) or training ends (`end`); None for the first that comes by.
        stage: name of the stage; None for every one.
        attempt: launch of that stage, from 1; None for every one.
        code: exit code (`exit`).
        memory: "cuda" or "host" (`out_of_memory`).
        seconds: added to each step (`slow`).
        file: which file of the checkpoint finds the disk full (`disk_full`).
        byte: so many bytes of the checkpoint are left (`truncate`), or are there before the fault strikes (at `save`).
        files: so many files of the checkpoint are there before the fault strikes (at `save`).
        when: "before" or "after" the rename that makes the manifest valid (at `manifest`).
    """

    text: str
    kind: str
    at: str
    rank: int | None = 0
    step: int | None = None
    stage: str | None = None
    attempt: int | None = 1
    code: int = 1
    memory: str = "cuda"
    seconds: float = 1.0
    file: str = "trainer_state.json"
    byte: int = 0
    files: int = 1
    when: str = "before"

    def concerns(self, stage: str, attempt: int, step: int) -> bool:
        """Whether it is planted for this stage, attempt and step, on whichever rank."""
        wanted = ((self.stage, stage), (self.attempt, attempt), (self.step, step))
        return all(asked in (None, found) for asked, found in wanted)


def planned() -> tuple[Fault, ...]:
    """The faults that the environment asks for. Raises FaultError on bad text."""
    return parse(os.environ.get(FAULT_VARIABLE, ""))


def parse(text: str) -> tuple[Fault, ...]:
    """Read `kind:key=value,...;kind:...`. Raises FaultError naming the wrong part and what is known in its place."""
    return tuple(_fault(part.strip()) for part in text.split(";") if part.strip())


def _fault(text: str) -> Fault:
    kind, _, rest = (word.strip() for word in text.partition(":"))
    if kind not in KINDS:
        raise _wrong(text, f"unknown kind {kind!r}", f"kinds are {', '.join(KINDS)}")
    values = _values(text, rest)
    places, own = KINDS[kind]
    at = values.get("at", places[0])
    if at not in places:
        raise _wrong(text, f"{kind} cannot strike at {at!r}", f"places of {kind} are {', '.join(sorted({*places}))}")
    known = (*_EVERYWHERE, *own, *(_OF_PLACE.get(at, ()) if len(places) > 1 else ()))
    for key in values:
        if key not in known:
            raise _wrong(text, f"unknown key {key!r}", f"keys of {kind} at {at} are {', '.join(known)}")
    return Fault(**{"text": text, "kind": kind, "at": at, **{key: _read(text, key, values[key]) for key in values}})


def _values(text: str, rest: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = (word.strip() for word in pair.partition("="))
        if not (key and equals and value) or key in values:
            hint = "write kind:key=value,key=value, each key once"
            raise _wrong(text, f"{pair.strip()!r} is no key=value of its own", hint)
        values[key] = value
    return values


def _at_least(least: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        number = int(value)
        if number < least:
            raise ValueError(value)
        return number

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in words:
            raise ValueError(value)
        return value

    return read


def _or_any(read: Callable[[str], int]) -> Callable[[str], int | None]:
    return lambda value: None if value == "any" else read(value)


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError(value)
    return number


#: Key -> (how it is read, what it is in words).
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "rank": (_or_any(_at_least(0)), "a rank from 0, or any"),
    "step": (_at_least(0), "a global step"),
    "stage": (str, "the name of a stage"),
    "attempt": (_or_any(_at_least(1)), "an attempt from 1, or any"),
    "at": (str, "a place"),
    "code": (_at_least(0), "an exit code"),
    "memory": (_one_of("cuda", "host"), "cuda or host"),
    "seconds": (_seconds, "a number of seconds"),
    "file": (str, "the name of a file of the checkpoint"),
    "byte": (_at_least(0), "a number of bytes"),
    "files": (_at_least(0), "a number of files"),
    "when": (_one_of("before", "after"), "before or after"),
}
#: What docs/fault_injection.md must name as well.
KEYS = tuple(_READERS)


def _read(text: str, key: str, value: str) -> Any:
    read, words = _READERS[key]
    try:
        return read(value)
    except ValueError:
        raise _wrong(text, f"{key} is {value!r}", f"{key} is {words}") from None


def _wrong(text: str, found: str, hint: str) -> FaultError:
    return FaultError(f"{FAULT_VARIABLE}: in {text!r}: {found}; hint: {hint}")
