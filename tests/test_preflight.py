"""What a plan needs of the machine is looked for before anything starts, all of it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepladder.errors import PlanError
from stepladder.parse import load
from stepladder.plan import Plan
from stepladder.preflight import checked_plan


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
    text += f"stages:\n  - {{name: a, steps: 2}}\n  - {{name: b, steps: 2{stage}}}\n"
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
    assert "no module `pkg.inner`" in refused(script="module:pkg.inner")[0], "a package without __main__ cannot be run"
    assert "pkg.inner.train" not in sys.modules
    assert "pkg" not in sys.modules


def test_a_module_path_of_the_environment_counts() -> None:
    Path("lib").mkdir()
    Path("lib/elsewhere.py").write_text("x = 1\n")
    assert "no module `elsewhere`" in refused(script="module:elsewhere")[0]
    check("env: {PYTHONPATH: lib}\n", script="module:elsewhere")
