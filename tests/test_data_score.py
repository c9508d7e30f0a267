"""`data score` makes a column of difficulty, and `tiers` cuts a dataset that has none by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pointing_data import write_pointing_data
from stepladder.data.mixture import Mixture, Part, Source, Tiers
from stepladder.data.select import make_selection
from support import stepladder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vision_model: Path) -> Path:
    """A curriculum over 12 pointing samples, half of them positives with a mask of 20 x 20 pixels."""
    folder = tmp_path_factory.mktemp("score")
    write_pointing_data(folder / "pairs")
    text: dict[str, Any] = {
        "name": "c",
        "model_name_or_path": str(vision_model),
        "output_dir": "runs/c",
        "args": {"learning_rate": 1e-3, "use_cpu": True, "max_tiles": 1},
        "data": {"cache": "cache", "datasets": {"pairs": {"path": "pairs/pairs.jsonl"}}},
        "stages": [{"name": "a", "steps": 1, "data": "pairs"}],
    }
    (folder / "c.yaml").write_text(json.dumps(text), "utf-8")
    return folder


def score(folder: Path, by: str, *options: str) -> tuple[dict[str, Any], str]:
    (folder / "s.parquet").unlink(missing_ok=True)
    done = stepladder(
        "data", "score", "c.yaml", "--dataset=pairs", f"--by={by}", "--out=s.parquet", *options, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    table = pq.read_table(folder / "s.parquet")
    _, column = table.column_names
    return dict(zip(table.column("id").to_pylist(), table.column(column).to_pylist(), strict=True)), done.stderr


def test_by_mask_area(folder: Path) -> None:
    found, said = score(folder, "mask_area")
    assert found == {f"s{number}": 400 if number % 2 == 0 else None for number in range(12)}
    assert "column `mask_area` of 6 samples, 6 without a value: 400 to 400" in said


def test_by_an_expression(folder: Path) -> None:
    found, _ = score(folder, "length(answer) + turns")
    assert found == {f"s{number}": (11 if number % 2 else len("[(0.000, 0.000)]")) + 2 for number in range(12)}


def test_with_a_model(folder: Path) -> None:
    """Of an untrained model every answer costs about as much as chance among its tokens."""
    found, said = score(folder, "loss")
    assert sorted(found) == sorted(f"s{number}" for number in range(12))
    assert "column `loss` of 12 samples" in said
    assert all(3 < value < 9 for value in found.values()), found


def test_a_second_score_stands_beside_the_first(folder: Path) -> None:
    (folder / "s.parquet").unlink(missing_ok=True)
    score(folder, "turns")
    done = stepladder("data", "score", "c.yaml", "--dataset=pairs", "--by=mask_area", "--out=s.parquet", cwd=folder)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(folder / "s.parquet")
    assert sorted(table.column_names) == ["id", "mask_area", "score"]
    assert table.column("score").to_pylist() == [2.0] * 12
    pq.write_table(table.slice(0, 5), folder / "s.parquet")
    refused = stepladder("data", "score", "c.yaml", "--dataset=pairs", "--by=turns", "--out=s.parquet", cwd=folder)
    assert refused.returncode == 2
    assert "the scores of other samples" in refused.stderr
    (folder / "s.parquet").unlink()


def test_what_cannot_be_scored_is_named(folder: Path) -> None:
    options = ("--dataset=pairs", "--out=x.parquet")
    unknown = stepladder("data", "score", "c.yaml", "--by=lenght(answer)", *options, cwd=folder)
    assert unknown.returncode == 2
    assert "length" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    other = stepladder("data", "score", "c.yaml", "--dataset=pair", "--by=loss", "--out=x.parquet", cwd=folder)
    assert "no dataset `pair`, did you mean `pairs`?" in other.stderr
    mask = folder / "pairs/4_mask.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:20])
    broken = stepladder("data", "score", "c.yaml", "--by=mask_area", *options, cwd=folder)
    mask.write_bytes(whole)
    assert broken.returncode == 2
    assert "pairs.jsonl:5: sample s4: mask 4_mask.png cannot be read" in broken.stderr
    assert not (folder / "x.parquet").exists()


def test_tiers_cut_by_the_score(folder: Path) -> None:
    score(folder, "CAST(substr(id, 2) AS int)")
    tiers = Tiers("score", (0.5, 0.8))
    source = Source("pairs", str(folder / "pairs/pairs.jsonl"), None, str(folder / "s.parquet"), tiers)
    found = []
    for tier in range(3):
        part = Part(source, f"tier = {tier}", None, None, None, 1, "score")
        selection = make_selection(Mixture("m", (part,), 0, "refuse"), folder / "cache", folder / f"tier{tier}")
        found.append([selection.at(position)[1] for position in range(selection.length)])
    # Half of 12, then up to four fifths of them: 9.6, so the tenth value is the first that is not exceeded.
    assert found == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]
