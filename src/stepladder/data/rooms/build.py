"""The whole data set: built beside its place, moved there when complete, left alone when it is already there."""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stepladder.data.build.pairs import Pair
from stepladder.data.build.scene import Scene
from stepladder.data.build.settings import Settings as Survey
from stepladder.data.build.survey import survey_scene
from stepladder.data.rooms import samples
from stepladder.data.rooms.layout import write_scene
from stepladder.data.rooms.pairs import eval_pairs, training_pairs
from stepladder.data.rooms.settings import RoomsError, Settings

#: Describes the data set; written last.
DESCRIPTION = "dataset.json"

#: Raised whenever the same settings give other files.
VERSION = 2


def build(out: Path, settings: Settings) -> tuple[dict[str, Any], bool]:
    """Make the data set in the folder `out`.

    Returns its description and whether it was built now (False: it was there already, with the same settings). Raises
    RoomsError when settings cannot be used, or `out` holds something else or a data set with other settings.
    """
    settings.check()
    existing = _existing(out, settings)
    if existing is not None:
        return existing, False
    unfinished = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        description = _write(unfinished, settings)
        unfinished.rename(out)
    except OSError as error:
        # Another process may have put the same data set there in the meantime.
        existing = _existing(out, settings)
        if existing is None:
            raise RoomsError(
                f"{out}: cannot be written: {error.strerror}", "name a folder on a writable disk"
            ) from None
        return existing, False
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return description, True


def _write(root: Path, settings: Settings) -> dict[str, Any]:
    first_eval = settings.scenes - settings.eval_scenes
    train = [_make_scene(root, "train", index, settings) for index in range(first_eval)]
    held_out = [_make_scene(root, "eval", index, settings) for index in range(first_eval, settings.scenes)]
    rng = np.random.default_rng([settings.seed, settings.scenes])
    pairs = _shuffled(training_pairs(train, rng), rng)
    evaluation = _shuffled(eval_pairs(held_out, rng), rng)
    counts = samples.write_mixtures(root, pairs, settings.point_rule)
    samples.write_samples(root / samples.EVALUATION, evaluation, settings.point_rule)
    description = {
        **_identity(settings),
        "samples": {**counts, samples.EVALUATION: len(evaluation)},
        "kinds": {"train": _kinds(pairs), "eval": _kinds(evaluation)},
        "scenes": {"train": [scene.scene_id for scene in train], "eval": [scene.scene_id for scene in held_out]},
    }
    (root / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return description


def _make_scene(root: Path, split: str, index: int, settings: Settings) -> Scene:
    """Render a scene into its folder, and read it as `stepladder data build` reads any layout."""
    folder = write_scene(root, split, index, settings)
    scene, _ = survey_scene(root, folder, Survey(point_rule=settings.point_rule, depth=True, seed=settings.seed))
    return scene


def _existing(out: Path, settings: Settings) -> dict[str, Any] | None:
    """The description of the data set in `out` if it is the one asked for, None if `out` is free."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        description: dict[str, Any] = json.loads((out / DESCRIPTION).read_text("utf-8"))
        found = {key: description[key] for key in _identity(settings)}
    except (OSError, ValueError, KeyError, TypeError):
        raise RoomsError(f"{out}: holds something that is not a rooms data set", "name another folder") from None
    if found != _identity(settings):
        raise RoomsError(
            f"{out}: holds a data set with other settings: {_differences(found, _identity(settings))}",
            "name another folder, or delete this one to build it anew",
        )
    return description


def _identity(settings: Settings) -> dict[str, Any]:
    return {"version": VERSION, "settings": asdict(settings)}


def _differences(found: dict[str, Any], asked: dict[str, Any]) -> str:
    before, now = ({"version": side["version"], **side["settings"]} for side in (found, asked))
    return ", ".join(
        f"{key} {before.get(key)!r} (asked for {now.get(key)!r})"
        for key in now | before
        if before.get(key) != now.get(key)
    )


def _kinds(pairs: list[Pair]) -> dict[str, int]:
    return dict(sorted(Counter(pair.tier or "positive" for pair in pairs).items()))


def _shuffled(pairs: list[Pair], rng: np.random.Generator) -> list[Pair]:
    return [pairs[place] for place in rng.permutation(len(pairs))]
