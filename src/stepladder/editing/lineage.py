"""Where a fork comes from: the run it was forked from, and the stages that it has from there and does not train.

Kept in the fork's `run.json`, and in its journal as the event `forked`, so that an edit of one of them shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from stepladder.errors import PlanError, Problem
from stepladder.paths import RunDirectory
from stepladder_worker.contract import ContractError, read_sealed, write_sealed


@dataclass(frozen=True)
class Inherited:
    """A stage that another run trained.

    Attributes:
        stage: its name.
        index: its position, from 1.
        run_id, run, directory: the run that trained it: id, name, and where it lay then.
        manifest: SHA-256 of the manifest of its last checkpoint.
        verdict: what the checks said of it there, as `StageVerdict.to_dict` has it.
    """

    stage: str
    index: int
    run_id: str
    run: str
    directory: str
    manifest: str
    verdict: dict[str, Any]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inherited:
        """Raises KeyError or TypeError for anything that is no such record."""
        if not isinstance(data["index"], int) or not isinstance(data["verdict"], dict):
            raise TypeError("index or verdict is of another type")
        return cls(**data)


@dataclass(frozen=True)
class Lineage:
    """What a fork was made from.

    Attributes:
        run_id, name, directory: the run that was forked: id, name, and where it lay then.
        checkpoint: the boundary checkpoint that the fork starts from, where it lay then.
        stages: the stages that the fork has from there, in order. Of a fork of a fork some are of an earlier run.
    """

    run_id: str
    name: str
    directory: str
    checkpoint: str
    stages: tuple[Inherited, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"stages": [asdict(stage) for stage in self.stages]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Lineage:
        """Raises KeyError or TypeError for anything that is no such record."""
        if set(data) != {field.name for field in fields(cls)}:
            raise TypeError("missing or unknown fields")
        return cls(**{**data, "stages": tuple(map(Inherited.from_dict, data["stages"]))})


def read(run: RunDirectory) -> Lineage | None:
    """The lineage of a run; None for one that is no fork. Raises PlanError when it cannot be read."""
    try:
        found = read_sealed(run.identity).get("lineage")
        return None if found is None else Lineage.from_dict(found)
    except ContractError:
        return None  # no run yet; who needs its id says what is wrong with the file
    except (KeyError, TypeError) as error:
        hint = "put run.json back as it was, or fork under another name"
        raise PlanError([Problem(str(run.identity), f"its lineage cannot be read: {error}", hint)]) from None


def inherited(run: RunDirectory, stage: str) -> Inherited | None:
    """Where the stage of that name comes from; None for one that this run trains itself. Raises PlanError as `read`."""
    found = read(run)
    return next((entry for entry in found.stages if entry.stage == stage), None) if found is not None else None


def owner(run: RunDirectory, run_id: str, index: int) -> str:
    """Id of the run that trained, or trains, the stage at a position (from 1). Raises PlanError as `read`."""
    found = read(run)
    return next((entry.run_id for entry in found.stages if entry.index == index), run_id) if found else run_id


def forget(run: RunDirectory, stages: Collection[str]) -> None:
    """Stages that are set aside are this run's own to train from now on."""
    found = read(run)
    if found is None or not any(entry.stage in stages for entry in found.stages):
        return
    kept = replace(found, stages=tuple(entry for entry in found.stages if entry.stage not in stages))
    write_sealed(run.identity, {**read_sealed(run.identity), "lineage": kept.to_dict()})
