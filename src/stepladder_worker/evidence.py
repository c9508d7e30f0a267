"""Evidence: what really happened in this attempt, recorded while it happens and written to `result.json`.

The layout is described in docs/evidence.md. Recording changes nothing of the training and draws no random number.
Imports no torch: it exists before the script has set its environment.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from stepladder_worker import redaction
from stepladder_worker.contract import StageResult, StageTask, error_path, write_json

if TYPE_CHECKING:
    from stepladder_worker.losses import Losses

#: How many micro-batches are recorded sample by sample.
FIRST_BATCHES = 8
#: At most this many learning-rate mismatches are listed; all are counted.
LISTED_MISMATCHES = 10

PACKAGES = ("torch", "transformers", "accelerate", "trl", "deepspeed", "peft", "datasets", "safetensors", "numpy")


class Evidence:
    """Collects the facts of one attempt; `write` makes them a StageResult of rank 0."""

    def __init__(self, task: StageTask, task_digest: str, rank: int) -> None:
        self.task, self.task_digest, self.rank = task, task_digest, rank
        self.start: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.notes: list[str] = []
        self.loaded: dict[str, Any] = {"weights": None, "optimizer": None, "rng": None, "random_state": None}
        self.steps: dict[str, Any] = {"first": None, "last": None, "count": 0}
        self.lr: dict[str, Any] = {"checked": 0, "mismatched": 0, "mismatches": [], "logged": [], "bases": []}
        self.data: dict[str, Any] = {
            "length": None,
            "batches": None,
            "span": None,
            "drop_last": False,
            "inexact": None,
            "epoch": None,
            "first_batches": [],
            "left_out": 0,
            "astray": 0,
            "skipped": 0,
        }
        self.batch: dict[str, int] = {"per_device": 0, "accumulation": 0}
        self.batch_sizes: Counter[int] = Counter()
        self.shapes: dict[str, dict[str, list[int]]] = {}
        self.arguments: dict[str, Any] = {}
        self.groups: list[dict[str, Any]] = []
        self.groups_at_end: list[dict[str, Any]] = []
        self.cadence: dict[str, Any] = {}
        self.losses: Losses | None = None
        self.trainable: dict[str, Any] = {"optimizer": None, "resting": []}
        self.best_metric: dict[str, float | None] = {"start": None, "end": None}
        self.world_size = 1
        self.engine: str | None = None
        self.ranks: list[dict[str, Any]] = []
        self.highest_lr: list[float] = []
        self._last_lr: float | None = None

    def note(self, text: str) -> None:
        """Say something aloud: in the log and in the evidence."""
        if text not in self.notes:
            self.notes.append(text)
            if self.rank == 0:
                print(f"stepladder: {text}", flush=True)  # noqa: T201 - the stage's log is where it must be seen

    def batch_drawn(self, epoch: int, position: int, indices: list[int]) -> None:
        """This process drew a micro-batch of sample indices for training; the micro-batches that all processes draw
        together begin `position` samples into the epoch.

        `epoch` is the one that the sampler shuffles by; the loop's where the sampler does not tell.
        """
        if not self.data["first_batches"]:
            self.data["epoch"] = epoch
        if len(self.data["first_batches"]) < FIRST_BATCHES:
            self.data["first_batches"].append({"position": position, "samples": list(indices)})

    def micro_batch(self, shapes: dict[str, list[int]]) -> None:
        """Shapes of the tensors of a micro-batch: kept as the smallest and largest of each dimension."""
        for key, shape in shapes.items():
            seen = self.shapes.setdefault(key, {"min": shape, "max": shape})
            if len(seen["min"]) == len(shape):
                seen["min"] = [min(a, b) for a, b in zip(seen["min"], shape, strict=True)]
                seen["max"] = [max(a, b) for a, b in zip(seen["max"], shape, strict=True)]
        main = shapes.get("input_ids") or next(iter(shapes.values()), None)
        if main:
            self.batch_sizes[main[0]] += 1

    def learning_rates(self, step: int, used: list[float], planned: list[float] | None) -> None:
        """Learning rates of all groups for the step that follows `step` completed ones."""
        self._last_lr = used[0] if used else None
        self.highest_lr = [max(pair) for pair in zip_longest(used, self.highest_lr, fillvalue=0.0)]
        if planned is None:
            return
        self.lr["checked"] += 1
        if used != planned:
            self.lr["mismatched"] += 1
            if len(self.lr["mismatches"]) < LISTED_MISMATCHES:
                self.lr["mismatches"].append({"step": step + 1, "used": used, "planned": planned})

    def logged(self, step: int) -> None:
        """The Trainer logged a training loss for step number `step`."""
        if self._last_lr is not None:
            self.lr["logged"].append([step, self._last_lr])

    def step_done(self, step: int) -> None:
        """An optimizer step brought the run to global step `step`."""
        self.steps["first"] = self.steps["first"] or step
        self.steps["last"] = step
        self.steps["count"] += 1
        if self.losses is not None:
            self.losses.step_done()

    def rank_facts(self) -> dict[str, Any]:
        """What may differ from rank to rank: gathered at every checkpoint into `ranks`."""
        return {
            "rank": self.rank,
            "epoch": self.data["epoch"],
            "first_batches": self.data["first_batches"],
            "inexact": self.data["inexact"],
            "astray": self.data["astray"],
            "batch_sizes": self._batch_sizes(),
            "non_finite_step": None if self.losses is None else self.losses.non_finite_step(),
        }

    def write(self, status: str, error: dict[str, str] | None = None) -> None:
        """Rewrite this attempt's `result.json` with everything known so far; another rank leaves its error alone."""
        task, error = self.task, redaction.hide(error)
        if self.rank != 0:
            if error is not None:
                write_json(error_path(task.result_path, self.rank), {"rank": self.rank, **error})
            return
        result = StageResult(task.run_id, task.stage, task.attempt, self.task_digest, status, error, self._facts())
        write_json(task.result_path, result.to_dict())

    def _facts(self) -> dict[str, Any]:
        return {
            "versions": versions(),
            "hook": self.task.hook,
            "engine": self.engine,
            "world_size": self.world_size,
            "ranks": self.ranks,
            "loaded": self.loaded,
            "start": self.start,
            "end": self.end,
            "steps": self.steps,
            "lr": self.lr,
            "data": self.data,
            "batch": self.batch,
            "batch_sizes": self._batch_sizes(),
            "shapes": self.shapes,
            "arguments": self.arguments,
            "groups": self.groups,
            "groups_at_end": self.groups_at_end,
            "cadence": self.cadence,
            "trainable": self.trainable,
            "best_metric": self.best_metric,
            "loss": None if self.losses is None else self.losses.summary(),
            "notes": self.notes,
        }

    def _batch_sizes(self) -> dict[str, int]:
        return {str(size): count for size, count in sorted(self.batch_sizes.items())}


def versions() -> dict[str, str]:
    """Versions of the interpreter and of the packages that decide what a checkpoint means."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
