"""An edited curriculum: finished stages are frozen, the one that has begun may grow, later ones are free."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepladder.attempts.tasks import known_identity
from stepladder.curriculum.parse import load
from stepladder.editing import edits, past
from stepladder.editing.edit_history import curve_of
from stepladder.editing.edits import Standing, compare
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan
from stepladder.planning.resolve import make_plan
from stepladder.records.facts import collect
from stepladder.records.journal import Journal
from stepladder.records.status import plan_of
from stepladder.verify.stage import check_stage
from stepladder_worker.schedule import Curve
from support import stepladder, tiny_curriculum

STAGES = [{"name": "one", "steps": 5}, {"name": "two", "steps": 8}, {"name": "three", "steps": 11}]
#: Stage one is finished, stage two has made 4 of its 8 steps, stage three is still to come.
MIDDLE = {"one": Standing(True, 5), "two": Standing(False, 9), "three": Standing(False, None)}
DONE = {"one": Standing(True, 5), "two": Standing(True, 13), "three": Standing(True, 24)}


def planned(folder: Path, *stages: dict[str, Any], **changes: Any) -> Plan:
    """The plan of the tiny curriculum with other stages; as it is written down and read again."""
    file = tiny_curriculum(folder, stages=list(stages) or STAGES, **changes)
    return Plan.from_json(make_plan(load(str(file)).curriculum, {}, "python").to_json())


def stages(**by_name: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The three stages with changes by name; None takes one out."""
    return [
        {**stage, **(by_name.get(stage["name"]) or {})}
        for stage in STAGES
        if by_name.get(stage["name"], {}) is not None
    ]


