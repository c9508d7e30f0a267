"""Checks of the data: batches as stated, from the planned position."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stepladder.facts import StageFacts
from stepladder.verify.verdict import Check

_BATCH_ARGUMENTS = {"per_device_train_batch_size": "per_device", "gradient_accumulation_steps": "accumulation"}


def batches(facts: StageFacts) -> Check:
    """Micro-batches as large as stated, and as many as the steps need, short accumulation at an epoch's end counted."""
    seen: Counter[int] = Counter()
    for segment in facts.segments:
        evidence = segment.evidence
        used, stated = evidence["batch"], facts.stage.in_force
        for name, key in _BATCH_ARGUMENTS.items():
            if name in stated and stated[name] != used[key]:
                return Check("batches", False, f"{name} was {used[key]}, the stage says {stated[name]}")
        sizes = {int(size): count for size, count in evidence["batch_sizes"].items()}
        seen.update(sizes)
        first = segment.start - facts.stage.data_start_step
        steps, found = evidence["steps"]["count"], sum(sizes.values())
        # Passes over an iterable data set end anywhere, and the loop then drops what it had accumulated.
        if evidence["data"]["batches"]:
            expected = _micro_batches(first + steps, evidence) - _micro_batches(first, evidence)
            # An attempt that was cut short has the micro-batches of the step it was in.
            spare = 0 if segment is facts.segments[-1] else used["accumulation"]
            if not expected <= found <= expected + spare:
                return Check("batches", False, f"{found} micro-batches in {steps} steps, expected {expected}")
        samples = evidence["data"]["length"]
        if max(sizes, default=0) != used["per_device"] and (samples is None or samples >= used["per_device"]):
            size = max(sizes, default=0)
            return Check("batches", False, f"largest micro-batch has {size} samples, expected {used['per_device']}")
    return Check("batches", True, f"{sum(seen.values())} micro-batches of {max(seen, default=0)} sample(s)")


def _micro_batches(position: int, evidence: dict[str, Any]) -> int:
    """Micro-batches of the first `position` optimizer steps over the data: the last step of an epoch may be short."""
    accumulation, an_epoch = evidence["batch"]["accumulation"], evidence["data"]["batches"]
    epochs, rest = divmod(position, _steps_per_epoch(evidence))
    return int(epochs * an_epoch + min(an_epoch, rest * accumulation))


def _steps_per_epoch(evidence: dict[str, Any]) -> int:
    return max(1, -(-int(evidence["data"]["batches"]) // int(evidence["batch"]["accumulation"])))


def data_position(facts: StageFacts) -> Check:
    """Fresh data start at their first sample, continued or interrupted ones at the very next."""
    for segment in facts.segments:
        data = segment.evidence["data"]
        if not data["first_batches"] or not data["batches"]:
            return Check("data_position", True, "not recorded for an iterable data set")
        position, steps = segment.start - facts.stage.data_start_step, _steps_per_epoch(segment.evidence)
        accumulation = segment.evidence["batch"]["accumulation"]
        expected = (position // steps, position % steps * accumulation)
        first = data["first_batches"][0]["position"]
        epoch = expected[0] if data["epoch"] is None else data["epoch"]
        if data["length"] != facts.segments[0].evidence["data"]["length"]:
            lengths = f"{facts.segments[0].evidence['data']['length']} and {data['length']}"
            return Check("data_position", False, f"attempts of one stage had data of {lengths} samples")
        if (epoch, first) != expected:
            found = f"started at epoch {epoch}, batch {first}"
            return Check("data_position", False, f"{found}; expected epoch {expected[0]}, batch {expected[1]}")
    data = facts.segments[0].evidence["data"]
    where = f"epoch {data['epoch'] or 0}, batch {data['first_batches'][0]['position']}"
    detail = f"{facts.stage.handover.data} data start at {where} of {data['length']} samples"
    reason = data["inexact"]
    went_on = any(segment.start > facts.stage.data_start_step for segment in facts.segments)
    return Check("data_position", True, f"{detail}; not exact: {reason}" if reason and went_on else detail)
