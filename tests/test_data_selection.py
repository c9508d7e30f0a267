"""Selections: counts, draws that are the same everywhere, tiers, bad conditions and bad images, each named."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selecting import REFERENCE, mixture, part, reference_file, reference_records, source, write_jsonl
from stepladder.data.columns import columns_of, cut
from stepladder.data.condition import ExpressionError, check_condition
from stepladder.data.mixture import Mixture, Source, Tiers, _times
from stepladder.data.rows import drawn, matching, ordered, share_of
from stepladder.data.samples import DataError
from stepladder.data.select import SelectionError, make_selection
from stepladder.data.selection import Selection, read_selection
from stepladder.data.sql import connect
from stepladder.data.store import BadSamplesError, open_store
from stepladder.data.usable import Look
from support import ENVIRONMENT

RECORDS = reference_records(500)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference's file, generated, with its images; its store is built once."""
    return reference_file(tmp_path_factory.mktemp("data"))


def selected(of: Mixture, out: Path) -> Selection:
    """The cache lies beside the first dataset."""
    return make_selection(of, Path(of.parts[0].source.path).parent / "cache", out)


def rows_of(selection: Selection, number: int = 0) -> list[int]:
    return [int(row) for row in selection.parts[number].rows]


def by_hand(keep: Callable[[dict[str, Any]], bool], fraction: str = "1", seed: int = 0) -> list[int]:
    """The draw in plain Python: ranks by MD5 of `SEED:ID`, the first so many."""
    rows = [row for row, record in enumerate(RECORDS) if keep(record)]
    rank = {row: hashlib.md5(f"{seed}:{RECORDS[row]['id']}".encode()).hexdigest()[:16] for row in rows}
    count = int(Fraction(fraction) * len(rows) + Fraction(1, 2))
    return sorted(rows, key=lambda row: (rank[row], row))[:count]


KEEP: dict[str, Callable[[dict[str, Any]], bool]] = {
    "pos_only": lambda record: not record["meta"]["is_neg"],
    "pos_tierA": lambda record: not record["meta"]["is_neg"] or record["meta"]["neg_type"] == "tierA",
    "all": lambda record: True,
}


@pytest.mark.parametrize("name", REFERENCE)
def test_the_references_mixtures_are_what_plain_python_counts(name: str, data: Path, tmp_path: Path) -> None:
    whole = selected(mixture(part(data, where=REFERENCE[name])), tmp_path / "whole")
    assert rows_of(whole) == [row for row, record in enumerate(RECORDS) if KEEP[name](record)]
    quarter = selected(mixture(part(data, where=REFERENCE[name], fraction=0.25), seed=3), tmp_path / "quarter")
    assert rows_of(quarter) == by_hand(KEEP[name], "0.25", seed=3)
    assert quarter.length == len(quarter.parts[0].rows) == quarter.parts[0].share


def test_a_draw_is_part_of_every_larger_one(data: Path, tmp_path: Path) -> None:
    draws = [{"fraction": 0.1}, {"fraction": 0.25}, {"fraction": 0.5}, {"count": 300}, {"fraction": 1.0}]
    rows = [rows_of(selected(mixture(part(data, **draw)), tmp_path / "s")) for draw in draws]
    assert [len(drawn) for drawn in rows] == [50, 125, 250, 300, 500]
    assert all(more[: len(less)] == less for less, more in itertools.pairwise(rows))
    other = rows_of(selected(mixture(part(data, fraction=0.5), seed=1), tmp_path / "s"))
    assert set(other) != set(rows[2])


