"""Readers of data, models and evaluations against damaged files: an answer or a refusal in words, never a traceback."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from damage import NO_FILE, damaged, instead, of_any, of_json
from selecting import mixture, part, reference_file, source
from stepladder.data.records import is_whole
from stepladder.data.samples import DataError, read_samples
from stepladder.data.select import make_selection
from stepladder.data.selection import Selection, read_selection
from stepladder.errors import InputError
from stepladder.paths import RunDirectory
from stepladder.preflight import checkpoint_fit
from stepladder.records.status import plan_of
from stepladder.report import summary
from stepladder.stage_evaluation import evaluation

#: How much random damage of each kind a file gets, in `make test` and in `make test-full`.
SOME = pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.full)])


def selected(folder: Path) -> Selection:
    """Half of a small dataset with scores, and all of it once more: made, or as it was made."""
    of = source(folder / "all.jsonl", scores=folder / "scores.parquet")
    parts = (part(of, where="easy > 0.5"), part(of, fraction=0.5))
    return make_selection(mixture(*parts), folder / "cache", folder / "selection")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = [json.loads(line)["id"] for line in reference_file(tmp_path, 60).read_text().splitlines()]
    pq.write_table(pa.table({"id": ids, "easy": [n / 60 for n in range(60)]}), tmp_path / "scores.parquet")
    selected(tmp_path)
    return tmp_path


def what_is_trained(selection: Selection) -> list[tuple[str, int]]:
    """The samples of two epochs in their order."""
    return [(found.dataset, row) for found, row in map(selection.at, range(2 * selection.length))]


@SOME
@pytest.mark.parametrize("file", ["selection.json", "part_0.npy"])
def test_a_damaged_selection_is_refused(folder: Path, file: str, count: int) -> None:
    path, healthy = folder / "selection" / file, what_is_trained(read_selection(folder / "selection"))
    damage = of_json if file.endswith(".json") else of_any
    for name, content in damage(path.read_bytes(), 1, count):
        with damaged(path, content):
            assert _order(folder / "selection") in (None, healthy), name
    for name, make in NO_FILE.items():
        with instead(path, lambda make=make: make(path)):
            assert _order(folder / "selection") is None, name


def _order(folder: Path) -> list[tuple[str, int]] | None:
    """What a selection trains; None for one that is refused, or that the engine makes anew before it is used."""
    try:
        selection = read_selection(folder)
    except DataError as error:
        refused = str(error)
    else:
        return what_is_trained(selection) if all(found.is_whole() for found in selection.parts) else None
    assert "hint: " in refused
    return None


@SOME
@pytest.mark.parametrize("file", ["all.jsonl", "scores.parquet"])
def test_damaged_data_are_refused_or_say_something_else(folder: Path, file: str, count: int) -> None:
    """Which samples there are is what the files say: they are refused by name where they say nothing."""
    path, healthy, refused = folder / file, selected(folder).fingerprint, 0
    for name, content in of_any(path.read_bytes(), 2, count):
        with damaged(path, content):
            shutil.rmtree(folder / "selection", ignore_errors=True)
            said = _refusal(folder)
        assert said is None or said.hint, name
        refused += said is not None
    assert refused
    assert selected(folder).fingerprint == healthy


def _refusal(folder: Path) -> InputError | None:
    """What a selection of these data is refused with; None for one that is made."""
    try:
        assert selected(folder).length > 0
    except InputError as error:
        return error
    return None


@SOME
def test_a_damaged_store_is_made_anew(folder: Path, count: int) -> None:
    (path,) = (folder / "cache").glob("**/store.json")
    healthy = what_is_trained(selected(folder))
    for name, content in of_json(path.read_bytes(), 3, count):
        with damaged(path, content):
            assert not is_whole(path.parent) or json.loads(content) == json.loads(_beside(path).read_bytes()), name
    path.write_bytes(b'{"version": 1}')
    shutil.rmtree(folder / "selection")
    assert what_is_trained(selected(folder)) == healthy
    assert is_whole(path.parent)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.healthy")


@SOME
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt"])
def test_samples_of_a_damaged_file_are_refused(tmp_path: Path, suffix: str, count: int) -> None:
    lines = reference_file(tmp_path, 20).read_text().splitlines()
    path = tmp_path / f"samples{suffix}"
    path.write_text(f"[{','.join(lines)}]" if suffix == ".json" else "\n".join(lines))
    assert read_samples(path)
    damage = of_json if suffix == ".json" else of_any
    for name, content in damage(path.read_bytes(), 4, count):
        with damaged(path, content):
            try:
                said = f"{len(read_samples(path))} samples, hint: none"
            except DataError as error:
                said = str(error)
        assert "hint: " in said, (name, said)


@SOME
@pytest.mark.parametrize("file", ["model.safetensors", "model.safetensors.index.json"])
def test_a_model_that_is_cut_or_has_no_header_is_refused(
    healthy_chain: Path, tmp_path: Path, file: str, count: int
) -> None:
    """Only the header is read: what the tensors hold, no file says."""
    weights = healthy_chain / "runs/tiny/1-one/checkpoint-5/model.safetensors"
    shutil.copyfile(weights, tmp_path / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(checkpoint_fit.missing_weights(tmp_path)) == []
    content = (tmp_path / file).read_bytes()
    damage = of_json if file.endswith(".json") else of_any
    for name, found in damage(content, 5, count):
        with damaged(tmp_path / file, found):
            said = list(checkpoint_fit.missing_weights(tmp_path))
        assert said or len(found) == len(content) or file.endswith(".json"), name


@SOME
def test_a_damaged_evaluation_is_none(healthy_chain: Path, tmp_path: Path, count: int) -> None:
    stage = plan_of(RunDirectory(healthy_chain / "runs/tiny")).stages[0]
    run = RunDirectory(tmp_path)
    path = run.evaluation(1, "one")
    path.parent.mkdir(parents=True)
    healthy = {"version": 1, "result": {"metrics": {"accuracy": 0.5}, "baseline": {"accuracy": 0.2}, "tiers": {}}}
    path.write_text(json.dumps(healthy))
    assert evaluation(run, stage) == healthy["result"]
    for _, content in of_json(path.read_bytes(), 6, 10 * count):
        with damaged(path, content):
            found = evaluation(run, stage)
            if found is not None and (table := summary.metrics([("one", found)])) is not None:
                Console(file=io.StringIO()).print(table)
    for name, make in NO_FILE.items():
        with instead(path, lambda make=make: make(path)):
            assert evaluation(run, stage) is None, name
