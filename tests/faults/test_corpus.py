"""The corpus plants every trap, under names of their own, and docs/faults.md lists it as it is."""

from __future__ import annotations

import re
from collections import Counter

from corpus import BEYOND, TRAPS, Tally
from listing import FAULTS, table
from support import ROOT

PAGE = (ROOT / "docs/faults.md").read_text("utf-8")
ALL = [fault for faults in FAULTS.values() for fault in faults]


def test_every_trap_is_planted() -> None:
    assert {fault.trap for fault in ALL} == {*TRAPS, BEYOND}


def test_faults_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(fault.name for fault in ALL).items() if count > 1] == []


def test_the_page_lists_the_corpus_as_it_is() -> None:
    """`python tests/faults/listing.py` prints what belongs there."""
    assert PAGE.endswith(table())


def test_the_page_tells_every_trap_in_words() -> None:
    assert re.findall(r"^\| (\d+\w?) \| [^|]{10,} \| [^|]{10,} \|$", PAGE, re.MULTILINE) == list(TRAPS)


def test_a_fault_under_another_name_is_not_caught() -> None:
    tally = Tally()
    tally.count(ALL[0], caught=True)
    tally.count(ALL[1], caught=False)
    counted = tally.taken()
    assert counted["caught"] == [ALL[0].name]
    assert counted["planted"] == sorted([ALL[0].name, ALL[1].name])
