"""The picture for people: masks, outlines and names drawn over the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
_HUE_STEP = 0.381966  # golden section: neighbouring labels get hues far apart
_TEXT_AREA = 500.0  # image height / this = font scale; 720 lines give 1.4 px strokes


def _make_palette() -> UInt8Array:
    hues = (np.arange(256) * _HUE_STEP % 1.0 * 180).astype(np.uint8)
    hsv = np.stack([hues, np.full(256, 200, np.uint8), np.full(256, 255, np.uint8)], axis=-1)
    palette = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    palette[0] = 0
    return palette


PALETTE_RGB: UInt8Array = _make_palette()
"""Colour of each label value, uint8 [256, 3]; background is black."""


def draw_overlay(
    image_rgb: UInt8Array,
    label_image: UInt8Array,
    captions: Sequence[tuple[int, str]],
    out: UInt8Array,
    alpha: float,
) -> None:
    """Draw into `out` uint8 [H, W, 3]: the image, each label's area tinted by `alpha`, outline and caption.

    `captions` holds (label value, text); a label that is not in view gets its caption at the top left. None reaches
    over the picture's edge, into its last line of text or, as long as there is room, into another caption.
    """
    tinted = cv2.addWeighted(image_rgb, 1.0 - alpha, _colours(label_image), alpha, 0.0)
    np.copyto(out, image_rgb)
    cv2.copyTo(tinted, label_image, out)
    scale = text_scale(out)
    places = CaptionPlaces(out.shape[0], out.shape[1], scale)
    texts = []
    for label, text in captions:
        colour = tuple(int(value) for value in PALETTE_RGB[label])
        area = cv2.inRange(label_image, int(label), int(label))
        contours, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(out, contours, -1, colour, thickness=max(1, round(scale * 2)))
        wanted = (8, int(28 * scale))
        if contours:
            x, y, _, _ = cv2.boundingRect(max(contours, key=len))
            wanted = (x, y - 4)
        texts.append((text, places.take(text, wanted), colour))
    for text, origin, colour in texts:  # above every outline
        put_text(out, text, origin, scale, colour)


def text_scale(picture: UInt8Array) -> float:
    """Font scale for a picture [H, W, 3]."""
    return max(0.4, picture.shape[0] / _TEXT_AREA / 2)


class CaptionPlaces:
    """Where captions go in a picture of this size, so that each can be read; the last line stays free."""

    def __init__(self, height: int, width: int, scale: float) -> None:
        self._width, self._scale = width, scale
        self._line = int(28 * scale)
        self._lowest = height - 2 * self._line
        self._taken: list[tuple[int, int, int]] = []

    def take(self, text: str, wanted: tuple[int, int]) -> tuple[int, int]:
        """The place x, y of the text's baseline that is nearest to the wanted one and free, and take it."""
        length = text_width(text, self._scale)
        x = max(0, min(wanted[0], self._width - length - 1))
        y = max(self._line, min(wanted[1], self._lowest))
        beside = [other + side for _, other, _ in self._taken for side in (-self._line, self._line)]
        rows = [y, *(row for row in beside if self._line <= row <= self._lowest)]
        free = [row for row in rows if self._is_free(x, row, length)]
        y = min(free, key=lambda row: abs(row - y), default=y)
        self._taken.append((x, y, length))
        return x, y

    def _is_free(self, x: int, y: int, length: int) -> bool:
        return all(
            abs(y - other_y) >= self._line or x >= other_x + other or other_x >= x + length
            for other_x, other_y, other in self._taken
        )


def _colours(label_image: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.LUT(cv2.merge([label_image] * 3), PALETTE_RGB[None]), np.uint8)


def put_text(
    out: UInt8Array, text: str, origin: tuple[int, int], scale: float, colour: tuple[int, ...]
) -> None:
    """Write `text` from `origin` on, with a shadow: an outline does not fit, OpenCV 5 widens thicker text."""
    x, y = origin
    for offset, shade in ((1, (0, 0, 0)), (0, colour)):
        place = (x + offset, y + offset)
        cv2.putText(out, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, 1, cv2.LINE_AA)


def text_width(text: str, scale: float) -> int:
    """Pixels that `put_text` takes, its shadow included."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    return int(width) + 2
