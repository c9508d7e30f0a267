"""DeepSpeed loads module, optimizer and scheduler in one call: what the stage sets is put back right after it.

Also starts the process group, which DeepSpeed needs before a model is loaded, and takes a scheduler out of its
configuration where the plan has a curve.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from stepladder_worker import session, snapshot
from stepladder_worker.engines import zero, zero_load
from stepladder_worker.engines.zero_files import ZeroFiles
from stepladder_worker.hooks import optimizer as settings


def start() -> None:
    """On a machine without accelerator, make the process group before the script does anything.

    Otherwise a model that is loaded first is taken for a world of one process, and the data are not sharded.
    """
    import torch

    if torch.cuda.is_available():
        return  # TrainingArguments do it, with the device of this rank
    import deepspeed

    _remove_stale_locks()
    deepspeed.init_distributed(dist_backend="gloo")


def _remove_stale_locks() -> None:
    """A process killed while it builds an extension leaves a lock for which every later one would wait for ever.

    torch (`utils/file_baton.py`) keeps the file open while it builds, so a lock that no process has open is stale.
    """
    folder = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache/torch_extensions"
    locks = {str(path.resolve()) for path in Path(folder).glob("**/lock")}
    if locks and sys.platform == "linux":
        for stale in locks - _open_files():
            print(f"stepladder: removing {stale}, which a killed build left", flush=True)  # noqa: T201
            Path(stale).unlink(missing_ok=True)


def _open_files() -> set[str]:
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return found


def wrap_configuration(module: ModuleType) -> None:
    """Wrap what TrainingArguments do with a DeepSpeed configuration: its `scheduler` section goes before it is read.

    Two schedulers would set the same rate, and one whose numbers differ from the arguments is refused there.
    """
    original = module.HfTrainerDeepSpeedConfig.trainer_config_process

    @functools.wraps(original)
    def trainer_config_process(self: Any, *args: Any, **kwargs: Any) -> Any:
        stage = session.current()
        if stage.task.hook and stage.task.curve is not None and self.config.pop("scheduler", None) is not None:
            stage.evidence.note("the planned learning-rate curve replaces the scheduler of the DeepSpeed configuration")
        return original(self, *args, **kwargs)

    module.HfTrainerDeepSpeedConfig.trainer_config_process = trainer_config_process


def wrap_engine(module: ModuleType) -> None:
    """Wrap `DeepSpeedEngine.load_checkpoint`, through which every loop resumes."""
    original = module.DeepSpeedEngine.load_checkpoint

    @functools.wraps(original)
    def load_checkpoint(self: Any, load_dir: str, *args: Any, **kwargs: Any) -> Any:
        stage = session.current()
        if stage.trainer is None or not stage.task.hook or Path(load_dir) != stage.checkpoint:
            return original(self, load_dir, *args, **kwargs)
        own = settings.hyper_parameters(self.optimizer)
        partitioned = zero.optimizer_of(self.optimizer)
        files = None if partitioned is None else ZeroFiles(Path(load_dir))
        if files is None or (zero_load.fits(partitioned, files, stage.world_size) and not stage.resets_optimizer):
            loaded = original(self, load_dir, *args, **kwargs)
        else:
            if files.world != stage.world_size:
                stage.evidence.note(f"ZeRO partitions of {files.world} processes cut anew for {stage.world_size}")
            zero_load.load(self, partitioned, snapshot.names_by_id(self.module), files, stage.resets_optimizer)
            loaded = (load_dir, {})
        settings.put_back(self.optimizer, own)
        settings.place_schedule(self.lr_scheduler, self.optimizer, own, stage.true_step)
        stage.evidence.loaded["weights"] = load_dir
        return loaded

    module.DeepSpeedEngine.load_checkpoint = load_checkpoint