def texts(edit: edits.Edit) -> list[str]:
    return [str(problem) for problem in edit.problems]


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        (stages(three={"steps": 20}), ["stage three: steps 11 -> 20"]),
        (stages(three={"args": {"seed": 7}}), ["stage three: args.seed (not given) -> 7"]),
        (stages(three={"name": "last"}),
         ["stage last: stage (none) -> added, 11 steps", "stage three: stage 11 steps -> removed"]),
        (stages(three=None), ["stage three: stage 11 steps -> removed"]),
        ([*STAGES, {"name": "four", "steps": 2}], ["stage four: stage (none) -> added, 2 steps"]),
        ([*STAGES[:2], {"name": "four", "steps": 2}, STAGES[2]],
         ["stage four: stage (none) -> added, 2 steps", "stage three: position 3 -> 4"]),
        (stages(two={"steps": 9}), ["stage two: steps 8 -> 9"]),
        (stages(two={"steps": 5}), ["stage two: steps 8 -> 5"]),
        (stages(one={"env": {"HF_TOKEN": "hf_secret_value"}}), ["stage one: env.HF_TOKEN (not given) -> ***"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_free_is_shown(tmp_path: Path, changed: list[dict[str, Any]], shown: list[str]) -> None:
    edit = compare(planned(tmp_path), planned(tmp_path, *changed), MIDDLE)
    assert texts(edit) == []
    assert [str(item) for item in edit.differences] == shown


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        (stages(one={"steps": 6}), "stage one: is finished; its `steps` was 5, now 6"),
        (stages(one={"args": {"seed": 7}}), "stage one: is finished; its `args.seed` was (not given), now 7"),
        (stages(one={"handover": {"data": "continue"}}),
         "stage one: is finished; its `handover.data` was fresh, now continue"),
        (stages(one={"trainable": ["*"]}), "stage one: is finished; its `trainable` was (not given), now *"),
        (stages(one={"name": "uno"}), "stage one: is finished; its `name` was one, now uno"),
        (stages(one=None), "stage one: is finished; its `name` was one, now two"),
        ([{"name": "zero", "steps": 1}, *STAGES], "stage one: is finished; its `position` was 1, now 2"),
        ([STAGES[1], STAGES[0], STAGES[2]], "stage one: is finished; its `position` was 1, now 2"),
        (stages(two={"steps": 4}), "stage two: has begun (checkpoint-9); its `steps` was 8, 4 of them made, now 4"),
        (stages(two={"steps": 3}), "stage two: has begun (checkpoint-9); its `steps` was 8, 4 of them made, now 3"),
        (stages(two={"args": {"weight_decay": 0.5}}),
         "stage two: has begun (checkpoint-9); its `args.weight_decay` was 0.01, now 0.5"),
        (stages(two={"args": {"data_mixture": "second"}}),
         "stage two: has begun (checkpoint-9); its `args.data_mixture` was (not given), now second"),
        (stages(two={"name": "zwei"}), "stage two: has begun (checkpoint-9); its `name` was two, now zwei"),
        (stages(two=None), "stage two: has begun (checkpoint-9); its `name` was two, now three"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_rewrites_the_past_is_refused(tmp_path: Path, changed: list[dict[str, Any]], refused: str) -> None:
    edit = compare(planned(tmp_path), planned(tmp_path, *changed), MIDDLE)
    assert any(text.startswith(refused) for text in texts(edit)), texts(edit)
    # What a fork can begin after is named; where nothing is left as it was, that is said.
    hint = edit.problems[0].hint or ""
    assert "--fork NEW_NAME" in hint
    assert ("from the end of stage one" in hint) == (edit.agreeing == 1) == ("stage two" in refused)


def test_nothing_edited_is_nothing_to_say(tmp_path: Path) -> None:
    edit = compare(planned(tmp_path), planned(tmp_path), MIDDLE)
    assert (edit.differences, edit.problems, edit.curves, edit.jump, edit.agreeing) == ((), (), {}, None, 1)


@pytest.mark.parametrize("spelled", ["./runs/tiny", "runs/../runs/tiny", "{folder}/runs/tiny", "linked/tiny"])
def test_the_same_places_spelled_otherwise_are_no_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    for name in ("runs", "base"):
        (tmp_path / name).mkdir()
    (tmp_path / "linked").symlink_to("runs")
    monkeypatch.chdir(tmp_path)
    recorded = planned(tmp_path, model_name_or_path="base")
    script = os.path.relpath(recorded.stages[0].script)
    again = {"output_dir": spelled.format(folder=tmp_path), "model_name_or_path": "./base", "script": script}
    edit = compare(recorded, planned(tmp_path, **again), MIDDLE)
    assert (texts(edit), edit.differences) == ([], ())
    for elsewhere in ({"output_dir": "runs/other"}, {"model_name_or_path": "other"}, {"script": "other.py"}):
        assert texts(compare(recorded, planned(tmp_path, **{**again, **elsewhere}), MIDDLE))


def test_other_schedules_are_refused_for_a_begun_stage_only(tmp_path: Path) -> None:
    recorded, now = planned(tmp_path), planned(tmp_path, schedule="stage")
    assert "`learning-rate curve`" in texts(compare(recorded, now, MIDDLE))[0]
    finished = {**MIDDLE, "two": Standing(True, 13)}
    edit = compare(recorded, now, finished)
    assert texts(edit) == []
    assert [str(item) for item in edit.differences] == ["schedule run -> stage"]
    assert [stage.curve for stage in edit.plan.stages] == [
        *(stage.curve for stage in recorded.stages[:2]),
        now.stages[2].curve,
    ]


class TestCurves:
    """Under `schedule: run` the steps of a later stage change the curve of all."""

    def test_a_finished_stage_keeps_its_curve(self, tmp_path: Path) -> None:
        recorded, now = planned(tmp_path), planned(tmp_path, *stages(three={"steps": 30}))
        edit = compare(recorded, now, {**MIDDLE, "two": Standing(True, 13)})
        one, two, three = edit.plan.stages
        assert (one.curve, one.lr_end) == (recorded.stages[0].curve, recorded.stages[0].lr_end)
        assert two.curve == recorded.stages[1].curve != now.stages[1].curve
        assert three.curve == now.stages[2].curve
        assert edit.curves == {}
        before, after = recorded.stages[2].lr_start, now.stages[2].lr_start
        assert edit.jump == f"the learning rate of step 14 was planned as {before:.3g}, now it is {after:.3g}"

    def test_a_begun_stage_has_another_curve_from_its_checkpoint_on(self, tmp_path: Path) -> None:
        recorded, now = planned(tmp_path), planned(tmp_path, *stages(two={"steps": 20}))
        edit = compare(recorded, now, MIDDLE)
        assert edit.curves == {"two": (recorded.stages[1].curve, now.stages[1].curve)}
        assert edit.jump is not None
        assert edit.jump.startswith("the learning rate of step 10 was planned as ")

    @pytest.mark.parametrize("kind", ["constant", "constant_with_warmup"])
    def test_constant_curves_do_not_jump(self, tmp_path: Path, kind: str) -> None:
        args = {"lr_scheduler_type": kind}
        recorded, now = planned(tmp_path, args=args), planned(tmp_path, *stages(three={"steps": 30}), args=args)
        assert compare(recorded, now, MIDDLE).jump is None

    def test_a_stage_after_the_end_jumps_from_where_the_curve_ended(self, tmp_path: Path) -> None:
        edit = compare(planned(tmp_path), planned(tmp_path, *STAGES, {"name": "four", "steps": 6}), DONE)
        assert edit.problems == ()
        assert edit.jump is not None
        assert edit.jump.startswith("the learning rate of step 25 was planned as 0, now it is ")


class TestJournal:
    """The curve that an attempt must have followed is that of the time when it started."""

    A, B, C = (Curve("linear", 1e-3, 0, total) for total in (10, 20, 30))

    def edited(self, before: Curve, now: Curve) -> dict[str, Any]:
        return {"event": "edited", "curves": {"two": {"before": before.to_dict(), "now": now.to_dict()}}}

    def started(self, attempt: int, stage: str = "two") -> dict[str, Any]:
        return {"event": "attempt_started", "stage": stage, "attempt": attempt}

    def test_each_attempt_has_its_own(self) -> None:
        events = [
            *(self.started(1), self.edited(self.A, self.B), self.started(2), self.started(3, "three")),
            *(self.edited(self.B, self.C), self.started(3)),
        ]
        assert [curve_of(events, "two", attempt, self.C) for attempt in (1, 2, 3)] == [self.A, self.B, self.C]

    def test_an_edit_said_twice_or_taken_back_changes_nothing(self) -> None:
        again = [self.started(1), self.edited(self.A, self.B), self.edited(self.A, self.B), self.started(2)]
        assert [curve_of(again, "two", attempt, self.B) for attempt in (1, 2)] == [self.A, self.B]

    @pytest.mark.parametrize("curves", [None, 1, {"two": 1}, {"two": {"before": 1}}, {"two": {"before": {"x": 1}}}])
    def test_what_is_no_curve_is_passed_over(self, curves: Any) -> None:
        assert curve_of([self.started(1), {"event": "edited", "curves": curves}], "two", 1, self.B) == self.B


def growing(folder: Path, steps: int, trouble: int = 0, **more: Any) -> Path:
    """One stage of so many steps, whose script fails at step `trouble`."""
    args = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 0, "save_steps": 2, "warmup_steps": 0}
    fault = {"trouble": "raise" if trouble else "none", "trouble_step": trouble}
    stage = {"name": "only", "steps": steps, "args": {**fault, **more}}
    return tiny_curriculum(folder, "growing", "troubled.py", args=args, stages=[stage])


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose only stage fails at step 3 of 4, and is then made longer, which gives it another curve."""
    folder = tmp_path_factory.mktemp("grown")
    failed = stepladder("run", growing(folder, 4, trouble=3), cwd=folder)
    assert failed.returncode == 3, failed.stderr
    done = stepladder("run", growing(folder, 7), cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stderr)
    return folder


class TestRun:
    """A stage that has begun is given more steps under `schedule: run`, which changes its curve on the way."""

    RUN = "runs/growing"

    def copy(self, grown: Path, tmp_path: Path) -> Path:
        shutil.copytree(grown, tmp_path / "copy")
        return tmp_path / "copy"

    def learning_rate(self, folder: Path) -> tuple[bool, str]:
        with contextlib.chdir(folder):
            directory = RunDirectory(Path(self.RUN))
            verdict = check_stage(collect(directory, plan_of(directory).stages, deep=False)[0])
        found = next(check for check in verdict.checks if check.name == "learning_rate")
        return found.ok, found.detail

    def rewrite_journal(self, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """The journal made anew, so that its lines follow one another."""
        journal = Journal(folder / self.RUN / "journal.jsonl")
        events = journal.read()
        journal.path.unlink()
        for event in filter(None, map(change, events)):
            kept = {
                key: event[key] for key in event if key not in ("event", "time", "after", "seal", "line", "follows")
            }
            journal.append(event["event"], **kept)

    def test_the_difference_is_shown_and_recorded(self, grown: Path) -> None:
        said = (grown / "said.txt").read_text()
        assert "stage only: steps 4 -> 7" in said
        before, now = Curve("cosine", 1e-3, 0, 4).lr(2), Curve("cosine", 1e-3, 0, 7).lr(2)
        assert (
            f"the learning rate of step 3 was planned as {before:.3g}, now it is {now:.3g}".replace("e-0", "e-") in said
        )
        events = Journal(grown / self.RUN / "journal.jsonl").read()
        edited = next(event for event in events if event["event"] == "edited")
        assert {"stage": "only", "field": "steps", "before": "4", "now": "7"} in edited["differences"]
        assert [curve["total_steps"] for curve in edited["curves"]["only"].values()] == [4, 7]

    def test_every_attempt_is_held_to_the_curve_of_its_time(self, grown: Path) -> None:
        """Eight steps, since the third was trained twice: the first time before the edit."""
        assert self.learning_rate(grown) == (True, "as planned in all 8 steps; the curve was edited from step 3 on")
        for number, total in ((1, 4), (2, 7)):
            result = json.loads((grown / self.RUN / f"attempts/1-only/{number}/result.json").read_text())
            curve = Curve("cosine", 1e-3, 0, total)
            assert all(rate == curve.lr(step - 1) for step, rate in result["evidence"]["lr"]["logged"])

    def test_without_the_edit_in_the_journal_the_rates_are_wrong(self, grown: Path, tmp_path: Path) -> None:
        copy = self.copy(grown, tmp_path)
        self.rewrite_journal(copy, lambda event: None if event["event"] == "edited" else event)
        assert self.learning_rate(copy) == (False, "attempt 1 was given a curve that was not planned when it started")

    def test_an_edit_put_in_makes_no_rate_right(self, grown: Path, tmp_path: Path) -> None:
        """After the last attempt: then that would have followed the curve before it."""
        copy = self.copy(grown, tmp_path)
        curves = {
            "only": {"before": Curve("cosine", 1e-3, 0, 9).to_dict(), "now": Curve("cosine", 1e-3, 0, 7).to_dict()}
        }
        Journal(copy / self.RUN / "journal.jsonl").append("edited", differences=[], curves=curves)
        ok, detail = self.learning_rate(copy)
        assert not ok
        assert "an edit of the curve after the stage was finished" in detail

    def test_a_finished_stage_is_not_made_longer(self, grown: Path, tmp_path: Path) -> None:
        copy = self.copy(grown, tmp_path)
        refused = stepladder("run", growing(copy, 9), cwd=copy)
        assert refused.returncode == 2
        assert "stage only: is finished; its `steps` was 7, now 9" in refused.stderr
        foretold = stepladder("plan", growing(copy, 9), cwd=copy)
        assert foretold.returncode == 0
        assert "warning: `run` refuses this: stage only: is finished; its `steps` was 7, now 9" in foretold.stderr
        free = stepladder("plan", growing(copy, 7), "--set", "env.SHOWN=1", cwd=copy)
        assert "stage only: env.SHOWN (not given) -> 1" in free.stderr
        assert "hint: take the change back" in refused.stderr
        assert self.learning_rate(copy)[0]

    def standing(self, folder: Path) -> Standing:
        with contextlib.chdir(folder):
            directory = RunDirectory(Path(self.RUN))
            return past.standings(directory, known_identity(directory), plan_of(directory))["only"]

    def test_a_finished_stage_whose_end_is_away_is_still_finished(self, grown: Path, tmp_path: Path) -> None:
        """With an argument of the script's own, which a stage that has only begun may change."""
        copy = self.copy(grown, tmp_path)
        end = copy / self.RUN / "1-only/checkpoint-7"
        end.rename(end.with_name("away"))
        recorded = [copy / self.RUN / name for name in ("journal.jsonl", "plan.json", "curriculum.yaml")]
        before = [path.read_bytes() for path in recorded]
        refused = stepladder("run", growing(copy, 7, trouble_text="other"), cwd=copy)
        assert refused.returncode == 2, refused.stderr
        assert "stage only: is finished; its `args.trouble_text` was (not given), now other" in refused.stderr
        assert [path.read_bytes() for path in recorded] == before

    def test_only_an_end_that_held_is_one(self, grown: Path, tmp_path: Path) -> None:
        """A kill between the record and the manifest leaves a result that says complete, and no finished stage."""
        copy = self.copy(grown, tmp_path)
        (copy / self.RUN / "1-only/checkpoint-7/stepladder.json").unlink()
        assert self.standing(copy) == Standing(True, 6)
        self.rewrite_journal(copy, lambda event: None if event["event"] == "stage_verified" else event)
        assert self.standing(copy) == Standing(False, 6)

    def test_an_end_that_was_launched_again_or_set_aside_is_none(self, grown: Path, tmp_path: Path) -> None:
        copy = self.copy(grown, tmp_path)
        (copy / self.RUN / "1-only/checkpoint-7/stepladder.json").unlink()
        journal = Journal(copy / self.RUN / "journal.jsonl")
        journal.append("attempt_started", stage="only", attempt=3)
        assert self.standing(copy) == Standing(False, 6)
        with contextlib.chdir(copy):
            directory = RunDirectory(Path(self.RUN))
            past.set_aside(directory, plan_of(directory), "only")
        assert self.standing(copy) == Standing(False, None)

    def test_a_plan_that_cannot_be_read_is_no_licence(self, grown: Path, tmp_path: Path) -> None:
        copy = self.copy(grown, tmp_path)
        (copy / self.RUN / "plan.json").write_text("{")
        refused = stepladder("run", growing(copy, 9), cwd=copy)
        assert refused.returncode == 2
        assert "so what was trained cannot be compared" in refused.stderr
