"""What the documentation shows runs: every command, example, field and claim of a file name."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stepladder.curriculum import spec
from stepladder.curriculum.parse import load
from stepladder.data.mixture import Mixture, Part, Source
from stepladder.data.select import make_selection
from stepladder.paths import AttemptDirectory, RunDirectory, StageDataDirectory
from stepladder.preflight.machine import checked_plan
from support import ROOT, SCRIPTS, stepladder, tiny_curriculum

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
MODELS = [
    *(spec.Curriculum, spec.Stage, spec.HandoverSpec, spec.Launcher, spec.Prepare, spec.Evaluate),
    *(spec.DataSpec, spec.Dataset, spec.Tiers, spec.Part, spec.Retries, spec.Hang),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def properties_of(directory: object) -> list[Path]:
    """The paths that a directory of paths.py spells."""
    return [getattr(directory, name) for name, kind in vars(type(directory)).items() if isinstance(kind, property)]


def documented_commands() -> list[list[str]]:
    lines = (line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines())
    return [shlex.split(line) for line in lines if line.strip()]


def test_every_documented_command_runs(tmp_path: Path) -> None:
    """In their order, in one folder; budgets are cut to two steps a stage, nothing else is changed."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    few = [f"--set=stages.{index}.steps=2" for index in range(3)]
    commands = documented_commands()
    assert commands
    for program, verb, *rest in commands:
        assert program == "stepladder"
        cut = few if verb in ("plan", "run", "command") else []
        done = stepladder(verb, *rest, *cut, cwd=tmp_path)
        assert done.returncode == 0, f"{verb} {rest}: {done.stderr}"
        assert done.stdout or done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_planned(example: Path) -> None:
    assert len(checked_plan(load(str(example), ()), look_at_files=False).stages) == 3


def test_the_readmes_curriculum_is_valid(tmp_path: Path) -> None:
    (block,) = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "readme.yaml").write_text(block, "utf-8")
    plan = checked_plan(load(str(tmp_path / "readme.yaml"), ()), look_at_files=False)
    assert [stage.end_step for stage in plan.stages] == [40, 100, 200]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_documented_in_its_own_words(model: type[spec.Curriculum]) -> None:
    page = (ROOT / "docs/curriculum.md").read_text("utf-8")
    for name, field in model.model_fields.items():
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        assert text, name
        assert re.search(rf"^\| `{name}` \| .* \| {re.escape(text)} \|$", page, re.MULTILINE), name


def test_every_file_of_a_run_is_documented(healthy_chain: Path) -> None:
    page = (ROOT / "docs/run_directory.md").read_text("utf-8")
    directories = [RunDirectory(Path("runs/x")), AttemptDirectory(Path("a")), StageDataDirectory(Path("d"))]
    named = [path.name for directory in directories for path in properties_of(directory)]
    assert len(named) > 12
    written = [path.name for path in (healthy_chain / "runs/tiny").iterdir() if path.is_file()]
    assert [name for name in {*named, *written} if name not in page] == []


def test_every_file_of_a_selection_is_documented(tmp_path: Path) -> None:
    """One of rows whose tokens somebody has counted, and some of whose samples are left out."""
    (tmp_path / "d.jsonl").write_text('{"id": "1", "text": "one"}\nnone\n', "utf-8")
    pq.write_table(pa.table({"id": ["1"], "length": [3]}), tmp_path / "scores.parquet")
    source = Source("d", str(tmp_path / "d.jsonl"), None, str(tmp_path / "scores.parquet"), None)
    mixture = Mixture("d", (Part(source, None, None, None, None, 1, None),), 0, "skip")
    out = make_selection(mixture, tmp_path / "cache", tmp_path / "out").path
    page = (ROOT / "docs/run_directory.md").read_text("utf-8")
    kinds = {re.sub(r"\d+", "{i}", path.name) for path in out.iterdir()}
    assert kinds == {"selection.json", "part_{i}.npy", "lengths_{i}.npy", "left_out.jsonl"}
    assert [kind for kind in kinds if f"`data/{{index}}-{{name}}/{kind}`" not in page] == []


def test_every_check_is_documented(healthy_chain: Path) -> None:
    from stepladder.verify.stage import CHECKS

    page = (ROOT / "docs/verification.md").read_text("utf-8")
    names = ["finished", *(check.__name__ for check in CHECKS)]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_exit_codes_are_the_documented_ones(tmp_path: Path) -> None:
    """130, 3, 4 and 1 are shown by test_run.py, test_own_resume.py and tests/faults."""
    page = (ROOT / "README.md").read_text("utf-8")
    assert [code for code in (0, 1, 2, 3, 4, 130) if f"| {code} |" not in page] == []
    curriculum = tiny_curriculum(tmp_path, stages=[{"name": "one", "steps": 0}])
    assert stepladder("plan", curriculum, cwd=tmp_path).returncode == 2
    assert stepladder("plan", "missing.yaml", cwd=tmp_path).returncode == 2
    assert stepladder("nonsense", cwd=tmp_path).returncode == 2


def test_nobody_else_is_named() -> None:
    """The project speaks of itself only: no path of the machine it was made on."""
    for path in [*PAGES, *EXAMPLES, ROOT / "Makefile", ROOT / "constraints.txt", *SCRIPTS.glob("*.py")]:
        assert not re.search(r"/(home|root|tmp)/", path.read_text("utf-8")), path
