"""What a log has to say for one attempt: the lines that match a signature, in their order."""

from __future__ import annotations

from dataclasses import dataclass, field

from stepladder.diagnosis.signature import Signature

#: What ended a script where no signature knows it.
EXCEPTION = Signature("exception", "symptom", "{what}", "", (r"(?P<what>.*)",))
#: So many lines of one kind are kept; what comes later follows from them.
_KEPT = 50


@dataclass(frozen=True)
class Place:
    """A line of a log.

    Attributes:
        line: its number, from 1; None for what was not read in a log.
        text: the line, without colours, at most 300 characters of it.
        rank: the process that wrote it, where that shows.
        frame: the last `File "...", line N` before it, for what ends a traceback.
    """

    line: int | None
    text: str
    rank: int | None = None
    frame: str | None = None


@dataclass(frozen=True)
class Finding:
    """A line that matches a signature, and what its groups say."""

    signature: Signature
    groups: dict[str, str]
    place: Place


@dataclass
class Evidence:
    """Findings by the kind of their signature, each list in the order of the log.

    `cascade_count` counts all of a kind of which only the first are kept.
    """

    roots: list[Finding] = field(default_factory=list)
    symptoms: list[Finding] = field(default_factory=list)
    confirmations: list[Finding] = field(default_factory=list)
    cascades: list[Finding] = field(default_factory=list)
    cascade_count: int = 0

    @property
    def any(self) -> bool:
        """Whether anything was found."""
        return bool(self.roots or self.symptoms or self.confirmations or self.cascades)

    def shows(self, names: tuple[str, ...]) -> bool:
        """Whether one of these causes was found."""
        found = (*self.roots, *self.symptoms, *self.confirmations, *self.cascades)
        return any(finding.signature.name in names for finding in found)

    def add(self, finding: Finding) -> None:
        kind = finding.signature.kind
        of_kind = {
            "root": self.roots,
            "symptom": self.symptoms,
            "confirmation": self.confirmations,
            "cascade": self.cascades,
        }[kind]
        self.cascade_count += kind == "cascade"
        if len(of_kind) < _KEPT:
            of_kind.append(finding)

    def handled(self, rank: int | None, incidental: frozenset[str]) -> None:
        """The last root or symptom of this process was handled, and another error came of it.

        Of names that are not `incidental` it is the cause all the same. An error that no signature knows said nothing.
        Else it is what a script tries first and does otherwise then: a symptom, so that a root that follows says more.
        """
        latest = max([*self.symptoms[-1:], *self.roots[-1:]], key=lambda found: found.place.line or 0, default=None)
        if latest is None or latest.place.rank != rank or latest.signature.name not in incidental:
            return
        if latest.signature.kind == "root":
            self.roots.remove(latest)
            self.symptoms.append(latest)
        elif latest.signature.name == EXCEPTION.name:
            self.symptoms.remove(latest)

    def forget(self) -> None:
        """The training went on: nothing of it ended it."""
        for findings in (self.roots, self.symptoms, self.confirmations, self.cascades):
            findings.clear()
        self.cascade_count = 0
