"""The trainable set changes between stages: state travels by parameter name, what is frozen keeps its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from shared import once
from support import ENVIRONMENT, SCRIPTS, TINY_ARGS, check_names, plain_trainer, stepladder, tiny_curriculum

#: The head is new in stage two; layer 1 is frozen there and thawed in stage three.
FREEZING = [
    {"name": "one", "steps": 5, "trainable": ["*", "!lm_head.*"]},
    {"name": "two", "steps": 8, "trainable": ["*", "!model.layers.1.*"]},
    {"name": "three", "steps": 11, "trainable": ["*"]},
]
#: The same by hand: steps at which one uninterrupted run freezes what has this text in its name.
SWITCHED = "0:lm_head 5:layers.1. 13:"
#: Layers of the same shapes, so that moments by position would fit the wrong one.
SWAPPED = [
    {"name": "one", "steps": 5, "trainable": ["model.layers.0.*"]},
    {"name": "two", "steps": 8, "trainable": ["model.layers.1.*"]},
    {"name": "three", "steps": 11, "trainable": ["model.layers.0.*"]},
]
THAWED = "model.layers.1.mlp.up_proj.weight"


def run(folder: Path, stages: list[dict[str, Any]], script: str = "freezing.py", *options: str, **changes: Any) -> Any:
    curriculum = tiny_curriculum(
        folder, "tiny", script, **{"stages": stages, "handover": {"data": "continue"}, **changes}
    )
    return stepladder("run", curriculum, *options, cwd=folder)


def weights(folder: Path, stage: str = "3-three/model.safetensors") -> bytes:
    return (folder / "runs/tiny" / stage).read_bytes()


def evidence(folder: Path, stage: str, attempt: int = 1) -> dict[str, Any]:
    path = folder / f"runs/tiny/attempts/{stage}/{attempt}/result.json"
    return dict(json.loads(path.read_text())["evidence"])


def details(folder: Path, stage: str) -> dict[str, str]:
    document = json.loads(stepladder("verify", "runs/tiny", "--json", cwd=folder).stdout)
    entry = next(entry for entry in document["stages"] if entry["name"] == stage)
    assert all(check["ok"] for check in entry["checks"]), entry
    return {check["name"]: check["detail"] for check in entry["checks"]}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:

    def train(folder: Path) -> None:
        done = run(folder, FREEZING)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "freezing", train)


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One uninterrupted run of a plain Trainer that freezes and thaws at the same steps."""
    folder = tmp_path_factory.mktemp("switched")
    return plain_trainer(folder, "out", 24, script="freezing.py", switch=SWITCHED).read_bytes()


def test_freezing_and_thawing_equals_one_run(chain: Path, switched: bytes) -> None:
    assert weights(chain) == switched


def test_what_is_frozen_when_reaches_the_bytes(tmp_path: Path, switched: bytes) -> None:
    """Negative control: the same run with the thaw one step later."""
    late = plain_trainer(tmp_path, "out", 24, script="freezing.py", switch=SWITCHED.replace("13:", "14:"))
    assert late.read_bytes() != switched


def test_parked_state_is_that_of_the_stage_before_last(chain: Path) -> None:
    one, two, three = (evidence(chain, stage) for stage in ("1-one", "2-two", "3-three"))
    assert two["start"]["parked"][THAWED] == {
        "moments": one["end"]["moments"][THAWED],
        "counter": one["end"]["counters"][THAWED],
    }
    assert three["start"]["moments"][THAWED] == one["end"]["moments"][THAWED]
    counters = [record["counters"].get(THAWED) for record in (one["end"], three["start"], three["end"])]
    assert counters == [5, 5, 16]
    assert two["end"]["weights"][THAWED] == one["end"]["weights"][THAWED]
    assert "lm_head.weight" not in two["start"]["counters"]
    assert two["end"]["counters"]["lm_head.weight"] == 8
    saved = torch.load(chain / "runs/tiny/2-two/checkpoint-13/stepladder_parked.pt", weights_only=True)
    assert sorted(saved) == sorted(two["end"]["parked"])
    assert not (chain / "runs/tiny/3-three/checkpoint-24/stepladder_parked.pt").exists()


