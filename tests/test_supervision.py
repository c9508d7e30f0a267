"""Pre-emption, hangs, retries, half-written checkpoints, orphans: real signals and processes, the same bytes after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engines import curriculum
from stepladder.attempts.hangs import HangWatch, process_of
from stepladder.attempts.retries import pause
from stepladder.attempts.tasks import Attempt
from stepladder.launch import memory
from stepladder.paths import AttemptDirectory
from stepladder.planning.plan import HangPlan, RetryPlan
from stepladder_worker.contract import TASK_VARIABLE, ContractError, Heartbeat, heartbeat_path, read, write_json
from stepladder_worker.pulse import Pulse
from support import everyone, no_process_left, start, stepladder, wait_for, wait_for_step

#: Data workers, so that there is something that could be left behind.
ARGS = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 1, "save_steps": 2}
STAGES = [{"name": "one", "steps": 4}, {"name": "two", "steps": 8}]
#: What holds a training up for as long as a test needs it, in the first attempt alone.
SLOW = "slow:rank=any,stage=two,seconds=0.7"


def chain(folder: Path, engine: str, **changes: Any) -> Path:
    """Two stages that end at steps 4 and 12."""
    return curriculum(folder, engine, args={**ARGS, **changes.pop("args", {})}, stages=STAGES, **changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The weights that a chain ends in when nothing happens to it, by engine."""
    known: dict[str, bytes] = {}

    def of(engine: str) -> bytes:
        if engine not in known:
            folder = tmp_path_factory.mktemp(engine)
            done = stepladder("run", chain(folder, engine), cwd=folder)
            assert done.returncode == 0, done.stderr
            known[engine] = weights(folder)
        return known[engine]

    return of


def weights(folder: Path) -> bytes:
    return (folder / "runs/chain/2-two/model.safetensors").read_bytes()


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "runs/chain/journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def finish(folder: Path, path: Path) -> None:
    done = stepladder("run", path, cwd=folder)
    assert done.returncode == 0, done.stderr


def launcher_of(engine: subprocess.Popen[str]) -> psutil.Process:
    alive = [p for p in psutil.Process(engine.pid).children() if p.status() != psutil.STATUS_ZOMBIE]
    (launcher,) = [p for p in alive if "torch.distributed.run" in p.cmdline()]
    return launcher


@pytest.mark.parametrize(
    ("engine", "number", "to_all"),
    [
        ("ddp", signal.SIGTERM, True),
        pytest.param("ddp", signal.SIGUSR1, True, marks=pytest.mark.full),
        pytest.param("single", signal.SIGUSR1, True, marks=pytest.mark.full),
        pytest.param("single", signal.SIGTERM, False, marks=pytest.mark.full),
    ],
)
def test_preemption_leaves_a_checkpoint_and_the_same_command_continues(
    tmp_path: Path, undisturbed: Callable[[str], bytes], engine: str, number: signal.Signals, to_all: bool
) -> None:
    path = chain(tmp_path, engine, args={"save_steps": 1000})
    running = start(tmp_path, "run", path, env={"STEPLADDER_FAULT": SLOW})
    wait_for_step(tmp_path / "runs/chain", "2-two", 8)  # early in an epoch, while data workers still have work
    for process in everyone(running) if to_all else [psutil.Process(running.pid)]:
        process.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 75, errors
    assert "stage two was stopped at checkpoint-" in errors
    assert number.name in errors
    assert errors.count("hint:") == 1
    no_process_left(tmp_path)
    ended = events(tmp_path, "attempt_ended")[-1]
    assert (ended["status"], ended["stopped"], ended["steps_lost"]) == ("stopped", True, 0)
    (tmp_path / "runs/chain/attempts/2-two/1/result.json").rename(tmp_path / "result.json")  # the journal tells as well
    assert "it was stopped as asked" in stepladder("diagnose", "runs/chain", cwd=tmp_path).stdout
    (tmp_path / "result.json").rename(tmp_path / "runs/chain/attempts/2-two/1/result.json")
    finish(tmp_path, path)
    assert weights(tmp_path) == undisturbed(engine)


