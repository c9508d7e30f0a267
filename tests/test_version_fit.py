"""Versions of transformers that cannot go on from one another, or are too old, are named before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stepladder.curriculum.spec import Curriculum
from stepladder.planning.plan import Plan
from stepladder.planning.resolve import make_plan
from stepladder.preflight import version_fit


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(first: str | None, second: str | None) -> Plan:
    written = {
        "name": "x",
        "model_name_or_path": "base",
        "output_dir": "out",
        "args": {"learning_rate": 1e-3},
        "stages": [{"name": "a", "steps": 2}, {"name": "b", "steps": 2, "python": "old/bin/python"}],
    }
    return make_plan(Curriculum.model_validate(written), {"a": first, "b": second})


def refused(plan: Plan, kept: int = 2) -> list[str]:
    return [finding.text for finding in version_fit.findings(plan, plan.stages[:kept])]


@pytest.mark.parametrize(
    ("first", "second"), [("4.46.3", "4.49.0"), ("4.49.0", "5.23.0"), ("5.23.0", "5.22.1"), (None, "4.46.3")]
)
def test_versions_that_read_one_another_pass(first: str | None, second: str) -> None:
    assert refused(planned(first, second)) == []


def test_a_key_that_the_older_one_does_not_know_is_named() -> None:
    (text,) = refused(planned("4.50.3", "4.49.0"))
    assert text == (
        "stage `b` has transformers 4.49.0 and starts from the checkpoint of 4.50.3, whose `best_global_step` it does "
        "not know, expected 4.50.3 or newer"
    )


def test_a_later_series_is_refused() -> None:
    (text,) = refused(planned("5.23.0", "4.57.1"))
    assert "a later series" in text


def test_what_is_too_old_for_the_hooks_is_refused_with_the_reason() -> None:
    (finding,) = version_fit.findings(plan := planned("4.37.2", "4.46.3"), plan.stages)
    assert "has transformers 4.37.2, expected 4.41 or newer" in finding.text
    assert "no checkpoint at the end" in str(finding.hint)


def test_a_checkpoint_that_a_newer_one_left_is_named() -> None:
    """The environment of a stage was taken back to an older version after the stage had begun."""
    checkpoint = Path("out/2-b/checkpoint-3")
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
    assert refused(planned("4.46.3", "4.46.3")) == []
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 3, "best_global_step": None}))
    (text,) = refused(planned("4.46.3", "4.46.3"))
    assert text.startswith("out/2-b/checkpoint-3 was written by transformers 4.50 or newer: stage `b` has 4.46.3")
    assert refused(planned("4.46.3", "4.46.3"), kept=1) == [], "a stage that is set aside is not looked at"
    assert refused(planned("4.46.3", "5.23.0")) == []
