"""Every reader of a run's files against damaged ones: an answer or a refusal in words, no traceback, no wrong yes.

`damage.py` makes the damage. The twin of each test is the healthy file, which must be read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from damage import NO_FILE, STRAY, damaged, instead, of_any, of_document, of_json
from stepladder.curriculum.parse import load
from stepladder.errors import CurriculumError, InputError, StepladderError
from stepladder.paths import RunDirectory
from stepladder.preflight import checkpoint_fit
from stepladder.preflight.machine import checked_plan
from stepladder.records.facts import collect
from stepladder.records.journal import Journal
from stepladder.records.status import plan_of, run_status
from stepladder.verify.stage import check_stage
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, Heartbeat, StageResult, StageTask, digest, read, write_json
from stepladder_worker.session import BoundaryError, Session
from support import ENVIRONMENT, ROOT, in_process, stepladder

#: How much random damage of each kind a file gets, in `make test` and in `make test-full`.
SOME = pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.full)])

RUN = RunDirectory(Path("runs/tiny"))
BOUNDARY = Path("runs/tiny/2-two/checkpoint-13")
END = Path("runs/tiny/3-three/checkpoint-24")
LAST = RUN.attempt(3, "three", 1)
EXIT_REFUSED = 70


@pytest.fixture(scope="module")
def finished(healthy_chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run; every test puts back what it damages."""
    return Path(shutil.copytree(healthy_chain, tmp_path_factory.mktemp("fuzz") / "copy", copy_function=shutil.copyfile))


@pytest.fixture(autouse=True)
def _there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)


@SOME
@pytest.mark.parametrize(
    ("path", "reader"),
    [
        (LAST.task, lambda path: read(StageTask, path)),
        (END / manifest.NAME, lambda path: manifest.read(path.parent)),
        (RUN.plan, lambda path: plan_of(RUN)),
    ],
    ids=["task", "manifest", "plan"],
)
def test_a_sealed_document_is_what_was_written_or_refused(
    path: Path, reader: Callable[[Path], Any], count: int
) -> None:
    healthy = reader(path)
    for name, content in of_json(path.read_bytes(), seed=1, count=count):
        with damaged(path, content), contextlib.suppress(ContractError, InputError):
            assert reader(path) == healthy, name


@SOME
@pytest.mark.parametrize(("path", "kind"), [(LAST.result, StageResult), (LAST.heartbeat, Heartbeat)])
def test_a_message_has_values_of_its_kinds_or_is_refused(path: Path, kind: Any, count: int) -> None:
    """Who reads it relies on the kinds of its fields; whether a result is the one written, its seal says."""
    kinds = TypeAdapter(kind)
    assert isinstance(read(kind, path), kind)
    for name, content in of_json(path.read_bytes(), seed=2, count=count):
        with damaged(path, content), contextlib.suppress(ContractError):
            try:
                kinds.validate_python(read(kind, path), strict=True)
            except ValidationError as error:
                pytest.fail(f"{name}: {error}")


@SOME
def test_a_damaged_line_of_the_journal_is_noticed(count: int) -> None:
    journal, content = Journal(RUN.journal), RUN.journal.read_bytes()
    healthy = journal.read()
    assert len(healthy) > 10
    assert all(event["follows"] for event in healthy)
    for name, found in of_any(content, seed=3, count=10 * count):
        # A last line without an end is what a crash leaves, and a whole number of lines an older copy of the file:
        # nothing in it is wrong, and what `verify` needs of the rest it misses.
        cut_short = not found.endswith(b"\n") or content.startswith(found)
        with damaged(RUN.journal, found):
            for events in (journal.read(), _after_one_more(journal)):
                whole = [event for event in events if event["event"] != "another"]
                noticed = any(not event["follows"] for event in events)
                assert noticed or whole == healthy or (cut_short and whole == healthy[: len(whole)]), name


def _after_one_more(journal: Journal) -> list[dict[str, Any]]:
    journal.append("another", stage="three")
    events = journal.read()
    assert events[-1]["event"] == "another"
    return events


