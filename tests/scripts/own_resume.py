"""A script that computes its own resume flag from `output_dir`, as RoboRefer's `train_mem.py` does.

`--resume_from_checkpoint` parses and is never read: chained with that flag, stage 2 starts its weights warm and
everything else from zero, and still ends at the global step it was told. An output directory that holds a
`config.json` makes it say that the models are ready and exit with 0.
"""

import sys
from pathlib import Path

from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


def main() -> None:
    ours, args = HfArgumentParser((Arguments, TrainingArguments)).parse_args_into_dataclasses()
    output = Path(args.output_dir)
    if (output / "config.json").exists():
        print(f"models are ready in {output}")
        sys.exit(0)
    resume = output.is_dir() and get_last_checkpoint(str(output)) is not None
    data = Sentences(ours.data_mixture, ours.samples)
    trainer = Trainer(model=build(ours.model_name_or_path), args=args, train_dataset=data)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
