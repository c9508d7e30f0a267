"""Selecting and opening a large dataset, against every rank reading its JSON.

    python benchmarks/data.py --rows 10000000 --folder /somewhere/large

Writes a JSON Lines file of samples as the reference curriculum has them (about 350 bytes each; store and file together
take about 1 kB a row), and prints one JSON object to stdout: seconds to write and to build, to start with a warm cache,
resident memory of each of two ranks, and the time to find and read a sample at two positions. Every figure is taken in
processes of its own. "PSS" counts a page that several processes share in parts, so it adds up over ranks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: What the processes do, by name; each prints one JSON object, and waits for a line of stdin where memory is measured.
CODE = {
    "build": """
store = timed(lambda: open_store(mixture.parts[0].source, cache))
say(seconds=store[0], rows=store[1].rows, bytes=sum(f.stat().st_size for f in store[1].path.iterdir()))
""",
    "select": """
made = timed(lambda: make_selection(mixture, cache, out))
say(seconds=made[0], samples=made[1].length)
""",
    "open": """
before = memory()
seconds, selection = timed(lambda: read_selection(out))
first = timed(lambda: sample(selection, 0))[0]
opened = memory()
for position in range(1000):
    sample(selection, position * 7919)
say(start_seconds=seconds, first_sample_seconds=first, before=before, opened=opened)
sys.stdin.readline()
say(memory())
""",
    "seek": """
selection = read_selection(out)
def microseconds(find):
    return {at: timed(lambda: [find(at + n) for n in range(1000)])[0] / 1000 * 1e6 for at in (10, 10_000_000)}
sample(selection, 3)
say(microseconds(selection.at))
say(microseconds(lambda position: sample(selection, position)))
""",
    "json": """
before = memory()
def load():
    with open(data, encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(json_rows))]
seconds, records = timed(load)
say(start_seconds=seconds, rows=len(records), before=before)
sys.stdin.readline()
say(memory())
""",
}

PRELUDE = """
import json, os, sys, time
from pathlib import Path
import psutil
from stepladder.data.selection import read_selection
data, folder, json_rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
cache, out = folder / "cache", folder / "selection"

def timed(run):
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found

def say(*given, **named):
    print(json.dumps(given[0] if given else named), flush=True)

def memory():
    found = psutil.Process().memory_full_info()
    return {"pss_mb": found.pss / 1e6, "uss_mb": found.uss / 1e6}

def sample(selection, position):
    part, row = selection.at(position)
    return part.store.record(row)
"""

#: Only where something is built: a rank has neither DuckDB nor the control side.
SELECTING = """
from stepladder.data.mixture import Mixture, Part, Source
from stepladder.data.select import make_selection
from stepladder.data.store import open_store
source = Source("crossview", data, None, None, None)
where = "not meta.is_neg or meta.neg_type = 'tierA'"
mixture = Mixture("pos_tierA", (Part(source, where, 0.25, None, None, 1, None),), 0, "refuse")
"""


def main() -> None:
    """Write, measure, print."""
    arguments = parsed()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="stepladder-data-") as name:
        folder = Path(name)
        data = folder / "all.jsonl"
        progress(f"writing {arguments.rows:,} rows")
        write(data, arguments.rows)
        bench = Bench(data, folder, min(arguments.rows, arguments.json_rows))
        sys.stdout.write(json.dumps(measured(bench, arguments.rows), indent=1) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="samples of the dataset (default: %(default)s)")
    parser.add_argument(
        "--json-rows", type=int, default=1_000_000, help="at most so many are read as JSON by each rank"
    )
    parser.add_argument(
        "--folder", type=Path, default=None, help="on a disk with 1 kB a row; default: the system's own"
    )
    return parser.parse_args()


class Bench:
    """Runs the code of CODE in processes of its own."""

    def __init__(self, data: Path, folder: Path, json_rows: int) -> None:
        self.json_rows = json_rows
        self._arguments = [str(data), str(folder), str(json_rows)]

    def start(self, name: str) -> subprocess.Popen[str]:
        """Begin; its answers come on stdout, one a line."""
        selecting = SELECTING if name in ("build", "select") else ""
        command = [sys.executable, "-c", PRELUDE + selecting + CODE[name], *self._arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, name: str) -> list[dict[str, Any]]:
        """All answers of one process."""
        progress(name)
        process = self.start(name)
        answers, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{name} failed")
        return [json.loads(line) for line in answers.splitlines()]

    def pair(self, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(first answer, memory while both are there) of two ranks."""
        progress(f"two ranks: {name}")
        ranks = [self.start(name) for _ in range(2)]
        first = [json.loads(answer(rank)) for rank in ranks]
        for rank in ranks:
            assert rank.stdin is not None
            rank.stdin.write("\n")
            rank.stdin.flush()
        second = [json.loads(answer(rank)) for rank in ranks]
        for rank in ranks:
            rank.communicate()
        return list(zip(first, second, strict=True))


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def measured(bench: Bench, rows: int) -> dict[str, Any]:
    """All figures. Seconds, MB (10^6 bytes), microseconds."""
    (build,) = bench.run("build")
    (warm,) = bench.run("build")
    (select,) = bench.run("select")
    (kept,) = bench.run("select")
    ranks = bench.pair("open")
    at, read = bench.run("seek")
    by_json = bench.pair("json")
    return {
        "rows": rows,
        "cores": os.cpu_count(),
        "build_seconds": build["seconds"],
        "store_bytes": build["bytes"],
        "select_seconds": select["seconds"],
        "selected": select["samples"],
        "warm_store_seconds": warm["seconds"],
        "warm_selection_seconds": kept["seconds"],
        "rank_start_seconds": max(first["start_seconds"] + first["first_sample_seconds"] for first, _ in ranks),
        "rank_pss_mb": [last["pss_mb"] - first["before"]["pss_mb"] for first, last in ranks],
        "rank_private_mb": [last["uss_mb"] - first["before"]["uss_mb"] for first, last in ranks],
        "seek_microseconds": at,
        "seek_and_read_microseconds": read,
        "json_rows": bench.json_rows,
        "json_rank_start_seconds": [first["start_seconds"] for first, _ in by_json],
        "json_rank_pss_mb": [last["pss_mb"] - first["before"]["pss_mb"] for first, last in by_json],
    }


def write(path: Path, rows: int) -> None:
    """Samples of the reference's shape. Their images, which are not there, are left out: text is what is measured."""
    draw = random.Random(0)
    question = "The first image shows a room with one object outlined. Point at it in the second image."
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            tier = draw.choice((None, None, "tierA", "tierB", "tierC"))
            answer = "NOT_VISIBLE" if tier else f"[(0.{number % 1000:03d}, 0.{draw.randrange(1000):03d})]"
            record = {
                "id": f"{number % 5000:05x}_uid{number}_A{number % 9973:06d}_B{number % 7919:06d}",
                "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
                "meta": {
                    "scene": f"{number % 5000:05x}",
                    "uid": number,
                    "is_neg": tier is not None,
                    "neg_type": tier,
                    "mask_area": draw.randrange(1, 99_999),
                },
            }
            file.write(json.dumps(record) + "\n")
    time.sleep(3)  # the time of a file that was changed just now is not trusted


def progress(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


if __name__ == "__main__":
    main()
