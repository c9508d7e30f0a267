"""What the built-in trainer would refuse after an hour is refused, or left out and listed, before it starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointing_data import write_pointing_data
from selecting import mixture, part
from stepladder.data.select import make_selection
from stepladder.data.sources.batch import SourceError
from stepladder.data.store import BadSamplesError, open_store
from stepladder.data.usable import Look, unusable

ANSWER = Look(reader="answer")


def pairs(folder: Path, **changes: dict[str, Any]) -> Path:
    """The pointing samples, some of them changed by id."""
    path = write_pointing_data(folder)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps(r | changes.get(r["id"], {})) + "\n" for r in records), "utf-8")
    return path


QUESTION_ONLY = {"conversations": [{"from": "human", "value": "Where?"}]}
MARKS = {"conversations": [{"from": "human", "value": "<image> Where?"}, {"from": "gpt", "value": "NOT_VISIBLE"}]}


def test_a_healthy_dataset_passes(tmp_path: Path) -> None:
    path = pairs(tmp_path / "d")
    selection = make_selection(mixture(part(path)), tmp_path / "c", tmp_path / "s", ANSWER)
    assert (selection.length, selection.left_out) == (12, 0)


def test_records_that_give_no_sample_are_refused_by_line_and_id(tmp_path: Path) -> None:
    path = pairs(tmp_path / "d", s3=QUESTION_ONLY, s7=MARKS)
    with pytest.raises(BadSamplesError) as error:
        make_selection(mixture(part(path)), tmp_path / "c", tmp_path / "s", ANSWER)
    first, second = (str(problem) for problem in error.value.problems)
    assert first.startswith(f"{path}:4: sample s3: expected a conversation that ends in its one answer")
    assert second.startswith(f"{path}:8: sample s7: expected no <image>, or one for each of the 2 images")
    assert not (tmp_path / "s").exists()
    # Another script has formats of its own, and what the condition leaves out is not looked at.
    assert make_selection(mixture(part(path)), tmp_path / "c", tmp_path / "s").length == 12
    others = mixture(part(path, where="id NOT IN ('s3', 's7')"))
    assert make_selection(others, tmp_path / "c", tmp_path / "s", ANSWER).length == 10


def test_skipped_ones_are_counted_and_listed(tmp_path: Path) -> None:
    path = pairs(tmp_path / "d", s3=QUESTION_ONLY, s7=MARKS)
    (path.parent / "5_A.png").write_bytes(b"\x89PNG\r\n")
    (path.parent / "6_B.png").unlink()
    selection = make_selection(mixture(part(path), on_bad_sample="skip"), tmp_path / "c", tmp_path / "s", ANSWER)
    assert (selection.length, selection.left_out) == (8, 4)
    listed = [json.loads(line) for line in (tmp_path / "s/left_out.jsonl").read_text("utf-8").splitlines()]
    assert sorted(entry["id"] for entry in listed) == ["s3", "s5", "s6", "s7"]
    trained = {selection.at(position)[0].store.id(selection.at(position)[1]) for position in range(8)}
    assert trained == {f"s{number}" for number in range(12)} - {"s3", "s5", "s6", "s7"}


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    """A record that was refused is: its image may have come since."""
    path = pairs(tmp_path / "d", s3=QUESTION_ONLY)
    store = open_store(part(path).source, tmp_path / "c")
    rows = np.arange(12)
    for _ in range(2):
        found = unusable(store, rows, tmp_path / "c", ANSWER, decoded=False)
        assert [row for row, _ in found] == [3]
    (note,) = (tmp_path / "c/readable").iterdir()
    assert np.load(note).tolist() == [1, 1, 1, 0, *[1] * 8]
    several = unusable(store, rows, tmp_path / "c", Look(reader="messages"), decoded=False)
    assert several == []


def test_images_elsewhere_are_named_by_their_folder(tmp_path: Path) -> None:
    """A link out of the dataset's folder is refused; where the images are is for the curriculum to say."""
    path = pairs(tmp_path / "disk")
    moved = tmp_path / "d/pairs.jsonl"
    moved.parent.mkdir()
    path.rename(moved)
    for image in (tmp_path / "disk").glob("*.png"):
        (moved.parent / image.name).symlink_to(image)
    with pytest.raises(BadSamplesError, match="leaves the dataset's folder"):
        make_selection(mixture(part(moved)), tmp_path / "c", tmp_path / "s", ANSWER)
    told = part(moved)
    there = replace(told, source=replace(told.source, image_folder=str(tmp_path / "disk")))
    assert make_selection(mixture(there), tmp_path / "c", tmp_path / "s", ANSWER).length == 12
    nowhere = replace(told, source=replace(told.source, image_folder=str(tmp_path / "nowhere")))
    with pytest.raises(SourceError, match="is no folder"):
        make_selection(mixture(nowhere), tmp_path / "c", tmp_path / "s", ANSWER)
