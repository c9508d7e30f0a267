"""Runs inside every training process: read the task, put the hooks in place, run the script, leave the evidence.

STEPLADDER_TASK=task.json python worker.pyz SCRIPT ARGS...        (or: -m MODULE ARGS...)
python worker.pyz --inspect CHECKPOINT...                         facts of checkpoints as one JSON line
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from stepladder_worker import hook, runner, session
from stepladder_worker.contract import (
    EXIT_CONTRACT,
    TASK_VARIABLE,
    ContractError,
    Heartbeat,
    StageTask,
    digest,
    read,
    write_json,
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> int:
    """Exit code of the script; EXIT_STOPPED after a requested stop, EXIT_CONTRACT when the task is refused."""
    if argv[:1] == ["--inspect"]:
        from stepladder_worker.inspection import print_facts

        return print_facts(argv[1:])
    if not argv:
        return _refuse("no script given; hint: worker.pyz SCRIPT ARGS...")
    _die_with_parent()
    path = Path(os.environ.get(TASK_VARIABLE, ""))
    try:
        stage = session.start(read(StageTask, path), digest(path))
    except (ContractError, session.BoundaryError) as error:
        return _refuse(str(error))
    if stage.finished:
        stage.evidence.note(f"stage {stage.task.stage} has ended at step {stage.task.end_step} already")
        return 0
    return _train(stage, argv)


def _train(stage: session.Session, argv: list[str]) -> int:
    """Run the script; its result is written however it ends."""
    hook.install()
    if stage.rank == 0:
        beat = Heartbeat(os.getpid(), stage.true_step, stage.task.end_step, None, None, time.time(), "starting")
        write_json(stage.task.heartbeat_path, beat.to_dict(), durable=False)
    try:
        runner.run_script(argv)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            stage.evidence.write(_status(stage))
            return ended.code or 0
        print(ended.code, file=sys.stderr)  # noqa: T201 - what Python does with sys.exit("text")
        stage.evidence.write(_status(stage), {"type": "SystemExit", "message": str(ended.code), "traceback": ""})
        return 1
    except BaseException as error:
        traceback.print_exc()
        text = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        stage.evidence.write(_status(stage, failed=True), text)
        return 1
    stage.evidence.write(_status(stage))
    return 0


def _status(stage: session.Session, failed: bool = False) -> str:
    """What the attempt came to. A script that fails after the stage's last checkpoint has still completed it."""
    if stage.finished:
        return "complete"
    if stage.stopping:
        return "stopped"
    if failed or stage.evidence.steps["count"]:
        return "failed"
    return "untrained"


def _refuse(reason: str) -> int:
    print(f"stepladder: {reason}", file=sys.stderr, flush=True)  # noqa: T201 - goes to the stage's log
    return EXIT_CONTRACT


def _die_with_parent() -> None:
    """On Linux, end with the launcher: one that is killed leaves no rank behind."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(EXIT_CONTRACT)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
