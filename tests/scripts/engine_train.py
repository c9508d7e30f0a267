"""tiny_train for every engine, which can be killed: `--kill_at save:7,step:9,start:13`, each once.

step:N after optimizer step N, before anything is saved; save:N while the checkpoint of step N is being written, after
the weights; start:N when everything is loaded and step N would come first. The mark of a kill lies beside the output
directory, so that the next attempt goes on.
"""

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

if "--fsdp" in sys.argv:
    import fsdp_on_cpu  # noqa: F401

from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments


@dataclass
class EngineArguments(Arguments):
    kill_at: str = field(default="")
    fail_on_rank: int = field(default=-1)


def kill(wanted: str, what: str, output_dir: str) -> None:
    mark = Path(f"{output_dir}.killed-{what.replace(':', '-')}")
    if what in wanted.split(",") and not mark.exists() and os.environ.get("RANK", "0") == "0":
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Killer(TrainerCallback):
    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    def on_train_begin(self, args, state, control, **kwargs):
        kill(self.wanted, f"start:{state.global_step + 1}", args.output_dir)

    def on_step_end(self, args, state, control, **kwargs):
        kill(self.wanted, f"step:{state.global_step}", args.output_dir)


class KilledTrainer(Trainer):
    wanted = ""

    def _save_rng_state(self, output_dir):
        kill(self.wanted, f"save:{self.state.global_step}", self.args.output_dir)
        super()._save_rng_state(output_dir)


def main() -> None:
    if "--deepspeed" in sys.argv:
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo")
    ours, args = HfArgumentParser((EngineArguments, TrainingArguments)).parse_args_into_dataclasses()
    trainer = KilledTrainer(
        model=build(ours.model_name_or_path), args=args, train_dataset=Sentences(ours.data_mixture, ours.samples)
    )
    trainer.wanted = ours.kill_at
    trainer.add_callback(Killer(ours.kill_at))
    if args.process_index == ours.fail_on_rank:
        raise RuntimeError("planted on one rank")
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
