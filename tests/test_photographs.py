"""The example of real photographs: its geometry against their pixels, its samples against its geometry.

The same holds for made photographs, which need no network: a textured wall seen through another homography, and a
textured background behind two squares that are nearer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stepladder.evaluate.metrics import metrics
from stepladder.evaluate.task import outcome, read_tasks
from support import ROOT

EXAMPLE = ROOT / "examples/photographs"
sys.path.insert(0, str(EXAMPLE))

import fetch  # noqa: E402 - the example's own modules, found as its script finds them
import geometry  # noqa: E402
import pairs  # noqa: E402

MADE_HOMOGRAPHY = np.array([[0.9, -0.15, 60.0], [0.12, 0.95, -20.0], [1.5e-4, 1.0e-5, 1.0]])
FAR, NEAR = 30, 60
#: (rows, columns) of the two squares that are nearer, in the left photograph.
SQUARES = ((slice(60, 170), slice(300, 420)), (slice(300, 450), slice(320, 450)))


def texture(draw: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Colours that differ from place to place, smooth over a few pixels."""
    small = Image.fromarray(draw.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def made_wall(folder: Path, draw: np.random.Generator) -> None:
    first = texture(draw, 640, 800)
    inverse = np.linalg.inv(MADE_HOMOGRAPHY)
    inverse /= inverse[2, 2]
    second = Image.fromarray(first).transform(
        (800, 640), Image.Transform.PERSPECTIVE, inverse.ravel()[:8].tolist(), Image.Resampling.BICUBIC
    )
    Image.fromarray(first).save(folder / "graf1.png")
    second.save(folder / "graf3.png")
    data = " ".join(map(str, MADE_HOMOGRAPHY.ravel()))
    (folder / "H1to3p.xml").write_text(f"<opencv_storage><H13><data>{data}</data></H13></opencv_storage>")


def made_stereo(folder: Path, draw: np.random.Generator) -> None:
    height, width = 480, 640
    left, right = texture(draw, height, width).copy(), texture(draw, height, width).copy()
    disparity = np.full((height, width), FAR, np.uint8)
    for rows, columns in SQUARES:
        left[rows, columns] = texture(draw, height, width)[rows, columns]
        disparity[rows, columns] = NEAR
    for distance in (FAR, NEAR):  # the nearer ones last: they cover
        rows, columns = np.nonzero((disparity == distance) & (np.arange(width) >= distance))
        right[rows, columns - distance] = left[rows, columns]
    disparity[:, 600:] = 0
    Image.fromarray(left).save(folder / "aloeL.jpg", quality=95)
    Image.fromarray(right).save(folder / "aloeR.jpg", quality=95)
    Image.fromarray(disparity).save(folder / "aloeGT.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    draw = np.random.default_rng(0)
    made_wall(folder, draw)
    made_stereo(folder, draw)
    return folder


@pytest.fixture(scope="module")
def real(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs themselves, kept from one run of the tests to the next: 96 MB are fetched once."""
    cache = getattr(pytestconfig, "cache", None)  # there is none under `-p no:cacheprovider`
    folder = tmp_path_factory.mktemp("photographs") if cache is None else cache.mkdir("photographs")
    try:
        return fetch.photographs(None, folder)
    except fetch.FetchError as error:
        pytest.skip(f"the photographs cannot be had here, without which their geometry cannot be checked: {error}")


def run_example(out: Path, images: Path, *options: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(EXAMPLE), str(out), "--images", str(images), *map(str, options)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def difference(a: np.ndarray, b: np.ndarray, points: np.ndarray, there: np.ndarray) -> float:
    """Mean difference of brightness between points of A and their places in B, where they are inside; of 255."""
    kept = geometry.inside(np.nan_to_num(there, nan=-1), b)
    (x, y), (u, v) = points[kept].astype(int).T, there[kept].round().astype(int).T
    return float(np.abs(a.mean(axis=2)[y, x] - b.mean(axis=2)[v, u]).mean())


def all_points(image: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0] : 3, : image.shape[1] : 3]
    return np.column_stack([columns.ravel(), rows.ravel()]).astype(float)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_a_point_of_the_wall_by_hand(made: Path) -> None:
    pair = geometry.read_flat(made)
    x, y = 100.0, 200.0
    below = 1.5e-4 * x + 1.0e-5 * y + 1
    expected = [(0.9 * x - 0.15 * y + 60) / below, (0.12 * x + 0.95 * y - 20) / below]
    assert pair.to_b(np.array([[x, y]]))[0] == pytest.approx(expected)
    assert pair.turned().to_b(pair.to_b(np.array([[x, y]])))[0] == pytest.approx([x, y])
    assert pair.fate(np.array([[x, y], [0.0, 0.0]])).tolist() == ["seen", "outside"]


def test_what_is_nearer_hides_what_is_behind_it(made: Path) -> None:
    pair = geometry.read_stereo(made)
    row, first = 100.0, 300.0  # a row of the upper square, its first column
    fates = {
        first + 5: "seen",  # on the square
        first - 5: "hidden",  # beside it, where the square has moved to
        first - (NEAR - FAR) + 3: "hidden",
        first - (NEAR - FAR) - 3: "seen",
        FAR - 3: "outside",
        FAR + 3: "seen",
        620: "unknown",
    }
    points = np.array([(column, row) for column in fates])
    assert pair.fate(points).tolist() == list(fates.values())
    assert pair.to_b(points)[0].tolist() == [first + 5 - NEAR, row]
    assert np.isnan(pair.to_b(points)[-1, 0])


def wrong_walls(pair: Any) -> dict[str, np.ndarray]:
    scale, shift = np.diag([1.05, 1.05, 1.0]), np.eye(3)
    shift[0, 2] = 8
    right = pair.homography
    return {"none": np.eye(3), "inverse": np.linalg.inv(right), "scaled": scale @ right, "shifted": shift @ right}


def check_wall(folder: Path) -> None:
    pair = geometry.read_flat(folder)
    points = all_points(pair.a)
    right = difference(pair.a, pair.b, points, pair.to_b(points))
    for name, wrong in wrong_walls(pair).items():
        assert right < 0.5 * difference(pair.a, pair.b, points, geometry.through(wrong, points)), name


def check_stereo(folder: Path) -> None:
    """A disparity is the pixel's value, to the left; every other reading of it agrees much worse with the pixels."""
    pair = geometry.read_stereo(folder)
    points = all_points(pair.a)
    fates, there = pair.fate(points), pair.to_b(points)
    moved = points - there
    right = difference(pair.a, pair.b, points[fates == "seen"], there[fates == "seen"])
    for factor in (-1, 0, 1 / 16, 0.25, 1 / 3, 0.5, 0.9, 1.1, 2, 3, 4, 16):
        wrong = difference(pair.a, pair.b, points, points - factor * moved)
        assert right < 0.5 * wrong, factor
    hidden = difference(pair.a, pair.b, points[fates == "hidden"], there[fates == "hidden"])
    assert right < 0.25 * hidden
    assert 0.01 < (fates == "hidden").mean() < 0.2


def test_the_made_photographs_agree_with_their_geometry(made: Path) -> None:
    check_wall(made)
    check_stereo(made)


def test_the_real_photographs_agree_with_their_geometry(real: Path) -> None:
    check_wall(real)
    check_stereo(real)


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_made(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(made, tmp_path_factory)


@pytest.fixture(scope="module")
def of_real(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(real, tmp_path_factory)


def built(images: Path, factory: pytest.TempPathFactory) -> Path:
    out = factory.mktemp("built") / "data"
    done = run_example(out, images, "--samples", 48, "--eval-samples", 12)
    assert done.returncode == 0, done.stderr
    return out


def samples(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def around(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Mean colour of the 5 x 5 pixels around a point."""
    column, row = round(x), round(y)
    return image[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].mean(axis=(0, 1))


def framed_spot(image: np.ndarray) -> tuple[float, float]:
    """The middle of the magenta frame."""
    rows, columns = np.nonzero((image == (255, 0, 255)).all(axis=2))
    return (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2


def check_answers(folder: Path) -> None:
    """The colour at the answer is that of the framed spot; at a place a little beside it, it is not."""
    at_answer, beside = [], []
    for name in ("samples.jsonl", "eval.jsonl"):
        for sample in samples(folder, name):
            if sample["meta"]["is_neg"]:
                continue
            a, b = (pixels(folder / path) for path in sample["image"])
            answer = sample["conversations"][1]["value"]
            x, y = (float(text) * (size - 1) for text, size in zip(answer[2:-2].split(","), (224, 126), strict=True))
            color = around(a, *framed_spot(a))
            at_answer.append(np.abs(color - around(b, x, y)).mean())
            other_x = x + 25 if x < 112 else x - 25
            beside.append(np.abs(color - around(b, other_x, y)).mean())
    assert len(at_answer) == 30
    assert np.median(at_answer) < 12
    assert np.median(beside) > 3 * np.median(at_answer)


def check_files(folder: Path) -> None:
    train, held_out = samples(folder, "samples.jsonl"), samples(folder, "eval.jsonl")
    assert Counter(s["meta"]["neg_type"] for s in train) == {None: 24, "tierA": 8, "tierB": 8, "tierC": 8}
    assert Counter(s["meta"]["why"] for s in train if s["meta"]["neg_type"] == "tierC") == {
        "hidden": 4,
        "just outside": 4,
    }
    assert Counter(s["meta"]["neg_type"] for s in held_out) == {None: 6, "tierA": 2, "tierB": 2, "tierC": 2}
    both = [*train, *held_out]
    assert len({s["id"] for s in both}) == len(both)
    assert {s["meta"]["scene"] for s in train} == {"graf-lower", "aloe-lower"}
    assert {s["meta"]["scene"] for s in held_out} <= {"graf-upper", "aloe-upper"}
    assert all((s["meta"]["scene"] == s["meta"]["scene_b"]) == (s["meta"]["neg_type"] != "tierA") for s in both)
    for name in ("samples.jsonl", "eval.jsonl"):  # the evaluation reads them, and true answers lie on their masks
        tasks = read_tasks(folder / name)
        found = metrics([outcome(task, task.truth) for task in tasks])
        assert (found["score"].value, found["hit_mask"].value) == (1, 1)


@pytest.mark.parametrize("check", [check_files, check_answers])
def test_samples_of_made_photographs(of_made: Path, check: Callable[[Path], None]) -> None:
    check(of_made)


@pytest.mark.parametrize("check", [check_files, check_answers])
def test_samples_of_the_real_photographs(of_real: Path, check: Callable[[Path], None]) -> None:
    check(of_real)


def test_the_same_seed_gives_the_same_files(made: Path, of_made: Path, tmp_path: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    sizes = ("--samples", 48, "--eval-samples", 12)
    assert run_example(tmp_path / "again", made, *sizes).returncode == 0
    assert run_example(tmp_path / "other", made, *sizes, "--seed", 1).returncode == 0
    assert files(tmp_path / "again") == files(of_made)
    assert files(tmp_path / "other") != files(of_made)
    assert "already there" in run_example(tmp_path / "again", made).stdout


@pytest.mark.parametrize("training", [True, False])
def test_views_of_training_show_nothing_of_the_held_out_part(made: Path, training: bool) -> None:
    flat = geometry.read_flat(made)
    scenes = [flat, flat.turned(), geometry.read_stereo(made)]
    chooser = pairs.Chooser(scenes, training, np.random.default_rng(0))
    for kind, tier in pairs.plan(36):
        pair = chooser.pair(kind, tier)
        for photographs, window, rows_of in (
            (pair.a, pair.window_a, pair.a.rows_a),
            (pair.b, pair.window_b, pair.b.rows_b),
        ):
            steps = np.linspace(0, 1, 30)
            x, y = np.meshgrid(window.x + steps * (window.width - 1), window.y + steps * (window.height - 1))
            lower = rows_of(np.column_stack([x.ravel(), y.ravel()])) >= pairs.HELD_OUT * photographs.height
            assert lower.all() if training else not lower.any()


def test_what_is_not_sure_is_not_used(made: Path) -> None:
    """A car before the wall: geometry says where the wall behind it is, the pixels do not agree."""
    pair = geometry.read_flat(made)
    steps = np.linspace(0, 40, pairs.GRID)
    spot = np.array((300.0, 300.0)) + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    assert pairs.seen(pair, spot)
    for car in (texture(np.random.default_rng(9), 80, 80), 128):  # of a plain surface pixels say nothing
        a = pair.a.copy()
        a[280:360, 280:360] = car
        assert not pairs.seen(replace(pair, a=a), spot)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_missing_photographs_are_named(made: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    (some / "graf1.png").write_bytes((made / "graf1.png").read_bytes())
    done = run_example(tmp_path / "out", some)
    assert (done.returncode, done.stdout) == (2, "")
    assert "some has no graf3.png, H1to3p.xml, aloeL.jpg, aloeR.jpg, aloeGT.png" in done.stderr
    assert done.stderr.count("hint: ") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(fetch.INSTALLED.is_dir(), reason="the package is installed here, so nothing is fetched")
def test_without_the_package_and_without_apt_the_hint_says_what_to_do(tmp_path: Path) -> None:
    argv = [sys.executable, str(EXAMPLE), str(tmp_path / "out")]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert "apt-get, which is not here" in done.stderr
    assert "hint: give --images FOLDER" in done.stderr


@pytest.mark.parametrize("broken", ["aloeGT.png", "graf3.png", "H1to3p.xml"])
def test_a_broken_photograph_is_named(made: Path, tmp_path: Path, broken: str) -> None:
    images = shutil.copytree(made, tmp_path / "images")
    (images / broken).write_bytes((images / broken).read_bytes()[:60])
    done = run_example(tmp_path / "out", images)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"images/{broken} cannot be read: " in done.stderr
    assert done.stderr.count("hint: ") == 1


def test_photographs_that_do_not_belong_together_are_refused(made: Path, tmp_path: Path) -> None:
    images = shutil.copytree(made, tmp_path / "images")
    Image.open(images / "aloeGT.png").resize((320, 240)).save(images / "aloeGT.png")
    done = run_example(tmp_path / "out", images)
    assert done.returncode == 2
    assert "aloeGT.png has 320 x 240 pixels, expected 640 x 480, as aloeL.jpg has" in done.stderr
