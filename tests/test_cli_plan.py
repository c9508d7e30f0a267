"""`stepladder plan` and `stepladder command` as a person calls them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import ENVIRONMENT, ROOT, stepladder

ROBOREFER = "examples/roborefer.yaml"


def test_the_reference_plan_fits_eighty_columns() -> None:
    env = {**ENVIRONMENT, "COLUMNS": "80"}
    argv = [sys.executable, "-m", "stepladder.cli", "plan", ROBOREFER, "--no-files"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert max(map(len, done.stdout.splitlines())) <= 80
    for text in (
        "0 -> 40",
        "40 -> 100",
        "100 -> 200",
        "0 -> 1e-5 -> 9.26e-6",
        "llava/train/train_mem.py",
        "1x4x1 = 4",
        "Stage2/checkpoint-100",
        "max_tiles 6 -> 4",
    ):
        assert text in done.stdout


def test_what_does_not_fit_a_line_goes_on_under_its_text() -> None:
    done = stepladder("plan", "examples/rooms.yaml", "--no-files", cwd=ROOT)
    lines = done.stdout.splitlines()
    for word in ("script", "prepare", "evaluate"):
        assert any(line.startswith(f"{word} ") for line in lines[:10]), word
    env = {**ENVIRONMENT, "COLUMNS": "60"}
    argv = [sys.executable, "-m", "stepladder.cli", "plan", ROBOREFER, "--no-files"]
    lines = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    first = next(index for index, line in enumerate(lines) if "change" in line)
    column = lines[first].index("data_mixture")
    assert lines[first + 1][:column].strip() == ""
    assert lines[first + 1][column:].startswith("crossview")


def test_plan_json_has_the_promised_fields() -> None:
    done = stepladder("plan", ROBOREFER, "--no-files", "--json", cwd=ROOT)
    data = json.loads(done.stdout)
    assert data["version"] == 3
    promised = {
        "index",
        "name",
        "start_step",
        "end_step",
        "lr_start",
        "lr_end",
        "output_dir",
        "resume_from",
        "argv",
        "env",
    }
    assert all(promised <= set(stage) for stage in data["stages"])
    assert [stage["end_step"] for stage in data["stages"]] == [40, 100, 200]


COMMON = """--deepspeed scripts/zero3.json --bf16 True --per_device_train_batch_size 1 --gradient_accumulation_steps 4
 --learning_rate 1e-5 --lr_scheduler_type cosine --warmup_ratio 0.03 --model_max_length 4096
 --gradient_checkpointing True --torch_empty_cache_steps 1"""


@pytest.mark.parametrize(
    ("stage", "own", "last"),
    [
        (
            "pos_only",
            (
                "--model_name_or_path runs/train/RoboRefer-2B-Depth-Align"
                " --output_dir runs/train/Curriculum-25pct-Stage1 --max_steps 40"
            ),
            "--data_mixture crossview_multimg_25pct_pos_only --max_tiles 6 --dataloader_num_workers 4",
        ),
        (
            "pos_tierA",
            (
                "--model_name_or_path runs/train/Curriculum-25pct-Stage1"
                " --resume_from_checkpoint runs/train/Curriculum-25pct-Stage1/checkpoint-40"
                " --output_dir runs/train/Curriculum-25pct-Stage2 --max_steps 100"
            ),
            "--data_mixture crossview_multimg_25pct_pos_tierA --max_tiles 4 --dataloader_num_workers 2",
        ),
        (
            "all",
            (
                "--model_name_or_path runs/train/Curriculum-25pct-Stage2"
                " --resume_from_checkpoint runs/train/Curriculum-25pct-Stage2/checkpoint-100"
                " --output_dir runs/train/Curriculum-25pct-Stage3 --max_steps 200"
            ),
            "--data_mixture crossview_multimg_25pct_all --max_tiles 4 --dataloader_num_workers 2",
        ),
    ],
)
def test_plain_commands_are_those_of_the_reference_page(stage: str, own: str, last: str) -> None:
    done = stepladder("command", ROBOREFER, "--stage", stage, "--no-files", "--plain", cwd=ROOT)
    start = "PYTHONFAULTHANDLER=1 TORCH_SHOW_CPP_STACKTRACES=1 python -m torch.distributed.run --nnodes=1"
    expected = f"{start} --nproc_per_node=1 llava/train/train_mem.py {own} {COMMON} {last}"
    assert shlex.split(done.stdout.replace("\\\n", " ")) == expected.split()


def test_a_pasted_command_keeps_quoting_and_takes_secrets_from_the_shell(tmp_path: Path) -> None:
    """The shell itself runs what is printed, with a stand-in for python that shows its arguments."""
    curriculum = {
        "name": "x",
        "model_name_or_path": "m",
        "output_dir": "out",
        "script": "my train.py",
        "env": {"MY_TOKEN": "hidden", "SAY": "it's $HOME"},
        "args": {"learning_rate": 0.1, "prompt": "a 'b' \"c\" $(d)\nsecond line"},
        "stages": [{"name": "a", "steps": 1}],
    }
    (tmp_path / "c.yaml").write_text(json.dumps(curriculum))
    text = stepladder("command", "c.yaml", "--stage", "a", "--no-files", "--plain", cwd=tmp_path).stdout
    assert "hidden" not in text
    shown = "import json,os,sys; print(json.dumps([sys.argv[1:], os.environ['MY_TOKEN'], os.environ['SAY']]))"
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(shown)} "$@"\n')
    stand_in.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MY_TOKEN": "from the shell"}
    done = subprocess.run(["sh", "-c", text], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    argv, token, say = json.loads(done.stdout)
    assert (token, say) == ("from the shell", "it's $HOME")
    assert "my train.py" in argv
    assert curriculum["args"]["prompt"] in argv  # type: ignore[index]


def test_secrets_stay_out_of_the_table_and_the_json(tmp_path: Path) -> None:
    text = "name: x\nmodel_name_or_path: m\noutput_dir: o\nargs: {learning_rate: 1}\nenv: {HF_TOKEN: hidden}\n"
    (tmp_path / "c.yaml").write_text(
        text + "stages: [{name: a, steps: 1}, {name: b, steps: 1, env: {HF_TOKEN: hidden2}}]\n"
    )
    for option in ("--no-files", "--json"):
        done = stepladder("plan", "c.yaml", "--no-files", option, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "hidden" not in done.stdout + done.stderr


def test_bad_input_ends_with_2_one_hint_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("nam: x\nstages: [{name: a, max_steps: 3}]\n")
    for args in (["plan", "bad.yaml"], ["plan", "absent.yaml"], ["plan", "."], ["plan"], ["plan", "x", "--nope"]):
        done = stepladder(*args, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), args
        assert "Traceback" not in done.stderr
        assert done.stderr.count("hint:") == (0 if args in (["plan"], ["plan", "x", "--nope"]) else 1)
    unknown = stepladder("command", ROBOREFER, "--no-files", "--stage", "pos_tierB", cwd=ROOT)
    assert unknown.returncode == 2
    assert "did you mean `pos_tierA`?" in unknown.stderr


def test_overrides_reach_the_plan_and_name_themselves() -> None:
    done = stepladder("plan", ROBOREFER, "--no-files", "--json", "--set", "stages.1.args.max_tiles=3", cwd=ROOT)
    assert json.loads(done.stdout)["stages"][1]["args"]["max_tiles"] == 3
    done = stepladder("plan", ROBOREFER, "--no-files", "--set", "stages.1.steps=none", cwd=ROOT)
    assert "--set stages.1.steps: `steps`: found" in done.stderr


def test_help_lists_the_exit_codes() -> None:
    text = stepladder("--help", cwd=ROOT).stdout
    assert all(f"  {code} " in text for code in (0, 2, 3, 4, 130))


def test_plan_imports_no_torch_and_is_quick(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['stepladder', 'plan', *sys.argv[1:]]\n"
        "from stepladder.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'datasets', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    looks_at_files = tmp_path / "c.yaml"
    looks_at_files.write_text(
        "name: x\nmodel_name_or_path: m\noutput_dir: o\nscript: module:trl.scripts.sft\n"
        "args: {learning_rate: 1}\nstages: [{name: a, steps: 1}]\n"
    )
    for args in ([ROBOREFER, "--no-files"], [str(looks_at_files)]):
        subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        stepladder("plan", ROBOREFER, "--no-files", cwd=ROOT)
        times.append(time.perf_counter() - start)
    # About 0.3 s on two idle cores; the bound leaves room for a busy machine.
    assert min(times) < 1.0, times
