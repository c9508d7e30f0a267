"""The model and what turns samples into its inputs."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from stepladder.trainer.arguments import ScriptArguments, TrainerConfig
from stepladder.trainer.tiles import limit_tiles

#: Options of loading that say which files of a model are meant.
ORIGIN = ("revision", "trust_remote_code")


def load_model(script: ScriptArguments, config: TrainerConfig) -> tuple[Any, Any]:
    """The model, in float32 unless `model_init_kwargs` says otherwise, and its processor (text models: tokenizer).

    Raises:
        TilesError: see `load_processor`.
    """
    options = {"dtype": "float32", "trust_remote_code": config.trust_remote_code, **(config.model_init_kwargs or {})}
    config.model_init_kwargs = None  # TRL would warn that it cannot use them on a loaded model
    path, tiles = script.model_name_or_path, (script.max_tiles, script.share_tiles)
    processor = load_processor(path, *tiles, **{key: options[key] for key in ORIGIN if key in options})
    return load_weights(path, **options), processor


def load_processor(path: str, max_tiles: int | None, share_tiles: bool, **origin: Any) -> Any:
    """A model's processor, or the tokenizer of a text model, with tiles limited as `limit_tiles` says.

    Raises:
        TilesError: `max_tiles` cannot be kept with this model.
    """
    model_type = AutoConfig.from_pretrained(path, **origin).model_type
    sees = model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    processor = (AutoProcessor if sees else AutoTokenizer).from_pretrained(path, **origin)
    limit_tiles(processor, model_type, max_tiles, share_tiles)
    return processor


def load_weights(path: str, **options: Any) -> Any:
    """The model itself, for images and text where it takes both."""
    model_type = AutoConfig.from_pretrained(path, **{key: options[key] for key in ORIGIN if key in options}).model_type
    sees = model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_pretrained(path, **options)


def describe_trained(model: Any) -> str:
    """What of a model is trained, as one phrase."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trained = sum(size for size, requires_grad in sizes if requires_grad)
    total = sum(size for size, _ in sizes)
    return f"{type(model).__name__}: {trained:,} of {total:,} parameters"