def test_a_stop_that_fails_is_a_failure(tmp_path: Path) -> None:
    path = chain(tmp_path, "single", args={"save_steps": 1000})
    running = start(tmp_path, "run", path, env={"STEPLADDER_FAULT": f"{SLOW};disk_full:stage=two"})
    wait_for_step(tmp_path / "runs/chain", "2-two", 6)
    running.terminate()
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 3, errors
    assert "stage two failed: " in errors
    (ended,) = [event for event in events(tmp_path, "attempt_ended") if event["stage"] == "two"]
    assert (ended["status"], ended["cause"], ended["stopped"]) == ("failed", "disk_full", False)
    assert ended["steps_lost"] >= 2


@pytest.mark.full
def test_a_signal_to_the_ranks_alone_is_heard(tmp_path: Path, undisturbed: Callable[[str], bytes]) -> None:
    path = chain(tmp_path, "ddp", args={"save_steps": 1000})
    running = start(tmp_path, "run", path, env={"STEPLADDER_FAULT": SLOW})
    wait_for_step(tmp_path / "runs/chain", "2-two", 6)
    launcher_of(running).children()[0].send_signal(signal.SIGUSR1)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 75, errors
    assert "its processes were signalled" in errors
    finish(tmp_path, path)
    assert weights(tmp_path) == undisturbed("ddp")


@pytest.mark.full
def test_a_time_limit_ends_with_a_checkpoint(tmp_path: Path, undisturbed: Callable[[str], bytes]) -> None:
    path = chain(tmp_path, "single", args={"save_steps": 1000}, time_limit="30s")
    stopped = stepladder("run", path, cwd=tmp_path, env={"STEPLADDER_FAULT": SLOW.replace("0.7", "7")})
    assert stopped.returncode == 75, stopped.stderr
    assert "the time limit of 30 s" in stopped.stderr
    assert events(tmp_path, "attempt_ended")[-1]["status"] == "stopped"
    finish(tmp_path, path)
    assert weights(tmp_path) == undisturbed("single")


def test_a_hang_is_ended_with_the_stacks_of_all_ranks_and_retried(
    tmp_path: Path, undisturbed: Callable[[str], bytes]
) -> None:
    path = chain(tmp_path, "ddp", hang={"step": 5}, retries={"limit": 1, "pause": 0.1})
    fault = {"STEPLADDER_FAULT": "hang_collective:rank=1,step=9"}
    done = stepladder("run", path, cwd=tmp_path, env=fault)
    assert done.returncode == 0, done.stderr
    assert "stage two hangs: no progress for" in done.stderr
    assert "retry 1 of 1" in done.stderr
    log = (tmp_path / "runs/chain/2-two/stage_two_full.log").read_text()
    for rank in (0, 1):
        stacks = log.split(f"=== stepladder: Python stacks of rank {rank}, process")[1]
        assert "most recent call first" in stacks
        assert "training_step" in stacks
    ended = events(tmp_path, "attempt_ended")
    assert [event.get("cause") for event in ended] == [None, "hang", None]
    assert weights(tmp_path) == undisturbed("ddp")


@pytest.mark.full
def test_a_stopped_rank_is_a_hang_that_names_it(tmp_path: Path) -> None:
    path = chain(tmp_path, "ddp", hang={"step": 5})
    failed = stepladder("run", path, cwd=tmp_path, env={"STEPLADDER_FAULT": "stop:rank=1,step=9"})
    assert failed.returncode == 3, failed.stderr
    assert "rank 1 is stopped by a signal" in failed.stderr
    assert failed.stderr.count("hint:") == 1
    no_process_left(tmp_path)


def test_retries_have_a_budget_and_are_for_causes_that_they_can_help(tmp_path: Path) -> None:
    path = chain(tmp_path, "single", retries={"limit": 1, "pause": 0.1})
    failed = stepladder("run", path, cwd=tmp_path, env={"STEPLADDER_FAULT": "kill:step=2,attempt=any"})
    assert failed.returncode == 3, failed.stderr
    assert "failed again after 1 retries" in failed.stderr
    ended = events(tmp_path, "attempt_ended")
    assert [event["retry"] for event in ended] == [True, True]
    assert all(event["seconds"] > 0 and event["steps_lost"] >= 0 for event in ended)

    failed = stepladder("run", path, cwd=tmp_path, env={"STEPLADDER_FAULT": "exception:step=2,attempt=any"})
    assert failed.returncode == 3, failed.stderr
    assert len(events(tmp_path, "attempt_ended")) == 3  # an error of the script stays one, however often it is tried


