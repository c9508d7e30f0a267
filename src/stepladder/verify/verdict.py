"""What a check says, and what the checks of a stage say together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

VERSION = 1


@dataclass(frozen=True)
class Check:
    """One verdict: its name, whether it holds, and the figure it was decided by."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class StageVerdict:
    """Every check of one stage. `global_step` is what the stage's last checkpoint says; None without one.

    `inherited_from` names the run that trained it, where that is another one.
    """

    name: str
    global_step: int | None
    expected_step: int
    checks: list[Check]
    inherited_from: str | None = None

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "global_step": self.global_step,
            "expected_step": self.expected_step,
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "inherited_from": self.inherited_from,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StageVerdict:
        """Read back what `to_dict` made; raises KeyError or TypeError for anything else."""
        checks = [Check(**check) for check in data["checks"]]
        return cls(data["name"], data["global_step"], data["expected_step"], checks, data["inherited_from"])


def to_json(verdicts: list[StageVerdict]) -> dict[str, Any]:
    """The document that `stepladder verify --json` prints."""
    return {"version": VERSION, "ok": all(v.ok for v in verdicts), "stages": [v.to_dict() for v in verdicts]}
