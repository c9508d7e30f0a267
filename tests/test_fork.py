"""A fork: a new run from a boundary of another one, which stays as it is, byte for byte."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from stepladder import shared_files
from stepladder.editing import fork, past
from stepladder.editing.lineage import read
from stepladder.errors import CurriculumError
from stepladder.opening import forked, load_plan, plan_of_parent
from stepladder.paths import RunDirectory
from stepladder.records.facts import collect
from stepladder.records.status import plan_of, run_status
from stepladder.verify.stage import check_stage
from stepladder_worker import seal
from support import stepladder, tiny_curriculum

#: Every stage has its own curve, so that the steps of a later one change nothing of an earlier one.
FAST = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 0, "save_steps": 2, "warmup_steps": 0}
FIRST = {"name": "one", "steps": 3}
AS_PLANNED = [FIRST, {"name": "two", "steps": 3, "handover": {"data": "continue"}}]
EDITED = [FIRST, {"name": "two", "steps": 4, "handover": {"data": "continue"}, "args": {"learning_rate": 5e-3}}]


def curriculum(folder: Path, stages: list[dict[str, Any]], name: str = "base", **changes: Any) -> Path:
    file = tiny_curriculum(folder, "base", schedule="stage", args=FAST, stages=stages)
    document = {**json.loads(file.read_text()), "name": name, "output_dir": f"runs/{name}", **changes}
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(document))
    return file


def run(folder: Path, *words: str | Path) -> str:
    done = stepladder("run", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def refused(folder: Path, *words: str | Path) -> str:
    done = stepladder("run", *words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert sum(line.startswith("hint:") for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def begin(folder: Path, file: Path, name: str) -> None:
    """Make a fork as `run --fork` does before it trains anything."""
    with contextlib.chdir(folder):
        plan = load_plan(str(file), forked(str(file), None, name), look_at_files=True)
        directory = RunDirectory(Path(plan.output_dir))
        with past.locked(directory):
            fork.begin(plan_of_parent(str(file), None, plan), directory, plan)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def failing(folder: Path, name: str) -> dict[str, set[str]]:
    """Names of the failing checks by stage, without reading tensors."""
    with contextlib.chdir(folder):
        directory = RunDirectory(Path("runs", name))
        verdicts = [check_stage(facts) for facts in collect(directory, plan_of(directory).stages, deep=False)]
    return {verdict.name: {check.name for check in verdict.failed} for verdict in verdicts}


def weights(folder: Path, name: str) -> bytes:
    return (folder / f"runs/{name}/2-two/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two stages, and a fork of it that changes the second; nobody writes into it."""
    folder = tmp_path_factory.mktemp("base")
    run(folder, curriculum(folder, AS_PLANNED))
    before = digests(folder / "runs/base")
    (folder / "said.txt").write_text(run(folder, curriculum(folder, EDITED), "--fork", "changed"))
    # Trained to its end, read back and verified, the fork has written nothing into the run it came from.
    assert digests(folder / "runs/base") == before
    return folder


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_fork_ends_as_the_edited_curriculum_would_from_scratch(base: Path, tmp_path: Path) -> None:
    run(tmp_path, curriculum(tmp_path, EDITED, "scratch"))
    assert weights(base, "changed") == weights(tmp_path, "scratch")
    assert weights(base, "base") != weights(base, "changed")


def test_what_differs_is_said(base: Path) -> None:
    said = (base / "said.txt").read_text()
    assert "changed is a fork of base from the end of stage one, step 3" in said
    assert "stage two: steps 3 -> 4" in said
    assert "stage two: args.learning_rate 0.001 -> 0.005" in said
    assert "inherited from base" in said


def test_inherited_stages_are_read_only_and_stored_once(base: Path) -> None:
    old, new = base / "runs/base/1-one", base / "runs/changed/1-one"
    clones = shared_files._cloned(old / "model.safetensors", base / "clone")
    for name in ("model.safetensors", "checkpoint-3/model.safetensors", "checkpoint-3/stepladder.json"):
        assert (new / name).stat().st_mode & 0o222 == 0
        assert (new / name).read_bytes() == (old / name).read_bytes()
        assert clones or (new / name).samefile(old / name), name
    assert not (new / "checkpoint-2").exists()
    assert (new / "stage_one_full.log").stat().st_mode & 0o200  # its own: logs are appended to
    assert "inherited from run base" in (new / "stage_one_full.log").read_text().splitlines()[0]
    assert not (base / "runs/changed/attempts/1-one").exists()


