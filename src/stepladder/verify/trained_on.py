"""Checks of the data: batches as stated, from the very next sample on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.records.facts import PlannedOrder, StageFacts
from stepladder.verify.verdict import Check

_BATCH_ARGUMENTS = {"per_device_train_batch_size": "per_device", "gradient_accumulation_steps": "accumulation"}
#: Where fresh data start.
_BEGINNING: Mapping[str, Any] = {"epoch": 0, "samples": 0, "next": None}


def batches(facts: StageFacts) -> Check:
    """Micro-batches as large as stated, and as many as the steps need, short accumulation at an epoch's end counted."""
    seen: Counter[int] = Counter()
    for segment in facts.segments:
        evidence = segment.evidence
        used, stated = evidence["batch"], segment.stage.in_force
        for name, key in _BATCH_ARGUMENTS.items():
            if name in stated and stated[name] != used[key]:
                return Check("batches", False, f"{name} was {used[key]}, the stage says {stated[name]}")
        sizes = {int(size): count for size, count in evidence["batch_sizes"].items()}
        seen.update(sizes)
        # An attempt that was cut short has the micro-batches of the step it was in.
        spare = 0 if segment is facts.segments[-1] else used["accumulation"]
        problem = _count_problem(evidence, sum(sizes.values()), spare) or _ranks_problem(evidence)
        if problem:
            return Check("batches", False, problem)
        samples, largest = evidence["data"]["length"], max(sizes, default=0) // _rows_a_sample(evidence, sizes)
        if largest != used["per_device"] and (samples is None or samples >= used["per_device"]):
            return Check("batches", False, f"largest micro-batch has {largest} samples, expected {used['per_device']}")
    sizes = dict.fromkeys(segment.stage.batch.per_device for segment in facts.segments)
    told = f"{max(seen, default=0)} sample(s)"
    if len(sizes) > 1:
        told = f"{', '.join(map(str, sizes))} sample(s), {facts.stage.batch.samples} a step throughout"
    return Check("batches", True, f"{sum(seen.values())} micro-batches of {told}")


def data_position(facts: StageFacts) -> Check:
    """Fresh data start at their first sample, continued or interrupted ones at the very next, on every rank."""
    for index, segment in enumerate(facts.segments):
        data = segment.evidence["data"]
        if not data["first_batches"] or not data["batches"]:
            return _iterable(data, begins=expected_position(facts, index) == _BEGINNING)
        if data["length"] != facts.segments[0].evidence["data"]["length"]:
            lengths = f"{facts.segments[0].evidence['data']['length']} and {data['length']}"
            return Check("data_position", False, f"attempts of one stage had data of {lengths} samples")
        problem = _start_problem(segment.evidence, expected_position(facts, index))
        problem = problem or _order_problem(segment.evidence, facts.planned_order)
        if problem:
            return Check("data_position", False, problem)
        for astray in (data["astray"], *(rank["astray"] for rank in segment.evidence["ranks"])):
            if astray:
                how = "taken and not trained" if astray > 0 else "trained twice"
                return Check("data_position", False, f"{abs(astray)} micro-batches were {how}")
    return Check("data_position", True, _described(facts))


def _iterable(data: Mapping[str, Any], begins: bool) -> Check:
    if begins and data["skipped"]:
        return Check("data_position", False, f"{data['skipped']} batches of fresh iterable data were skipped")
    return Check("data_position", True, "not recorded for an iterable data set")


def _rows_a_sample(evidence: Mapping[str, Any], sizes: Mapping[int, int]) -> int:
    """Preference trainers make two rows of a micro-batch from one sample: the chosen answer and the rejected one."""
    drawn = max((len(batch["samples"]) for batch in evidence["data"]["first_batches"]), default=0)
    rows = max(sizes, default=0)
    return rows // drawn if drawn and rows % drawn == 0 and rows else 1


def _count_problem(evidence: Mapping[str, Any], found: int, spare: int) -> str | None:
    """Micro-batches of rank 0 against its steps."""
    data, steps = evidence["data"], int(evidence["steps"]["count"])
    # Passes over an iterable data set end anywhere, and the loop then drops what it had accumulated.
    if not data["batches"] or not data["first_batches"]:
        return None
    accumulation = int(evidence["batch"]["accumulation"])
    first, an_epoch = (count - int(data["left_out"]) for count in (_first_pass(data), int(data["batches"])))
    short = (_uncounted_ends if data["left_out"] else _micro_batches)(steps, first, an_epoch, accumulation)
    # Loops before transformers 4.47 carry what an epoch leaves over into the first step of the next one.
    if any(expected <= found <= expected + spare for expected in (short, steps * accumulation)):
        return None
    return f"{found} micro-batches in {steps} steps, expected {short}"


def _first_pass(data: Mapping[str, Any]) -> int:
    """Micro-batches of a process from where it began to the end of that epoch."""
    begun, part = divmod(int(data["first_batches"][0]["position"]), int(data["span"]))
    if not part:
        return int(data["batches"]) - begun
    samples, span = int(data["length"] - data["first_batches"][0]["position"]), int(data["span"])
    return samples // span if data["drop_last"] else -(-samples // span)


