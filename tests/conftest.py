"""Chains that several tests look at are trained once; engines that a test left are ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import support
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


def _corpus_line(tallies: list[dict[str, list[str]]]) -> str:
    planted, caught, twins, passed = (
        {name for tally in tallies for name in tally[kind]} for kind in ("planted", "caught", "twins", "passed")
    )
    return f"caught {len(caught)} of {len(planted)}, false alarms {len(twins - passed)} of {len(twins)}"


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
    folder = tmp_path_factory.mktemp("models") / "idefics3"
    tiny.build(folder)
    return folder


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of text, which knows the words of `trainers.write_texts`; nobody writes into its folder."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny.build(folder, "llama", [Path(__file__).with_name("trainers.py")])
    return folder


@pytest.fixture(scope="session")
def healthy_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` run to its end: three stages over the same data, `data: continue`."""
    folder = tmp_path_factory.mktemp("healthy")
    curriculum = tiny_curriculum(folder, handover={"data": "continue"})
    done = stepladder("run", curriculum, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
