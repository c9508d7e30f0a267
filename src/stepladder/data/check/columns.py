"""SQL for what the checks compare, by the columns that a dataset has."""

from __future__ import annotations

import pyarrow as pa

#: Fields that name a scene, in `meta` or beside it: of image A or of both, and of image B.
SCENES = ("scene", "scene_id", "scene_b")

#: In the order in which the trainer looks for them.
IMAGES = ("images", "image")


def scenes(schema: pa.Schema) -> str | None:
    """SQL for the list of the scenes of a record, as text; None where the dataset names none."""
    names = [f'"{name}"' for name in SCENES if name in schema.names]
    found = [*map(_text, names), *filter(None, (in_meta(schema, name) for name in SCENES))]
    return f"[{', '.join(found)}]" if found else None


def in_meta(schema: pa.Schema, name: str) -> str | None:
    """SQL for a field of `meta` as text; None where no record can have it.

    Where one record's `meta` is no object, or has fields of several types, the store keeps all of them as JSON text.
    """
    if "meta" not in schema.names:
        return None
    meta = schema.field("meta").type
    if not pa.types.is_struct(meta):
        return f"""try_cast("meta" as json)->>'$.{name}'"""
    known = {meta.field(index).name for index in range(meta.num_fields)}
    return _text(f'"meta"."{name}"') if name in known else None


def _text(column: str) -> str:
    """A value as text; a text that is kept as JSON, beside numbers in other records, without its quotes."""
    text = f"{column}::varchar"
    return f"coalesce(case when {text} like '\"%' then try_cast({text} as json)->>'$' end, {text})"


def images(schema: pa.Schema) -> str | None:
    """SQL for the list of the image names of a record; None where the dataset names none."""
    found = [_names(name, schema.field(name).type) for name in IMAGES if name in schema.names]
    return f"coalesce({', '.join(found)})" if found else None


def _names(column: str, kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f'"{column}"::varchar[]'
    # A name; or JSON text, where some records have a list and others a name.
    text = f'"{column}"::varchar'
    listed = f"""try(from_json({text}, '["VARCHAR"]'))"""
    return f"""case when {text} is not null then coalesce({listed}, [trim({text}, '"')]) end"""