def test_what_happened_is_said_and_recorded_by_count(chain: Path) -> None:
    log = (chain / "runs/tiny/2-two/stage_two_full.log").read_text()
    assert "stepladder: optimizer: 11 moments carried, 1 new, 9 parked, 0 thawed" in log
    assert "stepladder: trainable: 12 parameters of 14,432 values, 9 of 10,304 frozen" in log
    assert details(chain, "two")["trainable"] == "12 parameters trained, 9 frozen and unmoved"
    assert "11 moments carried, 1 new, 9 parked, 0 thawed" in details(chain, "two")["optimizer"]
    assert "12 moments carried, 0 new, 0 parked, 9 thawed" in details(chain, "three")["optimizer"]
    plan = stepladder("plan", "tiny.yaml", "--no-files", cwd=chain).stdout
    assert "trainable * !lm_head.* -> * !model.layers.1.*" in " ".join(plan.split())


@pytest.mark.full
def test_all_trainable_is_the_plain_run(healthy_chain: Path, tmp_path: Path) -> None:
    """Stating everything changes nothing; a stage without a statement leaves it to the script."""
    stages = [
        {"name": "one", "steps": 5},
        {"name": "two", "steps": 8, "trainable": ["lm_head*", "model*"]},
        {"name": "three", "steps": 11, "trainable": None},
    ]
    done = run(tmp_path, stages, trainable=["*"])
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path) == weights(healthy_chain)
    assert "moments carried" not in (tmp_path / "runs/tiny/2-two/stage_two_full.log").read_text()
    assert evidence(tmp_path, "3-three")["trainable"]["patterns"] is None


@pytest.mark.full
def test_swapped_layers_of_equal_shapes_are_not_confused(tmp_path: Path) -> None:
    done = run(tmp_path, SWAPPED)
    assert done.returncode == 0, done.stderr
    switch = "0:=layers.0. 5:=layers.1. 13:=layers.0."
    plain = plain_trainer(tmp_path, "once", 24, script="freezing.py", switch=switch)
    assert weights(tmp_path) == plain.read_bytes()
    assert set(evidence(tmp_path, "3-three")["start"]["counters"].values()) == {5}


@pytest.mark.full
def test_by_position_they_are_confused(tmp_path: Path) -> None:
    """Negative control, trap 5: a plain Trainer takes the moments of one layer for those of the other, silently."""
    plain_trainer(tmp_path, "one", 5, script="freezing.py", frozen="=layers.0.", save_steps=5)
    layer_1 = {"frozen": "=layers.1.", "model_name_or_path": "one", "resume_from_checkpoint": "one/checkpoint-5"}
    plain_trainer(tmp_path, "two", 13, script="freezing.py", save_steps=13, **layer_1)
    state = torch.load(tmp_path / "two/checkpoint-13/optimizer.pt", weights_only=True)["state"]
    assert {float(entry["step"]) for entry in state.values()} == {13}


def test_other_groups_take_the_state_by_name(tmp_path: Path) -> None:
    """Two groups (decay, no decay), then one: the order of the optimizer's parameters changes, the numbers do not."""
    args = {"weight_decay": 0.0}
    stages = [{"name": "one", "steps": 5}, {"name": "two", "steps": 8, "args": {"groups": 1}}]
    done = run(tmp_path, stages, args=args)
    assert done.returncode == 0, done.stderr
    names = [evidence(tmp_path, stage)["start"]["optimizer_names"] for stage in ("1-one", "2-two")]
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    plain = plain_trainer(tmp_path, "plain", 13, script="freezing.py", **args)
    assert weights(tmp_path, "2-two/checkpoint-13/model.safetensors") == plain.read_bytes()


def test_parked_state_survives_a_crash(tmp_path: Path, chain: Path) -> None:
    """The second stage ends in the state of the chain that nothing hit, what it parks included."""
    killed = [FREEZING[0], {**FREEZING[1], "args": {"kill": 9}}, FREEZING[2]]
    args = {"save_steps": 2, "save_total_limit": 1}
    failed = run(tmp_path, killed, args=args)
    assert failed.returncode == 3, failed.stderr
    done = run(tmp_path, FREEZING, "freezing.py", "--stage", "two", args=args)
    assert done.returncode == 0, done.stderr
    again = evidence(tmp_path, "2-two", 2)
    assert again["steps"]["first"] == 9
    assert len(again["start"]["parked"]) == 9
    assert len(again["end"]["parked"]) == 9
    assert again["end"] == evidence(chain, "2-two")["end"], "weights, moments, counters, parked and random state"


