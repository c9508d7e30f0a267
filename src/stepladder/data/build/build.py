"""The whole build: survey every scene, choose the samples, make their files, and say what was done, last.

Until `build.json` is there the folder is unfinished: `.unfinished/` keeps the surveyed scenes, so that a build which
was killed goes on where it was. Everything is a function of the layout and the settings, so it ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stepladder.data.build.choose import Choice, choose
from stepladder.data.build.files import DamagedError, LeftOut, write_whole
from stepladder.data.build.layout import scene_folders
from stepladder.data.build.pictures import Picture, make_all, pictures_of
from stepladder.data.build.samples import to_joined_sample, to_sample
from stepladder.data.build.scene import TIERS, Scene
from stepladder.data.build.settings import Settings
from stepladder.data.build.survey import survey_scene
from stepladder.data.build.workers import each
from stepladder.data.samples import PROBLEMS_SHOWN
from stepladder.errors import InputError, Problem, RunError

DESCRIPTION = "build.json"
SAMPLES = "samples.jsonl"
LEFT_OUT = "left_out.jsonl"
_UNFINISHED = ".unfinished"

#: Raised whenever the same layout and settings give other files.
VERSION = 2

Surveyed = tuple[Scene, list[LeftOut]]


def build(root: Path, out: Path, settings: Settings, workers: int) -> tuple[dict[str, Any], bool]:
    """Make training samples of a split of the five-frames layout.

    Args:
        root: folder of the layout; nothing is written there.
        out: folder of the samples, made here; one that was begun with the same settings is finished.
        settings: what is asked for.
        workers: processes; the result does not depend on it.

    Returns the build's description and whether it was built now (False: it was there already).

    Raises:
        InputError: settings, folders or files that cannot be used; nothing is left in `out`.
        RunError: files cannot be written, or a process was killed; call it again to go on.
    """
    settings.check()
    folders = _scenes(root, out, settings.split)
    identity = {"version": VERSION, "settings": _as_json(asdict(settings)), "source": _fingerprint(root, folders)}
    existing = _existing(out, identity)
    if existing is not None:
        return existing, False
    try:
        with _unfinished(out, identity):
            surveyed = _survey(root, out, folders, settings, workers)
            _refuse_damage(out, surveyed, settings)
            choice = choose([scene for scene, _ in surveyed], settings)
            _make_pictures(root, out, choice, settings.concat, workers)
            return _finish(out, identity, settings, choice, [left for _, found in surveyed for left in found]), True
    except OSError as error:
        text = f"{error.filename or out}: cannot be written: {error.strerror or error}"
        raise RunError(text, "make room on the disk, or name another folder; the same command goes on") from None


def _scenes(root: Path, out: Path, split: str) -> list[str]:
    if not (root / split).is_dir():
        found = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) if root.is_dir() else "nothing"
        hint = f"ROOT is the folder above the split: {root.parent}" if root.name == split else "name a split: --split"
        raise InputError([Problem(str(root / split), f"no such folder; {root} has {found}", hint)])
    if root.resolve() in (out.resolve(), *out.resolve().parents) or out.resolve() in root.resolve().parents:
        raise InputError([Problem(str(out), f"found one folder within the other ({root})", "name an OUT beside ROOT")])
    folders = scene_folders(root, split)
    if not folders:
        text = "holds no scene with objects, expected folders {scene}/uid_{uid}/"
        raise InputError([Problem(str(root / split), text, "docs/building.md describes the layout")])
    return folders


def _fingerprint(root: Path, folders: Iterable[str]) -> str:
    """Of name, size and time of every file of the scenes: what has changed since cannot be gone on with."""
    digest = hashlib.sha256()
    for folder in folders:
        for parent, children, names in os.walk(root / folder):
            children.sort()
            for name in sorted(names):
                path = Path(parent, name)
                found = path.lstat()
                entry = [path.relative_to(root).as_posix(), found.st_size, found.st_mtime_ns]
                digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _existing(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The description of the build in `out` if it is the one asked for; None if there is something to do.

    Raises InputError if `out` holds anything but this build or its beginning.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    for path in (out / DESCRIPTION, out / _UNFINISHED / DESCRIPTION):
        try:
            description: dict[str, Any] = json.loads(path.read_text("utf-8"))
            found = {key: description[key] for key in identity}
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found != identity:
            text = f"holds a build with {_difference(found, identity)}"
            raise InputError([Problem(str(out), text, "name another folder, or delete this one to build it anew")])
        if path.parent != out:
            return None
        _require_whole(out / SAMPLES, description)
        return description
    raise InputError([Problem(str(out), "holds something that is not a build", "name another folder")])


def _require_whole(samples: Path, description: Mapping[str, Any]) -> None:
    if not samples.is_file() or _facts_of(samples) != description.get("file"):
        hint = f"delete {samples.parent} and build again"
        raise InputError([Problem(str(samples), "is not as it was built: it was changed, or cut", hint)])


def _facts_of(path: Path) -> dict[str, Any]:
    """Size in bytes and digest of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}


