"""The files that samples name: shared with the layout where it has them, else made. Each is made once, and whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stepladder.data.build.arrays import Bytes
from stepladder.data.build.concat import SideBySide, scaled
from stepladder.data.build.files import read_grey, read_mask, read_rgb, share_file, true_file, write_whole
from stepladder.data.build.marking import encode_png, mark
from stepladder.data.build.pairs import Pair
from stepladder.data.build.samples import joined_names, original_b, picture_b, sizes, target_view
from stepladder.data.build.scene import View


@dataclass(frozen=True)
class Shared:
    """A file of the layout, under the same name."""

    name: str

    def make(self, root: Path, out: Path) -> None:
        share_file(true_file(root, self.name), out / self.name)


@dataclass(frozen=True)
class Marked:
    """A view with its object outlined."""

    original: str
    mask: str
    name: str

    def make(self, root: Path, out: Path) -> None:
        if not (out / self.name).exists():
            write_whole(out / self.name, encode_png(_outlined(root, self.original, self.mask)))


@dataclass(frozen=True)
class Joined:
    """Both views of a sample side by side, with their depths and the object's mask in B.

    Attributes:
        name, depth, mask: files that are made; `depth` and `mask` only where the sample has them.
        a: (file, mask that is outlined on it or None if it is marked already, depth).
        b: (file, mask or None, depth).
        geometry: where both lie.
    """

    name: str
    depth: str | None
    mask: str | None
    a: tuple[str, str | None, str | None]
    b: tuple[str, str | None, str | None]
    geometry: SideBySide

    def make(self, root: Path, out: Path) -> None:
        if not (out / self.name).exists():
            a = _outlined(root, self.a[0], self.a[1]) if self.a[1] else read_rgb(root, self.a[0])
            write_whole(out / self.name, encode_png(self.geometry.join(a, read_rgb(root, self.b[0]))))
        if self.mask is not None and self.b[1] is not None and not (out / self.mask).exists():
            empty = np.zeros(self.geometry.a[::-1], dtype=np.uint8)
            mask = read_mask(root, self.b[1]).astype(np.uint8) * 255
            write_whole(out / self.mask, encode_png(self.geometry.join(empty, mask)))
        if self.depth is not None and self.a[2] and self.b[2] and not (out / self.depth).exists():
            depth_a = scaled(read_grey(root, self.a[2]).astype(np.uint16), self.geometry.a)
            depth_b = scaled(read_grey(root, self.b[2]).astype(np.uint16), self.geometry.b)
            write_whole(out / self.depth, encode_png(self.geometry.join(depth_a, depth_b)))


Picture = Shared | Marked | Joined


def pictures_of(pair: Pair, concat: bool) -> Iterator[Picture]:
    """Every file that a pair's sample names."""
    view, target, b = pair.a.views[pair.uid][pair.frame_a], target_view(pair), picture_b(pair)
    if concat:
        yield _joined(pair, view)
        return
    yield Shared(view.marked) if view.is_marked else Marked(view.original, view.mask, view.marked)
    yield Shared(original_b(pair))
    for name in (view.depth, b.depth if view.depth else None, target.mask if target else None):
        if name is not None:
            yield Shared(name)


def make_all(root: Path, out: Path, pictures: list[Picture]) -> None:
    """Make files below `out` from those below `root`; raises DamagedError and OSError."""
    for picture in pictures:
        picture.make(root, out)


def _joined(pair: Pair, view: View) -> Joined:
    target, b, names = target_view(pair), picture_b(pair), joined_names(pair)
    a = (view.marked, None, view.depth) if view.is_marked else (view.original, view.mask, view.depth)
    b_files = original_b(pair), target.mask if target else None, b.depth
    return Joined(names.picture, names.depth, names.mask, a, b_files, sizes(pair))


def _outlined(root: Path, original: str, mask: str) -> Bytes:
    return mark(read_rgb(root, original), read_mask(root, mask))
