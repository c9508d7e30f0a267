"""`max_tiles`: how many tiles an image may be cut into, translated to the model family's own knob.

`max_tiles` holds for each image by itself: it gets the largest grid of its family with rows x columns <= max_tiles.
The thumbnail that families add to a grid of several tiles is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

#: Families whose images are cut by `size["longest_edge"]`, a multiple of the tile's edge
#: `max_image_size["longest_edge"]`, by their config's `model_type`.
LONGEST_EDGE_FAMILIES = ("idefics3", "smolvlm")

#: Tiles along the longest edge: the families' tokenizers know <row_1_col_1> to <row_6_col_6>.
MOST_ALONG_AN_EDGE = 6


class TilesError(ValueError):
    """`max_tiles` cannot be kept with this model; the message ends with a hint."""


def recorded_max_tiles(processor: Any) -> int | None:
    """The limit that a processor was saved with, in force again only through `limit_tiles`."""
    return getattr(processor.image_processor, "max_tiles", None)


def limit_tiles(processor: Any, model_type: str, max_tiles: int | None) -> None:
    """Make a processor cut every image into at most `max_tiles` tiles; None leaves its own `size` in force.

    The processor's `size` stays as it is, so a later stage that loads it does not inherit this one's limit;
    `max_tiles` is saved beside it as a record of what the model was trained with.

    Raises:
        TilesError: a family that is not known here, a limit below 1, or a processor that does not split.
    """
    if max_tiles is None:
        vars(getattr(processor, "image_processor", processor)).pop("max_tiles", None)
        return
    if model_type not in LONGEST_EDGE_FAMILIES:
        raise TilesError(
            f"max_tiles {max_tiles} given for a model of type {model_type!r}, whose image splitting is not known "
            f"here; known: {', '.join(LONGEST_EDGE_FAMILIES)}\n"
            "hint: leave max_tiles out and set the limit in the model's preprocessor_config.json"
        )
    if max_tiles < 1:
        raise TilesError(f"max_tiles must be at least 1, found {max_tiles}\nhint: 1 keeps each image whole")
    image_processor = processor.image_processor
    if not (image_processor.do_resize and image_processor.do_image_splitting):
        raise TilesError(
            f"max_tiles {max_tiles} given, but the model's image processor has do_resize or do_image_splitting off\n"
            "hint: leave max_tiles out, or turn both on in preprocessor_config.json"
        )
    plain: Any = type(image_processor)
    image_processor.__class__ = _limited(plain)
    image_processor.max_tiles = max_tiles


def grid(image_processor: Any, height: int, width: int) -> tuple[int, int]:
    """Rows and columns that an Idefics3-like processor cuts an image of `height` x `width` pixels into."""
    if isinstance(image_processor, _PerImage):
        edge = _longest_edge(image_processor, height, width, image_processor.max_tiles)
    else:
        edge = int(image_processor.size["longest_edge"])
    return _rows_columns(image_processor, height, width, edge)


def describe_grids(image_processor: Any, sizes: Sequence[tuple[int, int]]) -> str:
    """The tiles in use as one phrase, "2x3 of 320x180", for images of these (width, height) in pixels."""
    phrases = []
    for width, height in dict.fromkeys(sizes):
        rows, columns = grid(image_processor, height, width)
        phrases.append(f"{rows}x{columns} of {width}x{height}")
    return ", ".join(phrases)


def _longest_edge(image_processor: Any, height: int, width: int, max_tiles: int) -> int:
    """The longest edge in pixels to scale to; tiles grow with it, so the first that is too large ends the search."""
    tile = int(image_processor.max_image_size["longest_edge"])
    along = 1
    while along < MOST_ALONG_AN_EDGE:
        rows, columns = _rows_columns(image_processor, height, width, (along + 1) * tile)
        if rows * columns > max_tiles:
            break
        along += 1
    return along * tile


def _rows_columns(image_processor: Any, height: int, width: int, longest_edge: int) -> tuple[int, int]:
    """The grid by transformers' own arithmetic; an image that is not cut counts as 1 x 1."""
    size = {"size": {"longest_edge": longest_edge}}
    _, rows, columns = image_processor.get_number_of_image_patches(height, width, size)
    return max(1, rows), max(1, columns)


class _PerImage:
    """Scales each image to the longest edge that its own shape allows, where the plain class has one for all."""

    max_tiles: int

    def resize(self, image: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        if size.longest_edge:
            height, width = image.shape[-2:]
            size = type(size)(longest_edge=_longest_edge(self, height, width, self.max_tiles))
        return super().resize(image, size, *args, **kwargs)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time and cannot be found by name, as data loader workers that are spawned need.
        return _restore, (type(self).__bases__[1],), self.__dict__


@cache
def _limited(base: Any) -> Any:
    # The name is the base's: it is what the processor's configuration file names when it is saved.
    return base if issubclass(base, _PerImage) else type(base.__name__, (_PerImage, base), {})


def _restore(base: Any) -> Any:
    limited = _limited(base)
    return limited.__new__(limited)
