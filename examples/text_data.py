"""Real text that every machine has: the documentation strings of Python's own library, sorted into three data sets.

    python examples/text_data.py OUT

writes OUT/short, OUT/medium and OUT/long (a `train.jsonl` with a `text` column each) and OUT/sample.txt for a
tokenizer. Deterministic for a Python version. Standard library only.
"""

import argparse
import ast
import json
import shutil
import sysconfig
from pathlib import Path

#: Upper limits of the three data sets, in words. Longer texts are left out.
TIERS = {"short": 20, "medium": 60, "long": 160}
SAMPLES_PER_TIER = 400


def docstrings(folder: Path) -> list[str]:
    """Documentation of modules, classes and functions in the files directly in `folder`, without repetitions."""
    texts: dict[str, None] = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_bytes())
        nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef))
        texts.update(dict.fromkeys(text for text in map(ast.get_docstring, nodes) if text))
    return list(texts)


def tiers(texts: list[str]) -> dict[str, list[str]]:
    """The texts by length; each tier starts where the one before it ends."""
    result: dict[str, list[str]] = {}
    low = 4
    for name, high in TIERS.items():
        result[name] = [text for text in texts if low <= len(text.split()) < high][:SAMPLES_PER_TIER]
        low = high
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    texts = docstrings(Path(sysconfig.get_paths()["stdlib"]))
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, chosen in tiers(texts).items():
        (partial / name).mkdir(parents=True)
        lines = (json.dumps({"text": text}) + "\n" for text in chosen)
        (partial / name / "train.jsonl").write_text("".join(lines), "utf-8")
        print(f"{name}: {len(chosen)} texts")
    (partial / "sample.txt").write_text("\n".join(texts), "utf-8")
    partial.rename(out)


if __name__ == "__main__":
    main()
