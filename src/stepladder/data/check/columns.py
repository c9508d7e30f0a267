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
    if "meta" in schema.names and pa.types.is_struct(meta := schema.field("meta").type):
        known = {meta.field(index).name for index in range(meta.num_fields)}
        names += [f'"meta"."{name}"' for name in SCENES if name in known]
    return f"[{', '.join(f'{name}::varchar' for name in names)}]" if names else None


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
