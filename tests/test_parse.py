"""What a person writes wrong is refused with its line, its column and what to do: all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepladder.curriculum.hf_names import meant
from stepladder.curriculum.parse import load
from stepladder.errors import CurriculumError

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
        assert load(write(folder, text), overrides).curriculum is None
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
    "not UTF-8": (b"name: \xff\n", "c.yaml", "not UTF-8 at offset 6", "saved as UTF-8"),
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
    "missing inside": (
        GOOD + "prepare: [{creates: x}]\n",
        "c.yaml:8:11",
        "`run` is missing, expected it in `prepare`",
        "docs/",
    ),
    "evaluates nothing": (
        GOOD + "evaluate: {}\n",
        "c.yaml:8:11",
        "no `data` and no `run`",
        "`data` starts the built-in",
    ),
    "evaluates twice": (
        GOOD + "evaluate: {run: [x], limit: 4}\n",
        "c.yaml:8:22",
        "`evaluate` has `run` and `limit`, expected `data` or `run`",
        "`data` starts the built-in",
    ),
    "evaluates in a stage": (
        changed("seed: 2}", "seed: 2}, evaluate: {run: ['{modle}']}"),
        "c.yaml:7:60",
        "unknown field `{modle}`, did you mean `model`?",
        "",
    ),
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
    "LR is a word": (changed("1.0e-3", "fast"), "c.yaml:4:23", "found 'fast', expected a number", "docs/"),
    "a script": ('"""Train."""\nimport os\n', "c.yaml:1:3", "expected a mapping", "start with"),
    "empty value": (
        changed("model_name_or_path: base", "model_name_or_path:"),
        "c.yaml:2:1",
        "found nothing, expected text",
        "docs/",
    ),
    "schedule": (GOOD + "schedule: runn\n", "c.yaml:8:11", "expected `run`, `stage` or `script`", "`run`?"),
    "scheduler": (changed("1.0e-3", "1.0e-3, lr_scheduler_type: cosin"), "c.yaml:4:50", "unknown", "`cosine`?"),
    "steps below 0": (changed("steps: 40", "steps: -3"), "c.yaml:6:22", "found -3, expected at least 1", "`steps`"),
    "steps of 400 digits": (
        changed("steps: 40", f"steps: 1{'0' * 399}"),
        "c.yaml:6:22",
        "a whole number of 400 characters, expected one of 64 bits",
        "digits too many",
    ),
    "steps as a word": (changed("steps: 40", "steps: three"), "c.yaml:6:22", "expected a whole number", "docs/"),
    "variable": (changed("runs/demo", "$HOME/demo"), "c.yaml:3:13", "found `$` in $HOME/demo", "write the path out"),
    "misspelt": (changed("seed: 2", "weight_decy: 0"), "c.yaml:7:33", "did you mean `weight_decay`?", "TrainingArg"),
    "misspelt budget": (changed("seed: 2", "max_step: 9"), "c.yaml:7:33", "did you mean `max_steps`?", "cumulative"),
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
    "env true": (GOOD + "env: {A: true}\n", "c.yaml:8:10", "found true, expected text", "quote it"),
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
    from stepladder.planning.resolve import make_plan

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
        ("argz.seed=3", "--set argz.seed", "did you mean `args`?"),
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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("learnign_rate", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("learning_rat", "learning_rate"),
        ("Learning_Rate", "learning_rate"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps"),
        ("per_device_train_batch", "per_device_train_batch_size"),
        ("dataloader_workers", "dataloader_num_workers"),
        ("evaluation_stratgy", "evaluation_strategy"),
    ],
)
def test_a_misspelt_argument_is_found(written: str, meant: str, tmp_path: Path) -> None:
    text = changed("seed: 2", f"{written}: 1") + "schedule: script\n"
    assert [text for _, text, _ in refused(tmp_path, text)] == [
        f"unknown argument `{written}`, did you mean `{meant}`?"
    ]


def test_a_misspelt_learning_rate_is_reported_once(tmp_path: Path) -> None:
    problems = refused(tmp_path, changed("learning_rate", "learnign_rate"))
    assert [(place, "did you mean" in text) for place, text, _ in problems] == [("c.yaml:4:8", True)]


#: Of RoboRefer, VILA, LLaVA, transformers' example scripts and Stepladder's own trainer.
OWN_NAMES = """
    data data_path data_mixture eval_data
    train_file validation_file train_dataset eval_dataset dataset_name dataset_seed
    model_max_length max_length max_seq_length block_size max_tiles num_video_frames fps image_folder image_aspect_ratio
    vision_tower mm_projector mm_projector_lr vision_tower_lr vision_learning_rate lm_learning_rate depth_tower
    tune_language_model tune_vision_tower tune_mm_projector tune_depth_tower freeze_backbone group_by_modality_length
    lora_enable lora_r lora_alpha packing torch_dtype dtype model_dtype bits double_quant quant_type cache_dir version
    lr min_lr epochs batch_size train_batch_size eval_batch_size weight train split length run output beta gamma fp8
    max_train_samples max_eval_samples preprocessing_num_workers text_column num_labels seq_parallel_size log_dir
