"""Planted faults are caught by name; the healthy twin passes. Files of a finished chain are changed on copies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import check_names, stepladder

STAGE = "2-two"
CHECKPOINT = f"runs/tiny/{STAGE}/checkpoint-13"
RESULT = f"runs/tiny/attempts/{STAGE}/1/result.json"


def verify(folder: Path) -> tuple[int, dict[str, Any]]:
    done = stepladder("verify", "runs/tiny", "--json", cwd=folder)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def copy(healthy_chain: Path, tmp_path: Path) -> Path:
    shutil.copytree(healthy_chain, tmp_path / "copy")
    return tmp_path / "copy"


def edit_result(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / RESULT
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def unseal(folder: Path) -> None:
    """A forger also removes the digests from the journal."""
    journal = folder / "runs/tiny/journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps({**event, "result": None}) + "\n" for event in events))


def test_the_healthy_chain_passes(healthy_chain: Path) -> None:
    code, document = verify(healthy_chain)
    assert code == 0
    assert document["ok"]
    assert document["version"] == 1
    assert [(s["global_step"], s["expected_step"]) for s in document["stages"]] == [(5, 5), (13, 13), (24, 24)]
    assert all(len(stage["checks"]) == 14 for stage in document["stages"])
    details = {check["name"]: check["detail"] for check in document["stages"][1]["checks"]}
    assert details["optimizer"] == "step counters 5 -> 13"
    assert details["steps_trained"] == "6-13; expected 6-13"


def test_an_untouched_copy_passes(copy: Path) -> None:
    assert verify(copy)[0] == 0


def truncate_optimizer(folder: Path) -> None:
    path = folder / CHECKPOINT / "optimizer.pt"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_weight(folder: Path) -> None:
    path = folder / CHECKPOINT / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, path, metadata={"format": "pt"})


def swap_moments(folder: Path) -> None:
    path = folder / CHECKPOINT / "optimizer.pt"
    loaded = torch.load(path, weights_only=True)
    state = loaded["state"]
    twins = [k for k, v in state.items() if v["exp_avg"].shape == state[0]["exp_avg"].shape][:2]
    state[twins[0]], state[twins[1]] = state[twins[1]], state[twins[0]]
    torch.save(loaded, path)


def weights_of_another_stage(folder: Path) -> None:
    shutil.copyfile(
        folder / "runs/tiny/1-one/checkpoint-5/model.safetensors", folder / CHECKPOINT / "model.safetensors"
    )


def nan_in_weights(folder: Path) -> None:
    path = folder / CHECKPOINT / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})


def no_manifest(folder: Path) -> None:
    (folder / CHECKPOINT / "stepladder.json").unlink()


def cut_state(folder: Path) -> None:
    path = folder / CHECKPOINT / "trainer_state.json"
    path.write_text(path.read_text()[:50])


@pytest.mark.parametrize(
    "plant",
    [truncate_optimizer, flip_a_weight, swap_moments, weights_of_another_stage, nan_in_weights, no_manifest, cut_state],
)
def test_a_changed_checkpoint_is_caught(copy: Path, plant: Callable[[Path], None]) -> None:
    plant(copy)
    code, document = verify(copy)
    assert code == 1
    assert not check_names(document, "two")["checkpoint"]


def test_a_repaired_manifest_does_not_hide_it(copy: Path) -> None:
    """Sizes and checksums made to fit: the tensors read back still differ from the recorded fingerprints."""
    swap_moments(copy)
    path = copy / CHECKPOINT / "stepladder.json"
    manifest = json.loads(path.read_text())
    from stepladder_worker.contract import digest

    file = copy / CHECKPOINT / "optimizer.pt"
    manifest["files"]["optimizer.pt"] = {"size": file.stat().st_size, "sha256": digest(file)}
    path.write_text(json.dumps(manifest))
    _, document = verify(copy)
    checks = {c["name"]: c["detail"] for c in document["stages"][1]["checks"]}
    assert "optimizer state of" in checks["checkpoint"]


EDITS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "fresh Adam": ("optimizer", lambda d: d["evidence"]["start"].update(counters={}, moments={})),
    "shifted curve": (
        "learning_rate",
        lambda d: d["evidence"]["lr"].update(logged=[[s + 1, r] for s, r in d["evidence"]["lr"]["logged"]]),
    ),
    "unchecked steps": ("learning_rate", lambda d: d["evidence"]["lr"].update(checked=3)),
    "cold weights": ("weights", lambda d: d["evidence"]["start"].update(weights={"a": "b"})),
    "skipped data": (
        "data_position",
        lambda d: d["evidence"]["data"]["first_batches"][0].update(position=9),
    ),
    "replayed steps": ("steps_trained", lambda d: d["evidence"]["steps"].update(first=1, count=13)),
    "old weight decay": ("hyper_parameters", lambda d: [g.update(weight_decay=0.5) for g in d["evidence"]["groups"]]),
    "old batch size": ("batches", lambda d: d["evidence"].update(batch_sizes={"8": 22})),
    "old best metric": ("best_metric", lambda d: d["evidence"]["best_metric"].update(start=0.5)),
    "hidden NaN": ("finite", lambda d: d["evidence"]["loss"].update(non_finite_step=7)),
    "other random state": ("random_state", lambda d: d["evidence"]["loaded"].update(random_state={"cpu": "0"})),
    "other run": ("evidence", lambda d: d.update(run_id="another")),
}


@pytest.mark.parametrize("fault", EDITS)
def test_recorded_faults_are_named(copy: Path, fault: str) -> None:
    name, change = EDITS[fault]
    edit_result(copy, change)
    unseal(copy)
    code, document = verify(copy)
    assert code == 1
    assert not check_names(document, "two")[name]
    assert all(check_names(document, "one").values())


def test_edited_evidence_is_caught_by_its_seal(copy: Path) -> None:
    edit_result(copy, lambda d: d["evidence"]["notes"].append("all is well"))
    _, document = verify(copy)
    failed = [name for name, ok in check_names(document, "two").items() if not ok]
    assert failed == ["evidence"]


def test_no_run_is_an_error_without_traceback(tmp_path: Path) -> None:
    done = stepladder("verify", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "hint:" in done.stderr
