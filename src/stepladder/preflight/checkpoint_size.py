"""How many bytes a checkpoint of a stage will have: from one that is there, else from the headers of the base model.

What is assumed where no checkpoint of the run is there yet, and where it comes from:

- Weights are stored in the type they are trained in. `dtype` (`torch_dtype`) says it where it is stated; the built-in
  trainer loads float32 otherwise; of other scripts it may be the type that the base model is stored in (transformers
  5), float32 (transformers 4, TRL), or under `bf16`/`fp16` 16 bits. Where these differ there is a smallest and a
  largest size.
- Adam keeps two moments of a parameter's own type (`torch.zeros_like` in torch/optim/adamw.py). Of other optimizers
  nothing is known but that they keep no more than two moments in float32.
- DeepSpeed keeps a float32 copy of what is trained and two float32 moments, 12 bytes a parameter; the weights beside
  them are of 16 bits under `bf16`/`fp16`. ZeRO-1 and ZeRO-2 hold them twice: `mp_rank_00_model_states.pt` has the
  module as well. ZeRO-3 has them once, and only where it gathers them (`stage3_gather_16bit_weights_on_model_save`).
- FSDP trains in float32 whatever the weights were loaded in (accelerate upcasts them for mixed precision), so weights
  and two moments have 12 bytes a parameter; `FULL_STATE_DICT` writes the weights twice (`model.safetensors` and
  `pytorch_model_fsdp.bin`).
  Both as read off checkpoints of deepspeed 0.19 and torch 2.13.
- Scripts that Stepladder does not know may train a part of the model alone: their smallest size is not known. Where
  an argument speaks of adapters nothing is known.
- `save_only_model` is never in force (`hooks/train.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from stepladder import safetensors_header
from stepladder.curriculum import hf_args
from stepladder.curriculum.spec import BUILT_IN
from stepladder.planning.plan import PlannedStage
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, read_json

#: Bytes of an element, by the names of torch.
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Bytes of an element that is trained, by the names of safetensors; 8-bit and packed types are quantized models.
_TRAINABLE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_WHOLE_NUMBERS = ("I64", "I32", "I16", "BOOL")
#: What each tensor adds to optimizer.pt and to the manifest (measured: 0.9 to 1.5 KiB), and a checkpoint to both:
#: trainer_state.json, training_args.bin, random states.
_BYTES_A_TENSOR, _BYTES_A_CHECKPOINT = 1200, 50_000
_ADAM = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_torch_xla", "adamw_torch_npu_fused", "adamw_apex_fused")
#: Scripts that train all of a model unless an argument says otherwise.
_KNOWN_SCRIPTS = (BUILT_IN, "module:trl.scripts.sft", "module:trl.scripts.dpo", "module:trl.scripts.reward")
#: What a checkpoint holds beside the model.
TRAINING_FILES = (
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "trainer_state.json",
    "training_args.bin",
    "stepladder.json",
    "global_step*",
    "latest*",
    "zero_to_fp32.py",
    "zero_to_torch.py",
    "pytorch_model_fsdp*",
    "stepladder_*",
)


@dataclass(frozen=True)
class Span:
    """Bytes, at least `low`; at most `high`, None where no end is known."""

    low: int
    high: int | None

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, None if self.high is None or other.high is None else self.high + other.high)

    def times(self, least: int, most: int | None) -> Span:
        """Of so many files of this size."""
        return Span(self.low * least, None if self.high is None or most is None else self.high * most)


@dataclass(frozen=True)
class Size:
    """Of a checkpoint and of the model in it. `source` says what it was worked out from."""

    checkpoint: Span
    model: Span
    source: str


class NotKnownError(ValueError):
    """The size cannot be told before there is a checkpoint; the message says why."""


@dataclass(frozen=True)
class BaseModel:
    """Elements that can be trained, bytes of tensors as they are stored, number of tensors, bytes of other files."""

    elements: int
    stored: int
    tensors: int
    beside: int


def of_checkpoint(checkpoint: Path, held: manifest.Manifest) -> Size:
    """Of a checkpoint that is there: what its manifest says was written."""
    total = sum(entry["size"] for entry in held.files.values()) + (checkpoint / manifest.NAME).stat().st_size
    model = sum(entry["size"] for name, entry in held.files.items() if not _of_training(name))
    return Size(Span(total, total), Span(model, model), f"{checkpoint.name} of stage {held.stage}")


def of_stage(stage: PlannedStage, base: BaseModel) -> Size:
    """Of the checkpoints that a stage will write, from the model it all starts from.

    Raises NotKnownError where the arguments speak of adapters.
    """
    args = stage.args
    if any(name.startswith(("use_peft", "lora_", "peft_")) and hf_args.is_on(value) for name, value in args.items()):
        raise NotKnownError("an adapter is trained")
    sizes = _element_sizes(stage)
    stored = base.stored, base.elements
    candidates = [stored[0] if size is None else stored[1] * size for size in sizes]
    weights = Span(min(candidates), max(candidates))
    small = base.tensors * _BYTES_A_TENSOR + _BYTES_A_CHECKPOINT
    whole = _state(stage, weights, base.elements) + Span(base.beside + small, base.beside + small)
    model = weights + Span(base.beside, base.beside)
    if stage.script not in _KNOWN_SCRIPTS:
        return Size(Span(0, whole.high), Span(0, model.high), "the base model, if the script trains all of it")
    return Size(whole, model, "the base model")


def base_model(folder: Path) -> BaseModel:
    """What the headers of a model's weights tell.

    Raises NotKnownError where there are no safetensors files, or the model is an adapter or quantized.
    """
    if not folder.is_dir():
        raise NotKnownError(f"no folder {folder} to read the model's size from")
    if (folder / "adapter_config.json").exists():
        raise NotKnownError(f"{folder} holds an adapter")
    # A model of one part a folder has its weights deeper; others keep copies in other formats there.
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*/model*.safetensors"))
    if not files:
        raise NotKnownError(f"no safetensors files in {folder}")
    elements = stored = tensors = 0
    for path in files:
        try:
            header, _ = safetensors_header.read(path)
        except (ValueError, OSError) as error:
            raise NotKnownError(f"{path}: {error}") from None
        for entry in header.values():
            if entry["dtype"] not in (*_TRAINABLE, *_WHOLE_NUMBERS):
                raise NotKnownError(f"{path.name} has weights of type {entry['dtype']}")
            elements += prod(entry["shape"]) if entry["dtype"] in _TRAINABLE else 0
            stored += entry["data_offsets"][1] - entry["data_offsets"][0]
            tensors += 1
    others = (path for path in folder.iterdir() if path.is_file() and not _is_weights(path))
    return BaseModel(elements, stored, tensors, sum(path.stat().st_size for path in others))


def _element_sizes(stage: PlannedStage) -> list[int | None]:
    """Bytes of a weight in a checkpoint, whichever may be; None: as the base model is stored."""
    args = stage.args
    half = any(hf_args.is_on(args.get(name)) for name in ("bf16", "fp16"))
    if stage.engine == "deepspeed" and half:
        return [2]
    if stage.engine == "fsdp":
        return [4]
    loading = {**args, **_mapping(args.get("model_init_kwargs"))}
    stated = str(loading.get("dtype", loading.get("torch_dtype", ""))).removeprefix("torch.")
    if stated in _BYTES:
        return [_BYTES[stated]]
    if stated == "auto":
        return [None]
    if stage.script == BUILT_IN:
        return [4]
    return [None, 4, *([2] if half else [])]


def _state(stage: PlannedStage, weights: Span, elements: int) -> Span:
    """Weights and optimizer state of a checkpoint. A part that is trained may be any part of the whole."""
    if stage.engine == "deepspeed":
        return _zero_state(stage, weights, elements)
    moments = weights.times(2, 2)
    if stage.args.get("optim", _ADAM[0]) not in _ADAM:
        moments = Span(0, 2 * 4 * elements)
    elif stage.trainable is not None:
        moments = Span(0, moments.high)
    if stage.engine == "fsdp":
        kind = _mapping(stage.args.get("fsdp_config")).get("state_dict_type")
        return moments + weights.times(2 if kind == "FULL_STATE_DICT" else 1, 1 if kind == "SHARDED_STATE_DICT" else 2)
    return moments + weights


def _zero_state(stage: PlannedStage, weights: Span, elements: int) -> Span:
    config = _mapping(stage.args.get("deepspeed"))
    zero = _mapping(config.get("zero_optimization"))
    state = Span(12 * elements if stage.trainable is None else 0, 12 * elements)
    level = zero.get("stage")
    if level == 3:
        gathered = bool(zero.get("stage3_gather_16bit_weights_on_model_save"))
        return state + (weights if gathered else Span(0, weights.high))
    return state + weights.times(2 if level in (1, 2) else 0, 2)


def _mapping(value: Any) -> Mapping[str, Any]:
    """An argument that is JSON, or the path of a JSON file; empty where it is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("{") else read_json(Path(value).expanduser())
        except (ValueError, ContractError, OSError, RuntimeError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _is_weights(path: Path) -> bool:
    return path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")


def _of_training(name: str) -> bool:
    return any(Path(name.partition("/")[0]).match(pattern) for pattern in TRAINING_FILES)
