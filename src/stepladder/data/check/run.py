"""`stepladder data check`: from a curriculum's data to a report."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stepladder.data import measuring
from stepladder.data.check import scan, selections, whole
from stepladder.data.check.book import Book
from stepladder.data.check.finding import Fault
from stepladder.data.check.progress import Tell
from stepladder.data.check.report import Report
from stepladder.data.check.sample import Rules
from stepladder.data.check.tokens import Tokens, tokens_of
from stepladder.data.check.uses import Corpus, Evaluated, gather
from stepladder.data.select import make_selection
from stepladder.data.selection import FILE, Selection
from stepladder.data.stages import CurriculumData, StageData, evaluation_of
from stepladder.data.store import open_store
from stepladder.data.usable import Look
from stepladder.planning.plan import PlannedStage

#: Records of each dataset whose pixels are decoded where no other number was asked for.
DECODED = 200

#: Records of a dataset whose answers say whether it is one of the pointing task.
VOTERS = 10_000

#: Samples of each stage that are measured in tokens.
MEASURED = 200


@dataclass(frozen=True)
class Options:
    """How much is looked at.

    Attributes:
        decoded: records of each dataset whose pixels are decoded; None for all of them.
        measured: samples of each stage that are measured in tokens.
        tell: shows how far it is.
    """

    decoded: int | None
    measured: int
    tell: Tell


def check(file: str, data: CurriculumData, options: Options) -> Report:
    """Check what the stages of a curriculum train on, and its evaluation datasets; writes nothing but stores.

    Raises PlanError for datasets that cannot be read and mixtures that select nothing, RunError when a process of the
    check is killed.
    """
    with tempfile.TemporaryDirectory(prefix="stepladder-check-") as scratch:
        return _Check(data, options, Path(scratch)).report(file)


class _Check:
    """One check, its selections in a folder of their own."""

    def __init__(self, data: CurriculumData, options: Options, scratch: Path) -> None:
        self._data, self._options, self._scratch = data, options, scratch
        self._skip = any(item.mixture.on_bad_sample == "skip" for item in data.stages)
        self._book = Book(self._skip)
        self._made = [(item.stage, self._select(item)) for item in data.stages]
        self._corpora = gather(self._made, list(self._evaluated()))

    def report(self, file: str) -> Report:
        """Do it all."""
        decoded = sum(map(self._records, self._corpora))
        self._between_datasets()
        tokens, notes = self._tokens()
        standings = [selections.standing(stage, made, self._left_out(stage, made)) for stage, made in self._made]
        for standing in standings:
            for fault in selections.small(standing):
                self._book.note(fault, (standing.stage,), "", None, f"stage {standing.stage}")
        checked = (sum(len(corpus.rows) for corpus in self._corpora), decoded)
        book = self._book
        return Report(file, self._skip, standings, tokens, dict(book.counts), book.findings(), checked, notes)

    def _evaluated(self) -> Iterator[Evaluated]:
        """The datasets that no stage may train on, and what `evaluate:` measures the stages on."""
        for source in self._data.evaluation:
            store = open_store(source, self._data.cache, "skip")
            yield Evaluated(source.name, store, np.arange(store.rows, dtype=np.int64))
        measured = [evaluation_of(self._data.plan, item.stage) for item in self._data.stages]
        for item in {item.mixture: item for item in measured if item is not None}.values():
            for part in self._select(item, "evaluation-").parts:
                yield Evaluated(part.dataset, part.store, part.rows)

    def _select(self, item: StageData, prefix: str = "") -> Selection:
        # Bad samples are findings here, all of them at once, so selecting goes on without them.
        mixture = replace(item.mixture, on_bad_sample="skip")
        return make_selection(mixture, item.cache, self._scratch / f"{prefix}{item.stage.index}", Look(images=False))

    def _records(self, corpus: Corpus) -> int:
        """Check the records of one dataset; returns how many were decoded."""
        for where, why in corpus.store.left_out:
            self._book.note(Fault("not_json", why, "a JSON object"), corpus.stages, corpus.name, None, where)
        pointing = whole.is_pointing(corpus, scan.drawn(corpus.rows, VOTERS, seed=0))
        rules = Rules(pointing, corpus.reader, corpus.depth)
        decoded = scan.drawn(corpus.rows, self._options.decoded, seed=0)
        work = scan.jobs(corpus.store, corpus.rows, rules, decoded)
        advance = self._options.tell(corpus.name, len(corpus.rows) + len(decoded))
        self._book.of_rows(corpus, scan.results(work, advance))
        self._book.of_rows(corpus, whole.duplicate_ids(corpus))
        return len(decoded)

    def _between_datasets(self) -> None:
        for stage, _ in self._made:
            used = [corpus for corpus in self._corpora if stage.name in corpus.stages]
            for first, second in itertools.combinations(used, 2):
                self._book.of_rows(second, whole.shared_ids(first, second, stage.name))
            for corpus in used:
                self._book.of_rows(corpus, selections.twice(corpus, stage.name))
        for train, held_out in itertools.product(self._corpora, self._corpora):
            if len(train.trained) and len(held_out.held_out):
                self._book.of_rows(train, whole.leaks(train, held_out))

    def _tokens(self) -> tuple[list[Tokens], list[str]]:
        found, notes = [], []
        for stage, selection in self._made:
            advance = self._options.tell(f"tokens of stage {stage.name}", self._options.measured)
            try:
                model = measuring.tokenizer_of(self._data.plan, stage)
                out = self._scratch / f"{stage.index}.parquet"
                measured = measuring.measure(stage, model, selection.path / FILE, out, self._options.measured)
            except measuring.NotMeasuredError as error:
                notes.append(f"the tokens of stage {stage.name} were not counted: {error}")
                continue
            advance(self._options.measured)
            found.append(tokens_of(stage, model, [length for _, length in measured]))
            self._too_long(stage, measured, found[-1].limit)
        return found, notes

    def _too_long(self, stage: PlannedStage, measured: Sequence[tuple[str, int]], limit: int | None) -> None:
        for own, length in measured:
            if limit is not None and length > limit:
                used = [corpus for corpus in self._corpora if stage.name in corpus.stages]
                corpus, row = next((corpus, row) for corpus in used if (row := corpus.row_of(own)) is not None)
                fault = Fault("too_long", f"{length} tokens in stage {stage.name}", f"at most {limit}")
                self._book.of_rows(corpus, [(row, fault)])

    def _left_out(self, stage: PlannedStage, selection: Selection) -> int:
        rows = sum(self._book.left_out(corpus, corpus.rows_of(stage.name)) for corpus in self._corpora)
        return rows + selection.left_out
