"""The data of a curriculum's stages: selected before a stage trains, and looked at by the `data` verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stepladder.curriculum import hf_args
from stepladder.curriculum.parse import Loaded, load
from stepladder.curriculum.spec import BUILT_IN
from stepladder.curriculum.yaml_source import suggestion
from stepladder.data.mixture import Mixture, Place, Source, source
from stepladder.errors import InputError, PlanError, Problem
from stepladder.paths import RunDirectory, StageDataDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.preflight.machine import checked_plan

if TYPE_CHECKING:
    from stepladder.data.selection import Selection
    from stepladder.data.usable import Look


@dataclass(frozen=True)
class StageData:
    """What one stage trains on.

    Attributes:
        stage: its arguments, batch and steps.
        mixture: what its `data:` says.
        files: where its selection lies in the run directory.
        cache: folder of the stores.
    """

    stage: PlannedStage
    mixture: Mixture
    files: StageDataDirectory
    cache: Path

    @property
    def out(self) -> Path:
        """Folder of the selection."""
        return self.files.root

    def selection(self) -> Selection:
        """What the mixture selects, made now where it is not there yet.

        Raises SelectionError, or PlanError for datasets that cannot be read.
        """
        return self.selected_in(self.out)

    def selected_in(self, out: Path, look: Look | None = None) -> Selection:
        """The selection, in another folder than its own; looked at as its stage needs it, or as `look` says."""
        from stepladder.data.select import make_selection  # duckdb and pyarrow, which only stages with data need

        return make_selection(self.mixture, self.cache, out, look or self._look())

    def _look(self) -> Look:
        """The built-in trainer's own reader; another script's formats are its own."""
        from stepladder.data.usable import FILES, Look

        if self.stage.script != BUILT_IN:
            return FILES
        args = self.stage.args
        return Look(
            reader="messages" if hf_args.is_on(args.get("assistant_only_loss")) else "answer",
            depth=hf_args.is_on(args.get("use_depth")),
        )


@dataclass(frozen=True)
class CurriculumData:
    """The data of a curriculum file.

    Attributes:
        loaded: the file, for places in messages.
        plan: of all stages.
        stages: those with `data:`, in order; only the one that was asked for.
        evaluation: the datasets that no stage may train on.
        cache: folder of the stores.
    """

    loaded: Loaded
    plan: Plan
    stages: list[StageData]
    evaluation: list[Source]
    cache: Path


def curriculum_data(file: str, overrides: Sequence[str], only: str | None = None) -> CurriculumData:
    """Read a curriculum for its data. Raises CurriculumError or PlanError with every problem."""
    loaded = load(file, overrides)
    plan = checked_plan(loaded, fresh=True)  # checkpoints of an earlier run play no part here
    data = loaded.curriculum.data
    if data is None:
        hint = "name datasets under `data: {datasets: {NAME: {path: FILE}}}`"
        raise PlanError([Problem(file, "the curriculum has no `data:`, expected datasets", hint)])
    names = [stage.name for stage in plan.stages if stage.mixture is not None]
    if only is not None and only not in names:
        raise PlanError([Problem("--stage", f"no stage `{only}` with `data:`{suggestion(only, names)}")])
    stages = [found for stage in plan.chosen(only) if (found := data_of(plan, stage)) is not None]
    return CurriculumData(loaded, plan, stages, [source(data, name) for name in data.evaluation], _cache(plan))


def dataset_named(loaded: Loaded, name: str) -> Source:
    """A dataset of a curriculum that has some. Raises PlanError for another name."""
    data = loaded.curriculum.data
    names = data.datasets if data is not None else {}
    if data is None or name not in names:
        raise PlanError([Problem("--dataset", f"no dataset `{name}`{suggestion(name, names)}")])
    return source(data, name)


def data_of(plan: Plan, stage: PlannedStage) -> StageData | None:
    """What a stage trains on; None where its script finds its data by itself."""
    if stage.mixture is None:
        return None
    files = RunDirectory(Path(plan.output_dir)).data(stage.index, stage.name)
    return StageData(stage, stage.mixture, files, _cache(plan))


def evaluation_of(plan: Plan, stage: PlannedStage) -> StageData | None:
    """What a stage is evaluated on; None where that is a file, or a command's own business."""
    if stage.evaluate is None or stage.evaluate.mixture is None:
        return None
    files = RunDirectory(Path(plan.output_dir)).evaluation_data(stage.index, stage.name)
    return StageData(stage, stage.evaluate.mixture, files, _cache(plan))


def located(loaded: Loaded, error: InputError) -> InputError:
    """The error with the place in the curriculum file of the part that it is about; any other as it is."""
    at: Place | None = getattr(error, "at", None)
    if at is None:
        return error
    field: str | None = getattr(error, "field", None)
    place = loaded.document.place((*at, field) if field else at)
    return PlanError([Problem(place, str(problem), problem.hint) for problem in error.problems])


def _cache(plan: Plan) -> Path:
    return Path(plan.data_cache or ".").expanduser()
