"""`stepladder data show`: figures that hold, and a sheet that shows what is there and obeys nothing in it."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pointing_data import write_pointing_data
from stepladder.data.record import read_record
from stepladder.data.show import figures
from stepladder.data.show.drawing import LINE, mark, picture
from stepladder.data.show.sheet import Placed, render
from support import stepladder

Row = dict[str, Any]

EVIL = "</p><script>alert('x')</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would make of a page: tags, their attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def images(self) -> list[Image.Image]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        head = "data:image/jpeg;base64,"
        assert all(source.startswith(head) for source in sources)
        return [Image.open(io.BytesIO(base64.b64decode(source.removeprefix(head)))) for source in sources]


def rows_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def placed(row: Row, folder: Path, position: int = 0) -> Placed:
    return Placed(position, "1 pairs", row["id"], f"pairs.jsonl:{position + 1}", read_record(row), folder)


def sheet_of(rows: list[Row], folder: Path) -> Page:
    return Page(render("Stage one: all", [("samples", "many")], [placed(row, folder, i) for i, row in enumerate(rows)]))


def line_pixels(image: Image.Image) -> list[tuple[int, int]]:
    """Pixels about as yellow as a drawn line, JPEG's losses allowed for."""
    return [
        (x, y)
        for y in range(image.height)
        for x in range(image.width)
        if max(abs(a - b) for a, b in zip(image.getpixel((x, y)), LINE, strict=True)) < 60
    ]


def middle_of(pixels: list[tuple[int, int]]) -> list[float]:
    return [(min(values) + max(values)) / 2 for values in zip(*pixels, strict=True)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pointing_data(tmp_path_factory.mktemp("show") / "files")


def test_the_sheet_has_every_image_and_text(data: Path) -> None:
    rows = rows_of(data)[:4]
    page = sheet_of(rows, data.parent)
    assert (page.count("article"), page.count("figure"), page.count("img")) == (4, 8, 8)
    assert page.open == []
    words = "".join(page.text)
    for row in rows:
        assert row["id"] in words
        assert row["conversations"][0]["value"] in words
        assert row["conversations"][1]["value"] in words
    assert "pairs.jsonl:3" in words
    assert "NOT_VISIBLE" in page.text  # the badge by itself


def test_the_cross_is_on_the_object_of_the_last_image_alone(data: Path) -> None:
    positive, negative = rows_of(data)[:2]
    image_a, image_b, *of_negative = sheet_of([positive, negative], data.parent).images()
    assert [line_pixels(image) for image in (image_a, *of_negative)] == [[], [], []]
    drawn = line_pixels(image_b)
    middle = middle_of(drawn)
    with Image.open(data.parent / positive["meta"]["mask_b"]) as mask:
        assert mask.getpixel((round(middle[0]), round(middle[1]))) == 255
    x, y = json.loads(positive["conversations"][1]["value"].replace("(", "[").replace(")", "]"))[0]
    assert middle == pytest.approx([x * (image_b.width - 1), y * (image_b.height - 1)], abs=1.5)


def test_the_cross_is_on_the_object_of_an_image_that_is_scaled_down(tmp_path: Path) -> None:
    row = rows_of(write_pointing_data(tmp_path / "files", count=1, size=(960, 540)))[0]
    _, image = sheet_of([row], tmp_path / "files").images()
    assert image.size == (480, 270)
    x, y = middle_of(line_pixels(image))
    with Image.open(tmp_path / "files" / row["meta"]["mask_b"]) as mask:
        assert mask.getpixel((round(2 * x), round(2 * y))) == 255


@pytest.mark.parametrize("point", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.0)])
def test_points_at_the_edge_can_be_drawn(point: tuple[float, float]) -> None:
    image = Image.new("RGB", (60, 40))
    mark(image, point)
    assert image.getbbox() is not None


def test_what_a_sample_says_is_text_and_nothing_else(data: Path) -> None:
    row = rows_of(data)[0]
    row["id"] = row["conversations"][0]["value"] = EVIL
    row["conversations"][1]["value"] = EVIL
    row["meta"] = {EVIL: EVIL, "other": [EVIL]}
    row["image"] = [f"{EVIL}.png"]
    page = sheet_of([row], data.parent)
    assert {tag for tag, _ in page.tags} & {"script", "img", "a", "iframe", "link"} == set()
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "".join(page.text).count(EVIL) >= 6
    assert page.open == []


