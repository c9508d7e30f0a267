"""Links that somebody planted where a run or its Trainer will write: named before anything is launched.

What Stepladder itself writes never follows a link. A Trainer opens its files as any program does, so what stands in
its way is refused. That the run directory, or a stage's, is a link itself is a person's choice. Links that lead from
one place in a stage's directory to another are what scripts leave there: `best`, a cache of the hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from stepladder.errors import PlanError, Problem
from stepladder.paths import RunDirectory
from stepladder.planning.plan import PlannedStage

#: What scripts write into a stage's directory, and what takes its place in one move.
_WRITTEN = (
    "checkpoint-*",
    *(f"*.{suffix}" for suffix in ("json", "jsonl", "safetensors", "bin", "pt", "pth", "log", "txt", "model", "jinja")),
    "*.md",  # TRL describes the model
    ".*.tmp",
)
#: Files that are named after the moment they are made: TensorBoard's.
_ANY_NAME = ("runs",)
_HINT = "remove it, or put what it leads to in its place"


def refuse(directory: RunDirectory, stages: Sequence[PlannedStage]) -> None:
    """Raise PlanError naming every such link of a run and of the stages that are about to be launched."""
    found = [*_of_run(directory), *(path for stage in stages for path in _of_stage(Path(stage.output_dir)))]
    problems = [
        Problem(str(path), f"is a link to {path.readlink()}, expected none where training writes", _HINT)
        for path in dict.fromkeys(found)
    ]
    if problems:
        raise PlanError(problems)


def _of_run(directory: RunDirectory) -> Iterator[Path]:
    for folder in (directory.attempts_root, directory.data_root):
        yield from _links(folder)


def _of_stage(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_symlink():
            yield from [path] if _is_written(path) or _leads_out(path, folder) else []
        elif path.is_dir() and not _is_checkpoint(path.name):
            # A model of one part a folder is written there.
            links = (link for link in _links(path) if path.name in _ANY_NAME or _is_written(link))
            yield from (link for link in links if _leads_out(link, folder) or _leads_to_checkpoint(link, folder))


def _is_checkpoint(name: str) -> bool:
    return name.startswith("checkpoint-")


def _is_written(path: Path) -> bool:
    return any(path.match(pattern) for pattern in _WRITTEN)


def _leads_out(link: Path, folder: Path) -> bool:
    return not _end(link).is_relative_to(folder.resolve())


def _leads_to_checkpoint(link: Path, folder: Path) -> bool:
    return any(map(_is_checkpoint, _end(link).relative_to(folder.resolve()).parts[:1]))


def _end(link: Path) -> Path:
    """Where a link leads, or a chain of them; itself where it leads in a circle: nothing is written through that."""
    try:
        return link.resolve()
    except (OSError, RuntimeError):
        return link.parent.resolve() / link.name


def _links(folder: Path) -> Iterator[Path]:
    """Every link at or below a folder; what a link leads to is not looked at."""
    if folder.is_symlink():
        yield folder
    elif folder.is_dir():
        for path in sorted(folder.iterdir()):
            yield from _links(path)
