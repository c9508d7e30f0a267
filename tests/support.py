"""What several tests need: the real command line, real scripts, small curricula."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepladder import cli

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(__file__).parent / "scripts"
STEPLADDER = Path(sys.executable).with_name("stepladder")

#: Threads are fixed, so that a run here and a run there add floating-point numbers in the same order.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}

#: A small curriculum's arguments: dropout is in the model, accumulation has a remainder (13 batches, 3 a step).
TINY_ARGS: dict[str, Any] = {
    "use_cpu": True,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "weight_decay": 0.01,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 3,
    "dataloader_num_workers": 2,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
}


def stepladder(
    *args: str | Path, cwd: Path, timeout: float = 300, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder and return what it printed. `env` is added to the environment."""
    argv = [str(STEPLADDER), *map(str, args)]
    variables = {**ENVIRONMENT, **(env or {})}
    return subprocess.run(
        argv, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )


def in_process(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same command in this process, without the time that a new one takes to begin; an exception that it lets
    through, which a person would see as a traceback, fails the test."""
    out, errors, code = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["stepladder", *map(str, args)])
        patch.chdir(cwd)
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    text = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(sys.argv, code, text, errors.getvalue())


#: Engines that tests started and did not wait for: none outlives its test, also a failing one (see conftest.py).
STARTED: list[subprocess.Popen[str]] = []


def start(folder: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the command without waiting for it. `env` is added to the environment."""
    argv = [str(STEPLADDER), *map(str, args)]
    engine = subprocess.Popen(
        argv,
        cwd=folder,
        env={**ENVIRONMENT, **(env or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    STARTED.append(engine)
    return engine


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def wait_for_step(run: Path, stage: str, step: int) -> None:
    """Wait until the heartbeat of a stage's first attempt reaches a step."""
    beat = run / f"attempts/{stage}/1/heartbeat.json"
    deadline = time.monotonic() + 120
    while not (beat.exists() and json.loads(beat.read_text())["step"] >= step):
        assert time.monotonic() < deadline, f"{beat} did not reach step {step}"
        time.sleep(0.02)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes whose task lies in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = str(folder) in process.environ().get("STEPLADDER_TASK", "")
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def tiny_curriculum(folder: Path, name: str = "tiny", script: str = "tiny_train.py", **changes: Any) -> Path:
    """Write `folder/NAME.yaml`: three stages of 5, 8 and 11 steps of a script in tests/scripts."""
    curriculum = {
        "name": name,
        "model_name_or_path": "new",
        "output_dir": f"runs/{name}",
        "script": str(SCRIPTS / script),
        "schedule": "run",
        "args": {**TINY_ARGS, **changes.pop("args", {})},
        "stages": [{"name": "one", "steps": 5}, {"name": "two", "steps": 8}, {"name": "three", "steps": 11}],
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(curriculum, indent=1), "utf-8")  # JSON is YAML
    return path


def plain_trainer(cwd: Path, output: str, max_steps: int, **changes: Any) -> Path:
    """Train with a script in tests/scripts without any of Stepladder; returns the final weights.

    `python` is the interpreter. `trust_files` lets torch unpickle anything, as older transformers need it to resume.
    """
    script, python = changes.pop("script", "tiny_train.py"), changes.pop("python", sys.executable)
    trust = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"} if changes.pop("trust_files", False) else {}
    args = {**TINY_ARGS, "max_steps": max_steps, "output_dir": output, "save_steps": 10_000, **changes}
    argv = [python, str(SCRIPTS / script)]
    argv += [text for name, value in args.items() for text in (f"--{name}", str(value))]
    subprocess.run(argv, cwd=cwd, env={**ENVIRONMENT, **trust}, check=True, capture_output=True, timeout=300)
    return cwd / output / "model.safetensors"


def everyone(first: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and all its descendants, as a scheduler signals them."""
    process = psutil.Process(first.pid)
    return [process, *process.children(recursive=True)]


def no_process_left(folder: Path) -> None:
    """Within a moment no process is alive whose task lies in this folder."""
    deadline = time.monotonic() + 5
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(folder) == []


def check_names(document: Mapping[str, Any], stage: str) -> dict[str, bool]:
    """Verdicts of one stage of `verify --json`, by name."""
    entry = next(entry for entry in document["stages"] if entry["name"] == stage)
    return {check["name"]: check["ok"] for check in entry["checks"]}
