"""Fault number k of a seed: what strikes, where and when. A pure function of both, so that any of them can be repeated.

Ten families take turns, so every ten faults have them all; what is left open in a family is drawn. In four families the
fault lies inside a save, between the first byte of a checkpoint and its manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

#: Name -> (step at its start, step at its end). A checkpoint every SAVE_STEPS, and one at the end.
STAGES = {"one": (0, 5), "two": (5, 12), "three": (12, 18)}
SAVE_STEPS = 3
#: Bytes of one checkpoint, about; a cut behind its end leaves it whole but for the manifest.
_BYTES = 215_000
#: Causes that another attempt can help: with retries allowed the engine ends well by itself.
_PASSING = ("kill", "segfault", "hang_collective", "hang_loader", "stop", "truncate")


@dataclass(frozen=True)
class Outside:
    """A signal from outside.

    Attributes:
        target: "engine", "launcher", "rank" (one of the ranks), "ranks" (all), or "everything" (all processes of the
            run at one moment, as when power is lost).
        number: name of the signal.
        sign: where the stage has to be: "start" (its task is written), "step" (a step is done), "save" (the folder of
            the checkpoint is there), "end" (its last checkpoint is complete).
        delay: seconds from then on.
    """

    target: str
    number: str
    sign: str
    delay: float


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        number: k.
        family: see FAMILIES.
        processes: of the training.
        stage: in which it strikes; the stages before it have ended undisturbed.
        step: at which it strikes, for those who read; the sign of an outside one.
        planted: STEPLADDER_FAULT of the run that it strikes.
        outside: the signal, of one from outside.
        before: STEPLADDER_FAULT of a run before that one, so that there is something to resume in mid-stage.
        retries: the engine may launch the stage again by itself, and has to end well.
    """

    number: int
    family: str
    processes: int
    stage: str
    step: int
    planted: str
    outside: Outside | None = None
    before: str = ""
    retries: bool = False

    @property
    def in_save(self) -> bool:
        """Whether it strikes between the first byte of a checkpoint and its manifest."""
        return self.family in ("cut", "save", "manifest", "power")

    def __str__(self) -> str:
        return f"{self.number}-{self.family}-{self.stage}-{self.step}-on-{self.processes}"


@dataclass(frozen=True)
class _Place:
    """Where a case strikes, as far as all families have it in common."""

    number: int
    family: str
    processes: int
    stage: str

    def case(self, step: int, planted: str, **more: object) -> Case:
        alone = self.number % 4 == 0 and not more and planted.split(":")[0] in _PASSING
        return Case(**vars(self), step=step, planted=planted, retries=alone, **more)  # type: ignore[arg-type]

    @property
    def steps(self) -> list[int]:
        start, end = STAGES[self.stage]
        return list(range(start + 1, end + 1))

    @property
    def saves(self) -> list[int]:
        return [step for step in self.steps if step % SAVE_STEPS == 0 or step == self.steps[-1]]


def case(seed: int, number: int) -> Case:
    """Fault number `number` (from 0) of a seed."""
    turn, place = divmod(number, len(FAMILIES))
    family = Random(f"{seed}/{turn}").sample(list(FAMILIES), len(FAMILIES))[place]
    random = Random(f"{seed}/{number}")
    processes = 2 if number % 5 == 2 else 1
    # A fault in a late stage costs fewer launches; each stage gets its share.
    stage = random.choices(list(STAGES), weights=(1, 2, 3))[0]
    return FAMILIES[family](_Place(number, family, processes, stage), random)


def _cut(place: _Place, random: Random) -> Case:
    step = random.choice(place.saves)
    planted = f"truncate:step={step},byte={random.randrange(_BYTES)}"
    return place.case(step, planted)


def _save(place: _Place, random: Random) -> Case:
    step, rank = random.choice(place.saves), random.randrange(place.processes)
    kind = random.choice(["kill", "kill", "segfault", "exception", "hang_collective"])
    planted = f"{kind}:at=save,step={step},rank={rank},files={random.randint(1, 8)}"
    return place.case(step, planted)


