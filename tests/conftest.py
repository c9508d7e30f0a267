"""Chains that several tests look at are trained once; engines that a test left are ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from shared import once
from stepladder.trainer import tiny
from support import stepladder, tiny_curriculum


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The exactness table and the corpus's line, of what was run, by whichever process."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    recorded: dict[str, list[Any]] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", []):
            recorded.setdefault(name, []).append(value)
    rows = sorted(set(recorded.get("exactness", [])))
    if rows:
        terminalreporter.write_line("exactness: chain of three stages against one uninterrupted run of a plain Trainer")
        terminalreporter.write_line("\n".join(rows))
    if any(tally["planted"] or tally["twins"] for tally in recorded.get("tally", [])):
        terminalreporter.write_line(_corpus_line(recorded["tally"]))
    if "chaos" in recorded:
        terminalreporter.write_line(_chaos_line(recorded["chaos"]))


def _corpus_line(tallies: list[dict[str, list[str]]]) -> str:
    planted, caught, twins, passed = (
        {name for tally in tallies for name in tally[kind]} for kind in ("planted", "caught", "twins", "passed")
    )
    return f"caught {len(caught)} of {len(planted)}, false alarms {len(twins - passed)} of {len(twins)}"


def _chaos_line(told: list[dict[str, int]]) -> str:
    """A fault is told of when it begins, and again with what came of it."""
    faults = {entry["fault"]: entry for entry in told}.values()
    counts = {"finished": "finished", "identical": "identical bytes", "orphans": "orphans", "lost": "lost checkpoints"}
    figures = [f"{words} {sum(fault[name] for fault in faults)}" for name, words in counts.items()]
    return ", ".join([f"faults {len(faults)}", *figures])


@pytest.fixture(autouse=True)
def _no_engine_outlives_its_test() -> Iterator[None]:
    yield
    while support.STARTED:
        engine = support.STARTED.pop()
        engine.kill()
        engine.wait(30)
        if engine.stderr is not None:
            engine.stderr.close()


@pytest.fixture(scope="session")
def vision_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of images and text; nobody writes into its folder."""
    return once(tmp_path_factory, "vision", lambda folder: tiny.build(folder / "idefics3")) / "idefics3"


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of text, which knows the words of `trainers.write_texts`; nobody writes into its folder."""
    words = [Path(__file__).with_name("trainers.py")]
    return once(tmp_path_factory, "text", lambda folder: tiny.build(folder / "llama", "llama", words)) / "llama"


@pytest.fixture(scope="session")
def healthy_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` run to its end: three stages over the same data, `data: continue`."""

    def train(folder: Path) -> None:
        done = stepladder("run", tiny_curriculum(folder, handover={"data": "continue"}), cwd=folder)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "healthy", train)
