"""Which samples every optimizer step takes, where batch size, accumulation or the number of processes change.

A script writes down what the model was given; one uninterrupted run of the plain Trainer says what had to come.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support import plain_trainer, stepladder, tiny_curriculum

SAMPLES = 52

Steps = dict[int, list[int]]


def drawn(path: Path) -> Steps:
    """Samples of every step, of all ranks together, in the order in which they were written."""
    steps: Steps = {}
    for line in path.read_text().splitlines():
        _, step, *samples = map(int, line.split())
        steps.setdefault(step, []).extend(samples)
    return steps


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The samples of three epochs in the order of one process."""
    folder = tmp_path_factory.mktemp("order")
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "drawn": "drawn.txt"}
    plain_trainer(folder, "out", 39, script="logged.py", samples=SAMPLES, **changes)
    found = [sample for _, samples in sorted(drawn(folder / "drawn.txt").items()) for sample in samples]
    assert [len(set(found[i * SAMPLES : (i + 1) * SAMPLES])) for i in range(3)] == [SAMPLES] * 3
    return found


def stage(name: str, steps: int, batch: int, accumulation: int, processes: int = 1) -> dict[str, Any]:
    args = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    return {"name": name, "steps": steps, "args": args, "launcher": {"nproc_per_node": processes}}


def curriculum(folder: Path, stages: list[dict[str, Any]], **changes: Any) -> Path:
    args = {"samples": SAMPLES, "drawn": str(folder / "drawn.txt"), **changes.pop("args", {})}
    return tiny_curriculum(
        folder, "chain", "logged.py", stages=stages, args=args, handover={"data": "continue"}, **changes
    )


def run_with_a_crash(folder: Path, path: Path) -> Steps:
    """Run a curriculum whose script ends itself once, and once more; the samples of the steps that count."""
    first = stepladder("run", path, cwd=folder)
    assert first.returncode == 3, first.stderr
    before = drawn(folder / "drawn.txt")
    (folder / "drawn.txt").unlink()
    second = stepladder("run", path, cwd=folder)
    assert second.returncode == 0, second.stderr
    after = drawn(folder / "drawn.txt")
    assert min(after) <= max(before), "the crash lost no step, so that nothing was resumed within a stage"
    return {**before, **after}


def sliced(order: list[int], lengths: list[int]) -> Steps:
    """Consecutive parts of the order, by step from 1."""
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    return {i + 1: order[end - length : end] for i, (length, end) in enumerate(zip(lengths, ends, strict=True))}


def counted(steps: Steps) -> dict[int, Counter[int]]:
    return {step: Counter(samples) for step, samples in steps.items()}


def test_other_numbers_of_processes_take_the_same_samples(tmp_path: Path, order: list[int]) -> None:
    """1 process, 2 with half the accumulation over an epoch's end, 1 again; killed within the second stage."""
    stages = [stage("one", 3, 2, 4), stage("two", 6, 2, 2, processes=2), stage("three", 3, 2, 4)]
    path = curriculum(tmp_path, stages, args={"crash_at": 7, "save_steps": 2})
    steps = run_with_a_crash(tmp_path, path)
    assert counted(steps) == counted(sliced(order, [8] * 6 + [4] + [8] * 5))


def test_other_batches_begin_between_two_steps(tmp_path: Path, order: list[int]) -> None:
    """12 samples are no whole number of steps of 8, and 24 none of batches of 5; killed within such a pass."""
    stages = [stage("one", 1, 4, 3), stage("two", 8, 4, 2), stage("three", 7, 5, 1)]
    path = curriculum(tmp_path, stages, args={"crash_at": 5, "save_steps": 2})
    steps = run_with_a_crash(tmp_path, path)
    expected = [12] + [8] * 5 + [8] * 3 + [5] * 5 + [3] + [5]
    assert counted(steps) == counted(sliced(order, expected))


@pytest.mark.full
def test_more_steps_an_epoch_than_the_run_has_counted(tmp_path: Path, order: list[int]) -> None:
    """`max_steps` by the new steps an epoch would be one epoch, and the data are in the second one already."""
    path = curriculum(tmp_path, [stage("one", 2, 26, 2), stage("two", 5, 4, 1)])
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert counted(drawn(tmp_path / "drawn.txt")) == counted(sliced(order, [52, 52] + [4] * 5))


def test_the_plain_chain_is_caught(tmp_path: Path) -> None:
    """Negative control: observed only, the Trainer's own arithmetic in steps begins at another sample."""
    path = curriculum(tmp_path, [stage("one", 1, 4, 3), stage("two", 2, 4, 2)], hook=False)
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "data_position: started at epoch 0, sample 8; expected epoch 0, sample 12" in done.stderr


def test_iterable_data_are_counted_in_steps(tmp_path: Path) -> None:
    """They can only be skipped by the loop, so a step that takes more samples is refused before it trains."""
    changes = {"args": {"odd": "iterable"}, "handover": {"data": "continue"}}
    path = tiny_curriculum(tmp_path, "odd", "odd.py", stages=[stage("one", 2, 4, 3), stage("two", 2, 4, 2)], **changes)
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "took 12 samples and now take 8" in done.stderr
