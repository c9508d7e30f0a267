"""Loops that carry an accumulation over the end of an epoch: transformers before 4.47, and their copies in forks.

Of thirteen micro-batches, twelve make four steps of three; the last one begins the first step of the next epoch. So a
checkpoint lies anywhere in an epoch. transformers 4.46 also fetches micro-batches by so many as make a step, counted
from the epoch's beginning, and scales the loss of each by what all of them hold: where a checkpoint lies among them,
they are fetched again, and those that are trained are dropped.
"""

from __future__ import annotations

import inspect
from types import CodeType
from typing import Any

import transformers

#: Methods that hold the loop, and what it must call to be one.
_LOOPS, _CALLED = ("_run_epoch", "_inner_training_loop"), "training_step"
#: What such a loop counts with; it has had this name in every release and copy.
_COUNTER = "total_batched_samples"


class AccumulationHook:
    """Drops micro-batches that are fetched again.

    Attributes:
        fetched_again: so many that come next are trained already.
    """

    recorded_batches: Any
    fetched_again = 0

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, *others = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        trained = min(self.fetched_again, len(batches))
        self.fetched_again -= trained
        for _ in range(trained):
            self.recorded_batches.batch_trained()
        if self.recorded_batches is not None:
            self.recorded_batches.in_hand = len(batches) - trained
        return batches[trained:], *others


def carries_over(trainer: Any) -> bool:
    """Whether the loop that trains carries an accumulation over the end of an epoch."""
    code = _loop(type(trainer))
    return code is not None and _COUNTER in code.co_varnames


def left_out(trainer: Any) -> int:
    """Micro-batches at the end of every epoch that the loop never takes.

    transformers 4.46 to 4.51 ask for the rest of an epoch by the number of samples where they mean micro-batches.
    """
    batches, accumulation = trainer.recorded_batches, int(trainer.args.gradient_accumulation_steps)
    code = _loop(type(trainer))
    release = tuple(map(int, transformers.__version__.split(".")[:2]))
    if code is None or "get_batch_samples" not in code.co_names or release >= (4, 52):
        return 0
    return int(max(0, batches.per_epoch % accumulation - (batches.length % accumulation or accumulation)))


def begin(trainer: Any, samples: int) -> int:
    """Let the loop begin so many samples into an epoch; returns the steps of the epoch that it is shown as trained."""
    batches, accumulation = trainer.recorded_batches, int(trainer.args.gradient_accumulation_steps)
    trained, between = divmod(samples, batches.span)
    code = _loop(type(trainer))
    if between or code is None or "get_batch_samples" not in code.co_names:
        # What is skipped is planned in samples; the loop need only know that there is something to skip.
        return max(1, trained // accumulation) if samples else 0
    again = trained % accumulation
    if batches.per_epoch - trained + again <= accumulation <= trained - again:
        again += accumulation  # the loop ends a step with a pass that is as short as one, and would do so here
    batches.draw_again(again)
    trainer.fetched_again = again
    batches.shows_rest = True
    return int((trained - again) // accumulation)


def _loop(trainer_class: type) -> CodeType | None:
    """The code of the training loop; None where no method looks like one."""
    for owner in trainer_class.__mro__:
        for name in _LOOPS:
            function = inspect.unwrap(vars(owner)[name]) if name in vars(owner) else None
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType) and _CALLED in code.co_names:
                return code
    return None