@pytest.mark.full
def test_two_processes(tmp_path: Path) -> None:
    args = {"per_device_train_batch_size": 2, "ddp_find_unused_parameters": True, "dataloader_num_workers": 0}
    done = run(tmp_path, FREEZING, args=args, launcher={"nproc_per_node": 2})
    assert done.returncode == 0, done.stderr
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    plain = {**TINY_ARGS, **args, "max_steps": 24, "output_dir": "plain", "save_steps": 10_000, "switch": SWITCHED}
    argv += [str(SCRIPTS / "freezing.py"), *(text for key, value in plain.items() for text in (f"--{key}", str(value)))]
    alone = subprocess.run(argv, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert alone.returncode == 0, alone.stderr
    assert weights(tmp_path) == (tmp_path / "plain/model.safetensors").read_bytes()


@pytest.mark.full
def test_a_scripts_own_freezing_travels_by_name_as_well(tmp_path: Path, switched: bytes) -> None:
    texts = ["lm_head", "layers.1.", ""]
    stages = [
        {"name": n, "steps": s, "args": {"frozen": t or "nothing"}}
        for n, s, t in zip(("one", "two", "three"), (5, 8, 11), texts, strict=True)
    ]
    done = run(tmp_path, stages)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path) == switched


@pytest.mark.full
def test_a_shared_parameter_goes_by_any_of_its_names(tmp_path: Path) -> None:
    stages = [{"name": "one", "steps": 2, "trainable": ["lm_head.*"]}, {"name": "two", "steps": 2, "trainable": ["*"]}]
    done = run(tmp_path, stages, args={"tied": True})
    assert done.returncode == 0, done.stderr
    assert evidence(tmp_path, "1-one")["start"]["optimizer_names"] == ["model.embed_tokens.weight"]
    assert "1 moments carried, 19 new" in details(tmp_path, "two")["optimizer"]


@pytest.mark.full
def test_a_reset_drops_what_is_parked(tmp_path: Path) -> None:
    stages = [FREEZING[2] | {"name": "one", "steps": 2}, FREEZING[1] | {"steps": 2}, FREEZING[2] | {"steps": 2}]
    stages[2] = {**stages[2], "handover": {"optimizer": "reset"}}
    done = run(tmp_path, stages)
    assert done.returncode == 0, done.stderr
    three = evidence(tmp_path, "3-three")
    assert three["start"]["counters"] == {}
    assert set(three["end"]["counters"].values()) == {2}
    assert any("9 parked ones are dropped" in note for note in three["notes"])


def test_lora_stages_equal_one_run_and_take_a_subset(tmp_path: Path) -> None:
    same = [{"name": "one", "steps": 5}, {"name": "two", "steps": 8}]
    done = run(tmp_path, same, "lora.py")
    assert done.returncode == 0, done.stderr
    plain = plain_trainer(tmp_path, "plain", 13, script="lora.py").parent / "adapter_model.safetensors"
    assert weights(tmp_path, "2-two/adapter_model.safetensors") == plain.read_bytes()
    subset = [{"name": "one", "steps": 5}, {"name": "two", "steps": 8, "trainable": ["*lora_B*"]}]
    (tmp_path / "subset").mkdir()
    done = run(tmp_path / "subset", subset, "lora.py")
    assert done.returncode == 0, done.stderr
    assert "4 moments carried, 0 new, 4 parked, 0 thawed" in details(tmp_path / "subset", "two")["optimizer"]


