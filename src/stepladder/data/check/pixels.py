"""Images decoded to the last row, and their sizes compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from stepladder.data.check.finding import Fault
from stepladder.data.decoding import Decoded, decode
from stepladder.data.record import Record
from stepladder.data.true_paths import file_within

#: Pixels. A shorter edge holds less than one patch of the usual vision towers (14 to 16 pixels).
TINY_EDGE = 16
#: Pixels of a whole image: decoded it takes 150 MB, in every data worker.
GIANT_AREA = 50_000_000


def faults(record: Record, folder: Path, embedded: Sequence[bytes] | None = None) -> list[Fault]:
    """What is wrong with the pixels of a record's files; files that are not there, or lie elsewhere, are passed over.

    Args:
        record: the record.
        folder: where its relative paths start.
        embedded: contents of its image files, for data that hold them; None: the record names files.
    """
    found: list[Fault] = []
    sizes = []
    for index, source in enumerate(_sources(record, folder) if embedded is None else embedded):
        image = None if source is None else decode(source)
        sizes.append(None if image is None else image.size)
        if image is not None:
            found += _image(source if isinstance(source, str) else f"image {index + 1}", image, record)
    return [*found, *_extras(record, folder, sizes)]


def _sources(record: Record, folder: Path) -> list[str | None]:
    return [file_within(str(folder), name) for name in record.images]


def _image(name: str, image: Decoded, record: Record) -> Iterator[Fault]:
    if image.size is None:
        yield Fault("image_broken", f"{name}: {image.trouble}", "an image that decodes")
        return
    width, height = image.size
    if record.size is not None and record.size != image.size:
        claimed = "x".join(map(str, record.size))
        yield Fault("image_size", f"{name} of {width}x{height} pixels", f"{claimed}, by img_w and img_h")
    if min(image.size) < TINY_EDGE or width * height > GIANT_AREA:
        expected = f"edges of at least {TINY_EDGE} and at most {GIANT_AREA // 1_000_000} million pixels in all"
        yield Fault("image_extent", f"{name} of {width}x{height} pixels", expected)


def _extras(record: Record, folder: Path, sizes: Sequence[tuple[int, int] | None]) -> Iterator[Fault]:
    for extra in record.extras:
        path = file_within(str(folder), extra.name)
        if path is None:
            continue
        decoded = decode(path)
        if decoded.size is None:
            yield Fault("extra_broken", f"{extra.what} {path}: {decoded.trouble}", f"a {extra.what} image that decodes")
            continue
        size = sizes[extra.image] if -len(sizes) <= extra.image < len(sizes) else None
        if size is not None and decoded.size != size:
            (width, height), (of_image, high) = decoded.size, size
            expected = f"{of_image}x{high}, as its image"
            yield Fault("extra_size", f"{extra.what} {path} of {width}x{height} pixels", expected)
