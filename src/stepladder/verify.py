"""Did every stage continue from the last? Pure checks over what was recorded and what lies on disk.

`facts.py` collects; this file decides. A check never looks at exit codes, and never takes the right `global_step`
for a proof: a script that ignores the resume flag reaches it as well. Docs: docs/verification.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from stepladder.facts import Segment, StageFacts
from stepladder_worker.manifest import differences

VERSION = 1


@dataclass(frozen=True)
class Check:
    """One verdict: its name, whether it holds, and the figure it was decided by."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class StageVerdict:
    """Every check of one stage. `global_step` is what the stage's last checkpoint says; None without one."""

    name: str
    global_step: int | None
    expected_step: int
    checks: list[Check]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "global_step": self.global_step,
            "expected_step": self.expected_step,
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StageVerdict:
        """Read back what `to_dict` made; raises KeyError or TypeError for anything else."""
        checks = [Check(**check) for check in data["checks"]]
        return cls(data["name"], data["global_step"], data["expected_step"], checks)


def to_json(verdicts: list[StageVerdict]) -> dict[str, Any]:
    """The document that `stepladder verify --json` prints."""
    return {"version": VERSION, "ok": all(v.ok for v in verdicts), "stages": [v.to_dict() for v in verdicts]}


def check_stage(facts: StageFacts) -> StageVerdict:
    """Decide one stage. A stage without evidence fails by name, with the reason."""
    finished = _finished(facts)
    checks = [finished]
    if facts.segments:
        checks += [_decided(check, facts) for check in CHECKS]
    step = facts.on_disk.global_step if facts.on_disk is not None else None
    return StageVerdict(facts.stage.name, step, facts.stage.end_step, checks)


def _decided(check: Callable[[StageFacts], Check], facts: StageFacts) -> Check:
    """A check that cannot read its record fails by name: whoever cut the record must not end the verdict."""
    try:
        return check(facts)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        return Check(check.__name__.removeprefix("_"), False, f"the record is incomplete: {error!r}")


def _finished(facts: StageFacts) -> Check:
    if not facts.attempts:
        return Check("finished", False, "the stage has not been started")
    if facts.segments:
        return Check("finished", True, f"{len(facts.attempts)} attempt(s), {len(facts.segments)} of them used")
    last = facts.attempts[-1].result
    why = "the last attempt left no evidence: was it started by the plan's command?"
    if last is not None:
        why = f"last attempt: {last.status}" + (f": {last.error['message']}" if last.error else "")
    return Check("finished", False, why)


def _evidence(facts: StageFacts) -> Check:
    """The records are this run's own, unedited, and tell of the task that was given."""
    for segment in facts.segments:
        result, attempt = segment.result, segment.attempt
        label = f"attempt {attempt.number}"
        if (result.run_id, result.stage, result.attempt) != (facts.run_id, facts.stage.name, attempt.number):
            return Check("evidence", False, f"{label}: it is of another run, stage or attempt ({result.run_id})")
        if result.task_digest != attempt.task_digest:
            return Check("evidence", False, f"{label}: its task file was changed after the worker read it")
        sealed = facts.sealed.get(attempt.number)
        if sealed is not None and sealed != attempt.result_digest:
            return Check("evidence", False, f"{label}: its result file was changed after the stage ended")
    last = facts.segments[-1].result.evidence
    if facts.manifest is not None and last["end"] != facts.manifest.state:
        return Check("evidence", False, "the result and the manifest of the last checkpoint tell different states")
    count = sum(segment.attempt.number in facts.sealed for segment in facts.segments)
    return Check("evidence", True, f"run {facts.run_id[:8]}, {len(facts.segments)} record(s), {count} sealed")


def _global_step(facts: StageFacts) -> Check:
    found = None if facts.on_disk is None else facts.on_disk.global_step
    expected = facts.stage.end_step
    return Check("global_step", found == expected, f"{found}, expected {expected}")


def _steps_trained(facts: StageFacts) -> Check:
    """The segments join without a gap from the stage's first step to its last."""
    spans, position, ok = [], facts.stage.start_step, True
    for segment, end in zip(facts.segments, facts.segment_ends, strict=True):
        steps = segment.evidence["steps"]
        first, last = steps["first"], steps["last"]
        spans.append(f"{first}-{end}")
        reached = last is not None and last >= end and steps["count"] == last - (first or 0) + 1
        ok = ok and first == position + 1 and reached
        position = end
    expected = f"{facts.stage.start_step + 1}-{facts.stage.end_step}"
    return Check("steps_trained", ok and position == facts.stage.end_step, f"{', '.join(spans)}; expected {expected}")


