"""Views: windows of a photograph, scaled to the size of the samples; the framed spot, and the spot's mask."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

#: Of every view, pixels: 16:9, as the rendered rooms have it.
WIDTH, HEIGHT = 224, 126

FRAME_COLOR, FRAME_NAME = (255, 0, 255), "magenta"


@dataclass(frozen=True)
class Window:
    """A part of a photograph, from the corner `x`, `y` of its first pixel on, in pixels; 16:9."""

    x: float
    y: float
    width: float

    @property
    def height(self) -> float:
        return self.width * HEIGHT / WIDTH

    @property
    def corners(self) -> np.ndarray:
        """Centres of its outermost pixels, [4, 2]."""
        right, bottom = self.x + self.width - 1, self.y + self.height - 1
        return np.array([(self.x, self.y), (right, self.y), (right, bottom), (self.x, bottom)])

    def to_view(self, points: np.ndarray) -> np.ndarray:
        """Points [n, 2] of the photograph as pixels of the view; pixels are areas, and a point is a pixel's centre."""
        return (points - (self.x, self.y) + 0.5) * (WIDTH / self.width) - 0.5

    def crop(self, image: np.ndarray) -> Image.Image:
        """What the window shows, as a view."""
        box = (self.x, self.y, self.x + self.width, self.y + self.height)
        return Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box)


def fraction(point: np.ndarray) -> tuple[float, float]:
    """A pixel of a view in [0, 1]: x / (width - 1) and y / (height - 1), as the answers have it."""
    return float(point[0] / (WIDTH - 1)), float(point[1] / (HEIGHT - 1))


def framed(view: Image.Image, points: np.ndarray) -> Image.Image:
    """A copy of the view with a frame around points [n, 2], given in its pixels."""
    copy = view.copy()
    left, top = np.floor(points.min(axis=0)) - 2
    right, bottom = np.ceil(points.max(axis=0)) + 2
    ImageDraw.Draw(copy).rectangle((left, top, right, bottom), outline=FRAME_COLOR, width=2)
    return copy


def mask(points: np.ndarray) -> Image.Image:
    """The pixels of a view that points [n, 2] lie on or next to: the points of a spot are up to two pixels apart."""
    drawn = Image.new("L", (WIDTH, HEIGHT))
    for x, y in points.round():
        ImageDraw.Draw(drawn).rectangle((x - 1, y - 1, x + 1, y + 1), fill=255)
    return drawn
