"""Faults in what was recorded: evidence as a misled training leaves it, and records that were edited or copied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

from chain import Chain
from corpus import BEYOND
from in_checkpoints import EVERY, FileFault, fault, flip_a_weight


def recorded(change: Callable[[dict[str, Any]], Any]) -> Callable[[Chain, str], object]:
    """Evidence that the worker recorded like this, seals and all."""
    return lambda chain, stage: chain.record(stage, lambda result: change(result["evidence"]))


def first_moment(moments: dict[str, dict[str, str]], to: str) -> None:
    next(iter(moments.values())).update(exp_avg=to)


def swapped(entries: dict[str, Any]) -> None:
    """The entries of two layers' parameters of one shape exchanged."""
    one, other = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
    entries[one], entries[other] = entries[other], entries[one]


def shift_curve(evidence: dict[str, Any]) -> None:
    evidence["lr"]["logged"] = [[step + 1, rate] for step, rate in evidence["lr"]["logged"]]


def at_sample(position: int) -> Callable[[dict[str, Any]], None]:
    return lambda evidence: evidence["data"]["first_batches"][0].update(position=position)


def other_samples(evidence: dict[str, Any]) -> None:
    evidence["data"]["first_batches"][0]["samples"].reverse()


def as_recorded(
    name: str, trap: str, change: Callable[[dict[str, Any]], Any], *checks: str, stage: str = "three"
) -> FileFault:
    return fault(name, trap, recorded(change), *checks, stage=stage)


AS_RECORDED: list[FileFault] = [
    as_recorded("fresh Adam", "11", lambda e: e["start"].update(counters={}, moments={}), "optimizer"),
    as_recorded("moments of a layer of the same shape", "5", lambda e: swapped(e["start"]["moments"]), "optimizer"),
    as_recorded("one first moment lost", "5", lambda e: first_moment(e["start"]["moments"], "zeros"), "optimizer"),
    as_recorded("a weight of another model", BEYOND,
                lambda e: e["start"]["weights"].update({"model.norm.weight": "float32[32]:1"}), "weights"),
    as_recorded("weights of two layers swapped", BEYOND, lambda e: swapped(e["start"]["weights"]), "weights"),
    as_recorded("the learning-rate curve shifted by one step", "1a", shift_curve, "learning_rate"),
    as_recorded("steps whose learning rate nobody compared", "1a", lambda e: e["lr"].update(checked=3),
                "learning_rate"),
    as_recorded("a base learning rate of another stage", "2", lambda e: e["lr"].update(bases=[5e-4]),
                "learning_rate", stage="one"),
    as_recorded("weight decay of the stage before", "2", lambda e: [g.update(weight_decay=0.5) for g in e["groups"]],
                "hyper_parameters", stage="one"),
    as_recorded("an argument of the stage before", "2", lambda e: e["arguments"].update(weight_decay=0.5),
                "hyper_parameters", stage="one"),
    as_recorded("micro-batches of another size", "3", lambda e: e.update(batch_sizes={"8": 30}), "batches"),
    as_recorded("accumulation of the stage before", "3", lambda e: e["batch"].update(accumulation=1),
                "batches", stage="one"),
    as_recorded("one sample skipped", "4", at_sample(1), "data_position", stage="one"),
    as_recorded("one batch skipped", "4", at_sample(4), "data_position", "batches", stage="one"),
    as_recorded("new data skipped as if seen", "4", at_sample(36), "data_position", stage="one"),
    as_recorded("a batch taken and not trained", "4", lambda e: e["data"].update(astray=1), "data_position",
                stage="one"),
    as_recorded("samples of another order", "4", other_samples, "data_position"),
    as_recorded("the next epoch's data", "4", lambda e: e["data"].update(epoch=3), "data_position"),
    as_recorded("one micro-batch too few", "4", lambda e: e.update(batch_sizes={"4": 12}), "batches", stage="one"),
    as_recorded("one micro-batch too many", "4", lambda e: e.update(batch_sizes={"4": 14}), "batches", stage="one"),
    as_recorded("a pass over the data of no samples", BEYOND, lambda e: e["data"].update(span=0), "batches"),
    as_recorded("a pass over the data without end", BEYOND, lambda e: e["data"].update(span=float("inf")), "batches"),
    as_recorded("steps of the stage before trained again", "10b", lambda e: e["steps"].update(first=1, count=24),
                "steps_trained", "batches", "learning_rate"),
    as_recorded("a step left out", BEYOND, lambda e: e["steps"].update(count=10), "steps_trained", "batches"),
    as_recorded("the best metric of another stage", "7a", lambda e: e["best_metric"].update(start=0.5),
                "best_metric"),
    as_recorded("a NaN that the logging filter hid", "13", lambda e: e["loss"].update(non_finite_step=3),
                "finite", stage="one"),
    as_recorded("a record without losses", "13", lambda e: e.pop("loss"), "finite", stage="one"),
]  # fmt: skip


