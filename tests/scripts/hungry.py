"""logged that runs out of memory: `--fits 7:2,9:1`: from step 7 on two samples at once fit at most, from step 9 on one.

What does not fit is really asked for, before the micro-batch is written down. `--workers_from N`: from step N on data
workers do not fit.
"""

from dataclasses import dataclass, field

import torch
from logged import Logged, LoggedArguments, Numbered
from tiny_train import build
from transformers import HfArgumentParser, TrainingArguments

#: More than any machine's addresses, in bytes: the allocator refuses it on every machine.
TOO_MUCH = 1 << 55


@dataclass
class HungryArguments(LoggedArguments):
    fits: str = field(default="")
    workers_from: int = field(default=0)
    dropout: float = field(default=0.0)


class Hungry(Logged):
    fits = ()
    workers_from = 0

    def training_step(self, model, inputs, *args, **kwargs):
        step = self.state.global_step + 1
        room = [samples for since, samples in self.fits if step >= since]
        crowded = self.workers_from and step >= self.workers_from and self.args.dataloader_num_workers
        if crowded or (room and len(inputs["input_ids"]) > room[-1]):
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return super().training_step(model, inputs, *args, **kwargs)


def main() -> None:
    ours, args = HfArgumentParser((HungryArguments, TrainingArguments)).parse_args_into_dataclasses()
    model = build(ours.model_name_or_path)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = ours.dropout
    trainer = Hungry(model=model, args=args, train_dataset=Numbered(ours.data_mixture, ours.samples))
    trainer.drawn, trainer.crash_at = ours.drawn, ours.crash_at
    trainer.fits = [tuple(map(int, part.split(":"))) for part in ours.fits.split(",") if part]
    trainer.workers_from = ours.workers_from
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
