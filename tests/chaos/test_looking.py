"""What the suite looks at after a fault is seen when it is wrong: a lost checkpoint, a process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import drive
from drive import Run
from stepladder_worker import manifest


def checkpoint(folder: Path, step: int) -> Path:
    """A complete one of stage two, with one file."""
    path = folder / f"runs/chaos/2-two/checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    manifest.write(path, "run", "two", 1, 1, {"global_step": step})
    return path


def test_a_lost_checkpoint_is_seen(tmp_path: Path) -> None:
    run, older = Run(tmp_path), checkpoint(tmp_path, 6)
    run.remember()
    assert run.lost() == []
    (older / "model.safetensors").write_bytes(b"wei")
    assert run.lost() == [str(older)]
    checkpoint(tmp_path, 9)
    run.remember()
    assert run.lost() == []  # rotated away, after a newer one was complete


def test_damage_that_leaves_the_size_is_seen(tmp_path: Path) -> None:
    run, path = Run(tmp_path), checkpoint(tmp_path, 6)
    run.remember()
    (path / "model.safetensors").write_bytes(b"Weights")
    assert run.lost() == [str(path)]


def test_one_that_never_was_complete_is_not_lost(tmp_path: Path) -> None:
    run, path = Run(tmp_path), checkpoint(tmp_path, 6)
    (path / manifest.NAME).unlink()
    run.remember()
    assert run.lost() == []


def test_a_process_left_behind_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "ORPHAN_SECONDS", 0.1)
    environment = {**os.environ, "STEPLADDER_TASK": str(tmp_path / "runs/chaos/attempts/1-one/1/task.json")}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as left:
        (found,) = Run(tmp_path).orphans()
        assert str(left.pid) in found
        assert left.wait(10) == -9
    assert Run(tmp_path).orphans() == []
