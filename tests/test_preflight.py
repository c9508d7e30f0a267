"""What a plan needs of the machine is looked for before anything starts, all of it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepladder.curriculum.parse import load
from stepladder.errors import CurriculumError, PlanError
from stepladder.planning.plan import Plan
from stepladder.preflight.machine import checked_plan, hub_models


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("print('never run')\nraise SystemExit(1)\n")
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")


def check(extra: str = "", stage: str = "", **changes: str) -> Plan:
    lines = {"name": "x", "model_name_or_path": "./model", "output_dir": "out", "script": "train.py"} | changes
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    text += f"args: {{learning_rate: 1.0e-3}}\n{extra}"
    # One engine for all stages.
    first = ", args: {deepspeed: {steps_per_print: 1}}" if "deepspeed" in stage else ""
    text += f"stages:\n  - {{name: a, steps: 2{first}}}\n  - {{name: b, steps: 2{stage}}}\n"
    Path("c.yaml").write_text(text)
    return checked_plan(load("c.yaml"))


def refused(*args: Any, **changes: str) -> list[str]:
    with pytest.raises(PlanError) as error:
        check(*args, **changes)
    assert error.value.exit_code == 2
    return [str(problem) for problem in error.value.problems]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter without torch and transformers."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin/python")


def test_a_sound_plan_passes_and_knows_the_version_of_transformers() -> None:
    import transformers

    assert check().stages[0].transformers == transformers.__version__


def test_everything_missing_is_reported_at_once() -> None:
    stage = ", args: {deepspeed: zero.json, data_path: none/train.json}"
    problems = refused("", stage, script="no.py", model_name_or_path="./nothing")
    assert [problem.split(": ")[0] for problem in problems] == [
        "c.yaml:2:21",
        "c.yaml:4:9",
        "c.yaml:8:43",
        "c.yaml:8:65",
    ]
    for problem, said in zip(
        problems, ["no directory", "no such file", "no file zero.json", "nothing at"], strict=True
    ):
        assert said in problem


def test_a_syntax_error_of_stage_two_is_found_before_stage_one() -> None:
    Path("bad.py").write_text("import os\nprint((1)\n")
    assert refused("", ", script: bad.py") == [
        "c.yaml:8:33: script bad.py:2: syntax error: '(' was never closed, expected Python"
    ]


def test_a_model_without_config() -> None:
    Path("model/config.json").unlink()
    assert "has no config.json" in refused()[0]


def test_a_hub_id_is_not_looked_for() -> None:
    assert check(model_name_or_path="org/name").stages[0].model == "org/name"


def test_what_prepare_makes_may_be_missing() -> None:
    extra = "prepare: [{run: ['{python}', make.py], creates: made}]\n"
    check(extra, ", args: {data: made/train.jsonl}", model_name_or_path="./made/model")


def test_a_deepspeed_config_that_does_not_parse_names_its_line() -> None:
    Path("zero.json").write_text('{\n "a": 1,\n}')
    assert "zero.json:3:1" in refused("", ", args: {deepspeed: zero.json}")[0]


def test_a_checkpoint_without_optimizer_state_is_refused_unless_it_is_reset() -> None:
    checkpoint = Path("out/1-a/checkpoint-2")
    checkpoint.mkdir(parents=True)
    assert "no optimizer state" in refused()[0]
    check("", ", handover: {optimizer: reset}")
    Path("out/attempts/1-a").mkdir(parents=True)  # a save of this run, cut short: `run` makes it anew
    check()
    Path("out/attempts/1-a").rmdir()
    (checkpoint / "optimizer.pt").touch()
    check()


def test_two_stages_in_one_directory_through_a_link() -> None:
    Path("out/1-a").mkdir(parents=True)
    Path("out/2-b").symlink_to(Path("out/1-a").absolute())
    assert "stages `a` and `b` both write" in refused()[0]


def test_an_interpreter_that_is_missing_or_lacks_transformers(bare_python: str) -> None:
    assert "no such program" in refused(python="./env/bin/python")[0]
    assert "has no torch and no transformers" in refused(python=bare_python)[0]


def test_a_foreign_interpreter_compiles_the_script_too(bare_python: str) -> None:
    Path("bad.py").write_text("print((1)\n")
    assert any("script bad.py:1: syntax error" in problem for problem in refused(python=bare_python, script="bad.py"))


def test_modules_are_found_without_importing_their_parents() -> None:
    for name in ("pkg", "pkg/inner"):
        Path(name).mkdir()
        Path(name, "__init__.py").write_text("raise RuntimeError('imported')\n")
    Path("pkg/inner/train.py").write_text("x = 1\n")
    check(script="module:pkg.inner.train")
    assert "no module `pkg.inner.other`" in refused(script="module:pkg.inner.other")[0]
    assert "did you mean `pkg.inner.train`?" in refused(script="module:pkg.inner.trian")[0]
    assert "no module `pkg.inner`" in refused(script="module:pkg.inner")[0], "a package without __main__ cannot be run"
    assert "pkg.inner.train" not in sys.modules
    assert "pkg" not in sys.modules


def test_a_module_path_of_the_environment_counts() -> None:
    Path("lib").mkdir()
    Path("lib/elsewhere.py").write_text("x = 1\n")
    assert "no module `elsewhere`" in refused(script="module:elsewhere")[0]
    check("env: {PYTHONPATH: lib}\n", script="module:elsewhere")


def test_mistakes_of_the_file_and_missing_files_come_together() -> None:
    extra = "lancher: {nproc_per_node: 1}\nschedule: runn\n"
    stage = ", args: {weight_decy: 0, deepspeed: zero.json, save_steps: -3, lr_scheduler_type: cosin}"
    with pytest.raises(CurriculumError) as error:
        check(extra, stage, script="no.py", model_name_or_path="./nothing")
    said = [(problem.place, problem.text) for problem in error.value.problems]
    expected = [
        ("c.yaml:2:21", "no directory ./nothing"),
        ("c.yaml:4:9", "script no.py: no such file"),
        ("c.yaml:6:1", "did you mean `launcher`?"),
        ("c.yaml:7:11", "expected `run`, `stage` or `script`"),
        ("c.yaml:10:32", "did you mean `weight_decay`?"),
        ("c.yaml:10:59", "no file zero.json"),
        ("c.yaml:10:82", "found -3, expected at least 0"),
    ]
    assert [place for place, _ in said] == [place for place, _ in expected]
    assert all(part in text for (_, text), (_, part) in zip(said, expected, strict=True)), said


@pytest.mark.parametrize("broken", ["name: [x]", "model_name_or_path: 3", "output_dir: ''", "stages: 4"])
def test_what_is_required_and_wrong_does_not_hide_a_missing_script(broken: str) -> None:
    lines = {"name": "x", "model_name_or_path": "./model", "output_dir": "out", "script": "no.py", "stages": "[]"}
    lines |= {"args": "{learning_rate: 1}", "stages": "[{name: a, steps: 1}, {name: a, steps: x}]"}
    key, value = broken.split(": ")
    Path("c.yaml").write_text("".join(f"{name}: {text}\n" for name, text in (lines | {key: value}).items()))
    with pytest.raises(CurriculumError) as error:
        checked_plan(load("c.yaml"))
    texts = [problem.text for problem in error.value.problems]
    assert any(text.startswith(f"`{key}`: found") for text in texts)
    # Without any stage there is nothing that would run the script.
    assert any("script no.py" in text for text in texts) == (key != "stages")


def test_a_file_beside_the_curriculum_is_pointed_to() -> None:
    Path("me").mkdir()
    Path("train.py").rename("me/train.py")
    text = "name: x\nmodel_name_or_path: hub/model\noutput_dir: out\nscript: train.py\nargs: {learning_rate: 1}\n"
    Path("me/c.yaml").write_text(text + "stages: [{name: a, steps: 1}]\n")
    with pytest.raises(PlanError) as error:
        checked_plan(load("me/c.yaml"))
    assert error.value.hint == "a relative path starts at the working directory, and me/train.py is there: cd me"


def test_every_kind_of_missing_thing_has_a_hint_that_fits() -> None:
    Path("bad.py").write_text("print((1)\n")
    hints = {}
    for script in ("no.py", "bad.py", "module:no_such"):
        with pytest.raises(PlanError) as error:
            check(script=script)
        hints[script] = error.value.hint or ""
    assert "working directory" in hints["no.py"]
    assert "compiles it before anything starts" in hints["bad.py"]
    assert "install it there" in hints["module:no_such"]


@pytest.mark.parametrize("model", ["models/base", "runs/base", "here/base"])
def test_a_model_in_a_folder_that_is_here_or_holds_models_is_local(model: str) -> None:
    Path("here").mkdir()
    assert f"no directory {model}" in refused(model_name_or_path=model)[0]


def test_other_models_are_taken_for_ids_of_the_hub() -> None:
    assert hub_models(check(model_name_or_path="org/base")) == ["org/base"]
    assert hub_models(check(model_name_or_path="gpt2")) == ["gpt2"]
    assert hub_models(check()) == []


def test_a_file_where_a_directory_is_written() -> None:
    Path("out").write_text("")
    assert refused()[0] == "c.yaml:3:13: out is a file, expected a directory"
    Path("out").unlink()
    Path("out").mkdir()
    Path("out/2-b").write_text("")
    assert refused() == ["c.yaml:3:13: out/2-b is a file, expected a directory"]


def test_a_home_directory_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    Path("home").mkdir()
    Path("home/x.json").write_text("{}")
    check("", ", args: {data_path: ~/x.json, deepspeed: ~/x.json}")
    assert "nothing at ~/y.json" in refused("", ", args: {data_path: ~/y.json}")[0]
    assert "nothing at ~nobody-here/y.json" in refused("", ", args: {data_path: ~nobody-here/y.json}")[0]


def test_a_plan_for_another_machine_uses_its_python() -> None:
    check()
    assert checked_plan(load("c.yaml"), look_at_files=False).stages[0].argv[0] == "python"
    assert checked_plan(load("c.yaml", ["python=/env/python"]), look_at_files=False).stages[0].argv[0] == "/env/python"
