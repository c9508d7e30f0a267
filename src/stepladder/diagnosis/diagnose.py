"""From the evidence of an attempt to one cause. docs/diagnosis.md says how it is decided."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from stepladder.diagnosis.log_lines import EXCEPTION, Evidence, Finding, Place
from stepladder.diagnosis.scan import Scanner
from stepladder.diagnosis.signature import Signature
from stepladder.diagnosis.table import TABLE

#: A shell says 128 + N of a process that ended by signal N.
_BY_SIGNAL = 128
#: So many lines that follow from the cause are given with their places.
_FOLLOWED = 5
_HANG = Signature("hang", "symptom", "{what}", "the Python stacks of all processes are in the log", (), retry=True)


@dataclass(frozen=True)
class ExitFacts:
    """What is known of the end of an attempt besides its log.

    Attributes:
        exit_code: of the launcher; negative or above 128 where a signal ended it; None where not known.
        memory_kills: processes that the kernel killed for memory meanwhile, in this control group.
        hung: what hung, one sentence; None where nothing was found to hang.
        error: what the worker recorded: {"type", "message"}, and "rank" above 0.
    """

    exit_code: int | None = None
    memory_kills: int = 0
    hung: str | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Why an attempt ended.

    Attributes:
        cause: name of a signature, "exception" for an error that none knows, "hang", or "unknown".
        sentence: what happened; empty for "unknown".
        hint: what to do about it; None where only the script's author can tell.
        retry: another attempt may well succeed.
        memory: it succeeds with less memory.
        where: the line that shows it; None where no line does.
        followed: the first lines that only follow from it.
        followed_count: how many there are of those.
        confirmed: what else says so, or ended beside it.
    """

    cause: str
    sentence: str
    hint: str | None
    retry: bool
    memory: bool
    where: Place | None = None
    followed: tuple[Place, ...] = ()
    followed_count: int = 0
    confirmed: tuple[str, ...] = ()


#: Neither the log nor the exit says why.
UNKNOWN = Diagnosis("unknown", "", None, retry=False, memory=False)


def diagnose(log: IO[bytes], facts: ExitFacts | None = None, attempt: int | None = None) -> Diagnosis | None:
    """Read a log once and decide; None where neither it nor `facts` has a sign of a failure.

    `attempt` is the number of the attempt whose part of the log counts; None: the last one's, or the whole log where
    Stepladder did not write it.
    """
    facts = facts or ExitFacts()
    scanner = Scanner(attempt)
    scanner.read(log)
    error = _unknown_error(scanner, facts)
    _add_end(scanner, facts)
    chosen = _chosen(scanner.evidence, facts, error)
    if chosen is None:
        return UNKNOWN if facts.exit_code else None
    return _told(chosen, scanner.evidence, facts)


def of_attempt(
    log: Path, attempt: int, exit_code: int, error: dict[str, Any] | None, memory_kills: int, hung: str | None
) -> Diagnosis:
    """Why an attempt that failed did so; its log may be missing."""
    facts = ExitFacts(exit_code, memory_kills, hung, error)
    with contextlib.ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(log.open("rb"))
        except OSError:
            file = io.BytesIO()
        return diagnose(file, facts, attempt) or UNKNOWN


def _unknown_error(scanner: Scanner, facts: ExitFacts) -> Finding | None:
    """The error that the worker recorded, where no signature knows it; else it counts as lines after the log's last."""
    if facts.error is None:
        return None
    kind, message, rank = facts.error["type"], str(facts.error["message"]), facts.error.get("rank")
    first, *others = message.splitlines() or [""]
    if any(scanner.add(text, rank) for text in (f"{kind}: {first}", *others)):
        return None
    seen = [found for found in scanner.evidence.symptoms if found.place.text.endswith(f"{kind}: {first}".strip())]
    place = replace(seen[0].place, rank=rank) if seen else Place(None, f"{kind}: {first}", rank)
    text, _, hint = message.partition("; hint: ")
    return Finding(replace(EXCEPTION, hint="{hint}"), {"what": f"{kind}: {text}", "hint": hint}, place)


def _add_end(scanner: Scanner, facts: ExitFacts) -> None:
    """How the processes ended, as lines after the log's last."""
    if facts.hung is None and facts.exit_code is not None:
        code = facts.exit_code if facts.exit_code <= _BY_SIGNAL else _BY_SIGNAL - facts.exit_code
        if code < 0:
            scanner.add(f"the launcher ended with exitcode: {code}")
    if facts.memory_kills > 0:
        scanner.add(f"the memory control group counted {facts.memory_kills} kill(s) for want of memory")


def _chosen(evidence: Evidence, facts: ExitFacts, error: Finding | None) -> Finding | None:
    """The earliest root; without one what hung, the earliest symptom, a confirmation, a cascade.

    Of exceptions that no signature knows the recorded one ended the script: it stands for all that the log has.
    """
    hung = [Finding(_HANG, {"what": f"it hung: {facts.hung}"}, Place(None, ""))] if facts.hung else []
    recorded = [] if error is None else [error]
    symptoms = [found for found in evidence.symptoms if error is None or found.signature is not EXCEPTION]
    alone = [] if facts.hung else evidence.confirmations
    cascades = sorted(evidence.cascades, key=lambda found: TABLE.index(found.signature))
    candidates = [*evidence.roots, *hung, *symptoms, *recorded, *alone, *cascades]
    if not candidates:
        return None
    chosen = candidates[0]
    for confirmation in evidence.confirmations:
        name, stronger = chosen.signature.name, confirmation.signature
        if name in stronger.replaces or evidence.shows(stronger.replaces_beside.get(name, ())):
            chosen = confirmation
    return chosen


def _told(chosen: Finding, evidence: Evidence, facts: ExitFacts) -> Diagnosis:
    signature, place = chosen.signature, chosen.place
    exception = signature.name == EXCEPTION.name
    rank = f" (rank {place.rank})" if exception and place.rank is not None else ""
    others = [found for found in (*evidence.roots, *evidence.symptoms) if found.signature.name != signature.name]
    confirmed = [
        found.signature.sentence(found.groups)
        for found in evidence.confirmations
        if found.signature.name != signature.name
    ]
    confirmed += [facts.hung] if facts.hung and signature is not _HANG else []
    told = signature.memory_if_told and any(found.signature.memory for found in evidence.confirmations)
    followed = [found.place for found in (*others, *evidence.cascades) if found is not chosen]
    followed = sorted((at for at in followed if at.line is not None), key=lambda at: at.line or 0)
    return Diagnosis(
        signature.name,
        signature.sentence(chosen.groups) + rank,
        signature.advice(chosen.groups) or None,
        signature.retry,
        signature.memory or told,
        place if place.text else None,
        tuple(followed[:_FOLLOWED]),
        len(others) + evidence.cascade_count - (signature.kind == "cascade"),
        tuple(dict.fromkeys(confirmed)),
    )
