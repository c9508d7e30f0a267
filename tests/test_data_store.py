"""Stores: every format gives the same samples, nothing bad is lost silently, built once, mapped instead of copied."""

from __future__ import annotations

import io
import json
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selecting import reference_records, source, write_jsonl
from stepladder.data.check import columns
from stepladder.data.image_files import bad_images
from stepladder.data.record import read_record
from stepladder.data.records import Store, read_store
from stepladder.data.samples import DataError
from stepladder.data.sieve import unusable
from stepladder.data.sources.batch import SourceError
from stepladder.data.store import BadSamplesError, open_store
from stepladder.errors import RunError
from support import ENVIRONMENT

RECORDS = reference_records(30)


def opened(path: Path, on_bad_sample: str = "refuse") -> Store:
    return open_store(source(path), path.parent / "cache", on_bad_sample)


def problems(path: Path, on_bad_sample: str = "refuse") -> list[str]:
    with pytest.raises((SourceError, BadSamplesError)) as caught:
        opened(path, on_bad_sample)
    assert caught.value.hint
    return [str(problem) for problem in caught.value.problems]


def png(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(content, "PNG")
    return content.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def written_as(kind: str, folder: Path) -> Path:
    """RECORDS in one of the formats."""
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        write_jsonl(path, RECORDS)
    elif kind == "json":
        path.write_text(json.dumps(RECORDS, indent=2), "utf-8")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    elif kind == "datasets":
        from datasets import Dataset

        Dataset.from_list(RECORDS).save_to_disk(str(path), num_shards=3)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "datasets"])
def test_every_format_gives_the_same_samples(kind: str, tmp_path: Path) -> None:
    store = opened(written_as(kind, tmp_path))
    assert [store.record(row) for row in range(store.rows)] == RECORDS
    assert [store.id(row) for row in range(store.rows)] == [record["id"] for record in RECORDS]
    fields = store.fields.to_pylist()
    assert [entry["meta"] for entry in fields] == [record["meta"] for record in RECORDS]
    assert [entry["answer"] for entry in fields] == [record["conversations"][1]["value"] for record in RECORDS]
    assert {(entry["image_count"], entry["turns"]) for entry in fields} == {(2, 2)}
    assert [entry["row"] for entry in fields] == list(range(30))
    assert fields[0]["characters"] == len("Where is it?") + len(fields[0]["answer"])
    assert store.images(0) is None


