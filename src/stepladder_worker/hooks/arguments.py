"""Arguments of the stage are in force, whatever the script made of its command line."""

from __future__ import annotations

from typing import Any

from stepladder_worker import session


def apply(arguments: Any) -> None:
    """Set what the curriculum states on the TrainingArguments before the Trainer reads them.

    With `hook: false` nothing is set. What was found and what is in force is recorded either way.
    """
    stage = session.current()
    for name, wanted in stage.task.in_force.items():
        if not hasattr(arguments, name):
            continue
        found = getattr(arguments, name)
        if found != wanted and stage.task.hook:
            setattr(arguments, name, wanted)
            stage.evidence.note(f"{name} {wanted!r} of the curriculum replaces {found!r} of the script")
        stage.evidence.arguments[name] = _plain(getattr(arguments, name))


def _plain(value: Any) -> Any:
    """A value that JSON can hold: enumerations by their value."""
    value = getattr(value, "value", value)
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else repr(value)
