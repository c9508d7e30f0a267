"""tiny_train that freezes, from the start or from a step on.

`--frozen TEXT`: what has TEXT in its name (`=TEXT`: all but that). `--switch "5:TEXT 13:"`: the same from those steps
on. This is how one uninterrupted run of a plain Trainer freezes and thaws: all parameters are in its optimizer from
the start, and one without a gradient is not stepped. `--groups 1`: one parameter group instead of two. `--kill N`:
SIGKILL at step N. `--own_optimizer`: made by the script, of all parameters. `--tied`: the head is the embedding.
`--meddle move` moves the embedding at every step, `hold` puts the head back.
"""

import os
import signal
from dataclasses import dataclass, field

import torch
from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments


@dataclass
class FreezingArguments(Arguments):
    frozen: str = field(default="")
    switch: str = field(default="")
    groups: int = field(default=2)
    kill: int = field(default=0)
    own_optimizer: bool = field(default=False)
    meddle: str = field(default="")
    tied: bool = field(default=False)


def freeze(model, text: str) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(text[1:] in name if text.startswith("=") else not text or text not in name)


class Switch(TrainerCallback):
    def __init__(self, plan: str) -> None:
        self.texts = {int(step): text for step, text in (entry.split(":") for entry in plan.split())}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.on_step_end(args, state, control, model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in self.texts:
            freeze(model, self.texts[state.global_step])


class Kill(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Meddle(TrainerCallback):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.head = model.lm_head.weight.detach().clone()

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if self.kind == "move":
            model.model.embed_tokens.weight += 1e-3
        if self.kind == "hold":
            model.lm_head.weight.copy_(self.head)


class OneGroup(Trainer):
    def create_optimizer(self, *args, **kwargs):
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        rates = {"lr": self.args.learning_rate, "weight_decay": self.args.weight_decay}
        self.optimizer = torch.optim.AdamW(trained, **rates, fused=True)
        return self.optimizer


def main() -> None:
    ours, args = HfArgumentParser((FreezingArguments, TrainingArguments)).parse_args_into_dataclasses()
    model = build(ours.model_name_or_path)
    if ours.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
        model.config.tie_word_embeddings = True
    if ours.frozen:
        freeze(model, ours.frozen)
    own = torch.optim.AdamW(model.parameters(), lr=args.learning_rate) if ours.own_optimizer else None
    trainer = (OneGroup if ours.groups == 1 else Trainer)(
        model=model,
        args=args,
        train_dataset=Sentences(ours.data_mixture, ours.samples),
        optimizers=(own, None),
    )
    if ours.switch:
        trainer.add_callback(Switch(ours.switch))
    if ours.kill:
        trainer.add_callback(Kill(ours.kill))
    if ours.meddle:
        trainer.add_callback(Meddle(ours.meddle))
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
