"""The rendered rooms: the pictures are true, the samples are honest, the build is repeatable."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stepladder.data.build.marking import MARK_COLOR, dilate
from stepladder.data.build.pairs import take_turns
from stepladder.data.build.points import bounding_box, edge_distance, find_point
from stepladder.data.build.scene import TIERS
from stepladder.data.rooms import build as building
from stepladder.data.rooms.__main__ import main
from stepladder.data.rooms.build import build
from stepladder.data.rooms.camera import Camera
from stepladder.data.rooms.layout import TOWARDS
from stepladder.data.rooms.render import Shot, render, render_without
from stepladder.data.rooms.room import Room
from stepladder.data.rooms.scene import Item, Scene, make_cameras, make_scene
from stepladder.data.rooms.settings import RoomsError, Settings
from stepladder.data.rooms.shapes import Box, Cylinder, Shape, Sphere

WIDTH, HEIGHT = 160, 90
SMALL = Settings(scenes=6, seed=3, width=128, height=72)
GREY = (0.5, 0.5, 0.5)
ROOM = Room((6.0, 6.0, 2.7), (GREY, GREY), (GREY, GREY, GREY, GREY))
FILES = ("pos_only.jsonl", "pos_tierA.jsonl", "all.jsonl", "eval.jsonl")
VIEW_KEYS = ["scene_id", "uid", "frame_id", "label", "img_w", "img_h", "x0", "y0", "x1", "y1"]
VIEW_KEYS += ["cx_norm", "cy_norm", "original", "inpainted", "mask"]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def picture(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.array(image)


def answer(row: dict[str, Any]) -> str:
    return row["conversations"][1]["value"]


def drawn(index: int) -> tuple[Scene, list[Camera], list[Shot]]:
    rng = np.random.default_rng([7, index])
    scene = make_scene(rng)
    cameras = make_cameras(rng, scene)
    return scene, cameras, [render(scene, camera, WIDTH, HEIGHT) for camera in cameras]


@pytest.fixture(scope="module", params=range(3))
def filmed(request: pytest.FixtureRequest) -> tuple[Scene, list[Camera], list[Shot]]:
    return drawn(request.param)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "rooms"
    build(out, SMALL)
    return out


class TestRayCaster:
    camera = Camera((1.0, 3.0, 1.5), (5.0, 3.0, 0.5), math.radians(60))

    def scene(self, *shapes: Shape) -> Scene:
        return Scene(ROOM, tuple(Item(uid, f"object {uid}", shape, GREY) for uid, shape in enumerate(shapes, 1)))

    def test_what_stands_behind_is_hidden(self) -> None:
        ball = Sphere((4.5, 3.0, 0.0), 0.3)
        alone = render(self.scene(ball), self.camera, WIDTH, HEIGHT).mask(1)
        half = render(self.scene(ball, Box((3.5, 3.5, 0.0), (0.2, 1.0, 2.0), 0.0)), self.camera, WIDTH, HEIGHT).mask(1)
        whole = render(self.scene(ball, Box((3.5, 3.0, 0.0), (0.2, 2.0, 2.0), 0.0)), self.camera, WIDTH, HEIGHT).mask(1)
        assert alone.sum() > 100
        assert not (half & ~alone).any()
        assert 0.4 < half.sum() / alone.sum() < 0.6
        assert whole.sum() == 0

    def test_what_stands_in_front_hides_nothing_of_itself(self) -> None:
        ball, wall = Sphere((2.5, 3.0, 0.0), 0.3), Box((4.5, 3.0, 0.0), (0.2, 2.0, 2.0), 0.0)
        alone = render(self.scene(ball), self.camera, WIDTH, HEIGHT).mask(1)
        both = render(self.scene(ball, wall), self.camera, WIDTH, HEIGHT).mask(1)
        assert alone.any()
        assert (alone == both).all()

    @pytest.mark.parametrize(
        ("shape", "inside"),
        [
            (Sphere((4.0, 3.0, 0.2), 0.5), lambda p: np.linalg.norm(p - (4.0, 3.0, 0.7), axis=1) <= 0.5),
            (
                Cylinder((4.0, 3.0, 0.1), 0.4, 0.8),
                lambda p: (np.hypot(p[:, 0] - 4, p[:, 1] - 3) <= 0.4) & (p[:, 2] >= 0.1) & (p[:, 2] <= 0.9),
            ),
            (
                Box((4.0, 3.0, 0.1), (0.6, 0.8, 0.5), math.pi / 4),
                lambda p: (
                    (np.abs(p[:, 0] - 4 + p[:, 1] - 3) <= 0.6 / 2 * math.sqrt(2))
                    & (np.abs(p[:, 1] - 3 - p[:, 0] + 4) <= 0.8 / 2 * math.sqrt(2))
                    & (p[:, 2] >= 0.1)
                    & (p[:, 2] <= 0.6)
                ),
            ),
        ],
        ids=["sphere", "cylinder", "box"],
    )
    def test_distances_agree_with_marching_along_the_ray(self, shape: Shape, inside: Any) -> None:
        origin, rays = self.camera.position, self.camera.rays(48, 27)
        step, marched = 0.005, np.full(len(rays), np.inf)
        for distance in np.arange(0.0, 6.0, step)[::-1]:
            marched[inside(np.array(origin) + distance * rays)] = distance
        exact = shape.distance(origin, rays)
        both = np.isfinite(exact) & np.isfinite(marched)
        assert both.sum() > 20
        # A ray that only grazes the solid may slip between two steps, never the other way round.
        assert not (np.isfinite(marched) & ~np.isfinite(exact)).any()
        assert (np.isfinite(exact) & ~np.isfinite(marched)).sum() <= 3
        assert np.abs(exact[both] - marched[both]).max() <= step + 1e-9

    @pytest.mark.parametrize(
        "shape",
        [Sphere((4.0, 3.0, 0.0), 0.5), Cylinder((4.0, 3.0, 0.0), 0.4, 0.8), Box((4.0, 3.0, 0.0), (0.6, 0.8, 0.5), 0.3)],
        ids=["sphere", "cylinder", "box"],
    )
    def test_visible_surfaces_face_the_camera(self, shape: Shape) -> None:
        rays = self.camera.rays(WIDTH, HEIGHT)
        distance = shape.distance(self.camera.position, rays)
        hit = np.isfinite(distance)
        points = np.array(self.camera.position) + distance[hit, None] * rays[hit]
        normals = shape.normals(points)
        assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(hit.sum()))
        assert (np.einsum("ij,ij->i", normals, rays[hit]) <= 1e-6).all()
        # A step along the normal leaves the solid: coming back meets it after exactly that step.
        back = np.array([shape.distance(tuple(p + 0.1 * n), -n[None])[0] for p, n in zip(points, normals, strict=True)])
        assert back == pytest.approx(np.full(len(back), 0.1))

    def test_camera_projects_what_its_rays_meet(self) -> None:
        rays = self.camera.rays(WIDTH, HEIGHT)
        back = self.camera.project(np.array(self.camera.position) + 2.5 * rays, WIDTH, HEIGHT)
        columns, lines = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        expected = np.stack([columns.ravel(), lines.ravel(), np.full(WIDTH * HEIGHT, 2.5)], axis=-1)
        assert back == pytest.approx(expected, abs=1e-9)

    def test_camera_is_upright_and_not_mirrored(self) -> None:
        camera = Camera((1.0, 3.0, 1.5), (5.0, 3.0, 1.5), 1.0)
        # Looking along x with z up, y points to the left.
        column, row, depth = camera.project(np.array([[4.0, 2.5, 2.0]]), WIDTH, HEIGHT)[0]
        assert column > WIDTH / 2
        assert row < HEIGHT / 2
        assert depth == pytest.approx(3.0)


class TestRooms:
    def test_taking_an_object_away_changes_its_mask_and_nothing_else(self, filmed: Any) -> None:
        scene, cameras, shots = filmed
        for item in scene.items:
            for camera, shot in zip(cameras, shots, strict=True):
                mask = shot.mask(item.uid)
                full = render(scene.without(item.uid), camera, WIDTH, HEIGHT)
                quick = render_without(scene, camera, shot, item.uid)
                for name in ("rgb", "depth", "uids"):
                    assert (getattr(full, name) == getattr(quick, name)).all()
                # What comes to light lies behind the object, in every pixel of the mask.
                assert (full.depth[mask] > shot.depth[mask]).all()
                assert (full.depth[~mask] == shot.depth[~mask]).all()
                assert (full.rgb[~mask] == shot.rgb[~mask]).all()

    def test_a_surface_point_is_where_another_camera_sees_it_or_is_hidden_there(self, filmed: Any) -> None:
        _, cameras, shots = filmed
        found = hidden = 0
        for a, (camera_a, shot_a) in enumerate(zip(cameras, shots, strict=True)):
            points = np.array(camera_a.position) + shot_a.depth.ravel()[:, None] * camera_a.rays(WIDTH, HEIGHT)
            camera_b, shot_b = cameras[a - 1], shots[a - 1]
            column, row, depth = camera_b.project(points, WIDTH, HEIGHT).T
            shown = (depth > 0) & (np.abs(column - (WIDTH - 1) / 2) < WIDTH / 2 - 2)
            shown &= np.abs(row - (HEIGHT - 1) / 2) < HEIGHT / 2 - 2
            on_object = shown & (shot_a.uids.ravel() > 0)
            for n in np.flatnonzero(on_object)[::5]:
                x, y = round(column[n]), round(row[n])
                around = np.s_[y - 1 : y + 2, x - 1 : x + 2]
                if (shot_b.uids[around] == shot_a.uids.ravel()[n]).any() and shot_b.depth[around].max() > depth[
                    n
                ] - 0.1:
                    found += 1
                else:
                    # Not within a pixel of its object: then something nearer stands in between.
                    hidden += 1
                    assert shot_b.depth[around].min() < depth[n]
        assert found > 200
        assert hidden > 20

    def test_objects_stand_in_the_room_apart_and_can_be_told_apart(self) -> None:
        for index in range(30):
            scene = make_scene(np.random.default_rng([11, index]))
            assert [item.uid for item in scene.items] == list(range(1, len(scene.items) + 1))
            assert len({item.label for item in scene.items}) == len(scene.items)
            for n, item in enumerate(scene.items):
                x, y, z = item.shape.base
                assert item.shape.reach <= x <= scene.room.size[0] - item.shape.reach
                assert item.shape.reach <= y <= scene.room.size[1] - item.shape.reach
                for other in scene.items[:n]:
                    apart = math.dist((x, y), other.shape.base[:2]) >= item.shape.reach + other.shape.reach
                    on_top = other.label == "table" and z == pytest.approx(other.shape.height)
                    assert apart or on_top

    def test_cameras_keep_clear_of_objects(self) -> None:
        for index in range(30):
            rng = np.random.default_rng([11, index])
            scene = make_scene(rng)
            for camera in make_cameras(rng, scene):
                x, y, z = camera.position
                assert 0 < x < scene.room.size[0]
                assert 0 < y < scene.room.size[1]
                assert 1 < z < 2
                assert all(math.dist((x, y), i.shape.base[:2]) > i.shape.reach + 0.5 for i in scene.items)


class TestPoints:
    def masks(self) -> list[np.ndarray[Any, Any]]:
        rng = np.random.default_rng(5)
        lines, columns = np.mgrid[:24, :31]
        ring = np.abs(np.hypot(lines - 11, columns - 15) - 8) < 2
        touching = columns < 9
        return [rng.random((24, 31)) < share for share in (0.2, 0.8, 0.97)] + [ring, touching, np.ones((5, 40), bool)]

    def test_edge_distance_equals_brute_force(self) -> None:
        for mask in self.masks():
            padded = np.pad(mask, 1)
            outside = np.argwhere(~padded) - 1
            expected = np.zeros(mask.shape)
            for line, column in np.argwhere(mask):
                expected[line, column] = np.sqrt(((outside - (line, column)) ** 2).sum(axis=1).min())
            assert edge_distance(mask) == pytest.approx(expected, abs=1e-12)

    def test_farthest_point_has_the_greatest_distance(self) -> None:
        for mask in self.masks():
            column, line = find_point(mask, "farthest", np.random.default_rng(0))
            assert mask[line, column]
            assert edge_distance(mask)[line, column] == edge_distance(mask).max()

    def test_center_is_the_middle_of_the_box_or_else_a_random_mask_pixel(self) -> None:
        *_, ring, touching, _ = self.masks()
        assert find_point(touching, "center", np.random.default_rng(0)) == (4, 11)
        drawn_points = {find_point(ring, "center", np.random.default_rng(seed)) for seed in range(8)}
        assert len(drawn_points) > 1
        assert all(ring[line, column] for column, line in drawn_points)
        assert find_point(ring, "center", np.random.default_rng(1)) == find_point(
            ring, "center", np.random.default_rng(1)
        )

    def test_dilation_equals_brute_force(self) -> None:
        for mask in self.masks():
            expected = np.zeros_like(mask)
            for line, column in np.argwhere(mask):
                expected[max(0, line - 2) : line + 3, max(0, column - 2) : column + 3] = True
            assert (dilate(mask, 2) == expected).all()


class TestLayout:
    def test_every_view_has_its_files_and_no_others(self, data: Path) -> None:
        folders = sorted(data.glob("*/*/uid_*"))
        assert {folder.parts[-3] for folder in folders} == {"train", "eval"}
        for folder in folders:
            description = folder / f"{folder.parent.name}_uid_{folder.name.removeprefix('uid_')}_five_frames.json"
            views = json.loads(description.read_text("utf-8"))
            assert 2 <= len(views) <= 5
            names = {description.name}
            for rank, view in enumerate(views, 1):
                stem = f"{rank:02d}_{view['frame_id']}"
                kinds = ("original", "inpainted", "mask", "mask_dialated", "depth", "marked")
                names |= {f"{stem}_{kind}.png" for kind in kinds}
            assert {path.name for path in folder.iterdir()} == names

    def test_descriptions_have_the_keys_and_the_values_of_the_masks(self, data: Path) -> None:
        for path in data.glob("*/*/uid_*/*_five_frames.json"):
            for rank, view in enumerate(json.loads(path.read_text("utf-8")), 1):
                assert list(view) == VIEW_KEYS
                mask = picture(path.parent / view["mask"])
                assert set(np.unique(mask)) == {0, 255}
                assert (view["img_h"], view["img_w"]) == mask.shape == (SMALL.height, SMALL.width)
                assert (view["x0"], view["y0"], view["x1"], view["y1"]) == bounding_box(mask > 0)
                assert view["cx_norm"] == pytest.approx((view["x0"] + view["x1"]) / 2 / (SMALL.width - 1), abs=1e-6)
                assert view["cy_norm"] == pytest.approx((view["y0"] + view["y1"]) / 2 / (SMALL.height - 1), abs=1e-6)
                assert view["original"] == f"{rank:02d}_{view['frame_id']}_original.png"
                assert (view["scene_id"], f"uid_{view['uid']}") == (path.parts[-3], path.parts[-2])

    def test_pictures_of_a_view_agree(self, data: Path) -> None:
        changes = []
        for mask_path in data.glob("*/*/uid_*/*_mask.png"):
            stem = str(mask_path).removesuffix("_mask.png")
            mask, wide = picture(mask_path) > 0, picture(Path(f"{stem}_mask_dialated.png")) > 0
            original, inpainted = picture(Path(f"{stem}_original.png")), picture(Path(f"{stem}_inpainted.png"))
            changed = (original != inpainted).any(axis=-1)
            assert not (changed & ~mask).any()
            changes += changed[mask].tolist()
            assert (wide | ~mask).all()
            assert wide.sum() > mask.sum()
            marked = picture(Path(f"{stem}_marked.png"))
            outline = (marked == MARK_COLOR).all(axis=-1)
            assert outline.sum() > 10
            assert not (outline & mask).any()
            assert (marked[~outline] == original[~outline]).all()
            assert not (original == MARK_COLOR).all(axis=-1).any()
        # A few pixels stay as they were: another object of the same colour stands behind.
        assert np.mean(changes) > 0.99

    def test_depth_is_in_millimetres(self, data: Path) -> None:
        for path in data.glob("*/*/uid_*/*_depth.png"):
            depth = picture(path)
            assert depth.dtype == np.uint16
            assert depth.min() > 200
            # No room is longer than 7 m, or about 10.2 m from corner to corner.
            assert 2000 < depth.max() < 10300


class TestSamples:
    @pytest.mark.parametrize("name", FILES)
    def test_shape_of_a_sample(self, data: Path, name: str) -> None:
        for row in rows(data / name):
            assert list(row) == ["id", "image", "depth", "conversations", "meta"]
            assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
            assert "<image>" not in json.dumps(row)
            for path in row["image"] + row["depth"]:
                assert (data / path).is_file()
                assert picture(data / path).shape[:2] == (SMALL.height, SMALL.width)
            a, b = row["image"]
            assert a.endswith(f"_{row['meta']['frameA']}_marked.png")
            assert row["depth"][0] == a.replace("_marked", "_depth")
            assert row["depth"][1] == b.replace("_original", "_depth")
            assert f"/{row['meta']['scene']}/uid_{row['meta']['uid']}/" in a
            assert f"{row['meta']['frameB']}_original.png" in b
            assert f"/{row['meta']['scene_b']}/" in b

    @pytest.mark.parametrize("rule", ["farthest", "center"])
    def test_answers_are_points_on_the_mask(self, data: Path, tmp_path: Path, rule: str) -> None:
        if rule != SMALL.point_rule:
            data = tmp_path / "rooms"
            build(data, replace(SMALL, point_rule=rule))
        positives = [row for name in FILES for row in rows(data / name) if not row["meta"]["is_neg"]]
        assert positives
        for row in positives:
            match = re.fullmatch(r"\[\((0\.\d{3}|1\.000), (0\.\d{3}|1\.000)\)\]", answer(row))
            assert match is not None
            mask = picture(data / row["meta"]["mask_b"]) > 0
            column, line = float(match[1]) * (SMALL.width - 1), float(match[2]) * (SMALL.height - 1)
            assert mask[round(line), round(column)]
            assert row["meta"]["mask_area"] == mask.sum()
            assert row["meta"]["point_rule"] == rule
            assert row["meta"]["mask_b"] == row["image"][1].replace("_original", "_mask")
            if rule == "farthest":
                assert (round(column), round(line)) == find_point(mask, rule, np.random.default_rng(0))

    def test_negatives_show_nothing_of_the_object(self, data: Path) -> None:
        """Decided by rendering again: nothing that the build recorded is trusted."""
        scenes = json.loads((data / "dataset.json").read_text("utf-8"))["scenes"]
        index = {scene: n for n, scene in enumerate(scenes["train"] + scenes["eval"])}
        seen = Counter()
        for row in rows(data / "all.jsonl") + rows(data / "eval.jsonl"):
            meta = row["meta"]
            if not meta["is_neg"]:
                assert meta["neg_type"] is None
                assert meta["scene"] == meta["scene_b"]
                continue
            seen[meta["neg_type"]] += 1
            assert (answer(row), meta["mask_area"], meta["mask_b"]) == ("NOT_VISIBLE", 0, None)
            rng = np.random.default_rng([SMALL.seed, index[meta["scene_b"]]])
            scene = make_scene(rng)
            camera = make_cameras(rng, scene)[int(meta["frameB"]) // 10]
            shot = render(scene, camera, SMALL.width, SMALL.height)
            assert (shot.rgb == picture(data / row["image"][1])).all()
            seen_labels = {item.label for item in scene.items if shot.mask(item.uid).any()}
            assert meta["label"] not in seen_labels
            if meta["neg_type"] == "tierA":
                assert meta["scene"] != meta["scene_b"]
                continue
            assert meta["scene"] == meta["scene_b"]
            item = next(item for item in scene.items if item.uid == meta["uid"])
            assert item.label == meta["label"]
            assert (camera.bearing(item.center) < TOWARDS) == (meta["neg_type"] == "tierC")
            if meta["neg_type"] == "tierB":
                assert re.search(rf"/uid_(?!{meta['uid']}/)", row["image"][1])
        assert set(seen) == set(TIERS)

    def test_mixtures_nest_and_say_what_they_are(self, data: Path) -> None:
        ids = {name: [row["id"] for row in rows(data / name)] for name in FILES}
        kinds = {name: {row["meta"]["neg_type"] for row in rows(data / name)} for name in FILES}
        assert kinds["pos_only.jsonl"] == {None}
        assert kinds["pos_tierA.jsonl"] == {None, "tierA"}
        assert kinds["all.jsonl"] == kinds["eval.jsonl"] == {None, *TIERS}
        assert set(ids["pos_only.jsonl"]) < set(ids["pos_tierA.jsonl"]) < set(ids["all.jsonl"])
        assert all(len(set(found)) == len(found) for found in ids.values())
        counts = json.loads((data / "dataset.json").read_text("utf-8"))["samples"]
        assert counts == {name: len(found) for name, found in ids.items()}

    def test_held_out_scenes_never_occur_in_training(self, data: Path) -> None:
        def pictures(name: str) -> set[bytes]:
            return {(data / path).read_bytes() for row in rows(data / name) for path in row["image"]}

        def scenes(name: str) -> set[str]:
            return {row["meta"][key] for row in rows(data / name) for key in ("scene", "scene_b")}

        assert not scenes("all.jsonl") & scenes("eval.jsonl")
        assert not pictures("all.jsonl") & pictures("eval.jsonl")
        evaluation = rows(data / "eval.jsonl")
        assert Counter(row["meta"]["is_neg"] for row in evaluation) == {False: 20, True: 20}
        assert Counter(row["meta"]["neg_type"] for row in evaluation) == {None: 20, "tierA": 7, "tierB": 7, "tierC": 6}

    def test_defaults_feed_the_demo(self, tmp_path: Path) -> None:
        """40, 60 and 100 steps of batch 4 see no sample twice. Smaller images: the counts hardly depend on the size."""
        assert Settings().width * 9 == Settings().height * 16
        description, _ = build(tmp_path / "rooms", replace(Settings(), width=64, height=36))
        assert description["samples"]["pos_only.jsonl"] >= 40 * 4
        assert description["samples"]["pos_tierA.jsonl"] >= 60 * 4
        assert description["samples"]["all.jsonl"] >= 100 * 4

    def test_round_robin_takes_turns(self) -> None:
        assert take_turns(np.array([1, 1, 1, 2, 2, 3])).tolist() == [0, 3, 5, 1, 4, 2]


class TestBuild:
    def test_same_seed_same_bytes_other_seed_other_data(self, data: Path, tmp_path: Path) -> None:
        again, other = tmp_path / "again", tmp_path / "other"
        build(again, SMALL)
        build(other, replace(SMALL, seed=4))
        files = sorted(path.relative_to(data) for path in data.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
        assert all((data / path).read_bytes() == (again / path).read_bytes() for path in files)
        assert (data / "all.jsonl").read_bytes() != (other / "all.jsonl").read_bytes()

    def test_second_call_changes_nothing_and_says_so(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
        options = ["--scenes", "6", "--seed", "3", "--width", "128", "--height", "72"]
        assert main([str(data), *options]) == 0
        assert "already built" in capsys.readouterr().err
        assert before == {path: path.stat().st_mtime_ns for path in data.rglob("*")}

    def test_other_settings_over_a_data_set_are_refused(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(data), "--scenes", "6", "--seed", "9", "--width", "128", "--height", "72"]) == 2
        error = capsys.readouterr().err
        assert "seed 3 (asked for 9)" in error
        assert error.splitlines()[-1].startswith("hint: ")

    def test_a_folder_with_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(RoomsError, match="not a rooms data set"):
            build(tmp_path, SMALL)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_an_interrupted_build_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The interruption arrives where it hurts most: everything written but the description."""

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(building.samples, "write_samples", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "rooms", replace(SMALL, scenes=4))
        assert list(tmp_path.iterdir()) == []

    def test_a_data_set_that_lost_its_description_does_not_look_complete(self, data: Path, tmp_path: Path) -> None:
        copy = tmp_path / "rooms"
        shutil.copytree(data, copy)
        (copy / "dataset.json").unlink()
        with pytest.raises(RoomsError, match="not a rooms data set"):
            build(copy, SMALL)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--scenes", "2"], "scenes is 2"),
            (["--width", "8"], "width is 8 pixels"),
            (["--seed", "-1"], "seed is -1"),
        ],
    )
    def test_bad_settings_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
    ) -> None:
        assert main([str(tmp_path / "rooms"), *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "hint: " in error
        assert list(tmp_path.iterdir()) == []

    def test_the_command_runs_without_torch(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file")
        code = (
            "import sys; from stepladder.data.rooms.__main__ import main; code = main(sys.argv[1:]); "
            "assert 'torch' not in sys.modules; sys.exit(code)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "taken" / "rooms"), "--scenes", "4"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("hint: ")
