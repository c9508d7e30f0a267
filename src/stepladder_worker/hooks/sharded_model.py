"""A model that is saved in shards alone is saved without its configuration: it is written beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepladder_worker import session


class ShardedModelHook:
    """`save_model` of the Trainer does nothing under FSDP's SHARDED_STATE_DICT (transformers 4.46 to 5.23)."""

    model: Any
    processing_class: Any

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        if session.current().rank == 0 and not (Path(output_dir) / "config.json").exists():
            described = [(self.model, "config"), (self.model, "generation_config"), (self, "processing_class")]
            for holder, name in described:
                part: Any = getattr(holder, name, None)
                if hasattr(part, "save_pretrained"):
                    part.save_pretrained(output_dir)
