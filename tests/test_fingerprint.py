"""Fingerprints tell equal from different, whatever was moved, swapped or cut."""

import random

import numpy as np
import pytest
import torch

from stepladder_worker import carried, fingerprint


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]
)
def test_equal_bits_have_equal_fingerprints(dtype: torch.dtype) -> None:
    tensor = (torch.randn(17, 5) * 3).to(dtype)
    assert fingerprint.of_tensor(tensor) == fingerprint.of_tensor(tensor.clone())
    assert fingerprint.of_tensor(tensor.t().contiguous().t()) == fingerprint.of_tensor(tensor)


def test_every_single_change_is_seen() -> None:
    tensor = torch.randn(64)
    seen = {fingerprint.of_tensor(tensor)}
    for index in range(64):
        changed = tensor.clone()
        changed[index] = torch.nextafter(changed[index], torch.tensor(9.0))
        seen.add(fingerprint.of_tensor(changed))
    assert len(seen) == 65


def test_swapped_elements_and_negative_zero_are_seen() -> None:
    tensor = torch.tensor([0.0, 1.0, 2.0])
    assert fingerprint.of_tensor(tensor) != fingerprint.of_tensor(tensor[[0, 2, 1]])
    assert fingerprint.of_tensor(tensor) != fingerprint.of_tensor(torch.tensor([-0.0, 1.0, 2.0]))


def test_shape_and_type_belong_to_it() -> None:
    tensor = torch.zeros(6)
    assert fingerprint.of_tensor(tensor) != fingerprint.of_tensor(tensor.view(2, 3))
    assert fingerprint.of_tensor(tensor) != fingerprint.of_tensor(tensor.int())


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(1000)
    whole = fingerprint.of_tensor(tensor)
    monkeypatch.setattr(fingerprint, "CHUNK", 7)
    assert fingerprint.of_tensor(tensor) == whole


def test_known_answer() -> None:
    """A change of the formula would make old checkpoints unverifiable: it needs a new manifest version."""
    assert fingerprint.of_tensor(torch.arange(10, dtype=torch.float32)) == "float32[10]:125a6ed69658cbdd"


def test_random_states_come_back() -> None:
    before = fingerprint.random_states()
    digests = fingerprint.of_random_state(before)
    drawn = random.random(), float(np.random.rand()), float(torch.rand(1))
    assert fingerprint.of_random_state(fingerprint.random_states()) != digests
    fingerprint.restore_random_states(before)
    assert fingerprint.of_random_state(fingerprint.random_states()) == digests
    assert (random.random(), float(np.random.rand()), float(torch.rand(1))) == drawn


def test_zeros_are_known_by_their_fingerprint() -> None:
    assert carried.is_zero(fingerprint.of_tensor(torch.zeros(3, 4)))
    assert not carried.is_zero(fingerprint.of_tensor(torch.tensor([0.0, -0.0])))