def test_every_verb_says_where_a_stage_comes_from(base: Path) -> None:
    table = stepladder("status", "runs/changed", cwd=base).stdout
    assert "done, inherited from base" in table
    stages = json.loads(stepladder("status", "runs/changed", "--json", cwd=base).stdout)["stages"]
    assert [(stage["state"], stage["inherited_from"]) for stage in stages] == [("done", "base"), ("done", None)]
    assert "inherited from run base" in stepladder("logs", "runs/changed", cwd=base).stdout


def test_a_fork_outlives_the_run_it_came_from(copy: Path) -> None:
    shutil.rmtree(copy / "runs/base")
    verified = stepladder("verify", "runs/changed", cwd=copy)
    assert verified.returncode == 0, verified.stdout
    assert "from run base" in verified.stdout
    assert "its 15 checks held there" in verified.stdout
    assert "nothing to run" in run(copy, "base.yaml", "--fork", "changed")
    assert "nothing to run" in run(copy, "runs/changed/curriculum.yaml")  # the copy that it keeps is of itself
    # Its own curriculum goes on with it as well.
    assert "nothing to run" in run(copy, curriculum(copy, EDITED, "changed"))


def test_a_fork_is_frozen_like_any_run(copy: Path) -> None:
    said = refused(copy, curriculum(copy, [{"name": "one", "steps": 2}, EDITED[1]], "changed"))
    assert "stage one: is finished; its `steps` was 3, now 2" in said


@pytest.mark.parametrize("verb", ["run", "fork"])
def test_a_finished_stage_whose_end_is_away_is_frozen(copy: Path, verb: str) -> None:
    """Stage two was trained on it, and it may come back. Its own journal line may be lost, too."""
    (copy / "runs/base/1-one/checkpoint-3").rename(copy / "away")
    stages = [{**FIRST, "args": {"data_mixture": "other"}}, AS_PLANNED[1]]
    before = digests(copy / "runs")
    said = refused(copy, curriculum(copy, stages), *(["--fork", "new"] if verb == "fork" else []))
    assert "is finished; its `args.data_mixture` was (not given), now other" in said
    assert digests(copy / "runs") == before


def test_an_edit_counts_only_where_the_run_goes_on(copy: Path) -> None:
    """Stage two is refused for its state: the edit of its environment, which is allowed, is not written down."""
    (copy / "runs/base/1-one/checkpoint-3").rename(copy / "away")
    before = digests(copy / "runs")
    said = refused(copy, curriculum(copy, [{**FIRST, "env": {"NEW": "1"}}, AS_PLANNED[1]]))
    assert "stage one: is not complete, though stage two continued from it" in said
    assert digests(copy / "runs") == before


def test_an_inherited_stage_is_not_started_by_hand(copy: Path) -> None:
    """Its files are those of the run that it comes from: a training in its folders would write into that."""
    before = digests(copy / "runs")
    done = stepladder("command", curriculum(copy, EDITED, "changed"), "--stage", "one", cwd=copy)
    assert done.returncode == 2, done.stdout
    assert "stage one: is inherited from run base, and is not trained here" in done.stderr
    assert "hint: to have this fork train it itself, set it and what follows aside" in done.stderr
    assert digests(copy / "runs") == before


def test_a_second_fork_and_a_fork_of_a_fork(copy: Path) -> None:
    """Both stages are as they were, so nothing is left to train; who trained a stage is remembered across forks."""
    begin(copy, curriculum(copy, AS_PLANNED), "again")
    begin(copy, curriculum(copy, EDITED, "changed"), "third")
    with contextlib.chdir(copy):
        lineage = read(RunDirectory(Path("runs/third")))
    assert lineage is not None
    assert lineage.name == "changed"
    assert [(stage.stage, stage.run) for stage in lineage.stages] == [("one", "base"), ("two", "changed")]
    assert "is a fork of changed" in refused(copy, "base.yaml", "--fork", "third")
    shutil.rmtree(copy / "runs/base")
    shutil.rmtree(copy / "runs/changed")
    assert failing(copy, "third") == failing(copy, "again") == {"one": set(), "two": set()}
    assert weights(copy, "third") != weights(copy, "again")


def test_a_fork_that_was_cut_short_is_made_again(copy: Path) -> None:
    """The identity is written last: without it there is no fork yet, and half of the files may be missing."""
    file = curriculum(copy, AS_PLANNED)
    begin(copy, file, "again")
    (copy / "runs/again/run.json").unlink()
    for name in ("optimizer.pt", "stepladder.json"):
        (copy / "runs/again/2-two/checkpoint-6" / name).unlink()
    begin(copy, file, "again")
    assert failing(copy, "again") == {"one": set(), "two": set()}


