"""Losses as they happen, kept on the device: reading one back waits for it, so that is left to the caller."""

from __future__ import annotations

from collections import deque

import torch

#: Steps whose mean is "the loss at an end of the stage".
WINDOW = 5


class Losses:
    """Losses of the first and last steps, and the first step whose loss is not finite."""

    def __init__(self) -> None:
        self._first: list[torch.Tensor] = []
        self._last: deque[torch.Tensor] = deque(maxlen=WINDOW)
        self._step: torch.Tensor | None = None
        self._bad_step: torch.Tensor | None = None

    def add(self, value: torch.Tensor, step: int) -> None:
        """Loss (scalar) of one micro-batch of step number `step`, already divided as the Trainer divides it."""
        value = value.detach().float()
        self._step = value if self._step is None else self._step + value
        if self._bad_step is None:
            self._bad_step = torch.full((), -1, dtype=torch.int64, device=value.device)
        newly_bad = ~torch.isfinite(value) & (self._bad_step < 0)
        self._bad_step = torch.where(newly_bad, torch.full_like(self._bad_step, step), self._bad_step)

    def step_done(self) -> None:
        """The optimizer step is complete: its loss is the sum over its micro-batches."""
        if self._step is not None:
            if len(self._first) < WINDOW:
                self._first.append(self._step)
            self._last.append(self._step)
        self._step = None

    def non_finite_step(self) -> int | None:
        """First step with a NaN or infinite loss on this rank. Waits for the device."""
        step = -1 if self._bad_step is None else int(self._bad_step.item())
        return None if step < 0 else step

    def latest(self) -> float | None:
        """Loss of the last completed step. Waits for the device."""
        return float(self._last[-1].item()) if self._last else None

    def summary(self) -> dict[str, float | int | None]:
        """Mean of the first and of the last steps. Waits for the device."""
        return {
            "first": _mean(self._first),
            "last": _mean(list(self._last)),
            "non_finite_step": self.non_finite_step(),
        }


def _mean(values: list[torch.Tensor]) -> float | None:
    return float(torch.stack(values).mean().item()) if values else None
