"""A trainer that overrides train, the loop, optimizer, sampler, saving and logging ends in its own bytes."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from support import ROOT, SCRIPTS, plain_trainer, stepladder, tiny_curriculum


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the script run once, plainly."""
    return plain_trainer(tmp_path_factory.mktemp("plain"), "out", 24, script="foreign.py").read_bytes()


def chained(folder: Path, script: str, bare: bool, **changes: object) -> bytes:
    args = {"bare": bare, **changes.pop("args", {})}  # type: ignore[dict-item]
    path = tiny_curriculum(folder, "f", "foreign.py", args=args, handover={"data": "continue"}, **changes)
    curriculum = json.loads(path.read_text())
    path.write_text(json.dumps(curriculum | {"script": script}))
    done = stepladder("run", path, cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "runs/f/3-three/model.safetensors").read_bytes()


def test_started_by_path_with_the_flag(tmp_path: Path, whole: bytes) -> None:
    assert chained(tmp_path, str(SCRIPTS / "foreign.py"), bare=False) == whole
    groups = json.loads((tmp_path / "runs/f/attempts/3-three/1/result.json").read_text())["evidence"]["groups"]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0], "its own parameter groups are in force"


def test_started_as_a_module_that_never_resumes(tmp_path: Path, whole: bytes) -> None:
    assert chained(tmp_path, "module:foreign", bare=True, env={"PYTHONPATH": str(SCRIPTS)}) == whole
    log = (tmp_path / "runs/f/2-two/stage_two_full.log").read_text()
    assert "checkpoint-5 as planned; the script asked for None" in log


def test_its_own_plain_chain_differs(tmp_path: Path, whole: bytes) -> None:
    """Negative control."""
    model, checkpoint = "new", {}
    for index, end in enumerate((13, 24), start=1):
        output = f"stage{index}"
        weights = plain_trainer(
            tmp_path, output, end, script="foreign.py", model_name_or_path=model, save_steps=1, **checkpoint
        )
        model, checkpoint = output, {"resume_from_checkpoint": f"{output}/checkpoint-{end}"}
    assert weights.read_bytes() != whole


def test_every_file_of_the_worker_is_python_3_10() -> None:
    """The grammar of 3.10, whatever Python runs the tests."""
    files = sorted((ROOT / "src/stepladder_worker").rglob("*.py"))
    assert len(files) > 20
    for path in files:
        ast.parse(path.read_text("utf-8"), str(path), feature_version=(3, 10))
