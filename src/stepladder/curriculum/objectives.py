"""What known training scripts train for. Moments of another objective's gradients mean nothing."""

from __future__ import annotations

#: Scripts whose objective is known: TRL's by its name, and the built-in trainer. Anybody else's own is not judged.
_OBJECTIVES = {
    "module:stepladder.trainer": "sft",
    **{f"module:trl.scripts.{name}": name for name in ("sft", "dpo", "kto", "reward", "grpo", "rloo", "distillation")},
}


def change(before: str, now: str) -> tuple[str, str] | None:
    """The objectives of two scripts (paths, or `module:NAME`) where both are known and differ; else None."""
    old, new = _OBJECTIVES.get(before), _OBJECTIVES.get(now)
    return (old, new) if old is not None and new is not None and old != new else None
