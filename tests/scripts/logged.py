"""tiny_train that writes down what it trains on: `--drawn FILE` gets a line `RANK STEP SAMPLE...` a micro-batch.

Every sample starts with its own index, so what is written is what the model was really given. `--crash_at N` ends
the process in the middle of step N, the first time.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainingArguments


@dataclass
class LoggedArguments(Arguments):
    drawn: str = field(default="drawn.txt")
    crash_at: int = field(default=0)


class Numbered(Sentences):
    """Sentences whose first two tokens are the digits of their index."""

    def __init__(self, name: str, samples: int) -> None:
        super().__init__(name, samples)
        for index, tokens in enumerate(self.tokens):
            tokens[0], tokens[1] = divmod(index, 64)


class Logged(Trainer):
    drawn = ""
    crash_at = 0

    def training_step(self, model, inputs, *args, **kwargs):
        ids = inputs["input_ids"]
        samples = (ids[:, 0] * 64 + ids[:, 1]).tolist()
        line = " ".join(map(str, (self.args.process_index, self.state.global_step + 1, *samples)))
        with Path(self.drawn).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self.crash_at == self.state.global_step + 1 and not Path(self.drawn + ".crashed").exists():
            Path(self.drawn + ".crashed").touch()
            os._exit(9)
        return super().training_step(model, inputs, *args, **kwargs)


def main() -> None:
    ours, args = HfArgumentParser((LoggedArguments, TrainingArguments)).parse_args_into_dataclasses()
    torch.manual_seed(args.seed)
    trainer = Logged(
        model=build(ours.model_name_or_path), args=args, train_dataset=Numbered(ours.data_mixture, ours.samples)
    )
    trainer.drawn, trainer.crash_at = ours.drawn, ours.crash_at
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