def _checkpoint(facts: StageFacts) -> Check:
    """The last checkpoint is complete; read back (deep), it holds what its manifest says, all of it finite."""
    if facts.on_disk is None or facts.manifest is None:
        return Check("checkpoint", False, f"no checkpoint-{facts.stage.end_step} with a manifest")
    if facts.on_disk.problems:
        return Check("checkpoint", False, "; ".join(facts.on_disk.problems[:3]))
    held = facts.manifest
    if (held.run_id, held.stage, held.global_step) != (facts.run_id, facts.stage.name, facts.stage.end_step):
        found = f"run {held.run_id}, stage {held.stage}, step {held.global_step}"
        return Check("checkpoint", False, f"its manifest is of {found}")
    if not held.files:
        return Check("checkpoint", False, "its manifest names no file")
    if not facts.on_disk.deep:
        return Check("checkpoint", True, f"{len(facts.manifest.files)} files complete (sizes)")
    disagreement = _manifest_disagreement(facts)
    if disagreement:
        return Check("checkpoint", False, disagreement)
    return Check(
        "checkpoint",
        True,
        f"{len(facts.manifest.files)} files complete (checksums), {len(facts.on_disk.weights)} tensors read back",
    )


def _manifest_disagreement(facts: StageFacts) -> str | None:
    """What the files hold against what the manifest says, by name where the names agree and by value elsewhere."""
    disk, state = facts.on_disk, facts.manifest.state if facts.manifest else {}
    if disk is None:
        return "no checkpoint"
    if disk.non_finite:
        return f"{len(disk.non_finite)} tensors are not finite, first {disk.non_finite[0]}"
    values = Counter(disk.weights.values())
    # An adapter's checkpoint has the trained weights alone; frozen ones count where they were saved.
    trained = set(state["optimizer_names"])
    lost = [
        name
        for name, value in state["weights"].items()
        if disk.weights.get(name, value) != value or (not values[value] and name in trained)
    ]
    if lost:
        return f"weights of {len(lost)} parameters differ from the manifest, first {lost[0]}"
    names = state["optimizer_names"]
    if disk.optimizer is not None:
        if len(names) != len(disk.optimizer):
            return f"optimizer has {len(disk.optimizer)} parameters, the manifest names {len(names)}"
        for name, entry in zip(names, disk.optimizer, strict=True):
            if entry["moments"] != state["moments"].get(name, {}) or entry["counter"] != state["counters"].get(name):
                return f"optimizer state of {name} differs from the manifest"
    elif state["moments"] and not facts.foreign_optimizer:
        return "optimizer state is missing"
    if disk.rng is not None and disk.rng != state["rng"] and facts.segments[-1].evidence["world_size"] == 1:
        return "random state differs from the manifest"
    return None


def _weights(facts: StageFacts) -> Check:
    """Every segment starts with the weights, by name, of the checkpoint before it."""
    for segment, before in zip(facts.segments, facts.states_before, strict=True):
        start = segment.evidence["start"]["weights"]
        if before is None:
            continue
        wrong = differences(before["weights"], start)
        if wrong:
            return Check("weights", False, f"{len(wrong)} of {len(start)} differ from the checkpoint, first {wrong[0]}")
    count = len(facts.segments[0].evidence["start"]["weights"])
    if facts.states_before[0] is None:
        return Check("weights", True, f"{count} parameters of the base model")
    return Check("weights", True, f"{count} of {count} parameters equal to {facts.boundary_name}")


def _optimizer(facts: StageFacts) -> Check:
    """Moments and step counters: equal to the checkpoint before at the start, counted on by every step."""
    for index, (segment, before) in enumerate(zip(facts.segments, facts.states_before, strict=True)):
        reset = index == 0 and facts.stage.handover.optimizer == "reset"
        problem = _optimizer_start(segment, None if reset else before)
        if problem:
            return Check("optimizer", False, problem)
    start, end = facts.segments[0].evidence["start"], facts.segments[-1].evidence["end"]
    if not end["moments"] and any(group.get("momentum") != 0 for group in facts.segments[-1].evidence["groups"]):
        return Check("optimizer", False, "this optimizer shows no state, so that it went on is not proven")
    if not end["counters"]:
        return Check("optimizer", True, f"no step counters; moments of {len(end['moments'])} parameters compared")
    gains = {name: count - start["counters"].get(name, 0) for name, count in end["counters"].items()}
    steps = facts.stage.end_step - facts.stage.start_step
    if max(gains.values()) != steps:
        return Check("optimizer", False, f"step counters grew by {max(gains.values()):g}, the stage has {steps} steps")
    before_count = max(start["counters"].values(), default=0)
    kind = "reset by the curriculum, " if facts.stage.handover.optimizer == "reset" else ""
    return Check("optimizer", True, f"{kind}step counters {before_count:g} -> {max(end['counters'].values()):g}")


