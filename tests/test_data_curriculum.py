"""`data:` of a curriculum: what a person writes becomes parts, what cannot work is named where it stands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from stepladder.curriculum.parse import load
from stepladder.data.mixture import Mixture
from stepladder.errors import CurriculumError
from stepladder.planning.plan import Plan
from stepladder.preflight.machine import checked_plan

GOOD = """\
name: demo
model_name_or_path: base
output_dir: runs/demo
args: {learning_rate: 1.0e-3}
data:
  seed: 3
  datasets:
    pairs: {path: pairs.jsonl, tiers: {by: meta.mask_area, at: [0.5, 0.8]}}
    captions: {path: captions.parquet, scores: s.parquet}
  mixtures:
    positive: [{dataset: pairs, where: not meta.is_neg, fraction: 0.25}]
    both: positive + captions*3
    weighed: [{dataset: pairs, weight: 0.7}, {dataset: captions, weight: 0.3, order_by: loss desc}]
  evaluation: [captions]
stages:
  - {name: a, steps: 4, data: positive}
  - {name: b, steps: 4, data: both + pairs*0.5}
  - {name: c, steps: 4, data: weighed}
"""


def plan_of(folder: Path, text: str) -> Plan:
    path = folder / "c.yaml"
    path.write_text(text, "utf-8")
    return checked_plan(load(str(path), ()), look_at_files=False)


def refused(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(CurriculumError) as error:
        plan_of(folder, text)
    return [(problem.place.replace(f"{folder}/", ""), problem.text) for problem in error.value.problems]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_expressions_become_parts(tmp_path: Path) -> None:
    first, second, third = (stage.mixture for stage in plan_of(tmp_path, GOOD).stages)
    assert first is not None
    assert [(part.source.name, part.where, part.fraction) for part in first.parts] == [
        ("pairs", "not meta.is_neg", 0.25)
    ]
    assert first.seed == 3
    assert second is not None
    assert second.name == "both + pairs*0.5"
    assert [(p.source.name, p.fraction, p.repeat) for p in second.parts] == [
        *(("pairs", 0.25, 1), ("captions", None, 3), ("pairs", 0.5, 1)),
    ]
    assert third is not None
    assert [(p.weight, p.order_by) for p in third.parts] == [(0.7, None), (0.3, "loss desc")]


def test_the_built_in_trainer_is_told_its_selection_and_others_where_they_ask(tmp_path: Path) -> None:
    theirs = 'c, steps: 4, data: weighed, script: own.py, args: {file: "{data}", folder: "x/{data_dir}"}'
    first, _, third = plan_of(tmp_path, changed("c, steps: 4, data: weighed", theirs)).stages
    assert first.args["data"] == "runs/demo/data/1-a/selection.json"
    assert "data" not in third.args
    assert third.args["file"] == "runs/demo/data/3-c/export/samples.json"
    assert third.args["folder"] == "x/runs/demo/data/3-c/export"


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD)
    again = Plan.from_json(plan.to_json())
    assert again.stages[1].mixture == plan.stages[1].mixture
    assert again.data_cache == plan.data_cache


def test_the_key_is_that_of_what_is_selected(tmp_path: Path) -> None:
    """Another name, place in the file or path of the data is the same order; any other difference is another one."""

    def key(text: str) -> str:
        mixture = plan_of(tmp_path, text).stages[0].mixture
        assert mixture is not None
        assert Mixture.from_json(asdict(mixture)) == mixture
        return mixture.key

    same = [changed("pairs.jsonl", "elsewhere/pairs.jsonl"), GOOD.replace("positive", "only_positive")]
    same.append(GOOD.replace("data: positive}", "data: [{dataset: pairs, where: not meta.is_neg, fraction: 0.25}]}"))
    assert {key(text) for text in same} == {key(GOOD)}
    others = [changed("fraction: 0.25", "fraction: 0.5"), changed("not meta.is_neg", "meta.is_neg")]
    others += [changed("[0.5, 0.8]", "[0.4, 0.8]"), changed("fraction: 0.25", "fraction: 0.25, repeat: 2")]
    assert len({key(text) for text in [GOOD, *others]}) == 5


def test_a_shared_file_is_read_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, rest = GOOD.split("data:\n", 1)
    inside, after = rest.split("stages:\n")
    shared = "\n".join(line.removeprefix("  ") for line in inside.splitlines())
    (tmp_path / "data.yaml").write_text(shared, "utf-8")
    text = f"{before}data: data.yaml\nstages:\n{after}"
    assert [stage.mixture for stage in plan_of(tmp_path, text).stages] == [
        stage.mixture for stage in plan_of(tmp_path, GOOD).stages
    ]
    (tmp_path / "data.yaml").write_text(shared.replace("fraction:", "fractoin:"), "utf-8")
    assert refused(tmp_path, text) == [("data.yaml:6:55", "unknown key `fractoin`, did you mean `fraction`?")]
    set_there = load(str(tmp_path / "c.yaml"), ["data.seed=9"])
    assert [finding.text for finding in set_there.findings] == ["unknown key `fractoin`, did you mean `fraction`?"]
    assert set_there.document.data["data"]["seed"] == 9
    missing = refused(tmp_path, text.replace("data.yaml", "nowhere.yaml"))
    assert missing == [("c.yaml:5:7", "nowhere.yaml: no such file, expected a curriculum")]


# (text, place, part of what is said)
BROKEN = {
    "unknown mixture": (changed("data: positive}", "data: positiv}"), "c.yaml:16:31", "did you mean `positive`?"),
    "no expression": (changed("data: positive}", 'data: "a + "}'), "c.yaml:16:31", "expected names joined by `+`"),
    "half a repeat": (changed("captions*3", "captions*2.5"), "c.yaml:12:11", "a factor of 2.5"),
    "in itself": (changed("positive + captions*3", "both*2"), "c.yaml:12:11", "contains itself: both -> both"),
    "both amounts": (changed("fraction: 0.25", "fraction: 0.25, count: 3"), "c.yaml:11:73", "expected one of them"),
    "too much": (changed("fraction: 0.25", "fraction: 25"), "c.yaml:11:67", "found 25, expected at most 1"),
    "where of a mixture": (
        changed("[{dataset: pairs, weight: 0.7}", "[{dataset: both, weight: 0.7}"),
        "c.yaml:13:31",
        "`weight` of the mixture `both`, expected a dataset",
    ),
    "one weight": (changed(", weight: 0.3", ""), "c.yaml:13:14", "part `captions` has no `weight`"),
    "weights of zero": (
        changed("weight: 0.7", "weight: 0").replace("weight: 0.3", "weight: 0"),
        "c.yaml:13:14",
        "the weights sum to zero",
    ),
    "negative weight": (changed("weight: 0.7", "weight: -1"), "c.yaml:13:40", "found -1, expected at least 0"),
    "falling quantiles": (changed("[0.5, 0.8]", "[0.8, 0.5]"), "c.yaml:8:64", "expected rising quantiles"),
    "unknown evaluation": (changed("[captions]", "[captons]"), "c.yaml:14:15", "did you mean `captions`?"),
    "same name": (changed("    both:", "    pairs:"), "c.yaml:12:5", "`pairs` is a dataset and a mixture"),
    "data twice": (
        changed("data: positive}", "data: positive, args: {data: x.jsonl}}"),
        "c.yaml:16:25",
        "the argument `data` (x.jsonl)",
    ),
    "not passed on": (
        changed("data: positive}", "data: positive, script: own.py}"),
        "c.yaml:16:25",
        "no argument tells own.py",
    ),
    "continued with another": (
        changed("pairs*0.5}", "pairs*0.5, handover: {data: continue}}"),
        "c.yaml:17:31",
        "expected the same mixture",
    ),
    "continued in another order": (
        changed("data: both + pairs*0.5}", "data: positive, handover: {data: continue}, args: {length_window: 64}}"),
        "c.yaml:17:91",
        "from `length_window` 0 to 64, expected the same",
    ),
    "no datasets": (GOOD[: GOOD.index("data:")] + GOOD[GOOD.index("stages:") :], "c.yaml:6:25", "without `data:`"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_work_is_named_where_it_stands(name: str, tmp_path: Path) -> None:
    text, place, said = BROKEN[name]
    found = refused(tmp_path, text)
    assert any(where == place and said in what for where, what in found), found


def test_the_same_mixture_continues(tmp_path: Path) -> None:
    text = changed("data: both + pairs*0.5}", "data: positive, handover: {data: continue}}")
    assert plan_of(tmp_path, text).stages[1].data_start_step == 0
