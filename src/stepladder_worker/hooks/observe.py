"""Records what really runs: what was loaded, learning rates before each step, batch shapes, losses, checkpoints.

The innermost hook. With `hook: false` only this one and the recording of samples are there: nothing changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stepladder_worker import distributed, fingerprint, manifest, parked, session, snapshot
from stepladder_worker.hooks import data, resting
from stepladder_worker.hooks.record import RecordCallback, record_start
from stepladder_worker.losses import Losses

#: Hyper-parameters of a parameter group that are recorded at the first step and at every checkpoint.
GROUP_KEYS = ("weight_decay", "betas", "eps", "momentum", "amsgrad")
#: What the loop takes from the state and not from the arguments: a loaded checkpoint may rule it (trap 6b).
CADENCE = ("logging_steps", "eval_steps", "save_steps")


class ObserveHook:
    """Sees what the Trainer is really given. DeepSpeed steps inside backward: learning rates are read before it."""

    args: Any
    model: Any
    optimizer: Any
    state: Any
    _train_batch_size: int
    _step_seen: int | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        stage = session.current()
        stage.begin(self)
        stage.evidence.losses = Losses()
        self.add_callback(RecordCallback())  # type: ignore[attr-defined]
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def _load_from_checkpoint(self, checkpoint: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(checkpoint, *args, **kwargs)  # type: ignore[misc]
        session.current().evidence.loaded["weights"] = checkpoint

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        session.current().evidence.loaded["optimizer"] = checkpoint

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if checkpoint is not None:
            loaded = session.current().evidence.loaded
            loaded["rng"] = checkpoint
            loaded["random_state"] = fingerprint.of_random_state(fingerprint.random_states())

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        evidence = session.current().evidence
        step = int(self.state.global_step)
        if step != self._step_seen:
            self._step_seen = step
            self._before_step(step)
        evidence.micro_batch({k: list(v.shape) for k, v in inputs.items() if isinstance(v, torch.Tensor)})
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if evidence.losses is not None:
            evidence.losses.add(loss, step + 1)
        return loss

    def _before_step(self, step: int) -> None:
        stage = session.current()
        evidence, curve, groups = stage.evidence, stage.task.curve, self.optimizer.param_groups
        if evidence.start is None:
            record_start(stage)
            evidence.batch = {
                "per_device": int(self._train_batch_size),
                "accumulation": int(self.args.gradient_accumulation_steps),
            }
            evidence.groups = _hyper_parameters(groups)
            evidence.cadence = {name: getattr(self.state, name, None) for name in CADENCE}
            evidence.lr["bases"] = [float(group.get("initial_lr", group["lr"])) for group in groups]
        planned = None if curve is None else [base * curve.factor(step) for base in evidence.lr["bases"]]
        used = [float(group["lr"]) for group in groups]
        evidence.learning_rates(step, used, planned)
        if stage.task.hook and planned is not None and used != planned:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: the learning rate of step {step + 1} is {used}, planned {planned}; "
                "hint: the script changes it by itself; leave it to the script with `schedule: script`"
            )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save, then declare the checkpoint complete: evidence first, so that no manifest is without it."""
        stage = session.current()
        step = int(self.state.global_step)
        stage.pulse.enter("saving", step)
        saved = snapshot.take(self.model, self.optimizer, step)
        saved["data"] = data.position(self)
        saved["bases"] = stage.evidence.lr["bases"]
        saved["parked"] = parked.prints(stage.parked)
        stage.evidence.trainable["resting"] = resting.names(stage, saved)
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        if folder.is_symlink():
            raise session.BoundaryError(
                f"stage {stage.task.stage}: {folder} is a link to {folder.readlink()}, and is not followed; "
                "hint: remove it, the same command goes on"
            )
        if stage.rank == 0:
            (folder / manifest.NAME).unlink(missing_ok=True)  # what is written over is not complete
        distributed.barrier()
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]
        if stage.rank == 0:
            parked.write(folder, stage.parked)
        distributed.barrier()
        stage.evidence.end, stage.evidence.best_metric["end"] = saved, self.state.best_metric
        stage.evidence.groups_at_end = _hyper_parameters(self.optimizer.param_groups)
        stage.evidence.ranks = distributed.gather(stage.evidence.rank_facts())
        stage.evidence.write("complete" if step == stage.task.end_step else "running")
        if stage.rank == 0:
            task = stage.task
            manifest.write(folder, task.run_id, task.stage, task.attempt, stage.world_size, saved)
        distributed.barrier()
        stage.saved_steps.add(step)
        stage.pulse.enter("training", step, None if stage.evidence.losses is None else stage.evidence.losses.latest())


def _hyper_parameters(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: group[key] for key in GROUP_KEYS if key in group} for group in groups]
