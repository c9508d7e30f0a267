"""`max_tiles`: how many tiles an image may be cut into, translated to the model family's own knob.

`max_tiles` holds for each image by itself: it gets the largest grid of its family with rows x columns <= max_tiles.
Shared, it is what all images of a sample have together: each gets an equal part, the first ones one tile more where it
does not divide, and none less than one. The thumbnail that families add to a grid of several tiles is not counted.
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


def recorded_share_tiles(processor: Any) -> bool:
    """Whether a processor was saved with a limit that the images of a sample share."""
    return bool(getattr(processor.image_processor, "share_tiles", False))


def limit_tiles(processor: Any, model_type: str, max_tiles: int | None, share: bool = False) -> None:
    """Make a processor cut every image into at most `max_tiles` tiles; None leaves its own `size` in force.

    The processor's `size` stays as it is, so a later stage that loads it does not inherit this one's limit;
    `max_tiles` and `share_tiles` are saved beside it as a record of what the model was trained with.

    Args:
        processor: of a model for images and text, or a tokenizer.
        model_type: of the model's configuration.
        max_tiles: tiles of an image, or with `share` of all images of a sample together.
        share: see `shares`.

    Raises:
        TilesError: a family that is not known here, a limit below 1, a processor that does not split, or nothing to
            share.
    """
    if max_tiles is None:
        if share:
            raise TilesError("share_tiles given without max_tiles\nhint: say max_tiles, which the images are to share")
        for record in ("max_tiles", "share_tiles"):
            vars(getattr(processor, "image_processor", processor)).pop(record, None)
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
    image_processor.share_tiles = share


def shares(max_tiles: int, images: int) -> list[int]:
    """Tiles of each of a sample's images that share `max_tiles`: 8 for 3 images are 3, 3 and 2; at least 1 each."""
    each, more = divmod(max_tiles, max(images, 1))
    return [max(1, each + (number < more)) for number in range(images)]


def grids(image_processor: Any, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Rows and columns that an Idefics3-like processor cuts each image of one sample into.

    Args:
        image_processor: as `limit_tiles` left it.
        sizes: (width, height) in pixels of the sample's images.
    """
    if isinstance(image_processor, _Limited):
        edges = image_processor.edges([(height, width) for width, height in sizes])
    else:
        edges = [int(image_processor.size["longest_edge"])] * len(sizes)
    return [
        _rows_columns(image_processor, height, width, edge) for (width, height), edge in zip(sizes, edges, strict=True)
    ]


def describe_grids(image_processor: Any, sizes: Sequence[tuple[int, int]]) -> str:
    """The tiles in use as one phrase, "2x3 of 320x180", for one sample's images of these (width, height) in pixels."""
    phrases = [
        f"{rows}x{columns} of {width}x{height}"
        for (width, height), (rows, columns) in zip(sizes, grids(image_processor, sizes), strict=True)
    ]
    return ", ".join(dict.fromkeys(phrases))


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


class _Limited:
    """Scales each image to the longest edge that its own shape allows, where the plain class has one for all."""

    max_tiles: int
    share_tiles: bool

    def edges(self, shapes: Sequence[tuple[int, int]]) -> list[int]:
        """The longest edge in pixels for each of a sample's images of (height, width) pixels."""
        limits = shares(self.max_tiles, len(shapes)) if self.share_tiles else [self.max_tiles] * len(shapes)
        return [
            _longest_edge(self, height, width, limit) for (height, width), limit in zip(shapes, limits, strict=True)
        ]

    def _preprocess(self, images: Any, *, do_resize: bool, size: Any, resample: Any, **options: Any) -> Any:
        if do_resize and size.longest_edge:
            images = [self._scaled(of_sample, type(size), resample) for of_sample in images]
            do_resize = False
        return super()._preprocess(  # type: ignore[misc]
            images, do_resize=do_resize, size=size, resample=resample, **options
        )

    def _scaled(self: Any, images: Sequence[Any], size: Any, resample: Any) -> list[Any]:
        edges = self.edges([tuple(image.shape[-2:]) for image in images])
        return [
            self.resize(image, size=size(longest_edge=edge), resample=resample)
            for image, edge in zip(images, edges, strict=True)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time and cannot be found by name, as data loader workers that are spawned need.
        return _restore, (type(self).__bases__[1],), self.__dict__


@cache
def _limited(base: Any) -> Any:
    # The name is the base's: it is what the processor's configuration file names when it is saved.
    return base if issubclass(base, _Limited) else type(base.__name__, (_Limited, base), {})


def _restore(base: Any) -> Any:
    limited = _limited(base)
    return limited.__new__(limited)
