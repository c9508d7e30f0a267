"""The planned curve is transformers' own, to the last bit, for every type that can be planned."""

import pytest
import torch
from transformers import get_scheduler

from stepladder_worker.schedule import FORMULAS, Curve, warmup_steps

PEAK, WARMUP, TOTAL = 3e-4, 7, 60

CASES = [
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {"lr_end": 1e-6, "power": 2.0}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 100}),
    ("cosine_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-5, "warmup_lr_rate": 0.2}),
    ("warmup_stable_decay", {"num_decay_steps": 20}),
    ("warmup_stable_decay", {"num_decay_steps": 20, "decay_type": "1-sqrt", "warmup_type": "cosine"}),
    (
        "warmup_stable_decay",
        {"num_decay_steps": 9, "num_stable_steps": 11, "decay_type": "linear", "min_lr_ratio": 0.1},
    ),
]


def transformers_rates(name: str, kwargs: dict[str, object], warmup: int) -> list[float]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(name, optimizer, warmup, TOTAL, scheduler_specific_kwargs=dict(kwargs))
    rates = []
    for _ in range(TOTAL + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")  # transformers' own
@pytest.mark.parametrize(("name", "kwargs"), CASES)
@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_curve_equals_transformers(name: str, kwargs: dict[str, object], warmup: int) -> None:
    curve = Curve(name, PEAK, warmup, TOTAL, kwargs=dict(kwargs))
    curve.check()
    assert [curve.lr(step) for step in range(TOTAL + 1)] == transformers_rates(name, kwargs, warmup)


def test_every_formula_is_compared() -> None:
    assert {name for name, _ in CASES} == set(FORMULAS)


def test_offset_moves_the_curve() -> None:
    whole, moved = Curve("cosine", PEAK, WARMUP, TOTAL), Curve("cosine", PEAK, WARMUP, TOTAL, offset=40)
    assert [moved.lr(40 + step) for step in range(TOTAL)] == [whole.lr(step) for step in range(TOTAL)]


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (Curve("cosin", PEAK, 0, 10), "unknown lr_scheduler_type 'cosin'"),
        (Curve("reduce_lr_on_plateau", PEAK, 0, 10), "follows a metric"),
        (Curve("cosine", PEAK, 0, 10, kwargs={"num_cycle": 1}), "num_cycle not known"),
        (Curve("cosine_with_min_lr", PEAK, 0, 10), "min_lr or min_lr_rate"),
        (Curve("warmup_stable_decay", PEAK, 0, 10), "num_decay_steps"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(curve: Curve, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curve.check()


def test_warmup_is_counted_as_transformers_counts_it() -> None:
    assert warmup_steps(200, warmup_ratio=0.03) == 6
    assert warmup_steps(200, warmup=0.03) == 6
    assert warmup_steps(200, warmup_ratio=0.03, warmup=11) == 11
    assert warmup_steps(201, warmup_ratio=0.03) == 7
