"""A call as a picture and as a recording: who spoke when, on which stream, and what happened to it."""

from __future__ import annotations

import enum
import math
import re
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["Mark", "MarkKind", "Row", "Span", "timeline_svg", "write_call_wav"]


class Row(enum.Enum):
    """A row of the picture, from top to bottom: its title and its colour (Okabe and Ito's palette)."""

    CALLER = ("Caller speaks", "#0072B2")
    BOT = ("Bot is heard", "#D55E00")
    PLAY = ("Play streams", "#E69F00")
    NOVA = ("Nova streams", "#009E73")
    STANDBY = ("Standby", "#56B4E9")
    REPLAY = ("Replay", "#CC79A7")

    def __init__(self, title: str, colour: str) -> None:
        self.title = title
        self.colour = colour


class MarkKind(enum.Enum):
    """Something that happened at one moment: its name, and the shape and colour it is drawn with."""

    BARGE_IN = ("barge-in", "triangle", "#A01818")
    DTMF = ("DTMF", "square", "#332288")
    SWITCH = ("stream switch", "diamond", "#006B4E")
    SOCKET_CUT = ("socket cut", "cross", "#000000")
    RESUME = ("resume", "circle", "#00557F")

    def __init__(self, title: str, shape: str, colour: str) -> None:
        self.title = title
        self.shape = shape
        self.colour = colour


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted. Seconds count from the beginning of the call.

    `label` is the text of a speaker (listed under the picture) or a stream's name (in its bar).
    """

    row: Row
    start_s: float
    end_s: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment. `label` adds to the kind's name, e.g. the keys."""

    kind: MarkKind
    at_s: float
    label: str = ""


_FONT: Final = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
_SPOKEN: Final = (Row.CALLER, Row.BOT)
_LEFT: Final = 132.0
_RIGHT: Final = 28.0
_BAR: Final = 24.0
_LANE: Final = 30.0
_CHARACTER: Final = 6.9  # width of one at 12 px, a little more than most are
_INK, _PALE, _GRID = "#1A1A1A", "#F5F6F8", "#D9DCE1"


def timeline_svg(
    spans: Sequence[Span],
    marks: Sequence[Mark] = (),
    *,
    title: str = "",
    subtitle: str = "",
    duration_s: float | None = None,
) -> str:
    """A call as an SVG picture.

    Args:
        spans: What lasted; in any order. Those of one row that overlap are drawn below each other.
        marks: What happened at a moment.
        title: Heading.
        subtitle: A line under the heading, e.g. figures.
        duration_s: Length of the axis; up to the last span or mark when not given.
    """
    ends = [span.end_s for span in spans] + [mark.at_s for mark in marks]
    length_s = max(duration_s if duration_s is not None else max(ends, default=0.0), 1.0)
    return "\n".join(_Picture(spans, marks, length_s).draw(title, subtitle)) + "\n"


