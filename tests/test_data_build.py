"""`stepladder data build`: points on the masks, negatives that show nothing, the same bytes however it is run."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from stepladder.data.build.build import build
from stepladder.data.build.concat import SideBySide, scaled
from stepladder.data.build.marking import MARK_COLOR
from stepladder.data.build.pairs import split_evenly
from stepladder.data.build.settings import Settings, parse_ratio
from stepladder.data.rooms.build import build as build_rooms
from stepladder.data.rooms.render import render
from stepladder.data.rooms.scene import make_cameras, make_scene
from stepladder.data.rooms.settings import Settings as Rooms
from stepladder.errors import InputError
from support import ENVIRONMENT, STEPLADDER, stepladder

ROOMS = Rooms(scenes=8, seed=5, width=96, height=54)
WIDTH, HEIGHT = 40, 30

#: Rows and columns of an object in a view; None: its mask is empty.
Box = tuple[slice, slice] | None


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layout") / "rooms"
    build_rooms(root, ROOMS)
    return root


def rows(out: Path, name: str = "samples.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text("utf-8").splitlines()]


def picture(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.array(image)


def answer(row: dict[str, Any]) -> tuple[float, float] | None:
    text = row["conversations"][1]["value"]
    if text == "NOT_VISIBLE":
        return None
    x, y = text.strip("[()]").split(", ")
    return float(x), float(y)


def pixel(point: tuple[float, float], mask: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Row and column of a point."""
    return round(point[1] * (mask.shape[0] - 1)), round(point[0] * (mask.shape[1] - 1))


