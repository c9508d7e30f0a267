"""tiny_train that draws random numbers while it loads data: `--random KIND`.

item: the data set augments its samples. collator: the collator does. generator: the sampler shuffles by a generator of
its own that goes on from epoch to epoch. mixture: the sampler draws each sample while training draws as well.
"""

import random
from dataclasses import dataclass, field

import numpy as np
import torch
from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainingArguments, default_data_collator


@dataclass
class RandomArguments(Arguments):
    random: str = field(default="none")


def changed(tokens: torch.Tensor) -> torch.Tensor:
    """The tokens with three of them replaced, by each of the generators that people use."""
    tokens = tokens.clone()
    tokens[random.randrange(len(tokens))] = 1
    tokens[np.random.randint(len(tokens))] = 2
    tokens[int(torch.randint(len(tokens), ()))] = 3
    return tokens


class Augmented(Sentences):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = changed(super().__getitem__(index)["input_ids"])
        return {"input_ids": tokens, "labels": tokens}


def augmenting_collator(samples):
    return default_data_collator([{"input_ids": changed(s["input_ids"]), "labels": s["labels"]} for s in samples])


class Mixture(torch.utils.data.Sampler):
    """A sampler without an epoch or a seed of its own."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return (int(torch.randint(self.length, ())) for _ in range(self.length))


class OwnSampler(Trainer):
    own_sampler = None

    def _get_train_sampler(self, *args, **kwargs):
        return self.own_sampler or super()._get_train_sampler(*args, **kwargs)


def main() -> None:
    ours, args = HfArgumentParser((RandomArguments, TrainingArguments)).parse_args_into_dataclasses()
    torch.manual_seed(args.seed)
    data = (Augmented if ours.random == "item" else Sentences)(ours.data_mixture, ours.samples)
    trainer = OwnSampler(
        model=build(ours.model_name_or_path),
        args=args,
        train_dataset=data,
        data_collator=augmenting_collator if ours.random == "collator" else None,
    )
    if ours.random == "generator":
        generator = torch.Generator().manual_seed(5)
        trainer.own_sampler = torch.utils.data.SubsetRandomSampler(range(len(data)), generator)
    if ours.random == "mixture":
        trainer.own_sampler = Mixture(len(data))
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
