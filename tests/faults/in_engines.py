"""Faults that only several processes can have: one rank's files or records are another's, or an older save's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chain import Chain
from corpus import BEYOND, Fault


@dataclass(frozen=True)
class EngineFault(Fault):
    """Planted in the second stage of a chain that was trained on `engine` (tests/engines.py)."""

    engine: str = "ddp"
    plant: Callable[[Chain], object] = lambda chain: None


def fault(engine: str, name: str, trap: str, plant: Callable[[Chain], object], *checks: str) -> EngineFault:
    return EngineFault(f"{name} ({engine})", trap, "verify", checks or ("checkpoint",), engine, plant)


def older(pattern: str) -> Callable[[Chain], object]:
    """One rank's file as the stage before saved it, the manifest made to fit."""

    def plant(chain: Chain) -> None:
        shutil.copyfile(found(chain, "one", pattern), found(chain, "two", pattern))
        chain.fit_manifest("two")

    return plant


def missing(pattern: str) -> Callable[[Chain], object]:
    def plant(chain: Chain) -> None:
        path = found(chain, "two", pattern)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        chain.fit_manifest("two")

    return plant


def found(chain: Chain, stage: str, pattern: str) -> Path:
    """The file of that pattern whose name comes last: that of the last rank."""
    return max(chain.checkpoint(stage).glob(pattern))


def one_batch_for_all(chain: Chain) -> None:
    """Rank 1 drew what rank 0 drew."""

    def change(result: dict) -> None:
        ranks = result["evidence"]["ranks"]
        ranks[1]["first_batches"] = ranks[0]["first_batches"]

    chain.record("two", change)


def one_rank_without_random_state(chain: Chain) -> None:
    """Rank 1 did not load its random state; the ranks of one seed all have the same one, as long as it lasts."""

    def change(result: dict) -> None:
        result["evidence"]["loaded"]["random_state"][1] = None

    chain.record("two", change)


FAULTS = [
    fault("ddp", "one rank's random state is an older one", "8", older("rng_state_1.pth")),
    fault("ddp", "one rank's random state is missing", "8", missing("rng_state_1.pth")),
    fault("ddp", "one rank went on without its random state", "8", one_rank_without_random_state, "random_state"),
    fault("ddp", "two ranks trained the same samples", "8", one_batch_for_all, "batches"),
    fault("zero-3", "one rank's optimizer shard is an older one", "8", older("global_step*/*optim_states.pt")),
    fault("zero-3", "one rank's optimizer shard is missing", "8", missing("global_step*/*optim_states.pt")),
    fault("zero-3", "one rank's random state is an older one", "8", older("rng_state_1.pth")),
    fault("fsdp-sharded", "the optimizer's folder is missing", "8", missing("optimizer_0")),
    fault("fsdp-sharded", "one rank's optimizer shard is an older one", "8", older("optimizer_0/*.distcp")),
    fault("fsdp-sharded", "one rank's weights are an older save's", BEYOND, older("pytorch_model_fsdp_0/*.distcp")),
]  # fmt: skip
