"""A research fork's trainer, which overrides what such forks override, with a training loop of its own.

The loop has the phases of transformers 4.46: it counts epochs by whole accumulations and carries an accumulation that
an epoch's end cuts short over into the next epoch. Runs under transformers 4.46 to 5.x. `--bare True`
trains from the start whatever the command line says.
"""

import inspect
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import skip_first_batches
from safetensors.torch import save_file
from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainingArguments
from transformers.trainer_callback import ExportableState, TrainerState
from transformers.trainer_utils import TrainOutput

TIMED = "start_time" in inspect.signature(Trainer._maybe_log_save_evaluate).parameters


@dataclass
class ForeignArguments(Arguments):
    bare: bool = field(default=False)


class Blocks(torch.utils.data.Sampler):
    """Shuffles blocks of ten neighbours, by its own seed and the epoch."""

    def __init__(self, data, seed):
        self.data, self.seed, self.epoch = data, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        blocks = torch.arange(len(self.data)).split(10)
        order = torch.randperm(len(blocks), generator=generator)
        return iter(torch.cat([blocks[index] for index in order]).tolist())

    def __len__(self):
        return len(self.data)


class ForeignTrainer(Trainer):
    bare = False

    def train(self):
        """What is resumed is settled here, as forks do, and not by who calls it."""
        return super().train(resume_from_checkpoint=None if self.bare else self.args.resume_from_checkpoint)

    def _get_train_sampler(self, *args):
        return Blocks(self.train_dataset, self.args.seed)

    def create_optimizer(self, *args):
        """Half the learning rate and no decay for the embedding."""
        if self.optimizer is None:
            embedding = self.model.get_input_embeddings().weight
            rest = [p for p in self.model.parameters() if p is not embedding and p.requires_grad]
            groups = [
                {"params": rest, "weight_decay": self.args.weight_decay},
                {"params": [embedding], "weight_decay": 0.0, "lr": self.args.learning_rate / 2},
            ]
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(groups, **settings)
        return self.optimizer

    def save_model(self, output_dir=None, _internal_call=False):
        super().save_model(output_dir, _internal_call)
        parts = Path(output_dir or self.args.output_dir) / "embedding"
        parts.mkdir(parents=True, exist_ok=True)
        save_file({"weight": self.model.get_input_embeddings().weight.detach().clone()}, parts / "part.safetensors")

    def log(self, logs, *args, **kwargs):
        super().log({**logs, "samples": self.state.global_step * self.args.train_batch_size}, *args, **kwargs)

    def _inner_training_loop(
        self, batch_size=None, args=None, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None
    ):
        self.accelerator.free_memory()
        self._train_batch_size = args.train_batch_size  # whatever a checkpoint says
        loader = self.get_train_dataloader()
        updates_per_epoch = max(len(loader) // args.gradient_accumulation_steps, 1)
        epochs = math.ceil(args.max_steps / updates_per_epoch)
        self.create_optimizer_and_scheduler(num_training_steps=args.max_steps)
        self.state = TrainerState(stateful_callbacks=self._exportable())
        self.state.logging_steps, self.state.save_steps = int(args.logging_steps), int(args.save_steps)
        self.model.train()
        model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.model_wrapped = model
        self._load_optimizer_and_scheduler(resume_from_checkpoint)

        epochs_trained = batches_to_skip = 0
        if resume_from_checkpoint is not None:
            self.state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            epochs_trained = self.state.global_step // updates_per_epoch
            batches_to_skip = self.state.global_step % updates_per_epoch * args.gradient_accumulation_steps
        self._refer(loader, epochs)
        self._total_loss_scalar, self._globalstep_last_logged = 0.0, self.state.global_step
        self._begun = time.time()
        tr_loss = torch.tensor(0.0)
        model.zero_grad()
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)

        total_batched_samples = 0
        for epoch in range(epochs_trained, epochs):
            iterator = loader
            iterator.set_epoch(epoch)
            self.control = self.callback_handler.on_epoch_begin(args, self.state, self.control)
            steps_in_epoch, skipped, rng_to_sync = len(iterator), batches_to_skip, False
            if epoch == epochs_trained and resume_from_checkpoint is not None and batches_to_skip == 0:
                self._load_rng_state(resume_from_checkpoint)
            if batches_to_skip > 0:
                iterator, batches_to_skip, rng_to_sync = skip_first_batches(iterator, batches_to_skip), 0, True
            for step, inputs in enumerate(iterator):
                total_batched_samples += 1
                if rng_to_sync:
                    self._load_rng_state(resume_from_checkpoint)
                    rng_to_sync = False
                if step % args.gradient_accumulation_steps == 0:
                    self.control = self.callback_handler.on_step_begin(args, self.state, self.control)
                due = total_batched_samples % args.gradient_accumulation_steps == 0
                self.accelerator.gradient_state._set_sync_gradients(due)
                self.current_gradient_accumulation_steps = args.gradient_accumulation_steps
                tr_loss = tr_loss + self.training_step(model, inputs)
                if due:
                    self.accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                    self.optimizer.step()
                    self.lr_scheduler.step()
                    model.zero_grad()
                    self.state.global_step += 1
                    self.state.epoch = epoch + (step + 1 + skipped) / steps_in_epoch
                    self.control = self.callback_handler.on_step_end(args, self.state, self.control)
                    self._after(tr_loss, model, trial, epoch, ignore_keys_for_eval)
                else:
                    self.control = self.callback_handler.on_substep_end(args, self.state, self.control)
                if self.control.should_training_stop:
                    break
            self.control = self.callback_handler.on_epoch_end(args, self.state, self.control)
            self._after(tr_loss, model, trial, epoch, ignore_keys_for_eval)
            if self.control.should_training_stop:
                break
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)
        return TrainOutput(self.state.global_step, float(tr_loss), {})

    def _exportable(self):
        return [part for part in [*self.callback_handler.callbacks, self.control] if isinstance(part, ExportableState)]

    def _refer(self, loader, epochs):
        for name, part in (("model", self.model), ("optimizer", self.optimizer), ("lr_scheduler", self.lr_scheduler)):
            setattr(self.callback_handler, name, part)
        self.callback_handler.train_dataloader = loader
        self.state.max_steps, self.state.num_train_epochs = self.args.max_steps, epochs
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()

    def _after(self, tr_loss, model, trial, epoch, ignore_keys):
        timed = (self._begun,) if TIMED else ()
        self._maybe_log_save_evaluate(tr_loss, None, model, trial, epoch, ignore_keys, *timed)


def main() -> None:
    ours, args = HfArgumentParser((ForeignArguments, TrainingArguments)).parse_args_into_dataclasses()
    data = Sentences(ours.data_mixture, ours.samples)
    trainer = ForeignTrainer(model=build(ours.model_name_or_path), args=args, train_dataset=data)
    trainer.bare = ours.bare
    trainer.train()
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
