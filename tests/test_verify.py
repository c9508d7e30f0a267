"""What `stepladder verify` says of a healthy chain, and of nothing. The faults it names are in tests/faults."""

from __future__ import annotations

import json
from pathlib import Path

from support import stepladder


def test_the_healthy_chain_passes(healthy_chain: Path) -> None:
    done = stepladder("verify", "runs/tiny", "--json", cwd=healthy_chain)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"]
    assert document["version"] == 1
    assert [(s["global_step"], s["expected_step"]) for s in document["stages"]] == [(5, 5), (13, 13), (24, 24)]
    assert all(len(stage["checks"]) == 15 for stage in document["stages"])
    details = {check["name"]: check["detail"] for check in document["stages"][1]["checks"]}
    assert details["optimizer"] == "step counters 5 -> 13"
    assert details["steps_trained"] == "6-13; expected 6-13"


def test_no_run_is_an_error_without_traceback(tmp_path: Path) -> None:
    done = stepladder("verify", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "hint:" in done.stderr
