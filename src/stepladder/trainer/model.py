"""The model and what turns samples into its inputs."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from stepladder.trainer.arguments import ScriptArguments, TrainerConfig
from stepladder.trainer.tiles import limit_tiles


def load_model(script: ScriptArguments, config: TrainerConfig) -> tuple[Any, Any]:
    """The model, in float32 unless `model_init_kwargs` says otherwise, and its processor (text models: tokenizer).

    Raises:
        TilesError: `max_tiles` cannot be kept with this model.
    """
    path = script.model_name_or_path
    options = {"dtype": "float32", "trust_remote_code": config.trust_remote_code, **(config.model_init_kwargs or {})}
    config.model_init_kwargs = None  # TRL would warn that it cannot use them on a loaded model
    origin = {key: options[key] for key in ("revision", "trust_remote_code") if key in options}
    model_type = AutoConfig.from_pretrained(path, **origin).model_type
    if model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        processor = AutoProcessor.from_pretrained(path, **origin)
        model = AutoModelForImageTextToText.from_pretrained(path, **options)
    else:
        processor = AutoTokenizer.from_pretrained(path, **origin)
        model = AutoModelForCausalLM.from_pretrained(path, **options)
    limit_tiles(processor, model_type, script.max_tiles)
    return model, processor


def describe_trained(model: Any) -> str:
    """What of a model is trained, as one phrase."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trained = sum(size for size, requires_grad in sizes if requires_grad)
    total = sum(size for size, _ in sizes)
    return f"{type(model).__name__}: {trained:,} of {total:,} parameters"
