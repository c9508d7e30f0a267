"""`stepladder data check`: every kind of fault is found, by name, id and line; where there is none, none is found."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from stepladder.data.check import pixels, report
from stepladder.data.check.finding import KINDS
from stepladder.data.check.report import Report
from stepladder.data.check.run import Options, check
from stepladder.data.check.tokens import padding
from stepladder.data.stages import curriculum_data
from stepladder.trainer import tiny
from support import ROOT, stepladder

Row = dict[str, Any]

SIZE = (96, 54)
COUNT = 24
#: A positive to plant one fault in, and its line.
VICTIM, LINE = 6, 7


def quiet(what: str, total: int) -> Callable[[int], None]:
    return lambda done: None


def sample(number: int, scene: str) -> Row:
    """Every second one a negative."""
    negative, picture = number % 2 == 1, number % COUNT
    names = [f"{scene}/{picture}_{view}.png" for view in "AB"]
    return {
        "id": f"{scene}-{number}",
        "image": names,
        "depth": [name.replace(".png", "_depth.png") for name in names],
        "conversations": [
            {"from": "human", "value": "Point at it in the second image."},
            {"from": "gpt", "value": "NOT_VISIBLE" if negative else f"[(0.{number:03}, 0.377)]"},
        ],
        "meta": {
            "scene": f"{scene}{number % 3}",
            "is_neg": negative,
            "neg_type": "tierA" if negative else None,
            "mask_b": None if negative else f"{scene}/{picture}_mask.png",
            "img_w": SIZE[0],
            "img_h": SIZE[1],
        },
    }


def write(path: Path, rows: list[Row | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of healthy pictures, and of some that are not."""
    folder = tmp_path_factory.mktemp("data") / "files"
    for scene, count in (("train", COUNT), ("held", 6)):
        (folder / scene).mkdir(parents=True)
        for number in range(count):
            for view in "AB":
                colour = (number * 9, 80 if view == "A" else 90, len(scene))  # no two pictures are the same
                Image.new("RGB", SIZE, colour).save(folder / scene / f"{number}_{view}.png")
                Image.new("I;16", SIZE, 1500 + number).save(folder / scene / f"{number}_{view}_depth.png")
            Image.new("L", SIZE, 255).save(folder / scene / f"{number}_mask.png")
    whole = (folder / "train/0_A.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture", "utf-8")
    Image.new("RGB", (SIZE[0], 8)).save(folder / "tiny.png")
    Image.new("RGB", (64, 64)).save(folder / "other.png")
    Image.new("I;16", (48, 27)).save(folder / "small_depth.png")
    Image.new("RGB", SIZE).save(folder.parent / "elsewhere.png")
    (folder / "link.png").symlink_to(folder.parent / "elsewhere.png")
    (folder / "copied.png").write_bytes((folder / "held/4_B.png").read_bytes())
    (folder / "linked.png").hardlink_to(folder / "held/5_B.png")
    return folder


def train_rows(count: int = COUNT) -> list[Any]:
    return [sample(number, "train") for number in range(count)]


def curriculum(files: Path, folder: Path, rows: list[Any], **data: Any) -> Path:
    """One stage that trains on all the rows; `data` changes or adds keys of `data:`."""
    write(files / f"{folder.name}.jsonl", rows)
    if not (files / "held.jsonl").exists():
        write(files / "held.jsonl", [sample(number, "held") for number in range(6)])
    path = folder / "c.yaml"
    document = {
        "name": "checked",
        "model_name_or_path": "new",
        "output_dir": str(folder / "run"),
        "args": {"use_cpu": True, "learning_rate": 1e-3, "per_device_train_batch_size": 2},
        "data": {
            "cache": str(files.parent / "cache"),
            "datasets": {
                "pairs": {"path": str(files / f"{folder.name}.jsonl")},
                "held_out": {"path": str(files / "held.jsonl")},
            },
            "mixtures": {"all": "pairs"},
            "evaluation": ["held_out"],
            **data,
        },
        "stages": [{"name": "one", "steps": 6, "data": "all"}],
    }
    path.write_text(json.dumps(document), "utf-8")
    return path


