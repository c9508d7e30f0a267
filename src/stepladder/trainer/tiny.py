"""Small models with random weights, built on the spot: ``python -m stepladder.trainer.tiny OUT``.

They train in seconds on one CPU core and load like any model of the hub. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: Names the recipe in a built folder; a change of the models below needs a new number.
RECIPE_VERSION = 1
RECIPE_FILE = "tiny.json"

#: Tokens either model can take.
MAX_LENGTH = 2048

#: Idefics3: edge of a tile and of a patch in pixels, and how many patches, per side, become one token.
#: A tile is (112 / 14 / 4) ** 2 = 4 tokens.
TILE, PATCH, SHUFFLE = 112, 14, 4


class TinyModelError(ValueError):
    """The folder or a text file given cannot be used; the message ends with a hint."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the model that the command line asks for, unless it is already there."""
    parser = argparse.ArgumentParser(prog="python -m stepladder.trainer.tiny", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write; made in one step, never overwritten")
    parser.add_argument("--kind", choices=sorted(BUILDERS), default="idefics3")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="UTF-8 files to train the tokenizer on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        built = build(options.out, options.kind, options.text, options.seed)
    except TinyModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stderr.write(f"{options.out}: {'built' if built else 'already there'}\n")
    return 0


def build(out: Path, kind: str = "idefics3", texts: Sequence[Path] = (), seed: int = 0) -> bool:
    """Write a model, its tokenizer and processor to `out`; True when it was built, False when it was there already.

    Args:
        out: folder to make. It appears complete or not at all.
        kind: "idefics3" (several images and text) or "llama" (text).
        texts: UTF-8 files to train the tokenizer on; none: a few sentences about pointing.
        seed: of the random weights.

    Raises:
        TinyModelError: `out` holds something else, or a text file cannot be read.
    """
    recipe = {"version": RECIPE_VERSION, "kind": kind, "seed": seed, "texts": [_digest(path) for path in texts]}
    if out.exists():
        _check_same(out, recipe)
        return False
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        BUILDERS[kind](partial, texts, seed)
        (partial / RECIPE_FILE).write_text(json.dumps(recipe) + "\n", "utf-8")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _check_same(out: Path, recipe: dict[str, Any]) -> None:
    try:
        found = json.loads((out / RECIPE_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if found != recipe:
        raise TinyModelError(
            f"{out} exists and is not this model: expected the recipe {json.dumps(recipe)}, found {json.dumps(found)}\n"
            "hint: remove the folder, or name another one"
        )


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TinyModelError(
            f"--text {path} cannot be read: {error.strerror}\nhint: name existing UTF-8 text files"
        ) from None


def _build_idefics3(folder: Path, texts: Sequence[Path], seed: int) -> None:
    """About 0.4 M parameters: 2 vision layers, 3 text layers, hidden size 64."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    from stepladder.trainer.tiny_tokenizer import train_tokenizer

    tokenizer = train_tokenizer(texts, MAX_LENGTH, image_tokens=True)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 4 * TILE}, max_image_size={"longest_edge": TILE})
    processor = Idefics3Processor(
        images, tokenizer, image_seq_len=(TILE // PATCH // SHUFFLE) ** 2, chat_template=tokenizer.chat_template
    )
    config = Idefics3Config(
        image_token_id=processor.image_token_id,
        scale_factor=SHUFFLE,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": PATCH,
        },
        text_config=_text_config(tokenizer),
    )
    torch.manual_seed(seed)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def _build_llama(folder: Path, texts: Sequence[Path], seed: int) -> None:
    """About 0.2 M parameters: 3 layers, hidden size 64."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from stepladder.trainer.tiny_tokenizer import train_tokenizer

    tokenizer = train_tokenizer(texts, MAX_LENGTH, image_tokens=False)
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**_text_config(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _text_config(tokenizer: Any) -> dict[str, Any]:
    """A Llama of 3 layers. Its dropout makes training depend on the random state, as it does for real models."""
    return {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_LENGTH,
        "attention_dropout": 0.1,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


BUILDERS: dict[str, Callable[[Path, Sequence[Path], int], None]] = {"idefics3": _build_idefics3, "llama": _build_llama}

if __name__ == "__main__":
    sys.exit(main())