def test_the_page_loads_nothing(data: Path) -> None:
    text = render("A title", [], [placed(rows_of(data)[0], data.parent)])
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_plain_text_and_broken_samples_are_shown(data: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    rows: list[Row] = [
        {"id": "story", "text": "Once upon a time. " * 1000},
        {"id": "odd", "conversations": "nothing", "image": 7, "meta": None},
        {"id": "broken", "image": ["broken.png", "gone.png"], "conversations": [{"from": "gpt", "value": "[(2, 0)]"}]},
    ]
    Image.new("RGB", (40, 40)).save(tmp_path.parent / "elsewhere.png")
    rows.append({"id": "outside", "image": "../elsewhere.png", "text": "It shows what lies around."})
    page = sheet_of(rows, tmp_path)
    words = "".join(page.text)
    assert (page.count("article"), page.count("figure"), page.count("img")) == (4, 3, 0)
    assert "more characters" in words
    assert words.count("no such file in the dataset's folder") == 2
    assert "outside [0, 1]" in words


def test_embedded_images_are_drawn(data: Path) -> None:
    row = rows_of(data)[0]
    contents = [(data.parent / name).read_bytes() for name in row.pop("image")]
    sample = Placed(0, "1 tar", "s0", "x.tar: sample 1", read_record(row), data.parent, contents)
    image_a, image_b = Page(render("t", [], [sample])).images()
    assert line_pixels(image_b)
    assert not line_pixels(image_a)


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 500)).save(tmp_path / "large.png")
    found = picture(str(tmp_path / "large.png"), None)
    assert (found.width, found.height, found.original) == (480, 120, "2000x500")


@pytest.fixture
def curriculum(data: Path, tmp_path: Path) -> Path:
    parts = [
        {"dataset": "pairs", "where": "not meta.is_neg", "weight": 3},
        {"dataset": "pairs", "where": "meta.is_neg", "weight": 1},
    ]
    document = {
        "name": "shown",
        "model_name_or_path": "new",
        "output_dir": "run",
        "args": {"use_cpu": True, "learning_rate": 1e-3, "per_device_train_batch_size": 2},
        "data": {
            "cache": str(tmp_path / "cache"),
            "datasets": {"pairs": {"path": str(data), "tiers": {"by": "characters", "at": [0.5]}}},
            "mixtures": {"mixed": parts},
        },
        "handover": {"data": "continue"},
        "stages": [{"name": "one", "steps": 3, "data": "mixed"}, {"name": "two", "steps": 2, "data": "mixed"}],
    }
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_the_command(curriculum: Path, tmp_path: Path) -> None:
    done = stepladder(
        "data", "show", curriculum, "--stage", "two", "--out", "out/s.html", "--samples", "4", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["1", "pairs", "not", "meta.is_neg", "6", "1", "75.0%", "shuffled"] in words
    assert ["meta.neg_type", "tierA", "6", "25.0%"] in words
    assert ["meta.is_neg", "false", "6", "75.0%"] in words
    tiers = [line for line in words if line[:1] == ["tier"]]
    assert [line[1] for line in tiers] == ["0", "1"]
    assert sum(int(line[2]) for line in tiers) == 12
    # The stage goes on where the one before ended, after three steps of two samples.
    shown = [int(line[-1]) for line in words if line[:2] == ["1", "pairs"] and line[-1].isdigit()]
    assert min(shown) >= 6
    page = Page((tmp_path / "out/s.html").read_text("utf-8"))
    assert (page.count("article"), page.count("figure")) == (4, 8)
    assert [text for text in page.text if text.startswith("position ")] == [
        f"position {number}" for number in range(6, 10)
    ]
    assert not (tmp_path / "run").exists()


def test_a_stage_that_is_not_there(curriculum: Path, tmp_path: Path) -> None:
    done = stepladder("data", "show", curriculum, "--stage", "tow", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean" in done.stderr
    (tmp_path / "file").touch()
    done = stepladder("data", "show", curriculum, "--stage", "two", "--out", "file/s.html", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_a_terminal_obeys_nothing_of_a_sample(curriculum: Path, tmp_path: Path) -> None:
    """Ids, answers and folders with escape sequences; lines stay whole where no terminal folds them."""
    folder = tmp_path / ("deep" * 20)
    write_pointing_data(folder)
    rows = rows_of(folder / "pairs.jsonl")
    for row in rows:
        row["id"] += "\x1b]0;title\x07\x1b[2J\u202e"
        row["conversations"][1]["value"] = "\x1b[2J"
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    document = json.loads(curriculum.read_text("utf-8"))
    document["data"]["datasets"]["pairs"]["path"] = str(folder / "pairs.jsonl")
    curriculum.write_text(json.dumps(document), "utf-8")
    done = stepladder("data", "show", curriculum, "--stage", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(char.isprintable() for line in done.stdout.split("\n") for char in line)
    lines = [line.split() for line in done.stdout.splitlines() if r"\x1b]0;title\x07\x1b[2J\u202e" in line]
    assert len(lines) == 10
    places = {f"{folder.name}/pairs.jsonl:{number}" for number in range(1, 13)}
    assert all(line[-2] in places for line in lines)


def test_a_histogram_has_no_empty_bars() -> None:
    characters = np.array([10] * 3 + [500] * 2)
    assert figures.bins(characters) == [figures.Bin(10, 49, 3), figures.Bin(460, 500, 2)]
