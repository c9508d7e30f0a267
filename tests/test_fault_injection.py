"""Every planted fault does what its name says, where it says, and nothing where it is not asked for."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import Workers, workers
from stepladder_worker import fault, manifest
from support import ROOT

PAGE = ROOT / "docs/fault_injection.md"


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with workers(tmp_path_factory.mktemp("prepared")) as found:
        yield found


@pytest.mark.parametrize(
    ("planted", "end", "error", "text"),
    [
        ("exception:step=2", 1, "RuntimeError", "planted fault exception:step=2"),
        ("exit:step=2,code=7", 7, None, ""),
        ("kill:step=2", -9, None, ""),
        ("stop:step=2", "stopped", None, ""),
        ("segfault:step=2", -11, None, ""),
        ("nan:step=2", 1, "BoundaryError", "the loss is not finite at step 2"),
        ("out_of_memory:step=2", 1, "OutOfMemoryError", "CUDA out of memory. Tried to allocate"),
        ("out_of_memory:step=2,memory=host", 1, "RuntimeError", "can't allocate memory"),
    ],
)
def test_a_process_ends_as_the_kind_says(
    tmp_path: Path, trainer: Workers, planted: str, end: int | str, error: str | None, text: str
) -> None:
    """In the second step: before the first checkpoint, so none is there."""
    ended = trainer.train(tmp_path / "run", planted)
    assert ended.ranks == [end], ended.log
    assert f"rank 0: planted fault {planted}" in ended.log
    assert text in ended.log
    assert (ended.error or {"type": None})["type"] == error
    assert manifest.checkpoints(ended.stage) == []


def test_sigterm_is_a_request_to_stop(tmp_path: Path, trainer: Workers) -> None:
    ended = trainer.train(tmp_path / "run", "term:step=2")
    assert ended.ranks == [75], ended.log
    assert manifest.problems(ended.stage / "checkpoint-2") == []


@pytest.mark.parametrize("data_workers", [2, pytest.param(0, marks=pytest.mark.full)])
def test_a_loader_that_hangs(tmp_path: Path, trainer: Workers, data_workers: int) -> None:
    """The batch never comes; with data workers it is they that hang, and the process waits for them."""
    asked = {"dataloader_num_workers": data_workers}
    ended = trainer.train(tmp_path / "run", "hang_loader:step=2", in_force=asked, limit=3)
    assert ended.ranks == ["hung"], ended.log
    stack = ended.log.rpartition("most recent call first")[2]
    assert ("in _hang" in stack) == (data_workers == 0), ended.log
    assert "dataloader.py" in stack


def test_a_rank_that_never_comes_to_the_collective(tmp_path: Path, trainer: Workers) -> None:
    ended = trainer.train(tmp_path / "run", "hang_collective:rank=1,step=2", processes=2, limit=3)
    assert ended.ranks == ["hung", "hung"], ended.log
    assert "rank 1: planted fault hang_collective" in ended.log
    assert "rank 0: planted" not in ended.log
    assert ended.log.count("in _hang") == 1  # rank 0 waits in its own code


def test_a_slow_rank_is_only_slow(tmp_path: Path, trainer: Workers) -> None:
    before = time.monotonic()
    ended = trainer.train(tmp_path / "run", "slow:seconds=0.5,step=3")
    assert ended.ranks == [0], ended.log
    assert time.monotonic() - before > 1.5  # steps 3, 4 and 5
    assert manifest.problems(ended.stage / "checkpoint-5", compared=math.inf) == []


@pytest.mark.parametrize(
    ("planted", "error", "text"),
    [
        ("disk_full:step=3", "OSError", "No space left on device"),
        ("disk_full:step=3,file=optimizer.pt", "RuntimeError", "enforce fail at inline_container"),
    ],
)
def test_a_full_disk(tmp_path: Path, trainer: Workers, planted: str, error: str, text: str) -> None:
    """The kernel refuses the bytes; each writer says so in its own way. What came before is there."""
    ended = trainer.train(tmp_path / "run", planted)
    assert ended.ranks == [1], ended.log
    assert ended.error
    assert (ended.error["type"], text in ended.error["message"]) == (error, True), ended.error
    left = {path.name: path.stat().st_size for path in (ended.stage / "checkpoint-3").iterdir()}
    assert left["model.safetensors"] > 0
    assert left["optimizer.pt" if "optimizer" in planted else "trainer_state.json"] == 0
    assert manifest.NAME not in left
    assert not any(path.is_symlink() for path in ended.stage.rglob("*"))


@pytest.mark.parametrize(
    "byte", [0, 101_000, *(pytest.param(byte, marks=pytest.mark.full) for byte in (700, 150_000, 10**9))]
)
def test_a_checkpoint_cut_at_a_byte(tmp_path: Path, trainer: Workers, byte: int) -> None:
    """Whole files, at most one that is cut, nothing behind it, no manifest; the checkpoint before it is untouched."""
    ended = trainer.train(tmp_path / "run", f"truncate:step=5,byte={byte}")
    assert ended.ranks == [-9], ended.log
    folder = ended.stage / "checkpoint-5"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    whole = {path.name: path.stat().st_size for path in (ended.stage / "checkpoint-3").iterdir()}
    whole.pop(manifest.NAME)
    assert sum(sizes.values()) == byte or (set(sizes) == set(whole) and byte == 10**9)
    assert set(sizes) <= set(whole)
    assert sum(size != whole[name] for name, size in sizes.items() if name != "trainer_state.json") <= 1
    assert manifest.problems(folder)
    assert manifest.problems(ended.stage / "checkpoint-3", compared=math.inf) == []


@pytest.mark.parametrize(
    ("planted", "there", "missing"),
    [
        ("kill:at=save,step=3", "model.safetensors", "optimizer.pt"),
        ("kill:at=save,step=3,files=5", "optimizer.pt", "trainer_state.json"),
        pytest.param("kill:at=save,step=3,byte=102000", "training_args.bin", "optimizer.pt", marks=pytest.mark.full),
        pytest.param("kill:at=save,step=3,files=99", "trainer_state.json", manifest.NAME, marks=pytest.mark.full),
        ("kill:at=manifest,step=3", "trainer_state.json", manifest.NAME),
        ("kill:at=manifest,step=3,when=after", manifest.NAME, None),
    ],
)
def test_killed_in_a_save(tmp_path: Path, trainer: Workers, planted: str, there: str, missing: str | None) -> None:
    ended = trainer.train(tmp_path / "run", planted)
    assert ended.ranks == [-9], ended.log
    folder = ended.stage / "checkpoint-3"
    names = {path.name for path in folder.iterdir()}
    assert there in names
    assert missing not in names
    half_written = any(name.startswith(f".{manifest.NAME}") for name in names)
    assert half_written == (planted == "kill:at=manifest,step=3")
    assert (manifest.problems(folder) == []) == (missing is None)


def test_killed_while_a_checkpoint_is_loaded(tmp_path: Path, trainer: Workers) -> None:
    first = trainer.train(tmp_path / "run", "kill:step=4")
    assert first.ranks == [-9], first.log
    ended = trainer.train(tmp_path / "run", "kill:at=load,step=3,attempt=2", attempt=2)
    assert ended.ranks == [-9], ended.log
    done = trainer.train(tmp_path / "run", "kill:at=load,step=3,attempt=2", attempt=3)
    assert done.ranks == [0], done.log


def test_killed_at_the_start_and_at_the_end(tmp_path: Path, trainer: Workers) -> None:
    start = trainer.train(tmp_path / "run", "kill:at=start")
    assert start.ranks == [-9], start.log
    assert not start.stage.exists() or manifest.checkpoints(start.stage) == []
    end = trainer.train(tmp_path / "run", "kill:at=end,attempt=2", attempt=2)
    assert end.ranks == [-9], end.log
    assert manifest.problems(end.stage / "checkpoint-5") == []
    assert not (end.stage / "model.safetensors").exists()


def test_one_rank_of_two(tmp_path: Path, trainer: Workers) -> None:
    ended = trainer.train(tmp_path / "run", "kill:rank=1,at=save,step=3", processes=2)
    assert ended.ranks[1] == -9, ended.log
    assert ended.ranks[0] != 0
    assert manifest.problems(ended.stage / "checkpoint-3")


def test_also_where_nothing_is_enforced(tmp_path: Path, trainer: Workers) -> None:
    ended = trainer.train(tmp_path / "run", "kill:step=2", hook=False)
    assert ended.ranks == [-9], ended.log


LOOK = """import sys; sys.path.insert(0, {scripts!r})
import tiny_train
tiny_train.main()
print("FAULTS", "stepladder_worker.hooks.fault" in sys.modules)
"""


@pytest.mark.parametrize(
    ("planted", "in_place"),
    [("", False), ("kill:step=2,rank=1;kill:step=99;kill:step=2,stage=two;kill:step=2,attempt=2", True)],
)
def test_nothing_strikes_that_is_not_asked_for(tmp_path: Path, trainer: Workers, planted: str, in_place: bool) -> None:
    """Without the variable the hook is not even imported."""
    script = tmp_path / "look.py"
    script.write_text(LOOK.format(scripts=str(ROOT / "tests/scripts")))
    ended = trainer.train(tmp_path / "run", planted, script=script)
    assert ended.ranks == [0], ended.log
    assert f"FAULTS {in_place}" in ended.log
    assert "planted" not in ended.log


@pytest.mark.parametrize(
    ("text", "wrong", "known"),
    [
        ("kil:step=1", "unknown kind 'kil'", "hang_collective"),
        ("kill:at=nowhere", "cannot strike at 'nowhere'", "manifest"),
        ("slow:at=save", "cannot strike at 'save'", "step"),
        ("kill:byte=3", "unknown key 'byte'", "attempt"),
        ("kill:step", "'step' is no key=value", "key=value"),
        ("kill:step=1,step=2", "'step=2' is no key=value", "once"),
        ("kill:step=-1", "step is '-1'", "a global step"),
        ("kill:rank=none", "rank is 'none'", "any"),
        ("slow:seconds=nan", "seconds is 'nan'", "a number of seconds"),
        ("kill:at=manifest,when=later", "when is 'later'", "before or after"),
        ("out_of_memory:memory=disk", "memory is 'disk'", "cuda or host"),
    ],
)
def test_bad_text_is_refused(text: str, wrong: str, known: str) -> None:
    with pytest.raises(fault.FaultError) as refused:
        fault.parse(f"nan:step=3; {text}")
    found, hint = str(refused.value).split("; hint: ")
    assert wrong in found
    assert known in hint


def test_the_worker_refuses_bad_text(tmp_path: Path, trainer: Workers) -> None:
    ended = trainer.train(tmp_path / "run", "kil:step=1")
    assert ended.ranks == [70], ended.log
    assert ended.log.count("hint:") == 1
    assert "Traceback" not in ended.log


def test_parts_mean_what_they_say() -> None:
    first, second = fault.parse("kill:rank=any,step=57 ; truncate: byte=10, attempt=any;")
    assert (first.rank, first.step, first.attempt, first.at) == (None, 57, 1, "step")
    assert (second.rank, second.step, second.attempt, second.at, second.byte) == (0, None, None, "save", 10)


def test_page_and_code_name_the_same() -> None:
    """Kinds, places and keys, each in the table of its heading."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    named = {head: re.findall(r"^\| `(\w+)`", text, re.MULTILINE) for head, text in sections.items()}
    assert named["Kinds"] == list(fault.KINDS)
    assert named["Places"] == list(fault.PLACES)
    assert sorted(named["Keys"]) == sorted(fault.KEYS)


def test_every_key_has_a_field_and_a_reader() -> None:
    assert {field.name for field in dataclasses.fields(fault.Fault)} == {"text", "kind", *fault.KEYS}


def test_examples_of_the_page_can_be_read() -> None:
    examples = re.findall(r'STEPLADDER_FAULT="([^"]+)"', PAGE.read_text("utf-8"))
    assert len(examples) > 5
    assert all(fault.parse(example) for example in examples)
