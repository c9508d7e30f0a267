"""The events of a run's journal: their names, and what those that were read say of a stage. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Event(StrEnum):
    """What a line of the journal is about."""

    PREPARING = "preparing"
    """A `prepare` command starts."""
    PREPARED = "prepared"
    """It ended, with `exit_code`."""
    EDITED = "edited"
    """The curriculum was edited, in a way that rewrites nothing."""
    SELECTED = "selected"
    """The samples of a stage are chosen."""
    FORK_BEGUN = "fork_begun"
    """This run is to be a fork; what it takes over may be half there."""
    FORKED = "forked"
    """It is one, with the stages that it has from its parent."""
    ATTEMPT_STARTED = "attempt_started"
    """The engine launches a stage."""
    ATTEMPT_GIVEN = "attempt_given"
    """`stepladder command` gave out a stage's command, to be started by hand."""
    ATTEMPT_FOUND = "attempt_found"
    """A result that no engine saw come about."""
    ATTEMPT_ENDED = "attempt_ended"
    """How a launch ended, why, and what it cost."""
    STEPPED_DOWN = "stepped_down"
    """A stage takes the next rung of its out-of-memory ladder."""
    MODEL_READY = "model_ready"
    """The stage's directory has its final model."""
    STAGE_VERIFIED = "stage_verified"
    """The checks of a finished stage, and whether all hold."""
    EVALUATED = "evaluated"
    """What runs after a stage has ended."""
    SET_ASIDE = "set_aside"
    """Stages begin anew; what they had is renamed."""
    SET_ASIDE_INCOMPLETE = "set_aside_incomplete"
    """A half written checkpoint is renamed."""
    DAMAGED = "damaged"
    """Never written: how a reader tells of a last line that is not as it was written."""


#: A launch of a stage, by this engine or by hand.
LAUNCHES = (Event.ATTEMPT_STARTED, Event.ATTEMPT_GIVEN, Event.ATTEMPT_FOUND)


def since_set_aside(events: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Events of all stages since this one was last set aside."""
    current: list[dict[str, Any]] = []
    for event in events:
        current.append(event)
        if event["event"] == Event.SET_ASIDE and stage in event.get("stages", ()):
            current = []
    return current


def current_events(events: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Events of a stage since it was last set aside."""
    return [event for event in since_set_aside(events, stage) if event.get("stage") == stage]


def last(events: list[dict[str, Any]], stage: str, *kinds: Event) -> dict[str, Any]:
    """The last event of these kinds of a stage since it was last set aside; empty where there is none."""
    return next((event for event in reversed(current_events(events, stage)) if event["event"] in kinds), {})


def sealed_results(events: list[dict[str, Any]], stage: str) -> dict[int, str]:
    """Digest of each attempt's result when it ended or was first found."""
    return {
        event["attempt"]: str(event["result"])
        for event in current_events(events, stage)
        if event["event"] in (Event.ATTEMPT_ENDED, Event.ATTEMPT_FOUND)
        if event.get("result") and isinstance(event.get("attempt"), int)
    }


def steps_down(events: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Every step down the out-of-memory ladder of a stage since it was last set aside, in order."""
    return [event for event in current_events(events, stage) if event["event"] == Event.STEPPED_DOWN]


def end_of_attempt(events: list[dict[str, Any]], stage: str, attempt: int) -> dict[str, Any]:
    """How an attempt of a stage ended; empty where no engine saw that."""
    ended: dict[str, Any] = {}
    for event in current_events(events, stage):
        if event["event"] == Event.ATTEMPT_ENDED and event.get("attempt") == attempt:
            ended = event
    return ended


def ended_well(events: list[dict[str, Any]], stage: str) -> bool:
    """Whether the last word of a stage is that its evidence held at its end, with no launch after it."""
    word = last(events, stage, Event.STAGE_VERIFIED, Event.ATTEMPT_STARTED)
    return word.get("event") == Event.STAGE_VERIFIED and word.get("ok") is True