def test_where_links_cannot_be_made_files_are_copied(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    begin(copy, curriculum(copy, AS_PLANNED), "again")
    copied = copy / "runs/again/1-one/checkpoint-3/model.safetensors"
    assert (copied.stat().st_nlink, copied.stat().st_mode & 0o222) == (1, 0)
    assert failing(copy, "again") == {"one": set(), "two": set()}


class TestRefusals:
    @pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "..", "x" * 65])
    def test_names_that_leave_the_directory(self, base: Path, name: str) -> None:
        with pytest.raises(CurriculumError, match="expected 1 to 64 letters"):
            forked(str(base / "base.yaml"), None, name)

    def test_its_own_name(self, base: Path) -> None:
        assert "is the name of the run's own directory" in refused(base, "base.yaml", "--fork", "base")

    def test_nothing_agrees(self, copy: Path) -> None:
        said = refused(copy, curriculum(copy, [{"name": "one", "steps": 2}, AS_PLANNED[1]]), "--fork", "new")
        assert "has no stage for a fork: stage one is finished; its `steps` was 3, now 2" in said

    def test_no_run(self, tmp_path: Path) -> None:
        assert "there is nothing to fork" in refused(tmp_path, curriculum(tmp_path, EDITED), "--fork", "new")

    def test_a_run_of_its_own(self, copy: Path) -> None:
        shutil.copytree(copy / "runs/base", copy / "runs/other")
        assert "is a run of its own and no fork of base" in refused(copy, "base.yaml", "--fork", "other")

    def test_a_place_in_use(self, copy: Path) -> None:
        (copy / "runs/notes").mkdir()
        (copy / "runs/notes/mine.txt").write_text("mine")
        assert "holds mine.txt, and is no run" in refused(copy, "base.yaml", "--fork", "notes")
        assert (copy / "runs/notes/mine.txt").read_text() == "mine"

    def test_stage_directories_that_would_not_follow(self, copy: Path) -> None:
        file = curriculum(copy, EDITED, stage_dir="stages/{name}")
        assert "expected {output_dir} in it" in refused(copy, file, "--fork", "new")

    def test_a_damaged_boundary(self, copy: Path) -> None:
        """The same size, so that only its checksum tells."""
        path = copy / "runs/base/1-one/checkpoint-3/model.safetensors"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        said = refused(copy, "base.yaml", "--fork", "new")
        assert "model.safetensors differs from what was written" in said

    def test_evidence_that_does_not_hold(self, copy: Path) -> None:
        result = copy / "runs/base/attempts/1-one/1/result.json"
        result.write_text(result.read_text().replace('"status"', '"status" '))
        done = stepladder("run", "base.yaml", "--fork", "new", cwd=copy)
        assert done.returncode == 4, done.stderr
        assert "stage one: evidence" in done.stderr
        assert not (copy / "runs/new/run.json").exists()


class TestForgery:
    """What is inherited is held to the journal's record of it."""

    def lineage(self, copy: Path, **changes: Any) -> None:
        path = copy / "runs/changed/run.json"
        document = json.loads(path.read_text())
        document["lineage"]["stages"][0].update(changes)
        path.write_text(json.dumps(seal.sealed(document)))

    def test_a_healthy_fork_verifies(self, base: Path) -> None:
        assert failing(base, "changed") == {"one": set(), "two": set()}

    def test_another_origin(self, copy: Path) -> None:
        self.lineage(copy, run="elsewhere")
        assert failing(copy, "changed")["one"] == {"inherited"}

    def test_a_stage_said_to_be_inherited(self, copy: Path) -> None:
        path = copy / "runs/changed/run.json"
        document = json.loads(path.read_text())
        entry = document["lineage"]["stages"][0]
        document["lineage"]["stages"].append({**entry, "stage": "two", "index": 2, "run_id": document["run_id"]})
        path.write_text(json.dumps(seal.sealed(document)))
        assert failing(copy, "changed")["two"] == {"inherited"}

    def test_another_checkpoint(self, copy: Path) -> None:
        """Whole and of the right run, but not the one that was handed on."""
        path = copy / "runs/changed/1-one/checkpoint-3/stepladder.json"
        document = json.loads(path.read_text())
        document["attempt"] = 2
        path.unlink()
        path.write_text(json.dumps(seal.sealed(document)))
        assert failing(copy, "changed")["one"] == {"inherited"}

    def test_a_stage_of_a_fork_set_aside_is_its_own(self, copy: Path) -> None:
        """The lineage forgets it, so it would be trained here; the run it came from stays as it was."""
        before = digests(copy / "runs/base")
        with contextlib.chdir(copy):
            directory = RunDirectory(Path("runs/changed"))
            past.set_aside(directory, plan_of(directory), "one")
            stages = run_status(directory, plan_of(directory))
        assert [(stage.state, stage.inherited_from) for stage in stages] == [("waiting", None), ("waiting", None)]
        assert failing(copy, "changed")["one"] == {"finished"}
        assert digests(copy / "runs/base") == before
