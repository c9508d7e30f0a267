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

from stepladder_worker import fault, imports, session
from stepladder_worker.hooks import arguments, data


def install() -> None:
    """Arrange for the hooks to be in place when the script imports the Trainer."""
    imports.when_imported("transformers.trainer", _wrap_trainer)
    imports.when_imported("accelerate.data_loader", data.wrap_skipping)
    imports.when_imported("deepspeed.runtime.engine", _wrap_deepspeed)
    imports.when_imported("transformers.integrations.deepspeed", _wrap_deepspeed_configuration)


def _wrap_deepspeed(module: ModuleType) -> None:
    from stepladder_worker.hooks import deepspeed

    deepspeed.wrap_engine(module)


def _wrap_deepspeed_configuration(module: ModuleType) -> None:
    from stepladder_worker.hooks import deepspeed

    deepspeed.wrap_configuration(module)


def _wrap_trainer(module: ModuleType) -> None:
    enforcing = session.current().task.hook
    hooks = (*_hooks(enforcing), *_fault_hooks())
    if enforcing:
        from stepladder_worker.hooks import resume, train, trainable

        resume.wrap_state(module.TrainerState)
        train.wrap_train(module.Trainer)
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
        if enforcing:
            trainable.choose(self.model)

    module.Trainer.__init__ = init


def _hooks(enforcing: bool) -> tuple[type, ...]:
    """Outermost first: TrainHook decides what is resumed, ObserveHook is innermost and sees what really runs."""
    from stepladder_worker.hooks.observe import ObserveHook

    if not enforcing:
        return data.DataHook, ObserveHook
    from stepladder_worker.hooks.accumulation import AccumulationHook
    from stepladder_worker.hooks.checkpoint import CheckpointHook
    from stepladder_worker.hooks.data_position import DataPositionHook
    from stepladder_worker.hooks.learning_rate import LearningRateHook
    from stepladder_worker.hooks.optimizer import OptimizerHook
    from stepladder_worker.hooks.other_head import OtherHeadHook
    from stepladder_worker.hooks.rng import RandomStateHook
    from stepladder_worker.hooks.sharded_model import ShardedModelHook
    from stepladder_worker.hooks.train import TrainHook
    from stepladder_worker.hooks.trainable import TrainableHook

    return (
        TrainHook,
        CheckpointHook,
        data.DataHook,
        DataPositionHook,
        AccumulationHook,
        TrainableHook,
        LearningRateHook,
        OptimizerHook,
        OtherHeadHook,
        RandomStateHook,
        ShardedModelHook,
        ObserveHook,
    )


def _fault_hooks() -> tuple[type, ...]:
    """Innermost of all, and only where somebody planted a fault."""
    if not fault.planned():
        return ()
    from stepladder_worker.hooks.fault import FaultHook, strike

    strike("start", session.current().true_step)
    return (FaultHook,)


def _adopt(trainer: Any, hooks: tuple[type, ...]) -> None:
    """Give one Trainer the hooks; a second call (a subclass that calls __init__ twice) changes nothing."""
    own = type(trainer)
    if not issubclass(own, hooks):
        names = {"__module__": own.__module__, "__qualname__": own.__qualname__}
        trainer.__class__ = type(own.__name__, (*hooks, own), names)
