"""What stages will write is known before they do, what does not fit is refused, what is the same is stored once."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stepladder import shared_files
from stepladder.curriculum.parse import load
from stepladder.errors import PlanError
from stepladder.export import export_model
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.planning.resolve import make_plan
from stepladder.preflight import checkpoint_size, disk
from stepladder.preflight.checkpoint_size import BaseModel, NotKnownError, Span
from stepladder.records.journal import Journal
from stepladder.records.status import plan_of as recorded_plan
from stepladder_worker import manifest
from support import check_names, stepladder, tiny_curriculum

BUILT_IN = "module:stepladder.trainer"
MODEL = BaseModel(elements=1000, stored=4000, tensors=1, beside=0)
#: What a checkpoint of one tensor has beside weights and optimizer.
SMALL_FILES = 51_200


def planned(tmp_path: Path, **args: Any) -> PlannedStage:
    """The second stage of a curriculum, steps 5 to 13, with arguments of its own."""
    changes = {key: args.pop(key) for key in ("trainable",) if key in args}
    script = args.pop("script", BUILT_IN)
    file = tiny_curriculum(tmp_path, args=args, **changes)
    document = json.loads(file.read_text()) | {"script": script}
    file.write_text(json.dumps(document))
    return plan_of(file).stages[1]


def plan_of(file: Path) -> Plan:
    return make_plan(load(str(file)).curriculum)


class TestHowMany:
    """Checkpoints that a stage from step 5 to 13 keeps, and has at one time."""

    @pytest.mark.parametrize(
        ("args", "stay", "at_once"),
        [
            ({}, 1, 1),
            ({"save_strategy": "no"}, 1, 1),
            ({"save_steps": 2}, 5, 5),  # 6, 8, 10, 12, 13
            ({"save_steps": 0.2}, 4, 4),  # every third of 13 steps: 6, 9, 12, and 13
            ({"save_steps": 13}, 1, 1),
            ({"save_steps": 2, "save_total_limit": 2}, 2, 3),
            ({"save_steps": 2, "save_total_limit": 1, "load_best_model_at_end": True}, 2, 3),
            ({"save_steps": 2, "save_total_limit": 1, "load_best_model_at_end": "false"}, 1, 2),
            ({"save_steps": 2, "save_total_limit": 9}, 5, 5),
            ({"save_strategy": "epoch", "save_total_limit": 3}, 3, 4),
        ],
    )
    def test_by_what_the_arguments_say(self, tmp_path: Path, args: dict[str, Any], stay: int, at_once: int) -> None:
        found = disk.counts(planned(tmp_path, **args))
        assert (found.most, found.most_at_once) == (stay, at_once)

    def test_an_epoch_may_be_any_number_of_steps(self, tmp_path: Path) -> None:
        found = disk.counts(planned(tmp_path, save_strategy="epoch"))
        assert (found.least, found.most) == (1, None)


class TestHowLarge:
    """Bytes of a checkpoint of a model of 1000 float32 elements, from its headers alone."""

    @pytest.mark.parametrize(
        ("args", "low", "high"),
        [
            ({}, 12_000, 12_000),
            ({"model_init_kwargs": {"dtype": "bfloat16"}}, 6_000, 6_000),
            ({"optim": "adafactor"}, 4_000, 12_000),
            ({"trainable": ["*.weight"]}, 4_000, 12_000),
            ({"deepspeed": {"zero_optimization": {"stage": 2}}}, 20_000, 20_000),
            ({"deepspeed": {"zero_optimization": {"stage": 3}}}, 12_000, 16_000),
            (
                {
                    "bf16": True,
                    "deepspeed": {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}},
                },
                14_000,
                14_000,
            ),
            ({"fsdp": "full_shard", "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}}, 16_000, 16_000),
            ({"fsdp": "full_shard", "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}, 12_000, 12_000),
            ({"script": "train.py"}, -SMALL_FILES, 12_000),
            ({"script": "module:trl.scripts.sft", "bf16": True}, 6_000, 12_000),
        ],
    )
    def test_by_engine_and_arguments(self, tmp_path: Path, args: dict[str, Any], low: int, high: int) -> None:
        found = checkpoint_size.of_stage(planned(tmp_path, **args), MODEL)
        assert found.checkpoint == Span(low + SMALL_FILES, high + SMALL_FILES)

    @pytest.mark.parametrize("args", [{"use_peft": True}, {"lora_r": 8}])
    def test_of_an_adapter_nothing_is_known(self, tmp_path: Path, args: dict[str, Any]) -> None:
        with pytest.raises(NotKnownError, match="adapter"):
            checkpoint_size.of_stage(planned(tmp_path, **args), MODEL)

    def test_a_switch_that_is_off_in_words_speaks_of_none(self, tmp_path: Path) -> None:
        assert checkpoint_size.of_stage(planned(tmp_path, use_peft="no", lora_enable="false"), MODEL)

    def test_is_what_is_really_written(self, healthy_chain: Path, tmp_path: Path) -> None:
        """A script that trains all of the model, as the chain's does: within a tenth, checkpoint and model."""
        checkpoint = healthy_chain / "runs/tiny/2-two/checkpoint-13"
        written = sum(path.stat().st_size for path in checkpoint.iterdir())
        base = checkpoint_size.base_model(healthy_chain / "runs/tiny/1-one")
        found = checkpoint_size.of_stage(planned(tmp_path), base)
        assert found.checkpoint.low == found.checkpoint.high
        assert abs(found.checkpoint.low - written) < 0.1 * written
        real = checkpoint_size.of_checkpoint(checkpoint, manifest.read(checkpoint))
        assert real.checkpoint == Span(written, written)
        assert abs(found.model.low - real.model.low) < 0.1 * real.model.low

    def test_is_not_known_without_weights_to_read(self, tmp_path: Path) -> None:
        for name, content in (("adapter_config.json", b"{}"), ("model.safetensors", b"cut"), ("nothing.bin", b"")):
            folder = tmp_path / name
            folder.mkdir()
            (folder / name).write_bytes(content)
            with pytest.raises(NotKnownError):
                checkpoint_size.base_model(folder)


