"""An evaluation for people: the model beside the baselines, and the samples that each figure rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepladder.evaluate.baselines import Baseline, best
from stepladder.evaluate.metrics import Figure


def table(title: str, metrics: Mapping[str, Figure], tiers: Mapping[str, Figure], others: Sequence[Baseline]) -> str:
    """A row a metric and a row a tier; the last line says whether the model is better than answering blindly."""
    lines = [title, _line("", "samples", "model", [other.name for other in others])]
    lines += [_row(name, figure, [other.metrics[name] for other in others]) for name, figure in metrics.items()]
    lines.append("answered right, by tier")
    lines += [_row(f"  {name}", figure, [other.tiers[name] for other in others]) for name, figure in tiers.items()]
    return "\n".join([*lines, verdict(metrics, best(others))]) + "\n"


def verdict(metrics: Mapping[str, Figure], blind: Baseline) -> str:
    """Whether the model beats the best answer that needs no eyes, as one sentence."""
    score, other = metrics["score"].value or 0.0, blind.metrics["score"].value or 0.0
    word = "better than" if score > other else "as good as" if score == other else "worse than"
    return f"score {score:.3f}: {word} the best baseline ({blind.name}, {other:.3f})"


def _row(name: str, figure: Figure, others: Sequence[Figure]) -> str:
    return _line(name, str(figure.samples), _number(figure), [_number(other) for other in others])


def _line(name: str, samples: str, model: str, others: Sequence[str]) -> str:
    return f"{name:<21}{samples:>8}{model:>8}" + "".join(f"{text:>14}" for text in others).rstrip()


def _number(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.3f}"