def checked(path: Path, decoded: int | None = None) -> Report:
    return check(str(path), curriculum_data(str(path), ()), Options(decoded, 10, quiet))


def test_healthy_data_have_no_findings(files: Path, tmp_path: Path) -> None:
    found = checked(curriculum(files, tmp_path, train_rows()))
    assert (found.counts, found.findings, found.ok) == ({}, [], True)
    assert found.checked == (COUNT + 6, COUNT + 6)
    (standing,) = found.stages
    assert (standing.samples, standing.step, standing.epochs, standing.left_out) == (COUNT, 2, 0.5, 0)


def set_answer(text: str) -> Callable[[Row], None]:
    return lambda row: row["conversations"][1].update(value=text)


def set_question(text: str) -> Callable[[Row], None]:
    return lambda row: row["conversations"][0].update(value=text)


def set_image(name: str) -> Callable[[Row], None]:
    return lambda row: row["image"].__setitem__(1, name)


def set_depth(name: str) -> Callable[[Row], None]:
    return lambda row: row["depth"].__setitem__(1, name)


def set_tiny(row: Row) -> None:
    row.update(image=["tiny.png"], depth=["tiny.png"])
    row["meta"].update(img_h=8, mask_b=None)


PLANTED: list[tuple[str, Callable[[Row], None], str]] = [
    ("unreadable", lambda row: row.update(conversations=[]), "[]"),
    ("unreadable", lambda row: row["conversations"].pop(), "user"),
    ("unreadable", set_question("What? <image> <image>"), "2 elsewhere"),
    ("placeholders", set_question("<image> Point at it."), "1 <image>"),
    ("placeholders", set_question("<image><image><image> Point at it."), "3 <image>"),
    ("outside", set_image("../elsewhere.png"), "image ../elsewhere.png"),
    ("outside", set_image("link.png"), "image link.png"),
    ("extra_outside", set_depth("../elsewhere.png"), "depth ../elsewhere.png"),
    ("image_missing", set_image("train/gone.png"), "gone.png"),
    ("image_missing", set_image("train"), "train"),
    ("image_broken", set_image("cut.png"), "cut.png"),
    ("image_broken", set_image("text.png"), "text.png"),
    ("extra_missing", set_depth("gone.png"), "depth"),
    ("extra_missing", lambda row: row["meta"].update(mask_b="gone.png"), "mask"),
    ("extra_broken", set_depth("text.png"), "depth"),
    ("extra_size", set_depth("small_depth.png"), "48x27"),
    ("image_extent", set_tiny, "96x8"),
    ("answer", set_answer("on the left"), "'on the left'"),
    ("answer", set_answer("[(0.4, 0.5), (0.1, 0.2)]"), "[(0.4, 0.5), (0.1, 0.2)]"),
    ("coordinates", set_answer("[(1.2, 0.5)]"), "[(1.2, 0.5)]"),
    ("coordinates", set_answer("[(0.2, -0.5)]"), "[(0.2, -0.5)]"),
    ("is_neg", set_answer("NOT_VISIBLE"), "meta.is_neg false"),
    ("is_neg", lambda row: row["meta"].update(is_neg=True), "meta.is_neg true"),
    ("duplicate_id", lambda row: row.update(id="train-1"), "train-1"),
    ("leak_id", lambda row: row.update(id="held-1"), "held.jsonl:2"),
    ("leak_scene", lambda row: row["meta"].update(scene="held1"), "held1"),
    ("leak_scene", lambda row: row["meta"].update(scene_b="held2"), "held2"),
    ("leak_image", set_image("train/../held/3_A.png"), "held/3_A.png"),
    ("leak_image", set_image("copied.png"), "held/4_B.png"),
    ("leak_image", set_image("linked.png"), "held/5_B.png"),
    ("meta", lambda row: row.update(meta=[]), "meta []"),
]


