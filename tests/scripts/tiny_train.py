"""A person's training script, as people write them: a plain Trainer on a small language model with dropout.

Knows nothing of Stepladder. The data are made here, from `--data_seed_text`, so two names are two data sets.
"""

import zlib
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

LENGTH, VOCABULARY = 12, 64


@dataclass
class Arguments:
    model_name_or_path: str = field(default="new")
    data_mixture: str = field(default="first")
    samples: int = field(default=50)


class Sentences(torch.utils.data.Dataset):
    """Random token sequences, the same for the same name."""

    def __init__(self, name: str, samples: int) -> None:
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        self.tokens = torch.randint(0, VOCABULARY, (samples, LENGTH), generator=generator)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def build(path: str) -> LlamaForCausalLM:
    """A model from a checkpoint, or a new one that is the same in every process."""
    if path != "new":
        return LlamaForCausalLM.from_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_dropout=0.1,
        max_position_embeddings=32,
    )
    return LlamaForCausalLM(config)


def main() -> None:
    ours, args = HfArgumentParser((Arguments, TrainingArguments)).parse_args_into_dataclasses()
    trainer = Trainer(
        model=build(ours.model_name_or_path), args=args, train_dataset=Sentences(ours.data_mixture, ours.samples)
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
