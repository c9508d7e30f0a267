"""Faults in a curriculum, and in what a run finds when it starts: refused before any process is started."""

from __future__ import annotations

import json
import shutil
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chain import Chain, edit_json
from corpus import BEYOND, Fault


@dataclass(frozen=True)
class CurriculumFault(Fault):
    """`changes` of the healthy curriculum that `plan` must refuse with the text."""

    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StartFault(Fault):
    """Planted in a copy of a chain whose last stage is still to be run; `plan` or `run` must refuse with the text."""

    plant: Callable[[Chain], object] = lambda chain: None
    changes: Mapping[str, Any] = field(default_factory=dict)


def stages(*last: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stage one of five steps, and more stages."""
    return [{"name": "one", "steps": 5}, *({"name": f"stage{i}", **stage} for i, stage in enumerate(last, 2))]


def curriculum(name: str, trap: str, text: str, **changes: Any) -> CurriculumFault:
    return CurriculumFault(name, trap, "plan", (text,), changes)


CURRICULA = [
    curriculum("a stage that ends where it starts", "1b", "until_step 5 after 5", stages=stages({"until_step": 5})),
    curriculum("cumulative steps that go backwards", "1b", "until_step 3 after 5", stages=stages({"until_step": 3})),
    curriculum("a cumulative max_steps", "1b", "`max_steps` among the arguments",
               stages=stages({"steps": 5, "args": {"max_steps": 10}})),
    curriculum("a peak of its own within one curve", "1a", "`learning_rate` of one stage",
               stages=stages({"steps": 5, "args": {"learning_rate": 5e-4}})),
    curriculum("a warm-up of its own within one curve", "1a", "`warmup_steps` of one stage",
               stages=stages({"steps": 5, "args": {"warmup_steps": 2}})),
    curriculum("a schedule that follows a metric", "1a", "reduce_lr_on_plateau",
               args={"lr_scheduler_type": "reduce_lr_on_plateau"}),
    curriculum("data skipping switched off by hand", "4", "`ignore_data_skip` among the arguments",
               args={"ignore_data_skip": True}),
    curriculum("checkpoints without an optimizer", "9b", "`save_only_model` among the arguments",
               args={"save_only_model": True}),
    curriculum("a resume flag among the arguments", "10b", "`resume_from_checkpoint` among the arguments",
               args={"resume_from_checkpoint": "somewhere"}),
    curriculum("two stages in one directory", "9", "both write", stage_dir="runs/all"),
    curriculum("a stage in the run directory itself", "9", "is or holds the run directory",
               stage_dir="runs/tiny", stages=stages()),
]  # fmt: skip


def truncate(file: str, size: int = 1) -> Callable[[Chain], object]:
    def plant(chain: Chain) -> None:
        path = chain.checkpoint("two") / file
        path.write_bytes(path.read_bytes()[:-size])

    return plant


def change_in_place(file: str) -> Callable[[Chain], object]:
    """As many bytes as before, the last one another."""

    def plant(chain: Chain) -> None:
        path = chain.checkpoint("two") / file
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return plant


def start(name: str, trap: str, by: str, text: str, plant: Callable[[Chain], object], **changes: Any) -> StartFault:
    return StartFault(name, trap, by, (text,), plant, changes)


def of_another_model(chain: Chain) -> None:
    """A checkpoint of a wider model that says it is of this run, sizes and checksums made to fit."""
    shutil.copytree(chain.checkpoint("one"), chain.folder / "model", copy_function=shutil.copyfile)
    edit_json(chain.checkpoint("two") / "config.json", lambda config: config.update(hidden_size=48))
    chain.fit_manifest("two")


def other_shapes(chain: Chain) -> None:
    chain.edit_weights(
        "two", lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"][:16].clone()})
    )
    chain.fit_manifest("two")


def of_eight_processes(chain: Chain) -> None:
    chain.edit_manifest("two", lambda manifest: manifest.update(world_size=8))


def plain_without_optimizer(chain: Chain) -> None:
    """As a script without Stepladder leaves it: this run has never launched the stage."""
    (chain.checkpoint("two") / "stepladder.json").unlink()
    (chain.checkpoint("two") / "optimizer.pt").unlink()
    shutil.rmtree(chain.run / "attempts/2-two")


def of_another_run(chain: Chain) -> None:
    """Stage three's directory holds the checkpoints of somebody else's training."""
    shutil.copytree(chain.checkpoint("two"), chain.stage_dir("three") / "checkpoint-20", copy_function=shutil.copyfile)
    manifest = chain.stage_dir("three") / "checkpoint-20/stepladder.json"
    edit_json(manifest, lambda manifest: manifest.update(run_id="another", stage="three", global_step=20))


def stale_weights(chain: Chain) -> None:
    chain.stage_dir("three").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(chain.checkpoint("one") / name, chain.stage_dir("three") / name)


def truncated_model(chain: Chain) -> None:
    model = chain.folder / "model"
    shutil.copytree(chain.checkpoint("one"), model, copy_function=shutil.copyfile)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def model_without_a_shard(chain: Chain) -> None:
    model = chain.folder / "model"
    shutil.copytree(chain.checkpoint("one"), model, copy_function=shutil.copyfile)
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def model_of_other_layers(chain: Chain) -> None:
    (chain.folder / "model").mkdir()
    config = json.loads((chain.checkpoint("two") / "config.json").read_text())
    (chain.folder / "model/config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))


def older_interpreter(chain: Chain) -> None:
    """An environment that has transformers 4.46.3: its versions are read, nothing of it is imported."""
    environment = chain.folder / "older"
    venv.create(environment, with_pip=False)
    packages = next(environment.glob("lib/python*/site-packages"))
    for name, version in (("torch", "2.5.1"), ("transformers", "4.46.3"), ("accelerate", "1.1.1")):
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


MODEL = {"model_name_or_path": "./model"}
ZERO = {"deepspeed": '{"zero_optimization": {"stage": 3}}'}
OLDER_LAST = [
    *({"name": name, "steps": steps} for name, steps in (("one", 5), ("two", 8))),
    {"name": "three", "steps": 11, "python": "./older/bin/python"},
]


def damaged(name: str) -> list[StartFault]:
    """A file of a real checkpoint missing, and cut short."""

    def remove(chain: Chain) -> None:
        (chain.checkpoint("two") / name).unlink()

    return [
        start(f"{name} is missing where a stage starts", "10", "plan", f"{name} is missing", remove),
        start(f"{name} is cut short where a stage starts", BEYOND, "plan", f"{name} has", truncate(name)),
    ]


#: The files of a checkpoint of the healthy chain: test_the_healthy_chain_goes_on holds the list.
FILES = (
    *("config.json", "generation_config.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"),
    *("trainer_state.json", "training_args.bin"),
)

STARTS = [
    start("a checkpoint whose manifest is cut short", BEYOND, "plan", "no readable manifest",
          truncate("stepladder.json", 10)),
    start("a changed byte in trainer_state.json", BEYOND, "plan", "trainer_state.json differs",
          change_in_place("trainer_state.json")),
    start("a changed byte in the random state", BEYOND, "plan", "rng_state.pth differs",
          change_in_place("rng_state.pth")),
    start("a checkpoint of another model", BEYOND, "plan", "is of another model: hidden_size 48", of_another_model,
          **MODEL),
    start("weights of other shapes", BEYOND, "plan", "model.norm.weight is [16], [32] was written", other_shapes),
    start("another model under the checkpoints", BEYOND, "plan", "is of another model: num_hidden_layers 2",
          model_of_other_layers, **MODEL),
    start("a checkpoint of eight processes under DeepSpeed, by itself", "8", "plan", "was written by 8 processes",
          of_eight_processes, hook=False, args=ZERO),
    start("an interpreter older than the checkpoint", "14", "plan", "does not know its `best_global_step`",
          older_interpreter, stages=OLDER_LAST),
    start("a plain checkpoint without an optimizer", "9b", "plan", "no optimizer state", plain_without_optimizer),
    start("a model whose weights are cut short", BEYOND, "plan", "its header names", truncated_model, **MODEL),
    start("a model without one of its shards", BEYOND, "plan", "model-00002-of-00002.safetensors is missing",
          model_without_a_shard, **MODEL),
    start("checkpoints of another run in the stage's directory", "9", "run", "of another training", of_another_run),
    start("stale weights of another run in the stage's directory", "9", "run", "of another training", stale_weights),
    *(fault for name in FILES for fault in damaged(name)),
]  # fmt: skip
