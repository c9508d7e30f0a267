"""What the script takes: SFTConfig's arguments under their own names, and those of its model and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers.utils import is_torch_bf16_gpu_available
from trl import SFTConfig, TrlParser

from stepladder_worker.windows import CHUNK


class ArgumentsError(ValueError):
    """The arguments contradict each other or this script; the message ends with a hint."""


@dataclass
class ScriptArguments:
    """Arguments beside SFTConfig's."""

    model_name_or_path: str = field(metadata={"help": "Folder or hub name of the model to start from."})
    data: str = field(
        metadata={"help": "Training samples: a .jsonl, .json or .txt file, or a selection.json; see docs/data.md."}
    )
    eval_data: str | None = field(default=None, metadata={"help": "Samples for eval_strategy, in the same formats."})
    max_tiles: int | None = field(
        default=None,
        metadata={"help": "Tiles an image may be cut into at most, rows x columns, without the thumbnail."},
    )
    share_tiles: bool = field(
        default=False, metadata={"help": "max_tiles is for all images of a sample together, at least 1 each."}
    )
    use_depth: bool = field(
        default=False, metadata={"help": "A sample's depth maps are further images, after all of its images."}
    )
    length_window: int = field(
        default=0,
        metadata={"help": f"Samples within which similar lengths come together, a multiple of {CHUNK}; 0: none do."},
    )

    def __post_init__(self) -> None:
        if self.length_window < 0 or self.length_window % CHUNK:
            raise ArgumentsError(
                f"length_window is {self.length_window}, expected a multiple of {CHUNK}, or 0 for none\n"
                f"hint: {max(1, round(self.length_window / CHUNK)) * CHUNK} is the nearest"
            )


@dataclass
class TrainerConfig(SFTConfig):  # type: ignore[misc]
    """SFTConfig, with defaults that fit every machine and samples that are never cut."""

    max_length: int | None = field(
        default=None,
        metadata={"help": "Tokens a sample may have at most. Longer samples are refused, never cut."},
    )

    bf16: bool | None = field(
        default=None,
        metadata={"help": "bfloat16 mixed precision. Default: where a GPU supports it."},
    )

    def __post_init__(self) -> None:
        if self.bf16 is None:
            self.bf16 = not (self.fp16 or self.use_cpu) and is_torch_bf16_gpu_available()
        _check(self)
        super().__post_init__()


def parse(arguments: Sequence[str] | None = None) -> tuple[ScriptArguments, TrainerConfig]:
    """The command line (None: this process's), with `--config FILE` and types as HfArgumentParser has them.

    Raises:
        ArgumentsError: a choice that this script cannot keep.
    """
    script, config = TrlParser((ScriptArguments, TrainerConfig)).parse_args_and_config(arguments)
    return script, config


def _check(config: TrainerConfig) -> None:
    """Refuse what would take the order of samples out of the hands of `stepladder_worker.order`."""
    for name, expected in (("packing", False), ("shuffle_dataset", False), ("train_sampling_strategy", "random")):
        found = getattr(config, name)
        if found != expected:
            raise ArgumentsError(
                f"{name} is {found!r}, expected {expected!r}: this script decides itself which sample comes when, "
                "so that a stage can continue at any sample\nhint: leave it out, or train with trl.scripts.sft"
            )