@pytest.mark.full
def test_an_adapter_that_the_script_froze_stays_frozen_after_loading(tmp_path: Path) -> None:
    """PEFT thaws a named adapter whole when the Trainer loads it."""
    stages = [{"name": "one", "steps": 3}, {"name": "two", "steps": 3}]
    done = run(tmp_path, stages, "lora.py", args={"adapter": "task", "frozen": "lora_A"})
    assert done.returncode == 0, done.stderr
    assert details(tmp_path, "two")["trainable"].startswith("4 parameters trained")
    plain = plain_trainer(tmp_path, "plain", 6, script="lora.py", adapter="task", frozen="lora_A").parent
    name = "task/adapter_model.safetensors"
    assert weights(tmp_path, f"2-two/{name}") == (plain / name).read_bytes()


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (
            {"trainable": ["*", "!modle.layers.1.*"]},
            ['pattern "!modle.layers.1.*" matches none of the 21 parameters', "closest names are model.layers.1."],
        ),
        (
            {"trainable": ["lm_head.*"], "args": {"own_optimizer": True}},
            ["the optimizer has 21 parameters, `trainable` chooses 1", "the script makes its own optimizer"],
        ),
    ],
    ids=["no match", "own optimizer"],
)
def test_what_cannot_be_trained_is_refused_by_name(tmp_path: Path, stage: dict[str, Any], words: list[str]) -> None:
    done = run(tmp_path, [{"name": "one", "steps": 2, **stage}])
    assert done.returncode == 3
    for text in words:
        assert text in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"args": {"meddle": "move"}, "trainable": ["*", "!model.embed*"]}, "1 frozen parameters moved, first model.e"),
        ({"args": {"meddle": "hold"}}, "1 trained parameters have gradients and did not move, first lm_head.weight"),
        ({"trainable": ["lm_head.*"], "hook": False}, "20 parameters are trained, not chosen by `trainable`"),
    ],
    ids=["frozen moved", "trained did not", "only observed"],
)
def test_a_trainable_set_that_does_not_hold_is_caught(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    done = run(tmp_path, [{"name": "one", "steps": 3}], **changes)
    assert done.returncode == 4, done.stderr
    assert f"trainable: {text}" in done.stderr
    document = json.loads(stepladder("verify", "runs/tiny", "--json", cwd=tmp_path).stdout)
    assert [name for name, ok in check_names(document, "one").items() if not ok] == ["trainable"]


@pytest.mark.full
def test_updates_that_round_to_nothing_are_no_fault(tmp_path: Path) -> None:
    """Norm weights are 1.0: a learning rate of 1e-9 is lost in 24 bits, and the first step of a warm-up is 0."""
    done = run(tmp_path, [{"name": "one", "steps": 1}], args={"learning_rate": 1e-9})
    assert done.returncode == 0, done.stderr
    assert "21 of the trained did not move" in details(tmp_path, "one")["trainable"]


PLANS = {
    "engine": (
        {"args": {"deepspeed": "zero.json"}, "stages": FREEZING[1:]},
        ["`trainable` changes from * !model.layers.1.* to * under deepspeed", "`handover: {optimizer: reset}`"],
    ),
    "only away": ({"trainable": ["!lm_head.*"]}, ["`trainable` only takes away (!lm_head.*)", 'begin with "*"']),
    "empty": ({"trainable": []}, ["`trainable`: found a list, expected at least one entry"]),
    "number": ({"trainable": [3]}, ["`trainable`: found 3, expected text"]),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_that_cannot_hold_is_refused(tmp_path: Path, case: str) -> None:
    changes, words = PLANS[case]
    curriculum = tiny_curriculum(tmp_path, **changes)
    done = stepladder("plan", curriculum, "--no-files", cwd=tmp_path)
    assert done.returncode == 2
    for text in words:
        assert text in done.stderr, done.stderr


def test_the_engines_refusal_has_its_place_and_a_reset_is_accepted(tmp_path: Path) -> None:
    reset = {**FREEZING[2], "handover": {"optimizer": "reset"}}
    for last, code in ((FREEZING[2], 2), (reset, 0)):
        curriculum = tiny_curriculum(tmp_path, stages=[FREEZING[1], last], args={"fsdp": "full_shard"})
        done = stepladder("plan", curriculum, "--no-files", cwd=tmp_path)
        assert done.returncode == code, done.stderr
    refused = tiny_curriculum(tmp_path, stages=[FREEZING[1], FREEZING[2]], args={"fsdp": "full_shard"})
    line = next(n for n, text in enumerate(refused.read_text().splitlines(), 1) if '"three"' in text) + 2
    assert f"tiny.yaml:{line}:" in stepladder("plan", refused, "--no-files", cwd=tmp_path).stderr


@pytest.mark.parametrize(("pattern", "hint"), [("*", "begins with `*`"), ("!lm_head", "begins with `!`")])
def test_a_pattern_without_quotes_is_told_how(tmp_path: Path, pattern: str, hint: str) -> None:
    (tmp_path / "bare.yaml").write_text(f"name: bare\ntrainable:\n  - {pattern}\n", "utf-8")
    done = stepladder("plan", "bare.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert hint in done.stderr