def _optimizer_start(segment: Segment, before: dict[str, Any] | None) -> str | None:
    start = segment.evidence["start"]
    expected = before or {"counters": {}, "moments": {}}
    wrong = differences(expected["counters"], start["counters"])
    if wrong:
        found = max(start["counters"].values(), default=0)
        wanted = max(expected["counters"].values(), default=0)
        return f"step counters {found:g}, expected {wanted:g}, for {len(wrong)} parameters, first {wrong[0]}"
    wrong = differences(expected["moments"], start["moments"])
    return f"moments of {len(wrong)} parameters differ, first {wrong[0]}" if wrong else None


def _random_state(facts: StageFacts) -> Check:
    for index, (segment, before) in enumerate(zip(facts.segments, facts.states_before, strict=True)):
        if before is None or (index == 0 and facts.stage.handover.rng == "reset"):
            continue
        if segment.evidence["loaded"]["random_state"] != before["rng"]:
            return Check("random_state", False, "the random state at the start is not the checkpoint's")
    if facts.states_before[0] is None or facts.stage.handover.rng == "reset":
        return Check("random_state", True, "the script's own seed")
    return Check("random_state", True, "equal to the checkpoint's")


def _learning_rate(facts: StageFacts) -> Check:
    curve = facts.stage.curve
    if curve is None:
        return Check("learning_rate", True, "schedule: script, so the script's own curve counts; not asserted")
    checked = 0
    for segment in facts.segments:
        lr, steps = segment.evidence["lr"], segment.evidence["steps"]
        if lr["mismatched"]:
            first = lr["mismatches"][0]
            return Check("learning_rate", False, f"step {first['step']}: {first['used']}, planned {first['planned']}")
        if curve.peak not in lr["bases"]:
            return Check("learning_rate", False, f"base rates {lr['bases']}, planned {curve.peak:g}")
        base = lr["bases"][0]
        for step, used in lr["logged"]:
            if used != base * curve.factor(step - 1):
                return Check(
                    "learning_rate", False, f"step {step}: {used:g}, planned {base * curve.factor(step - 1):g}"
                )
        if lr["checked"] < (steps["count"] or 0):
            return Check("learning_rate", False, f"{lr['checked']} of {steps['count']} steps were checked")
        checked += lr["checked"]
    return Check("learning_rate", True, f"as planned in all {checked} steps")


def _hyper_parameters(facts: StageFacts) -> Check:
    """What the curriculum states is what the Trainer had, and what the optimizer's groups had."""
    for segment in facts.segments:
        have, groups = segment.evidence["arguments"], segment.evidence["groups"]
        for name, wanted in facts.stage.in_force.items():
            if name in have and have[name] != wanted:
                return Check("hyper_parameters", False, f"{name} was {have[name]!r}, the stage says {wanted!r}")
        for name, wanted in _expected_of_groups(facts.stage.in_force).items():
            found = [group[name] for group in groups if name in group]
            if found and wanted not in found:
                return Check("hyper_parameters", False, f"{name} of the optimizer was {found}, the stage says {wanted}")
    seen = [name for name in facts.stage.in_force if name in facts.segments[0].evidence["arguments"]]
    return Check("hyper_parameters", True, f"{len(seen)} stated values in force")


def _expected_of_groups(in_force: dict[str, Any]) -> dict[str, Any]:
    expected = {}
    if "weight_decay" in in_force:
        expected["weight_decay"] = in_force["weight_decay"]
    if "adam_epsilon" in in_force:
        expected["eps"] = in_force["adam_epsilon"]
    if "adam_beta1" in in_force and "adam_beta2" in in_force:
        expected["betas"] = [in_force["adam_beta1"], in_force["adam_beta2"]]
    return expected


_BATCH_ARGUMENTS = {"per_device_train_batch_size": "per_device", "gradient_accumulation_steps": "accumulation"}


def _batches(facts: StageFacts) -> Check:
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


def _data_position(facts: StageFacts) -> Check:
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


def _best_metric(facts: StageFacts) -> Check:
    start = facts.segments[0].evidence["best_metric"]["start"]
    return Check("best_metric", start is None, "none at the start" if start is None else f"{start} of another stage")


def _finite(facts: StageFacts) -> Check:
    """Steps after the checkpoint that the next attempt resumed are not part of the stage."""
    for segment, end in zip(facts.segments, facts.segment_ends, strict=True):
        step = (segment.evidence["loss"] or {}).get("non_finite_step")
        if step is not None and step <= end:
            return Check("finite", False, f"the loss is not finite at step {step}")
    return Check("finite", True, "every loss finite")


CHECKS: tuple[Callable[[StageFacts], Check], ...] = (
    _evidence,
    _global_step,
    _steps_trained,
    _checkpoint,
    _weights,
    _optimizer,
    _random_state,
    _learning_rate,
    _hyper_parameters,
    _batches,
    _data_position,
    _best_metric,
    _finite,
)
