"""`stepladder data export`: the samples of a stage, in the order in which it trains on them, for anybody's script."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pointing_data import write_pointing_data
from stepladder.data.export import export
from stepladder.data.lengths import trained_order
from stepladder.data.mixture import Mixture, Part, Source
from stepladder.data.samples import DataError, read_samples
from stepladder.data.select import make_selection
from stepladder.data.selection import Selection
from support import stepladder

CURRICULUM = """\
name: demo
model_name_or_path: model
output_dir: run
args: {per_device_train_batch_size: 2, learning_rate: 1.0e-3, use_cpu: true}
data:
  seed: 7
  cache: cache
  datasets:
    pairs: {path: data/pairs.jsonl}
stages:
  - {name: warm, steps: 2, data: [{dataset: pairs, where: not meta.is_neg}]}
  - {name: all, steps: 2, data: pairs*2}
"""


def part(path: Path, **fields: Any) -> Part:
    plain = Part(Source(path.stem, str(path), None, None, None), None, None, None, None, 1, None)
    return replace(plain, **fields)


def select(folder: Path, *parts: Part) -> Selection:
    return make_selection(Mixture("m", parts, 7, "refuse"), folder / "cache", folder / "selection")


def read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("utf-8")
    rows: list[dict[str, Any]] = (
        json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))
    )
    return rows


def write_lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pointing_data(tmp_path / "data", 12)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_samples_come_in_the_order_of_positions_and_are_otherwise_the_same(
    pairs: Path, tmp_path: Path, suffix: str
) -> None:
    selection = select(tmp_path, part(pairs, where="not meta.is_neg"))
    out = tmp_path / f"elsewhere/file{suffix}"
    assert export(selection, out, placeholders=False) == 6
    given = {row["id"]: row for row in read(pairs)}
    found = read(out)
    rows = [int(selection.order.at(position)[1]) for position in range(6)]
    assert [row["id"] for row in found] == [selection.parts[0].store.id(selection.at(p)[1]) for p in range(6)]
    assert sorted(rows) == list(range(6))
    for row in found:
        before = given[row["id"]]
        assert row["conversations"] == before["conversations"]
        assert row["image"] == [str(pairs.parent / name) for name in before["image"]]
        assert row["meta"] == before["meta"] | {"mask_b": str(pairs.parent / before["meta"]["mask_b"])}
        # A script that joins its folder of images in front gets the same file.
        assert Path("any/folder") / row["image"][0] == Path(row["image"][0])
        assert Path(row["image"][0]).is_file()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_length_window_orders_the_file_as_it_orders_training(tmp_path: Path) -> None:
    records = [{"id": f"s{number}", "messages": turns(number * 37 % 300)} for number in range(200)]
    selection = select(tmp_path, part(write_lines(tmp_path / "texts.jsonl", *records)))
    order = trained_order(selection, 64)
    trained = [selection.parts[0].store.id(order(position)[1]) for position in range(200)]
    for window in (0, 64):
        export(selection, tmp_path / "out.jsonl", placeholders=False, window=window)
        assert ([row["id"] for row in read(tmp_path / "out.jsonl")] == trained) == (window == 64)


def turns(words: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "word " * words + "?"}, {"role": "assistant", "content": "No."}]


def test_what_is_written_is_read_by_the_trainer_as_before(pairs: Path, tmp_path: Path) -> None:
    export(select(tmp_path, part(pairs)), tmp_path / "out.jsonl", placeholders=True)
    before, after = ({s.id: s for s in read_samples(path)} for path in (pairs, tmp_path / "out.jsonl"))
    assert before.keys() == after.keys()
    for name, sample in before.items():
        assert (after[name].columns, after[name].images) == (sample.columns, sample.images)


def test_placeholders_come_before_the_first_question(pairs: Path, tmp_path: Path) -> None:
    selection = select(tmp_path, part(pairs))
    for placeholders in (False, True):
        export(selection, tmp_path / "out.json", placeholders)
        for row in read(tmp_path / "out.json"):
            human, gpt = (turn["value"] for turn in row["conversations"])
            assert human.startswith("<image>\n<image>\nPoint at") == placeholders
            assert (human + gpt).count("<image>") == 2 * placeholders


def test_repeats_are_written_out_under_ids_of_their_own(pairs: Path, tmp_path: Path) -> None:
    selection = select(tmp_path, part(pairs, where="meta.is_neg", repeat=3), part(pairs))
    assert export(selection, tmp_path / "out.json", placeholders=False) == selection.length
    found = [row["id"] for row in read(tmp_path / "out.json")]
    assert len(set(found)) == len(found)
    stems = Counter(name.split("@")[0] for name in found)
    expected = [selection.at(position) for position in range(selection.length)]
    assert stems == Counter(part.store.id(row) for part, row in expected)
    assert {name for name in found if "@" not in name} == set(stems)


def test_equal_ids_of_two_datasets_are_told_apart(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    one = write_lines(tmp_path / "one.jsonl", {"id": "x", "conversations": talk}, {"id": "y", "conversations": talk})
    two = write_lines(tmp_path / "two.jsonl", {"id": "x", "conversations": talk}, {"id": "z", "conversations": talk})
    export(select(tmp_path, part(one), part(two)), tmp_path / "out.json", placeholders=False)
    found = [row["id"] for row in read(tmp_path / "out.json")]
    assert len(set(found)) == 4
    assert {name.split("@")[0] for name in found} == {"x", "y", "z"}


def test_more_and_fewer_positions_than_an_epoch(pairs: Path, tmp_path: Path) -> None:
    selection = select(tmp_path, part(pairs))
    for count in (5, 30):
        assert export(selection, tmp_path / "out.jsonl", False, count) == count
        found = read(tmp_path / "out.jsonl")
        names = [selection.parts[0].store.id(selection.at(position)[1]) for position in range(count)]
        assert [row["id"].split("@")[0] for row in found] == names
        assert len({row["id"] for row in found}) == count


def test_chats_and_prompts_become_conversations(tmp_path: Path) -> None:
    turns = [("system", "be brief"), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "4")]
    data = write_lines(
        tmp_path / "chat.jsonl",
        {"id": "chat", "messages": [{"role": role, "content": text} for role, text in turns], "level": 3},
        {"id": "prompt", "prompt": "3+3?", "completion": "6"},
    )
    export(select(tmp_path, part(data)), tmp_path / "out.json", placeholders=True)
    chat, prompt = sorted(read(tmp_path / "out.json"), key=lambda row: str(row["id"]))
    speakers = {"system": "system", "user": "human", "assistant": "gpt"}
    assert chat == {
        "id": "chat",
        "conversations": [{"from": speakers[role], "value": text} for role, text in turns],
        "level": 3,
    }
    assert [turn["value"] for turn in prompt["conversations"]] == ["3+3?", "6"]


def test_embedded_images_become_files_beside_it(tmp_path: Path) -> None:
    pictures = []
    for shade in (10, 20, 30):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    table = pa.table(
        {
            "id": ["one", "two"],
            "messages": [talk, talk],
            "images": [[{"bytes": pictures[0], "path": None}], [{"bytes": p, "path": None} for p in pictures[1:]]],
        }
    )
    pq.write_table(table, tmp_path / "chat.parquet")
    out = tmp_path / "out.json"
    export(select(tmp_path, part(tmp_path / "chat.parquet", repeat=2)), out, placeholders=True)
    rows = {row["id"]: row for row in read(out)}
    assert [Path(name).read_bytes() for name in rows["one"]["image"]] == pictures[:1]
    assert [Path(name).read_bytes() for name in rows["two"]["image"]] == pictures[1:]
    assert len(list((tmp_path / "out_images").iterdir())) == 3
    assert rows["two"]["conversations"][0]["value"] == "<image>\n<image>\nq"


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "q" * 400}, {"from": "gpt", "value": "a"}]
    selections = []
    for count in (500, 5000):
        (tmp_path / str(count)).mkdir()
        records = ({"id": f"n{number}", "conversations": talk} for number in range(count))
        selections.append(select(tmp_path / str(count), part(write_lines(tmp_path / f"{count}.jsonl", *records))))
    peaks = []
    for selection in selections:
        export(selection, tmp_path / "out.jsonl", False, 10)  # maps the files
        tracemalloc.start()
        export(selection, tmp_path / "out.jsonl", placeholders=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    written = (tmp_path / "out.jsonl").stat().st_size
    assert peaks[1] - peaks[0] < written / 4


class TestRefused:
    def test_a_sample_without_questions_is_named_and_nothing_is_left(self, tmp_path: Path) -> None:
        data = write_lines(tmp_path / "text.jsonl", {"id": "t", "text": "once upon a time"})
        (tmp_path / "out").mkdir()
        with pytest.raises(DataError, match=r"text\.jsonl:1: plain text has no questions"):
            export(select(tmp_path, part(data)), tmp_path / "out/out.json", placeholders=False)
        assert list((tmp_path / "out").iterdir()) == []

    def test_an_image_that_went_away_is_named_and_the_file_before_stays(self, pairs: Path, tmp_path: Path) -> None:
        selection, out = select(tmp_path, part(pairs)), tmp_path / "out.json"
        export(selection, out, placeholders=False)
        before = out.read_bytes()
        (pairs.parent / "3_A.png").unlink()
        with pytest.raises(DataError, match=r"pairs\.jsonl:4: image file not found: .*3_A\.png\nhint: "):
            export(selection, out, placeholders=False)
        assert out.read_bytes() == before

    def test_another_suffix(self, pairs: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"expected \.json or \.jsonl"):
            export(select(tmp_path, part(pairs)), tmp_path / "out.parquet", placeholders=False)


class TestCommand:
    @pytest.fixture
    def file(self, pairs: Path, tmp_path: Path) -> Path:
        (tmp_path / "model").mkdir()
        (tmp_path / "model/config.json").write_text("{}")
        (tmp_path / "c.yaml").write_text(CURRICULUM)
        return tmp_path / "c.yaml"

    def test_writes_the_stages_samples(self, file: Path, tmp_path: Path) -> None:
        done = stepladder("data", "export", file, "--stage", "warm", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "6 samples of stage warm" in done.stderr
        assert not any(row["meta"]["is_neg"] for row in read(tmp_path / "warm.json"))
        again = stepladder("data", "export", file, "--stage", "warm", cwd=tmp_path)
        assert again.returncode == 2
        assert "is there already" in again.stderr
        options = ["--out", "warm.json", "--positions", "30", "--placeholders"]
        done = stepladder("data", "export", file, "--stage", "all", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(read(tmp_path / "warm.json")) == 30

    def test_an_unknown_stage(self, file: Path, tmp_path: Path) -> None:
        done = stepladder("data", "export", file, "--stage", "wram", cwd=tmp_path)
        assert done.returncode == 2
        assert "no stage `wram`" in done.stderr
        assert "Traceback" not in done.stderr
