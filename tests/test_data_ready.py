"""A stage keeps the data it began with, whatever happens to the files between its attempts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selecting import reference_file
from stepladder.curriculum.parse import load
from stepladder.data.ready import make_ready
from stepladder.data.selection import read_selection
from stepladder.errors import PlanError
from stepladder.planning.plan import Plan
from stepladder.preflight.machine import checked_plan
from stepladder.records.journal import Journal

STAGES = [
    {"name": "a", "steps": 2, "data": "mine"},
    {"name": "b", "steps": 2, "data": "mine", "handover": {"data": "continue"}},
]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two stages on one mixture of 60 samples; the first one's data are ready."""
    monkeypatch.chdir(tmp_path)
    reference_file(tmp_path, 60)
    plan = planned()
    make_ready(plan, plan.stages[0], begun=False, journal=journal())
    return plan


def planned(dataset: str = "pairs", **changes: Any) -> Plan:
    part = {"dataset": dataset, "where": "not meta.is_neg", **changes}
    data = {"cache": "cache", "datasets": {dataset: {"path": "all.jsonl"}}, "mixtures": {"mine": [part]}}
    text = {"name": "c", "model_name_or_path": "model", "output_dir": "run", "args": {"learning_rate": 1e-3}}
    Path("c.yaml").write_text(json.dumps({**text, "data": data, "stages": STAGES}), "utf-8")
    return checked_plan(load("c.yaml", ()), look_at_files=False)


def journal() -> Journal:
    return Journal(Path("run/journal.jsonl"))


def edit_in_place() -> None:
    """Another answer of the same length, in the same file, with the time of modification put back."""
    path = Path("all.jsonl")
    before, text = path.stat(), path.read_bytes()
    at = text.index(b"[(0.")
    with path.open("r+b") as file:
        file.seek(at + 4)
        file.write(b"9" if text[at + 4 : at + 5] != b"9" else b"8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_unchanged_data_are_kept(plan: Plan) -> None:
    make_ready(plan, plan.stages[0], begun=True, journal=journal())
    make_ready(plan, plan.stages[1], begun=False, journal=journal())
    assert [event["stage"] for event in journal().read()] == ["a", "b"]


def test_an_edit_that_hides_its_time_is_noticed(plan: Plan) -> None:
    time.sleep(2.1)  # until the file is old enough for its size and time to be trusted
    make_ready(plan, plan.stages[0], begun=True, journal=journal())
    assert len(list(Path("cache/contents").iterdir())) == 1
    before = read_selection(Path("run/data/1-a")).fingerprint
    edit_in_place()
    with pytest.raises(PlanError, match="are not those it began with"):
        make_ready(plan, plan.stages[0], begun=True, journal=journal())
    assert read_selection(Path("run/data/1-a")).fingerprint == before


def test_without_its_selection_the_journal_says_what_a_stage_began_with(plan: Plan) -> None:
    Path("run/data/1-a/selection.json").unlink()
    make_ready(plan, plan.stages[0], begun=True, journal=journal())
    Path("run/data/1-a/selection.json").unlink()
    edit_in_place()
    with pytest.raises(PlanError, match="are not those it began with"):
        make_ready(plan, plan.stages[0], begun=True, journal=journal())


def test_a_position_is_not_carried_over_into_other_data(plan: Plan) -> None:
    edit_in_place()
    with pytest.raises(PlanError, match="continues the data of stage a, which are not the same any more"):
        make_ready(plan, plan.stages[1], begun=False, journal=journal())


def test_rows_that_were_changed_are_selected_again(plan: Plan) -> None:
    rows = Path("run/data/1-a/part_0.npy")
    before = np.load(rows)
    np.save(rows, np.roll(before, 1))
    make_ready(plan, plan.stages[0], begun=True, journal=journal())
    assert np.array_equal(np.load(rows), before)


def test_a_dataset_of_another_name_is_selected_anew(plan: Plan) -> None:
    again = planned("renamed", fraction=0.5)
    make_ready(again, again.stages[0], begun=False, journal=journal())
    assert read_selection(Path("run/data/1-a")).parts[0].dataset == "renamed"
