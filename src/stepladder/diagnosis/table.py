"""The table of signatures. A line is taken for the first of them that it matches, so what is precise stands first.

The texts are those of Python, torch, transformers, DeepSpeed, NCCL, gloo, the driver and Slurm; tests/test_diagnosis.py
provokes each of them that an ordinary machine can provoke. docs/diagnosis.md shows the table.
"""

from __future__ import annotations

from stepladder.diagnosis.of_machines import COMMUNICATION, DEVICE, FOLLOWS, MEMORY, SIGNALS
from stepladder.diagnosis.of_software import CODE, FILES, HUB, MODELS, OWN_WORDS
from stepladder.diagnosis.signature import Signature

TABLE: tuple[Signature, ...] = (
    *OWN_WORDS,
    *FOLLOWS,
    *MEMORY,
    *DEVICE,
    *COMMUNICATION,
    *HUB,
    *FILES,
    *MODELS,
    *CODE,
    *SIGNALS,
)
