"""What the built-in trainer would refuse after an hour is refused, or left out and listed, before it starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pointing_data import write_pointing_data
from selecting import mixture, part
from stepladder.data.samples import DataError, read_samples
from stepladder.data.select import make_selection
from stepladder.data.sources.batch import SourceError
from stepladder.data.store import BadSamplesError, open_store
from stepladder.data.usable import Look, unusable
from stepladder.trainer.images import load_images

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


def depth_look() -> Look:
    return Look(reader="answer", depth=True)


@pytest.fixture
def with_depth(tmp_path: Path) -> Path:
    """Six samples with depth maps, four of which cannot be trained on with `use_depth`."""
    path = write_pointing_data(tmp_path / "d", count=6)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for record in records:
        record["depth"] = record["image"]
    Image.new("I;16", (160, 90), 7).save(tmp_path / "secret.png")
    records[1]["depth"] = [records[1]["image"][0], "../secret.png"]
    records[2]["depth"] = ["0_A.png", "gone.png"]
    records[3]["depth"] = None
    records[4]["depth"] = ["0_A.png"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def test_depth_maps_are_looked_at_like_images(with_depth: Path, tmp_path: Path) -> None:
    made = make_selection(mixture(part(with_depth)), tmp_path / "c", tmp_path / "s", ANSWER)
    assert made.length == 6  # nobody trains on depth here
    with pytest.raises(BadSamplesError) as error:
        make_selection(mixture(part(with_depth)), tmp_path / "c", tmp_path / "s", depth_look())
    expected = [
        "2: sample s1: depth map ../secret.png leaves the dataset's folder",
        "3: sample s2: depth map gone.png not found",
        "4: sample s3: 0 depth maps for 2 images",
        "5: sample s4: 1 depth maps for 2 images",
    ]
    for problem, text in zip(error.value.problems, expected, strict=True):
        assert str(problem).startswith(f"{with_depth}:{text}")
    skipping = mixture(part(with_depth), on_bad_sample="skip")
    made = make_selection(skipping, tmp_path / "c", tmp_path / "s", depth_look())
    assert (made.length, made.left_out) == (2, 4)


def test_a_data_file_opens_no_depth_outside_its_folder(with_depth: Path) -> None:
    secret = next(sample for sample in read_samples(with_depth) if sample.id == "s1")
    with pytest.raises(DataError, match="0 depth maps for 2 images"):
        load_images(secret, use_depth=True)


def test_a_data_file_opens_no_image_outside_its_folder(tmp_path: Path) -> None:
    """An absolute path, or a link of one's own, is the person's say: `data export` writes absolute paths."""
    path = pairs(tmp_path / "d")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "d/link.png").symlink_to(tmp_path / "secret.png")
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "NOT_VISIBLE"}]
    for name in ("../secret.png", "x/../../secret.png"):
        path.write_text(json.dumps({"image": [name], "conversations": turns}), "utf-8")
        with pytest.raises(DataError, match=rf"pairs.jsonl:1: expected image paths inside .*/d, found {name}\nhint: "):
            read_samples(path)
    for name, found in [(str(tmp_path / "secret.png"), "secret.png"), ("link.png", "d/link.png")]:
        path.write_text(json.dumps({"image": [name], "conversations": turns}), "utf-8")
        assert read_samples(path)[0].images == (str(tmp_path / found),)


DEEP = "[" * 100_000
TURN = {"from": "human", "value": "What?"}
BROKEN = {
    "a role that is a list": (
        json.dumps({"conversations": [{**TURN, "from": ["human"]}]}),
        r"found \{'from': \['human'\]",
    ),
    "a role that is an object": (json.dumps({"conversations": [{**TURN, "from": {}}]}), r"found \{'from': \{\}"),
    "deep nesting": ('{"text": ' + DEEP, "not JSON: .*recursion"),
    "a number without end": ('{"text": ' + "1" * 5000 + "}", "not JSON: .*digits"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_sample_is_named_by_its_line(tmp_path: Path, name: str) -> None:
    text, why = BROKEN[name]
    path = tmp_path / "d.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{text}\n', "utf-8")
    with pytest.raises(DataError, match=rf"d\.jsonl:2: expected .*{why}"):
        read_samples(path)
    listed = tmp_path / "d.json"
    listed.write_text(f"[{text}]", "utf-8")
    with pytest.raises(DataError, match=r"d\.json(: sample 0: expected| is not JSON: )(.|\n)*hint: "):
        read_samples(listed)


def test_lines_end_at_line_feeds_and_a_byte_order_mark_is_none_of_the_text(tmp_path: Path) -> None:
    texts = ["one\u2028two\u0085three", "four"]
    path = tmp_path / "d.jsonl"
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in texts)
    path.write_bytes(("\ufeff" + lines).encode())
    assert [sample.columns["text"] for sample in read_samples(path)] == texts
