"""Every cause is found in a log that was really provoked, or in recorded lines where no ordinary machine can."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnosis_table import table
from provoking import CANNOT, FAILURES, SLOW
from recorded_logs import RECORDED
from stepladder.diagnosis.diagnose import Diagnosis, ExitFacts, diagnose, of_attempt
from stepladder.diagnosis.log_lines import Place
from stepladder.diagnosis.needles import needles
from stepladder.diagnosis.subject import _told_of_memory, answer
from stepladder.diagnosis.table import TABLE
from stepladder.records import log_file
from stepladder.records.log_tail import log_tail
from support import ENVIRONMENT, ROOT, stepladder, tiny_curriculum

#: Failure of provoking.py -> the cause that its log must be given.
PROVOKED = {
    **dict.fromkeys(("host_memory_of_torch", "host_memory_of_python", "host_memory_of_numpy"), "host_memory"),
    **dict.fromkeys(("host_memory_for_a_process", "gloo_peer_fails"), "host_memory"),
    **dict.fromkeys(("disk_full_of_python", "disk_full_of_torch", "disk_full_of_safetensors"), "disk_full"),
    "chained": "disk_full",
    **dict.fromkeys(("shared_memory_full", "shared_memory_bus_error"), "shared_memory"),
    "data_worker_killed": "data_worker_killed",
    "data_worker_fault": "data_worker_fault",
    "data_worker_exit": "data_worker_ended",
    "data_worker_raises": "exception",
    "open_files": "open_files",
    "missing_module": "missing_module",
    **dict.fromkeys(("missing_file", "missing_script"), "missing_file"),
    "missing_weights": "missing_weights",
    "permission": "permission",
    **dict.fromkeys(("port_in_use_of_torch", "port_in_use_of_python"), "port_in_use"),
    "tokenizer_changed_strict": "vocabulary",
    **dict.fromkeys(("shapes", "tokenizer_changed_transformers"), "shapes"),
    "unpickling": "unpickling",
    **dict.fromkeys(("unpickling_cut_short", "damaged_weights"), "damaged_file"),
    **dict.fromkeys(("no_accelerator", "no_accelerator_for_bf16"), "no_device"),
    **dict.fromkeys(("syntax", "indentation"), "syntax"),
    **dict.fromkeys(("import_name", "import_attribute", "version_clash"), "version_clash"),
    "undefined_symbol": "binary_clash",
    **dict.fromkeys(("unknown_arguments", "unknown_arguments_of_argparse", "missing_arguments"), "arguments"),
    "hub_offline": "hub_offline",
    **dict.fromkeys(("hub_unreachable", "hub_down"), "hub_unreachable"),
    **dict.fromkeys(("hub_gated", "hub_unauthorized"), "hub_access"),
    "hub_not_found": "hub_missing",
    "hub_too_many_requests": "hub_busy",
    "gloo_timeout": "gloo_timeout",
    "gloo_peer_killed": "connection_lost",
    **dict.fromkeys(("rendezvous_timeout", "rendezvous_by_file_timeout"), "rendezvous_timeout"),
    **dict.fromkeys(("rank_fault", "faulthandler_fault"), "process_fault"),
    "rank_killed": "process_killed",
    "rank_bus_error": "process_bus_error",
    "rank_instruction": "process_instruction",
    "rank_abort": "process_aborted",
    "rank_exits": "launcher_report",
    "rank_stopped": "stopped",
    **dict.fromkeys(("rank_raises", "own_words"), "exception"),
    **dict.fromkeys(("rank_terminated", "launcher_terminated"), "terminated"),
    "pool_broken": "pool_broken",
    "nan_of_a_plain_trainer": "nan",
    "interrupted": "interrupted",
    "worker_refuses": "refused",
}
#: Never the cause while there is the error that was passed on; `data_worker_raises` has one.
NEVER_ALONE = {"wrapped"}

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:63105.\n"
WATCHDOG = RECORDED["NCCL watchdog"][1] + "\n"
KILLED = "E1123 api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 7) of binary: python\n"
WORKER_KILLED = "RuntimeError: DataLoader worker (pid 70) is killed by signal: Killed. \n"
WORKER_GONE = "RuntimeError: DataLoader worker (pid(s) 70, 71) exited unexpectedly\n"
SLURM_KILL = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 3, in main\n    work()\n'
LOSS = "{'loss': '2.5', 'grad_norm': '1.9', 'learning_rate': '5e-05', 'epoch': '0.1'}\n"


def found(log: str | bytes, attempt: int | None = None, **facts: object) -> Diagnosis | None:
    content = log.encode() if isinstance(log, str) else log
    return diagnose(io.BytesIO(content), ExitFacts(**facts), attempt)  # type: ignore[arg-type]


def cause(log: str | bytes, attempt: int | None = None, **facts: object) -> str | None:
    diagnosis = found(log, attempt, **facts)
    return None if diagnosis is None else diagnosis.cause


def provoked(tmp_path: Path, names: list[str]) -> dict[str, bytes]:
    """Logs of failures by name, without those that need a right or a compiler that is not here."""
    argv = [sys.executable, str(ROOT / "tests/provoking.py"), str(tmp_path), *names]
    subprocess.run(argv, env=ENVIRONMENT, check=True, capture_output=True, timeout=300)
    codes = {name: int((tmp_path / f"{name}.exit").read_text()) for name in names}
    possible = [name for name in names if codes[name] != CANNOT]
    assert set(names) - set(possible) <= {"shared_memory_full", "disk_full_of_safetensors", "undefined_symbol"}
    return {name: (tmp_path / f"{name}.log").read_bytes() for name in possible}


def test_every_cause_is_found_in_a_log_that_was_really_provoked(tmp_path: Path) -> None:
    """All failures in one go; every line that a signature knows is one that the quick look sees."""
    assert set(PROVOKED) == set(FAILURES)
    logs = provoked(tmp_path, [name for name in FAILURES if name not in SLOW])
    assert {name: cause(log) for name, log in logs.items()} == {name: PROVOKED[name] for name in logs}
    for log in [*logs.values(), *(lines.encode() for _, lines in RECORDED.values())]:
        _seen_by_the_quick_look(log.decode("utf-8", errors="replace"))


@pytest.mark.full
def test_a_hub_that_does_not_answer_is_known(tmp_path: Path) -> None:
    logs = provoked(tmp_path, list(SLOW))
    assert {name: cause(log) for name, log in logs.items()} == {name: PROVOKED[name] for name in SLOW}


def _seen_by_the_quick_look(log: str) -> None:
    for line in log.splitlines():
        for signature in TABLE:
            for pattern in signature.patterns if signature.match(line) is not None else ():
                one = type(signature)("one", "root", "", "", (pattern,))
                assert one.match(line) is None or any(needle in line for needle in needles(pattern)), (pattern, line)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_lines_have_their_cause(name: str) -> None:
    expected, lines = RECORDED[name]
    assert cause(f"loading\n{lines}\n") == expected


def test_every_signature_is_shown_by_a_log() -> None:
    shown = {*PROVOKED.values(), *(expected for expected, _ in RECORDED.values()), *NEVER_ALONE}
    assert {signature.name for signature in TABLE} - shown == set()


def test_signatures_are_whole() -> None:
    names = [signature.name for signature in TABLE]
    assert len(set(names)) == len(names)
    for signature in TABLE:
        assert "." not in signature.hint[-1] + signature.cause[-1], signature.name
        assert set(signature.replaces) <= {*names, "exception", "hang"}, signature.name
        assert all(needles(pattern) for pattern in signature.patterns), signature.name


def test_a_pattern_that_every_line_may_have_is_no_pattern() -> None:
    assert needles(r"\bout of (?:memory|space)\b|Err\w+: (?P<what>no more|\d+ left)") == (
        *("out of ", "no more", " left"),
    )
    with pytest.raises(ValueError, match="nearly every line"):
        needles(r"\d+: .*")


@pytest.mark.parametrize(
    ("retry", "memory", "names"),
    [
        (False, True, ("device_memory", "host_memory", "shared_memory")),
        (True, True, ("memory_kill",)),
        (True, False, ("data_worker_killed",)),
        (True, False, ("nccl_timeout", "gloo_timeout", "device_fault", "process_killed", "port_in_use", "hub_busy")),
        (False, False, ("syntax", "missing_module", "missing_file", "nan", "vocabulary", "world_size", "quota")),
    ],
)
def test_a_retry_is_promised_where_it_can_help(retry: bool, memory: bool, names: tuple[str, ...]) -> None:
    of = {signature.name: signature for signature in TABLE}
    assert {name: (of[name].retry, of[name].memory) for name in names} == dict.fromkeys(names, (retry, memory))


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (OOM + LOST, "device_memory"),
        (LOST + OOM, "device_memory"),  # the other rank's lines came first
        (WATCHDOG + OOM, "device_memory"),
        (WATCHDOG + LOST, "nccl_timeout"),
        (OOM + "OSError: [Errno 28] No space left on device\n", "device_memory"),
        ("OSError: [Errno 28] No space left on device\n" + OOM, "disk_full"),
        (WATCHDOG + KILLED, "process_killed"),
        (TRACEBACK + "EOFError\n" + KILLED, "process_killed"),
        (OOM + KILLED, "device_memory"),
        (LOST + "terminate called after throwing an instance\n", "connection_lost"),
        (TRACEBACK + "ValueError: sample 7 is empty\n" + WATCHDOG, "exception"),
        ("[rank1]: " + TRACEBACK.replace("\n", "\n[rank1]: ") + "ValueError: 7\n" + LOST, "exception"),
    ],
)
def test_the_earliest_root_wins(log: str, expected: str) -> None:
    assert cause(log) == expected


def test_a_kill_for_memory_stands_in_for_what_was_seen_of_it() -> None:
    assert (
        cause(WATCHDOG, memory_kills=1) == cause(KILLED, memory_kills=1) == cause("", memory_kills=1) == "memory_kill"
    )
    diagnosis = found(OOM, memory_kills=1)
    assert diagnosis is not None
    assert (diagnosis.cause, len(diagnosis.confirmed)) == ("device_memory", 1)


@pytest.mark.parametrize(
    ("log", "facts", "expected"),
    [
        (TRACEBACK + "ValueError: 7\n", {"exit_code": 1}, "exception"),
        ("", {"exit_code": 1, "error": {"type": "ValueError", "message": "7"}}, "exception"),
        (TRACEBACK + "ValueError: 7\n" + LOST, {"exit_code": 1}, "exception"),  # it ended, so the others lost it
        ("loading\n", {"hung": "no progress for 90 s"}, "hang"),
        (TRACEBACK + "EOFError\n", {"exit_code": 137}, "memory_kill"),
        (TRACEBACK + "EOFError\n" + KILLED, {"exit_code": 1}, "memory_kill"),
        (SLURM_KILL + TRACEBACK + "EOFError\n" + KILLED, {"exit_code": 1}, "memory_kill"),
        (TRACEBACK + "_queue.Empty\n" + WORKER_GONE, {"exit_code": 1}, "memory_kill"),
        (LOST, {"hung": "no progress for 90 s"}, "memory_kill"),
    ],
)
def test_a_kill_that_may_be_anybodys_needs_a_sign_of_one_here(log: str, facts: dict[str, Any], expected: str) -> None:
    """A rung of `on_oom` is taken for good, and the count is of a whole control group."""
    diagnosis = found(log, memory_kills=1, **facts)
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.memory) == (expected, expected == "memory_kill")


@pytest.mark.parametrize(("told", "facts"), [("", {}), ("", {"memory_kills": 1}), (SLURM_KILL, {})])
def test_a_killed_data_worker_is_a_want_of_memory_where_that_is_told(told: str, facts: dict[str, int]) -> None:
    diagnosis = found(WORKER_KILLED + told, **facts)
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.retry) == ("data_worker_killed", True)
    assert diagnosis.memory == bool(told or facts)
    assert len(diagnosis.confirmed) == diagnosis.memory
    # `diagnose` has no count any more: the journal tells it how that was.
    assert _told_of_memory({"cause": diagnosis.cause, "memory": diagnosis.memory}) == diagnosis.memory


@pytest.mark.parametrize(
    ("code", "expected"),
    [(-9, "process_killed"), (137, "process_killed"), (-11, "process_fault"), (143, "terminated"), (1, "unknown")],
)
def test_the_exit_code_decides_where_the_log_is_silent(code: int, expected: str) -> None:
    assert cause("loading\n", exit_code=code) == expected
    assert cause(OOM, exit_code=code) == "device_memory"


def test_a_hang_is_the_cause_unless_something_made_it() -> None:
    assert cause("loading\n", hung="no progress for 90 s", exit_code=-9) == "hang"
    assert cause(WATCHDOG, hung="no progress for 90 s") == "hang"
    diagnosis = found(OOM, hung="no progress for 90 s")
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.confirmed) == ("device_memory", ("no progress for 90 s",))


def test_what_the_worker_recorded_counts_as_a_line(tmp_path: Path) -> None:
    missing = tmp_path / "no.log"
    planted = {"type": "RuntimeError", "message": "planted; hint: take it out", "rank": 1}
    diagnosis = of_attempt(missing, 1, 1, planted, 0, None)
    assert (diagnosis.cause, diagnosis.sentence) == ("exception", "RuntimeError: planted (rank 1)")
    assert (diagnosis.hint, diagnosis.retry, diagnosis.memory) == ("take it out", False, False)
    shapes = {"type": "RuntimeError", "message": "Error(s) in loading:\n\tsize mismatch for lm_head.weight: x"}
    assert of_attempt(missing, 1, 1, shapes, 0, None).cause == "vocabulary"
    refused = {"type": "BoundaryError", "message": "stage two: the data changed; hint: take them back"}
    diagnosis = of_attempt(missing, 1, 1, refused, 0, None)
    assert (diagnosis.cause, diagnosis.sentence, diagnosis.hint) == ("refused", "the data changed", "take them back")
    lost = {"type": "RuntimeError", "message": LOST.removeprefix("RuntimeError: ").strip()}
    assert of_attempt(missing, 1, 1, lost, 0, None).cause == "connection_lost"
    assert of_attempt(missing, 1, 1, None, 0, None).cause == "unknown"


def test_of_unknown_errors_the_recorded_one_ended_it() -> None:
    first = TRACEBACK + "ValueError: was caught and printed\n"
    diagnosis = found(first + TRACEBACK + "KeyError: 'x'\n", error={"type": "KeyError", "message": "'x'", "rank": 1})
    assert diagnosis is not None
    assert (diagnosis.sentence, diagnosis.where) == (
        "KeyError: 'x' (rank 1)",
        Place(8, "KeyError: 'x'", 1, 'File "train.py", line 3, in main'),
    )
    assert cause(first + LOST, error={"type": "RuntimeError", "message": LOST}) == "exception"


def test_what_was_survived_ended_nothing() -> None:
    assert cause(OOM + LOSS + LOSS + TRACEBACK + "ValueError: 7\n") == "exception"
    assert cause(OOM + LOSS * 2) is None
    assert cause(OOM + LOSS) == "device_memory"  # another rank may write one more
    assert cause(TRACEBACK + "KeyError: 'cache'\n" + LOSS * 5) is None


def test_an_error_that_was_handled_is_not_the_one_that_ended_it() -> None:
    chain = "KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n"
    diagnosis = found(TRACEBACK + chain + TRACEBACK + "ValueError: no sample 'a'\n")
    assert diagnosis is not None
    assert diagnosis.sentence == "ValueError: no sample 'a'"
    assert diagnosis.where is not None
    assert (diagnosis.where.line, diagnosis.where.frame) == (11, 'File "train.py", line 3, in main')
    tried = (
        TRACEBACK + "FileNotFoundError: [Errno 2] No such file or directory: 'cache'" + chain[len("KeyError: 'a'") :]
    )
    assert cause(tried + TRACEBACK + "ModuleNotFoundError: No module named 'trl'\n") == "missing_module"
    assert cause(tried + TRACEBACK + "RuntimeError: no cache\n") == "missing_file"
    full = "OSError: [Errno 28] No space left on device" + chain[len("KeyError: 'a'") :]
    assert cause(TRACEBACK + full + TRACEBACK + "ModuleNotFoundError: No module named 'trl'\n") == "disk_full"


def test_only_the_part_of_one_attempt_counts() -> None:
    heading = "=== stepladder: stage one, attempt {}, 2026-01-01 00:00:00 ===\n"
    stacks = "=== stepladder: Python stacks of rank 0, process 7 ===\n"
    log = heading.format(1) + OOM + heading.format(2) + stacks + WATCHDOG + heading.format(3) + "loading\n"
    assert [cause(log, attempt) for attempt in (1, 2, 3, None)] == ["device_memory", "nccl_timeout", None, None]
    assert cause(log + heading.format(3) + TRACEBACK + "ValueError: 7\n", 3) == "exception"
    diagnosis = found(log, 2)
    assert diagnosis is not None
    assert diagnosis.where is not None
    assert (diagnosis.where.line, diagnosis.where.rank) == (5, 4)


def test_of_torchruns_report_the_first_failure_counts() -> None:
    """The launcher kills those that do not end in time, and lists them before the first failure."""
    report = """torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : -9 (pid: 70)
  traceback : Signal 9 (SIGKILL) received by PID 70
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : -11 (pid: 71)
  traceback : Signal 11 (SIGSEGV) received by PID 71