def test_a_half_written_checkpoint_is_set_aside_and_said(tmp_path: Path, undisturbed: Callable[[str], bytes]) -> None:
    """Once a file is cut, and once all is there but the manifest, when the evidence tells of this save already."""
    path = chain(tmp_path, "single", args={"save_total_limit": 1})
    for fault in ("truncate:step=10,byte=20000", "kill:at=manifest,step=12,attempt=2"):
        failed = stepladder("run", path, cwd=tmp_path, env={"STEPLADDER_FAULT": fault})
        assert failed.returncode == 3, failed.stderr
    assert "checkpoint-10 is not complete" in failed.stderr
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-12 is not complete" in done.stderr
    stage = tmp_path / "runs/chain/2-two"
    assert [place.name for place in stage.glob("checkpoint-*[0-9]") if "." not in place.name] == ["checkpoint-12"]
    (aside,) = stage.glob("checkpoint-10.incomplete-*")
    assert sum(file.stat().st_size for file in aside.rglob("*") if file.is_file()) == 20000
    assert events(tmp_path, "set_aside_incomplete")[0]["checkpoint"].endswith(aside.name)
    assert weights(tmp_path) == undisturbed("single")


def test_the_only_checkpoint_of_a_stage_half_written(tmp_path: Path, undisturbed: Callable[[str], bytes]) -> None:
    """The model is there and the optimizer is not: nothing of that stage can be gone on from."""
    path = chain(tmp_path, "single", args={"save_steps": 1000})
    failed = stepladder("run", path, cwd=tmp_path, env={"STEPLADDER_FAULT": "kill:stage=one,at=save,step=4"})
    assert failed.returncode == 3, failed.stderr
    assert not (tmp_path / "runs/chain/1-one/checkpoint-4/optimizer.pt").exists()
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-4 is not complete" in done.stderr
    assert weights(tmp_path) == undisturbed("single")


@pytest.mark.parametrize("victim", ["launcher", "engine"])
def test_nothing_survives(tmp_path: Path, victim: str) -> None:
    """Data workers included, within a moment: they are tied to their rank, the ranks to the launcher."""
    running = start(tmp_path, "run", chain(tmp_path, "ddp"), env={"STEPLADDER_FAULT": "slow:rank=any,seconds=1"})
    wait_for(tmp_path / "runs/chain/1-one/checkpoint-2/stepladder.json")
    launcher = launcher_of(running)
    assert len(launcher.children()) == 2
    assert len(launcher.children(recursive=True)) >= 4
    (launcher if victim == "launcher" else running).kill()
    running.communicate(timeout=30)
    assert running.returncode == (3 if victim == "launcher" else -signal.SIGKILL)
    no_process_left(tmp_path)


def beat(folder: Path, rank: int, phase: str, pid: int, step: int = 5, longest: float | None = 0.01) -> None:
    path = heartbeat_path(folder / "heartbeat.json", rank)
    write_json(path, Heartbeat(pid, rank, step, 10, None, None, longest, time.time(), phase).to_dict())


LIMITS = HangPlan(step=2.5, start=60.0, save=60.0, evaluate=60.0)


