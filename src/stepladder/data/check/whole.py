"""The checks that compare records with each other, as queries over the stores' columns; nothing is held in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from duckdb import DuckDBPyConnection

from stepladder.data.answers import NOT_VISIBLE
from stepladder.data.check.columns import images, in_meta, scenes
from stepladder.data.check.finding import Fault
from stepladder.data.check.same_files import KnownFiles
from stepladder.data.check.uses import Corpus, Rows
from stepladder.data.sql import connect, literal

#: Rows of a query's answer that are in memory at once.
BATCH = 100_000

#: From this share of all answers on, a dataset is one of the pointing task.
MOST = 0.5


def is_pointing(corpus: Corpus, rows: Rows) -> bool:
    """Whether most answers among some rows of a dataset are meant as a point or NOT_VISIBLE, right or wrong.

    Those that begin like one are, and those of records that say whether they are negatives (`meta.is_neg`).
    """
    with _views(looked_at=(corpus, rows)) as connection:
        negative = in_meta(corpus.store.fields.schema, "is_neg")
        meant = [f"trim(answer) = '{NOT_VISIBLE}'", "starts_with(ltrim(answer), '[(')"]
        meant += [f"(answer is not null and {negative} in ('true', 'false'))"] if negative else []
        query = f"select count(*) filter ({' or '.join(meant)}) from looked_at"
        found = connection.execute(query).fetchall()[0][0]
    return bool(found > MOST * len(rows))


def duplicate_ids(corpus: Corpus) -> Iterator[tuple[int, Fault]]:
    """(row, fault) of every record whose id an earlier one of the dataset has."""
    query = """
        with again as (select id, min(row) as first from checked where id is not null group by id having count(*) > 1)
        select checked.row, checked.id, again.first from checked join again using (id)
        where checked.row <> again.first order by checked.row"""
    with _views(checked=(corpus, corpus.rows)) as connection:
        for row, own, first in _answers(connection, query):
            yield (
                row,
                Fault("duplicate_id", f"id {own} again, first at {corpus.store.where(first)}", "an id of its own"),
            )


def shared_ids(first: Corpus, second: Corpus, stage: str) -> Iterator[tuple[int, Fault]]:
    """(row of the second, fault) of every record whose id a record of the first dataset has, within one stage."""
    query = """
        select b.row, b.id, min(a.row) from b join a using (id) where b.id is not null
        group by b.row, b.id order by b.row"""
    with _views(a=(first, first.rows_of(stage)), b=(second, second.rows_of(stage))) as connection:
        for row, own, other in _answers(connection, query):
            yield row, Fault("shared_id", f"id {own}, also at {first.store.where(other)}", "an id of its own")


def leaks(train: Corpus, held_out: Corpus) -> Iterator[tuple[int, Fault]]:
    """(row of the training dataset, fault) of every record that shares its id, a scene or an image with evaluation."""
    with _views(train=(train, train.trained), held=(held_out, held_out.held_out)) as connection:
        yield from _leaked_ids(connection, held_out)
        yield from _leaked_scenes(connection, train, held_out)
        yield from _leaked_images(connection, train, held_out)


def _leaked_ids(connection: DuckDBPyConnection, held_out: Corpus) -> Iterator[tuple[int, Fault]]:
    query = """
        select row, id, first from train join (select id, min(row) as first from held group by id) using (id)
        order by row"""
    for row, own, first in _answers(connection, query):
        found = f"id {own}, as of {held_out.store.where(first)}, which evaluation uses ({held_out.name})"
        yield row, Fault("leak_id", found, "an id that evaluation does not have")


def _leaked_scenes(connection: DuckDBPyConnection, train: Corpus, held_out: Corpus) -> Iterator[tuple[int, Fault]]:
    own, theirs = scenes(train.store.fields.schema), scenes(held_out.store.fields.schema)
    if own is None or theirs is None:
        return
    query = f"""
        with of_train as (select row, unnest({own}) as scene from train),
             of_held as (select distinct unnest({theirs}) as scene from held)
        select row, min(scene) from of_train join of_held using (scene) where scene is not null
        group by row order by row"""
    for row, scene in _answers(connection, query):
        expected = f"scenes that {held_out.name} does not have"
        yield row, Fault("leak_scene", f"scene {scene}, which evaluation uses ({held_out.name})", expected)


def _leaked_images(connection: DuckDBPyConnection, train: Corpus, held_out: Corpus) -> Iterator[tuple[int, Fault]]:
    """Files are told by what they are, whatever they are called: see `KnownFiles`."""
    own, theirs = images(train.store.fields.schema), images(held_out.store.fields.schema)
    if own is None or theirs is None or train.embedded or held_out.embedded:
        return
    names = f"select distinct unnest({theirs}) as name from held"
    used = KnownFiles(_path(held_out, name) for (name,) in _answers(connection, names) if name is not None)
    trained = f"select distinct unnest({own}) as name from train"
    same = {
        name: other
        for (name,) in _answers(connection, trained)
        if name is not None and (other := used.same_as(_path(train, name))) is not None
    }
    connection.register("leaked", pa.table({"name": pa.array(same, pa.string())}))
    query = f"""
        select row, min(name) from (select row, unnest({own}) as name from train) join leaked using (name)
        group by row order by row"""
    for row, name in _answers(connection, query):
        found = f"image {name}, which evaluation uses ({held_out.name}: {same[name]})"
        yield row, Fault("leak_image", found, f"images that {held_out.name} does not have")


def _path(corpus: Corpus, name: str) -> str:
    return os.path.join(corpus.store.folder, name)  # noqa: PTH118 - as `true_paths` has it


@contextmanager
def _views(**tables: tuple[Corpus, Rows]) -> Iterator[DuckDBPyConnection]:
    """A database with views of some rows of datasets: all columns, in `row` their place in the store.

    `id` is null where the store made one up for a record that has none.
    """
    connection = connect()
    for name, (corpus, rows) in tables.items():
        connection.register(f"{name}_fields", corpus.store.fields)
        connection.register(f"{name}_rows", pa.table({"row": rows}))
        own = f"nullif(f.id, {literal(f'{corpus.store.source.name}:')} || f.row) as id"
        chosen = f"select f.* replace ({own}) from {name}_fields f join {name}_rows using (row)"
        connection.execute(f"create view {name} as {chosen}")
    try:
        yield connection
    finally:
        connection.close()


def _answers(connection: DuckDBPyConnection, query: str) -> Iterator[tuple]:  # type: ignore[type-arg]
    """Rows of an answer, a batch in memory at once. One query at a time."""
    answer = connection.execute(query)
    while batch := answer.fetchmany(BATCH):
        yield from batch