class TestRoom:
    """Needs against free bytes, without a disk."""

    def need(self, name: str, peak: int, stays: int, device: int = 1) -> disk.Need:
        return disk.Need(name, f"runs/{name}", Path(), device, Span(peak, peak), Span(stays, stays))

    def test_a_stage_needs_room_beside_what_those_before_it_leave(self) -> None:
        needs = [self.need("one", 300, 100), self.need("two", 400, 100)]
        assert list(disk.shortages(needs, {1: 500})) == []
        found = list(disk.shortages(needs, {1: 499}))
        assert [problem.place for problem in found] == ["runs/two"]
        assert "needs 500 bytes" in found[0].text
        assert "499 bytes are free" in found[0].text

    def test_each_file_system_has_its_own(self) -> None:
        needs = [self.need("one", 300, 100), self.need("two", 400, 100, device=2)]
        assert list(disk.shortages(needs, {1: 300, 2: 400})) == []
        assert len(list(disk.shortages(needs, {1: 300, 2: 399}))) == 1

    def test_only_what_is_certain_is_refused(self) -> None:
        need = replace(self.need("one", 0, 0), peak=Span(100, 900))
        assert list(disk.shortages([need], {1: 500})) == []
        assert "up to 900 bytes" in next(disk.doubts([need], {1: 500}))
        assert list(disk.doubts([need], {1: 900})) == []
        unknown = replace(need, peak=Span(0, None))
        assert [*disk.shortages([unknown], {1: 0}), *disk.doubts([unknown], {1: 0})] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a real file system of so many bytes."""
    mounted: list[Path] = []

    def make(size: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestARealDisk:
    def test_a_start_that_cannot_fit_is_refused_before_anything_runs(
        self, text_model: Path, tmp_path: Path, small_disk: Callable[[int], Path]
    ) -> None:
        place = small_disk(400_000)
        (tmp_path / "texts.txt").write_text("one\ntwo\n")
        (tmp_path / "runs").symlink_to(place)
        data = {"datasets": {"texts": {"path": "texts.txt"}}, "cache": str(tmp_path / "cache")}
        changes = {"script": BUILT_IN, "model_name_or_path": str(text_model), "data": data}
        stages = [{"name": "one", "steps": 5, "data": "texts"}]
        file = curriculum(tmp_path, stages=stages, **changes)
        refused = stepladder("run", file, cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        for words in ("runs/tiny/1-one: stage one needs ", " are free", "hint: set a smaller `save_total_limit`"):
            assert words in refused.stderr
        assert not list(place.glob("tiny/*/checkpoint-*"))
        assert not (place / "tiny/attempts").exists()
        larger = tmp_path / "larger"
        (tmp_path / "runs").unlink()
        (tmp_path / "runs").symlink_to(larger)
        plan = replace_output(plan_of(file), larger)
        disk.require_room(plan, plan.stages)  # the same start where there is room

    def test_a_stage_is_judged_by_what_the_one_before_it_wrote(
        self,
        healthy_chain: Path,
        tmp_path: Path,
        small_disk: Callable[[int], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        place = small_disk(8 << 20)
        (tmp_path / "runs").symlink_to(place)
        shutil.copytree(healthy_chain / "runs/tiny", place / "tiny")
        plan = plan_of(curriculum(tmp_path, handover={"data": "continue"}))
        monkeypatch.chdir(tmp_path)
        assert [found.why for found in disk.estimate(plan)][2] == "checkpoint-24 of stage three"
        disk.require_room(plan, [plan.stages[2]])  # it is there: nothing more is needed
        shutil.rmtree(place / "tiny/3-three")
        disk.require_room(plan, [plan.stages[2]])
        (place / "somebody's").write_bytes(bytes(shutil.disk_usage(place).free - 300_000))
        with pytest.raises(PlanError, match=r"stage three needs .* on the file system of runs/tiny/3-three"):
            disk.require_room(plan, [plan.stages[2]])
        assert disk.estimate(plan)[2].why == "checkpoint-13 of stage two"


def curriculum(folder: Path, **changes: Any) -> Path:
    """`tiny_curriculum` that takes any key."""
    file = tiny_curriculum(folder)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return file


def replace_output(plan: Plan, folder: Path) -> Plan:
    stages = tuple(replace(stage, output_dir=str(folder / stage.name)) for stage in plan.stages)
    return replace(plan, stages=stages)


def test_the_plan_shows_what_will_be_written(healthy_chain: Path) -> None:
    shown = stepladder("plan", "tiny.yaml", cwd=healthy_chain)
    assert shown.stdout.count("disk") == 3, shown.stdout
    assert "checkpoint-24 of stage three" in " ".join(shown.stdout.split())
    assert "disk" not in stepladder("plan", "tiny.yaml", "--no-files", cwd=healthy_chain).stdout
    document = json.loads(stepladder("plan", "tiny.yaml", "--json", cwd=healthy_chain).stdout)
    assert "name" in set(keys(document))
    assert not {"disk", "free", "at_once"} & set(keys(document))  # it says the same on every machine


def keys(document: Any) -> Iterator[str]:
    """Those of every mapping in it, however deep."""
    for item in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from keys(item)
    yield from document if isinstance(document, dict) else ()


def as_one_whom_modes_bind(work: Callable[[Path], object]) -> None:
    """Do it in a folder and a process of a user who is not root; an assertion that fails there fails here."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    try:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                work(folder)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        shutil.rmtree(folder)


