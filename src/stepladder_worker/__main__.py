"""Runs inside every training process: read the task, put the hooks in place, run the script, leave the evidence.

STEPLADDER_TASK=task.json python worker.pyz SCRIPT ARGS...        (or: -m MODULE ARGS...)
python worker.pyz --inspect CHECKPOINT...                         facts of checkpoints as one JSON line
python worker.pyz --whole-model CHECKPOINT FOLDER                 one file of weights from an engine's shards
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from stepladder_worker import fault, hook, own_files, runner, session, signals
from stepladder_worker.contract import (
    ENGINE_VARIABLE,
    EXIT_CONTRACT,
    TASK_VARIABLE,
    ContractError,
    StageTask,
    digest,
    read,
)


def main(argv: list[str]) -> int:
    """Exit code of the script; EXIT_STOPPED after a requested stop, EXIT_CONTRACT when the task is refused."""
    if argv[:1] == ["--inspect"]:
        from stepladder_worker.inspection import print_facts

        return print_facts(argv[1:])
    if argv[:1] == ["--whole-model"]:
        from stepladder_worker.whole_model import write

        return write(*argv[1:3])
    if not argv:
        return _refuse("no script given; hint: worker.pyz SCRIPT ARGS...")
    own_files.keep_others_out()
    signals.end_with_parent()
    if _is_orphan():
        return EXIT_CONTRACT
    path = Path(os.environ.get(TASK_VARIABLE, ""))
    try:
        fault.planned()  # one that is misspelt is refused, not passed over
        stage = session.start(read(StageTask, path), digest(path))
    except (ContractError, session.BoundaryError) as error:
        return _refuse(str(error))
    if stage.finished:
        stage.evidence.note(f"stage {stage.task.stage} has ended at step {stage.task.end_step} already")
        return 0
    return _train(stage, argv)


def _train(stage: session.Session, argv: list[str]) -> int:
    """Run the script; its result is written however it ends."""
    signals.install(take_requests=stage.task.hook)
    hook.install()
    stage.pulse.enter("starting")
    code, error = _run(stage, argv)
    stage.evidence.write(_status(stage, failed=error is not None), error)
    return code if stage.world_size == 1 else _leave(code)


def _run(stage: session.Session, argv: list[str]) -> tuple[int, dict[str, str] | None]:
    """(exit code, what ended the script if it did not end by itself)."""
    try:
        if stage.task.engine == "deepspeed":
            from stepladder_worker.hooks import deepspeed

            deepspeed.start()
        runner.run_script(argv)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0, None
        print(ended.code, file=sys.stderr)  # noqa: T201 - what Python does with sys.exit("text")
        return 1, {"type": "SystemExit", "message": str(ended.code), "traceback": ""}
    except BaseException as error:
        traceback.print_exc()
        text = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        return 1, text
    return 0, None


def _leave(code: int) -> NoReturn:
    """End one rank of several, after everything that Python does at its end but taking itself apart.

    Freeing a process group of gloo then waits, with the interpreter's lock held, for a thread that wants it: such a
    rank would hang after its work is done.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _status(stage: session.Session, failed: bool) -> str:
    """What the attempt came to. A script that fails after the stage's last checkpoint has still completed it."""
    if stage.finished:
        return "complete"
    if stage.stopping and stage.evidence.steps["last"] in stage.saved_steps:
        return "stopped"
    if failed or stage.evidence.steps["count"]:
        return "failed"
    return "untrained"


def _refuse(reason: str) -> int:
    print(f"stepladder: {reason}", file=sys.stderr, flush=True)  # noqa: T201 - goes to the stage's log
    return EXIT_CONTRACT


def _is_orphan() -> bool:
    """Whether the launcher had ended before this process could tie its end to it: it then belongs to the engine, the
    next in line to take children over, or to the system's first process."""
    engine = os.environ.get(ENGINE_VARIABLE)
    return engine is not None and os.getppid() in (1, int(engine))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
