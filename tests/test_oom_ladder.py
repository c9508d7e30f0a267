"""The out-of-memory ladder: what a rung may say, what it makes of a stage, and stages that really step down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from stepladder.attempts import ladder
from stepladder.curriculum import hf_args, rungs
from stepladder.curriculum.parse import load
from stepladder.data.positions import Stretch, positions
from stepladder.errors import CurriculumError, PlanError, Problem
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.planning.resolve import make_plan
from stepladder.preflight.machine import checked_plan
from stepladder.records.events import steps_down
from stepladder.records.journal import Journal
from stepladder_worker import seal
from stepladder_worker.contract import write_sealed
from support import check_names, plain_trainer, processes_of, stepladder, tiny_curriculum

BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
HALVED = {BATCH: 2, ACCUMULATION: "x2"}
ONE_BY_ONE = {BATCH: 1, ACCUMULATION: "x2"}


def planned(folder: Path, on_oom: Any, args: dict[str, Any] | None = None, **changes: Any) -> Plan:
    """The plan of three stages that take 4 x 3 samples a step, in images of six tiles."""
    file = tiny_curriculum(folder, args={"max_tiles": 6, **(args or {})}, on_oom=on_oom, **changes)
    return make_plan(load(str(file)).curriculum)


def refused(folder: Path, on_oom: Any, args: dict[str, Any] | None = None, **changes: Any) -> list[Problem]:
    with pytest.raises(CurriculumError) as error:
        planned(folder, on_oom, args, **changes)
    return list(error.value.problems)


def texts(problems: Iterable[Problem]) -> str:
    return "\n".join(f"{problem} | {problem.hint}" for problem in problems)


class TestArguments:
    def test_a_value_replaces_and_x2_multiplies_what_holds(self) -> None:
        args = {"max_tiles": 6, ACCUMULATION: 3}
        assert rungs.after(args, {"max_tiles": 4, ACCUMULATION: "x2"}) == {"max_tiles": 4, ACCUMULATION: 6}
        assert rungs.after({}, {ACCUMULATION: "x4"}) == {ACCUMULATION: 4}  # of transformers' default, 1
        assert rungs.after({"max_tiles": 6}, {"max_tiles": None}) == {}
        assert rungs.after({"max_tiles": "6"}, {"max_tiles": "x2"}) == {"max_tiles": 12}

    @pytest.mark.parametrize(
        ("args", "rung", "said"),
        [
            ({}, {"max_tiles": "x2"}, "which is not stated"),
            ({"max_tiles": 1.5}, {"max_tiles": "x2"}, "which is 1.5"),
            ({"max_tiles": True}, {"max_tiles": "x2"}, "which is True"),
            ({"max_tiles": 4}, {"max_tiles": "x1"}, "`x2` or more"),
            ({"max_tiles": 4}, {"max_tiles": "x0"}, "`x2` or more"),
        ],
    )
    def test_only_whole_numbers_are_multiplied(self, args: dict[str, Any], rung: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            rungs.after(args, rung)

    def test_rungs_add_up_and_what_changes_nothing_is_none(self) -> None:
        found = rungs.ladder({"max_tiles": 4, BATCH: 4}, [{"max_tiles": 4}, HALVED, {"max_tiles": 2}])
        assert found == [
            {"max_tiles": 4, BATCH: 2, ACCUMULATION: 2},
            {"max_tiles": 2, BATCH: 2, ACCUMULATION: 2},
        ]

    def test_a_default_that_is_stated_changes_nothing(self) -> None:
        assert rungs.ladder({}, [{BATCH: 8}, {ACCUMULATION: 1}, {"dataloader_num_workers": 0}]) == []


class TestPlan:
    def test_a_stage_on_every_rung(self, tmp_path: Path) -> None:
        stage = planned(tmp_path, [{"max_tiles": 4}, HALVED, ONE_BY_ONE]).stages[1]
        assert [rung.changes for rung in stage.rungs] == [
            ("max_tiles 6 -> 4",),
            (f"{BATCH} 4 -> 2", f"{ACCUMULATION} 3 -> 6"),
            (f"{BATCH} 2 -> 1", f"{ACCUMULATION} 6 -> 12"),
        ]
        last = stage.on_rung(3)
        assert (last.rung, last.batch.per_device, last.batch.accumulation) == (3, 1, 12)
        assert last.batch.samples == stage.batch.samples == 12
        assert last.in_force == {**stage.in_force, BATCH: 1, ACCUMULATION: 12}
        assert last.args == {**stage.args, "max_tiles": 4, BATCH: 1, ACCUMULATION: 12}
        words = ["--max_tiles", "4", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "12"]
        for argv in (last.argv, last.plain_argv, last.script_argv):
            assert [word for name in words[::2] for word in argv[argv.index(name) :][:2]] == words
        assert (last.end_step, last.curve, last.output_dir) == (stage.end_step, stage.curve, stage.output_dir)

    def test_as_planned_is_the_top_and_there_is_an_end(self, tmp_path: Path) -> None:
        stage = planned(tmp_path, [HALVED]).stages[0]
        assert stage.on_rung(0) is stage
        for wrong in (2, -1):
            with pytest.raises(IndexError):
                stage.on_rung(wrong)
        with pytest.raises(IndexError):
            stage.on_rung(1).on_rung(0)  # what is on a rung knows the top no more

    def test_a_stages_ladder_stands_instead_of_the_curriculums(self, tmp_path: Path) -> None:
        stages = [{"name": "a", "steps": 1}, {"name": "b", "steps": 1, "on_oom": None}]
        stages += [{"name": "c", "steps": 1, "on_oom": [{"max_tiles": 2}]}]
        plan = planned(tmp_path, [HALVED], stages=stages)
        assert [[rung.changes for rung in stage.rungs] for stage in plan.stages] == [
            [(f"{BATCH} 4 -> 2", f"{ACCUMULATION} 3 -> 6")],
            [],
            [("max_tiles 6 -> 2",)],
        ]

    def test_what_a_stage_switches_off(self, tmp_path: Path) -> None:
        off = {"name": "b", "steps": 1, "hang": None, "time_limit": None, "retries": {"limit": 1}}
        shared = {"retries": {"limit": 3, "pause": "1m"}, "hang": {"step": 50}, "time_limit": "2h30m"}
        first, second = planned(tmp_path, [], stages=[{"name": "a", "steps": 1}, off], **shared).stages
        assert first.hang is not None
        assert (first.retries.limit, first.retries.pause, first.hang.step, first.time_limit) == (3, 60, 50, 9000)
        assert (second.retries.limit, second.hang, second.time_limit) == (1, None, None)

    def test_a_plan_survives_json(self, tmp_path: Path) -> None:
        plan = planned(tmp_path, [{"max_tiles": 4}, HALVED], time_limit=60, hang=None)
        assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan

    def test_names_of_a_version_hold_on_every_rung(self, tmp_path: Path) -> None:
        file = tiny_curriculum(tmp_path, args={"evaluation_strategy": "no"}, on_oom=[HALVED])
        stage = make_plan(load(str(file)).curriculum, {"one": "5.23.0"}).stages[0]
        assert stage.rungs[0].args["eval_strategy"] == stage.args["eval_strategy"] == "no"


class TestChecks:
    def test_the_samples_of_a_step_stay_and_the_arithmetic_is_shown(self, tmp_path: Path) -> None:
        (problem,) = refused(tmp_path, [{BATCH: 2}], stages=[{"name": "one", "steps": 1}])
        assert "would take 2 x 3 x 1 = 6 samples a step, expected 4 x 3 x 1 = 12" in problem.text
        assert problem.hint == f"`{ACCUMULATION}: 6` beside `{BATCH}: 2` keeps them"
        line = int(problem.place.split(":")[-2])
        assert f'"{BATCH}": 2' in (tmp_path / "tiny.yaml").read_text().splitlines()[line - 1]

    def test_processes_are_counted(self, tmp_path: Path) -> None:
        found = refused(tmp_path, [{ACCUMULATION: "x2"}], launcher={"nproc_per_node": 2})
        assert "would take 4 x 6 x 2 = 48 samples a step, expected 4 x 3 x 2 = 24" in texts(found)

    def test_a_batch_that_nothing_keeps(self, tmp_path: Path) -> None:
        found = refused(tmp_path, [{BATCH: 3}], {BATCH: 4, ACCUMULATION: 2})
        assert f"{BATCH} must divide 8: 1, 2, 4" in texts(found)

    def test_a_later_rung_is_held_to_the_stage_too(self, tmp_path: Path) -> None:
        found = refused(tmp_path, [HALVED, {BATCH: 1, ACCUMULATION: "x3"}])
        assert "1 x 18 x 1 = 18" in texts(found)

    @pytest.mark.parametrize(
        "name", ["learning_rate", "weight_decay", "seed", "optim", "bf16", "lr_scheduler_type", "data", "data_mixture"]
    )
    def test_what_is_learned_is_not_changed(self, tmp_path: Path, name: str) -> None:
        value = {"optim": "sgd", "bf16": True, "lr_scheduler_type": "linear"}.get(name, 1)
        assert f"`{name}` in a rung of `on_oom`" in texts(refused(tmp_path, [{name: value}]))

    @pytest.mark.parametrize(
        ("rung", "said"),
        [
            ({"max_steps": 3}, "which Stepladder sets itself"),
            ({"per_device_train_batchsize": 1}, f"did you mean `{BATCH}`"),
            ({"max_tile": 4}, "did you mean `max_tiles`"),
            ({"--max_tiles": 4}, "is no name of an argument"),
            ({BATCH: 0}, "expected at least 1"),
            ({"max_tiles": 8}, "found 8 after 6 in stage `one`, expected 6 or less"),
            ({"deepspeed": "zero.json"}, "comes or goes"),
            ({}, "an empty rung"),
            ({"max_tiles": 6}, "the rung changes nothing"),
            ({"unheard_of": "x2"}, "which is not stated"),
        ],
    )
    def test_a_rung_that_cannot_be(self, tmp_path: Path, rung: dict[str, Any], said: str) -> None:
        assert said in texts(refused(tmp_path, [rung]))

    def test_everything_is_told_at_once_and_once(self, tmp_path: Path) -> None:
        found = refused(tmp_path, [{"seed": 3, "max_tile": 4}, {BATCH: 2}, {BATCH: 2}], args={"optm": "sgd"})
        assert all(word in texts(found) for word in ("`seed`", "`max_tiles`?", "the same rung", "`optim`?"))
        assert sum("max_tile" in problem.text for problem in found) == 1  # and not once a stage

    def test_a_shared_rung_may_be_idle_in_some_stages(self, tmp_path: Path) -> None:
        stages = [{"name": "a", "steps": 1}, {"name": "b", "steps": 1, "args": {"max_tiles": 4}}]
        plan = planned(tmp_path, [{"max_tiles": 4}, HALVED], stages=stages)
        assert [len(stage.rungs) for stage in plan.stages] == [2, 1]

    def test_what_fights_with_a_ladder(self, tmp_path: Path) -> None:
        found = refused(tmp_path, [HALVED], {"auto_find_batch_size": "yes", "dataloader_drop_last": 1})
        assert "auto_find_batch_size" in texts(found)
        assert "dataloader_drop_last" in texts(found)
        assert planned(tmp_path, [{"max_tiles": 4}], {"dataloader_drop_last": True}).stages[0].rungs

    @pytest.mark.parametrize("value", [True, "true", "Yes", "1", 1, "t", "full_shard", 16])
    def test_what_is_on(self, value: Any) -> None:
        assert hf_args.is_on(value)

    @pytest.mark.parametrize("value", [False, "false", "No", "0", 0, "f", "", None])
    def test_what_is_off(self, value: Any) -> None:
        assert not hf_args.is_on(value)

    def test_options_of_data_workers_go_with_them(self, tmp_path: Path) -> None:
        args = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 4}
        found = refused(tmp_path, [{"dataloader_num_workers": 0}], args)
        assert "add `dataloader_prefetch_factor: null` to the rung" in texts(found)
        rung = {"dataloader_num_workers": 0, "dataloader_prefetch_factor": None}
        assert "dataloader_prefetch_factor" not in planned(tmp_path, [rung], args).stages[0].rungs[0].args

    def test_an_engines_configuration_may_change(self, tmp_path: Path) -> None:
        zero = {"deepspeed": {"zero_optimization": {"stage": 2}}}
        offload = {"deepspeed": {"zero_optimization": {"stage": 3}}}
        assert planned(tmp_path, [offload], zero).stages[0].rungs[0].args["deepspeed"] == offload["deepspeed"]
        fsdp = {"fsdp": "full_shard", "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}}
        other = {"fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}
        assert "expected one for all rungs" in texts(refused(tmp_path, [other], fsdp))

    def test_a_configuration_that_only_a_rung_names_is_looked_for(self, tmp_path: Path) -> None:
        args = {"deepspeed": {"zero_optimization": {"stage": 2}}}
        file = tiny_curriculum(tmp_path, args=args, on_oom=[{"deepspeed": "offload.json"}])
        with pytest.raises(PlanError, match=r"no file offload\.json"):
            checked_plan(load(str(file)))

    @pytest.mark.parametrize("on_oom", ["x2", [3], {"max_tiles": 4}, [[]]])
    def test_a_ladder_of_another_shape(self, tmp_path: Path, on_oom: Any) -> None:
        assert "`on_oom`" in texts(refused(tmp_path, on_oom))


class TestWhereItStands:
    @pytest.fixture
    def stage(self, tmp_path: Path) -> PlannedStage:
        return planned(tmp_path, [HALVED, ONE_BY_ONE]).stages[1]

    def stepped(self, folder: Path, stage: PlannedStage, times: int) -> Journal:
        journal = Journal(folder / "journal.jsonl")
        for rung in range(1, times + 1):
            journal.append("stepped_down", **ladder.step_down(stage, rung, rung, 6 + rung, "out of memory"))
        return journal

    def test_the_journal_says_how_far(self, tmp_path: Path, stage: PlannedStage) -> None:
        journal = self.stepped(tmp_path, stage, 2)
        assert ladder.taken(journal.read(), stage) == 2
        assert ladder.where_it_stands(journal.read(), stage).batch.per_device == 1
        following = planned(tmp_path, [HALVED]).stages[2]
        assert ladder.where_it_stands(journal.read(), following) is following  # begins at its own top

    def test_setting_a_stage_aside_forgets_it(self, tmp_path: Path, stage: PlannedStage) -> None:
        journal = self.stepped(tmp_path, stage, 2)
        journal.append("set_aside", stages=[stage.name])
        assert ladder.taken(journal.read(), stage) == 0

    def test_a_ladder_cut_shorter_has_no_more_rungs(self, tmp_path: Path, stage: PlannedStage) -> None:
        journal = self.stepped(tmp_path, stage, 2)
        assert ladder.taken(journal.read(), planned(tmp_path, [HALVED]).stages[1]) == 1
        assert ladder.taken(journal.read(), planned(tmp_path, []).stages[1]) == 0

    def test_it_ends(self, stage: PlannedStage) -> None:
        assert [ladder.next_rung(stage, rung) for rung in (0, 1, 2)] == [1, 2, None]

    def test_what_is_said(self, stage: PlannedStage) -> None:
        event = ladder.step_down(stage, 1, 1, 57, "out of memory")
        changes = f"{BATCH} 4 -> 2, {ACCUMULATION} 3 -> 6"
        assert ladder.told(event) == f"stage two: stepped down at step 57: {changes}; samples a step 12 as planned"

    def test_the_hint_is_a_rung_that_would_pass(self, tmp_path: Path, stage: PlannedStage) -> None:
        alone = planned(tmp_path, []).stages[0]
        assert f"`- {{{BATCH}: 2, {ACCUMULATION}: x2}}`" in ladder.hint(alone, "device_memory")
        assert "`- {dataloader_num_workers: 1}`" in ladder.hint(alone, "shared_memory")
        assert "`on_oom:`" in ladder.hint(alone, "device_memory")
        assert "add a rung to `on_oom`, such as `- {gradient_checkpointing: true}`" in ladder.hint(
            stage.on_rung(2), "host_memory"
        )
        least = planned(tmp_path, [], {BATCH: 1, "gradient_checkpointing": True}).stages[0]
        assert "deepspeed" in ladder.hint(least, "device_memory")


def test_the_ledger_counts_the_same_samples_on_every_rung() -> None:
    """`data ledger` computes them from each attempt's own batch: over an epoch's end, 50 samples, 12 a step."""
    whole = list(positions(Stretch(1, 12, 0, 0, 50, span=4, accumulation=3)))
    first, second = Stretch(1, 3, 0, 0, 50, 4, 3), Stretch(4, 8, 0, 36, 50, 2, 6)
    third = Stretch(9, 12, 1, 36, 50, 1, 12)
    assert [*positions(first), *positions(second), *positions(third)] == whole


Steps = dict[int, list[int]]

#: Ladders of the two stages of the chain that is really trained.
CHAIN = [
    {"name": "one", "steps": 6, "on_oom": [{"dataloader_num_workers": 0}], "args": {"workers_from": 3}},
    {"name": "two", "steps": 7, "on_oom": [HALVED, ONE_BY_ONE]},
]


def drawn(path: Path) -> Steps:
    """The samples of every optimizer step, in the order in which they were trained."""
    found: Steps = {}
    for line in path.read_text("utf-8").splitlines():
        _, step, *samples = map(int, line.split())
        found.setdefault(step, []).extend(samples)
    return found


def hungry(folder: Path, fits: str, **changes: Any) -> Path:
    """A curriculum of a script that runs out of memory from a step on; see tests/scripts/hungry.py."""
    args = {"save_steps": 2, "drawn": "drawn.txt", "fits": fits, **changes.pop("args", {})}
    return tiny_curriculum(folder, "chain", "hungry.py", args=args, handover={"data": "continue"}, **changes)


def largest_difference(left: Path, right: Path) -> float:
    """Of the weights in two files, relative to the largest weight of each tensor."""
    from safetensors.torch import load_file

    ours, theirs = load_file(left), load_file(right)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in ours)


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages that stepped down, one rung and two, and a plain run over the same thirteen steps."""
    folder = tmp_path_factory.mktemp("ladder")
    curriculum = hungry(folder, "9:2,11:1", stages=CHAIN)
    done = stepladder("run", curriculum, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    plain_trainer(folder, "plain", 13, script="hungry.py", drawn="plain.txt", save_steps=6)
    return folder


class TestReallySteppingDown:
    def test_every_step_has_the_samples_of_the_plain_run(self, stepped: Path) -> None:
        """Over an epoch's end as well: 50 samples, 12 a step."""
        ours, plain = drawn(stepped / "drawn.txt"), drawn(stepped / "plain.txt")
        assert sorted(plain) == list(range(1, 14))
        assert ours == plain

    def test_data_workers_change_no_byte(self, stepped: Path) -> None:
        assert [event["changes"] for event in self.events(stepped, "one")] == [["dataloader_num_workers 2 -> 0"]]
        ours = stepped / "runs/chain/1-one/checkpoint-6/model.safetensors"
        assert ours.read_bytes() == (stepped / "plain/checkpoint-6/model.safetensors").read_bytes()

    def test_other_micro_batches_come_close(self, stepped: Path) -> None:
        ours = stepped / "runs/chain/2-two/model.safetensors"
        assert largest_difference(ours, stepped / "plain/model.safetensors") < 1e-4
        # And not by chance: one step earlier the weights are further away.
        before = stepped / "runs/chain/2-two/checkpoint-12/model.safetensors"
        assert largest_difference(before, stepped / "plain/model.safetensors") > 1e-4

    def test_the_journal_tells_where_and_why(self, stepped: Path) -> None:
        events = self.events(stepped, "two")
        assert [(event["attempt"], event["rung"], event["step"]) for event in events] == [(1, 1, 8), (2, 2, 10)]
        assert all(event["cause"] and event["samples"] == 12 for event in events)
        started = [event for event in self.read(stepped) if event["event"] == "attempt_started"]
        assert [(event["stage"], event["rung"]) for event in started] == [
            *(("one", 0), ("one", 1)),
            *(("two", 0), ("two", 1), ("two", 2)),
        ]

    def test_people_are_told(self, stepped: Path) -> None:
        lines = [
            "stage one: stepped down at step 2: dataloader_num_workers 2 -> 0; samples a step 12 as planned",
            f"stage two: stepped down at step 8: {BATCH} 4 -> 2, {ACCUMULATION} 3 -> 6; samples a step 12 as planned",
            f"stage two: stepped down at step 10: {BATCH} 2 -> 1, {ACCUMULATION} 6 -> 12; samples a step 12 as planned",
        ]
        shown = stepladder("status", "runs/chain", "--json", cwd=stepped)
        assert [line for stage in json.loads(shown.stdout)["stages"] for line in stage["stepped_down"]] == lines
        for said in ((stepped / "said.txt").read_text(), stepladder("status", "runs/chain", cwd=stepped).stdout):
            assert all(line in " ".join(said.split()) for line in lines)

    def test_every_attempt_is_held_to_its_own_rung(self, stepped: Path) -> None:
        document = self.verified(stepped)
        assert document["ok"]
        details = {check["name"]: check["detail"] for check in document["stages"][1]["checks"]}
        assert "2 rung(s) taken: from step 8" in details["hyper_parameters"]
        assert "4, 2, 1 sample(s), 12 a step throughout" in details["batches"]

    def test_a_step_down_that_the_journal_does_not_know(self, stepped: Path, tmp_path: Path) -> None:
        """Negative control: the journal is made anew without it, every line in its place and sealed."""
        folder = self.copied(stepped, tmp_path)
        path = folder / "runs/chain/journal.jsonl"
        events = Journal(path).read()
        path.unlink()
        for event in events:
            if event["event"] != "stepped_down":
                facts = {key: event[key] for key in event if key not in ("event", "time", "after", "line", "follows")}
                Journal(path).append(event["event"], **facts)
        document = self.verified(folder)
        assert check_names(document, "two")["evidence"] is False
        assert "no such step down" in json.dumps(document)

    def test_a_ladder_that_was_never_taken(self, stepped: Path, tmp_path: Path) -> None:
        """Negative control: the plan is made anew with another rung."""
        folder = self.copied(stepped, tmp_path)
        path = folder / "runs/chain/plan.json"
        plan = json.loads(path.read_text())
        plan.pop(seal.KEY, None)
        plan["stages"][1]["rungs"][0]["in_force"] |= {BATCH: 3, ACCUMULATION: 4}
        write_sealed(path, plan)
        document = self.verified(folder)
        assert check_names(document, "two")["evidence"] is False
        assert f"its task says {BATCH} 2, the plan 3" in json.dumps(document)

    def copied(self, stepped: Path, folder: Path) -> Path:
        shutil.copytree(stepped / "runs", folder / "runs")
        return folder

    def verified(self, folder: Path) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(stepladder("verify", "runs/chain", "--json", cwd=folder).stdout)
        return document

    def read(self, folder: Path) -> list[dict[str, Any]]:
        return Journal(folder / "runs/chain/journal.jsonl").read()

    def events(self, folder: Path, stage: str) -> list[dict[str, Any]]:
        return steps_down(self.read(folder), stage)


def test_the_ladders_end(tmp_path: Path) -> None:
    """Nothing fits: one attempt a rung, then the stage fails with the rung to add; `command` stays on the last one."""
    curriculum = hungry(tmp_path, "1:1", on_oom=[HALVED], stages=[{"name": "one", "steps": 3}])
    done = stepladder("run", curriculum, cwd=tmp_path)
    assert done.returncode == 3
    assert f"hint: add a rung to `on_oom`, such as `- {{{BATCH}: 1, {ACCUMULATION}: x2}}`" in done.stderr
    assert "Traceback" not in done.stderr.split("log:")[0]
    assert processes_of(tmp_path) == []
    events = Journal(tmp_path / "runs/chain/journal.jsonl").read()
    assert [event["rung"] for event in events if event["event"] == "attempt_started"] == [0, 1]
    command = stepladder("command", curriculum, "--stage", "one", cwd=tmp_path).stdout.replace("\\\n", "")
    assert f"--{BATCH} 2 --{ACCUMULATION} 6" in " ".join(command.split())
    task = json.loads((tmp_path / "runs/chain/attempts/1-one/3/task.json").read_text())
    assert task["rung"] == 1


@pytest.mark.full
def test_a_rung_that_is_added_is_taken_from_where_the_stage_stands(tmp_path: Path) -> None:
    stages = [{"name": "one", "steps": 3}]
    assert stepladder("run", hungry(tmp_path, "1:1", on_oom=[HALVED], stages=stages), cwd=tmp_path).returncode == 3
    longer = hungry(tmp_path, "1:1", on_oom=[HALVED, ONE_BY_ONE], stages=stages)
    done = stepladder("run", longer, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = Journal(tmp_path / "runs/chain/journal.jsonl").read()
    assert [event["rung"] for event in events if event["event"] == "attempt_started"] == [0, 1, 1, 2]
    other = hungry(tmp_path, "1:1", on_oom=[{"gradient_checkpointing": True}, ONE_BY_ONE, HALVED], stages=stages)
    assert stepladder("run", other, cwd=tmp_path).returncode == 2


@pytest.mark.full
def test_on_two_processes(tmp_path: Path) -> None:
    """48 samples, 24 a step: ranks share them anew on another rung, and every step has the same ones."""
    launcher = {"nproc_per_node": 2}
    stages = [{"name": "one", "steps": 9, "on_oom": [HALVED, ONE_BY_ONE]}]
    trained = {}
    for name, fits in (("disturbed", "3:2,7:1"), ("undisturbed", "")):
        folder = tmp_path / name
        folder.mkdir()
        done = stepladder(
            "run", hungry(folder, fits, args={"samples": 48}, stages=stages, launcher=launcher), cwd=folder
        )
        assert done.returncode == 0, done.stderr
        steps = drawn(folder / "drawn.txt")
        trained[name] = {step: sorted(samples) for step, samples in steps.items()}
    assert trained["disturbed"] == trained["undisturbed"]
    events = Journal(tmp_path / "disturbed/runs/chain/journal.jsonl").read()
    assert [event["step"] for event in steps_down(events, "one")] == [2, 6]
    ours, theirs = (tmp_path / name / "runs/chain/1-one/model.safetensors" for name in trained)
    assert largest_difference(ours, theirs) < 1e-4
