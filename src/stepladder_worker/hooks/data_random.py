"""Random numbers drawn while data are loaded: remembered at a checkpoint, drawn again where training goes on.

The random state of a checkpoint is that of training. Three draws of loading lie before it, in numbers that training
goes on with: the order of a sampler that shuffles by the random state at the start of an epoch, and samples that were
fetched ahead in the process itself, with augmentation in the data set or the collator. Their states are kept in a
file a rank, where there are such draws. What data workers draw hangs on every sample that each of them has loaded
before, so it is noticed and said, and not repeated.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from stepladder_worker import fingerprint, signals, unpickling

#: Batches after the first of a pass at which a sampler that draws random numbers while it trains is noticed.
WATCHED = 8

State = dict[str, Any]


def capture(generator: torch.Generator | None = None) -> State:
    """The process's random states on the CPU, and that of a sampler's own generator."""
    state = fingerprint.cpu_random_states()
    return state if generator is None else {**state, "generator": generator.get_state()}


def restore(state: State, generator: torch.Generator | None = None) -> None:
    """Put back what `capture` returned, or a part of it."""
    if "python" in state:
        fingerprint.restore_random_states(state)
    if generator is not None and "generator" in state:
        generator.set_state(state["generator"])


def same(left: State, right: State) -> bool:
    """Whether two captured states are equal."""
    tensors = all(torch.equal(left[key], right[key]) for key in ("cpu", "generator") if key in left)
    words = np.array_equal(left["numpy"][1], right["numpy"][1]) and left["numpy"][2:] == right["numpy"][2:]
    return bool(tensors and words and left["python"] == right["python"])


def file_of(checkpoint: Path, rank: int) -> Path:
    """Where a rank keeps its states of loading in a checkpoint."""
    return checkpoint / f"stepladder_data_rng_{rank}.pth"


class WatchedFetch:
    """Around a loader's collate function: notices that fetching a batch draws random numbers.

    Called in every data worker, or in the process itself. What is noticed is shared with the process.
    """

    def __init__(self, collate: Callable[[Any], Any], workers: int, persistent: bool) -> None:
        self.collate, self.in_process, self.persistent = collate, workers == 0, persistent
        self.before: State | None = None
        self._drew = torch.zeros(1, dtype=torch.uint8)
        if workers:
            self._drew.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def drew(self) -> bool:
        """Whether fetching any batch has drawn a random number so far, in any worker."""
        return bool(self._drew.item())

    def __call__(self, samples: Any) -> Any:
        batch = self.collate(samples)
        if self.before is not None and not self.drew:
            now = capture()
            if not same(self.before, now):
                self._drew.fill_(1)
            self.before = now if get_worker_info() is not None else None
        return batch

    def __getattr__(self, name: str) -> Any:
        if name == "collate":  # not there yet while an instance is being unpickled
            raise AttributeError(name)
        return getattr(self.collate, name)


def watch(loader: Any) -> WatchedFetch:
    """Put a WatchedFetch into a loader of torch."""
    watched = WatchedFetch(loader.collate_fn, loader.num_workers, loader.persistent_workers)
    loader.collate_fn = watched
    if loader.num_workers:
        loader.worker_init_fn = functools.partial(_begin_worker, watched, loader.worker_init_fn)
    return watched


def _begin_worker(watched: WatchedFetch, begin: Callable[[int], None] | None, worker: int) -> None:
    signals.heed_parent_only()
    if begin is not None:
        begin(worker)
    watched.before = capture()


class LoadingStates:
    """The random states of one process around the drawing of batches.

    Attributes:
        fetch: notices draws of fetching.
        replay: what the next pass draws again; None for a pass that begins its epoch.
        went_on: the state of training was put back within this pass, and fetching has drawn from it since.
    """

    def __init__(self, batches: Any, fetch: WatchedFetch) -> None:
        sampler = getattr(batches, "sampler", batches)
        # One with an epoch seeds its generator by it.
        own = None if hasattr(sampler, "epoch") else getattr(sampler, "generator", None)
        self.fetch, self._sampler, self._generator = fetch, type(sampler).__name__, own
        self.replay: Replay | None = None
        self.went_on = self._draws_while_training = False
        self._order: State | None = None
        self._fetches: deque[State] = deque()

    @property
    def inexact(self) -> str | None:
        """See RecordedBatches."""
        if self._draws_while_training:
            return f"{self._sampler} draws random numbers while training does"
        if self.fetch.in_process or not self.fetch.drew:
            return None
        return f"random numbers are drawn in {'persistent ' if self.fetch.persistent else ''}data workers"

    def ordered(self, batches: Any) -> Iterator[list[int]]:
        """The batches of a pass, with the random state that their order was drawn from."""
        if self.replay is not None:
            self.replay.before_order(self._generator)
        self._order, self.went_on = None, False
        self._fetches.clear()
        drawn = iter(batches)
        for place in itertools.count():
            before = capture(self._generator) if place <= WATCHED else None
            try:
                batch = next(drawn)
            except StopIteration:
                return
            if before is not None and not same(before, capture(self._generator)):
                if place == 0:
                    self._order = before
                else:
                    self._draws_while_training = True
            yield batch

    def before_fetch(self, again: bool) -> None:
        """The batch just drawn is fetched next, where there are no data workers; `again` if it is trained already."""
        if self.replay is not None and not again:
            self._replay_fetch(self.replay)
        if self.fetch.in_process:
            self.fetch.before = capture()
            self._fetches.append(self.fetch.before)

    def nothing_left(self) -> None:
        """The pass has no batch to fetch any more."""
        while self.replay is not None:
            self._replay_fetch(self.replay)

    def batch_trained(self) -> None:
        """The oldest batch that was fetched has been trained."""
        if self._fetches:
            self._fetches.popleft()

    def save(self, path: Path, pass_over: bool) -> None:
        """Write what a later attempt needs to draw the same numbers; nothing where nothing is drawn."""
        saved: dict[str, Any] = {}
        if pass_over:
            if self._generator is not None:
                saved["order"] = {"generator": self._generator.get_state()}
        else:
            if self._order is not None:
                saved["order"] = self._order
            if self.fetch.in_process and self.fetch.drew:
                saved |= {"fetches": list(self._fetches), "training": capture()}
        path.unlink(missing_ok=True)  # of a save that was cut short
        if saved:
            torch.save(saved, path)

    def _replay_fetch(self, replay: Replay) -> None:
        if not replay.before_fetch():
            self.replay, self.went_on = None, replay.training is not None


class Replay:
    """The draws of loading that lie before a checkpoint, to be made again in the first pass after it.

    Args:
        saved: what `LoadingStates.save` wrote; the empty mapping where it wrote nothing.
        workers_lived: an uninterrupted run goes through this start of an epoch with data workers that live, while
            starting them here draws their seed.

    Attributes:
        training: the random state of training; None where fetching in this process draws nothing.
        loaded: the random state that the loop has loaded for the start of an epoch.
    """

    def __init__(self, saved: dict[str, Any], workers_lived: bool) -> None:
        self.training: State | None = saved.get("training")
        self.loaded: State | None = None
        self._order: State = saved.get("order", {})
        self._fetches: list[State] = list(saved.get("fetches", []))
        self._workers_lived = workers_lived
        self._resting: State = {}

    def before_order(self, generator: torch.Generator | None) -> None:
        """The sampler is about to draw the order."""
        if self._workers_lived and self.loaded is not None:
            restore(self.loaded)
        if "python" in self._order:
            self._resting = capture()
        restore(self._order, generator)

    def before_fetch(self) -> bool:
        """A batch is about to be fetched; False when that of this batch is not drawn again."""
        if self._fetches:
            restore(self._fetches.pop(0))
            return True
        restore(self.training or self._resting)
        return False


def load(checkpoint: Path, rank: int) -> dict[str, Any]:
    """What `LoadingStates.save` wrote in a checkpoint; the empty mapping where it wrote nothing."""
    path = file_of(checkpoint, rank)
    if not path.is_file():
        return {}
    saved: dict[str, Any] = unpickling.load(path)
    return saved