class _Picture:
    def __init__(self, spans: Sequence[Span], marks: Sequence[Mark], length_s: float) -> None:
        self._spans = sorted(spans, key=lambda span: (span.start_s, span.row.title))
        self._marks = sorted(marks, key=lambda mark: mark.at_s)
        self._length_s = length_s
        self._plot = min(max(length_s * 40.0, 920.0), 2400.0)
        self._width = _LEFT + self._plot + _RIGHT
        self._lines: list[str] = []
        said = [span for span in self._spans if span.row in _SPOKEN and span.label]
        self._numbers = {id(span): number for number, span in enumerate(said, 1)}
        self._said = said

    def draw(self, title: str, subtitle: str) -> list[str]:
        y = 16.0
        if title:
            y += 20
            self._text(24, y, title, size=18, weight="bold")
        if subtitle:
            y += 22
            self._text(24, y, subtitle, size=12, colour="#555B66")
        before = len(self._lines)
        top = self._mark_labels(y + 18)
        labels, self._lines[before:] = self._lines[before:], []
        bottom = self._rows(top)
        self._mark_lines(bottom)
        self._lines += labels  # in front of the lines
        y = self._axis(bottom)
        y = self._legend(y + 20)
        y = self._transcript(y)
        size = f'width="{self._width:.0f}" height="{y:.0f}" viewBox="0 0 {self._width:.0f} {y:.0f}"'
        return [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}" role="img">',
            f"<title>{_safe(title or 'A call')}</title>",
            '<rect width="100%" height="100%" fill="#FFFFFF"/>',
            *self._lines,
            "</svg>",
        ]

    def _x(self, at_s: float) -> float:
        return _LEFT + self._plot * min(max(at_s, 0.0), self._length_s) / self._length_s

    def _mark_labels(self, y: float) -> float:
        """The marks' shapes and names above the rows; gives where the rows may begin."""
        free: list[float] = []  # the x from which each line of labels is free again
        self._label_y: list[float] = []
        for mark in self._marks:
            name = f"{mark.kind.title} {mark.label}".strip()
            x = self._x(mark.at_s)
            width = 12 + _CHARACTER * len(name)
            fits = x + width < self._width  # at the right edge the name stands before the shape
            begin, end = (x - 8, x + width) if fits else (x - width, x + 8)
            line = next((i for i, until in enumerate(free) if until <= begin - 4), len(free))
            free[line : line + 1] = [end]
            middle = y + 8 + 20.0 * line
            self._label_y.append(middle)
            self._shape(mark.kind, x, middle)
            text_x, anchor = (x + 12, "start") if fits else (x - 12, "end")
            colour = mark.kind.colour
            self._text(text_x, middle + 4, name, size=12, colour=colour, anchor=anchor, halo=True)
        return y + 20.0 * len(free) + (8 if free else 0)

    def _mark_lines(self, bottom: float) -> None:
        for mark, label_y in zip(self._marks, self._label_y, strict=True):
            x = self._x(mark.at_s)
            ends = f'x1="{x:.1f}" y1="{label_y + 8:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"'
            look = f'stroke="{mark.kind.colour}" stroke-width="1.5" stroke-dasharray="5 4"'
            self._lines.append(f"<line {ends} {look}/>")

    def _rows(self, y: float) -> float:
        """All rows with something in them; the two speakers always. Gives where they end."""
        begin = len(self._lines)
        top = y
        drawn = 0
        for row in Row:
            spans = [span for span in self._spans if span.row is row]
            if not spans and row not in _SPOKEN:
                continue
            lanes = _lanes(spans)
            height = _LANE * max(1, max(lanes, default=0) + 1) + 10
            if drawn % 2 == 0:
                self._rect(0, y, self._width, height, _PALE)
            self._text(24, y + height / 2 + 4, row.title, size=13)
            for span, lane in zip(spans, lanes, strict=True):
                self._bar(span, y + 8 + _LANE * lane)
            y += height
            drawn += 1
        grid: list[str] = []
        for at_s in _ticks(self._length_s):
            x = self._x(at_s)
            ends = f'x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{y:.1f}"'
            grid.append(f'<line {ends} stroke="{_GRID}"/>')
        # Behind the bars, in front of the stripes: stripes come first in the picture.
        stripes = [line for line in self._lines[begin:] if f'fill="{_PALE}"' in line]
        others = [line for line in self._lines[begin:] if f'fill="{_PALE}"' not in line]
        self._lines[begin:] = [*stripes, *grid, *others]
        return y

    def _bar(self, span: Span, y: float) -> None:
        x, end = self._x(span.start_s), self._x(span.end_s)
        width = max(end - x, 2.0)
        number = self._numbers.get(id(span))
        label = str(number) if number is not None else "" if span.row in _SPOKEN else span.label
        times = f"{span.start_s:.2f} s to {span.end_s:.2f} s"
        self._lines.append(f"<g><title>{_safe(f'{span.label} ({times})'.strip())}</title>")
        self._rect(x, y, width, _BAR, span.row.colour, rounded=True)
        room = int((width - 8) / _CHARACTER)
        shown = label if len(label) <= room else f"{label[: room - 1]}…" if room > 3 else ""
        if shown:
            ink = "#FFFFFF" if span.row in (Row.CALLER, Row.BOT) else _INK
            self._text(x + width / 2, y + 16.5, shown, size=12, colour=ink, anchor="middle")
        self._lines.append("</g>")

    def _axis(self, y: float) -> float:
        ends = f'x1="{_LEFT:.1f}" y1="{y:.1f}" x2="{_LEFT + self._plot:.1f}" y2="{y:.1f}"'
        self._lines.append(f'<line {ends} stroke="{_INK}"/>')
        for at_s in _ticks(self._length_s):
            x = self._x(at_s)
            self._lines.append(
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y + 5:.1f}" stroke="{_INK}"/>'
            )
            self._text(x, y + 19, _clock(at_s), size=12, anchor="middle")
        self._text(24, y + 19, "Time, min:s", size=12, colour="#555B66")
        return y + 24

    def _legend(self, y: float) -> float:
        used: set[Row | MarkKind] = {one.row for one in self._spans}
        used |= {one.kind for one in self._marks}
        if not used:
            return y
        self._text(24, y + 12, "Legend", size=12, colour="#555B66")
        x = _LEFT
        items: list[Row | MarkKind] = [*Row, *MarkKind]
        for item in items:
            if item not in used:
                continue
            width = 30 + _CHARACTER * len(item.title) + 16
            if x + width > self._width - 8:
                x, y = _LEFT, y + 22
            if isinstance(item, Row):
                self._rect(x, y + 2, 16, 12, item.colour, rounded=True)
            else:
                self._shape(item, x + 8, y + 8)
            self._text(x + 24, y + 12, item.title, size=12)
            x += width
        return y + 36

    def _transcript(self, y: float) -> float:
        room = int((self._width - _LEFT - 150) / _CHARACTER)
        for span in self._said:
            y += 20
            self._rect(24, y - 13, 30, 17, span.row.colour, rounded=True)
            number = str(self._numbers[id(span)])
            self._text(39, y, number, size=12, colour="#FFFFFF", anchor="middle")
            self._text(66, y, _clock(span.start_s, tenths=True), size=12, colour="#555B66")
            self._text(_LEFT, y, "Caller" if span.row is Row.CALLER else "Bot", size=12)
            text = span.label if len(span.label) <= room else f"{span.label[: room - 1]}…"
            self._text(_LEFT + 62, y, text, size=12)
        return y + 20

    def _rect(
        self, x: float, y: float, width: float, height: float, fill: str, *, rounded: bool = False
    ) -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self._lines.append(f'<rect {place} fill="{fill}"{' rx="3"' if rounded else ""}/>')

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        colour: str = _INK,
        weight: str = "normal",
        anchor: str = "start",
        halo: bool = False,
    ) -> None:
        look = f'font-size="{size}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}"'
        if halo:  # readable where a mark's line passes behind
            look += ' stroke="#FFFFFF" stroke-width="4" paint-order="stroke"'
        self._lines.append(f'<text x="{x:.1f}" y="{y:.1f}" {look}>{_safe(text)}</text>')

    def _shape(self, kind: MarkKind, x: float, y: float) -> None:
        path = _SHAPES[kind.shape]
        look = f'fill="{kind.colour}" stroke="{kind.colour}" stroke-width="2"'
        self._lines.append(f'<path transform="translate({x:.1f} {y:.1f})" d="{path}" {look}/>')


