"""Metrics against values worked out by hand, and one evaluation of a real model."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from PIL import Image

from pointing_data import run_python, write_pointing_data
from stepladder.evaluate.metrics import NOT_VISIBLE, Outcome, format_answer, mean_point, metrics, parse_answer
from stepladder.evaluate.task import constant_baseline, on_mask, outcome, read_tasks
from stepladder.trainer import tiny
from stepladder.trainer.samples import DataError


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[(0.412, 0.377)]", (0.412, 0.377)),
        ("  [(0,1)]\n", (0.0, 1.0)),
        ("NOT_VISIBLE", NOT_VISIBLE),
        (" NOT_VISIBLE ", NOT_VISIBLE),
        ("[(0.5, 1.2)]", None),
        ("[(-0.1, 0.2)]", None),
        ("(0.5, 0.5)", None),
        ("[(0.5, 0.5)] and more", None),
        ("[(0.5, 0.5), (0.1, 0.1)]", None),
        ("NOT_VISIBLE.", None),
        ("", None),
    ],
)
def test_only_the_two_formats_are_answers(text: str, answer: object) -> None:
    assert parse_answer(text) == answer


def test_metrics_by_hand() -> None:
    outcomes = [
        Outcome((0.50, 0.50), (0.50, 0.51), on_mask=True),  # 0.01 away
        Outcome((0.50, 0.50), (0.53, 0.54), on_mask=False),  # 0.05 away, up to rounding
        Outcome((0.00, 0.00), (0.50, 0.51), on_mask=False),  # far, and the first point again
        Outcome((0.30, 0.30), NOT_VISIBLE, on_mask=False),
        Outcome((0.30, 0.30), None),  # no format, no mask
        Outcome(NOT_VISIBLE, NOT_VISIBLE),
        Outcome(NOT_VISIBLE, (0.50, 0.51)),
        Outcome(NOT_VISIBLE, None),
    ]
    found = metrics(outcomes)
    assert found["not_visible_accuracy"] == 4 / 8  # three points for positives, one refusal of a negative
    assert found["valid_format"] == 6 / 8
    assert found["mean_l2"] == pytest.approx((0.01 + 0.05 + math.hypot(0.50, 0.51)) / 3)
    assert found["success_0.02"] == 1 / 5
    assert found["success_0.10"] == 2 / 5
    assert found["hit_mask"] == 1 / 4
    assert found["distinct_points"] == 2 / 4
    assert found["score"] == 3 / 8


def test_success_counts_up_to_each_distance() -> None:
    found = metrics([Outcome((0.5, 0.5), (0.5, 0.5 + distance)) for distance in (0.0, 0.019, 0.049, 0.099, 0.101)])
    assert [found[name] for name in ("success_0.02", "success_0.05", "success_0.10")] == [2 / 5, 3 / 5, 4 / 5]


def test_nothing_to_measure_is_none() -> None:
    assert set(metrics([]).values()) == {None}
    only_negatives = metrics([Outcome(NOT_VISIBLE, NOT_VISIBLE)])
    assert [only_negatives[name] for name in ("mean_l2", "success_0.02", "hit_mask", "distinct_points")] == [None] * 4
    assert only_negatives["score"] == 1


def test_mean_point_and_format() -> None:
    assert mean_point([(0.0, 0.5), NOT_VISIBLE, (1.0, 0.5)]) == (0.5, 0.5)
    assert mean_point([NOT_VISIBLE]) is None
    assert format_answer((0.5, 1 / 3)) == "[(0.500, 0.333)]"
    assert parse_answer(format_answer(NOT_VISIBLE)) == NOT_VISIBLE


def test_mask_pixels_are_counted_to_the_last_row_and_column(tmp_path: Path) -> None:
    mask = Image.new("L", (11, 5))
    mask.putpixel((10, 4), 255)
    mask.putpixel((5, 0), 1)
    mask.save(tmp_path / "mask.png")
    assert on_mask(tmp_path / "mask.png", (1.0, 1.0))
    assert on_mask(tmp_path / "mask.png", (0.5, 0.0))
    assert not on_mask(tmp_path / "mask.png", (0.9, 1.0))


def test_true_answers_lie_on_their_masks(tmp_path: Path) -> None:
    tasks = read_tasks(write_pointing_data(tmp_path))
    found = metrics([outcome(task, task.truth) for task in tasks])
    assert found["hit_mask"] == found["score"] == found["success_0.02"] == found["not_visible_accuracy"] == 1
    assert found["distinct_points"] == 1


def test_baseline_is_the_better_constant(tmp_path: Path) -> None:
    mixed = write_pointing_data(tmp_path / "mixed")
    answer, figures = constant_baseline(read_tasks(mixed), mixed)
    assert (answer, figures["score"]) == (NOT_VISIBLE, 0.5)

    one_positive = tmp_path / "mixed" / "one.jsonl"
    one_positive.write_text(mixed.read_text("utf-8").splitlines()[0] + "\n", "utf-8")
    tasks = read_tasks(one_positive)
    answer, figures = constant_baseline(tasks, one_positive)
    assert (answer, figures["score"], figures["hit_mask"]) == (tasks[0].truth, 1, 1)
    assert constant_baseline(tasks, None)[0] == NOT_VISIBLE


def test_samples_of_another_task_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(
        '{"id": "x", "messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]}'
    )
    with pytest.raises(DataError, match=r"sample x: expected the answer(.|\n)*hint: "):
        read_tasks(path)


def test_a_model_is_evaluated_end_to_end(tmp_path: Path) -> None:
    data = write_pointing_data(tmp_path / "data", count=40)
    tiny.build(tmp_path / "model")
    start = time.monotonic()
    done = run_python(
        *("-m", "stepladder.evaluate", tmp_path / "model", data, "--train-data", data),
        *("--max-tiles", 4, "--predictions", tmp_path / "predictions.jsonl"),
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 30  # 15 s on an idle machine

    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["version"], result["n"], result["baseline"]["answer"]) == (1, 40, NOT_VISIBLE)
    predictions = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in predictions] == [f"s{number}" for number in range(40)]
    outcomes = [
        outcome(task, parse_answer(line["text"])) for task, line in zip(read_tasks(data), predictions, strict=True)
    ]
    assert result["metrics"] == metrics(outcomes)
    assert "not_visible_accuracy" in done.stderr


def test_bad_data_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run_python("-m", "stepladder.evaluate", tmp_path / "no_model", tmp_path / "no_data.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no_data.jsonl cannot be read" in done.stderr
    assert "hint: " in done.stderr
    assert time.monotonic() - start < 3
