"""Weights into the model of another objective: what fits by name and shape, where torch would refuse the rest."""

from __future__ import annotations

import functools
from typing import Any

from stepladder_worker import session


class OtherHeadHook:
    """At a boundary where the objective changes, a head may be of another size than the checkpoint's."""

    model: Any

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        stage = session.current()
        target = self.model if model is None else model
        if not (stage.task.new_objective and stage.at_boundary):
            super()._load_from_checkpoint(checkpoint, target)  # type: ignore[misc]
            return
        target.load_state_dict = functools.partial(_load_fitting, target, target.load_state_dict)
        try:
            super()._load_from_checkpoint(checkpoint, target)  # type: ignore[misc]
        finally:
            del target.load_state_dict


def _load_fitting(model: Any, load: Any, state: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    have = model.state_dict()
    # Names that the model does not have stay: torch reports them, and the Trainer says so.
    fitting = {name: value for name, value in state.items() if name not in have or value.shape == have[name].shape}
    return load(fitting, *args, **kwargs)
