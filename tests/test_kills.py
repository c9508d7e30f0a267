"""Killed at a boundary, before it, after it, in the middle of a save, while loading, twice in a row: the same bytes.

The uninterrupted side of every row is a plain Trainer that never saw Stepladder; another seed must differ. The rows are
printed as a table at the end of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engines import ENGINES, curriculum, tried, uninterrupted

#: Stages end at 5, 13 and 24. A kill hits rank 0; the launcher then ends the others.
KILLS = {
    "never": "",
    "one step before a boundary": "step:12",
    "in the save of a boundary": "save:13",
    "while loading after a boundary": "start:14",
    "one step after a boundary": "step:14",
    "twice in a row": "save:13,step:12",
}
#: Variants of an engine, of which two rows are enough.
VARIANTS = ("zero-2", "zero-3-bf16", "fsdp-sharded")
#: What `make test` runs of it, beside the faults of tests/chaos on one process and on two; `make test-full` runs all.
QUICK = {("zero-3", "never"), ("fsdp", "in the save of a boundary")}
ROWS = [
    pytest.param(engine, kill, marks=[] if (engine, kill) in QUICK else [pytest.mark.full])
    for engine in ENGINES
    for kill in KILLS
    if engine not in VARIANTS or kill in ("never", "in the save of a boundary")
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    """(weights of one uninterrupted run, of one with another seed) by engine, filled as they are needed."""
    return {}


def _whole(known: dict[str, tuple[bytes, bytes]], engine: str, folder: Path) -> tuple[bytes, bytes]:
    if engine not in known:
        plain = uninterrupted(folder, engine), uninterrupted(folder, engine, output_dir="other", seed=43)
        known[engine] = (_weights(plain[0]), _weights(plain[1]))
    return known[engine]


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("engine", "kill"), ROWS)
def test_the_chain_ends_in_the_bytes_of_one_run(
    tmp_path: Path,
    whole: dict[str, tuple[bytes, bytes]],
    record_property: Callable[[str, object], None],
    engine: str,
    kill: str,
) -> None:
    """Cosine over the run, dropout, two data workers, accumulation 3 with a remainder, boundaries in mid-epoch."""
    path = curriculum(tmp_path, engine, args={"kill_at": KILLS[kill], "save_steps": 3})
    kills = len(list(filter(None, KILLS[kill].split(","))))
    for _ in range(kills):
        done = tried(tmp_path, path)
        assert done.returncode == 3, done.stderr
        assert "(SIGKILL)" in done.stderr  # by the script's own hand
    done = tried(tmp_path, path)
    assert done.returncode == 0, done.stderr
    # What shards alone hold is compared with the engine's twin that writes whole models.
    expected, other = _whole(whole, engine.removesuffix("-sharded"), tmp_path)
    chained = _weights(tmp_path / "runs/chain/3-three")
    verdict = "equal" if chained == expected else "DIFFERS"
    control = "differs" if chained != other else "EQUAL"
    record_property("exactness", f"{engine:14} killed {kill:32} {kills} kill(s)  {verdict}, other seed {control}")
    assert chained == expected
    assert chained != other
