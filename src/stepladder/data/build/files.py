"""Files that appear whole or not at all, and what a damaged file of the layout is told by."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stepladder.data.build.arrays import Bytes, Mask
from stepladder.data.true_paths import lies_within, true_path


@dataclass(frozen=True)
class LeftOut:
    """Something of the layout that cannot be used.

    Attributes:
        file: path relative to the root.
        what: what is left out for it, such as "view 000120 of object 7".
        why: what was found and expected.
    """

    file: str
    what: str
    why: str


class DamagedError(Exception):
    """A file of the layout cannot be used; `file` is relative to the root, `why` says what was found and expected."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")
        self.file = file
        self.why = why


def true_file(root: Path, name: str) -> Path:
    """A file of the layout, links followed; raises DamagedError if that leads out of the layout."""
    true = true_path(os.path.join(root, name))  # noqa: PTH118 - as `true_paths` wants it
    if not lies_within(true, str(root)):
        raise DamagedError(name, "is a link that leads out of the data's folder")
    return Path(true)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def share_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` (a hard link), or a copy where the disk allows none; once is enough."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except FileExistsError:
        pass
    except OSError:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(source, temporary)
        temporary.replace(target)


def read_rgb(root: Path, name: str) -> Bytes:
    """A picture [height, width, 3] of the layout; raises DamagedError."""
    return np.asarray(_decode(root, name, "RGB"))


def read_mask(root: Path, name: str) -> Mask:
    """A mask [height, width] of the layout, True where its picture is not black; raises DamagedError."""
    mask: Mask = np.asarray(_decode(root, name, "L")) > 0
    return mask


def read_grey(root: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16 | np.uint8]]:
    """A depth picture [height, width] as its file has it, 8 or 16 bits; raises DamagedError."""
    array = np.asarray(_decode(root, name, None))
    if array.ndim != 2:
        raise DamagedError(name, f"found {array.ndim} dimensions, expected grey values")
    return array.astype(np.uint8 if array.dtype == np.uint8 else np.uint16)


def _decode(root: Path, name: str, mode: str | None) -> Image.Image:
    try:
        with Image.open(true_file(root, name)) as image:
            return image.copy() if mode is None else image.convert(mode)
    except FileNotFoundError:
        raise DamagedError(name, "missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DamagedError(name, f"cannot be decoded: {error}") from None
