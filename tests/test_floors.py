"""The floors of the house: imports run downward, the control side never imports torch, the worker stands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT, STEPLADDER

SRC = ROOT / "src"

#: From the top down, as docs/design.md draws it. A file may import from its own line or from any line below.
FLOORS = [
    ["cli"],
    ["data_cli"],
    [
        *("data.rooms.__main__", "data.rooms.arrays", "data.rooms.build", "data.rooms.camera"),
        *("data.rooms.images", "data.rooms.layout", "data.rooms.pairs", "data.rooms.render", "data.rooms.room"),
        *("data.rooms.samples", "data.rooms.scene", "data.rooms.settings", "data.rooms.shapes"),
    ],
    ["cli_options", "engine", "logs", "diagnosis.subject", "by_hand", "probe.chains", "opening"],
    ["attempts.retries"],
    ["attempts.attempt", "records.ledger", "data.ready", "stage_evaluation", "editing.fork"],
    [
        *("data.check.run", "data.show.run", "data.build.arrays", "data.build.build", "data.build.choose"),
        *("data.build.concat", "data.build.files", "data.build.layout", "data.build.marking"),
        *("data.build.pairs", "data.build.pictures", "data.build.points", "data.build.report"),
        *("data.build.samples", "data.build.scene", "data.build.settings", "data.build.survey"),
        *("data.build.visibility", "data.build.workers"),
    ],
    ["data.stages"],
    ["data.score"],
    [
        *("data.check.report", "data.check.progress", "data.check.scan", "data.check.whole"),
        *("data.check.selections", "data.check.book"),
    ],
    ["data.check.uses", "data.check.tokens", "data.check.sample", "data.check.pixels", "data.check.columns"],
    ["data.check.same_files"],
    ["data.show.figures", "data.show.terminal", "data.show.sheet", "data.show.drawing", "data.export"],
    ["data.check.finding", "data.measuring"],
    ["verdicts", "side_commands", "export", "shell", "attempts.supervision", "attempts.incomplete"],
    ["report.progress", "report.summary", "report.plan_table", "report.probe_table", "report.diagnosis"],
    ["probe.rows", "probe.outcome"],
    ["records.status"],
    ["editing.past"],
    ["attempts.ladder"],
    ["verify.stage"],
    [
        *("verify.records", "verify.on_disk", "verify.handed_over", "verify.trainable", "verify.in_force"),
        *("verify.inherited", "verify.trained_on"),
    ],
    ["verify.verdict"],
    ["records.facts"],
    ["preflight.disk", "preflight.planted_links"],
    ["diagnosis.answer", "diagnosis.diagnose", "diagnosis.scan", "diagnosis.log_lines", "diagnosis.needles"],
    ["diagnosis.table", "diagnosis.of_machines", "diagnosis.of_software", "diagnosis.signature"],
    [
        *("attempts.tasks", "preflight.machine", "launch.local", "launch.ask", "launch.pack"),
        *("records.journal", "records.log_tail"),
    ],
    ["editing.lineage", "attempts.hangs", "launch.stopping", "launch.stacks", "launch.memory"],
    ["launch.tied"],
    ["launch.guard"],
    [
        *("planning.interpreters", "preflight.checkpoint_fit", "preflight.version_fit", "editing.edits"),
        *("editing.edit_history", "preflight.checkpoint_size"),
    ],
    ["planning.stage_settings"],
    ["planning.resolve", "planning.script_facts"],
    ["planning.stage_command"],
    ["planning.remarks", "probe.derived"],
    ["planning.plan", "curriculum.parse"],
    [
        *("curriculum.checks.args", "curriculum.checks.data", "curriculum.checks.evaluate"),
        *("curriculum.checks.engines", "curriculum.checks.trainable", "curriculum.checks.objectives"),
        *("curriculum.checks.oom",),
    ],
    ["curriculum.checks.structure"],
    ["data.select", "data.lengths"],
    ["data.usable"],
    ["data.columns", "data.image_files", "data.rows"],
    ["data.store", "data.selection", "data.condition"],
    ["data.records", "data.fields", "data.contents", "data.sources.formats"],
    ["data.sources.text", "data.sources.json_list", "data.sources.tables", "data.sources.tars"],
    ["data.sieve"],
    ["data.sources.batch", "data.sql", "data.decoding", "data.processes", "data.record"],
    ["data.samples", "data.answers", "data.positions"],
    ["data.mixture", "data.true_paths", "data.printable"],
    [
        *("curriculum.spec", "curriculum.yaml_source", "paths", "curriculum.evaluation_command"),
        *("records.json_line", "curriculum.hf_args", "curriculum.hf_names", "curriculum.rungs"),
        *("curriculum.levels", "curriculum.templates", "curriculum.objectives", "console"),
        *("safetensors_header", "shared_files", "curriculum.copy", "records.log_file", "records.events"),
    ],
    ["errors"],
]
#: Standard library only, so the control side may use them.
SHARED = {
    "carried",
    "contract",
    "kinds",
    "manifest",
    "objective",
    "order",
    "own_files",
    "patterns",
    "redaction",
    "schedule",
    "seal",
    "windows",
}


def imports(path: Path) -> set[str]:
    """Absolute names of our own modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("stepladder", "stepladder_worker")}