@pytest.fixture(scope="module")
def planted(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The check of a dataset with every planted fault, each in a positive of its own."""
    rows = train_rows(2 * len(PLANTED))
    for index, (_, plant, _) in enumerate(PLANTED):
        plant(rows[2 * index])
    return checked(curriculum(files, tmp_path_factory.mktemp("planted"), rows))


@pytest.mark.parametrize("index", range(len(PLANTED)), ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(PLANTED)])
def test_a_planted_fault_is_found(planted: Report, index: int) -> None:
    kind, plant, words = PLANTED[index]
    faulty = sample(2 * index, "train")
    plant(faulty)
    (finding,) = [item for item in planted.findings if item.where.endswith(f".jsonl:{2 * index + 1}")]
    assert (finding.kind, finding.severity, finding.id) == (kind, KINDS[kind].severity, faulty["id"])
    assert (finding.stages, finding.dataset) == (("one",), "pairs")
    assert words in finding.found
    assert finding.expected


def test_nothing_else_is_found(planted: Report) -> None:
    assert planted.counts == Counter(kind for kind, *_ in PLANTED)
    assert not planted.ok


def test_samples_are_left_out_only_where_they_are_skipped(files: Path, tmp_path: Path) -> None:
    rows = train_rows()
    set_image("train/gone.png")(rows[VICTIM])
    heads = {}
    for rule in ("refuse", "skip"):
        console = Console(width=200, file=io.StringIO(), record=True)
        console.print(report.report(checked(curriculum(files, tmp_path, rows, on_bad_sample=rule))))
        heads[rule] = console.export_text().strip().splitlines()[0]
    assert ("bad" in heads["refuse"], "left out" in heads["refuse"]) == (True, False)
    assert ("bad" in heads["skip"], "left out" in heads["skip"]) == (False, True)


def test_a_scene_is_told_whatever_its_neighbours_hold(files: Path, tmp_path: Path) -> None:
    """A record whose meta is a list, and scenes that are numbers beside texts, make the columns JSON text."""
    rows = train_rows()
    rows[2]["meta"] = []
    rows[4]["meta"]["scene"] = 7
    rows[VICTIM]["meta"]["scene"] = "held1"
    found = checked(curriculum(files, tmp_path, rows))
    assert [(finding.kind, finding.id) for finding in found.findings] == [
        ("meta", "train-2"),
        ("leak_scene", "train-6"),
    ]
    rows[2] = sample(2, "train")  # now meta is an object everywhere, and its scenes are of two types
    found = checked(curriculum(files, tmp_path, rows))
    assert [(finding.kind, finding.id) for finding in found.findings] == [("leak_scene", "train-6")]


def test_a_dataset_of_bad_answers_is_one_of_the_task_all_the_same(files: Path, tmp_path: Path) -> None:
    rows = train_rows()
    for row in rows[:16]:
        set_answer("[(1.5, 0.5)] .")(row)
        del row["meta"]["is_neg"]
    assert checked(curriculum(files, tmp_path, rows)).counts == {"answer": 16}
    rows = train_rows()
    for row in rows[:16]:
        set_answer("over there")(row)
    assert checked(curriculum(files, tmp_path, rows)).counts == {"answer": 16}


def test_images_of_another_size_than_the_record_says(files: Path, tmp_path: Path) -> None:
    rows = train_rows()
    rows[VICTIM]["meta"].update(img_w=SIZE[0] + 1)
    found = checked(curriculum(files, tmp_path, rows))
    assert found.counts == {"image_size": 2}
    assert {finding.id for finding in found.findings} == {rows[VICTIM]["id"]}


def test_lines_that_are_no_json(files: Path, tmp_path: Path) -> None:
    rows = train_rows()
    rows[VICTIM] = json.dumps(rows[VICTIM])[:40]
    refusing = checked(curriculum(files, tmp_path, rows))
    (finding,) = refusing.findings
    assert (finding.kind, finding.severity) == ("not_json", "error")
    assert finding.where.endswith(f".jsonl:{LINE}")
    skipping = checked(curriculum(files, tmp_path, rows, on_bad_sample="skip"))
    assert [(finding.kind, finding.severity) for finding in skipping.findings] == [("not_json", "warning")]
    assert skipping.ok
    assert skipping.stages[0].left_out == 1


def test_a_summary_says_what_would_be_left_out(files: Path, tmp_path: Path) -> None:
    rows = train_rows()
    set_image("train/gone.png")(rows[2])
    set_image("cut.png")(rows[4])
    set_answer("nonsense")(rows[8])
    found = checked(curriculum(files, tmp_path, rows))
    assert found.stages[0].left_out == 2
    assert found.counts == {"image_missing": 1, "image_broken": 1, "answer": 1}


def test_a_selection_smaller_than_a_batch(files: Path, tmp_path: Path) -> None:
    few = {"mixtures": {"all": [{"dataset": "pairs", "count": 1}]}}
    found = checked(curriculum(files, tmp_path, train_rows(), **few))
    (finding,) = found.findings
    assert (finding.kind, finding.stages, finding.where) == ("small", ("one",), "stage one")
    assert "1 samples in all" in finding.found
    assert found.stages[0].epochs == 6  # a step each


def test_the_same_sample_through_two_parts(files: Path, tmp_path: Path) -> None:
    parts = [{"dataset": "pairs", "where": "meta.is_neg"}, {"dataset": "pairs", "where": "meta.scene = 'train0'"}]
    found = checked(curriculum(files, tmp_path, train_rows(), mixtures={"all": parts}))
    (finding,) = found.findings
    assert (finding.kind, finding.severity, finding.id) == ("twice", "warning", "train-3")
    assert "4 samples in part 1 and in part 2" in finding.found
    assert found.ok
    repeated = [{"dataset": "pairs", "repeat": 3}]
    assert checked(curriculum(files, tmp_path, train_rows(), mixtures={"all": repeated})).counts == {}


@pytest.mark.parametrize(("scene", "kinds"), [("train2", set()), ("train1", {"leak_id", "leak_scene", "leak_image"})])
def test_what_evaluate_names_is_held_out_too(files: Path, tmp_path: Path, scene: str, kinds: set[str]) -> None:
    """A part of the dataset that is trained on: no leak where the stages leave it alone."""
    mixtures = {
        "all": [{"dataset": "pairs", "where": "meta.scene <> 'train2'"}],
        "test": [{"dataset": "pairs", "where": f"meta.scene = '{scene}'"}],
    }
    path = curriculum(files, tmp_path, train_rows(), mixtures=mixtures, evaluation=[])
    document = json.loads(path.read_text("utf-8")) | {"evaluate": {"data": "test"}}
    path.write_text(json.dumps(document), "utf-8")
    found = checked(path)
    assert set(found.counts) == kinds
    assert all(count == COUNT // 3 for count in found.counts.values())


def test_ids_of_two_datasets_of_a_mixture(files: Path, tmp_path: Path) -> None:
    write(files / "more.jsonl", [{**sample(2, "train"), "id": name} for name in ("train-2", "own")])
    datasets = {
        "pairs": {"path": str(files / f"{tmp_path.name}.jsonl")},
        "more": {"path": str(files / "more.jsonl")},
        "held_out": {"path": str(files / "held.jsonl")},
    }
    both = curriculum(files, tmp_path, train_rows(), datasets=datasets, mixtures={"all": "pairs + more"})
    (finding,) = checked(both).findings
    assert (finding.kind, finding.severity, finding.id) == ("shared_id", "warning", "train-2")
    assert finding.where == f"{files}/more.jsonl:1"


def test_plain_text_has_no_answers_to_check(files: Path, tmp_path: Path) -> None:
    found = checked(curriculum(files, tmp_path, [{"text": f"A story of {number}."} for number in range(COUNT)]))
    assert found.counts == {}


def test_images_by_name_and_in_lists_are_compared_alike(files: Path, tmp_path: Path) -> None:
    """Where some records have a list and others a name, the store keeps the column as JSON text."""
    rows = train_rows()
    for row in rows[::4]:
        row.update(image=row["image"][0], depth=row["depth"][0])
        row["meta"]["mask_b"] = None
    assert checked(curriculum(files, tmp_path, rows)).counts == {}
    rows[VICTIM]["image"][1] = "held/1_B.png"
    rows[8]["image"] = "held/2_A.png"
    found = checked(curriculum(files, tmp_path, rows)).findings
    assert [(finding.kind, finding.id) for finding in found] == [("leak_image", "train-6"), ("leak_image", "train-8")]


def test_images_within_a_tar_are_decoded(files: Path, tmp_path: Path) -> None:
    """Two tars of one folder whose members have the same names share no file."""
    datasets = {}
    for name, scene, count in (("pairs", "train", 8), ("held_out", "held", 6)):
        datasets[name] = {"path": str(tmp_path / f"{name}.tar")}
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for number in range(count):
                row = sample(number, scene)
                row["meta"]["mask_b"] = None
                row |= {"image": [f"{number}.a.png", f"{number}.b.png"], "depth": []}
                for view in "ab":
                    broken = (name, number, view) == ("pairs", 6, "b")
                    picture = files / ("cut.png" if broken else f"{scene}/{number}_{view.upper()}.png")
                    tar.add(picture, f"{number}.{view}.png")
                content = json.dumps(row).encode()
                (member := tarfile.TarInfo(f"{number}.json")).size = len(content)
                tar.addfile(member, io.BytesIO(content))
    found = checked(curriculum(files, tmp_path, [], datasets=datasets))
    (finding,) = found.findings
    assert (finding.kind, finding.id) == ("image_broken", "train-6")
    assert finding.where == f"{tmp_path}/pairs.tar: sample 7"
    assert finding.found.startswith("image 2: ")


def test_ids_made_up_of_a_files_name_are_no_leak(files: Path, tmp_path: Path) -> None:
    """Records without an id, in two files of one name in two folders."""
    (files / "other").mkdir()
    held = write(files / "other" / f"{tmp_path.name}.jsonl", [{"text": f"Held {number}."} for number in range(4)])
    datasets = {"pairs": {"path": str(files / f"{tmp_path.name}.jsonl")}, "held_out": {"path": str(held)}}
    rows = [{"text": f"Story {number}."} for number in range(COUNT)]
    assert checked(curriculum(files, tmp_path, rows, datasets=datasets)).counts == {}


def test_only_a_sample_is_decoded_unless_all_are_asked_for(files: Path, tmp_path: Path) -> None:
    path = curriculum(files, tmp_path, train_rows())
    assert checked(path, decoded=4).checked == (COUNT + 6, 8)
    assert checked(path, decoded=None).checked == (COUNT + 6, COUNT + 6)


def test_many_findings_are_counted_and_the_first_are_kept(files: Path, tmp_path: Path) -> None:
    """Enough records for several processes."""
    rows = [{**sample(2, "train"), "id": f"many-{number}"} for number in range(9000)]
    for row in rows[:5000]:
        set_answer("[(1.5, 0.5)]")(row)
    found = checked(curriculum(files, tmp_path, rows), decoded=1)
    assert found.counts == {"coordinates": 5000}
    assert [finding.id for finding in found.findings] == [f"many-{number}" for number in range(200)]


def test_pixels_are_turned_as_the_trainer_turns_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert pixels.decode(str(tmp_path / "turned.jpg")).size == (20, 40)


def test_padding_is_that_of_its_batches() -> None:
    assert padding([10, 10, 10, 10], 2) == 0
    assert padding([10, 30, 10, 30], 2) == pytest.approx(1 - 80 / 120)
    assert padding(sorted([10, 30, 10, 30]), 2) == 0
    assert padding([10, 30, 20], 2) == pytest.approx(1 - 60 / 80)


def test_tokens_are_counted_as_the_trainer_counts_them(files: Path, tmp_path: Path) -> None:
    tiny.build(tmp_path / "model", texts=[Path(__file__)])
    rows = train_rows()
    set_question(" ".join(str(number * 7919) for number in range(200)))(rows[VICTIM])
    path = curriculum(files, tmp_path, rows)
    document = json.loads(path.read_text("utf-8"))
    document["model_name_or_path"] = str(tmp_path / "model")
    document["args"] |= {"max_tiles": 1, "max_length": 400}
    path.write_text(json.dumps(document), "utf-8")
    found = check(str(path), curriculum_data(str(path), ()), Options(decoded=1, measured=COUNT, tell=quiet))
    assert (found.counts, found.notes) == ({"too_long": 1}, [])
    (finding,) = found.findings
    (tokens,) = found.tokens
    assert (finding.id, finding.where) == ("train-6", f"{files / tmp_path.name}.jsonl:{LINE}")
    assert finding.found == f"{tokens.longest} tokens in stage one"
    assert (tokens.samples, tokens.limit, tokens.too_long) == (COUNT, 400, 1)
    assert tokens.shortest < 400 < tokens.longest
    assert 0 < tokens.padding[1] <= tokens.padding[0] < 0.5


def test_stages_that_train_on_depth_need_all_of_it(files: Path, tmp_path: Path) -> None:
    rows = train_rows()
    rows[VICTIM]["depth"].pop()
    path = curriculum(files, tmp_path, rows)
    assert checked(path).counts == {}
    document = json.loads(path.read_text("utf-8"))
    document["args"]["use_depth"] = True
    path.write_text(json.dumps(document), "utf-8")
    (finding,) = checked(path).findings
    assert (finding.kind, finding.id, finding.found) == ("extra_missing", "train-6", "1 depth maps for 2 images")


def test_why_tokens_were_not_counted_is_said(files: Path, tmp_path: Path) -> None:
    (note,) = checked(curriculum(files, tmp_path, train_rows())).notes
    assert note == "the tokens of stage one were not counted: there is no model new yet"


def documented_kinds() -> dict[str, str]:
    """Kind -> its severity in docs/data.md, with a star where `on_bad_sample: skip` leaves samples out."""
    page = (ROOT / "docs/data.md").read_text("utf-8")
    found = {}
    for row in re.findall(r"^\| (`.*`) \| ((?:error|warning).*?) \|", page, re.MULTILINE):
        names, severities = re.findall(r"`(\w+)`", row[0]), row[1].split(", ")
        found |= dict(zip(names, severities * (len(names) if len(severities) == 1 else 1), strict=True))
    return found


def test_every_kind_is_documented_and_has_a_test() -> None:
    assert documented_kinds() == {name: kind.severity + " *" * kind.left_out for name, kind in KINDS.items()}
    tests = Path(__file__).read_text("utf-8")
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []


def test_the_command(files: Path, tmp_path: Path) -> None:
    """Its exit codes, its JSON, and a text that a terminal would obey."""
    rows = train_rows()
    path = curriculum(files, tmp_path, rows)
    done = stepladder("data", "check", path, cwd=tmp_path)
    assert (done.returncode, "0 errors, 0 warnings" in done.stdout) == (0, True), done.stderr
    set_answer("\x1b[2Jgone")(rows[VICTIM])
    done = stepladder("data", "check", curriculum(files, tmp_path, rows), cwd=tmp_path)
    assert done.returncode == 1
    assert "1 error, 0 warnings" in done.stdout
    assert "\x1b[2J" not in done.stdout
    done = stepladder("data", "check", path, "--json", "--sample", "3", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (document["ok"], document["counts"], document["decoded"]) == (False, {"answer": 1}, 6)
    assert document["findings"][0]["id"] == "train-6"
    assert not (tmp_path / "run").exists()


def test_bad_input_is_named(files: Path, tmp_path: Path) -> None:
    nowhere = {"datasets": {"pairs": {"path": str(files / "gone.jsonl")}}, "evaluation": []}
    done = stepladder("data", "check", curriculum(files, tmp_path, train_rows(), **nowhere), cwd=tmp_path)
    assert done.returncode == 2
    assert "gone.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    wrong = {"mixtures": {"all": [{"dataset": "pairs", "where": "meta.nothing"}]}}
    done = stepladder("data", "check", curriculum(files, tmp_path, train_rows(), **wrong), cwd=tmp_path)
    assert done.returncode == 2
    assert "c.yaml:1:" in done.stderr