def test_a_folder_of_tars_gives_the_same_samples_and_their_images(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    a, b = png("red"), png("blue")
    for shard in range(3):
        members = []
        for number in range(10 * shard, 10 * shard + 10):
            record = RECORDS[number] | {"image": [f"{number:04d}.b.png", f"{number:04d}.a.png"]}
            members += [(f"{number:04d}.a.png", a), (f"{number:04d}.json", json.dumps(record).encode())]
            members += [(f"{number:04d}.b.png", b)]
        write_tar(shards / f"{shard:02d}.tar", members)
    store = opened(shards)
    assert [store.record(row)["meta"] for row in range(30)] == [record["meta"] for record in RECORDS]
    assert store.images(17) == [b, a]  # in the order in which the record names them
    assert store.fields["image_count"].to_pylist() == [2] * 30
    assert store.where(17) == f"{shards / '01.tar'}: sample 8"


def test_captions_in_a_tar_are_text_with_an_id(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "c.tar", [("x/1.txt", b"a red box\n"), ("x/1.jpg", png("red")), ("x/2.txt", b"blue")])
    store = opened(path)
    assert store.record(0) == {"text": "a red box", "id": "x/1"}
    assert [store.images(row) for row in range(2)] == [[png("red")], []]


@pytest.mark.parametrize("kind", ["parquet", "datasets"])
def test_image_columns_with_bytes_go_to_the_images(kind: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A box"}]
    rows = [
        {"messages": turns, "images": [{"bytes": png("red"), "path": "a.png"}, {"bytes": png("blue"), "path": None}]},
        {"messages": turns, "images": []},
    ]
    path = tmp_path / f"chat.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        from datasets import Dataset, Features, List, Value
        from datasets import Image as ImageColumn

        features = Features(
            {"messages": List({"role": Value("string"), "content": Value("string")}), "images": List(ImageColumn())}
        )
        Dataset.from_list(rows, features=features).save_to_disk(str(path))
    store = opened(path)
    assert [store.images(row) for row in range(2)] == [[png("red"), png("blue")], []]
    assert store.record(0) == {"messages": turns}
    assert store.fields.select(["image_count", "turns", "answer"]).to_pylist()[0] == {
        "image_count": 2,
        "turns": 2,
        "answer": "A box",
    }
    assert store.id(1) == f"chat.{kind}:1"
    where = path if kind == "parquet" else path / "data-00000-of-00001.arrow"
    assert store.where(1) == f"{where}: row 2"


def test_paragraphs_are_samples(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("First line\nsecond line\n\n\n\nNext ünïcode\n", "utf-8")
    store = opened(path)
    assert [store.record(row)["text"] for row in range(store.rows)] == ["First line\nsecond line", "Next ünïcode"]
    assert [store.where(row) for row in range(2)] == [f"{path}:1", f"{path}:6"]
    assert store.fields["answer"].to_pylist() == [None, None]


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\r\n\r\n  \n{"text": "a\\u2028b", "x": "\xe2\x80\xa8"}\r\n{"text": "end"}'
    )
    store = opened(path)
    assert [store.where(row) for row in range(store.rows)] == [f"{path}:{line}" for line in (1, 4, 5)]
    assert store.record(1) == {"text": "a\u2028b", "x": "\u2028"}


def test_records_larger_than_a_block_are_read(tmp_path: Path) -> None:
    texts = [letter * (9 << 20) for letter in "abcd"]
    write_jsonl(tmp_path / "large.jsonl", [{"text": text} for text in texts])
    (tmp_path / "large.json").write_text(json.dumps([{"text": text} for text in texts]))
    for name in ("large.jsonl", "large.json"):
        store = opened(tmp_path / name)
        assert [store.record(row)["text"] for row in range(store.rows)] == texts


BAD_LINES = {
    '{"text": "cut in ha': "not JSON",
    "[1, 2]": "expected a JSON object, found list",
    '{"text": "comma",}': "not JSON",
    '{"text": "x", "score": nan}': "not JSON",
    '{"text": "\\ud800"}': "surrogate",
    '{"deep": ' + "[" * 5000 + "]" * 5000 + "}": "nested more than 100 deep",
    '{"deep": ' + '{"a":' * 120 + "1" + "}" * 120 + "}": "nested more than 100 deep",
    '{"text": "\udcff"}': "not UTF-8",
}
GOOD_LINES = ['{"text": "nan, inf,]"}', '{"text": "' + "[" * 500 + '", "x": NaN}', '{"text": "\\ud83d\\ude00"}']


def bad_file(folder: Path) -> Path:
    lines = [line for pair in zip(BAD_LINES, GOOD_LINES * 3, strict=False) for line in pair]
    path = folder / "bad.jsonl"
    path.write_text("\n".join(lines), "utf-8", errors="surrogateescape")
    return path


def test_every_bad_line_is_refused_by_name(tmp_path: Path) -> None:
    path = bad_file(tmp_path)
    found = problems(path)
    for number, (line, why) in enumerate(zip(found[:5], BAD_LINES.values(), strict=False)):
        assert line.startswith(f"{path}:{2 * number + 1}: ")
        assert why in line
    assert found[5:] == [f"{path}: ... and 3 more"]


def test_skipped_lines_are_counted_and_listed(tmp_path: Path) -> None:
    path = bad_file(tmp_path)
    store = opened(path, "skip")
    assert [where for where, _ in store.left_out] == [f"{path}:{2 * number + 1}" for number in range(8)]
    assert all(why in text for (_, text), why in zip(store.left_out, BAD_LINES.values(), strict=True))
    assert store.rows == 8
    assert [store.where(row) for row in range(8)] == [f"{path}:{2 * number + 2}" for number in range(8)]
    assert json.loads(GOOD_LINES[0]) == store.record(0)


def test_a_broken_list_is_refused_at_its_line_whatever_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    whole = json.dumps(RECORDS, indent=1)
    for text, line, why in [
        (whole[: len(whole) // 2], whole[: len(whole) // 2].count("\n") + 1, "not JSON"),
        ('[{"a": 1}\n{"a": 2}]', 2, "expected `,` or `]`"),
        ('[{"a": 1},\n\n]', 3, "not JSON"),
        ('{"a": 1}\n{"a": 2}', 1, "expected a JSON list"),
        ('[{"a": 1}]\n[]', 2, "expected nothing after the list"),
        ("", 1, "expected a JSON list"),
    ]:
        path.write_text(text)
        (found,) = problems(path, "skip")
        assert found.startswith(f"{path}:{line}: "), found
        assert why in found
    path.write_text('[{"text": "x"},\n3]')
    assert problems(path) == [f"{path}:2: expected a JSON object, found int"]


def test_tars_that_are_damaged_are_refused(tmp_path: Path) -> None:
    members = [(f"{number}.json", json.dumps({"text": "x" * 3000}).encode()) for number in range(5)]
    whole = write_tar(tmp_path / "whole.tar", members).read_bytes()
    assert opened(tmp_path / "whole.tar").rows == 5
    for cut in (len(members[0][1]) // 2 + 512, 5 * (512 + 3072), 3 * (512 + 3072) + 100):
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:cut])
        (found,) = problems(path, "skip")
        assert "cannot be read" in found
    path = write_tar(tmp_path / "bad.tar", [("1.json", b"{"), ("2.txt", b"x"), ("3.json", b'{"image": "no.png"}')])
    found = [(where.partition(": ")[2], why) for where, why in opened(path, "skip").left_out]
    assert [where for where, _ in found] == ["sample 1", "sample 3"]
    assert "image no.png is not among its members" in found[1][1]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("none.jsonl", None, "not found"),
        ("data.csv", b"a,b\n", "format of dataset `crossview` is unknown"),
        ("empty.jsonl", b"", "holds no samples"),
        ("blank.txt", b"\n\n\n", "holds no samples"),
        ("p.parquet", b"PAR1 but no", "cannot be read"),
        ("t.tar", b"no tar", "cannot be read"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
        ("latin.json", b'["caf\xe9"]', "not UTF-8"),
    ],
)
def test_files_that_cannot_be_a_dataset_are_refused(name: str, content: bytes | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    (found,) = problems(path, "skip")
    assert found.startswith(str(path))
    assert why in found


def test_folders_that_cannot_be_a_dataset_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "unknown" in problems(folder)[0]
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "the splits train, test" in problems(folder)[0]
    (folder / "dataset_dict.json").unlink()
    (folder / "state.json").write_text("{")
    assert "not a folder saved by `datasets`" in problems(folder)[0]


def fields_of(folder: Path, *records: dict[str, Any]) -> pa.Table:
    return opened(write_jsonl(folder / "fields.jsonl", records)).fields


def test_fields_get_types_that_hold_all_values(tmp_path: Path) -> None:
    fields = fields_of(
        tmp_path,
        {
            "text": "a",
            "n": 1,
            "mixed": 1,
            "late": None,
            "big": 2**64 - 1,
            "id": 7,
            "answer": "own",
            "o": {"A": 1, "a": 2},
            "sometimes": {},
            "never": {},
            "list": [],
            "wide": 2**63,
        },
        {"text": "b", "n": 2.5, "mixed": "one", "many": [1], "id": "x", "quote\"'": True, "wide": -1}
        | {"signed": -1, "sometimes": {"a": "x"}, "list": [{"k": 1.5}]},
    )
    rows = fields.to_pylist()
    assert [row["n"] for row in rows] == [1.0, 2.5]
    assert [row["wide"] for row in rows] == [2**63, -1]
    assert [row["signed"] for row in rows] == [None, -1]
    assert [row["sometimes"] for row in rows] == [{"a": None}, {"a": "x"}]
    assert [row["never"] for row in rows] == ["{}", None]
    assert [row["list"] for row in rows] == [[], [{"k": 1.5}]]
    assert [row["mixed"] for row in rows] == ["1", '"one"']
    assert [row["big"] for row in rows] == [2**64 - 1, None]
    assert [row["id"] for row in rows] == ["7", "x"]
    assert [row["many"] for row in rows] == [None, [1]]
    assert [row["quote\"'"] for row in rows] == [None, True]
    assert rows[0]["sample_answer"] == "own"
    assert rows[0]["answer"] is None
    assert json.loads(rows[0]["o"]) == {"A": 1, "a": 2}
    assert fields.schema.field("late").type == pa.string()
    assert "text" not in fields.column_names


def test_all_kinds_of_turns_are_measured(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cde"}]
    fields = fields_of(
        tmp_path,
        {"conversations": [{"from": "human", "value": "ab"}, {"from": "gpt", "value": "cde"}], "image": "x.png"},
        {"messages": chat, "images": ["x.png", "y.png"], "image": "ignored.png"},
        {"prompt": chat[:1], "completion": chat[1:]},
        {"text": "abcde"},
    )
    assert fields["turns"].to_pylist() == [2, 2, 2, 1]
    assert fields["characters"].to_pylist() == [5, 5, 5, 5]
    assert fields["answer"].to_pylist() == ["cde", "cde", "cde", None]
    assert fields["image_count"].to_pylist() == [1, 2, 0, 0]


A, B = "a.png", "b.png"
NAMED_IMAGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "images list": ({"images": [A, B]}, [A, B]),
    "image list": ({"image": [A, B]}, [A, B]),
    "image text": ({"image": A}, [A]),
    "images wins": ({"images": [B], "image": A}, [B]),
    "images null": ({"images": None, "image": [A, B]}, [A, B]),
    "image null": ({"images": [B], "image": None}, [B]),
    "both null": ({"images": None, "image": None}, []),
    "neither": ({}, []),
}


@pytest.mark.parametrize("case", NAMED_IMAGES)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_reader_finds_the_same_images(case: str, kind: str, tmp_path: Path) -> None:
    """Null is a field that is not there: a table with both columns writes one in each row."""
    fields, expected = NAMED_IMAGES[case]
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A box"}]
    rows: list[dict[str, Any]] = [{"messages": turns, **fields}]
    path = tmp_path / f"data.{kind}"
    if kind == "jsonl":
        write_jsonl(path, [*rows, {"messages": turns, "image": A}, {"messages": turns, "image": [A]}])
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    store = opened(path)
    assert bool(bad_images(store, np.array([0]), tmp_path / "cache", decoded=False)) == bool(expected)
    for name in expected:
        (tmp_path / name).write_bytes(png("red"))
    assert not bad_images(store, np.array([0]), tmp_path / "cache", decoded=True)
    assert [Path(name).name for name in store.sample(0).images] == expected
    assert list(read_record(store.record(0)).images) == expected
    assert store.fields["image_count"][0].as_py() == len(expected)
    sql = columns.images(store.fields.schema)
    named = [] if sql is None else duckdb.from_arrow(store.fields).project(sql).fetchall()[0][0]
    assert (named or []) == expected
    tar = write_tar(
        tmp_path / "t.tar", [("s.json", json.dumps(rows[0]).encode()), *((f"s.{n}", n.encode()) for n in expected)]
    )
    assert opened(tar).images(0) == [name.encode() for name in expected]


def test_the_images_of_a_row_are_those_of_its_first_column_that_is_not_null(tmp_path: Path) -> None:
    held = [{"bytes": png("red"), "path": None}]
    rows = [{"text": "a", "images": None, "image": held[0]}, {"text": "b", "images": held * 2, "image": None}]
    pq.write_table(pa.Table.from_pylist([*rows, {"text": "c"}]), tmp_path / "both.parquet")
    store = opened(tmp_path / "both.parquet")
    assert [len(store.images(row) or []) for row in range(3)] == [1, 2, 0]
    assert store.fields["image_count"].to_pylist() == [1, 2, 0]


@pytest.mark.parametrize("first", ["with", "without"])
def test_rows_without_images_for_long_lose_no_image_of_the_others(first: str, tmp_path: Path) -> None:
    """Tables with bytes are read 256 rows at a time."""
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    some = [[{"bytes": png("red"), "path": None}]] * 300
    images = [*some, *[[]] * 300] if first == "with" else [*[[]] * 300, *some]
    pq.write_table(pa.table({"text": ["x"] * 600, "images": pa.array(images, kind)}), tmp_path / "late.parquet")
    assert opened(tmp_path / "late.parquet").fields["image_count"].to_pylist() == [len(row) for row in images]


@pytest.mark.parametrize("apart", [1, 300])
def test_images_that_are_held_and_named_in_one_table_are_refused(apart: int, tmp_path: Path) -> None:
    held, named = [{"bytes": png("red"), "path": "a.png"}], [{"bytes": None, "path": "a.png"}]
    path = tmp_path / "mixed.parquet"
    rows = [{"text": "x", "images": held}] * apart + [{"text": "x", "images": named}] * 300
    pq.write_table(pa.Table.from_pylist(rows), path)
    (found,) = problems(path, "skip")
    assert found.startswith(f"{path}: row {apart + 1}: expected images that are all held, or all named")


TWICE = {
    '{"text": "x", "image": "ok.png", "image": "../secret.png"}': "the key `image` twice",
    '{"text": "x", "im\\u0061ge": 1, "image": 2}': "the key `image` twice",
    '{"text": "x", "meta": {"is_neg": true, "is_neg": false}}': "the key `is_neg` twice",
    '{"text": "x", "deep": [[{"a": {"k": 1, "k": 1}}]]}': "the key `k` twice",
    '{"text": "x", "n": ' + "9" * 5000 + "}": "a number of 5000 digits",
}
ONCE = [
    '{"text": "a", "o": [{"text": 1}, {"text": 2}]}',
    '{"A": 1, "a": 1}',
    '{"text": "{\\"a\\":1,\\"a\\":2}", "n": 12}',
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "tar"])
def test_what_two_readers_would_read_differently_is_refused(kind: str, tmp_path: Path) -> None:
    """DuckDB reads the first value of a key that is there twice, Python the last."""
    texts = [*TWICE, ONCE[0], ONCE[2]]
    path = tmp_path / f"data.{kind}"
    if kind == "tar":
        write_tar(path, [(f"{number}.json", text.encode()) for number, text in enumerate(texts)])
    else:
        path.write_text("\n".join(texts) if kind == "jsonl" else "[" + ",\n".join(texts) + "]", "utf-8")
    store = opened(path, "skip")
    assert store.rows == 2
    assert all(why in found for (_, found), why in zip(store.left_out, TWICE.values(), strict=True))


def test_keys_of_several_objects_are_no_repetition() -> None:
    assert unusable(pa.table({"record": pa.array(ONCE, pa.large_string())})) == []


def test_members_of_a_tar_that_would_be_lost_make_a_bad_sample(tmp_path: Path) -> None:
    text = b'{"text": "x"}'
    names = ["scene.01.json", "scene.02.json", "a.json", "a.json", "b.json", "a.png", "c.txt", "c.json", "c.x.txt"]
    path = write_tar(tmp_path / "t.tar", [(name, text) for name in names])
    with tarfile.open(path, "a") as tar:
        for name, kind in [("d", tarfile.SYMTYPE), ("e", tarfile.LNKTYPE)]:
            link = tarfile.TarInfo(f"{name}.png")
            link.type, link.linkname = kind, "b.json"
            tar.addfile(tarfile.TarInfo(f"{name}.json"), io.BytesIO())
            tar.addfile(link)
    store = opened(path, "skip")
    assert [store.id(row) for row in range(store.rows)] == ["b"]
    assert [why for _, why in store.left_out] == [
        "sample scene: 01.json and 02.json of one sample, expected one .json: its name ends at the first dot",
        "sample a: member a.json is there twice",
        "sample a: was there before, expected its members next to each other",
        "sample c: txt and x.txt of one sample, expected one .txt: its name ends at the first dot",
        "sample d: member d.png is a link, expected a file",
        "sample e: member e.png is a link, expected a file",
    ]


def test_json_that_no_store_can_hold_makes_a_bad_sample_of_a_tar(tmp_path: Path) -> None:
    deep = b'{"v": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path = write_tar(tmp_path / "t.tar", [("a.json", deep), ("b.json", b'{"text": "\\ud800"}'), ("c.txt", b"x")])
    store = opened(path, "skip")
    assert (store.rows, [why for _, why in store.left_out]) == (
        1,
        ["sample a: nested more than 100 deep", "sample b: half of a surrogate pair in a text, expected Unicode"],
    )


@pytest.mark.parametrize("names", [["text", "id", "id"], ["text", "id", "ID"]])
def test_columns_of_one_name_are_refused(names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([name]) for name in names], names), path)
    (found,) = problems(path, "skip")
    assert f"the columns `id` and `{names[2]}`" in found


