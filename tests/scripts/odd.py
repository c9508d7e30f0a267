"""tiny_train with what real scripts do beside the plain Trainer: `--odd KIND`, with the same data for evaluation.

count_in_group: an optimizer that keeps its step counter in the parameter group. iterable: an IterableDataset.
frozen: the embedding is not trained. reinit: a callback initialises a layer again.
"""

from dataclasses import dataclass, field

import torch
from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments


@dataclass
class OddArguments(Arguments):
    odd: str = field(default="none")


class CountInGroup(torch.optim.SGD):
    """SGD whose rate falls with the number of steps it has made, which it keeps in its groups."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)
        for group in self.param_groups:
            group["made"] = 0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["made"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad /= group["made"] ** 0.5
        return super().step(closure)


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return (self.data[index] for index in range(len(self.data)))


class Reinit(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        torch.nn.init.zeros_(model.lm_head.weight)


def main() -> None:
    ours, args = HfArgumentParser((OddArguments, TrainingArguments)).parse_args_into_dataclasses()
    data = Sentences(ours.data_mixture, ours.samples)
    model = build(ours.model_name_or_path)
    optimizer = None
    if ours.odd == "count_in_group":
        optimizer = CountInGroup(model.parameters(), args.learning_rate)
    if ours.odd == "frozen":
        model.model.embed_tokens.weight.requires_grad_(False)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=Stream(data) if ours.odd == "iterable" else data,
        eval_dataset=data,
        optimizers=(optimizer, None),
    )
    if ours.odd == "reinit":
        trainer.add_callback(Reinit())
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
