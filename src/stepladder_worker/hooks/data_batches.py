"""The batch sampler around the script's own: it records what is drawn, and starts a pass at any sample.

Skipping draws indices and loads nothing, and a sampler with `starting_at` draws none of them either (see
`_RestOfSampler`). Positions count samples of the global order of an epoch, over all processes: accelerate hands
consecutive batches of that order to consecutive ranks, so that one micro-batch of every rank takes `span` consecutive
samples, whatever the number of processes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data import BatchSampler, IterableDataset

from stepladder_worker import session
from stepladder_worker.hooks.data_random import LoadingStates, watch


def record(loader: Any, at_once: int, enforcing: bool) -> RecordedBatches | None:
    """Put RecordedBatches into a loader; None for iterable data, whose samples have no index.

    Args:
        loader: of torch or accelerate.
        at_once: samples of one micro-batch over all processes, where the batch sampler does not tell.
        enforcing: random states are remembered, so that a later attempt draws the same random numbers.
    """
    batches = getattr(loader, "batch_sampler", None)
    # With a loader that reads on one process for all, the others never iterate the sampler.
    dispatched = type(loader).__name__ == "DataLoaderDispatcher"
    if isinstance(loader.dataset, IterableDataset) or batches is None or dispatched:
        return None
    # accelerate keeps the loader that really iterates as `base_dataloader`.
    base = getattr(loader, "base_dataloader", loader)
    states = LoadingStates(_inner(batches), watch(base)) if enforcing else None
    # torch draws for its workers ahead of the loop, and accelerate's loader fetches one batch ahead.
    ahead = type(loader).__module__.startswith("accelerate.") + base.num_workers * (base.prefetch_factor or 0)
    recorded = RecordedBatches(batches, _epoch_length(loader, batches), at_once, ahead, states)
    # A DataLoader forbids a new batch sampler because its batch_size would then be wrong. Ours changes neither
    # the batches nor their size.
    object.__setattr__(base, "batch_sampler", recorded)
    return recorded


class RecordedBatches:
    """Yields the batches of another batch sampler, from the planned position on.

    Attributes:
        batches: the script's batch sampler, or accelerate's part of it for this rank.
        length: samples of an epoch.
        per_epoch: micro-batches of this process in a whole epoch.
        span: samples of the global order that one micro-batch of every process takes.
        ahead: micro-batches that are drawn and not yet trained when a step is done, but at the end of a pass.
        states: the random states around the drawing; None where nothing is enforced.
        left_out: micro-batches at the end of every epoch that the loop by itself never takes.
        in_hand: micro-batches that the loop has taken for its current steps and not trained yet.
        begins_within: the first pass begins within an epoch.
        shows_rest: until the next pass begins, `len()` is what that pass has left (see `data_position`).
    """

    def __init__(self, batches: Any, length: int, at_once: int, ahead: int, states: LoadingStates | None) -> None:
        self.batches, self.length, self.ahead, self.states = batches, length, ahead, states
        self.per_epoch = len(batches)
        self.span = _span(batches) or at_once
        self.shows_rest = False
        self._epoch = self._next_epoch = 0
        self._told_epoch: int | None = None
        self._placed = False
        self._begin = self._skip = self._again = 0
        self.begins_within = False
        self._rest: _RestOfSampler | None = None
        self._before = self._trained = 0
        self._pass_length = self.per_epoch
        self._drawn: deque[list[int]] = deque()
        self._fetched = self._astray = 0
        self._drawn_out = False
        self.in_hand = self.left_out = 0

    @property
    def left(self) -> int:
        """Micro-batches that the next pass has."""
        return len(self.batches) - self._skip

    @property
    def inexact(self) -> str | None:
        """Why going on within these data is not the uninterrupted training to the bit; None when it is."""
        return None if self.states is None else self.states.inexact

    @property
    def astray(self) -> int:
        """Micro-batches that the loop took and did not train, less those trained twice; asked when a step is done."""
        under_way = self._fetched - self._trained - self.in_hand
        due = min(max(under_way, 0), self.ahead) if self._drawn_out else self.ahead
        return self._astray + under_way - due

    def facts(self) -> dict[str, Any]:
        """What the evidence says of the data as a whole, before anything is drawn."""
        return {
            "length": self.length,
            "batches": self.per_epoch,
            "span": self.span,
            "drop_last": bool(getattr(self.batches, "drop_last", False)),
            "inexact": self.inexact,
            "epoch": None,
            "first_batches": [],
            "left_out": self.left_out,
            "astray": 0,
        }

    def start_at(self, epoch: int, samples: int) -> int:
        """Let the next pass begin `samples` samples into an epoch; returns the micro-batches that it has.

        Raises BoundaryError where a sampler of another kind cannot begin within one of its batches.
        """
        self._next_epoch, self._placed, self.begins_within = epoch, True, samples > 0
        self._begin_after(samples)
        return self.left

    def draw_again(self, batches: int) -> None:
        """The next pass begins so many micro-batches earlier, which are fetched but not trained again."""
        self._begin_after(self._begin - batches * self.span)
        self._again = batches

    def skip_asked(self, batches: int) -> None:
        """The loop asks to skip micro-batches: as it says, unless the position is planned in samples."""
        if not self._placed:
            self._begin_after(batches * self.span)

    def set_epoch(self, epoch: int) -> None:
        """The loop says which epoch comes next."""
        self._told_epoch = epoch
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)

    def batch_trained(self) -> None:
        """The process has trained one more micro-batch."""
        self._trained += 1
        self.in_hand = max(0, self.in_hand - 1)
        if self._drawn:
            self._drawn.popleft()
        if self.states is not None:
            self.states.batch_trained()

    @property
    def pass_over(self) -> bool:
        """Whether every micro-batch of the running pass is trained."""
        return self._trained >= self._pass_length - self.left_out

    @property
    def epochs_trained(self) -> float:
        """Epochs of these data trained so far, as the Trainer counts them: by micro-batches."""
        return self._epoch + (self._before / self.span + self._trained) / self.per_epoch

    def position(self) -> dict[str, Any]:
        """See `data.position`."""
        if self.pass_over:
            return {"epoch": self._epoch + 1, "samples": 0, "next": None}
        upcoming = self._drawn[0] if self._drawn else None
        return {"epoch": self._epoch, "samples": self._before + self._trained * self.span, "next": upcoming}

    def __iter__(self) -> Iterator[list[int]]:
        skip, again = self._begin_pass()
        evidence = session.current().evidence
        # The epoch that the sampler really shuffles by; where it does not tell, the loop's.
        epoch = getattr(getattr(_inner(self.batches), "sampler", None), "epoch", self._epoch)
        drawn = iter(self.batches) if self.states is None else self.states.ordered(self.batches)
        for place, batch in enumerate(itertools.islice(drawn, skip, None)):
            if place >= again:
                evidence.batch_drawn(epoch, self._before + place * self.span, batch)
            self._fetched += 1
            self._drawn.append(batch)
            if self.states is not None:
                self.states.before_fetch(again=place < again)
            yield batch
        self._drawn_out = True
        if self.states is not None:
            self.states.nothing_left()

    def _begin_pass(self) -> tuple[int, int]:
        """Returns the batches to leave out, and how many after them are trained already."""
        skip, again = self._skip, self._again
        self._pass_length, self._before = self.left, self._begin
        self._epoch = self._next_epoch if self._told_epoch is None else self._told_epoch
        self._next_epoch = self._epoch + 1
        if self._trained:  # a pass of which nothing was trained was only looked at
            self._astray += self._fetched - self._trained - self.left_out
        self._begin = self._skip = self._again = self._trained = self._fetched = 0
        self._drawn_out = False
        self._drawn.clear()
        self.shows_rest = False
        return skip, again

    def _begin_after(self, samples: int) -> None:
        """Let the next pass leave out so many samples: in whole batches that are dropped, or within the sampler."""
        self._begin = samples
        if samples % self.span or (samples and _seeks(_inner(self.batches))):
            # accelerate fills up the last micro-batches of an epoch with its first ones, so those are drawn anyway.
            first = self.span if self.length >= self.span else 0
            self._rest_of_sampler().leave_out(first, samples)
            self._skip = int(first > 0)
        else:
            if self._rest is not None:
                self._rest.leave_out(0, 0)
            self._skip = samples // self.span

    def _rest_of_sampler(self) -> _RestOfSampler:
        if self._rest is None:
            inner = _inner(self.batches)
            if not isinstance(inner, BatchSampler) or not hasattr(inner, "sampler"):
                raise session.BoundaryError(
                    f"stage {session.current().task.stage}: {type(inner).__name__} cannot begin within one of its "
                    f"batches, which take {self.span} samples over all processes; "
                    "hint: keep the batch size and the processes of the stage before, or say `handover: {data: fresh}`"
                )
            self._rest = inner.sampler = _RestOfSampler(inner.sampler)
        return self._rest

    def __len__(self) -> int:
        return self.left if self.shows_rest else self.per_epoch

    def __getattr__(self, name: str) -> Any:
        if name == "batches":  # not there yet while an instance is being unpickled
            raise AttributeError(name)
        return getattr(self.batches, name)


class _RestOfSampler:
    """A sampler whose next iteration yields some samples of the epoch's beginning, and then those from a place on.

    A sampler that can begin anywhere says so by a method `starting_at(place)`: an iterator over the samples of its
    epoch from that place on, which counts from 0. The `len()` of such a sampler is taken for the samples of an epoch.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self._first = self._place = 0

    def leave_out(self, first: int, place: int) -> None:
        """Yield `first` samples of the beginning, then those from `place` on; all with (0, 0)."""
        self._first, self._place = first, place

    def __iter__(self) -> Iterator[int]:
        first, place = self._first, self._place
        self._first = self._place = 0
        if hasattr(self.sampler, "starting_at"):
            beginning = itertools.islice(iter(self.sampler), first)
            return itertools.chain(beginning, self.sampler.starting_at(place))
        walked = iter(self.sampler)
        drawn = list(itertools.islice(walked, first))
        return itertools.chain(drawn, drawn[place:], itertools.islice(walked, max(0, place - first), None))

    def __len__(self) -> int:
        return self._first + len(self.sampler) - self._place

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)


def _epoch_length(loader: Any, batches: Any) -> int:
    """Samples of an epoch: those of the data set, unless the sampler draws from it as it says (see _RestOfSampler)."""
    inner = _inner(batches)
    return len(inner.sampler if _seeks(inner) else loader.dataset)


def _seeks(inner: Any) -> bool:
    """Whether the script's batch sampler is torch's around a sampler that can begin anywhere."""
    return isinstance(inner, BatchSampler) and hasattr(getattr(inner, "sampler", None), "starting_at")


def _inner(batches: Any) -> Any:
    """The script's batch sampler: accelerate shards it among several processes."""
    return getattr(batches, "batch_sampler", batches)


def _span(batches: Any) -> int | None:
    """See RecordedBatches; None for a batch sampler that does not tell the size of its batches."""
    size = getattr(batches, "batch_size", None)
    if not isinstance(size, int):
        return None
    split = getattr(batches, "split_batches", False)  # then one batch is cut into a piece for every rank
    return size if split else size * int(getattr(batches, "num_processes", 1))
