"""A copy of a finished chain, and what a fault needs to change its files as if they had come about that way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stepladder.records.journal import Journal
from stepladder_worker import seal
from stepladder_worker.contract import digest
from support import stepladder

#: End steps of the stages of the healthy chain (conftest.py of the tests).
ENDS = {"one": 5, "two": 13, "three": 24}
Change = Callable[[dict[str, Any]], Any]


class Chain:
    """The files of a run `runs/tiny` in a folder, by what they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "runs/tiny"

    def stage_dir(self, stage: str) -> Path:
        return self.run / f"{list(ENDS).index(stage) + 1}-{stage}"

    def checkpoint(self, stage: str) -> Path:
        return self.stage_dir(stage) / f"checkpoint-{ENDS[stage]}"

    def attempt(self, stage: str) -> Path:
        return self.run / "attempts" / self.stage_dir(stage).name / "1"

    def result(self, stage: str) -> Path:
        return self.attempt(stage) / "result.json"

    def edit_result(self, stage: str, change: Change) -> None:
        """Change the record and nothing else, as a forger would."""
        edit_json(self.result(stage), change)

    def record(self, stage: str, change: Change) -> None:
        """Change the record as if the worker had recorded it so: it is sealed like that."""
        self.edit_result(stage, change)
        sealed = {"result": digest(self.result(stage))}
        self.rewrite_journal(
            lambda event: {**event, **sealed} if "result" in event and event["stage"] == stage else event
        )

    def edit_manifest(self, stage: str, change: Change) -> None:
        edit_json(self.checkpoint(stage) / "stepladder.json", change)

    def fit_manifest(self, stage: str) -> None:
        """Make the manifest name the files that are there, with their sizes and checksums."""
        folder = self.checkpoint(stage)
        files = {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": digest(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "stepladder.json"
        }
        self.edit_manifest(stage, lambda manifest: manifest.update(files=files))

    def edit_weights(self, stage: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
        path = self.checkpoint(stage) / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    def edit_torch(self, stage: str, name: str, change: Change) -> None:
        path = self.checkpoint(stage) / name
        loaded = torch.load(path, weights_only=False)  # made by this very test run
        change(loaded)
        torch.save(loaded, path)

    def rewrite_journal(self, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Write the journal anew with changed events, None takes one out; every line follows the one before it."""
        path = self.run / "journal.jsonl"
        events = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        for event in filter(None, map(change, events)):
            facts = {key: value for key, value in event.items() if key not in ("event", "time", "after", "seal")}
            Journal(path).append(event["event"], **facts)

    def edit_journal(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Change lines of the journal and leave the others as they are."""
        path = self.run / "journal.jsonl"
        events = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(event) + "\n" for event in change(events)))


def edit_json(path: Path, change: Change) -> None:
    """Change a document; one that was sealed is sealed again, as if it had been written like that."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(seal.sealed(document) if seal.KEY in document else document, indent=1))


def failing(folder: Path, run: str = "runs/tiny") -> dict[str, set[str]]:
    """Names of the failing checks by stage, as `verify --json` has them."""
    done = stepladder("verify", run, "--json", cwd=folder)
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if document["ok"] else 1)
    checks = {stage["name"]: stage["checks"] for stage in document["stages"]}
    return {stage: {check["name"] for check in found if not check["ok"]} for stage, found in checks.items()}
