"""Puts Stepladder's hooks around the Trainer that the script makes.

Every Trainer instance gets the hooks as the first classes of its type, at the end of `Trainer.__init__`. A hook is
an ordinary class with `super()` calls, one per concern, so it also surrounds what a subclass of the script
overrides, and nothing of the script or of transformers is copied. Imports neither torch nor transformers before
the script does.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from stepladder_worker import imports, session
from stepladder_worker.hooks import arguments, data


def install() -> None:
    """Arrange for the hooks to be in place when the script imports the Trainer."""
    imports.when_imported("transformers.trainer", _wrap_trainer)
    imports.when_imported("accelerate.data_loader", data.wrap_skipping)


def _wrap_trainer(module: ModuleType) -> None:
    enforcing = session.current().task.hook
    hooks = _hooks(enforcing)
    if enforcing:
        from stepladder_worker.hooks import resume

        resume.wrap_state(module.TrainerState)
    original = module.Trainer.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind_partial(self, *args, **kwargs).arguments.get("args")
        if given is not None:
            arguments.apply(given)
        original(self, *args, **kwargs)
        if given is None:
            arguments.apply(self.args)
        _adopt(self, hooks)

    module.Trainer.__init__ = init


def _hooks(enforcing: bool) -> tuple[type, ...]:
    """Outermost first: TrainHook decides what is resumed, ObserveHook is innermost and sees what really runs."""
    from stepladder_worker.hooks.observe import ObserveHook

    if not enforcing:
        return data.DataHook, ObserveHook
    from stepladder_worker.hooks.checkpoint import CheckpointHook
    from stepladder_worker.hooks.learning_rate import LearningRateHook
    from stepladder_worker.hooks.optimizer import OptimizerHook
    from stepladder_worker.hooks.rng import RandomStateHook
    from stepladder_worker.hooks.train import TrainHook

    return TrainHook, CheckpointHook, data.DataHook, LearningRateHook, OptimizerHook, RandomStateHook, ObserveHook


def _adopt(trainer: Any, hooks: tuple[type, ...]) -> None:
    """Give one Trainer the hooks; a second call (a subclass that calls __init__ twice) changes nothing."""
    own = type(trainer)
    if not issubclass(own, hooks):
        names = {"__module__": own.__module__, "__qualname__": own.__qualname__}
        trainer.__class__ = type(own.__name__, (*hooks, own), names)