def tree(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def box(top: int, left: int, height: int = 6, width: int = 8) -> Box:
    return slice(top, top + height), slice(left, left + width)


def write_object(root: Path, scene: str, uid: int, views: dict[str, Box], label: str = "chair") -> Path:
    """An object of the five-frames layout, without marked views, depth or a visibility file; returns its listing."""
    folder = root / "train" / scene / f"uid_{uid}"
    folder.mkdir(parents=True)
    entries = []
    for rank, (frame, place) in enumerate(views.items(), 1):
        stem = f"{rank:02d}_{frame}"
        rng = np.random.default_rng([int(frame), len(scene)])
        image = rng.integers(0, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        if place is not None:
            mask[place] = 255
        for kind, array in (("original", image), ("inpainted", image // 2), ("mask", mask)):
            Image.fromarray(array).save(folder / f"{stem}_{kind}.png")
        names = {kind: f"{stem}_{kind}.png" for kind in ("original", "inpainted", "mask")}
        sizes = {"img_w": WIDTH, "img_h": HEIGHT}
        entries.append({"scene_id": scene, "uid": uid, "frame_id": frame, "label": label, **sizes, **names})
    listing = folder / f"{scene}_uid_{uid}_five_frames.json"
    listing.write_text(json.dumps(entries))
    return listing


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two scenes as the reference has them: nothing says what a frame shows but the masks of the object itself."""
    root = tmp_path / "plain"
    write_object(root, "aa", 1, {"10": box(2, 3), "20": box(4, 20), "30": None})
    write_object(root, "aa", 2, {"40": box(9, 9), "50": box(1, 1, 10, 10)}, "table")
    write_object(root, "bb", 1, {"10": box(5, 5), "20": box(6, 6, 3, 3)})
    write_object(root, "bb", 7, {"10": box(15, 25), "60": box(20, 6, 5, 5)}, "lamp")
    return root


class TestPositives:
    @pytest.mark.parametrize("rule", ["farthest", "center"])
    def test_points_by_brute_force(self, rooms: Path, tmp_path: Path, rule: str) -> None:
        out = tmp_path / "out"
        build(rooms, out, Settings(point_rule=rule, negative_share=0), 1)
        assert len(rows(out)) > 100
        for row in rows(out):
            mask = picture(out / row["meta"]["mask_b"]) > 0
            point = answer(row)
            assert point is not None
            line, column = pixel(point, mask)
            assert mask[line, column]
            assert (row["meta"]["mask_area"], row["meta"]["is_neg"]) == (mask.sum(), False)
            if rule == "farthest":
                # The distance to the nearest pixel that is not the object, counting what lies around the picture.
                outside = np.argwhere(~np.pad(mask, 1)) - 1
                inside = np.argwhere(mask)
                far = [((outside - spot) ** 2).sum(axis=1).min() for spot in inside]
                assert ((outside - (line, column)) ** 2).sum(axis=1).min() == max(far)
            else:
                lines, columns = np.nonzero(mask)
                middle = (lines.min() + lines.max()) // 2, (columns.min() + columns.max()) // 2
                assert (line, column) == middle or not mask[middle]

    def test_every_pair_of_two_views_both_ways(self, plain: Path, tmp_path: Path) -> None:
        build(plain, tmp_path / "out", Settings(negative_share=0, top_area=1), 1)
        found = Counter((r["meta"]["scene"], r["meta"]["uid"]) for r in rows(tmp_path / "out"))
        assert found == {("aa", 1): 2, ("aa", 2): 2, ("bb", 1): 2, ("bb", 7): 2}
        ids = {row["id"] for row in rows(tmp_path / "out")}
        assert {"aa_uid1_A10_B20", "aa_uid1_A20_B10"} <= ids

    def test_the_object_is_outlined_where_the_layout_has_no_marked_view(self, plain: Path, tmp_path: Path) -> None:
        build(plain, tmp_path / "out", Settings(negative_share=0), 1)
        for row in rows(tmp_path / "out"):
            marked = picture(tmp_path / "out" / row["image"][0])
            original = picture(plain / row["image"][0].replace("_marked", "_original"))
            mask = picture(plain / row["image"][0].replace("_marked", "_mask")) > 0
            outline = (marked == MARK_COLOR).all(axis=-1)
            assert outline.any()
            assert not (outline & mask).any()
            assert (marked[~outline] == original[~outline]).all()

    def test_a_marked_view_in_another_colour_is_not_used(self, plain: Path, tmp_path: Path) -> None:
        """The question speaks of one colour."""
        theirs = plain / "train/aa/uid_1/01_10_marked.png"
        Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)).save(theirs)
        build(plain, tmp_path / "out", Settings(negative_share=0), 1)
        ours = tmp_path / "out/train/aa/uid_1/01_10_marked.png"
        assert (picture(ours) == MARK_COLOR).all(axis=-1).any()
        assert theirs.read_bytes() != ours.read_bytes()

    def test_the_size_filter_keeps_the_largest_masks_of_the_split(self, rooms: Path, tmp_path: Path) -> None:
        areas = sorted((picture(p) > 0).sum() for p in (rooms / "train").rglob("*_mask.png"))
        kept = areas[-math.floor(len(areas) * 0.3 + 0.5) :]
        description, _ = build(rooms, tmp_path / "out", Settings(negative_share=0.4, top_area=0.3), 1)
        assert (description["views"], description["views_used"]) == (len(areas), len(kept))
        assert description["smallest_area_used"] == kept[0]
        for row in rows(tmp_path / "out"):
            mask_a = tmp_path / "out" / row["image"][0].replace("_marked", "_mask")
            assert (picture(rooms / mask_a.relative_to(tmp_path / "out")) > 0).sum() >= kept[0]
            assert row["meta"]["is_neg"] or row["meta"]["mask_area"] >= kept[0]


class TestNegatives:
    def test_no_pixel_of_the_object_by_rendering_again(self, rooms: Path, tmp_path: Path) -> None:
        """Decided by the scenes themselves: neither masks nor visibility files are trusted."""
        out = tmp_path / "out"
        build(rooms, out, Settings(negatives=(1, 1, 1), negative_share=0.6, inpainted=True), 1)
        scenes = json.loads((rooms / "dataset.json").read_text("utf-8"))["scenes"]
        index = {scene: n for n, scene in enumerate(scenes["train"] + scenes["eval"])}
        seen: Counter[tuple[str, str]] = Counter()
        for row in rows(out):
            meta = row["meta"]
            if not meta["is_neg"]:
                continue
            seen[meta["neg_type"], meta["basis"]] += 1
            assert (answer(row), meta["mask_area"], meta["mask_b"]) == (None, 0, None)
            assert (meta["neg_type"] == "tierA") == (meta["scene"] != meta["scene_b"])
            rng = np.random.default_rng([ROOMS.seed, index[meta["scene_b"]]])
            scene = make_scene(rng)
            camera = make_cameras(rng, scene)[int(meta["frameB"]) // 10]
            if meta["basis"] == "inpainted":
                scene = scene.without(meta["uid"])
            shot = render(scene, camera, ROOMS.width, ROOMS.height)
            assert (shot.rgb == picture(out / row["image"][1])).all()
            assert meta["label"] not in {item.label for item in scene.items if shot.mask(item.uid).any()}
        tiers = {("tierA", "scene"), ("tierB", "visibility"), ("tierC", "visibility"), ("tierC", "inpainted")}
        assert set(seen) == tiers

    @pytest.mark.parametrize(
        ("share", "ratio"), [(0.5, (2, 1, 1)), (0.25, (1, 0, 0)), (1 / 3, (1, 1, 1)), (0.1, (0, 3, 4))]
    )
    def test_exact_counts(self, rooms: Path, tmp_path: Path, share: float, ratio: tuple[float, float, float]) -> None:
        description, _ = build(rooms, tmp_path / "out", Settings(negatives=ratio, negative_share=share), 1)
        found = Counter(row["meta"]["neg_type"] for row in rows(tmp_path / "out"))
        wanted = math.floor(found[None] * share / (1 - share) + 0.5)
        assert sum(count for tier, count in found.items() if tier) == wanted
        for tier, part in zip(("tierA", "tierB", "tierC"), ratio, strict=True):
            assert abs(found[tier] - wanted * part / sum(ratio)) < 1
            assert description["samples"][tier] == found[tier]
        assert description["too_few"] == {}
        ids = [row["id"] for row in rows(tmp_path / "out")]
        assert len(set(ids)) == len(ids)

    def test_rounding_goes_to_the_largest_remainders(self) -> None:
        assert split_evenly(10, (2, 1, 1)) == [5, 3, 2]
        assert split_evenly(11, (1, 1, 1)) == [4, 4, 3]
        assert split_evenly(5, (0, 0, 2)) == [0, 0, 5]
        assert split_evenly(0, (1, 2, 3)) == [0, 0, 0]

    def test_what_is_not_known_is_not_guessed(self, plain: Path, tmp_path: Path) -> None:
        """Lists name some views that show an object, not all: only its own empty mask says that it is not there."""
        description, _ = build(plain, tmp_path / "out", Settings(negatives=(1, 1, 1), top_area=1), 1)
        negatives = [row["meta"] for row in rows(tmp_path / "out") if row["meta"]["is_neg"]]
        assert {(m["scene"], m["uid"], m["frameB"]) for m in negatives if m["neg_type"] == "tierC"} == {("aa", 1, "30")}
        assert not [m for m in negatives if m["neg_type"] == "tierB"]
        assert description["too_few"] == {"tierB": {"wanted": 3, "found": 0}}
        assert description["samples"] == {"positive": 8, "tierA": 3, "tierB": 0, "tierC": 2}

    def test_lists_can_be_trusted_and_it_is_said(self, plain: Path, tmp_path: Path) -> None:
        done = stepladder(
            "data", "build", plain, tmp_path / "out", "--unlisted", "absent", "--top-area", "1", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        found = [row["meta"] for row in rows(tmp_path / "out") if row["meta"]["neg_type"] == "tierB"]
        assert {meta["basis"] for meta in found} == {"unlisted"}
        assert f"{len(found)} negatives rest on lists alone" in done.stderr.replace("\n", " ")
        listed = {
            ("aa", 1): {"10", "20", "30"},
            ("aa", 2): {"40", "50"},
            ("bb", 1): {"10", "20"},
            ("bb", 7): {"10", "60"},
        }
        assert not [m for m in found if m["frameB"] in listed[m["scene"], m["uid"]]]

    def test_tier_a_shows_nothing_of_the_same_label(self, plain: Path, tmp_path: Path) -> None:
        build(plain, tmp_path / "out", Settings(negatives=(1, 0, 0), negative_share=0.8, top_area=1), 1)
        found = [row["meta"] for row in rows(tmp_path / "out") if row["meta"]["is_neg"]]
        chairs = {("aa", "10"), ("aa", "20"), ("bb", "10"), ("bb", "20")}
        assert {(m["scene_b"], m["frameB"]) for m in found if m["label"] == "chair"} == {
            ("aa", "40"),
            ("aa", "50"),
            ("bb", "60"),
        }
        assert {(m["scene_b"], m["frameB"]) for m in found if m["label"] != "chair"} & chairs

    def test_too_few_is_said_and_not_filled_up(self, plain: Path, tmp_path: Path) -> None:
        done = stepladder("data", "build", plain, tmp_path / "out", "--negatives", "0:1:1", cwd=tmp_path)
        assert done.returncode == 0
        assert "warning: tierB: 0 of" in done.stderr
        assert "visibility.json" in done.stderr
        description = json.loads((tmp_path / "out/build.json").read_text("utf-8"))
        assert description["too_few"]["tierB"]["found"] == 0
        assert description["samples"]["tierA"] == 0

    def test_a_mask_below_the_least_area_shows_nothing(self, plain: Path, tmp_path: Path) -> None:
        """The view of bb/1 in frame 20 has 9 pixels: a positive, or with --min-area 10 a negative of tier C."""
        settings = {"negatives": (0, 0, 1), "top_area": 1}
        build(plain, tmp_path / "small", Settings(**settings), 1)
        build(plain, tmp_path / "large", Settings(**settings, min_area=10), 1)
        asked = ("bb", 1, "10", "20")
        for name, is_neg in (("small", False), ("large", True)):
            metas = [row["meta"] for row in rows(tmp_path / name)]
            same = [m for m in metas if (m["scene"], m["uid"], m["frameA"], m["frameB"]) == asked]
            assert [m["is_neg"] for m in same] == [is_neg]

    def test_a_frame_that_the_visibility_file_contradicts_is_no_negative(self, plain: Path, tmp_path: Path) -> None:
        seen = {
            "objects": {"1": "chair"},
            "frames": {"30": {"pixels": {"1": 5}}, "40": {"pixels": {"1": 5}}, "50": {"pixels": {}}},
        }
        (plain / "train/aa/visibility.json").write_text(json.dumps(seen))
        build(plain, tmp_path / "out", Settings(negatives=(0, 1, 1), negative_share=0.9, top_area=1), 1)
        found = {
            (m["neg_type"], m["frameB"], m["basis"])
            for m in (row["meta"] for row in rows(tmp_path / "out"))
            if m["is_neg"] and (m["scene"], m["uid"]) == ("aa", 1)
        }
        assert found == {("tierB", "50", "visibility")}


class TestConcat:
    def test_coordinates_both_ways(self) -> None:
        geometry = SideBySide((40, 30), (21, 11))
        assert geometry.size == (61, 30)
        assert geometry.whole_from_b((0.0, 0.0)) == (40 / 60, 0.0)
        assert geometry.whole_from_b((1.0, 1.0)) == (1.0, 10 / 29)
        # Column 5 and row 3 of B are column 45 and row 3 of the whole.
        assert geometry.whole_from_b((5 / 20, 3 / 10)) == pytest.approx((45 / 60, 3 / 29))
        for point in np.random.default_rng(0).random((50, 2)).tolist():
            assert geometry.b_from_whole(geometry.whole_from_b((point[0], point[1]))) == pytest.approx(point)
        assert geometry.b_from_whole((0.1, 0.5))[0] < 0

    def test_pictures_masks_and_depths_lie_where_the_answer_says(self, rooms: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        build(rooms, out, Settings(concat=True, depth=True), 1)
        build(rooms, tmp_path / "apart", Settings(depth=True), 1)
        apart = {row["id"]: row for row in rows(tmp_path / "apart")}
        for row in rows(out):
            assert (len(row["image"]), len(row["depth"])) == (1, 1)
            other = apart[row["id"]]
            whole, depth = picture(out / row["image"][0]), picture(out / row["depth"][0])
            a, b = (picture(tmp_path / "apart" / name) for name in other["image"])
            depth_a, depth_b = (picture(tmp_path / "apart" / name) for name in other["depth"])
            assert (whole == np.concatenate([a, b], axis=1)).all()
            assert (depth == np.concatenate([depth_a, depth_b], axis=1)).all()
            assert depth.dtype == np.uint16
            if row["meta"]["is_neg"]:
                assert row["meta"]["mask_b"] is None
                continue
            mask = picture(out / row["meta"]["mask_b"]) > 0
            point, expected = answer(row), answer(other)
            assert point is not None
            assert expected is not None
            assert mask[pixel(point, mask)]
            assert mask.sum() == row["meta"]["mask_area"]
            geometry = SideBySide(tuple(row["meta"]["size_a"]), tuple(row["meta"]["size_b"]))
            assert geometry.b_from_whole(point) == pytest.approx(expected, abs=0.002)

    def test_images_of_two_sizes_and_smaller_depth(self) -> None:
        geometry = SideBySide((3, 2), (2, 4))
        whole = geometry.join(np.ones((2, 3), np.uint16), np.full((4, 2), 7, np.uint16))
        assert whole.tolist() == [[1, 1, 1, 7, 7], [1, 1, 1, 7, 7], [0, 0, 0, 7, 7], [0, 0, 0, 7, 7]]
        assert scaled(np.array([[1, 2], [3, 4]]), (4, 2)).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]


class TestSameBytes:
    def test_however_many_workers_and_only_by_the_seed(self, rooms: Path, tmp_path: Path) -> None:
        for name, seed, workers in (("one", 0, 1), ("three", 0, 3), ("other", 1, 1)):
            build(rooms, tmp_path / name, Settings(seed=seed), workers)
        assert tree(tmp_path / "one") == tree(tmp_path / "three")
        assert rows(tmp_path / "one") != rows(tmp_path / "other")

    @pytest.mark.parametrize(("moment", "workers"), [(".unfinished/*.json", 1), ("train/*/*/*", 2)])
    def test_killed_and_gone_on_with(self, rooms: Path, tmp_path: Path, moment: str, workers: int) -> None:
        settings = ["--negative-share", "0.6"]
        clean, out = tmp_path / "clean", tmp_path / "out"
        assert stepladder("data", "build", rooms, clean, *settings, "--workers", "1", cwd=tmp_path).returncode == 0
        argv = [str(STEPLADDER), "data", "build", str(rooms), str(out), *settings, "--workers", str(workers)]
        killed = subprocess.Popen(argv, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        # The second part: the first file there is the mark of the build itself.
        while len(list(out.glob(moment))) < 2:
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        children = psutil.Process(killed.pid).children(recursive=True)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert not (out / "build.json").exists()
        assert psutil.wait_procs(children, timeout=20)[1] == []

        other = stepladder("data", "build", rooms, out, *settings, "--seed", "4", cwd=tmp_path)
        assert other.returncode == 2
        assert "seed 0 (asked for 4)" in other.stderr
        assert stepladder("data", "build", rooms, out, *settings, cwd=tmp_path).returncode == 0
        assert tree(out) == tree(clean)

    def test_a_finished_build_is_left_alone(self, plain: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        description, built = build(plain, out, Settings(), 1)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        assert built
        assert build(plain, out, Settings(), 1) == (description, False)
        assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def test_a_build_whose_samples_were_cut_is_refused(self, plain: Path, tmp_path: Path) -> None:
        samples = tmp_path / "out/samples.jsonl"
        build(plain, tmp_path / "out", Settings(), 1)
        whole = samples.read_bytes()
        for damaged in (whole[:-100], whole.replace(b"0", b"1", 1)):
            samples.write_bytes(damaged)
            with pytest.raises(InputError, match="not as it was built") as error:
                build(plain, tmp_path / "out", Settings(), 1)
            assert error.value.hint == f"delete {tmp_path / 'out'} and build again"
        samples.write_bytes(whole)
        assert not build(plain, tmp_path / "out", Settings(), 1)[1]

    def test_a_layout_that_changed_is_not_gone_on_with(self, plain: Path, tmp_path: Path) -> None:
        build(plain, tmp_path / "out", Settings(), 1)
        os.utime(plain / "train/aa/uid_1/01_10_mask.png", (1, 1))
        with pytest.raises(InputError, match="has changed since"):
            build(plain, tmp_path / "out", Settings(), 1)

    def test_nothing_is_written_to_the_layout(self, plain: Path, tmp_path: Path) -> None:
        before = tree(plain)
        build(plain, tmp_path / "out", Settings(inpainted=True), 1)
        assert tree(plain) == before

    def test_every_named_file_lies_in_the_folder(self, plain: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        build(plain, out, Settings(inpainted=True), 1)
        shutil.rmtree(plain)
        for row in rows(out):
            for name in (*row["image"], *([row["meta"]["mask_b"]] if row["meta"]["mask_b"] else [])):
                assert (out / name).is_file()
                assert (out / name).resolve().is_relative_to(out.resolve())


def _cut_json(root: Path) -> str:
    path = next((root / "train/aa/uid_1").glob("*.json"))
    path.write_text(path.read_text()[:200])
    return "aa_uid_1_five_frames.json: object 1: not readable as JSON"


def _edit(root: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    path = next((root / "train/aa/uid_1").glob("*.json"))
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def _missing_mask(root: Path) -> str:
    (root / "train/aa/uid_1/02_20_mask.png").unlink()
    return "02_20_mask.png: view 20 of object 1: missing"


def _other_size(root: Path) -> str:
    Image.new("L", (20, 30), 255).save(root / "train/aa/uid_1/02_20_mask.png")
    return "02_20_mask.png: view 20 of object 1: is 20 x 30 pixels, expected 40 x 30"


def _broken_png(root: Path) -> str:
    path = root / "train/aa/uid_1/02_20_original.png"
    path.write_bytes(path.read_bytes()[:300])
    return "02_20_original.png: view 20 of object 1: cannot be decoded"


def _leaving(root: Path) -> str:
    (root.parent / "secret.png").write_bytes((root / "train/aa/uid_1/01_10_original.png").read_bytes())
    _edit(root, lambda entries: entries[0].update(original="../../../../secret.png"))
    return "names '../../../../secret.png', which lies outside the data's folder"


def _absolute(root: Path) -> str:
    _edit(root, lambda entries: entries[0].update(mask=str(root / "train/aa/uid_1/01_10_mask.png")))
    return "which lies outside the data's folder"


def _link_out(root: Path) -> str:
    (root.parent / "secret.png").write_bytes((root / "train/aa/uid_1/01_10_original.png").read_bytes())
    (root / "train/aa/uid_1/01_10_original.png").unlink()
    (root / "train/aa/uid_1/01_10_original.png").symlink_to(root.parent / "secret.png")
    return "01_10_original.png: view 10 of object 1: is a link that leads out of the data's folder"


def _one_view(root: Path) -> str:
    _edit(root, lambda entries: entries.__delitem__(slice(1, None)))
    return "object 1: has 1 usable of 1 listed views, expected at least 2"


def _twice(root: Path) -> str:
    _edit(root, lambda entries: entries[1].update(frame_id="10"))
    return "object 1: lists frame 10 more than once"


def _wrong_scene(root: Path) -> str:
    _edit(root, lambda entries: entries[0].update(scene_id="zz"))
    return "found scene_id 'zz', expected 'aa'"


def _no_size(root: Path) -> str:
    _edit(root, lambda entries: entries[0].update(img_w="wide"))
    return "entry 0: found img_w 'wide', expected a number of pixels"


def _no_listing(root: Path) -> str:
    next((root / "train/aa/uid_1").glob("*.json")).unlink()
    return "aa_uid_1_five_frames.json: object 1: missing"


def _bad_visibility(root: Path) -> str:
    (root / "train/aa/visibility.json").write_text(
        '{"objects": {"1": "chair"}, "frames": {"10": {"pixels": {"9": 1}}}}'
    )
    return "visibility.json says of its scene: a frame names object 9"


DAMAGES = [
    _cut_json,
    _missing_mask,
    _other_size,
    _broken_png,
    _leaving,
    _absolute,
    _link_out,
    _one_view,
    _twice,
    _wrong_scene,
    _no_size,
    _no_listing,
    _bad_visibility,
]


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
    def test_is_named_and_refused_or_listed(self, plain: Path, tmp_path: Path, damage: Callable[[Path], str]) -> None:
        expected, out = damage(plain), tmp_path / "out"
        with pytest.raises(InputError) as refused:
            build(plain, out, Settings(), 1)
        assert expected in str(refused.value)
        assert "--on-bad-sample skip" in (refused.value.hint or "")
        assert not out.exists()
        description, _ = build(plain, out, Settings(on_bad_sample="skip", unlisted="absent", negative_share=0.8), 1)
        listed = rows(out, "left_out.jsonl")
        assert description["left_out"] == len(listed) > 0
        assert any(expected in f"{entry['file']}: {entry['what']}: {entry['why']}" for entry in listed)
        assert rows(out)
        # A view that cannot be read may show the object: it is no negative of it.
        unread = {entry["what"] for entry in listed}
        for meta in (row["meta"] for row in rows(out)):
            assert f"view {meta['frameB']} of object {meta['uid']}" not in unread or meta["scene"] != meta["scene_b"]
            assert f"object {meta['uid']}" not in unread or meta["scene"] != "aa"

    def test_a_view_that_cannot_be_read_is_no_negative_where_another_object_has_its_frame(
        self, plain: Path, tmp_path: Path
    ) -> None:
        write_object(plain, "aa", 3, {"10": box(20, 30), "20": box(20, 2), "30": box(20, 30)}, "sofa")
        _missing_mask(plain)
        settings = Settings(on_bad_sample="skip", unlisted="absent", negatives=(0, 1, 1), negative_share=0.9)
        build(plain, tmp_path / "out", settings, 1)
        negatives = [row["meta"] for row in rows(tmp_path / "out") if row["meta"]["is_neg"]]
        assert "20" in {meta["frameB"] for meta in negatives if (meta["scene"], meta["uid"]) == ("aa", 2)}
        assert "20" not in {meta["frameB"] for meta in negatives if (meta["scene"], meta["uid"]) == ("aa", 1)}

    def test_a_missing_depth_matters_only_with_depth(self, plain: Path, tmp_path: Path) -> None:
        build(plain, tmp_path / "out", Settings(), 1)
        with pytest.raises(InputError, match=r"_depth.png: view 10 of object 1: missing"):
            build(plain, tmp_path / "deep", Settings(depth=True), 1)

    def test_the_command_ends_in_one_hint(self, plain: Path, tmp_path: Path) -> None:
        _missing_mask(plain)
        done = stepladder("data", "build", plain, tmp_path / "out", "--workers", "2", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("hint: repair the files")
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"split": "trian"}, "no such folder"),
            ({"split": "../plain"}, "expected the name of a folder"),
            ({"negatives": (0, 0, 0)}, "expected three numbers from 0"),
            ({"negatives": (math.nan, 1, 1)}, "expected three numbers from 0"),
            ({"negative_share": 1}, "expected at least 0 and less than 1"),
            ({"top_area": 0}, "expected more than 0"),
            ({"min_area": 0}, "expected at least 1"),
            ({"point_rule": "middle"}, "expected farthest or center"),
            ({"unlisted": "maybe"}, "expected unknown or absent"),
            ({"seed": -1}, "expected 0 or more"),
            ({"inpainted": True, "depth": True}, "depth pictures still show the object"),
        ],
    )
    def test_bad_settings(self, plain: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            build(plain, tmp_path / "out", Settings(**options), 1)
        assert not (tmp_path / "out").exists()

    def test_bad_options(self, plain: Path, tmp_path: Path) -> None:
        options = ["--negative-share", "2", "--top-area", "0"]
        done = stepladder("data", "build", plain, tmp_path / "out", *options, cwd=tmp_path)
        assert done.returncode == 2
        assert "--negative-share: found 2" in done.stderr
        assert "--top-area: found 0" in done.stderr
        assert "Traceback" not in done.stderr
        with pytest.raises(InputError, match="expected A:B:C"):
            parse_ratio("2:1")
        assert parse_ratio("2:1:0.5") == (2.0, 1.0, 0.5)

    def test_folders_that_cannot_be_used(self, plain: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/notes.txt").write_text("mine")
        with pytest.raises(InputError, match="not a build"):
            build(plain, tmp_path / "mine", Settings(), 1)
        assert (tmp_path / "mine/notes.txt").read_text() == "mine"
        with pytest.raises(InputError, match="one folder within the other"):
            build(plain, plain / "out", Settings(), 1)
        with pytest.raises(InputError, match="no such folder"):
            build(tmp_path / "nowhere", tmp_path / "out", Settings(), 1)
        with pytest.raises(InputError, match="no such folder") as error:
            build(plain / "train", tmp_path / "out", Settings(), 1)
        assert "ROOT is the folder above the split" in str(error.value.hint)
        (tmp_path / "empty/train").mkdir(parents=True)
        with pytest.raises(InputError, match="no scene with objects"):
            build(tmp_path / "empty", tmp_path / "out", Settings(), 1)
