"""Three chained stages end in the bytes of one uninterrupted run of a plain Trainer, which never saw Stepladder."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import plain_trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return plain_trainer(tmp_path_factory.mktemp("plain"), "out", 24).read_bytes()


def test_three_stages_equal_one_run(healthy_chain: Path, uninterrupted: bytes) -> None:
    """Cosine over the run, dropout, two data workers, accumulation 3 with a remainder, boundaries in mid-epoch."""
    chained = healthy_chain / "runs/tiny/3-three/model.safetensors"
    assert chained.read_bytes() == uninterrupted


def test_the_plain_chain_differs(tmp_path: Path, uninterrupted: bytes) -> None:
    """Negative control: stages by the Trainer's own flags, as shell scripts chain them."""
    model, checkpoint = "new", {}
    for index, end in enumerate((13, 24), start=1):
        output = f"stage{index}"
        weights = plain_trainer(tmp_path, output, end, model_name_or_path=model, save_steps=1, **checkpoint)
        model, checkpoint = output, {"resume_from_checkpoint": f"{output}/checkpoint-{end}"}
    assert weights.read_bytes() != uninterrupted


def test_another_seed_differs(tmp_path: Path, uninterrupted: bytes) -> None:
    """Negative control of the comparison itself: dropout and order do reach the bytes."""
    assert plain_trainer(tmp_path, "out", 24, seed=43).read_bytes() != uninterrupted
