"""Images for the sheet: scaled down, the answer drawn on them, as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from stepladder.data.answers import Point

#: Pixels. The longer edge of an image in the sheet.
EDGE = 480

#: Seen on any picture: a bright line on a dark one that is wider.
LINE, RIM = (255, 221, 0), (0, 0, 0)


@dataclass(frozen=True)
class Picture:
    """An image of the sheet.

    Attributes:
        uri: the scaled image as a data URI; None where it cannot be shown.
        width, height: pixels of the scaled image; 0 where there is none.
        original: "640x360", the size of the file; "" where it is not known.
        trouble: why it cannot be shown, or None.
    """

    uri: str | None
    width: int
    height: int
    original: str
    trouble: str | None


def picture(source: str | bytes | None, point: Point | None) -> Picture:
    """An image with a cross in a ring at `point`, if there is one, which lies within [0, 1].

    Args:
        source: path of its file, or its bytes; None where there is no such file in the dataset's folder.
        point: of the answer.
    """
    if source is None:
        return Picture(None, 0, 0, "", "no such file in the dataset's folder")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            ImageOps.exif_transpose(image, in_place=True)
            original = f"{image.width}x{image.height}"
            image.thumbnail((EDGE, EDGE))
            scaled = image.convert("RGB")
    except Exception as error:  # decoders raise whatever the bytes lead them to, and a sheet shows what is there
        return Picture(None, 0, 0, "", str(error).split(" <_io")[0] or type(error).__name__)
    if point is not None:
        mark(scaled, point)
    buffer = io.BytesIO()
    scaled.save(buffer, "JPEG", quality=85, subsampling=0)
    uri = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(uri, scaled.width, scaled.height, original, None)


def mark(image: Image.Image, point: Point) -> None:
    """Draw a cross in a ring around a point in [0, 1], x counted in [0, width - 1] and y in [0, height - 1].

    The middle of the cross stays open, so that the pixel meant can be seen.
    """
    x, y = point[0] * (image.width - 1), point[1] * (image.height - 1)
    radius = max(7.0, min(image.size) / 22)
    gap = radius / 4
    draw = ImageDraw.Draw(image)
    for colour, width in ((RIM, 4), (LINE, 2)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=width)
        for sign in (-1, 1):
            draw.line((x + sign * gap, y, x + sign * 1.6 * radius, y), fill=colour, width=width)
            draw.line((x, y + sign * gap, x, y + sign * 1.6 * radius), fill=colour, width=width)
