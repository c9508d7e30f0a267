"""Nothing is run that somebody planted, no secret is shown, no link is written through, nobody else may write."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stepladder import logs
from stepladder.curriculum.copy import hidden_secrets
from stepladder.curriculum.parse import load
from stepladder.editing import edits
from stepladder.editing.past import locked
from stepladder.errors import CurriculumError, PlanError
from stepladder.launch.pack import pack_worker
from stepladder.launch.stopping import StopRequest
from stepladder.paths import RunDirectory
from stepladder.planning.plan import EvaluatePlan, Plan
from stepladder.planning.resolve import make_plan
from stepladder.preflight import planted_links
from stepladder.records.journal import Journal
from stepladder.records.status import plan_of
from stepladder.stage_evaluation import evaluate_stage, evaluation
from stepladder_worker import manifest, proven, redaction, session
from stepladder_worker.contract import StageTask, read, write_json
from support import ENVIRONMENT, ROOT, STEPLADDER, stepladder, tiny_curriculum

TOKEN = "hf_aVerySecretToken0123456789"
OTHER = "hf_oneThatStandsInABrokenOption"
PLAIN = "s3cretOfAnArgumentOfAnyName"
KEY = "wandb-key-of-somebody-abcdef"


def calls(*names: str) -> list[tuple[str, ast.Call]]:
    """Every call of a function or method of one of these names in the sources, with the place it stands at."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in names:
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(function)}", node))
    return found


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), None)


class TestTheSources:
    def test_no_shell_runs_anything(self) -> None:
        names = ("run", "Popen", "call", "check_call", "check_output", "system", "popen", "getoutput", "spawnlp")
        started = calls(*names)
        assert any("subprocess.Popen" in place for place, _ in started)  # the search finds what there is
        assert [place for place, call in started if keyword(call, "shell") not in (None, "False")] == []
        forbidden = ("os.system", "os.popen", "subprocess.getoutput", "os.spawnlp", "commands")
        assert [place for place, _ in started if place.split(": ")[1].startswith(forbidden)] == []

    def test_nothing_is_unpickled_but_tensors_and_plain_types(self) -> None:
        loads = [(place, call) for place, call in calls("load") if place.split(": ")[1] in ("torch.load", "np.load")]
        assert len(loads) >= 5
        free = [
            place
            for place, call in loads
            if keyword(call, "weights_only") != "True"
            and keyword(call, "allow_pickle") != "False"
            and keyword(call, "pickle_module") != "only"  # unpickling.py: an Unpickler of its own, for older torch
        ]
        assert free == []
        others = (
            "pickle.load",
            "pickle.loads",
            "joblib.load",
            "dill.load",
            "shelve.open",
            "marshal.loads",
            "yaml.load",
        )
        found = calls("load", "loads", "open", "eval", "exec")
        assert [place for place, _ in found if place.split(": ")[1] in (*others, "eval", "exec")] == []


class Command:
    """What a hostile file holds: unpickled freely, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def planted(path: Path, target: Path) -> None:
    """Put a hostile file of the same size in a file's place."""
    size = path.stat().st_size
    path.chmod(0o644)
    torch.save(Command(target), path, _use_new_zipfile_serialization=False)  # a format that may be followed by anything
    assert path.stat().st_size <= size
    with path.open("ab") as file:
        file.write(bytes(size - path.stat().st_size))