"""
    assert cause(report) == "process_fault"
    assert cause(report.replace("-11", "3").replace("Signal 11 (SIGSEGV) received by PID 71", "-")) == "launcher_report"


HEALTHY = f"""[2026-11-23 22:59:28,215] [WARNING] [real_accelerator.py:213] Setting accelerator to CPU.
UserWarning: CUDA initialization: Found no NVIDIA driver on your system.
[W1123 22:53:19 socket.cpp:764] [c10d] The client socket has failed to connect to [localhost]:29500 (errno: 97).
A matching Triton is not available. Error caught was: No module named 'triton'
OOM-safe mode is on; nan-free so far; 0 errors, 0 killed, no signal
lm_head.weight            | MISMATCH | Reinit due to size mismatch - ckpt: torch.Size([32, 8])
stepladder: deleting checkpoint-5 (save_total_limit 1)
the answer to "CUDA error" is 42
    raise RuntimeError("CUDA out of memory")
{LOSS}{{'eval_loss': 2.25, 'error_rate': 0.5}}
"""


def test_a_healthy_log_with_scary_words_is_healthy() -> None:
    assert found(HEALTHY) is None
    assert cause(HEALTHY + OOM) == "device_memory"


def test_any_bytes_are_read() -> None:
    noise = os.urandom(1 << 20)
    assert found(noise) is None
    assert cause(noise + b"\n" + OOM.encode() + noise) == "device_memory"
    bars = "".join(f"\r {i}%|#   | {i}/100 [00:01<00:10,  2.53it/s]" for i in range(100))
    assert cause(bars + "\r\x1b[31m" + OOM) == "device_memory"
    diagnosis = found(b"\xff\xfe" + "größer\n".encode("latin-1") + b"\0" + OOM.encode())
    assert diagnosis is not None
    assert diagnosis.where is not None
    assert diagnosis.where.line == 2
    assert found("x" * (3 << 20) + OOM) is None  # of an endless line only its beginning is looked at
    assert found("") is None


LARGE = """
import resource, sys
from pathlib import Path
from stepladder.diagnosis.diagnose import diagnose
with Path(sys.argv[1]).open("rb") as log:
    found = diagnose(log)
used = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss would count what pytest held as well.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(found.cause, found.where.line, used.ru_utime + used.ru_stime, int(peak.split()[1]) // 1024)
"""


def test_200_megabytes_are_read_in_seconds_and_little_memory(tmp_path: Path) -> None:
    bar = "".join(f"\r {i % 100}%|###  | {i}/100000 [00:0{i % 10}<10:00,  2.53it/s]" for i in range(40))
    unit = (f"{bar}\n{LOSS}eval: error rate 0.25 after step 5, 0 errors so far\n" * 100).encode()
    times = (200 << 20) // len(unit)
    with (tmp_path / "large.log").open("wb") as log:
        for _ in range(times):
            log.write(unit)
        log.write(OOM.encode())
    argv = [sys.executable, "-c", LARGE, str(tmp_path / "large.log")]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=300)
    name, line, seconds, megabytes = done.stdout.split()
    assert (name, int(line)) == ("device_memory", times * 300 + 1)
    assert float(seconds) < 10
    assert int(megabytes) < 100


def test_the_tail_of_a_log_is_of_its_last_attempt(tmp_path: Path) -> None:
    log = tmp_path / "stage_one_full.log"
    for attempt in (1, 2):
        log_file.begin(log, "one", attempt)
        with log.open("a") as file:
            file.write(f"error of attempt {attempt}\n")
    heading, error = log_tail(log)
    assert (heading.startswith("=== stepladder: stage one, attempt 2"), error) == (True, "error of attempt 2")


def test_the_page_lists_the_signatures_as_they_are() -> None:
    """`python tests/diagnosis_table.py` prints what belongs there."""
    assert table() in (ROOT / "docs/diagnosis.md").read_text("utf-8")


def test_a_run_is_diagnosed_by_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first stage turns to NaN, then is made to fail otherwise: each attempt has its own part of the log."""
    stages = [{"name": "one", "steps": 9, "args": {"trouble": "nan"}}, {"name": "two", "steps": 1}]
    curriculum = tiny_curriculum(tmp_path, script="troubled.py", stages=stages)
    assert stepladder("diagnose", curriculum, cwd=tmp_path).returncode == 2  # no run yet
    assert stepladder("run", curriculum, cwd=tmp_path).returncode == 3
    shown = stepladder("diagnose", "runs/tiny", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for text in ("stage one, attempt 1", "nan: the loss or a weight stopped", "hint:   lower the learning rate"):
        assert text in shown.stdout
    assert "runs/tiny/1-one/stage_one_full.log:" in shown.stdout
    monkeypatch.chdir(tmp_path)
    for what in (str(curriculum), "runs/tiny", "runs/tiny/1-one", "runs/tiny/1-one/stage_one_full.log"):
        diagnosis = answer(what).diagnosis
        assert diagnosis is not None, what
        assert diagnosis.cause == "nan", what
    assert answer("runs/tiny", "two").nothing == "it has not been started"
    other = ("--set", "stages.0.args.trouble=raise", "--set", "stages.0.args.trouble_step=2")
    assert stepladder("run", curriculum, *other, cwd=tmp_path).returncode == 3
    document = json.loads(stepladder("diagnose", "runs/tiny", "--json", cwd=tmp_path).stdout)
    assert (document["version"], document["attempt"], document["diagnosis"]["cause"]) == (1, 2, "exception")
    assert document["diagnosis"]["sentence"] == "RuntimeError: planted trouble"


def test_what_is_no_log_is_answered(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    (tmp_path / "fine.log").write_text(HEALTHY, "utf-8")
    (tmp_path / "folder").mkdir()
    for what, code, text in (
        ("empty.log", 0, "the log is empty"),
        ("fine.log", 0, "nothing wrong was found"),
        ("folder", 2, "neither a run"),
        ("missing.log", 2, "no such log"),
    ):
        done = stepladder("diagnose", what, cwd=tmp_path)
        assert (done.returncode, text in done.stdout + done.stderr) == (code, True), (what, done)
        assert "Traceback" not in done.stderr
    assert stepladder("diagnose", "fine.log", "--stage", "one", cwd=tmp_path).returncode == 2
