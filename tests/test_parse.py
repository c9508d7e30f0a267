"""What a person writes wrong is refused with its line, its column and what to do: all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepladder.errors import CurriculumError
from stepladder.parse import load

GOOD = """\
name: demo
model_name_or_path: base
output_dir: runs/demo
args: {learning_rate: 1.0e-3}
stages:
  - {name: a, steps: 40}
  - {name: b, steps: 60, args: {seed: 2}}
"""


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refused(folder: Path, text: str | bytes, *overrides: str) -> list[tuple[str, str, str | None]]:
    """(place without the file's folder, text, hint) of every problem."""
    with pytest.raises(CurriculumError) as error:
        load(write(folder, text), overrides)
    assert error.value.exit_code == 2
    return [(p.place.replace(f"{folder}/", ""), p.text, p.hint) for p in error.value.problems]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


# (text, place, part of what is said, part of the hint)
BROKEN = {
    "empty": ("", "c.yaml:1:1", "found an empty file", "start with"),
    "a list": ("- a\n", "c.yaml:1:1", "found a list", "start with"),
    "tab": ("name: x\nargs:\n\tbf16: true\n", "c.yaml:3:1", "found a tab, expected spaces", "indented with spaces"),
    "bracket": ("name: [x\nstages: 1\n", "c.yaml:2:7", "not YAML", "bracket"),
    "two documents": ("a: 1\n---\nb: 2\n", "c.yaml:2:1", "another document", "this line"),
    "not UTF-8": (b"name: \xff\n", "c.yaml", "not UTF-8 at offset 6", ""),
    "control character": ("name: a\x00\n", "c.yaml", "not YAML", ""),
    "key twice": (GOOD + "name: again\n", "c.yaml:8:1", "`name` twice in one mapping, first in line 1", "remove one"),
    "alias loop": ("a: &x [*x]\n", "c.yaml:1:4", "inside its own anchor", ""),
    "foreign tag": (
        changed("demo\nmodel", "!!python/name:os.system ''\nmodel"),
        "c.yaml:1:7",
        "expected plain YAML",
        "",
    ),
    "unknown key": (changed("output_dir:", "outputdir:"), "c.yaml:3:1", "did you mean `output_dir`?", "docs/"),
    "unknown stage key": (changed("b, steps:", "b, step:"), "c.yaml:7:15", "did you mean `steps`?", "docs/"),
    "steps as text": (
        changed("steps: 40", 'steps: "40"'),
        "c.yaml:6:22",
        '"40" (text), expected a whole',
        "without quotes",
    ),
    "steps as fraction": (
        changed("steps: 40", "steps: 40.5"),
        "c.yaml:6:22",
        "found 40.5, expected a whole number",
        "",
    ),
    "steps true": (changed("steps: 40", "steps: true"), "c.yaml:6:22", "found true, expected a whole number", ""),
    "no steps at all": (changed("steps: 40", "steps: 0"), "c.yaml:6:22", "found 0, expected at least 1", ""),
    "both budgets": (
        changed("steps: 60", "steps: 60, until_step: 100"),
        "c.yaml:7:26",
        "steps 60 and until_step 100, expected one",
        "`until_step` from the start",
    ),
    "no budget": (changed(", steps: 40", ""), "c.yaml:6:5", "stage `a` has no budget", "`steps` counts"),
    "empty budget": (changed("steps: 40", "steps: null"), "c.yaml:6:5", "stage `a` has no budget", "`steps` counts"),
    "missing inside": (GOOD + "evaluate: {}\n", "c.yaml:8:11", "`run` is missing, expected it in `evaluate`", "docs/"),
    "budget shrinks": (
        changed("steps: 60", "until_step: 30"),
        "c.yaml:7:27",
        "until_step 30 after 40: 30 - 40 = -10 steps in stage `b`, expected more than 40",
        "`steps: 30`",
    ),
    "name twice": (changed("name: b", "name: A"), "c.yaml:7:12", "alike where case does not count", "by its name"),
    "name leaves": (changed("name: b", "name: ../b"), "c.yaml:7:12", "1 to 64 letters, digits", ""),
    "max_steps": (changed("seed: 2", "max_steps: 60"), "c.yaml:7:33", "`max_steps`", "max_steps is cumulative"),
    "dashes": (changed("seed: 2", "--seed: 2"), "c.yaml:7:33", "no name of an argument", "write `seed:`"),
    "stage LR": (
        changed("seed: 2", "learning_rate: 1.0e-4"),
        "c.yaml:7:33",
        "of one stage under `schedule: run`",
        "`schedule: stage`",
    ),
    "no LR": (changed("learning_rate: 1.0e-3", "bf16: true"), "c.yaml:4:7", "`learning_rate` is not stated", "number"),
    "LR is a word": (changed("1.0e-3", "fast"), "c.yaml:4:23", "found 'fast', expected a number", ""),
    "LR is infinite": (changed("1.0e-3", ".inf"), "c.yaml:4:23", "found inf, expected a number", ""),
    "plateau": (
        changed("1.0e-3", "1.0e-3, lr_scheduler_type: reduce_lr_on_plateau"),
        "c.yaml:4:50",
        "cannot be planned",
        "`schedule: script`",
    ),
    "kwargs": (
        changed("1.0e-3", "1.0e-3, lr_scheduler_kwargs: {cycles: 2}"),
        "c.yaml:4:52",
        "cycles not known to 'linear'",
        "",
    ),
    "nnodes": (GOOD + "launcher: {nnodes: 2}\n", "c.yaml:8:20", "expected 1 until a cluster launcher", "one machine"),
    "env number": (GOOD + "env: {A: 1}\n", "c.yaml:8:10", "found 1, expected text", "quote it"),
    "env name": (GOOD + "env: {A-B: x}\n", "c.yaml:8:7", "no name of an environment variable", ""),
    "one directory": (
        GOOD + "stage_dir: out\n",
        "c.yaml:8:12",
        "stages `a` and `b` both write out",
        "{index} or {name}",
    ),
    "run directory": (
        changed("runs/demo", ".") + "stage_dir: .\n",
        "c.yaml:8:12",
        "holds the run directory",
        "{index}",
    ),
    "template": (GOOD + "stage_dir: '{stage}'\n", "c.yaml:8:12", "unknown field `{stage}`", ""),
    "handover": (GOOD + "handover: {data: frsh}\n", "c.yaml:8:18", "expected `fresh` or `continue`", ""),
    "continued with another batch": (
        changed("seed: 2}", "gradient_accumulation_steps: 2}, handover: {data: continue}"),
        "c.yaml:7:83",
        "8 x 2 x 1 samples a step after 8 x 1 x 1",
        "`data: fresh`",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_curricula_are_refused_where_they_are_broken(case: str, tmp_path: Path) -> None:
    text, place, said, hint = BROKEN[case]
    found = [problem for problem in refused(tmp_path, text) if problem[0] == place and said in problem[1]]
    assert len(found) == 1, refused(tmp_path, text)
    assert hint in (found[0][2] or "")


def test_all_problems_come_at_once_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        GOOD.replace("name: demo", "nam: demo").replace("steps: 40", "steps: '40'").replace("seed: 2", "max_steps: 9")
    )
    places = [place for place, _, _ in refused(tmp_path, text + "schedule: runs\n")]
    assert places == ["c.yaml:1:1", "c.yaml:1:1", "c.yaml:6:22", "c.yaml:7:33", "c.yaml:8:11"]


def test_a_good_curriculum_is_read(tmp_path: Path) -> None:
    curriculum = load(write(tmp_path, GOOD)).curriculum
    assert [(stage.name, stage.steps) for stage in curriculum.stages] == [("a", 40), ("b", 60)]
    assert curriculum.script == "module:stepladder.trainer"
    assert curriculum.args["learning_rate"] == 1e-3


@pytest.mark.parametrize("written", ["1e-5", '"1e-5"', "1.0e-5", "0.00001"])
def test_a_learning_rate_is_understood_however_it_is_written(written: str, tmp_path: Path) -> None:
    from stepladder.resolve import make_plan

    plan = make_plan(load(write(tmp_path, changed("1.0e-3", written))).curriculum)
    assert plan.stages[0].in_force["learning_rate"] == 1e-5


def test_the_script_schedule_passes_everything_through(tmp_path: Path) -> None:
    text = changed("learning_rate: 1.0e-3", "lr_scheduler_type: greedy") + "schedule: script\n"
    assert load(write(tmp_path, text.replace("seed: 2", "warmup_steps: 3"))).curriculum.schedule == "script"


def test_merge_keys_and_anchors(tmp_path: Path) -> None:
    text = "x: &x {steps: 1}\n" + changed("{name: a, steps: 40}", "{<<: *x, name: a}")
    assert [p[0] for p in refused(tmp_path, text)] == ["c.yaml:1:1"], "only the key `x` itself is unknown"


def test_overrides_by_index_and_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    curriculum = load(path, ["stages.1.args.max_tiles=3", "stages.a.steps=7", "args.report_to=[a, b]"]).curriculum
    assert curriculum.stages[1].args == {"seed": 2, "max_tiles": 3}
    assert curriculum.stages[0].steps == 7
    assert curriculum.args["report_to"] == ["a", "b"]


@pytest.mark.parametrize(
    ("override", "place", "said"),
    [
        ("stages.1.step=3", "--set stages.1.step", "did you mean `steps`?"),
        ("stages.1.steps=x", "--set stages.1.steps", 'found "x" (text), expected a whole number'),
        ("stages.5.steps=3", "--set stages.5.steps", "found index 5, expected 0 to 1"),
        ("stages.bb.steps=3", "--set stages.bb.steps", "did you mean `b`?"),
        ("name.x=3", "--set name.x", "`name` is a single value"),
        ("args.seed", "--set args.seed", "expected KEY=VALUE"),
        ("args.prompt=@x", "--set args.prompt", "found '@x'"),
        ("stages.0.until_step=3", "--set stages.0.until_step", "expected one of them"),
    ],
)
def test_a_wrong_override_is_named_instead_of_a_line(override: str, place: str, said: str, tmp_path: Path) -> None:
    problems = refused(tmp_path, GOOD, override)
    assert [(found, said in text) for found, text, _ in problems] == [(place, True)], problems