def test_a_draw_depends_on_no_thread_and_no_order_of_rows() -> None:
    ids = [f"s{number % 900}" for number in range(1000)]  # some twice
    random.Random(1).shuffle(ids)
    shuffled = random.Random(0).sample(range(1000), 1000)
    found = set()
    for threads, order in [(1, range(1000)), (2, range(1000)), (4, shuffled)]:
        fields = pa.table({"row": list(order), "id": [ids[row] for row in order]})
        with closing(connect(threads)) as connection:
            connection.register("fields", pa.Table.from_batches(fields.to_batches(max_chunksize=7)))
            rows = matching(connection, "id <> 's3'", fields.schema)
            assert list(rows) == [row for row in range(1000) if ids[row] != "s3"]
            found.add(tuple(drawn(connection, rows, 5, 400)))
            found.add(tuple(drawn(connection, rows, 5, 500)[:400]))
    assert len(found) == 1


SELECT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from selecting import mixture, part
from stepladder.data.rows import drawn, matching, ordered, share_of
from stepladder.data.select import SelectionError, make_selection
of = mixture(part(Path(sys.argv[1]), where="not meta.is_neg", fraction=0.5, order_by="meta.mask_area desc"))
made = make_selection(of, Path(sys.argv[2]).parent / "cache", Path(sys.argv[2]))
print(made.fingerprint, *made.parts[0].rows)
"""


def test_processes_that_select_at_once_agree(data: Path, tmp_path: Path) -> None:
    """Three write the same selection, a fourth makes its own in a cache of its own."""
    outs = [tmp_path / "shared/s"] * 3 + [tmp_path / "own/s"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SELECT, str(data), str(out), str(Path(__file__).parent)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for out in outs
    ]
    answers = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(answers) == 1
    assert len(answers.pop().split()) > 50


def test_ordered_parts_come_easy_to_hard(data: Path, tmp_path: Path) -> None:
    fields = {"order_by": "meta.mask_area DESC", "fraction": 0.5}
    made = selected(mixture(part(data, **fields)), tmp_path / "s")
    rows = by_hand(lambda record: True, "0.5")
    areas = {row: RECORDS[row]["meta"]["mask_area"] for row in rows}
    assert rows_of(made) == sorted(rows, key=lambda row: (areas[row] is None, -(areas[row] or 0), row))
    assert not made.parts[0].shuffled
    assert [made.at(position)[1] for position in range(made.length)] == rows_of(made)
    twice = selected(mixture(part(data, order_by="meta.neg_type, length(answer) + 1 desc")), tmp_path / "t")
    first = [RECORDS[row]["meta"]["neg_type"] for row in rows_of(twice)]
    assert first == sorted(first, key=lambda tier: (tier is None, tier))


@pytest.mark.parametrize(
    ("fraction", "rows", "count"),
    [(0.25, 10, 3), (0.35, 10, 4), (0.15, 10, 2), (0.1, 3, 1), (0.001, 10, 1), (1.0, 7, 7), (0.29, 100, 29)],
)
def test_fractions_are_decimal_and_round_half_up(fraction: float, rows: int, count: int) -> None:
    assert share_of(fraction, rows) == count


def test_shares_without_weights_make_every_sample_equally_frequent(data: Path, tmp_path: Path) -> None:
    made = selected(mixture(part(data, count=30), part(data, where="meta.is_neg", count=20, repeat=3)), tmp_path / "s")
    assert [(entry.count, entry.repeat, entry.share) for entry in made.parts] == [(30, 1, 30), (20, 3, 60)]
    assert made.length == 90
    seen = [(made.parts.index(entry), row) for entry, row in map(made.at, range(made.length))]
    assert sorted(seen) == sorted([(0, r) for r in rows_of(made, 0)] + [(1, r) for r in rows_of(made, 1)] * 3)


def test_weights_are_exact_shares(data: Path, tmp_path: Path) -> None:
    parts = [part(data, count=10, weight=0.3), part(data, weight=0.1), part(data, weight=0.0), part(data, weight=0.6)]
    made = selected(mixture(*parts), tmp_path / "s")
    assert [(entry.count, entry.share) for entry in made.parts] == [(10, 3), (500, 1), (500, 6)]
    assert made.length == 1010
    turns = [made.order.at(position)[0] for position in range(1000)]
    assert [turns.count(number) for number in range(3)] == [300, 100, 600]


@pytest.mark.parametrize(
    ("weights", "why"),
    [([1.0, None], "has no weight"), ([0.0, 0.0], "sum to 0"), ([-1.0, 2.0], "found a weight of -1.0")],
)
def test_weights_that_cannot_be_are_refused(weights: list[float | None], why: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=why):
        selected(mixture(*[part(data, weight=weight) for weight in weights]), tmp_path / "s")
    assert not (tmp_path / "s").exists()


REFUSED = {
    "meta.is_ne": "unknown column `meta.is_ne`",
    "mask_area > 3": "unknown column `mask_area`",
    "meta.scene.name = 'x'": "unknown column `meta.scene.name`",
    "meta.neg_type = tierA": "unknown column `tierA`",
    "a) or (b": "not an SQL expression",
    "(meta.is_neg": "not an SQL expression",
    "meta.is_neg)": "not an SQL expression",
    "id = 'half": "not an SQL expression",
    "": "not an SQL expression",
    "meta.is_neg; drop table fields": "not an SQL expression",
    "1=1); drop table fields; select (1": "not an SQL expression",
    "1=1) union select 1 from fields where (1=1": "not an SQL expression",
    "true union select 1 from fields": "not an SQL expression",
    "meta.is_neg -- and more": "a comment",
    "meta.is_neg /* and more */": "a comment",
    "true limit 3": "not an SQL expression",
    "true order by id": "not an SQL expression",
    "true group by id": "not an SQL expression",
    "id in (select id from fields)": "a subquery",
    "exists (from read_csv('secret.csv'))": "a subquery",
    "read_text('secret.txt') = 'x'": "function read_text may not be used",
    "id = $1": "a parameter",
    "id = ?": "a parameter",
    "#1 = 1": "a column by number",
    "columns(*) is null": "a star",
    "count(*) > 3": "function count_star may not be used",
    "row_number() over () = 1": "a window function",
    "random() < 0.5": "function random may not be used",
    "now()::varchar > id": "function now may not be used",
    "current_date::varchar > id": "unknown column `current_date`",
    "today()::varchar > id": "function today may not be used",
    "pg_sleep(1) is null": "function pg_sleep may not be used",
    "current_setting('threads') = 1": "function current_setting may not be used",
    "lenght(id) > 3": "lenght does not exist",
    "id = 3": "Could not convert",
    "id like 'nobody%'": "selects none of 500 samples",
}


@pytest.mark.parametrize("where", REFUSED)
def test_conditions_that_cannot_be_are_refused_by_name(where: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError) as caught:
        selected(mixture(part(data), part(data, where=where)), tmp_path / "s")
    assert REFUSED[where] in str(caught.value)
    assert str(caught.value).startswith("mixture mix, part 2 (crossview), where: ")
    assert caught.value.field == "where"
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_an_unknown_column_comes_with_what_there_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError) as caught:
        selected(mixture(part(data, where="meta.is_ne")), tmp_path / "s")
    assert caught.value.hint == "did you mean `meta.is_neg`?"
    assert "turns, characters, answer, image, meta, meta.uid, meta.is_neg, meta.neg_type, meta.mask_area" in str(
        caught.value
    )


@pytest.mark.parametrize(
    "where",
    [
        "fields.meta.is_neg or META.Is_Neg",
        "meta.neg_type in ('tierA', 'tierB') and id not like '%;--%'",
        "meta.mask_area between 1 and 100 or meta['uid'] = 3",
        "case when meta.is_neg then 1 else 2 end > 0 and coalesce(meta.mask_area, 0) - 5 < 100",
        "len(list_filter(image, lambda name: name = 'A.png')) = 1 and list_contains(image, 'B.png')",
        "regexp_matches(answer, '^NOT') or try_cast(id as bigint) is null or lower(id) = 'x'",
        "hash(id) % 2 = 0 or md5(id) > '0'",
    ],
)
def test_conditions_over_one_sample_work(where: str, data: Path, tmp_path: Path) -> None:
    assert selected(mixture(part(data, where=where)), tmp_path / "s").length > 0


def test_no_text_gets_past_the_check_with_a_traceback(data: Path) -> None:
    """Most are refused by the check, some when DuckDB runs them; nothing else may come of any."""
    pieces = [
        *"();$\0\\'\"é\n",
        "meta.is_neg",
        "--",
        "/*",
        "*/",
        "select 1",
        "or",
        "{}",
        "%s",
        "1",
        "desc",
        "fields",
        "[",
        "]",
    ]
    draw = random.Random(0)
    fields, _ = columns_of(source(data), open_store(source(data), data.parent / "cache"))
    ran = 0
    with closing(connect()) as connection:
        connection.register("fields", fields)
        for _ in range(600):
            text = " ".join(draw.choices(pieces, k=draw.randrange(1, 6)))
            for run in (matching, lambda c, text, schema: ordered(c, np.arange(9), text, schema)):
                with contextlib.suppress(ExpressionError, duckdb.Error):
                    assert len(run(connection, text, fields.schema)) <= 500
                    ran += 1
        assert connection.execute("SELECT count(*) FROM fields").fetchall() == [(500,)]
    assert 10 < ran < 600


@pytest.mark.parametrize(
    ("order_by", "why"),
    [
        ("meta.mask", "unknown column"),
        ("1", "a constant orders nothing"),
        ("'id'", "a constant orders nothing"),
        ("all", "a star"),
        ("random()", "function random"),
        ("id limit 3", "nothing after them"),
        ("(select 1)", "a subquery"),
        ("id; select 1", "several statements"),
    ],
)
def test_orders_that_cannot_be_are_refused(order_by: str, why: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=why) as caught:
        selected(mixture(part(data, order_by=order_by)), tmp_path / "s")
    assert caught.value.field == "order_by"


def test_more_than_there_is_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="asks for 501 samples, and there are 500 of 500"):
        selected(mixture(part(data, count=501)), tmp_path / "s")


def write_scores(folder: Path, ids: list[str], values: list[float | None], column: str = "loss") -> Path:
    path = folder / "scores.parquet"
    pq.write_table(pa.table({"id": ids, column: values}), path)
    return path


def test_tiers_cut_by_quantile_and_never_part_equal_values() -> None:
    values = np.array([5.0, 1, 2, 2, 2, 3, 4, np.nan, 9, 8])
    assert list(cut(values, [0.5])) == [1, 0, 0, 0, 0, 0, 1, 0, 1, 1]
    assert list(cut(np.arange(10.0), [0.5, 0.8])) == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert list(cut(np.arange(10.0), [0.7])) == [0] * 7 + [1] * 3
    assert set(cut(np.ones(5), [0.2, 0.9])) == {0}
    assert set(cut(np.full(3, np.nan), [0.5])) == {0}


def test_scores_are_joined_by_id_and_make_tiers(data: Path, tmp_path: Path) -> None:
    ids = [record["id"] for record in RECORDS]
    loss = {own: float(number % 100) for number, own in enumerate(ids)}
    known = random.Random(0).sample(ids, 400)
    scores = write_scores(tmp_path, known, [loss[own] for own in known])
    scored = source(data, scores, Tiers("loss * 2", (0.5, 0.8)))
    columns, missing = columns_of(scored, open_store(scored, data.parent / "cache"))
    assert missing == 100
    assert columns["loss"].to_pylist() == [loss[own] if own in set(known) else None for own in ids]
    ranked = sorted(loss[own] for own in known)
    expected = [
        None if own not in set(known) else int(loss[own] > ranked[199]) + int(loss[own] > ranked[319]) for own in ids
    ]
    assert columns["tier"].to_pylist() == expected
    made = selected(mixture(part(scored, where="tier = 2", order_by="loss")), tmp_path / "s")
    rows = [row for row, tier in enumerate(expected) if tier == 2]
    assert rows_of(made) == sorted(rows, key=lambda row: (loss[ids[row]], row))
    other = write_scores(tmp_path, known, [0.0] * 399 + [1.0])
    assert selected(mixture(part(source(data, other))), tmp_path / "s").fingerprint != made.fingerprint


def refusal(of: Source, out: Path) -> SelectionError:
    with pytest.raises(SelectionError) as caught:
        selected(mixture(part(of)), out)
    return caught.value


def test_scores_and_tiers_that_cannot_be_are_refused(data: Path, tmp_path: Path) -> None:
    ids = [record["id"] for record in RECORDS[:3]]
    twice = refusal(source(data, write_scores(tmp_path, [*ids, ids[1]], [1.0, 2.0, 3.0, 4.0])), tmp_path / "s")
    assert f"has sample {ids[1]} 2 times" in str(twice)
    assert twice.at == ("data", "datasets", "crossview", "scores")
    strangers = refusal(source(data, write_scores(tmp_path, ["a", "b"], [1.0, 2.0])), tmp_path / "s")
    assert f"scores none of the samples, the first of which is {ids[0]}" in str(strangers)
    taken = refusal(source(data, write_scores(tmp_path, ids, [1.0] * 3, "answer")), tmp_path / "s")
    assert "columns that the samples have already: answer" in str(taken)
    assert "cannot be read" in str(refusal(source(data, tmp_path / "none.parquet"), tmp_path / "s"))
    text = refusal(source(data, None, Tiers("meta.neg_type", (0.5,))), tmp_path / "s")
    assert "expected a number, found string" in str(text)
    assert text.at == ("data", "datasets", "crossview", "tiers", "by")
    assert "unknown column `loss`" in str(refusal(source(data, None, Tiers("loss", (0.5,))), tmp_path / "s"))


def images_file(folder: Path, names: list[Any]) -> Path:
    """One sample for each name; `good.png` and the like are there."""
    inside = folder / "inside"
    inside.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "outside.png")
    Image.new("RGB", (8, 8)).save(inside / "good.png")
    Image.effect_noise((64, 64), 50).save(inside / "broken.png")
    os.truncate(inside / "broken.png", 1000)
    (inside / "text.png").write_text("no image")
    (inside / "link.png").symlink_to(folder / "outside.png")
    (inside / "away").symlink_to(folder)
    return write_jsonl(
        inside / "data.jsonl", [{"id": f"s{n}", "text": "x", "image": name} for n, name in enumerate(names)]
    )


BAD_IMAGES = {
    "missing.png": "not found",
    "../outside.png": "leaves the dataset's folder",
    "link.png": "leaves the dataset's folder",
    "away/outside.png": "leaves the dataset's folder",
    "a\0b.png": "is no path",
    "broken.png": "does not decode",
    "text.png": "does not decode",
}


def test_images_that_cannot_be_used_are_refused_by_line_and_id(tmp_path: Path) -> None:
    names = ["good.png", *BAD_IMAGES, str(tmp_path / "outside.png"), str(tmp_path / "inside/good.png"), None]
    path = images_file(tmp_path, names)
    with pytest.raises(BadSamplesError) as caught:
        selected(mixture(part(path)), tmp_path / "s")
    problems = [str(problem) for problem in caught.value.problems]
    reasons = list(BAD_IMAGES.values())
    for number, problem in enumerate(problems[:5]):
        assert problem.startswith(f"{path}:{number + 2}: sample s{number + 1}: image ")
        assert reasons[number] in problem
    assert problems[5] == f"{path}: ... and 1 more"  # the absolute one; refusing decodes nothing
    assert selected(mixture(part(path, where="id in ('s0', 's9')")), tmp_path / "s").length == 2
    whole = make_selection(mixture(part(path)), tmp_path / "c", tmp_path / "s", Look(images=False))
    assert whole.length == len(names)


def test_images_that_cannot_be_used_are_skipped_before_the_draw(tmp_path: Path) -> None:
    path = images_file(tmp_path, [*BAD_IMAGES, *["good.png"] * 4])
    made = selected(mixture(part(path, fraction=0.5), part(path, count=4), on_bad_sample="skip"), tmp_path / "s")
    assert [len(entry.rows) for entry in made.parts] == [2, 4]
    assert set(rows_of(made, 0)) < set(rows_of(made, 1)) == {7, 8, 9, 10}
    left_out = [json.loads(line) for line in (tmp_path / "s/left_out.jsonl").read_text().splitlines()]
    assert made.left_out == len(left_out) == 7
    assert [entry["where"] for entry in left_out] == [f"{path}:{number}" for number in range(1, 8)]
    assert [entry["id"] for entry in left_out] == [f"s{number}" for number in range(7)]
    assert all(why in entry["why"] for entry, why in zip(left_out, BAD_IMAGES.values(), strict=True))


def test_lines_and_images_that_were_skipped_are_in_one_list(tmp_path: Path) -> None:
    path = images_file(tmp_path, ["good.png", "missing.png"])
    path.write_text(path.read_text() + '{"id": "cut\n')
    made = selected(mixture(part(path), part(path), on_bad_sample="skip"), tmp_path / "s")
    left_out = [json.loads(line) for line in (tmp_path / "s/left_out.jsonl").read_text().splitlines()]
    assert [(entry["dataset"], entry["where"]) for entry in left_out] == [
        ("crossview", f"{path}:3"),
        ("crossview", f"{path}:2"),
    ]
    assert made.left_out == 2


def test_many_images_are_decoded_in_processes_and_only_once(tmp_path: Path) -> None:
    path = images_file(tmp_path, [f"{number}.png" for number in range(80)])
    for number in range(80):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path.parent / f"{number}.png")
    (path.parent / "41.png").write_bytes(b"broken")
    of = mixture(part(path), on_bad_sample="skip")
    assert set(range(80)) - set(rows_of(selected(of, tmp_path / "s"))) == {41}
    notes = path.parent / "cache/images.sqlite"
    before = notes.read_bytes()
    again = mixture(part(path, fraction=0.5), on_bad_sample="skip")
    assert selected(again, tmp_path / "t").left_out == 1
    assert notes.read_bytes() == before
    Image.new("RGB", (8, 8)).save(path.parent / "41.png")
    assert selected(again, tmp_path / "u").left_out == 0


def test_a_selection_is_kept_until_its_definition_or_content_changes(tmp_path: Path) -> None:
    data = reference_file(tmp_path, 50)

    def stamp(of: Mixture) -> tuple[int, str]:
        made = selected(of, tmp_path / "s")
        return (tmp_path / "s/selection.json").stat().st_ino, made.fingerprint

    first = stamp(mixture(part(data, fraction=0.5)))
    assert stamp(mixture(part(data, fraction=0.5), name="renamed")) == first
    assert stamp(mixture(part(data, fraction=0.4)))[1] != first[1]
    assert stamp(mixture(part(data, fraction=0.5), seed=1))[1] != first[1]
    write_jsonl(data, reference_records(51))
    assert stamp(mixture(part(data, fraction=0.5)))[1] != first[1]


def test_a_selection_opens_in_another_process_and_says_when_it_is_gone(tmp_path: Path) -> None:
    data = reference_file(tmp_path, 50)
    made = selected(mixture(part(data, fraction=0.5)), tmp_path / "s")
    sent = pickle.dumps(made)
    assert len(sent) < 500
    again = pickle.loads(sent)
    assert [again.at(position)[1] for position in range(60)] == [made.at(position)[1] for position in range(60)]
    assert sorted(again.at(position)[1] for position in range(25)) == sorted(rows_of(made))
    rows = tmp_path / "s/part_0.npy"
    rows.write_bytes(rows.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"part_0.npy cannot be read(.|\n)*hint: "):
        read_selection(tmp_path / "s/selection.json")
    made = selected(mixture(part(data, fraction=0.5)), tmp_path / "s")  # made again, not believed
    os.truncate(made.parts[0].store_path / "records.arrow", 10)
    with pytest.raises(DataError, match=r"no whole store(.|\n)*hint: "):
        read_selection(tmp_path / "s")
    with pytest.raises(DataError, match="cannot be read"):
        read_selection(tmp_path / "none")


@pytest.mark.parametrize(
    "condition",
    [
        "age(ts) > interval 1 day",
        "current_localtimestamp() > ts",
        "current_localtime() > time '00:00:01'",
        "version() <> ''",
    ],
)
def test_conditions_that_depend_on_the_day_are_refused(condition: str) -> None:
    schema = pa.schema({"ts": pa.timestamp("us")})
    with closing(connect()) as connection:
        with pytest.raises(ExpressionError, match="may not be used here"):
            check_condition(connection, condition, schema)
        check_condition(connection, "age(ts, timestamp '2020-01-01') > interval 1 day", schema)


def test_times_do_not_depend_on_the_machine() -> None:
    query = "import sys; sys.path.insert(0, sys.argv[1]); from stepladder.data.sql import connect\n"
    query += (
        "print(connect().sql(\"SELECT '2026-03-01 15:00:00'::TIMESTAMPTZ = '2026-03-01 15:00:00+00'::TIMESTAMPTZ\"))"
    )
    arguments = [sys.executable, "-c", query, str(Path(__file__).parent)]
    environment = ENVIRONMENT | {"TZ": "America/New_York"}
    assert "true" in subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("conversations", "turns are no columns; there are `turns`, `characters` and `answer`"),
        ("messages[1].content", "turns are no columns"),
        ("tier", "the dataset has no `tiers:`"),
        ("loss", "`stepladder data score` writes such columns"),
        ("mask_area", "did you mean `meta.mask_area`"),
        ("meta.neg_type = None", "write `is null`"),
        ("meta.neg_type = tierA", "text stands in single quotes"),
        ("other.thing", "a member of an object"),
    ],
)
def test_an_unknown_column_is_told_what_it_may_be(name: str, hint: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError) as caught:
        selected(mixture(part(data, where=f"{name} = 'x'" if "=" not in name else name)), tmp_path / "s")
    assert hint in (caught.value.hint or "")


def test_lengths_are_those_of_scores_alone(tmp_path: Path) -> None:
    own = write_jsonl(tmp_path / "own/a.jsonl", [{"id": "a", "text": "x", "length": 5_000_000_000}])
    assert selected(mixture(part(own)), tmp_path / "s").parts[0].lengths is None
    path = write_jsonl(tmp_path / "b/b.jsonl", [{"id": name, "text": "x"} for name in "abcd"])
    for kind in (pa.int64(), pa.uint64()):
        scores = pa.table({"id": list("abc"), "length": pa.array([7, 5_000_000_000, None], kind)})
        pq.write_table(scores, tmp_path / "scores.parquet")
        made = selected(mixture(part(source(path, tmp_path / "scores.parquet"))), tmp_path / "t")
        assert list(made.parts[0].lengths) == [7, 2**31 - 1, -1, -1]


def test_a_share_of_a_share_is_decimal() -> None:
    assert _times(part(Path("a"), fraction=0.7), 0.1, "a*0.1").fraction == 0.07
    assert _times(part(Path("a")), 0.3, "a*0.3").fraction == 0.3