def other_random_state(chain: Chain, stage: str) -> None:
    """The generators after loading are those of another checkpoint, on every rank's record."""
    other = json.loads((chain.checkpoint("one") / "stepladder.json").read_text())["state"]["rng"]
    chain.record(stage, lambda result: result["evidence"]["loaded"].update(random_state=other))


def no_random_state(chain: Chain, stage: str) -> None:
    chain.record(stage, lambda result: result["evidence"]["loaded"].update(random_state=None))


def edit(chain: Chain, stage: str) -> None:
    chain.edit_result(stage, lambda result: result["evidence"]["notes"].append("all is well"))


def edit_and_unseal(chain: Chain, stage: str) -> None:
    edit(chain, stage)
    chain.edit_journal(lambda events: [{**event, "result": None} for event in events])


def edit_and_take_the_seal_out(chain: Chain, stage: str) -> None:
    edit(chain, stage)
    chain.edit_journal(lambda events: [e for e in events if (e["event"], e.get("stage")) != ("attempt_ended", stage)])


def edit_and_rewrite_the_journal(chain: Chain, stage: str) -> None:
    """Every line follows the one before, but an attempt that was started was never sealed."""
    edit(chain, stage)
    chain.rewrite_journal(lambda e: None if (e["event"], e.get("stage")) == ("attempt_ended", stage) else e)


def edit_and_cut_the_journal(chain: Chain, stage: str) -> None:
    """The journal ends before the seal, as if the engine had been killed there."""
    edit(chain, stage)
    ends = ("attempt_ended", stage)
    chain.edit_journal(lambda events: events[: [(e["event"], e.get("stage")) for e in events].index(ends)])


def record_of_another_run(chain: Chain, stage: str) -> None:
    chain.record(stage, lambda result: result.update(run_id="another"))


def record_of_another_stage(chain: Chain, stage: str) -> None:
    shutil.copyfile(chain.result("two"), chain.result(stage))
    chain.record(stage, lambda result: None)


def record_of_another_attempt(chain: Chain, stage: str) -> None:
    chain.record(stage, lambda result: result.update(attempt=2))


def task_changed(chain: Chain, stage: str) -> None:
    task = chain.attempt(stage) / "task.json"
    task.write_text(task.read_text().replace('"hook": true', '"hook": false'))


def no_record(chain: Chain, stage: str) -> None:
    chain.result(stage).unlink()


def cut_record(chain: Chain, stage: str) -> None:
    chain.result(stage).write_bytes(chain.result(stage).read_bytes()[:200])


def manifest(**changes: Any) -> Callable[[Chain, str], object]:
    return lambda chain, stage: chain.edit_manifest(stage, lambda manifest: manifest.update(changes))


def manifest_tells_the_lie(chain: Chain, stage: str) -> None:
    """A weight changed, and the manifest's checksum and fingerprint with it: the record still has the true one."""
    flip_a_weight(chain, stage)
    chain.fit_manifest(stage)
    chain.edit_manifest(stage, lambda manifest: manifest["state"]["weights"].update({"lm_head.weight": "other"}))


def no_manifest(chain: Chain, stage: str) -> None:
    (chain.checkpoint(stage) / "stepladder.json").unlink()


FORGED: list[FileFault] = [
    fault("the random state of another checkpoint", "12", other_random_state, "random_state", stage="three"),
    fault("the random state dropped", "8", no_random_state, "random_state", stage="three"),
    fault("a record edited", BEYOND, edit, "evidence"),
    fault("a record edited, its seal blanked", BEYOND, edit_and_unseal, "evidence", stage=EVERY),
    fault("a record edited, its seal taken out", BEYOND, edit_and_take_the_seal_out, "evidence", stage=EVERY),
    fault("a record edited, the journal made anew without its seal", BEYOND, edit_and_rewrite_the_journal, "evidence"),
    fault("a record edited, the journal cut before its seal", BEYOND, edit_and_cut_the_journal, "evidence",
          stage="three"),
    fault("a record of another run", BEYOND, record_of_another_run, "evidence"),
    fault("the record of another stage", BEYOND, record_of_another_stage, "evidence", "steps_trained", "weights",
          "optimizer", "random_state", "data_position", stage="three"),
    fault("a record of another attempt", BEYOND, record_of_another_attempt, "evidence", stage="one"),
    fault("the task changed after it was done", BEYOND, task_changed, "evidence", stage="one"),
    fault("no record", BEYOND, no_record, "finished", stage="one"),
    fault("a record cut short", BEYOND, cut_record, "finished", stage="one"),
    fault("a manifest of another run", BEYOND, manifest(run_id="another")),
    fault("a manifest of another stage", BEYOND, manifest(stage="one")),
    fault("a manifest of another step", BEYOND, manifest(global_step=12)),
    fault("a manifest that names no file", BEYOND, manifest(files={})),
    fault("a manifest that tells of a changed weight", BEYOND, manifest_tells_the_lie, "evidence", "checkpoint",
          stage="three"),
    fault("no manifest", BEYOND, no_manifest, stage="three"),
]  # fmt: skip
