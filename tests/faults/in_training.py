"""Faults in what a training does: the plain Trainer's own traps at a boundary, and scripts that do one thing wrong.

Each is a second stage after one healthy first stage. By itself (`hook: false`) `verify` must name the fault; under
Stepladder the same stage is mended and passes, or the worker ends it by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corpus import BEYOND, Fault

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingFault(Fault):
    """A second stage with a fault.

    Attributes:
        hook: whether it is trained under Stepladder.
        args: arguments of the stage, the kind of `tests/scripts/faulty.py` (`fault`) among them.
        first: arguments of the first stage where they are not the usual ones.
        stage: other fields of the stage.
        mended: under Stepladder the same stage passes, and is the healthy twin.
        quick: part of `make test`.
    """

    hook: bool = False
    args: Arguments = field(default_factory=dict)
    first: Arguments = field(default_factory=dict)
    stage: Arguments = field(default_factory=dict)
    mended: bool = False
    quick: bool = False


def trap(name: str, row: str, args: Arguments, *checks: str, **more: Any) -> TrainingFault:
    """What happens by itself, and does not under Stepladder."""
    return TrainingFault(f"{name}, by itself", row, "verify", checks, False, args, mended=True, **more)


def by_itself(name: str, row: str, args: Arguments, *checks: str, **more: Any) -> TrainingFault:
    return TrainingFault(f"{name}, by itself", row, "verify", checks, False, args, **more)


def hooked(name: str, row: str, args: Arguments, *checks: str, **more: Any) -> TrainingFault:
    return TrainingFault(f"{name}, under Stepladder", row, "verify", checks, True, args, **more)


def ended(name: str, row: str, args: Arguments, text: str, hook: bool = True, **more: Any) -> TrainingFault:
    how = "under Stepladder" if hook else "by itself"
    return TrainingFault(f"{name}, {how}", row, "worker", (text,), hook, args, **more)


def kind(name: str, step: int = 6, **args: Any) -> dict[str, Any]:
    return {"fault": name, "fault_step": step, **args}


FRESH = {"handover": {"data": "fresh"}}
#: The best loss of the first stage is on data that the second stage does not train on.
BEST = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "metric_for_best_model": "loss"}
BEST_AT_END = {**BEST, "load_best_model_at_end": True}
OTHER_DATA = {"data_mixture": "second"}
FIRST_LAYER, SECOND_LAYER = {"frozen_layer": 0}, {"frozen_layer": 1}

#: The plain Trainer's own traps need arguments alone.
FAULTS = [
    trap("a decaying schedule over other steps", "1a", {"lr_scheduler_type": "linear"}, "learning_rate", quick=True),
    trap("a new learning rate", "2", {"learning_rate": 5e-4}, "learning_rate"),
    trap("a new weight decay", "2", {"weight_decay": 0.1}, "hyper_parameters"),
    trap("new betas", "2", {"adam_beta1": 0.8, "adam_beta2": 0.99}, "hyper_parameters"),
    trap("a new batch size", "3", {"per_device_train_batch_size": 2}, "data_position"),
    trap("a new accumulation", "3", {"gradient_accumulation_steps": 2}, "data_position"),
    trap("new data skipped as if seen", "4", {**OTHER_DATA, "samples": 30}, "data_position", stage=FRESH, quick=True),
    trap("a new stream skipped as if seen", "4b", kind("iterable", samples=12), "data_position", stage=FRESH),
    trap("moments of another layer of the same shape", "5", SECOND_LAYER, "optimizer", first=FIRST_LAYER),
    ended("fewer trained parameters", "5", SECOND_LAYER, "that doesn't match the size", hook=False),
    trap("no checkpoint at the end", "6", {"save_strategy": "no"}, "finished"),
    trap("the cadence of the stage before", "6b", {"logging_steps": 2}, "hyper_parameters"),
    trap("the best metric of the stage before", "7a", BEST, "best_metric", first=BEST),
    trap("every checkpoint deleted for the best of another stage", "7b",
         {**BEST_AT_END, **OTHER_DATA, "save_total_limit": 1}, "global_step", "checkpoint", "best_metric",
         "data_position", first={**BEST_AT_END, "save_total_limit": 1}, stage=FRESH),
    trap("patience counted from another stage", "7c", kind("patience", **BEST_AT_END, **OTHER_DATA), "finished",
         first=kind("patience", **BEST_AT_END), stage=FRESH),
    ended("a callback with state that the stage before did not have", "7c", kind("patience", **BEST_AT_END),
          "KeyError: 'EarlyStoppingCallback'", hook=False, first=BEST_AT_END),
    trap("two processes after one", "8", {}, "random_state", "data_position",
         stage={"launcher": {"nproc_per_node": 2}}),
    trap("the resume flag ignored", "10b", kind("ignores_resume"), "steps_trained", "optimizer", "random_state",
         "data_position"),
    trap("more steps than planned", "1b", kind("ignores_max_steps"), "finished"),
    by_itself("steps and history loaded, the optimizer not", "11", kind("fresh_optimizer"), "optimizer", "checkpoint"),
    ended("steps and history loaded, the optimizer not", "11", kind("fresh_optimizer"), "differ after loading"),
    by_itself("the random state not loaded", "12", kind("new_random_state"), "random_state"),
    ended("the random state not loaded", "12", kind("new_random_state"), "the random state after loading"),
    by_itself("another batch size in the loop", "3", kind("small_batches"), "batches", "data_position"),
    hooked("another batch size in the loop", "3", kind("small_batches"), "batches"),
    by_itself("one batch skipped in the loop", BEYOND, kind("skips_a_batch"), "data_position"),
    hooked("one batch skipped in the loop", BEYOND, kind("skips_a_batch"), "data_position", quick=True),
    by_itself("one batch replayed in the loop", BEYOND, kind("replays_a_batch"), "data_position"),
    hooked("one batch replayed in the loop", BEYOND, kind("replays_a_batch"), "data_position"),
    by_itself("another order where the data go on", BEYOND, kind("shifted_order"), "data_position",
              first=kind("shifted_order")),
    hooked("another order where the data go on", BEYOND, kind("shifted_order"), "data_position",
           first=kind("shifted_order")),
    by_itself("weights saved in half precision", BEYOND, kind("saves_halves"), "checkpoint"),
    hooked("weights saved in half precision", BEYOND, kind("saves_halves"), "checkpoint"),
    by_itself("a layer initialised anew", BEYOND, kind("reinit"), "weights"),
    ended("a layer initialised anew", BEYOND, kind("reinit"), "weights of 1 parameters differ after loading"),
    ended("the curve shifted by one step", "1a", kind("shifts_curve", lr_scheduler_type="linear"),
          "the learning rate of step 5 is"),
    by_itself("moments cleared in the middle", BEYOND, kind("clears_optimizer"), "optimizer"),
    hooked("moments cleared in the middle", BEYOND, kind("clears_optimizer"), "optimizer"),
    by_itself("weight decay changed in the middle", BEYOND, kind("weight_decay"), "hyper_parameters"),
    hooked("weight decay changed in the middle", BEYOND, kind("weight_decay"), "hyper_parameters"),
    by_itself("a frozen parameter moved", BEYOND, kind("moves_frozen", **FIRST_LAYER), "trainable", first=FIRST_LAYER),
    hooked("a frozen parameter moved", BEYOND, kind("moves_frozen", **FIRST_LAYER), "trainable", first=FIRST_LAYER),
    by_itself("a trained parameter held where it was", BEYOND, kind("holds_trained"), "trainable"),
    hooked("a trained parameter held where it was", BEYOND, kind("holds_trained"), "trainable"),
    by_itself("a NaN behind the logging filter", "13", kind("nan_loss"), "finite", "checkpoint"),
    ended("a NaN behind the logging filter", "13", kind("nan_loss"), "the loss is not finite at step 6"),
    by_itself("an infinite weight", "13", kind("infinite_weight", 8), "checkpoint"),
    ended("an infinite weight", "13", kind("infinite_weight", 8), "lm_head.weight is not finite before saving step 8"),
    by_itself("training that stops early", BEYOND, kind("stops_early"), "finished"),
    ended("training that stops early", BEYOND, kind("stops_early"), "stopped short: global step 6, planned 8"),
    ended("a script that exits at once", "10b", kind("exit0"), "ended with exit code 0 without training"),
    by_itself("a checkpoint written to after it was complete", BEYOND, kind("writes_after_save"), "checkpoint"),
]  # fmt: skip
