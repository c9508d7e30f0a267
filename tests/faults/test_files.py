"""Faults in files of a finished chain are named by `stepladder verify`; the untouched copy passes."""

from __future__ import annotations

import contextlib
import itertools

import pytest

import in_checkpoints
import in_records
from chain import ENDS, Chain, failing
from corpus import TALLY
from in_checkpoints import EVERY, FileFault
from stepladder.paths import RunDirectory
from stepladder.records.facts import collect
from stepladder.records.status import plan_of
from stepladder.verify.stage import check_stage

FAULTS = [*in_checkpoints.FAULTS, *in_records.FORGED]


def together() -> list[list[FileFault]]:
    """Faults of different stages do not meet, so one reading of a chain serves several; later stages first."""
    by_stage = [[fault for fault in FAULTS if fault.stage == stage] for stage in reversed(ENDS)]
    groups = [[fault for fault in group if fault] for group in itertools.zip_longest(*by_stage)]
    return groups + [[fault] for fault in FAULTS if fault.stage == EVERY]


@pytest.mark.parametrize("fault", in_records.AS_RECORDED, ids=lambda fault: fault.name)
def test_a_record_that_tells_of_it_is_named(chain: Chain, fault: FileFault) -> None:
    """The files are healthy, so the checks without reading tensors decide, as `run` makes them after each stage."""
    fault.plant(chain, fault.stage)
    run = RunDirectory(chain.run)
    with TALLY.planting(fault), contextlib.chdir(chain.folder):
        verdicts = [check_stage(facts) for facts in collect(run, plan_of(run).stages, deep=False)]
        found = {verdict.name: {check.name for check in verdict.failed} for verdict in verdicts}
        assert found == {stage: set(fault.named) if stage == fault.stage else set() for stage in ENDS}


def test_an_untouched_copy_passes(chain: Chain) -> None:
    with TALLY.twin("a finished chain"):
        assert not any(failing(chain.folder).values())


@pytest.mark.parametrize("faults", together(), ids=lambda faults: ", ".join(fault.name for fault in faults))
def test_it_is_named(chain: Chain, faults: list[FileFault]) -> None:
    """The checks of its stage that it is planted for fail, and no others; stages without a fault pass."""
    for fault in faults:
        fault.plant(chain, "two" if fault.stage == EVERY else fault.stage)
    found = failing(chain.folder)
    wrong = {}
    for stage, names in found.items():
        planted = [fault for fault in faults if fault.stage in (stage, EVERY)]
        expected = set(planted[0].named) if planted else set()
        if names != expected:
            wrong[stage] = names
    for fault in faults:
        TALLY.count(fault, caught=not (wrong if fault.stage == EVERY else fault.stage in wrong))
    assert wrong == {}