def _micro_batches(steps: int, first_pass: int, an_epoch: int, accumulation: int) -> int:
    """Micro-batches of so many optimizer steps, from within an epoch: the last step of each epoch may be short."""
    steps_of_first = -(-first_pass // accumulation)
    if steps <= steps_of_first:
        return min(first_pass, steps * accumulation)
    epochs, rest = divmod(steps - steps_of_first, -(-an_epoch // accumulation))
    return first_pass + epochs * an_epoch + min(an_epoch, rest * accumulation)


def _uncounted_ends(steps: int, first_pass: int, an_epoch: int, accumulation: int) -> int:
    """The same where a loop does not take an epoch to its end: what follows its last whole step counts for none."""
    if steps <= first_pass // accumulation:
        return steps * accumulation
    epochs, before = divmod(steps - first_pass // accumulation - 1, an_epoch // accumulation)
    return first_pass + epochs * an_epoch + (before + 1) * accumulation


def _ranks_problem(evidence: Mapping[str, Any]) -> str | None:
    """Every rank trains as many micro-batches, and none the same as another."""
    ranks, data = evidence["ranks"], evidence["data"]
    counts = [sum(rank["batch_sizes"].values()) for rank in ranks]
    if len(set(counts)) > 1:
        return f"the ranks trained {', '.join(map(str, counts))} micro-batches, expected as many on each"
    if data["shared_by"] > 1:
        return None  # ranks that share their samples (tensor parallel)
    drawn = [[batch["samples"] for batch in rank["first_batches"]] for rank in ranks]
    for index, samples in enumerate(drawn):
        if samples in drawn[:index]:
            return f"rank {ranks[index]['rank']} drew the same samples as rank {ranks[drawn.index(samples)]['rank']}"
    return None


def expected_position(facts: StageFacts, index: int) -> Mapping[str, Any]:
    """The position at which an attempt had to begin: see `data.position` of the worker."""
    before = facts.states_before[index]
    if before is None or (index == 0 and facts.stage.handover.data == "fresh"):
        return _BEGINNING
    found: Mapping[str, Any] = before["data"]
    return found


def _start_problem(evidence: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    data = evidence["data"]
    epoch, samples, following = expected["epoch"], expected["samples"], expected["next"]
    if data["drop_last"] and data["length"] - samples < data["span"]:
        epoch, samples, following = epoch + 1, 0, None  # such a rest of an epoch is dropped
    for where, found, first in _first_draws(evidence):
        if (found, first["position"]) != (epoch, samples):
            started = f"started at epoch {found}, sample {first['position']}{where}"
            return f"{started}; expected epoch {epoch}, sample {samples}"
    drawn = data["first_batches"][0]["samples"]
    if any(left != right for left, right in zip(following or (), drawn, strict=False)):
        return f"started with samples {drawn}, in the order before the checkpoint {following} come next"
    return None


def _order_problem(evidence: Mapping[str, Any], planned: PlannedOrder | None) -> str | None:
    """The first samples that every process drew against the order of the stage's mixture."""
    if planned is None or planned.problem or planned.unknown:
        return None if planned is None else planned.problem
    data, size = evidence["data"], int(evidence["batch"]["per_device"])
    if data["length"] != planned.length:
        return f"{data['length']} samples an epoch, the mixture has {planned.length}"
    for rank in evidence["ranks"]:
        epoch, before = int(rank["epoch"]), 0
        for batch in rank["first_batches"]:
            epoch, before = epoch + (batch["position"] < before), batch["position"]
            if before + data["span"] > planned.length:
                continue  # the last micro-batches of an epoch may be filled up with its first samples
            first = epoch * planned.length + before + rank["rank"] * size
            expected = [planned.index_at(first + offset) for offset in range(size)]
            if batch["samples"] != expected:
                where = f"at epoch {epoch}, sample {before}, rank {rank['rank']}"
                return f"drew samples {batch['samples']} {where}; the mixture has {expected} there"
    return None


def _first_draws(evidence: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(for messages, epoch, first micro-batch) of every process."""
    yield "", evidence["data"]["epoch"], evidence["data"]["first_batches"][0]
    for rank in evidence["ranks"][1:]:
        yield f" on rank {rank['rank']}", rank["epoch"], rank["first_batches"][0]


def _described(facts: StageFacts) -> str:
    data = facts.segments[0].evidence["data"]
    where = f"epoch {data['epoch']}, sample {data['first_batches'][0]['position']}"
    detail = f"{facts.stage.handover.data} data start at {where} of {data['length']}"
    reasons = [reason for segment in facts.segments for reason in _inexact(segment.evidence)]
    detail = f"{detail}; not exact: {reasons[0]}" if reasons else detail
    unknown = facts.planned_order.unknown if facts.planned_order else None
    return f"{detail}; {unknown}" if unknown else detail


def _inexact(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Why an attempt that went on within its data did not draw the random numbers of an uninterrupted run."""
    data = evidence["data"]
    reasons = {data["inexact"], *(rank["inexact"] for rank in evidence["ranks"])} - {None}
    for reason in sorted(reasons):
        # At an epoch's end data workers start anew, but for those that live on.
        if data["first_batches"][0]["position"] or (data["epoch"] and "persistent" in reason):
            yield reason
