"""What Stepladder raises, each with a message, at most one hint and the exit code of the command that ends by it.

StepladderError
├── InputError          2   what a person wrote cannot work; carries every problem at once
│   ├── CurriculumError     seen in the curriculum file alone
│   └── PlanError           seen in the files, interpreters and checkpoints it names
├── RunError            3   a run cannot start or go on
│   └── StageFailed         a stage's processes failed or did not do their work
├── EvidenceError       4   a stage finished, but its evidence does not hold
└── Interrupted       130   the person asked to stop
    └── Preempted          75   a scheduler or a time limit did: a checkpoint is written, the same command continues
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class StepladderError(Exception):
    """Base of all errors that a person is meant to read.

    Attributes:
        message: what was found, where, and what was expected; may have several lines.
        hint: one sentence on what to do about it, or None.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input.

    Attributes:
        place: `file:line:column` (both from 1), `--set KEY`, or a file name.
        text: what was found and what was expected.
        hint: what to do about it, or None.
    """

    place: str
    text: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class InputError(StepladderError):
    """The input cannot work. `problems` has every finding; the hint is that of the first one that has one."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        hint = next((problem.hint for problem in problems if problem.hint), None)
        super().__init__("\n".join(map(str, problems)), hint)
        self.problems = tuple(problems)


class CurriculumError(InputError):
    """The curriculum file does not say what a curriculum must say."""


class PlanError(InputError):
    """The curriculum is well formed, but what it names is missing or does not fit."""


class RunError(StepladderError):
    """A run cannot start or go on."""

    exit_code = 3


class StageFailed(RunError):  # noqa: N818 - named for what happened
    """A stage's processes failed, or ended without the work they were planned to do."""


class EvidenceError(StepladderError):
    """A stage finished, but the evidence it left does not hold."""

    exit_code = 4


class Interrupted(StepladderError):  # noqa: N818 - named for what happened
    """The person asked to stop."""

    exit_code = 130


class Preempted(Interrupted):
    """The machine is wanted for something else, or the time is up. The code is EX_TEMPFAIL of sysexits.h: try again."""

    exit_code = 75
