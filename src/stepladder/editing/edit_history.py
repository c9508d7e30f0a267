"""What the journal tells of accepted edits: with which learning-rate curve each attempt of a stage was started.

An edit that gives a begun stage another curve is in the journal before anything is trained with it. So an attempt that
started before it followed the curve until then, and any other curve is none that was ever planned. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.records.events import Event
from stepladder_worker.schedule import Curve

_STARTS = (Event.ATTEMPT_STARTED, Event.ATTEMPT_GIVEN)


def curve_of(events: list[dict[str, Any]], stage: str, attempt: int, planned: Curve | None) -> Curve | None:
    """The curve that was planned when an attempt started; `planned` where no edit came after it.

    `events` are those since the stage was last set aside, in order. An attempt that the journal has no start of is
    taken to have started last.
    """
    starts = [
        place
        for place, event in enumerate(events)
        if event.get("stage") == stage and event["event"] in _STARTS and event.get("attempt") == attempt
    ]
    later = events[starts[-1] :] if starts else []
    return next(_curves_before(later, stage), planned)


def _curves_before(events: list[dict[str, Any]], stage: str) -> Iterator[Curve | None]:
    """The curve that each edit of it took from a stage."""
    for event in events:
        curves = event.get("curves")
        change = curves.get(stage) if event["event"] == Event.EDITED and isinstance(curves, Mapping) else None
        before = change.get("before") if isinstance(change, Mapping) else None
        if isinstance(before, Mapping):
            try:
                yield Curve.from_dict(before)
            except TypeError:
                continue  # no curve: what the attempt was given is then held to the plan's
