"""Random states are read, also by a torch that takes no list of types; what could run code is not."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from stepladder_worker import fingerprint, unpickling


class Command:
    """What a hostile file holds."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch stepped-over",)


@pytest.fixture(params=["torch with a list", "torch before 2.5"], autouse=True)
def either_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    if request.param == "torch before 2.5":
        monkeypatch.delattr(torch.serialization, "safe_globals")


def test_random_states_come_back_as_they_were() -> None:
    states = fingerprint.random_states()
    torch.save(states, "rng_state.pth")
    assert fingerprint.of_random_state(unpickling.load(Path("rng_state.pth"))) == fingerprint.of_random_state(states)


@pytest.mark.parametrize("content", [Command(), {"python": Command()}], ids=["alone", "inside"])
def test_nothing_is_run(content: Any) -> None:
    torch.save(content, "rng_state.pth")
    with pytest.raises(pickle.UnpicklingError):
        unpickling.load(Path("rng_state.pth"))
    assert not Path("stepped-over").exists()
