"""Which parameters are trained: by the stage's patterns, or by the script alone (trap 5)."""

from __future__ import annotations

from typing import Any

from stepladder_worker import patterns, session, snapshot
from stepladder_worker.carried import UNNAMED


class TrainableHook:
    """Sets `requires_grad` before the training loop makes its optimizer, after all that the script and PEFT did."""

    model: Any

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The model may be another one than at the end of `__init__`: `model_init` makes it in `train()`."""
        stage = session.current()
        _require_matches(self.model, stage)
        choose(self.model)
        return super()._inner_training_loop(*args, **kwargs)  # type: ignore[misc]

    def _load_from_checkpoint(self, checkpoint: str, *args: Any, **kwargs: Any) -> None:
        """PEFT thaws a whole adapter when it loads one: what the script had frozen of it stays frozen."""
        before = {name: parameter.requires_grad for name, parameter in self.model.named_parameters()}
        super()._load_from_checkpoint(checkpoint, *args, **kwargs)  # type: ignore[misc]
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad != before.get(name, parameter.requires_grad):
                parameter.requires_grad_(before[name])


def choose(model: Any) -> None:
    """Train what the stage's patterns choose, and nothing else; without patterns the script's own choice stays."""
    wanted = session.current().task.trainable
    if wanted is None or model is None:
        return
    names, aliases = _names(model)
    chosen = patterns.selected(names, wanted, aliases)
    for name, parameter in names.items():
        if name in chosen and not (parameter.is_floating_point() or parameter.is_complex()):
            raise session.BoundaryError(
                f"stage {session.current().task.stage}: `trainable` chooses {name}, whose values are "
                f"{parameter.dtype} and cannot be trained; hint: take quantized weights away, for example "
                f'"{patterns.AWAY}{name}"'
            )
        parameter.requires_grad_(name in chosen)


def record(stage: session.Session) -> None:
    """Record which parameters the optimizer really has, and hold it against the patterns."""
    names, aliases = _names(stage.trainer.model)
    trained = set(snapshot.optimizer_order(stage.trainer.model, stage.trainer.optimizer))
    counts = {"trained": _count(names, trained), "frozen": _count(names, set(names) - trained)}
    stage.evidence.trainable.update(patterns=stage.task.trainable, aliases=aliases, **counts)
    if counts["frozen"]["tensors"] or stage.task.trainable is not None:
        stage.evidence.note(
            f"trainable: {counts['trained']['tensors']} parameters of {counts['trained']['elements']:,} values, "
            f"{counts['frozen']['tensors']} of {counts['frozen']['elements']:,} frozen"
        )
    if stage.task.hook and stage.task.trainable is not None and UNNAMED not in trained:
        _require_chosen(stage, trained, patterns.selected(names, stage.task.trainable, aliases))


def _require_chosen(stage: session.Session, trained: set[str], chosen: set[str]) -> None:
    """A script that makes its own optimizer decides what is trained; it must be what the stage says."""
    wrong = [f"{n} is trained" for n in sorted(trained - chosen)] + [f"{n} is not" for n in sorted(chosen - trained)]
    if wrong:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: the optimizer has {len(trained)} parameters, `trainable` chooses "
            f"{len(chosen)}: {', '.join(wrong[:3])}; hint: the script makes its own optimizer: let it take the "
            "parameters that require gradients, or leave `trainable` out"
        )


def _require_matches(model: Any, stage: session.Session) -> None:
    names, aliases = _names(model)
    for pattern, close in patterns.unmatched([*names, *aliases], stage.task.trainable or ()).items():
        raise session.BoundaryError(
            f'stage {stage.task.stage}: `trainable` pattern "{pattern}" matches none of the {len(names)} parameters; '
            f"hint: the closest names are {', '.join(close)}"
        )


def _names(model: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters by name, and the other names of shared (tied) ones."""
    first = snapshot.names_by_id(model)
    names = {first[id(parameter)]: parameter for parameter in model.parameters()}
    every = [(snapshot.bare(name), parameter) for name, parameter in model.named_parameters(remove_duplicate=False)]
    return names, {name: first[id(parameter)] for name, parameter in every if name not in names}


def _count(parameters: dict[str, Any], names: set[str]) -> dict[str, int]:
    # ZeRO-3 leaves an empty tensor in a parameter's place and notes its size beside it.
    found = [parameter for name, parameter in parameters.items() if name in names]
    return {"tensors": len(found), "elements": sum(int(getattr(p, "ds_numel", p.numel())) for p in found)}
