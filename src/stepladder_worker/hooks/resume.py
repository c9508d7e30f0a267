"""The state of a loaded checkpoint: what belongs to the stage before it does not rule this one.

Trap 7: `best_metric` and callback counters of another stage. Trap 6b: its cadence. Trap 3: its batch size.
Trap 4: the data position, which the loop computes from the global step and the length of the NEW data.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

from transformers.trainer_callback import ExportableState

from stepladder_worker import session
from stepladder_worker.hooks import data_position


def wrap_state(state_class: Any) -> None:
    """Wrap `TrainerState.load_from_json`, through which every training loop, copied ones too, loads its state."""
    original = state_class.load_from_json.__func__

    @functools.wraps(original)
    def load_from_json(cls: Any, json_path: str) -> Any:
        state = original(cls, json_path)
        stage = session.current()
        if stage.trainer is not None and stage.checkpoint == Path(json_path).parent:
            _adapt(state, stage)
        return state

    state_class.load_from_json = classmethod(load_from_json)


def _adapt(state: Any, stage: session.Session) -> None:
    trainer = stage.trainer
    for kind in ("logging_steps", "eval_steps", "save_steps"):
        steps = getattr(trainer.args, kind)
        if steps is not None:
            setattr(state, kind, math.ceil(stage.task.end_step * steps) if steps < 1 else int(steps))
    state.train_batch_size = trainer._train_batch_size
    exportable = [c for c in [*trainer.callback_handler.callbacks, trainer.control] if isinstance(c, ExportableState)]
    fresh = type(state)(stateful_callbacks=exportable).stateful_callbacks
    state.stateful_callbacks = fresh if stage.at_boundary else {**fresh, **state.stateful_callbacks}
    if stage.at_boundary:
        for name in ("best_metric", "best_global_step", "best_model_checkpoint"):
            if hasattr(state, name):
                setattr(state, name, None)
    # The loop derives epoch and skipped batches from the global step. It is shown the position in this stage's
    # data instead; ControlCallback.on_train_begin puts the true step back before the first batch is drawn.
    state.global_step = data_position.shown_step(stage)
