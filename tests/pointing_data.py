"""Samples of the pointing task for tests: two pictures with a red box each, and the box's mask in the second."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from PIL import Image

QUESTION = "Point at the red box of the first image in the second image as [(x, y)], or say NOT_VISIBLE."


def write_pointing_data(folder: Path, count: int = 12, size: tuple[int, int] = (160, 90)) -> Path:
    """`count` samples, every second one a negative, with their pictures; the path of the JSONL file."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    lines = []
    for number in range(count):
        names = [f"{number}_{view}.png" for view in "AB"]
        for name in names:
            picture = Image.new("RGB", size, tuple(draw.randrange(200) for _ in range(3)))
            x, y = draw.randrange(size[0] - 20), draw.randrange(size[1] - 20)
            picture.paste((255, 0, 0), (x, y, x + 20, y + 20))
            picture.save(folder / name)
        mask = Image.new("L", size)
        mask.paste(255, (x, y, x + 20, y + 20))
        mask.save(folder / f"{number}_mask.png")
        negative = number % 2 == 1
        answer = "NOT_VISIBLE" if negative else f"[({(x + 10) / (size[0] - 1):.3f}, {(y + 10) / (size[1] - 1):.3f})]"
        lines.append(
            {
                "id": f"s{number}",
                "image": names,
                "depth": [],
                "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": answer}],
                "meta": {
                    "is_neg": negative,
                    "neg_type": "tierA" if negative else None,
                    "mask_b": None if negative else f"{number}_mask.png",
                },
            }
        )
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def run_python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """This interpreter on one core with these arguments."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