@pytest.fixture
def before_three(healthy_chain: Path, tmp_path: Path) -> Path:
    """The healthy chain before its last stage."""
    shutil.copytree(healthy_chain, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/runs/tiny/3-three")
    return tmp_path / "copy"


def third_task(folder: Path, engine: str | None) -> StageTask:
    """The task of the last stage, as a worker in `folder` gets it."""
    task = read(StageTask, folder / "runs/tiny/attempts/3-three/1/task.json")
    own = {"output_dir": folder / "runs/tiny/3-three", "boundary_checkpoint": folder / "runs/tiny/2-two/checkpoint-13"}
    return replace(task, engine=engine, **{name: str(path) for name, path in own.items()})


class TestUnpickling:
    def test_a_hostile_file_of_the_same_size_is_refused_and_nothing_is_run(
        self, before_three: Path, tmp_path: Path
    ) -> None:
        optimizer = before_three / "runs/tiny/2-two/checkpoint-13/optimizer.pt"
        planted(optimizer, tmp_path / "stepped-over")
        refused = stepladder("run", "tiny.yaml", cwd=before_three)
        assert refused.returncode in (2, 3), refused.stderr
        assert "optimizer.pt differs from what was written" in refused.stderr
        assert not (tmp_path / "stepped-over").exists()
        with pytest.raises((pickle.UnpicklingError, RuntimeError, OSError)):
            torch.load(optimizer, weights_only=True)
        assert not (tmp_path / "stepped-over").exists()
        torch.load(optimizer, weights_only=False)
        assert (tmp_path / "stepped-over").exists()  # it would have run

    @pytest.mark.parametrize("engine", ["deepspeed", "fsdp"])
    def test_what_an_engine_unpickles_is_proven_first(
        self, before_three: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Files too large to be compared everywhere are compared where something would unpickle them freely."""
        task = third_task(before_three, engine)
        session.Session(task, "")
        planted(before_three / "runs/tiny/2-two/checkpoint-13/optimizer.pt", tmp_path / "stepped-over")
        monkeypatch.setattr(manifest, "SMALL", 0)  # as if it were larger than what is always compared
        with pytest.raises(session.BoundaryError, match=r"optimizer\.pt (is not what this run wrote|differs)"):
            session.Session(task, "")
        with pytest.raises(session.BoundaryError, match=r"optimizer\.pt"):
            session.Session(replace(task, hook=False), "")
        assert not (tmp_path / "stepped-over").exists()

    def test_a_file_that_no_manifest_knows_is_not_proven(self, before_three: Path) -> None:
        checkpoint = before_three / "runs/tiny/2-two/checkpoint-13"
        held = manifest.read(checkpoint)
        assert proven.unproven(checkpoint, held) == []
        (checkpoint / "global_step13").mkdir()
        (checkpoint / "global_step13/zero_pp_rank_1_mp_rank_00_optim_states.pt").write_bytes(b"planted")
        (checkpoint / "notes.md").write_text("a person's own")
        found = proven.unproven(checkpoint, held)
        assert found == ["global_step13/zero_pp_rank_1_mp_rank_00_optim_states.pt"]

    def test_ranks_prove_all_of_it_together(self, tmp_path: Path) -> None:
        names = [f"global_step5/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(5)]
        (tmp_path / "global_step5").mkdir()
        for name in (*names, "scheduler.pt"):
            (tmp_path / name).write_bytes(b"as written")
        manifest.write(tmp_path, "run", "one", 1, 5, {"global_step": 5})
        held = manifest.read(tmp_path)
        for name in (*names, "scheduler.pt"):
            (tmp_path / name).write_bytes(b"or planted")
        found = [proven.unproven(tmp_path, held, rank, 2) for rank in range(2)]
        assert {name for mine in found for name in mine} == {*names, "scheduler.pt"}
        assert found[0] == [*names[0::2], "scheduler.pt"]
        assert found[1] == [*names[1::2], "scheduler.pt"]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run whose script tells its secrets and fails, started without any mask; all that the verbs said of it."""
    folder = tmp_path_factory.mktemp("leaky")
    lines = (
        "import os",
        "print('my token', os.environ['HF_TOKEN'], flush=True)",
        "raise RuntimeError('401 for ' + os.environ['HF_TOKEN'] + ' and ' + os.environ['WANDB_API_KEY'])",
    )
    (folder / "leak.py").write_text("\n".join(lines))
    file = tiny_curriculum(folder, env={"HF_TOKEN": TOKEN, "SHORT_KEY": "data"}, args={"who": TOKEN, "by": [KEY]})
    told = {"evaluate": {"run": ["true", KEY]}, "prepare": [{"run": ["touch", f"made-{KEY}"], "creates": "leak.py"}]}
    file.write_text(json.dumps(json.loads(file.read_text()) | told | {"script": "leak.py"}))
    said = ""
    for words in (
        ["run", "tiny.yaml"],
        ["status", "runs/tiny"],
        ["status", "runs/tiny", "--json"],
        ["logs", "tiny.yaml"],
        ["plan", "tiny.yaml"],
        ["plan", "tiny.yaml", "--json"],
        ["command", "tiny.yaml", "--stage", "one"],
        ["command", "tiny.yaml", "--stage", "one", "--plain"],
        ["run", "tiny.yaml", "--set", f"env.HF_TOKEN=[{TOKEN}]"],
        ["run", "tiny.yaml", "--set", f"env.HF_TOKEN={{{OTHER}"],
        ["run", "tiny.yaml", "--set", f"args.token={{{PLAIN}"],
        ["run", "tiny.yaml", "--set", f"args.passwd={{{PLAIN}"],
        ["run", "tiny.yaml", "--set", f"args.hub_token={TOKEN}"],
        ["run", "tiny.yaml", "--set", f"args.wandb_api_key={TOKEN}"],
    ):
        done = subprocess.run(
            [str(STEPLADDER), *words],
            cwd=folder,
            env={**ENVIRONMENT, "WANDB_API_KEY": KEY},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            umask=0,
        )
        assert done.returncode == {"run": 3, "plan": 0}.get(words[0], 0) or "--set" in words, done.stderr
        said += f"\n$ {' '.join(words[:2])}\n{done.stdout}{done.stderr}"
    return folder, said


class TestSecrets:
    def test_are_not_shown(self, leaky: tuple[Path, str]) -> None:
        _, said = leaky
        assert TOKEN not in said
        assert KEY not in said
        assert OTHER not in said
        assert PLAIN not in said
        assert f"my token {redaction.HIDDEN}" in said
        assert f"401 for {redaction.HIDDEN} and {redaction.HIDDEN}" in said

    def test_are_not_written_down(self, leaky: tuple[Path, str]) -> None:
        folder, _ = leaky
        files = [path for path in (folder / "runs").rglob("*") if path.is_file()]
        telling = [
            path.name for path in files if TOKEN.encode() in path.read_bytes() or KEY.encode() in path.read_bytes()
        ]
        # What a script prints is its own: the log is as it printed it.
        assert telling == ["stage_one_full.log"]
        journal = (folder / "runs/tiny/journal.jsonl").read_text()
        assert redaction.HIDDEN in journal
        assert '"HF_TOKEN": "***"' in (folder / "runs/tiny/curriculum.yaml").read_text()
        assert '"SHORT_KEY": "***"' in (folder / "runs/tiny/curriculum.yaml").read_text()
        assert "data" in (folder / "runs/tiny/plan.json").read_text()  # short ones are hidden by their name alone

    def test_what_is_hidden_is_launched_and_is_no_edit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_TOKEN", TOKEN)
        plan = make_plan(load(str(tiny_curriculum(tmp_path, args={"who": TOKEN}))).curriculum)
        assert TOKEN in plan.stages[0].argv
        written = plan.to_json()
        assert TOKEN not in json.dumps(written)
        assert written["stages"][0]["args"]["who"] == redaction.HIDDEN
        recorded = Plan.from_json(written)
        for before in (recorded, plan):  # as it is written down, and as it was before the variable was one
            assert edits.compare(before, plan, edits.at_boundary(recorded, 1)).differences == ()

    def test_an_evaluation_that_prints_one_is_kept_without_it(
        self, before_three: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_TOKEN", TOKEN)
        run, plan = RunDirectory(before_three / "runs/tiny"), plan_of(RunDirectory(before_three / "runs/tiny"))
        command = EvaluatePlan("", ("echo", json.dumps({"by": TOKEN, "loss": 2.5})), None)
        stage = replace(stage_of(before_three, "two"), evaluate=command)
        evaluate_stage(plan, run, stage, Journal(run.journal), StopRequest())
        assert evaluation(run, stage) == {"by": redaction.HIDDEN, "loss": 2.5}

    def test_are_no_arguments(self, leaky: tuple[Path, str]) -> None:
        _, said = leaky
        assert "`hub_token` among the arguments" in said
        assert "`wandb_api_key` among the arguments" in said

    @pytest.mark.parametrize("name", ["eos_token", "pad_token", "label_key", "image_token", "dataset_text_field"])
    def test_arguments_that_end_like_one_pass(self, tmp_path: Path, name: str) -> None:
        file = tiny_curriculum(tmp_path, args={name: "<|im_end|>"})
        assert load(str(file)).curriculum.args[name] == "<|im_end|>"

    @pytest.mark.parametrize(
        "value",
        [
            TOKEN,
            f'"{TOKEN}"',
            f"'{TOKEN}'",
            f"&anchor {TOKEN}",
            f"|\n    {TOKEN}\n",
            f">-\n    {TOKEN}\n",
            '"hf_\\u0061VerySecretToken0123456789"',
        ],
    )
    def test_the_copy_of_the_curriculum_hides_them_however_they_are_written(self, value: str) -> None:
        text = f"name: x  # kept\nenv:\n  HF_TOKEN: {value}\n  PLAIN: seen\nargs:\n  eos_token: end\n"
        hidden = hidden_secrets(text, "c.yaml")
        assert "VerySecret" not in hidden
        assert hidden.replace("\n\n", "\n") == text.replace(value.rstrip("\n"), f'"{redaction.HIDDEN}"').replace(
            "\n\n", "\n"
        )

    def test_in_one_line_and_by_merge(self) -> None:
        text = f"env: &e {{A: b, MY_SECRET: {TOKEN}, DB_PASSWORD: 12}}\nstages: [{{name: one, env: {{<<: *e}}}}]\n"
        hidden = hidden_secrets(text, "c.yaml")
        assert hidden == text.replace(TOKEN, '"***"').replace("12", '"***"')

    def test_a_log_hides_one_that_comes_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_TOKEN", TOKEN)
        text = f"before {TOKEN} after {TOKEN[:-1]} hf_".encode()
        for size in (1, 5, len(text)):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            assert b"".join(logs._without_secrets(pieces)) == f"before *** after {TOKEN[:-1]} hf_".encode()

    def test_a_worker_hides_them_in_what_it_records(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_TOKEN", TOKEN)
        error = {"type": "E", "message": f"{TOKEN}!", "traceback": ""}
        assert redaction.hide(error) == {"type": "E", "message": "***!", "traceback": ""}
        assert redaction.hide(None) is None
        monkeypatch.delenv("SOME_TOKEN")
        assert redaction.hide(error, []) == error


def test_whatever_the_mask_nobody_else_may_write(leaky: tuple[Path, str]) -> None:
    folder, _ = leaky
    paths = [path for path in (folder / "runs").rglob("*") if not path.is_symlink()]
    assert len(paths) > 8
    assert [str(path) for path in paths if path.stat().st_mode & stat.S_IWOTH] == []


class TestPlantedLinks:
    """A file of somebody else stays as it is, whatever leads to it from the run directory."""

    @pytest.fixture
    def victim(self, tmp_path: Path) -> Path:
        (tmp_path / "victim").mkdir()
        (tmp_path / "victim/file").write_text("precious")
        return tmp_path / "victim/file"

    @pytest.mark.parametrize(
        ("name", "to_folder"),
        [
            ("3-three/stage_three_full.log", False),
            ("3-three/checkpoint-24", True),
            ("3-three/config.json", False),
            ("3-three/model.safetensors", False),
            ("3-three/.model.safetensors.tmp", False),
            ("3-three/llm/model.safetensors", False),
            ("3-three/README.md", False),
            ("3-three/of_any_name", True),
            ("3-three/runs", True),
            ("3-three/runs/Jan01_00-00-00_host", True),
            ("attempts/3-three/2", True),
            ("attempts/3-three/1/heartbeat.json", False),
            ("data", True),
        ],
    )
    def test_is_refused_by_name_before_anything_is_launched(
        self, before_three: Path, victim: Path, name: str, to_folder: bool
    ) -> None:
        run = RunDirectory(before_three / "runs/tiny")
        stages = [stage_of(before_three, "three")]
        planted_links.refuse(run, stages)
        link = run.root / name
        link.parent.mkdir(exist_ok=True, parents=True)
        link.unlink(missing_ok=True)
        link.symlink_to(victim.parent if to_folder else victim)
        with pytest.raises(PlanError, match="is a link to"):
            planted_links.refuse(run, stages)

    def test_what_scripts_leave_within_a_stage_passes_but_not_into_a_checkpoint(self, before_three: Path) -> None:
        stage = before_three / "runs/tiny/3-three"
        for name, to in (
            ("best", "checkpoint-20"),
            ("wandb/latest-run", "run-1"),
            ("wandb/debug.log", "run-1/debug.log"),
            ("cache/snapshots/1/config.json", "../../blobs/2"),
            ("circle", "circle"),
        ):
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).symlink_to(to)
        planted_links.refuse(RunDirectory(before_three / "runs/tiny"), [stage_of(before_three, "three")])
        (stage / "llm").mkdir()
        (stage / "llm/model.safetensors").symlink_to("../checkpoint-20/model.safetensors")
        (stage / "README.md").symlink_to("checkpoint-20/README.md")
        with pytest.raises(PlanError) as refused:
            planted_links.refuse(RunDirectory(before_three / "runs/tiny"), [stage_of(before_three, "three")])
        assert [Path(problem.place).name for problem in refused.value.problems] == ["README.md", "model.safetensors"]

    def test_the_command_refuses_it_and_writes_nothing_through_it(self, before_three: Path, victim: Path) -> None:
        (before_three / "runs/tiny/3-three").mkdir()
        (before_three / "runs/tiny/3-three/checkpoint-24").symlink_to(victim.parent)
        (before_three / "runs/tiny/3-three/stage_three_full.log").symlink_to(victim)
        for words in (["run", "tiny.yaml"], ["command", "tiny.yaml", "--stage", "three"]):
            refused = stepladder(*words, cwd=before_three)
            assert refused.returncode == 2, refused.stderr
            assert "3-three/stage_three_full.log: is a link to" in refused.stderr
        assert list(victim.parent.iterdir()) == [victim]
        assert victim.read_text() == "precious"

    def test_what_is_written_here_is_written_beside_it(self, tmp_path: Path, victim: Path) -> None:
        """A name that is replaced is replaced; one that is appended to is refused."""
        for name in ("plan.json", f".plan.json.{os.getpid()}.tmp", "worker.pyz", f".worker.pyz.{os.getpid()}.tmp"):
            (tmp_path / name).symlink_to(victim)
        write_json(tmp_path / "plan.json", {"a": 1})
        pack_worker(tmp_path / "worker.pyz")
        assert json.loads((tmp_path / "plan.json").read_text()) == {"a": 1}
        assert not (tmp_path / "worker.pyz").is_symlink()
        for name in ("journal.jsonl", "lock"):
            (tmp_path / name).symlink_to(victim)
        with pytest.raises(PlanError, match="is a link, and is not followed"):
            Journal(tmp_path / "journal.jsonl").append("event")
        with pytest.raises(PlanError, match="is a link, and is not followed"), locked(RunDirectory(tmp_path)):
            pass
        assert victim.read_text() == "precious"

    def test_a_run_directory_that_is_a_link_is_a_persons_choice(self, before_three: Path, tmp_path: Path) -> None:
        shutil.move(before_three / "runs/tiny", tmp_path / "elsewhere")
        (before_three / "runs/tiny").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "three").mkdir()
        (tmp_path / "elsewhere/3-three").symlink_to(tmp_path / "three")
        (tmp_path / "three/best").symlink_to("checkpoint-20")
        planted_links.refuse(RunDirectory(before_three / "runs/tiny"), [stage_of(before_three, "three")])


def stage_of(folder: Path, name: str) -> Any:
    plan = plan_of(RunDirectory(folder / "runs/tiny"))
    stage = next(stage for stage in plan.stages if stage.name == name)
    return replace(stage, output_dir=str(folder / stage.output_dir))


class TestNames:
    """Names become file names: none leads out of the run directory."""

    @pytest.mark.parametrize(
        "name",
        [
            "../up",
            "a/b",
            "/etc",
            "..",
            ".hidden",
            "a\\b/..",
            "",
            "x" * 65,
            "new\nline",
            "nul\0",
            "~",
            "$HOME",
            "ä",
            "a b",
        ],
    )
    def test_of_stages(self, tmp_path: Path, name: str) -> None:
        file = tiny_curriculum(tmp_path, stages=[{"name": name, "steps": 5}])
        with pytest.raises(CurriculumError, match="1 to 64 letters, digits"):
            _ = load(str(file)).curriculum

    def test_that_is_hostile_makes_nothing(self, tmp_path: Path) -> None:
        file = tiny_curriculum(tmp_path, stages=[{"name": "../../up", "steps": 5}])
        assert stepladder("run", file, cwd=tmp_path).returncode == 2
        assert [path.name for path in tmp_path.iterdir()] == [file.name]

    @pytest.mark.parametrize("name", ["../up", "a/b", "..", "", "a b"])
    def test_of_datasets_and_mixtures(self, tmp_path: Path, name: str) -> None:
        for data in (
            {"datasets": {name: {"path": "t.txt"}}},
            {"datasets": {"t": {"path": "t.txt"}}, "mixtures": {name: ["t"]}},
        ):
            file = tiny_curriculum(tmp_path, stages=[{"name": "one", "steps": 5}])
            file.write_text(json.dumps(json.loads(file.read_text()) | {"data": data}))
            with pytest.raises(CurriculumError, match="expected letters, digits"):
                _ = load(str(file)).curriculum


def test_a_curriculum_that_is_no_yaml_any_more_is_not_copied() -> None:
    with pytest.raises(CurriculumError, match="not YAML any more"):
        hidden_secrets("env: {HF_TOKEN: [", "c.yaml")