""".split()  # noqa: SIM905 - a list of words


def test_names_of_real_scripts_are_their_own() -> None:
    import dataclasses

    import trl
    from transformers import Seq2SeqTrainingArguments

    kinds = (
        Seq2SeqTrainingArguments,
        trl.SFTConfig,
        trl.DPOConfig,
        trl.GRPOConfig,
        trl.ModelConfig,
        trl.ScriptArguments,
    )
    fields = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    assert {name: meant(name) for name in (*OWN_NAMES, *fields) if meant(name)} == {}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("bf16: maybe", "found 'maybe', expected true or false"),
        ("use_cpu: 3", "found 3, expected true or false"),
        ("save_strategy: never", "found 'never', expected one of no, steps, epoch, best"),
        ("logging_strategy: step", "found 'step', expected one of no, steps, epoch"),
        ("eval_strategy: false", "found false, expected one of no, steps, epoch"),
        ("weight_decay: -1", "found -1, expected at least 0"),
        ("adam_beta2: 2", "found 2, expected a number below 1"),
        ("warmup_steps: -1", "found -1, expected at least 0"),
        ("warmup_ratio: 2", "found 2, expected a number below 1"),
        ("save_steps: -3", "found -3, expected at least 0"),
        ("optim: adamw_toch", "did you mean `adamw_torch`?"),
    ],
)
def test_a_value_that_no_trainer_takes_is_refused(argument: str, expected: str, tmp_path: Path) -> None:
    ((place, text, hint),) = refused(tmp_path, changed("1.0e-3", f"1.0e-3, {argument}"))
    assert place.startswith("c.yaml:4:")
    assert text.startswith(f"`{argument.partition(':')[0]}`: ")
    assert expected in text
    assert hint


@pytest.mark.parametrize(
    "argument",
    ["bf16: 'True'", "tf32: null", "eval_strategy: no", "save_strategy: best", "optim: my_own", "logging_steps: 0.1"],
)
def test_a_value_that_a_trainer_takes_passes(argument: str, tmp_path: Path) -> None:
    assert load(write(tmp_path, changed("1.0e-3", f"1.0e-3, {argument}"))).sound


def test_numbers_of_the_environment_become_text(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "env: {CUDA_VISIBLE_DEVICES: 0}\n")
    assert load(path, ["env.X=1"]).curriculum.env == {"CUDA_VISIBLE_DEVICES": "0", "X": "1"}


@pytest.mark.parametrize("file", [".", "bytes.yaml", "absent.yaml"])
def test_a_file_that_is_no_curriculum_has_a_hint(file: str, tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(CurriculumError) as error:
        load(str(tmp_path / file))
    assert "path of a curriculum file" in (error.value.hint or "")


def test_an_override_inside_a_stage_does_not_take_the_blame_for_the_stage(tmp_path: Path) -> None:
    problems = refused(tmp_path, changed(", steps: 40", ""), "stages.a.args.seed=1")
    assert [place for place, _, _ in problems] == ["c.yaml:6:5"]