_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHAPES: Final = {
    "triangle": "M-6 -5 L6 -5 L0 6 Z",
    "square": "M-5 -5 H5 V5 H-5 Z",
    "diamond": "M0 -7 L6 0 L0 7 L-6 0 Z",
    "cross": "M-5 -5 L5 5 M5 -5 L-5 5",
    "circle": "M-5 0 A5 5 0 1 0 5 0 A5 5 0 1 0 -5 0 Z",
}


def _safe(text: str) -> str:
    """Text as XML may hold it: marked up, and without what XML forbids."""
    return escape(_FORBIDDEN.sub("", text))


def _lanes(spans: Iterable[Span]) -> list[int]:
    """The lane of each span (sorted by start), so that none lies on another."""
    free: list[float] = []
    lanes: list[int] = []
    for span in spans:
        lane = next((i for i, until in enumerate(free) if until <= span.start_s), len(free))
        free[lane : lane + 1] = [span.end_s]
        lanes.append(lane)
    return lanes


def _ticks(length_s: float) -> list[float]:
    """Round moments for the axis, not more than about fifteen."""
    step = next((s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300) if length_s / s <= 15), 600)
    return [float(step * i) for i in range(math.floor(length_s / step) + 1)]


def _clock(at_s: float, *, tenths: bool = False) -> str:
    n_tenths = round(at_s * 10)
    clock = f"{n_tenths // 600}:{n_tenths // 10 % 60:02d}"
    return f"{clock}.{n_tenths % 10}" if tenths else clock


def write_call_wav(path: Path, caller: bytes, bot: bytes, rate_hz: int) -> None:
    """A recording of both sides: the caller on the left, the bot on the right.

    Args:
        path: Where to write; never seen half written.
        caller: PCM16 mono from the beginning of the call.
        bot: The same; the shorter one is filled with silence.
        rate_hz: Of both.
    """
    n_samples = max(len(caller), len(bot)) // 2
    both = bytearray(4 * n_samples)
    for side, pcm in enumerate((caller, bot)):
        whole = pcm[: len(pcm) // 2 * 2]
        for byte in (0, 1):
            both[2 * side + byte : 2 * len(whole) : 4] = whole[byte::2]
    unfinished = path.with_name(f"{path.name}.part")
    with wave.open(str(unfinished), "wb") as recording:
        recording.setnchannels(2)
        recording.setsampwidth(2)
        recording.setframerate(rate_hz)
        recording.writeframes(both)
    unfinished.replace(path)
