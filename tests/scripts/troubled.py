"""tiny_train with a planted trouble: `--trouble KIND --trouble_step N`.

exit0: ends without training. raise: fails at a step. short: ends training early. kill: SIGKILLs itself at a step.
nan: the loss becomes NaN. late: fails after the model is saved. hang: sleeps forever at a step.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass, field

from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments


@dataclass
class TroubledArguments(Arguments):
    trouble: str = field(default="none")
    trouble_step: int = field(default=0)


class Trouble(TrainerCallback):
    def __init__(self, kind: str, step: int) -> None:
        self.kind, self.step = kind, step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step != self.step:
            return
        if self.kind == "raise":
            raise RuntimeError("planted trouble")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "short":
            control.should_training_stop = True
        if self.kind == "hang":
            time.sleep(3600)


class NanTrainer(Trainer):
    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.state.global_step >= 7 else loss


def main() -> None:
    ours, args = HfArgumentParser((TroubledArguments, TrainingArguments)).parse_args_into_dataclasses()
    if ours.trouble == "exit0":
        print("models are ready")
        sys.exit(0)
    kind = NanTrainer if ours.trouble == "nan" else Trainer
    trainer = kind(
        model=build(ours.model_name_or_path), args=args, train_dataset=Sentences(ours.data_mixture, ours.samples)
    )
    trainer.add_callback(Trouble(ours.trouble, ours.trouble_step))
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)
    if ours.trouble == "late":
        raise RuntimeError("planted trouble after the model was saved")


if __name__ == "__main__":
    main()