def pair(folder: Path) -> tuple[Path, Path]:
    """The same bytes in a checkpoint and beside it."""
    (folder / "checkpoint-5").mkdir()
    paths = folder / "checkpoint-5/model.safetensors", folder / "model.safetensors"
    for path in paths:
        path.write_bytes(bytes(range(256)) * 512)
    return paths


def clones(folder: Path) -> bool:
    """Whether this file system shares blocks."""
    source, target = folder / "clones-1", folder / "clones-2"
    source.write_bytes(b"x")
    found = shared_files._cloned(source, target)
    source.unlink()
    target.unlink(missing_ok=True)
    return found


# Python 3.12 and newer; the child does nothing but read and write files.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestStoredOnce:
    def test_two_names_that_neither_side_can_write_through(self) -> None:
        def work(folder: Path) -> None:
            if clones(folder):
                return
            source, target = pair(folder)
            content = source.read_bytes()
            assert shared_files.same(source, target)
            assert shared_files.share(source, target) == len(content)
            assert source.samefile(target)
            for path in (source, target):
                assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
                with pytest.raises(PermissionError):
                    path.open("r+b")
                with pytest.raises(PermissionError):
                    path.write_bytes(b"torch.save opens its file like this")
            assert source.read_bytes() == content
            assert not list(folder.glob(".*"))
            shared_files.give(source, target)  # again: still one file, and no other name of it left behind
            assert source.stat().st_nlink == 2

        as_one_whom_modes_bind(work)

    def test_a_relaunch_makes_them_two_again(self) -> None:
        def work(folder: Path) -> None:
            source, target = pair(folder)
            shared_files.protect(folder / "checkpoint-5")
            shared_files.share(source, target)
            content = source.read_bytes()
            shared_files.release(folder)
            target.write_bytes(b"the next training")
            assert source.read_bytes() == content
            assert stat.S_IMODE(source.stat().st_mode) & 0o222 == 0

        as_one_whom_modes_bind(work)

    @pytest.mark.skipif(os.geteuid() != 0, reason="modes bind this user")
    def test_root_whom_modes_do_not_bind_gets_no_hard_link(self, tmp_path: Path) -> None:
        source, target = pair(tmp_path)
        content = source.read_bytes()
        shared_files.share(source, target)
        target.write_bytes(b"written through a name")
        assert source.read_bytes() == content

    def test_a_clone_is_two_files_of_one_content(self, tmp_path: Path) -> None:
        if not clones(tmp_path):
            tmp_path = mounted_xfs(tmp_path)
        try:
            source, target = pair(tmp_path)
            free = shutil.disk_usage(tmp_path).free
            assert shared_files.share(source, target) == source.stat().st_size
            os.sync()
            assert shutil.disk_usage(tmp_path).free >= free
            assert not source.samefile(target)
            content = source.read_bytes()
            target.write_bytes(b"another")
            assert source.read_bytes() == content
        finally:
            if tmp_path.name == "xfs":
                subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)

    def test_small_files_and_links_are_left_alone(self, tmp_path: Path) -> None:
        source, target = tmp_path / "a.json", tmp_path / "b.json"
        source.write_text("{}")
        assert shared_files.give(source, target) == 0
        assert not source.samefile(target)
        assert target.stat().st_mode & stat.S_IWUSR

    def test_a_finished_stage_is_protected_and_can_be_set_aside(self, healthy_chain: Path, tmp_path: Path) -> None:
        files = [path for path in (healthy_chain / "runs/tiny").glob("*/checkpoint-*/*") if path.is_file()]
        assert files
        assert all(path.stat().st_mode & 0o222 == 0 for path in files)
        shutil.copytree(healthy_chain, tmp_path / "copy")  # with its modes
        manifest.discard(tmp_path / "copy/runs/tiny/1-one/checkpoint-5")
        assert not (tmp_path / "copy/runs/tiny/1-one/checkpoint-5").exists()
        verified = stepladder("verify", "runs/tiny", "--json", cwd=healthy_chain)
        assert all(check_names(json.loads(verified.stdout), "three").values())

    def test_after_another_launch_the_model_is_seen_to_again(
        self, healthy_chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(healthy_chain, tmp_path / "copy")
        monkeypatch.chdir(tmp_path / "copy")
        run = RunDirectory(Path("runs/tiny"))
        stage, journal = recorded_plan(run).stages[2], Journal(run.journal)
        model, checkpoint = Path("runs/tiny/3-three/model.safetensors"), Path("runs/tiny/3-three/checkpoint-24")
        content = model.read_bytes()
        model.unlink()
        export_model(stage, run.worker, journal)
        assert not model.exists()  # a person may take it away
        journal.append("attempt_started", stage="three", attempt=2)
        (checkpoint / "optimizer.pt").chmod(0o644)
        export_model(stage, run.worker, journal)
        assert model.read_bytes() == content
        assert (checkpoint / "optimizer.pt").stat().st_mode & 0o222 == 0


def mounted_xfs(folder: Path) -> Path:
    """A file system that shares blocks; skips the test where none can be made."""
    image, place = folder / "image", folder / "xfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    for argv in (["mkfs.xfs", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        if shutil.which(argv[0]) is None:
            pytest.skip(f"no file system here shares blocks, and there is no {argv[0]} to make one")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system here shares blocks, and none can be mounted: {done.stderr.strip()}")
    return place


def test_every_file_is_on_the_disk_before_the_manifest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power loss keeps is what was synced: seen from the system calls that are made."""
    checkpoint = tmp_path / "run/1-one/checkpoint-5"
    (checkpoint / "global_step5").mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "global_step5/zero_pp_rank_1_mp_rank_00_optim_states.pt"):
        (checkpoint / name).write_bytes(b"content")
    calls: list[str] = []
    fsync, replace_file = os.fsync, Path.replace

    def seen_fsync(descriptor: int) -> None:
        calls.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def seen_replace(self: Path, target: Path) -> Path:
        calls.append(f"rename {target}")
        return replace_file(self, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    manifest.write(checkpoint, "run", "one", 1, 1, {"global_step": 5, "weights": {}})
    renamed = calls.index(f"rename {checkpoint / manifest.NAME}")
    before, after = set(calls[:renamed]), calls[renamed + 1 :]
    everything = {str(path) for path in (checkpoint, *checkpoint.rglob("*")) if path.name != manifest.NAME}
    assert everything | {str(checkpoint.parent), str(checkpoint.parent.parent)} <= before
    assert after == [str(checkpoint)]
