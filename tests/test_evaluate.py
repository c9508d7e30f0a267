"""Metrics against values worked out by hand, and one evaluation of a real model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from pointing_data import write_pointing_data
from selecting import mixture, part
from stepladder.data.answers import NOT_VISIBLE
from stepladder.data.samples import DataError
from stepladder.data.select import make_selection
from stepladder.evaluate import __main__ as script
from stepladder.evaluate.baselines import Baseline, baselines, best
from stepladder.evaluate.metrics import Figure, Outcome, format_answer, metrics, parse_answer, tiers
from stepladder.evaluate.table import verdict
from stepladder.evaluate.task import on_mask, outcome, read_tasks
from stepladder.evaluate.training_points import training_points
from support import stepladder


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
        ("[(\u0660.\u0665, 0.5)]", None),  # Arabic digits
        ("", None),
    ],
)
def test_only_the_two_formats_are_answers(text: str, answer: object) -> None:
    assert parse_answer(text) == answer


def values(outcomes: list[Outcome]) -> dict[str, float | None]:
    return {name: figure.value for name, figure in metrics(outcomes).items()}


BY_HAND = [
    Outcome((0.50, 0.50), (0.50, 0.51), on_mask=True),  # 0.01 away
    Outcome((0.50, 0.50), (0.53, 0.54), on_mask=False),  # 0.05 away, up to rounding
    Outcome((0.00, 0.00), (0.50, 0.51), on_mask=False),  # far, and the first point again
    Outcome((0.30, 0.30), NOT_VISIBLE, on_mask=False),
    Outcome((0.30, 0.30), None),  # no format, no mask
    Outcome(NOT_VISIBLE, NOT_VISIBLE, neg_type="tierB"),
    Outcome(NOT_VISIBLE, (0.50, 0.51), neg_type="tierA"),
    Outcome(NOT_VISIBLE, None),
]


def test_metrics_by_hand() -> None:
    found = metrics(BY_HAND)
    assert found["not_visible_accuracy"] == Figure(4 / 8, 8)  # three points for positives, one refusal of a negative
    assert found["valid_format"] == Figure(6 / 8, 8)
    assert found["mean_l2"] == Figure(pytest.approx((0.01 + 0.05 + math.hypot(0.50, 0.51)) / 3), 3)
    assert found["success_0.02"] == Figure(1 / 5, 5)
    assert found["success_0.10"] == Figure(2 / 5, 5)
    assert found["hit_mask"] == Figure(1 / 4, 4)
    assert found["distinct_points"] == Figure(2 / 4, 4)
    assert found["score"] == Figure(3 / 8, 8)


def test_tiers_by_hand() -> None:
    found = tiers(BY_HAND)
    assert found == {
        "positives": Figure(2 / 5, 5),
        "negatives": Figure(0, 1),
        "tierA": Figure(0, 1),
        "tierB": Figure(1, 1),
    }
    assert next(iter(found)) == "positives"
    whole = sum((figure.value or 0) * figure.samples for figure in found.values()) / len(BY_HAND)
    assert whole == metrics(BY_HAND)["score"].value


def test_success_counts_up_to_each_distance() -> None:
    found = values([Outcome((0.5, 0.5), (0.5, 0.5 + distance)) for distance in (0.0, 0.019, 0.049, 0.099, 0.101)])
    assert [found[name] for name in ("success_0.02", "success_0.05", "success_0.10")] == [2 / 5, 3 / 5, 4 / 5]


def test_a_distance_may_be_the_limit_itself() -> None:
    """0.4 - 0.3 is a little more than 0.1 in binary."""
    found = values([Outcome((0.3, 0.5), (0.4, 0.5)), Outcome((0.3, 0.5), (0.400001, 0.5))])
    assert (found["success_0.10"], found["score"]) == (0.5, 0.5)


def test_nothing_to_measure_is_none() -> None:
    assert set(values([]).values()) == {None}
    only_negatives = values([Outcome(NOT_VISIBLE, NOT_VISIBLE)])
    assert [only_negatives[name] for name in ("mean_l2", "success_0.02", "hit_mask", "distinct_points")] == [None] * 4
    assert only_negatives["score"] == 1


def test_an_answer_is_written_as_it_is_read() -> None:
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
    found = values([outcome(task, task.truth) for task in tasks])
    assert found["hit_mask"] == found["score"] == found["success_0.02"] == found["not_visible_accuracy"] == 1
    assert found["distinct_points"] == 1


def test_baselines_need_no_eyes(tmp_path: Path) -> None:
    mixed = write_pointing_data(tmp_path, count=20)
    points = training_points(mixed)
    assert len(points) == 10
    blind = {baseline.name: baseline for baseline in baselines(read_tasks(mixed), points)}
    assert list(blind) == ["NOT_VISIBLE", "mean point", "random point"]
    assert blind["NOT_VISIBLE"].metrics["score"] == Figure(0.5, 20)
    assert blind["NOT_VISIBLE"].tiers == {"positives": Figure(0, 10), "tierA": Figure(1, 10)}
    mean = tuple(sum(point[axis] for point in points) / 10 for axis in (0, 1))
    assert blind["mean point"].answer == pytest.approx(mean)
    random = blind["random point"].metrics
    # Points are uniform, so one is within r of an inner target with the probability pi r^2; borders take some away.
    assert 0.5 * math.pi * 0.10**2 < (random["success_0.10"].value or 0) <= 1.2 * math.pi * 0.10**2
    assert random["success_0.10"].samples == 10
    # A red box of 20 x 20 pixels in 160 x 90.
    assert random["hit_mask"].value == pytest.approx(400 / (160 * 90), abs=0.02)


def test_the_best_baseline_is_the_one_to_beat(tmp_path: Path) -> None:
    mixed = write_pointing_data(tmp_path)
    tasks = read_tasks(mixed)
    assert best(baselines(tasks, training_points(mixed))).name == "NOT_VISIBLE"
    positive = tasks[:1]
    assert best(baselines(positive, [positive[0].truth])).name == "mean point"  # type: ignore[list-item]
    assert [baseline.name for baseline in baselines(positive, [])] == ["NOT_VISIBLE", "random point"]

    blind = Baseline("NOT_VISIBLE", NOT_VISIBLE, {"score": Figure(0.5, 40)}, {})
    words = [verdict({"score": Figure(score, 40)}, blind).split()[2] for score in (0.475, 0.5, 0.525)]
    assert words == ["worse", "as", "better"]


def test_a_limit_draws_from_the_whole_file_the_same_every_time(tmp_path: Path) -> None:
    data = write_pointing_data(tmp_path, count=40)
    some, more = ([task.sample.id for task in read_tasks(data, limit)] for limit in (10, 20))
    assert len(some) == 10
    assert set(some) < set(more)
    assert some == sorted(some, key=lambda name: int(name[1:]))
    assert int(some[-1][1:]) >= 20
    assert [sum(int(name[1:]) % 2 for name in names) for names in (some, more)] == [5, 10]  # of each tier its share
    assert len(read_tasks(data, 400)) == 40


def test_samples_of_another_task_are_refused(tmp_path: Path) -> None:
    write_pointing_data(tmp_path, count=1)
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"id": "x", "messages": turns, "images": ["0_A.png"]}), "utf-8")
    with pytest.raises(DataError, match=r"sample x: expected the answer(.|\n)*hint: "):
        read_tasks(path)
    path.write_text(json.dumps({"id": "y", "messages": turns}), "utf-8")
    with pytest.raises(DataError, match=r"sample y asks nothing about images\nhint: "):
        read_tasks(path)
    assert training_points(path) == []  # as training data they only have no point


def test_no_mask_outside_the_folder_is_opened(tmp_path: Path) -> None:
    data = write_pointing_data(tmp_path / "d", count=1)
    (tmp_path / "d/0_mask.png").rename(tmp_path / "secret.png")
    line = json.loads(data.read_text("utf-8"))
    line["meta"]["mask_b"] = "../secret.png"
    data.write_text(json.dumps(line), "utf-8")
    with pytest.raises(DataError, match=r"sample s0: mask \.\./secret\.png not found in the data's folder\nhint: "):
        read_tasks(data)
    selection = make_selection(mixture(part(data)), tmp_path / "c", tmp_path / "s")
    with pytest.raises(DataError, match="not found in the data's folder"):
        read_tasks(selection.path)
    # Absolute: somebody's own say in a file, as `data export` writes it; in a dataset it leaves the folder.
    line["meta"]["mask_b"] = str(tmp_path / "secret.png")
    data.write_text(json.dumps(line), "utf-8")
    assert read_tasks(data)[0].mask == tmp_path / "secret.png"
    selection = make_selection(mixture(part(data)), tmp_path / "c", tmp_path / "s")
    with pytest.raises(DataError, match="not found in the data's folder"):
        read_tasks(selection.path)


def test_a_model_is_evaluated_end_to_end(tmp_path: Path, vision_model: Path) -> None:
    """By the real command, which starts the module in a process of its own."""
    data = write_pointing_data(tmp_path / "data", count=40)
    kept = tmp_path / "predictions.jsonl"
    options = ("--train-data", data, "--max-tiles", "4", "--predictions", kept)
    done = stepladder("evaluate", vision_model, data, *options, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["version"], result["n"], result["baseline"]["answer"]) == (1, 40, NOT_VISIBLE)
    assert list(result["baselines"]) == ["NOT_VISIBLE", "mean point", "random point"]
    predictions = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    assert [line["id"] for line in predictions] == [f"s{number}" for number in range(40)]
    outcomes = [
        outcome(task, parse_answer(line["text"])) for task, line in zip(read_tasks(data), predictions, strict=True)
    ]
    assert result["metrics"] == values(outcomes)
    assert result["samples"] == {name: figure.samples for name, figure in metrics(outcomes).items()}
    assert result["tiers"] == {n: {"n": f.samples, "accuracy": f.value} for n, f in tiers(outcomes).items()}
    assert [line["right"] for line in predictions] == [found.right for found in outcomes]
    assert "not_visible_accuracy" in done.stderr
    assert not kept.with_name("predictions.jsonl.partial").exists()


def test_answers_do_not_depend_on_the_batch(tmp_path: Path, vision_model: Path) -> None:
    """Questions and pictures of different lengths in one batch: some get padding, on the left."""
    import torch

    from stepladder.evaluate import generate

    data = write_pointing_data(tmp_path, count=8)
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        line["conversations"][0]["value"] += " Look well." * number
        if number % 3 == 0:
            Image.open(tmp_path / line["image"][0]).resize((90, 90)).save(tmp_path / line["image"][0])
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    loaded, processor = generate.load(str(vision_model), 4)
    torch.manual_seed(0)
    for weights in loaded.parameters():  # as they are built they say the same to everything
        torch.nn.init.normal_(weights, std=0.3)
    samples = [task.sample for task in read_tasks(data)]
    alone, some, together = (list(generate.answers(loaded, processor, samples, size, 24)) for size in (1, 3, 8))
    assert alone == some == together
    assert len(set(alone)) > 4
    on_the_right = generate.decode(loaded, processor, generate.encode(processor, samples, padding_side="right"), 24)
    assert on_the_right != alone


def test_a_table_is_shown_and_predictions_are_kept(
    tmp_path: Path, vision_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, kept = write_pointing_data(tmp_path), tmp_path / "kept.jsonl"
    arguments = [str(vision_model), str(data), "--limit", "4", "--batch-size", "3", "--predictions", str(kept)]
    assert script.main([*arguments, "--table"]) == 0
    said = capsys.readouterr().out
    assert f"4 samples of {data}" in said
    assert "the best baseline (" in said.splitlines()[-1]
    assert len(kept.read_text("utf-8").splitlines()) == 4


BAD = {
    "another format": (["model", "pairs.parquet"], "are datasets of a curriculum's `data:`"),
    "no data": (["model", "no_data.jsonl"], "no_data.jsonl cannot be read"),
    "no number": (["model", "pairs.jsonl", "--limit", "0"], "--limit"),
    "no folder": (["model", "pairs.jsonl", "--predictions", "nowhere/p.jsonl"], "predictions cannot be written"),
    "no interpreter": (["model", "pairs.jsonl", "--python", "./nowhere"], "interpreter ./nowhere"),
    "no Stepladder there": (["model", "pairs.jsonl", "--python", "bare"], "install stepladder[train] there"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_a_model_is_loaded(tmp_path: Path, name: str) -> None:
    write_pointing_data(tmp_path, count=2)
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    arguments, expected = BAD[name]
    done = stepladder("evaluate", *(a.replace("bare", str(bare)) for a in arguments), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert name == "no number" or done.stderr.count("hint: ") == 1


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pointing_data(tmp_path, count=2)
    assert script.main(["./nowhere", str(data)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: no directory ./nowhere, expected a model\nhint: ")


def test_a_broken_picture_is_named(tmp_path: Path, vision_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pointing_data(tmp_path, count=2)
    picture = tmp_path / "1_A.png"
    picture.write_bytes(picture.read_bytes()[:60])
    kept = tmp_path / "kept.jsonl"
    assert script.main([str(vision_model), str(data), "--batch-size", "1", "--predictions", str(kept)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"sample s1: image {picture} cannot be decoded" in said.err
    assert not kept.exists()
    assert len(kept.with_name("kept.jsonl.partial").read_text("utf-8").splitlines()) == 1
