"""Cross-view samples from real photographs whose geometry is known: a spot framed in one view, to be found in another.

    python examples/photographs OUT [--images FOLDER]

The photographs are those of OpenCV's examples; without `--images` they are taken from Debian's package opencv-doc,
which is downloaded where it is not installed. Writes OUT/samples.jsonl for training and OUT/eval.jsonl, of other parts
of the photographs, in the form of docs/data.md. The same seed gives the same files. numpy and Pillow only.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from fetch import FetchError, photographs
from geometry import PhotographError, read_flat, read_stereo
from pairs import Chooser, Pair, PairsError, plan
from views import FRAME_NAME, framed, mask

QUESTION = (
    f"The first image is a part of a photograph with a spot framed in {FRAME_NAME}. Point at the same spot in the "
    "second image, a part of another photograph. Answer with one point [(x, y)], where x and y are between 0 and 1, or "
    "with NOT_VISIBLE."
)


def main() -> int:
    """Returns the exit code: 0 done or already there, 2 when the photographs are not to be had."""
    options = _parser().parse_args()
    if (options.out / "eval.jsonl").is_file():
        print(f"{options.out}: already there")
        return 0
    try:
        folder = photographs(options.images, options.out.with_name("photographs"))
        counts = build(folder, options.out, {"samples": options.samples, "eval": options.eval_samples}, options.seed)
    except (FetchError, PhotographError, PairsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, found in counts.items():
        print(f"{options.out}/{name}.jsonl: {', '.join(f'{count} {kind}' for kind, count in found.items())}")
    return 0


def build(folder: Path, out: Path, sizes: dict[str, int], seed: int) -> dict[str, dict[str, int]]:
    """Write OUT, complete or not at all; returns the number of samples by file and kind.

    Args:
        folder: of the photographs.
        out: made by this function.
        sizes: number of samples by file, "samples" and "eval".
        seed: everything follows from it and the photographs.
    """
    flat = read_flat(folder)
    scenes = [flat, flat.turned(), read_stereo(folder)]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    counts = {}
    for number, (name, size) in enumerate(sizes.items()):
        draw = np.random.default_rng([seed, number])
        counts[name] = _write(partial, name, Chooser(scenes, name == "samples", draw), draw.permutation(size))
    partial.rename(out)
    return counts


def _write(out: Path, name: str, chooser: Chooser, order: np.ndarray) -> dict[str, int]:
    """Write a file of as many samples as `order` has, and their pictures."""
    pairs = [chooser.pair(kind, tier) for kind, tier in plan(len(order))]
    (out / name).mkdir()
    lines = [json.dumps(_sample(out, f"{name}/{number:04d}", pairs[place])) for number, place in enumerate(order)]
    (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return dict(sorted(Counter(f"{pair.tier or 'positive'} ({pair.why})" for pair in pairs).items()))


def _sample(out: Path, stem: str, pair: Pair) -> dict[str, object]:
    """Write a pair's views and return its line."""
    spot_a = pair.window_a.to_view(pair.spot_a)
    framed(pair.window_a.crop(pair.a.a), spot_a).save(out / f"{stem}_a.png")
    pair.window_b.crop(pair.b.b).save(out / f"{stem}_b.png")
    area = 0
    if pair.answer is not None and pair.spot_b is not None:
        drawn = mask(pair.window_b.to_view(pair.spot_b))
        drawn.save(out / f"{stem}_mask.png")
        area = int((np.asarray(drawn) > 0).sum())
    answer = "NOT_VISIBLE" if pair.answer is None else "[({:.3f}, {:.3f})]".format(*pair.answer)
    return {
        "id": stem.replace("/", "-"),
        "image": [f"{stem}_a.png", f"{stem}_b.png"],
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": answer},
        ],
        "meta": {
            "scene": f"{pair.a.scene}-{pair.part}",
            "scene_b": f"{pair.b.scene}-{pair.part}",
            "frameA": pair.a.names[0],
            "frameB": pair.b.names[1],
            "is_neg": pair.tier is not None,
            "neg_type": pair.tier,
            "why": pair.why,
            "mask_area": area,
            "mask_b": f"{stem}_mask.png" if area else None,
            "shift": None if pair.shift is None else round(pair.shift, 3),
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python examples/photographs", description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where the photographs are already")
    parser.add_argument("--samples", type=int, default=240, help="for training (default %(default)s)")
    parser.add_argument("--eval-samples", type=int, default=40, help="for evaluation (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="everything follows from it (default %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