def modules(package: str) -> dict[str, Path]:
    root = SRC / package
    return {
        path.relative_to(root).with_suffix("").as_posix().replace("/", "."): path
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    }


def floor_of(name: str) -> int | None:
    return next((index for index, floor in enumerate(FLOORS) if name in floor), None)


def test_every_file_of_the_control_side_has_a_floor() -> None:
    apart = ("trainer.", "evaluate.", "__main__")
    unplaced = [name for name in modules("stepladder") if floor_of(name) is None and not name.startswith(apart)]
    assert unplaced == []


def test_imports_run_downward() -> None:
    wrong = []
    for name, path in modules("stepladder").items():
        floor = floor_of(name)
        if floor is None:
            continue
        for imported in imports(path):
            target = floor_of(imported.removeprefix("stepladder."))
            if imported.startswith("stepladder.") and target is not None and target < floor:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_the_control_side_uses_only_the_shared_files_of_the_worker() -> None:
    wrong = []
    for name, path in modules("stepladder").items():
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] == "stepladder_worker" and len(parts) > 1 and parts[1] not in SHARED:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_the_worker_imports_nothing_of_the_control_side() -> None:
    wrong = [
        f"{n}: {i}" for n, p in modules("stepladder_worker").items() for i in imports(p) if i.startswith("stepladder.")
    ]
    assert wrong == []


def test_shared_files_need_the_standard_library_only() -> None:
    names = ", ".join(f"stepladder_worker.{name}" for name in sorted(SHARED))
    code = f"import sys; before = set(sys.modules); import {names}; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    foreign = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"stepladder_worker"}
    assert foreign == set()


def test_trainer_and_evaluation_have_no_privileges() -> None:
    allowed = (
        "stepladder_worker.order",
        "stepladder_worker.windows",
        "stepladder.data.answers",
        "stepladder.data.lengths",
        "stepladder.data.records",
        "stepladder.data.samples",
        "stepladder.data.selection",
        "stepladder.data.true_paths",
    )
    for package in ("trainer", "evaluate"):
        for name, path in modules(f"stepladder/{package}").items():
            own = {i for i in imports(path) if not i.startswith(("stepladder.trainer", "stepladder.evaluate"))}
            named = {i for i in own if "." in i and i not in ("stepladder.data", *allowed)}
            assert {i for i in named if not i.startswith(tuple(f"{a}." for a in allowed))} == set(), (
                f"{package}.{name}: {own}"
            )


def test_nothing_of_the_control_side_imports_the_trainer() -> None:
    for name, path in modules("stepladder").items():
        if floor_of(name) is not None:
            assert not {i for i in imports(path) if i.startswith(("stepladder.trainer", "stepladder.evaluate"))}, name


@pytest.mark.parametrize("command", [["plan", "examples/roborefer.yaml", "--no-files"], ["--help"], ["run", "--help"]])
def test_commands_never_import_torch(command: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["stepladder", *{command!r}]
from stepladder.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print("HEAVY", sorted({{"torch", "transformers", "numpy", "trl", "datasets"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout + done.stderr


def test_files_stay_readable() -> None:
    long = {
        n: len(p.read_text().splitlines())
        for pkg in ("stepladder", "stepladder_worker")
        for n, p in modules(pkg).items()
    }
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_the_command_is_installed() -> None:
    assert STEPLADDER.is_file()
