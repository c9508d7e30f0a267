"""``python -m stepladder.trainer --model_name_or_path MODEL --data FILE --output_dir OUT ...``"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from stepladder.data.samples import DataError
from stepladder.trainer.arguments import ArgumentsError, ScriptArguments, TrainerConfig, parse
from stepladder.trainer.dataset import image_sizes
from stepladder.trainer.loading import TrainingData, load_evaluation, load_training
from stepladder.trainer.messages import said
from stepladder.trainer.model import describe_trained, load_model
from stepladder.trainer.sft import OrderedSFTTrainer
from stepladder.trainer.tiles import TilesError, describe_grids

log = logging.getLogger("stepladder.trainer")


def main() -> None:
    """Train as the command line says; input that cannot be used ends the script with what it said, and no traceback."""
    try:
        _train()
    except (ArgumentsError, DataError, TilesError) as error:
        sys.exit(f"error: {said(error)}")


def _train() -> None:
    script, config = parse()
    _log_on_main_process(config)

    model, processor = load_model(script, config)
    log.info("model: %s", script.model_name_or_path)

    log.info("trains: %s", describe_trained(model))

    data, evaluation = _load_data(script, config)
    log.info("data: %s, %s samples", script.data, f"{data.length:,}")
    _log_tiles(script, processor, data)

    trainer = OrderedSFTTrainer(
        model=model,
        args=config,
        data=data,
        eval_dataset=evaluation,
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    log.info("trained: to step %d", trainer.state.global_step)

    trainer.save_model(config.output_dir)
    log.info("saved: %s", config.output_dir)
    _leave_group(trainer)


def _leave_group(trainer: OrderedSFTTrainer) -> None:
    """Let go of the distributed wrapper first, then of the process group.

    The wrapper's reducer holds the group. If it is freed last, at interpreter exit, it joins gloo's threads while it
    holds the GIL, and a thread that still has a Python tensor of its last collective waits for the GIL for ever.
    """
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    trainer.end()


def _load_data(script: ScriptArguments, config: TrainerConfig) -> tuple[TrainingData, Any]:
    seed = config.seed if config.data_seed is None else config.data_seed
    options = {"keep_messages": config.assistant_only_loss, "use_depth": script.use_depth}
    data = load_training(Path(script.data), seed=seed, length_window=script.length_window, **options)
    return data, load_evaluation(None if script.eval_data is None else Path(script.eval_data), **options)


def _log_tiles(script: ScriptArguments, processor: Any, data: TrainingData) -> None:
    if script.max_tiles is not None:
        grids = describe_grids(processor.image_processor, image_sizes(data.dataset, data.order(0)))
        shared = " together" if script.share_tiles else " an image"
        log.info("tiles: at most %d%s; the first sample's: %s", script.max_tiles, shared, grids or "no images")


def _log_on_main_process(config: TrainerConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO if config.process_index == 0 else logging.WARNING)
    log.propagate = False


if __name__ == "__main__":
    main()
