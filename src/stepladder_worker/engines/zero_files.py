"""A ZeRO checkpoint as DeepSpeed writes it, read by parameter name: pieces of every rank's flat partitions.

Stage 3 cuts every parameter into as many equal parts as there are ranks and lays the parts of all parameters one
after the other; stages 1 and 2 lay the parameters one after the other and cut that. Read with torch's `weights_only`
and an allow-list, so nothing in a file is run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stepladder_worker.carried import MASTER
from stepladder_worker.engines.plain import tensors


@dataclass(frozen=True)
class Piece:
    """A part of one parameter's weights (`key` is MASTER) or of one of its moments.

    `values` is flat; `start` is the flat index of its first element in the whole tensor of that `shape`.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    values: torch.Tensor
    start: int


class ZeroFiles:
    """The files of one checkpoint; raises OSError, RuntimeError, KeyError or ValueError where they cannot be read.

    Attributes:
        shapes: shape of every trained parameter, in the order of the partitions.
        dtypes: type of every parameter in the model.
        buffers: of the model, those that it saves.
        world: ranks that wrote it.
        stage_3: the partitions are those of stage 3.
        steps: the engine's own counters (`global_steps` and the like), for whoever goes on from it.
        loss_scaler: of 16-bit training, as it was.
    """

    def __init__(self, checkpoint: Path) -> None:
        folder = checkpoint / (checkpoint / "latest").read_text("utf-8").strip()
        self.optimizer_files = sorted(folder.glob("*zero_pp_rank_*_optim_states.pt"), key=_rank)
        self.model_files = sorted(folder.glob("*mp_rank_*_model_states.pt"), key=_rank)
        self.world = len(self.optimizer_files)
        model = _load(self.model_files[0])
        first = _load(self.optimizer_files[0])["optimizer_state_dict"]
        self.stage_3, self.loss_scaler = "fp32_flat_groups" in first, first["loss_scaler"]
        groups = model["param_shapes"]
        self.shapes = {name: tuple(shape) for group in groups for name, shape in group.items()}
        self.dtypes = {name: value.dtype for name, value in model["module"].items()}
        self.buffers = {name: model["module"][name] for name in model["buffer_names"] if name in model["module"]}
        counted = ("global_steps", "global_samples", "skipped_steps")
        self.steps: dict[str, int] = {name: model[name] for name in counted if isinstance(model.get(name), int)}

    def pieces(self) -> Iterator[Piece]:
        """Every piece of every rank, one rank's file in memory at a time."""
        reached = dict.fromkeys(self.shapes, 0)
        for rank, path in enumerate(self.optimizer_files):
            saved = _load(path)["optimizer_state_dict"]
            if self.stage_3:
                yield from self._pieces_3(rank, saved)
            else:
                yield from self._pieces_2(saved, reached)

    def weights(self) -> dict[str, torch.Tensor]:
        """The model, whole, in its own types: what loading makes of the 32-bit copies, and what is not trained."""
        whole = _load(self.model_files[0])
        if not self.stage_3:
            return dict(whole["module"])
        frozen = {name: tuple(shape) for name, shape in (whole.get("frozen_param_shapes") or {}).items()}
        shapes = {**self.shapes, **frozen}
        found = {name: torch.empty(shape, dtype=self.dtypes[name]) for name, shape in shapes.items()}
        for piece in self.pieces():
            if piece.key == MASTER:
                found[piece.name].view(-1)[piece.start : piece.start + piece.values.numel()] = piece.values
        for rank, path in enumerate(self.model_files):
            for name, part in (_load(path).get("frozen_param_fragments") or {}).items():
                target = found[name].view(-1)[rank * part.numel() : (rank + 1) * part.numel()]
                target.copy_(part.view(-1)[: target.numel()])
        return {**found, **self.buffers}

    def counters(self) -> dict[str, float]:
        """Step counter of every parameter that has one."""
        saved = _load(self.optimizer_files[0])["optimizer_state_dict"]
        base = saved.get("optimizer_state_dict") or saved["base_optimizer_state"]
        counts = [_counter(base, index) for index in range(len(_flats(saved)))]
        if self.stage_3:
            names = _spread(self.shapes, [flat.numel() for flat in _flats(saved)], self.world)
        else:
            # Every rank holds a part of every group, but not of every parameter.
            others = [_load(path)["optimizer_state_dict"]["param_slice_mappings"] for path in self.optimizer_files]
            names = {name: index for groups in others for index, group in enumerate(groups) for name in group}
        return {name: count for name, index in names.items() if (count := counts[index]) is not None}

    def _pieces_3(self, rank: int, saved: dict[str, Any]) -> Iterator[Piece]:
        for key, flat in _joined(saved["fp32_flat_groups"], saved["optimizer_state_dict"]).items():
            place = 0
            for name, shape in self.shapes.items():
                whole = math.prod(shape)
                part = -(-whole // self.world)
                start = rank * part
                count = max(0, min(part, whole - start))
                yield Piece(name, key, shape, flat.narrow(0, place, count), start)
                place += part

    def _pieces_2(self, saved: dict[str, Any], reached: dict[str, int]) -> Iterator[Piece]:
        base = saved["base_optimizer_state"]
        for index, (flat, addresses) in enumerate(zip(_flats(saved), saved["param_slice_mappings"], strict=True)):
            held = {MASTER: flat, **_moments(base, index, flat)}
            for name, address in addresses.items():
                for key, values in held.items():
                    part = values.narrow(0, address.start, address.numel)
                    yield Piece(name, key, self.shapes[name], part, reached[name])
                reached[name] += address.numel


def _flats(saved: dict[str, Any]) -> list[torch.Tensor]:
    flats: list[torch.Tensor] = saved.get("fp32_flat_groups") or saved["single_partition_of_fp32_groups"]
    return flats


def _joined(flats: list[torch.Tensor], base: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The sub-groups of a rank laid end to end, by kind."""
    held = [{MASTER: flat, **_moments(base, index, flat)} for index, flat in enumerate(flats)]
    return {key: torch.cat([group[key] for group in held]) for key in held[0]}


def _moments(base: dict[str, Any], index: int, flat: torch.Tensor) -> dict[str, torch.Tensor]:
    state = tensors(base["state"].get(index, {}))
    return {key: value for key, value in state.items() if value.numel() == flat.numel()}


def _counter(base: dict[str, Any], index: int) -> float | None:
    groups = base["param_groups"]
    step = base["state"].get(index, {}).get("step", groups[min(index, len(groups) - 1)].get("step"))
    return None if step is None else float(step)


def _spread(shapes: dict[str, tuple[int, ...]], sizes: list[int], world: int) -> dict[str, int]:
    """Sub-group of every parameter of stage 3."""
    found: dict[str, int] = {}
    index, room = 0, sizes[0]
    for name, shape in shapes.items():
        part = -(-math.prod(shape) // world)
        while room < part and index + 1 < len(sizes):
            index += 1
            room = sizes[index]
        found[name] = index
        room -= part
    return found


def _rank(path: Path) -> int:
    found = re.search(r"zero_pp_rank_(\d+)_", path.name)
    return int(found[1]) if found else 0


def _load(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(_allowed()):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return loaded


def _allowed() -> list[Any]:
    """Plain records of DeepSpeed's that its files hold beside tensors."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address]
