"""tiny_train that does one thing wrong: `--fault KIND`, at `--fault_step N` where it does so in the middle.

Each kind is a Trainer that overrides what scripts override, or a callback that does what callbacks do.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tiny_train import Arguments, Sentences, build
from transformers import EarlyStoppingCallback, HfArgumentParser, Trainer, TrainerCallback, TrainingArguments


@dataclass
class FaultyArguments(Arguments):
    fault: str = field(default="none")
    fault_step: int = field(default=0)
    frozen_layer: int = field(default=-1)


class FreshOptimizer(Trainer):
    """State, steps and history of the checkpoint, but not its optimizer."""

    def _load_optimizer_and_scheduler(self, checkpoint):
        pass


class NewRandomState(Trainer):
    def _load_rng_state(self, checkpoint):
        pass


class SmallBatches(Trainer):
    """The batch size is changed where RoboRefer's loop changes it."""

    def _inner_training_loop(self, *args, **kwargs):
        self._train_batch_size = 1
        return super()._inner_training_loop(*args, **kwargs)


class SkipsABatch(Trainer):
    """A batch is taken from the loader and not trained on."""

    def get_batch_samples(self, iterator, *args, **kwargs):
        if self.state.global_step == self.fault_step:
            next(iterator)
        return super().get_batch_samples(iterator, *args, **kwargs)


class ReplaysABatch(Trainer):
    """The last batch is put in once more."""

    def get_batch_samples(self, iterator, *args, **kwargs):
        batches, items = super().get_batch_samples(iterator, *args, **kwargs)
        return (batches + batches[-1:] if self.state.global_step == self.fault_step else batches), items


class OneSampleOn(torch.utils.data.SequentialSampler):
    def __iter__(self):
        return iter([*range(1, len(self.data_source)), 0])


class ShiftedOrder(Trainer):
    """A sampler whose order is another one when the training goes on: one sample is skipped."""

    def _get_train_sampler(self, dataset=None):
        kind = OneSampleOn if self.args.resume_from_checkpoint else torch.utils.data.SequentialSampler
        return kind(self.train_dataset)


class SavesHalves(Trainer):
    """Saves the weights in half precision, as scripts do to save disk."""

    def _save(self, output_dir=None, state_dict=None):
        state = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {name: value.bfloat16() for name, value in state.items()})


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return (self.data[index] for index in range(len(self.data)))


class NanLoss(Trainer):
    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.state.global_step + 1 == self.fault_step else loss


class Fault(TrainerCallback):
    def __init__(self, kind, step):
        self.kind, self.step = kind, step

    def on_train_begin(self, args, state, control, model, optimizer, lr_scheduler, **kwargs):
        if self.kind == "reinit":
            torch.nn.init.zeros_(model.lm_head.weight)
        if self.kind == "shifts_curve":
            lr_scheduler.step()
        self.held = model.lm_head.weight.detach().clone()

    def on_step_end(self, args, state, control, model, optimizer, **kwargs):
        if self.kind == "holds_trained":
            model.lm_head.weight.data.copy_(self.held)
        if state.global_step != self.step:
            return
        if self.kind == "clears_optimizer":
            optimizer.state.clear()
        if self.kind == "weight_decay":
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.5
        if self.kind == "infinite_weight":
            model.lm_head.weight.data[0, 0] = float("inf")
        if self.kind == "moves_frozen":
            model.model.layers[0].mlp.up_proj.weight.data += 0.01
        if self.kind == "stops_early":
            control.should_training_stop = True

    def on_save(self, args, state, control, **kwargs):
        if self.kind == "writes_after_save":
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "scheduler.pt"
            path.write_bytes(path.read_bytes() + b" ")


TRAINERS = {
    "fresh_optimizer": FreshOptimizer,
    "new_random_state": NewRandomState,
    "small_batches": SmallBatches,
    "skips_a_batch": SkipsABatch,
    "replays_a_batch": ReplaysABatch,
    "shifted_order": ShiftedOrder,
    "saves_halves": SavesHalves,
    "nan_loss": NanLoss,
}


def main() -> None:
    ours, args = HfArgumentParser((FaultyArguments, TrainingArguments)).parse_args_into_dataclasses()
    if ours.fault == "exit0":
        print("models are ready")
        sys.exit(0)
    if ours.fault == "ignores_max_steps":
        args.max_steps += 2
    model = build(ours.model_name_or_path)
    if ours.frozen_layer >= 0:
        model.model.layers[ours.frozen_layer].requires_grad_(False)
    data = Sentences(ours.data_mixture, ours.samples)
    trainer = TRAINERS.get(ours.fault, Trainer)(
        model=model,
        args=args,
        train_dataset=Stream(data) if ours.fault == "iterable" else data,
        eval_dataset=data,
    )
    trainer.fault_step = ours.fault_step
    trainer.add_callback(Fault(ours.fault, ours.fault_step))
    if ours.fault == "patience":
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=1))
    trainer.train(resume_from_checkpoint=None if ours.fault == "ignores_resume" else args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