@SOME
@pytest.mark.parametrize("file", ["rooms", "roborefer", "mixtures", "text_trl"])
def test_a_curriculum_is_planned_or_refused_with_a_hint(
    file: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    content = (ROOT / f"examples/{file}.yaml").read_bytes()
    path = tmp_path / "curriculum.yaml"
    document = load(f"examples/{file}.yaml").document.data
    texts = [*of_any(content, seed=4, count=count // 5), *_as_json(of_document(document, seed=4, count=2 * count))]
    if file != "rooms":
        texts = [(name, text) for name, text in texts if name not in STRAY]  # the same whatever they stand for
    outcomes = {"planned": _planned(f"examples/{file}.yaml")}
    for name, text in texts:
        path.write_bytes(text)
        outcomes[name] = _planned(str(path))
    assert outcomes.pop("planned")
    assert any(outcomes.values())
    assert not all(outcomes.values())


def _planned(file: str) -> bool:
    """Whether a curriculum can be planned; what it is refused with has a hint."""
    try:
        plan = checked_plan(load(file), look_at_files=False)
    except CurriculumError as error:
        refused = error
    else:
        return bool(json.loads(json.dumps(plan.to_json()))["kind"] == "plan")
    assert refused.problems
    assert refused.hint
    return False


def _as_json(documents: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for name, document in documents:
        yield name, json.dumps(document).encode()  # JSON is YAML


#: Files of a finished run that verbs read, and whether `verify` promises to notice their damage.
READ_BY_VERBS = {
    RUN.identity: True,
    RUN.plan: True,
    RUN.journal: True,
    LAST.task: True,
    LAST.result: True,
    END / manifest.NAME: True,
    END / "trainer_state.json": False,  # with its checksum, which the tests of `--inspect` below look at
    RUN.verification: False,
    LAST.heartbeat: False,
    RUN.lock: False,
}
VERBS = (("status", "runs/tiny", "--json"), ("status", "runs/tiny"), ("logs", "runs/tiny"))


@SOME
@pytest.mark.parametrize("path", READ_BY_VERBS, ids=str)
def test_verbs_answer_or_refuse_over_a_damaged_file(path: Path, count: int) -> None:
    content = path.read_bytes() or b"process 1"
    assert _says_done()
    assert _holds()
    damage = of_any if path in (RUN.journal, RUN.lock) else of_json
    for name, found in damage(content, 5, count // 8):
        with damaged(path, found):
            _require_sound_answers(path, content, found, name)


@pytest.mark.parametrize("path", READ_BY_VERBS, ids=str)
def test_verbs_answer_or_refuse_where_there_is_no_file(path: Path) -> None:
    """A pipe in its place keeps nobody waiting."""
    content = path.read_bytes()
    for name, make in NO_FILE.items():
        with instead(path, lambda make=make: make(path)):
            _require_sound_answers(path, content, None, name)


def _require_sound_answers(path: Path, before: bytes, now: bytes | None, name: str) -> None:
    for words in VERBS:
        done = in_process(*words, cwd=Path.cwd())
        hints = sum(line.startswith("hint:") for line in done.stderr.splitlines())
        assert (done.returncode, hints) in ((0, 0), (2, 1), (3, 1)), (name, words, done.stderr)
        assert "Traceback" not in done.stderr
    if READ_BY_VERBS[path] and not _equal(path, before, now):
        assert not _holds(), name
    if path == END / manifest.NAME and not _equal(path, before, now):
        assert not _says_done(), name


def _equal(path: Path, before: bytes, now: bytes | None) -> bool:
    """Whether a file still says the same; of a journal, whether it is what a crash may leave."""
    if now == before:
        return True
    if now is None or path in (LAST.task, LAST.result):
        return False  # digests of these files are kept
    if path == RUN.journal:
        return now.startswith(before[: before.index(b'"model_ready", "stage": "three"')].rpartition(b"\n")[0])
    with contextlib.suppress(ValueError, RecursionError):
        return bool(json.loads(now) == json.loads(before))
    return False


def _says_done() -> bool:
    """Whether `status` calls the last stage done."""
    try:
        return run_status(RUN, plan_of(RUN))[-1].state == "done"
    except StepladderError:
        return False


def _holds() -> bool:
    """Whether every check of every stage holds, as `run` makes them after each stage: without reading tensors."""
    try:
        return all(check_stage(facts).ok for facts in collect(RUN, plan_of(RUN).stages, deep=False))
    except StepladderError:
        return False


@pytest.mark.parametrize(
    ("path", "code"), [(RUN.identity, 2), (RUN.plan, 2), (LAST.result, 2), (END / manifest.NAME, 2), (RUN.journal, 4)]
)
def test_run_itself_trains_nothing_over_a_damaged_record(path: Path, code: int) -> None:
    """The command, on a finished run of which one file is cut short (the journal: has a line changed)."""
    content = path.read_bytes()
    before = sorted(Path.cwd().rglob("*"))
    with damaged(path, content.replace(b"e", b"f", 1) if path == RUN.journal else content[:100]):
        done = stepladder("run", "tiny.yaml", cwd=Path.cwd())
    assert done.returncode == code, done.stderr
    assert done.stderr.count("hint: ") == 1
    assert "Traceback" not in done.stderr
    assert sorted(Path.cwd().rglob("*")) == before, "no attempt was made"


def test_verify_itself_says_no() -> None:
    """The command, on the three stages damaged at once: none of them passes for another's sake."""
    three = [RUN.root / "1-one/checkpoint-5/model.safetensors", BOUNDARY / "optimizer.pt", END / "trainer_state.json"]
    with contextlib.ExitStack() as stack:
        for path in three:
            content = path.read_bytes()
            middle = len(content) // 2
            stack.enter_context(damaged(path, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]))
        done = stepladder("verify", "runs/tiny", "--json", cwd=Path.cwd())
    assert done.returncode == 1, done.stderr
    assert [stage["ok"] for stage in json.loads(done.stdout)["stages"]] == [False] * 3
    assert "Traceback" not in done.stderr


@SOME
def test_a_damaged_file_of_a_checkpoint_is_seen_by_reading_it(count: int, tmp_path: Path) -> None:
    """Every file of a checkpoint, damaged in every way: one worker reads them all, as `verify` has it read them."""
    whole = [path.name for path in BOUNDARY.iterdir() if path.name != manifest.NAME]
    copies = {"healthy": Path(shutil.copytree(BOUNDARY, tmp_path / "healthy", copy_function=os.link))}
    for file in whole:
        content = (BOUNDARY / file).read_bytes()
        for name, found in of_any(content, seed=6, count=max(1, count // 12)):
            if found == content or f"{file}: {name}" in copies:  # drawn before
                continue
            folder = tmp_path / f"damaged-{len(copies)}"
            shutil.copytree(BOUNDARY, folder, copy_function=os.link)
            (folder / file).unlink()
            (folder / file).write_bytes(found)
            copies[f"{file}: {name}"] = folder
    words = [sys.executable, "-m", "stepladder_worker", "--inspect", *map(str, copies.values())]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])["checkpoints"]
    seen = {name: facts[str(folder)]["problems"] + facts[str(folder)]["errors"] for name, folder in copies.items()}
    assert [name for name, problems in seen.items() if not problems] == ["healthy"]
    unseen = [name for name, folder in copies.items() if not checkpoint_fit.damage(folder)]
    assert unseen == ["healthy"]  # the files are small: `plan` compares their checksums before anything starts


#: What a script leaves where it was started.
TRAINS = "from pathlib import Path; Path('trained').touch()"


def test_a_worker_refuses_a_damaged_task(tmp_path: Path) -> None:
    """Real processes: they end before the script begins, with a reason in the log."""
    task = _task_of_a_new_stage(tmp_path)
    content = task.read_bytes()
    assert _worker(task, tmp_path) == (0, True)
    for name, found in list(of_json(content, seed=7, count=3))[::2]:
        if found.strip() != content.strip():
            task.write_bytes(found)
            assert _worker(task, tmp_path) == (EXIT_REFUSED, False), name
    for name, make in list(NO_FILE.items())[:5]:
        task.unlink()
        make(task)
        assert _worker(task, tmp_path) == (EXIT_REFUSED, False), name
        task.rmdir() if name == "a directory" else task.unlink(missing_ok=True)
        task.write_bytes(content)


def _task_of_a_new_stage(folder: Path) -> Path:
    """The task of the last stage, to be trained in another directory, sealed like that."""
    paths = {name: str(folder / name) for name in ("output_dir", "result_path", "heartbeat_path", "control_path")}
    task = replace(read(StageTask, LAST.task), boundary_checkpoint=str(BOUNDARY.resolve()), **paths)
    write_json(folder / "task.json", task.to_dict())
    return folder / "task.json"


def _worker(task: Path, folder: Path) -> tuple[int, bool]:
    """(exit code, whether the script began) of a worker with this task."""
    script, mark = folder / "script.py", folder / "trained"
    script.write_text(TRAINS)
    mark.unlink(missing_ok=True)
    words = [sys.executable, "-m", "stepladder_worker", str(script)]
    env = {**ENVIRONMENT, "STEPLADDER_TASK": str(task)}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, mark.exists()


@SOME
def test_nothing_trains_from_a_damaged_checkpoint(count: int, tmp_path: Path) -> None:
    """A worker's session begins with the checkpoint that it goes on from, before the script is there."""
    path = _task_of_a_new_stage(tmp_path)
    task = read(StageTask, path)
    assert Session(task, digest(path)).true_step == 13
    for file in sorted(found for found in BOUNDARY.iterdir() if found.is_file()):
        content = file.read_bytes()
        for name, found in of_any(content, seed=8, count=max(1, count // 5)):
            if not _equal(file, content, found):
                with damaged(file, found), pytest.raises(BoundaryError, match="; hint: "):
                    pytest.fail(f"{file.name}: {name}: {Session(task, digest(path)).true_step}")
