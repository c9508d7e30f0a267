"""Workers of tests/scripts/forked_workers.py: a training within a second, so that many faults can be tried."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stepladder_worker.contract import StageTask, read, write_json
from support import ENVIRONMENT, SCRIPTS, stepladder, tiny_curriculum

#: Stage one of 5 steps with checkpoints at 3 and 5; no data workers.
ARGS = {"save_steps": 3, "dataloader_num_workers": 0}
#: Fields of a task that name files of its run.
PATHS = ("output_dir", "result_path", "heartbeat_path", "control_path")


@dataclass(frozen=True)
class Ended:
    """How a training ended: one entry a rank (see forked_workers.py); its log, its folder and its task."""

    ranks: list[int | str]
    log: str
    stage: Path
    task: StageTask

    @property
    def error(self) -> dict[str, str] | None:
        """What ended the script of rank 0, as its result says."""
        found: dict[str, str] | None = json.loads(Path(self.task.result_path).read_text())["error"]
        return found


class Workers:
    """A process that forks workers, and the stages that they train."""

    def __init__(self, process: subprocess.Popen[str], prepared: Path) -> None:
        self.process, self.prepared = process, prepared

    def train(self, folder: Path, fault: str = "", *args: str, **changes: Any) -> Ended:
        """Train stage one in `folder`; again in the same folder it goes on. `changes`: fields of the task, and
        `processes`, `limit` (see forked_workers.py), `script`."""
        if not folder.exists():
            shutil.copytree(self.prepared, folder)
        path = folder / "runs/tiny/attempts/1-one/1/task.json"
        job = {name: changes.pop(name) for name in ("processes", "limit", "script") if name in changes}
        task = _moved(read(StageTask, self.prepared / path.relative_to(folder)), self.prepared, folder, changes)
        write_json(path, task.to_dict())
        options = {**ARGS, "use_cpu": True, "report_to": "none", "max_steps": 5, "output_dir": task.output_dir}
        options |= {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "disable_tqdm": True}
        argv = [str(job.pop("script", SCRIPTS / "tiny_train.py"))]
        argv += [text for name, value in options.items() for text in (f"--{name}", str(value))] + list(args)
        log = folder / "log"
        log.unlink(missing_ok=True)
        variables = {"STEPLADDER_TASK": str(path), "STEPLADDER_FAULT": fault}
        job = {
            "processes": 1,
            "limit": 60,
            "env": variables,
            "argv": argv,
            "log": str(log),
            "folder": str(folder),
        } | job
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(job), file=self.process.stdin, flush=True)
        ranks = json.loads(self.process.stdout.readline())
        return Ended(ranks, log.read_text(), Path(task.output_dir), task)


def _moved(task: StageTask, old: Path, new: Path, changes: dict[str, Any]) -> StageTask:
    values = {name: str(value).replace(str(old), str(new)) for name, value in vars(task).items() if name in PATHS}
    return replace(task, **values, **changes)


@contextmanager
def workers(folder: Path) -> Iterator[Workers]:
    """A process that forks workers for stages prepared in `folder`."""
    path = tiny_curriculum(folder, args=ARGS)
    command = stepladder("command", path, "--stage", "one", cwd=folder)
    assert command.returncode == 0, command.stderr
    argv = [sys.executable, str(SCRIPTS / "forked_workers.py")]
    with subprocess.Popen(
        argv, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Workers(process, folder)
        assert process.stdin
        process.stdin.close()
