"""Makes the planted faults happen (see `stepladder_worker.fault`). In place only where STEPLADDER_FAULT is set.

The innermost hook of all: a fault strikes where a real one would, inside what the other hooks see to. Every fault says
so in the log before it strikes, so that a test knows that it did.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from stepladder_worker import distributed, manifest, session
from stepladder_worker.fault import Fault, planned

#: Every write to it fails with ENOSPC, by the kernel (Linux, full(4)).
_FULL_DEVICE = Path("/dev/full")
#: More than any machine addresses, in bytes.
_TOO_MUCH = 1 << 60
_CUDA_TEXT = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.12 GiB is "
    "free. Including non-PyTorch memory, this process has 78.02 GiB memory in use. Of the allocated memory 76.31 GiB "
    "is allocated by PyTorch, and 1.05 GiB is reserved by PyTorch but unallocated."
)

#: Faults that have not struck yet in this process.
_waiting = list(planned())


class FaultHook:
    """Strikes while loading, in a step, in a save, after training."""

    args: Any
    model: Any
    state: Any
    _fetch: StuckFetch | None = None
    _step_begun: int | None = None
    _folder: Path | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        output = super().train(*args, **kwargs)  # type: ignore[misc]
        strike("end", int(self.state.global_step))
        return output

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()  # type: ignore[misc]
        if any(fault.kind == "hang_loader" for fault in _waiting):
            base = getattr(loader, "base_dataloader", loader)  # accelerate's that really iterates
            base.collate_fn = self._fetch = StuckFetch(base.collate_fn)
            self._fetch.stop_before(session.current().true_step + 1)
        return loader

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:  # the weights are loaded, the rest is not
            strike("load", session.current().true_step)
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        step = int(self.state.global_step) + 1
        if step != self._step_begun:
            self._step_begun = step
            if self._fetch is not None:
                self._fetch.stop_before(step + 1)
            strike("step", step)
            _slow_down(step)
        return super().training_step(*args, **kwargs)  # type: ignore[misc]

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)  # type: ignore[misc]
        faults = _due("step", int(self.state.global_step) + 1, "nan") if self.model.training else []
        for fault in faults:
            _announce(fault)
            loss = (loss[0] * math.nan, *loss[1:]) if isinstance(loss, tuple) else loss * math.nan
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        step = int(self.state.global_step)
        self._folder, self._written = Path(self.args.output_dir) / f"checkpoint-{step}", list[Path]()
        with _full_disk(self._folder, step):
            super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]
        self._part_saved(last=True)
        _truncate(self._folder, self._written, step)
        _strike_around_manifest(step)
        self._folder = None

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        super().save_model(*args, **kwargs)  # type: ignore[misc]
        self._part_saved()

    def _save_optimizer_and_scheduler(self, *args: Any, **kwargs: Any) -> None:
        super()._save_optimizer_and_scheduler(*args, **kwargs)  # type: ignore[misc]
        self._part_saved()

    def _save_rng_state(self, *args: Any, **kwargs: Any) -> None:
        super()._save_rng_state(*args, **kwargs)  # type: ignore[misc]
        self._part_saved()

    def _part_saved(self, last: bool = False) -> None:
        """A part of a checkpoint is written, if one is being written; after the last part nothing waits any longer."""
        if self._folder is None:
            return
        self._written += _files_of(self._folder, self._written)
        step = int(self.state.global_step)
        if last:
            strike("save", step)
        else:
            strike("save", step, len(self._written), sum(path.stat().st_size for path in self._written))


class StuckFetch:
    """Around a loader's collate function, in every data worker or in the process itself: once stuck, no batch is ever
    put together again. What data workers had fetched ahead is still trained."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate
        self._stuck = torch.zeros(1, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def stop_before(self, step: int) -> None:
        """Get stuck if the batches of this step shall never come."""
        for fault in _due("step", step, "hang_loader"):
            _announce(fault)
            self._stuck.fill_(1)

    def __call__(self, samples: Any) -> Any:
        if self._stuck.item():
            _hang()
        return self.collate(samples)


def strike(place: str, step: int, files: float = math.inf, size: float = math.inf) -> None:
    """Let the faults of a place happen, each once. A save in its midst has so many files and bytes."""
    for fault in _due(place, step):
        if fault.kind in _ACTS and fault.files <= files and fault.byte <= size:
            _act(fault)


def _act(fault: Fault) -> None:
    _waiting.remove(fault)
    _announce(fault)
    _ACTS[fault.kind](fault)


def _due(place: str, step: int, kind: str | None = None) -> list[Fault]:
    """Faults for this process at a place and step that have not struck yet."""
    task, rank = session.current().task, session.current().rank
    here = [fault for fault in _waiting if fault.at == place and fault.rank in (None, rank)]
    return [f for f in here if kind in (None, f.kind) and f.concerns(task.stage, task.attempt, step)]


def _announce(fault: Fault) -> None:
    if fault not in _announced:
        _announced.add(fault)
        rank = session.current().rank
        print(f"stepladder: rank {rank}: planted fault {fault.text}", file=sys.stderr, flush=True)  # noqa: T201


_announced: set[Fault] = set()


def _hang(fault: Fault | None = None) -> NoReturn:
    while True:
        time.sleep(3600)


def _raise(fault: Fault) -> NoReturn:
    raise RuntimeError(f"planted fault {fault.text}")


def _exit(fault: Fault) -> NoReturn:
    raise SystemExit(fault.code)


def _send(number: signal.Signals) -> Callable[[Fault], None]:
    return lambda fault: os.kill(os.getpid(), number)


def _read_address_zero(fault: Fault) -> None:
    ctypes.string_at(0)


def _run_out_of_memory(fault: Fault) -> None:
    if fault.memory == "host":
        torch.empty(_TOO_MUCH, dtype=torch.uint8)
    raise torch.cuda.OutOfMemoryError(_CUDA_TEXT)


#: What a kind does that can strike at any place.
_ACTS: dict[str, Callable[[Fault], None]] = {
    "exception": _raise,
    "exit": _exit,
    "kill": _send(signal.SIGKILL),
    "term": _send(signal.SIGTERM),
    "stop": _send(signal.SIGSTOP),
    "segfault": _read_address_zero,
    "hang_collective": _hang,
    "out_of_memory": _run_out_of_memory,
}


def _slow_down(step: int) -> None:
    """From the fault's step on; its own step is the first."""
    for fault in [f for f in _waiting if f.kind == "slow"]:
        if fault in _announced or fault in _due("step", step, "slow"):
            _announce(fault)
            time.sleep(fault.seconds)


@contextlib.contextmanager
def _full_disk(folder: Path, step: int) -> Iterator[None]:
    """One file of the checkpoint cannot be written: the kernel says that no space is left. It stays behind, empty."""
    links = []
    for fault in _due("save", step, "disk_full"):
        _announce(fault)
        folder.mkdir(parents=True, exist_ok=True)
        links.append(folder / fault.file)
        links[-1].unlink(missing_ok=True)
        links[-1].symlink_to(_FULL_DEVICE)
    try:
        yield
    finally:
        for link in links:
            if link.is_symlink():
                link.unlink()
                link.touch()


def _truncate(folder: Path, written: list[Path], step: int) -> None:
    """Leave the checkpoint as a loss of power at byte N of it does, and end."""
    task, rank = session.current().task, session.current().rank
    faults = [f for f in _waiting if f.kind == "truncate" and f.concerns(task.stage, task.attempt, step)]
    if faults:
        distributed.barrier()  # the ranks read the same faults: all come here, and all have written their files
    for fault in faults:
        if fault.rank in (None, rank):
            _announce(fault)
            _cut([*written, *_files_of(folder, written)], fault.byte)
            os.kill(os.getpid(), signal.SIGKILL)


def _cut(files: list[Path], left: int) -> None:
    """Keep the first `left` bytes of files that were written in this order."""
    for path in files:
        size = path.stat().st_size
        if left > 0:
            os.truncate(path, min(left, size))
        else:
            path.unlink()
        left -= size


def _files_of(folder: Path, known: list[Path]) -> list[Path]:
    """Files of a checkpoint that are not among `known`, in the order in which they were written."""
    found = [path for path in folder.rglob("*") if path.is_file() and path not in known]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _strike_around_manifest(step: int) -> None:
    """Faults at the manifest strike beside the rename that makes it valid, which comes next on rank 0."""
    faults = [fault for fault in _due("manifest", step) if fault.kind in _ACTS]
    if not faults:
        return
    rename = Path.replace

    def replace(self: Any, target: Any) -> Any:
        if Path(target).name != manifest.NAME:
            return rename(self, target)
        Path.replace = rename  # type: ignore[method-assign]
        for fault in faults:
            if fault.when == "before":
                _act(fault)
        moved = rename(self, target)
        for fault in faults:
            if fault.when == "after":
                _act(fault)
        return moved

    Path.replace = replace  # type: ignore[method-assign]
