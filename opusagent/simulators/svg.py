"""What a picture is drawn with: lines of SVG."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["INK", "Drawing", "safe"]

INK: Final = "#1A1A1A"
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHAPES: Final = {
    "triangle": "M-6 -5 L6 -5 L0 6 Z",
    "square": "M-5 -5 H5 V5 H-5 Z",
    "diamond": "M0 -7 L6 0 L0 7 L-6 0 Z",
    "cross": "M-5 -5 L5 5 M5 -5 L-5 5",
    "circle": "M-5 0 A5 5 0 1 0 5 0 A5 5 0 1 0 -5 0 Z",
}


def safe(text: str) -> str:
    """Text as XML may hold it: marked up, and without what XML forbids."""
    return escape(_FORBIDDEN.sub("", text))


class Drawing:
    """Collects elements in `lines`; what comes later lies above what came before. Units are pixels."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        *,
        rounded: bool = False,
        outline: str = "",
    ) -> None:
        """A filled rectangle."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        look = f"{' rx="3"' if rounded else ''}{f' stroke="{outline}"' if outline else ''}"
        self.lines.append(f'<rect {place} fill="{fill}"{look}/>')

    def line(self, x: float, y: float, to_x: float, to_y: float, look: str) -> None:
        """A straight line; `look` is its attributes."""
        ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
        self.lines.append(f"<line {ends} {look}/>")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        colour: str = INK,
        weight: str = "normal",
        anchor: str = "start",
        halo: bool = False,
    ) -> None:
        """One line of text, on its base line; with a halo it is readable on whatever lies behind."""
        look = f'font-size="{size}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}"'
        place, content = f'x="{x:.1f}" y="{y:.1f}"', safe(text)
        if halo:  # an element of its own: not every viewer knows `paint-order`
            white = 'stroke="#FFFFFF" stroke-width="4" aria-hidden="true"'
            self.lines.append(f"<text {place} {look} {white}>{content}</text>")
        self.lines.append(f"<text {place} {look}>{content}</text>")

    def shape(self, shape: str, colour: str, x: float, y: float) -> None:
        """A triangle, square, diamond, cross or circle around a point."""
        look = f'fill="{colour}" stroke="{colour}" stroke-width="2"'
        path = _SHAPES[shape]
        self.lines.append(f'<path transform="translate({x:.1f} {y:.1f})" d="{path}" {look}/>')
