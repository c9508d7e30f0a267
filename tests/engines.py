"""The engines as the tests start them: arguments, environment, processes; a chain and an uninterrupted run on each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import ENVIRONMENT, SCRIPTS, TINY_ARGS, everyone, stepladder, tiny_curriculum

_DEEPSPEED_ON_CPU = {"DS_ACCELERATOR": "cpu", "DEEPSPEED_DISABLE_MPI": "1"}
_WRAPPED = {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}


#: CPython before 3.12 may hang in the fork of a data worker: the child takes a lock of the interpreter that a thread of
#: the engine held at that moment (`_PyThreadState_DeleteExcept`, before the locks are made anew). Seen twice in some
#: twenty runs of the suite beside other work, once in a plain Trainer. So a training that hangs is tried once more.
_TRIES = 2
_HANG = {"start": 240, "step": 120}
_PLAIN_SECONDS = 200


def _zero(stage: int) -> dict[str, Any]:
    auto = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size"), "auto")
    zero = {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True}
    return {"deepspeed": {**auto, "gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": zero}}


def _fsdp(state: str) -> dict[str, Any]:
    return {"fsdp": "full_shard", "fsdp_config": {**_WRAPPED, "state_dict_type": state}}


@dataclass(frozen=True)
class Engine:
    """How an engine is asked for; what `evidence` must call it."""

    kind: str
    args: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    processes: int = 2


ENGINES = {
    "single": Engine("single", processes=1),
    "ddp": Engine("ddp"),
    "zero-2": Engine("zero", _zero(2), _DEEPSPEED_ON_CPU),
    "zero-3": Engine("zero", _zero(3), _DEEPSPEED_ON_CPU),
    "zero-3-bf16": Engine("zero", {**_zero(3), "bf16": True}, _DEEPSPEED_ON_CPU),
    "fsdp": Engine("fsdp", _fsdp("FULL_STATE_DICT")),
    "fsdp-sharded": Engine("fsdp", _fsdp("SHARDED_STATE_DICT")),
}


def curriculum(folder: Path, engine: str, name: str = "chain", **changes: Any) -> Path:
    """Three stages of 5, 8 and 11 steps over the same data, on an engine."""
    chosen = ENGINES[engine]
    return tiny_curriculum(
        folder,
        name,
        "engine_train.py",
        **{
            "args": {**chosen.args, **changes.pop("args", {})},
            "env": chosen.env,
            "launcher": {"nproc_per_node": chosen.processes},
            "handover": {"data": "continue"},
            "hang": _HANG,
            **changes,
        },
    )


def run(folder: Path, curriculum: Path, *options: str) -> None:
    """Run a curriculum to its end; fails with what it said."""
    done = tried(folder, curriculum, *options)
    assert done.returncode == 0, done.stderr


def tried(folder: Path, curriculum: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a curriculum until it ends or fails of something else than a hang."""
    for _ in range(_TRIES):
        done = stepladder("run", curriculum, *options, cwd=folder, timeout=500)
        if "failed: it hung" not in done.stderr:
            break
    return done


def uninterrupted(folder: Path, engine: str, steps: int = 24, **args: Any) -> Path:
    """A plain Trainer on an engine, without any of Stepladder; returns its output directory."""
    chosen = ENGINES[engine]
    values = {**TINY_ARGS, **chosen.args, "max_steps": steps, "output_dir": "plain", "save_steps": steps, **args}
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={chosen.processes}"]
    argv += [str(SCRIPTS / "engine_train.py")]
    for name, value in values.items():
        argv += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    for _ in range(_TRIES):
        if _ended(argv, folder, chosen.env):
            return folder / str(values["output_dir"])
    raise AssertionError(f"it hung {_TRIES} times: {argv}")


def _ended(argv: list[str], folder: Path, env: dict[str, str]) -> bool:
    """Whether a training ended, which then was well; else it hung, and none of its processes is left."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(argv, cwd=folder, env={**ENVIRONMENT, **env}, **pipes) as launcher:
        try:
            said, _ = launcher.communicate(timeout=_PLAIN_SECONDS)
        except subprocess.TimeoutExpired:
            for process in reversed(everyone(launcher)):
                process.kill()
            return False
    assert launcher.returncode == 0, said
    return True
