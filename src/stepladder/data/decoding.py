"""Whether an image decodes, to its last row."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps


@dataclass(frozen=True)
class Decoded:
    """What came of decoding: the size in pixels (width, height), or why there is none."""

    size: tuple[int, int] | None
    trouble: str | None


def decode(source: str | bytes) -> Decoded:
    """Decode a whole image, a file by its path or its bytes, and turn it as its EXIF says, like the trainer."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of images that are larger than any picture; their size is reported here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                ImageOps.exif_transpose(image, in_place=True)
                image.load()
                return Decoded(image.size, None)
    except Exception as error:  # decoders raise whatever the bytes lead them to: SyntaxError, struct.error, IndexError
        return Decoded(None, str(error).split(" <_io")[0] or type(error).__name__)
