"""The learning rate as a pure function of the global step.

One formula serves the plan, the worker and `verify`. The formulas and their operation order are those of
`transformers.optimization` (5.23), so that a run-wide curve equals the plain Trainer's bit for bit; the test
compares with ``==``. Standard library only: the control side imports this file and never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Schedule types that depend on the loss or on a metric, so no curve can be planned for them.
UNPLANNABLE = ("reduce_lr_on_plateau", "greedy")


@dataclass(frozen=True)
class Curve:
    """A learning-rate curve over a range of global steps.

    Attributes:
        type: name as in transformers' `lr_scheduler_type`.
        peak: learning rate that the factor multiplies (`learning_rate`).
        warmup_steps: optimizer steps of warm-up, counted from `offset`.
        total_steps: optimizer steps the curve spans, counted from `offset`.
        offset: global step at which the curve's own step 0 lies (0 for a run-wide curve).
        kwargs: transformers' `lr_scheduler_kwargs`.
    """

    type: str
    peak: float
    warmup_steps: int
    total_steps: int
    offset: int = 0
    kwargs: dict[str, Any] = field(default_factory=dict)

    def factor(self, global_step: int) -> float:
        """What the base learning rate is multiplied with for the step that follows `global_step` completed ones."""
        return FORMULAS[self.type](global_step - self.offset, self)

    def lr(self, global_step: int) -> float:
        """Learning rate of the optimizer step that follows `global_step` completed steps, for the base `peak`."""
        return self.peak * self.factor(global_step)

    def check(self) -> None:
        """Raise ValueError when the type is unknown or its kwargs do not fit."""
        if self.type in UNPLANNABLE:
            raise ValueError(f"lr_scheduler_type {self.type!r} follows a metric, so its curve cannot be planned")
        if self.type not in FORMULAS:
            raise ValueError(f"unknown lr_scheduler_type {self.type!r}; known: {', '.join(sorted(FORMULAS))}")
        allowed = KWARGS.get(self.type, ())
        unknown = sorted(set(self.kwargs) - set(allowed))
        if unknown:
            raise ValueError(
                f"lr_scheduler_kwargs {', '.join(unknown)} not known to {self.type!r}; "
                f"known: {', '.join(allowed) or 'none'}"
            )
        try:
            for step in (0, self.warmup_steps, self.total_steps):
                self.factor(self.offset + step)
        except KeyError as error:
            raise ValueError(f"lr_scheduler_type {self.type!r} needs lr_scheduler_kwargs {error}") from error
        except (TypeError, ZeroDivisionError) as error:
            raise ValueError(f"lr_scheduler_kwargs of {self.type!r} give no curve: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Curve:
        return cls(**data)


def warmup_steps(total_steps: int, warmup_ratio: float = 0.0, warmup: float = 0.0) -> int:
    """Warm-up in steps as TrainingArguments.get_warmup_steps counts it.

    `warmup` (`warmup_steps`) wins when positive; below 1 it is a share of `total_steps`, as in transformers 5.
    """
    if warmup > 0:
        return int(warmup) if warmup >= 1 else math.ceil(total_steps * warmup)
    return math.ceil(total_steps * warmup_ratio)


def _warming(step: int, warmup: int) -> float | None:
    return float(step) / float(max(1, warmup)) if step < warmup else None


def _progress(step: int, c: Curve) -> float:
    return float(step - c.warmup_steps) / float(max(1, c.total_steps - c.warmup_steps))


def _constant(step: int, c: Curve) -> float:
    return 1.0


def _constant_with_warmup(step: int, c: Curve) -> float:
    return float(step) / float(max(1.0, c.warmup_steps)) if step < c.warmup_steps else 1.0


def _linear(step: int, c: Curve) -> float:
    warm = _warming(step, c.warmup_steps)
    if warm is not None:
        return warm
    return max(0.0, float(c.total_steps - step) / float(max(1, c.total_steps - c.warmup_steps)))


def _cosine(step: int, c: Curve) -> float:
    warm = _warming(step, c.warmup_steps)
    if warm is not None:
        return warm
    cycles = c.kwargs.get("num_cycles", 0.5)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * float(cycles) * 2.0 * _progress(step, c))))


def _cosine_with_restarts(step: int, c: Curve) -> float:
    warm = _warming(step, c.warmup_steps)
    if warm is not None:
        return warm
    progress = _progress(step, c)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((float(c.kwargs.get("num_cycles", 1)) * progress) % 1.0))))


def _polynomial(step: int, c: Curve) -> float:
    warm = _warming(step, c.warmup_steps)
    if warm is not None:
        return warm
    lr_end, power = c.kwargs.get("lr_end", 1e-7), c.kwargs.get("power", 1.0)
    if step > c.total_steps:
        return float(lr_end / c.peak)
    remaining = 1 - (step - c.warmup_steps) / (c.total_steps - c.warmup_steps)
    return float(((c.peak - lr_end) * remaining**power + lr_end) / c.peak)


def _inverse_sqrt(step: int, c: Curve) -> float:
    warm = _warming(step, c.warmup_steps)
    if warm is not None:
        return warm
    timescale = c.kwargs.get("timescale") or c.warmup_steps or 10_000
    return float(1.0 / math.sqrt((step + timescale - c.warmup_steps) / timescale))


def _min_lr_rate(c: Curve) -> float:
    if "min_lr" in c.kwargs:
        return float(c.kwargs["min_lr"] / c.peak)
    if "min_lr_rate" not in c.kwargs:
        raise KeyError("min_lr or min_lr_rate")
    return float(c.kwargs["min_lr_rate"])


def _cosine_with_min_lr(step: int, c: Curve) -> float:
    min_rate = _min_lr_rate(c)
    warm = _warming(step, c.warmup_steps)
    if warm is not None:
        return warm
    cycles = c.kwargs.get("num_cycles", 0.5)
    factor = 0.5 * (1.0 + math.cos(math.pi * float(cycles) * 2.0 * _progress(step, c)))
    return float(max(0, factor * (1 - min_rate) + min_rate))


def _cosine_warmup_with_min_lr(step: int, c: Curve) -> float:
    min_rate = _min_lr_rate(c)
    now, warmup, total = float(step), float(c.warmup_steps), float(c.total_steps)
    if now < warmup:
        rate = c.kwargs.get("warmup_lr_rate")
        if rate is None:
            return (now + 1.0) / max(1.0, warmup)
        return float(rate) + (1.0 - float(rate)) * now / (max(1, warmup - 1))
    progress = (now - warmup + 1.0) / (max(1.0, total - warmup))
    factor = 0.5 * (1.0 + math.cos(math.pi * c.kwargs.get("num_cycles", 0.5) * 2.0 * progress))
    return float(max(0, factor * (1 - min_rate) + min_rate))


_WSD_WARMUP: dict[str, Callable[[float], float]] = {
    "linear": lambda p: p,
    "cosine": lambda p: 0.5 * (1.0 - math.cos(math.pi * p)),
    "1-sqrt": lambda p: 1.0 - math.sqrt(1.0 - p),
}
_WSD_DECAY: dict[str, Callable[[float, float], float]] = {
    "linear": lambda p, _: 1.0 - p,
    "cosine": lambda p, cycles: 0.5 * (1.0 + math.cos(math.pi * float(cycles) * 2.0 * p)),
    "1-sqrt": lambda p, _: 1.0 - math.sqrt(p),
}


def _warmup_stable_decay(step: int, c: Curve) -> float:
    decay_steps, minimum = c.kwargs["num_decay_steps"], c.kwargs.get("min_lr_ratio", 0)
    stable = c.kwargs.get("num_stable_steps")
    stable_steps = c.total_steps - c.warmup_steps - decay_steps if stable is None else stable
    if step < c.warmup_steps:
        shape = _WSD_WARMUP[c.kwargs.get("warmup_type", "linear")]
        return float(max(0.0, shape(float(step) / float(max(1, c.warmup_steps))) * (1.0 - minimum) + minimum))
    if step < c.warmup_steps + stable_steps:
        return 1.0
    if step < c.warmup_steps + stable_steps + decay_steps:
        progress = float(step - c.warmup_steps - stable_steps) / float(max(1, decay_steps))
        factor = _WSD_DECAY[c.kwargs.get("decay_type", "cosine")](progress, c.kwargs.get("num_cycles", 0.5))
        return float(max(0.0, factor * (1.0 - minimum) + minimum))
    return float(minimum)


FORMULAS: dict[str, Callable[[int, Curve], float]] = {
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
}

KWARGS: dict[str, tuple[str, ...]] = {
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "inverse_sqrt": ("timescale",),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": (
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        "num_cycles",
    ),
}
