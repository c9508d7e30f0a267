"""Workers without the seconds that importing torch and transformers takes: forked from one process that has done it.

Reads one job a line: `{"folder", "argv", "env", "log", "processes", "limit"}`. Each of its processes is the worker's
own `main`, in its own process, with the environment of torch.distributed.run. Answers one line: how each ended (exit
code, or the signal's number below zero), "stopped" for one that a signal stopped, "hung" for one that lived on for
`limit` seconds after a fault was announced in the log; before it is killed, the latter is asked for its stacks.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from stepladder_worker import imports
from stepladder_worker.hooks import data

# transformers.trainer takes this function by name: the worker, which comes later here, would be too late.
imports.when_imported("accelerate.data_loader", data.wrap_skipping)

import transformers.trainer  # noqa: E402, F401 - what takes the seconds


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [start(job, rank, port) for rank in range(job["processes"])]
        print(json.dumps(ends(children, job["limit"], Path(job["log"]))), flush=True)


def start(job: dict, rank: int, port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["processes"], "LOCAL_WORLD_SIZE": job["processes"]}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in {**ranks, **address, **job["env"]}.items()})
    os.chdir(job["folder"])
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        from stepladder_worker.__main__ import main as worker

        code = worker(job["argv"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ends(children: list[int], limit: float, log: Path) -> list[int | str]:
    """How they end. Where one has ended badly, the others do not end by themselves: they are given two seconds."""
    found: dict[int, int | str] = {}
    deadline, struck = time.monotonic() + 120, False
    while len(found) < len(children) and time.monotonic() < deadline:
        for child in set(children) - set(found):
            pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                found[child] = "stopped"
                finish(child)
            elif pid:
                found[child] = os.waitstatus_to_exitcode(status)
            if found.get(child, 0) != 0:
                deadline = min(deadline, time.monotonic() + 2)
        if not struck and log.exists() and b"planted fault" in log.read_bytes():
            struck, deadline = True, time.monotonic() + limit
        time.sleep(0.01)
    for child in set(children) - set(found):
        found[child] = "hung"
        os.kill(child, signal.SIGUSR2)
        time.sleep(0.5)
        finish(child)
    return [found[child] for child in children]


def finish(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