def _manifest(place: _Place, random: Random) -> Case:
    step = random.choice(place.saves)
    planted = random.choice(
        [
            f"kill:at=manifest,step={step}",
            f"disk_full:step={step},file=trainer_state.json",
            f"disk_full:step={step},file=optimizer.pt",
        ]
    )
    return place.case(step, planted)


def _power(place: _Place, random: Random) -> Case:
    """Everything at one moment, a few milliseconds after the folder of a checkpoint is there."""
    step = random.choice(place.saves)
    outside = Outside("everything", "SIGKILL", "save", random.uniform(0, 0.02))
    # Without the fault the save would be over before a process outside can see that it has begun.
    return place.case(step, f"hang_collective:at=save,step={step},files={random.randint(1, 8)}", outside=outside)


def _load(place: _Place, random: Random) -> Case:
    """While a checkpoint is loaded: that of a boundary, or one in mid-stage after an earlier fault."""
    start, steps = STAGES[place.stage][0], place.steps
    kind = random.choice(["kill", "segfault", "exception", "exit"])
    if start and random.random() < 0.5:
        return place.case(start, f"{kind}:at=load,step={start}")
    saved = place.saves[0]
    first = f"kill:step={random.randint(saved + 1, steps[-1])}"
    return place.case(saved, f"{kind}:at=load,attempt=2,stage={place.stage}", before=first)


def _step(place: _Place, random: Random) -> Case:
    step, rank = random.choice(place.steps), random.randrange(place.processes)
    kind = random.choice(["exception", "exit", "kill", "segfault", "nan", "out_of_memory"])
    return place.case(step, f"{kind}:step={step},rank={rank}")


def _hang(place: _Place, random: Random) -> Case:
    step, rank = random.choice(place.steps), random.randrange(place.processes)
    kind = random.choice(["hang_collective", "hang_loader", "stop", "outside"])
    if kind == "outside":
        return _from_outside(place, random, "rank", "SIGSTOP", "step")
    if kind == "hang_loader":  # later, batches fetched ahead may be all that the stage needs
        step = place.steps[0]
    return place.case(step, f"{kind}:step={step},rank={rank}")


def _killed(place: _Place, random: Random) -> Case:
    target = random.choice(["engine", "launcher", "rank", "ranks", "everything"])
    sign = random.choice(["start", "step", "end"])
    # Of a stage that has ended only the engine is left for certain, and whatever it has just started.
    return _from_outside(place, random, "engine" if sign == "end" else target, "SIGKILL", sign)


def _stopped(place: _Place, random: Random) -> Case:
    number = random.choice(["SIGTERM", "SIGTERM", "SIGUSR1", "SIGINT"])
    sign = random.choice(["start", "step", "step", "end"])
    # After the last stage there is nothing left to stop.
    return _from_outside(place, random, "engine", number, "step" if place.stage == "three" else sign)


def _from_outside(place: _Place, random: Random, target: str, number: str, sign: str) -> Case:
    """Steps are made slow, so that the training is still there, also when two ranks have agreed on a stop."""
    seconds = 0.25 if place.processes == 1 else 0.7
    slow = f"slow:seconds={seconds},rank=any,attempt=any,stage={place.stage}"
    outside = Outside(target, number, sign, random.uniform(0, {"start": 3.0, "step": 0.5, "end": 1.0}[sign]))
    return place.case(place.steps[-1] if sign == "end" else place.steps[0], slow, outside=outside)


def _edge(place: _Place, random: Random) -> Case:
    """At the very start and end of a stage, and right after a checkpoint has become complete."""
    first, last = place.steps[0], place.steps[-1]
    step, planted = random.choice(
        [
            (first, f"kill:at=start,stage={place.stage}"),
            (first, f"kill:step={first}"),
            (last, f"kill:step={last}"),
            (last, f"kill:at=manifest,when=after,step={last}"),
            (last, f"kill:at=end,stage={place.stage}"),
            (last, f"exception:at=end,stage={place.stage}"),
        ]
    )
    return place.case(step, planted)


FAMILIES: dict[str, Callable[[_Place, Random], Case]] = {
    "cut": _cut,
    "save": _save,
    "manifest": _manifest,
    "power": _power,
    "load": _load,
    "step": _step,
    "hang": _hang,
    "killed": _killed,
    "stopped": _stopped,
    "edge": _edge,
}