def look(watch: HangWatch, seconds: float) -> str | None:
    """What the watch says within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hung = watch.hung()
        if hung is not None:
            return hung
        time.sleep(0.2)
    return None


@pytest.mark.parametrize(
    ("phase", "longest", "hangs"),
    [
        ("training", 0.01, True),
        ("training", 1.0, False),  # twenty such steps are more than the limit
        ("training", None, False),  # the first step may compile
        ("saving", 0.01, False),
        ("evaluating", 0.01, False),
        ("starting", None, False),
    ],
)
def test_the_limit_knows_what_a_process_is_doing(
    tmp_path: Path, phase: str, longest: float | None, hangs: bool
) -> None:
    log = tmp_path / "log"
    log.touch()
    beat(tmp_path, 0, phase, os.getpid(), longest=longest)
    hung = look(HangWatch(LIMITS, tmp_path / "heartbeat.json", 1, log), 4.5)
    assert (hung is not None) == hangs
    if hung:
        assert "limit 2 s" in hung or "limit 3 s" in hung
        assert "rank 0 training at step 5" in hung


def sleeping(task: Path | None) -> subprocess.Popen[bytes]:
    """A process that works on a task, or on none."""
    env = {key: value for key, value in os.environ.items() if key != TASK_VARIABLE}
    env |= {} if task is None else {TASK_VARIABLE: str(task.resolve())}
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=env)


def test_a_process_that_gets_on_does_not_hang_and_one_that_is_stopped_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    sleeper = sleeping(tmp_path / "task.json")
    try:
        watch = HangWatch(LIMITS, tmp_path / "heartbeat.json", 2, log)
        for step in range(5, 12):
            beat(tmp_path, 0, "training", os.getpid(), step)
            beat(tmp_path, 1, "training", sleeper.pid, step)
            assert look(watch, 0.6) is None
        sleeper.send_signal(signal.SIGSTOP)
        hung = look(watch, 6)
        assert hung is not None
        assert hung.endswith("rank 1 is stopped by a signal")
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize(("works_on", "ours"), [("task.json", True), ("2/task.json", False), (None, False)])
def test_a_process_id_that_was_used_again_is_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works_on: str | None, ours: bool
) -> None:
    """Also not where it is older than the heartbeat: the clock may have been set, or the heartbeat brought here."""
    task = tmp_path / "task.json"
    other = sleeping(None if works_on is None else tmp_path / works_on)
    try:
        time.sleep(0.2)  # its environment is its parent's until it begins
        beat(tmp_path, 0, "training", other.pid)
        found = read(Heartbeat, tmp_path / "heartbeat.json")
        assert (process_of(found, task) is not None) == ours
        assert Attempt(1, AttemptDirectory(tmp_path), None).alive == ours
        monkeypatch.setattr(psutil.Process, "environ", refusing)
        assert process_of(found, task) is not None, "what cannot be read tells nothing"
    finally:
        other.kill()
        other.wait()


def refusing(process: psutil.Process) -> dict[str, str]:
    raise psutil.AccessDenied(process.pid)


@pytest.mark.parametrize("change", [{"pid": -5}, {"pid": 0}, {"pid": 2**40}, {"phase": "dancing"}], ids=str)
def test_a_damaged_heartbeat_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    beat(tmp_path, 0, "training", os.getpid())
    path = tmp_path / "heartbeat.json"
    write_json(path, {**json.loads(path.read_text()), **change})
    with pytest.raises(ContractError):
        read(Heartbeat, path)
    attempt = Attempt(1, AttemptDirectory(tmp_path), None)
    assert (attempt.heartbeat, attempt.alive) == (None, False)


def test_until_the_second_step_is_done_no_step_is_a_measure(tmp_path: Path) -> None:
    """The first one may compile. The second one's end is always written down: the next step may hang at once."""
    path = tmp_path / "heartbeat.json"
    pulse = Pulse(SimpleNamespace(heartbeat_path=str(path), end_step=9), 0, 4)  # type: ignore[arg-type]
    pulse.enter("training")
    assert not pulse.step_done(5)
    pulse.beat(None)
    assert read(Heartbeat, path).longest_seconds is None
    assert pulse.step_done(6)
    pulse.beat(None)
    assert read(Heartbeat, path).longest_seconds is not None
    assert not pulse.step_done(7)


def test_pauses_grow_and_are_bounded() -> None:
    retries = RetryPlan(limit=10, pause=30.0)
    assert [pause(retries, number) for number in (1, 2, 3, 6, 100)] == [30, 60, 120, 600, 600]


@pytest.mark.parametrize(
    ("own", "file", "kills"),
    [
        ("0::/job/step", "job/step/memory.events", 3),
        ("0::/job/step", "memory.events", 3),  # in a container its own group is the root
        ("11:cpu:/\n7:memory:/job\n0::/", "memory/job/memory.oom_control", 3),
        ("7:memory:/job", "memory/memory.oom_control", 3),
        ("0::/", "elsewhere/memory.events", 0),
        (None, "memory.events", 0),
    ],
)
def test_the_kernel_says_how_often_it_killed_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, file: str, kills: int
) -> None:
    """Control groups of both versions, and a system that has none."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("oom_kill_disable 0\nunder_oom 0\noom 5\noom_kill 3\noom_group_kill 1\n")
    if own is not None:
        (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    assert memory.memory_kills() == kills