def _difference(found: dict[str, Any], asked: dict[str, Any]) -> str:
    before, now = ({"version": side["version"], **side["settings"]} for side in (found, asked))
    changed = [
        f"{key} {before.get(key)!r} (asked for {now.get(key)!r})"
        for key in now | before
        if before.get(key) != now.get(key)
    ]
    return ", ".join(changed) or "other files: the data's folder has changed since"


@contextmanager
def _unfinished(out: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Marks `out` as begun; takes the mark away when the build is done, and everything when its input is refused."""
    was_there = out.exists()
    mark = out / _UNFINISHED
    mark.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(mark / "lock", timeout=0):
            write_whole(mark / DESCRIPTION, json.dumps(identity).encode())
            yield
    except Timeout:
        text = "another process is building there"
        raise InputError([Problem(str(out), text, "wait for it, or name another folder")]) from None
    except InputError:
        shutil.rmtree(mark if was_there else out, ignore_errors=True)
        raise
    shutil.rmtree(mark)


def _survey(root: Path, out: Path, folders: list[str], settings: Settings, workers: int) -> list[Surveyed]:
    """Every scene, in the order of `folders`; those that were read before the build was killed are not read again."""
    task = partial(_survey_part, root, out / _UNFINISHED, settings)
    found = dict(each(task, folders, workers, "reading scenes"))
    return [found[folder] for folder in folders]


def _survey_part(root: Path, parts: Path, settings: Settings, folder: str) -> Surveyed:
    part = parts / f"{Path(folder).name}.json"
    if part.exists():
        data = json.loads(part.read_text("utf-8"))
        return Scene.from_json(data["scene"]), [LeftOut(**entry) for entry in data["left_out"]]
    scene, left_out = survey_scene(root, folder, settings)
    data = {"scene": scene.to_json(), "left_out": [asdict(entry) for entry in left_out]}
    write_whole(part, json.dumps(data).encode())
    return scene, left_out


def _refuse_damage(out: Path, surveyed: list[Surveyed], settings: Settings) -> None:
    left_out = [entry for _, found in surveyed for entry in found]
    if not left_out or settings.on_bad_sample == "skip":
        return
    hint = f"repair the files, or leave them out, counted and listed in {LEFT_OUT}, with --on-bad-sample skip"
    problems = [Problem(entry.file, f"{entry.what}: {entry.why}", hint) for entry in left_out[:PROBLEMS_SHOWN]]
    if len(left_out) > PROBLEMS_SHOWN:
        problems.append(Problem(str(out), f"... and {len(left_out) - PROBLEMS_SHOWN} more"))
    raise InputError(problems)


def _make_pictures(root: Path, out: Path, choice: Choice, concat: bool, workers: int) -> None:
    """Make what the samples name, a scene at a time."""
    by_scene: dict[str, dict[Picture, None]] = defaultdict(dict)
    for pair in choice.pairs:
        by_scene[pair.a.scene_id].update(dict.fromkeys(pictures_of(pair, concat)))
    tasks = [list(pictures) for _, pictures in sorted(by_scene.items())]
    try:
        for _ in each(partial(make_all, root, out), tasks, workers, "making pictures"):
            pass
    except DamagedError as error:
        hint = "it was readable a moment ago: build again when nothing writes to the layout"
        raise RunError(str(error), hint) from None


def _finish(
    out: Path, identity: dict[str, Any], settings: Settings, choice: Choice, left_out: list[LeftOut]
) -> dict[str, Any]:
    convert = to_joined_sample if settings.concat else to_sample
    lines = []
    for pair in choice.pairs:
        sample = convert(pair, settings.point_rule)
        sample["meta"]["basis"] = pair.basis
        lines.append(json.dumps(sample) + "\n")
    write_whole(out / SAMPLES, "".join(lines).encode())
    if left_out:
        text = "".join(json.dumps(asdict(entry)) + "\n" for entry in left_out)
        write_whole(out / LEFT_OUT, text.encode())
    description = identity | _counts(choice, left_out) | {"file": _facts_of(out / SAMPLES)}
    write_whole(out / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())
    return description


def _counts(choice: Choice, left_out: list[LeftOut]) -> dict[str, Any]:
    kinds = Counter(pair.tier or "positive" for pair in choice.pairs)
    short = {tier: {"wanted": choice.wanted[tier], "found": kinds[tier]} for tier in TIERS}
    return {
        **choice.counts,
        "samples": {kind: kinds[kind] for kind in ("positive", *TIERS)},
        "too_few": {tier: entry for tier, entry in short.items() if entry["found"] < entry["wanted"]},
        "basis": dict(sorted(Counter(pair.basis for pair in choice.pairs if pair.basis).items())),
        "left_out": len(left_out),
    }


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """The values as JSON gives them back, so that they compare."""
    result: dict[str, Any] = json.loads(json.dumps(values))
    return result