def test_deep_values_are_columns_of_text(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(98):
        value = [value]
    (row,) = fields_of(tmp_path, {"text": "a", "deep": value}).to_pylist()
    found = row["deep"]
    while isinstance(found, list):
        value, (found,) = value[0], found
    assert json.loads(found) == value


def test_a_field_that_is_called_as_the_column_of_another_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "two.jsonl", [{"text": "a", "row": 1, "sample_row": 2}])
    assert problems(path) == [
        f"{path}: the field `row` becomes the column `sample_row`, and there is a field `sample_row`"
    ]
    assert fields_of(tmp_path, {"text": "a", "sample_row": 2})["sample_row"].to_pylist() == [2]


def test_fields_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "case.jsonl", [{"text": "a", "Loss": 1}, {"text": "b", "loss": 2}])
    assert problems(path) == [
        f"{path}: the fields `Loss` and `loss` differ only in case, so no condition could tell them apart"
    ]


def test_a_store_is_found_again_and_another_content_has_another(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", RECORDS)
    time.sleep(2.1)  # old enough for its size and time to be trusted
    first = opened(path)
    built = (first.path / "store.json").stat().st_mtime_ns
    assert len(list((tmp_path / "cache/contents").iterdir())) == 1
    assert (opened(path).path / "store.json").stat().st_mtime_ns == built
    text = path.read_text()
    path.write_text(text.replace("Where", "there"))  # as long as before
    second = opened(path)
    assert second.path != first.path
    assert second.record(0)["conversations"][0]["value"] == "there is it?"
    moved = tmp_path / "moved" / "data.jsonl"
    moved.parent.mkdir()
    path.rename(moved)
    third = open_store(source(moved), tmp_path / "cache")
    assert third.content == second.content
    assert (third.folder, third.path) == (moved.parent, tmp_path / "cache/stores" / third.fingerprint)


@pytest.mark.parametrize("damage", ["records.arrow", "fields.arrow", "store.json"])
def test_a_damaged_store_is_built_again(damage: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", RECORDS)
    store = opened(path)
    content = (store.path / damage).read_bytes()
    (store.path / damage).write_bytes(content[:-10])
    with pytest.raises(DataError, match="no whole store"):
        read_store(store.path)
    again = opened(path)
    assert again.path == store.path
    assert [again.record(row) for row in range(again.rows)] == RECORDS


def test_a_store_travels_to_another_process_by_its_path(tmp_path: Path) -> None:
    store = opened(write_jsonl(tmp_path / "data.jsonl", RECORDS))
    sent = pickle.dumps(store)
    assert len(sent) < 500
    assert pickle.loads(sent).record(3) == RECORDS[3]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", RECORDS)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError, match="could not be made") as caught:
        opened(path)
    assert str(tmp_path / "cache") in str(caught.value)
    assert caught.value.hint


def long_records(count: int) -> list[dict[str, Any]]:
    """Records of about 4 kB, so that few of them take a while to be made a store of."""
    return [record | {"note": "a long note " * 320} for record in reference_records(count)]


OPEN = """
import sys
from pathlib import Path
from stepladder.data.mixture import Source
from stepladder.data.store import open_store
store = open_store(Source("x", sys.argv[1], None, None, None), Path(sys.argv[2]))
print((store.path / "store.json").stat().st_ino, store.rows)
"""


def opening(path: Path, code: str = OPEN) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", code, str(path), str(path.parent / "cache")]
    return subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", long_records(1_500))
    processes = [opening(path) for _ in range(3)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert {process.returncode for process in processes} == {0}, answers
    assert len({answer for answer, _ in answers}) == 1  # one inode: one of them built it
    assert answers[0][0].endswith(" 1500\n")
    assert [entry.name for entry in (tmp_path / "cache/stores").iterdir() if ".new-" in entry.name] == []


def test_a_killed_builder_leaves_nothing_that_counts(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", long_records(10_000))
    builder = opening(path)
    stores = tmp_path / "cache/stores"
    deadline = time.monotonic() + 60
    while not list(stores.glob("*.new-*/records.arrow")):
        assert builder.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    builder.send_signal(signal.SIGKILL)
    builder.communicate(timeout=30)
    assert len(list(stores.glob("*.new-*"))) == 1
    assert not list(stores.glob("*/store.json"))
    assert opened(path).rows == 10_000
    assert not list(stores.glob("*.new-*"))


MEASURE = """
import sys
from pathlib import Path
import psutil
from stepladder.data.records import read_store
before = psutil.Process().memory_full_info().uss
store = read_store(Path(sys.argv[1]))
assert store.record(9_999)["id"].endswith("uid9999") and store.fields["id"][5_000].as_py()
print(psutil.Process().memory_full_info().uss - before)
"""


def test_a_store_is_mapped_not_read(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", long_records(10_000))
    store = opened(path)
    size = sum(file.stat().st_size for file in store.path.iterdir())
    done = opening(store.path, MEASURE)
    answer, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    assert size > 60 << 20
    assert int(answer) < 8 << 20
