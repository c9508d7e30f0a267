"""Faults in the files of finished checkpoints: cut, swapped, replaced, and made to fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch

from chain import Chain, edit_json
from corpus import BEYOND, Fault

EVERY = "*"


@dataclass(frozen=True)
class FileFault(Fault):
    """Planted in a copy of the healthy chain: `plant` changes files of `stage`, whose checks must fail by name.

    A fault of the journal is one of every stage (EVERY): it is planted for the second one.
    """

    plant: Callable[[Chain, str], object]
    stage: str = "two"


def fault(name: str, trap: str, plant: Callable[[Chain, str], object], *checks: str, stage: str = "two") -> FileFault:
    return FileFault(name, trap, "verify", checks or ("checkpoint",), plant, stage)


def made_to_fit(plant: Callable[[Chain, str], object]) -> Callable[[Chain, str], object]:
    """The same plant, and a manifest whose sizes and checksums are made to fit it."""

    def planted(chain: Chain, stage: str) -> None:
        plant(chain, stage)
        chain.fit_manifest(stage)

    return planted


def cut(file: str, size: int = 100) -> Callable[[Chain, str], object]:
    def plant(chain: Chain, stage: str) -> None:
        path = chain.checkpoint(stage) / file
        path.write_bytes(path.read_bytes()[:-size])

    return plant


def remove(file: str) -> Callable[[Chain, str], object]:
    return lambda chain, stage: (chain.checkpoint(stage) / file).unlink()


def of_stage_one(file: str) -> Callable[[Chain, str], object]:
    """The file of the same name that stage one saved: another state of the same model."""
    return lambda chain, stage: shutil.copyfile(chain.checkpoint("one") / file, chain.checkpoint(stage) / file)


def flip_a_weight(chain: Chain, stage: str) -> None:
    chain.edit_weights(stage, lambda tensors: next(iter(tensors.values())).view(-1)[:1].add_(1))


def nan_in_weights(chain: Chain, stage: str) -> None:
    chain.edit_weights(stage, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(float("nan")))


def half_precision(chain: Chain, stage: str) -> None:
    chain.edit_weights(stage, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))


def swap_weights(chain: Chain, stage: str) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        one, other = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
        tensors[one], tensors[other] = tensors[other], tensors[one]

    chain.edit_weights(stage, swap)


def swap_moments(chain: Chain, stage: str) -> None:
    def swap(loaded: dict) -> None:
        state = loaded["state"]
        one, other = [k for k, v in state.items() if v["exp_avg"].shape == state[0]["exp_avg"].shape][:2]
        state[one], state[other] = state[other], state[one]

    chain.edit_torch(stage, "optimizer.pt", swap)


def empty_state(chain: Chain, stage: str) -> None:
    chain.edit_torch(stage, "optimizer.pt", lambda loaded: loaded["state"].clear())


def step_counter_behind(chain: Chain, stage: str) -> None:
    chain.edit_torch(stage, "optimizer.pt", lambda loaded: [s["step"].sub_(1) for s in loaded["state"].values()])


def scheduler_ahead(chain: Chain, stage: str) -> None:
    chain.edit_torch(stage, "scheduler.pt", lambda loaded: loaded.update(last_epoch=loaded["last_epoch"] + 1))


def a_stale_shard(chain: Chain, stage: str) -> None:
    """Weights of an earlier save under the name that a sharded save has, beside the true ones."""
    source = chain.checkpoint("one") / "model.safetensors"
    shutil.copyfile(source, chain.checkpoint(stage) / "model-00001-of-00001.safetensors")


def step_of_another_stage(chain: Chain, stage: str) -> None:
    edit_json(chain.checkpoint(stage) / "trainer_state.json", lambda state: state.update(global_step=5))


FAULTS = [
    fault("optimizer.pt is cut short", BEYOND, cut("optimizer.pt"), stage="one"),
    fault("model.safetensors is cut short", BEYOND, cut("model.safetensors"), stage="one"),
    fault("trainer_state.json is cut short", BEYOND, cut("trainer_state.json"), "checkpoint", "global_step"),
    fault("scheduler.pt is missing", "10", remove("scheduler.pt"), stage="one"),
    fault("scheduler.pt is missing, the manifest made to fit", "10", made_to_fit(remove("scheduler.pt"))),
    fault("optimizer.pt is missing", "10", remove("optimizer.pt"), stage="one"),
    fault("optimizer.pt is missing, the manifest made to fit", "9b", made_to_fit(remove("optimizer.pt"))),
    fault("optimizer.pt has an empty state, the manifest made to fit", "10", made_to_fit(empty_state)),
    fault("optimizer.pt is that of another stage", BEYOND, of_stage_one("optimizer.pt")),
    fault("optimizer.pt of another stage, the manifest made to fit", BEYOND, made_to_fit(of_stage_one("optimizer.pt"))),
    fault("moments swapped between parameters of one shape", "5", swap_moments, stage="one"),
    fault("moments swapped between parameters of one shape, the manifest made to fit", "5", made_to_fit(swap_moments)),
    fault("Adam's step counter one behind, the manifest made to fit", "11", made_to_fit(step_counter_behind),
          stage="one"),
    fault("the scheduler one step ahead, the manifest made to fit", "1a", made_to_fit(scheduler_ahead), stage="one"),
    fault("one weight changed", BEYOND, flip_a_weight, stage="one"),
    fault("one weight changed, the manifest made to fit", BEYOND, made_to_fit(flip_a_weight), stage="one"),
    fault("two weights of one shape swapped, the manifest made to fit", BEYOND, made_to_fit(swap_weights), stage="one"),
    fault("weights of another stage", BEYOND, of_stage_one("model.safetensors"), stage="three"),
    fault("weights of another stage, the manifest made to fit", BEYOND, made_to_fit(of_stage_one("model.safetensors")),
          stage="three"),
    fault("weights in half precision, the manifest made to fit", BEYOND, made_to_fit(half_precision), stage="one"),
    fault("a stale shard beside the weights", BEYOND, a_stale_shard, stage="three"),
    fault("NaN among the saved weights", "13", nan_in_weights, stage="one"),
    fault("NaN among the saved weights, the manifest made to fit", "13", made_to_fit(nan_in_weights), stage="one"),
    fault("the random state is an older one", BEYOND, of_stage_one("rng_state.pth"), stage="three"),
    fault("the random state is an older one, the manifest made to fit", "12",
          made_to_fit(of_stage_one("rng_state.pth"))),
    fault("the random state is missing, the manifest made to fit", "8", made_to_fit(remove("rng_state.pth")),
          stage="three"),
    fault("the state has another step, the manifest made to fit", BEYOND, made_to_fit(step_of_another_stage),
          "global_step"),
]  # fmt: skip
