"""A call as a picture: who spoke when, on which stream, and what happened to it."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from opusagent.simulators.svg import INK, Drawing, safe

__all__ = ["Mark", "MarkKind", "Row", "Span", "StreamBar", "timeline_svg"]


class Row(enum.Enum):
    """A row of the picture, from top to bottom: its title and its colour (Okabe and Ito's palette)."""

    CALLER = ("Caller speaks", "#0072B2")
    BOT = ("Bot is heard", "#D55E00")
    PLAY = ("Play streams", "#E69F00")

    def __init__(self, title: str, colour: str) -> None:
        self.title = title
        self.colour = colour


class MarkKind(enum.Enum):
    """Something that happened at one moment: its name, and the shape and colour it is drawn with."""

    BARGE_IN = ("barge-in", "triangle", "#A01818")
    DTMF = ("DTMF", "square", "#332288")
    SWITCH = ("stream switch", "diamond", "#006B4E")
    TOOL = ("tool asked for", "triangle", "#7A4A00")
    RESULT = ("its result", "circle", "#7A4A00")
    SOCKET_CUT = ("socket cut", "cross", "#000000")
    KILLED = ("kill -9 of bridge", "cross", "#000000")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBar:
    """One stream to Nova Sonic. Seconds count from the beginning of the call.

    Attributes:
        name: Stands in its bar.
        opened_s: When it was there.
        live_s: When it began to get the caller's audio; up to then it was a standby. None: never.
        closed_s: When it was gone.
        replayed_s: Seconds of the caller's audio that it was given again when it went live; the mark
            stands under the time at which they were spoken.
        cut: What ended it from the other side; empty if it was closed in order.
    """

    name: str
    opened_s: float
    live_s: float | None
    closed_s: float
    replayed_s: float = 0.0
    cut: str = ""

    @property
    def standby_s(self) -> float:
        """How long it was a standby."""
        return (self.closed_s if self.live_s is None else self.live_s) - self.opened_s

    @property
    def drawn_from_s(self) -> float:
        """Where its bar, or the mark of what was replayed to it, begins."""
        return min(self.opened_s, (self.live_s or self.opened_s) - self.replayed_s)

    @property
    def facts(self) -> str:
        """Everything about it in words."""
        told = [f"{self.opened_s:.2f} s to {self.closed_s:.2f} s"]
        if self.live_s is None:
            told.append("never live")
        elif self.standby_s >= _LEAST_STANDBY_S:
            told.append(f"standby until {self.live_s:.2f} s")
        if self.replayed_s:
            told.append(f"{self.replayed_s:.2f} s replayed to it")
        if self.cut:
            told.append(f"cut: {self.cut}")
        return f"stream {self.name} ({', '.join(told)})"


_FONT: Final = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
_SPOKEN: Final = (Row.CALLER, Row.BOT)
_LEFT: Final = 132.0
_RIGHT: Final = 28.0
_BAR: Final = 24.0
_LANE: Final = 30.0
_CHARACTER: Final = 6.9  # width of one at 12 px, a little more than most are
_PALE, _GRID = "#F5F6F8", "#D9DCE1"
_STREAM, _REPLAY, _CUT = "#009E73", "#CC79A7", "#A01818"
_STREAMS: Final = "Nova streams"
_LEAST_STANDBY_S: Final = 0.1
_HATCHED: Final = "url(#standby)"
_HATCH: Final = (
    '<defs><pattern id="standby" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><rect width="6" height="6" fill="#FFFFFF"/>'
    f'<rect width="2.5" height="6" fill="{_STREAM}"/></pattern></defs>'
)


def timeline_svg(
    spans: Sequence[Span],
    marks: Sequence[Mark] = (),
    *,
    streams: Sequence[StreamBar] = (),
    title: str = "",
    subtitle: str = "",
    duration_s: float | None = None,
) -> str:
    """A call as an SVG picture.

    Args:
        spans: What lasted; in any order. Those of one row that overlap are drawn below each other.
        marks: What happened at a moment.
        streams: The streams to Nova Sonic, below the spans; those that overlap below each other.
        title: Heading.
        subtitle: A line under the heading, e.g. figures.
        duration_s: Length of the axis; up to the last span or mark when not given.
    """
    ends = [span.end_s for span in spans] + [mark.at_s for mark in marks]
    ends += [stream.closed_s for stream in streams]
    length_s = max(duration_s if duration_s is not None else max(ends, default=0.0), 1.0)
    return "\n".join(_Picture(spans, marks, streams, length_s).draw(title, subtitle)) + "\n"


class _Picture(Drawing):
    def __init__(
        self,
        spans: Sequence[Span],
        marks: Sequence[Mark],
        streams: Sequence[StreamBar],
        length_s: float,
    ) -> None:
        super().__init__()
        self._spans = sorted(spans, key=lambda span: (span.start_s, span.row.title))
        self._marks = sorted(marks, key=lambda mark: mark.at_s)
        self._stripes: list[tuple[float, float]] = []  # y and height of each row
        self._streams = sorted(streams, key=lambda stream: stream.drawn_from_s)
        self._length_s = length_s
        self._plot = min(max(length_s * 40.0, 920.0), 2400.0)
        self._width = _LEFT + self._plot + _RIGHT
        said = [span for span in self._spans if span.row in _SPOKEN and span.label]
        self._numbers = {id(span): number for number, span in enumerate(said, 1)}
        self._said = said

    def draw(self, title: str, subtitle: str) -> list[str]:
        y = 16.0
        if title:
            y += 20
            self.text(24, y, title, size=18, weight="bold")
        if subtitle:
            y += 22
            self.text(24, y, subtitle, size=12, colour="#555B66")
        before = len(self.lines)
        top = self._mark_labels(y + 18)
        labels, self.lines[before:] = self.lines[before:], []
        bottom = self._rows(top)
        self._mark_lines(bottom)
        self.lines += labels  # in front of the lines
        y = self._axis(bottom)
        y = self._legend(y + 20)
        y = self._transcript(y)
        size = f'width="{self._width:.0f}" height="{y:.0f}" viewBox="0 0 {self._width:.0f} {y:.0f}"'
        return [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}" role="img">',
            f"<title>{safe(title or 'A call')}</title>",
            _HATCH,
            '<rect width="100%" height="100%" fill="#FFFFFF"/>',
            *self.lines,
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
            self.shape(mark.kind.shape, mark.kind.colour, x, middle)
            text_x, anchor = (x + 12, "start") if fits else (x - 12, "end")
            colour = mark.kind.colour
            self.text(text_x, middle + 4, name, size=12, colour=colour, anchor=anchor, halo=True)
        return y + 20.0 * len(free) + (8 if free else 0)

    def _mark_lines(self, bottom: float) -> None:
        for mark, label_y in zip(self._marks, self._label_y, strict=True):
            x = self._x(mark.at_s)
            look = f'stroke="{mark.kind.colour}" stroke-width="1.5" stroke-dasharray="5 4"'
            self.line(x, label_y + 8, x, bottom, look)

    def _rows(self, y: float) -> float:
        """All rows with something in them; the two speakers always. Gives where they end."""
        begin = len(self.lines)
        top = y
        for row in Row:
            spans = [span for span in self._spans if span.row is row]
            if spans or row in _SPOKEN:
                draw = [partial(self._bar, span) for span in spans]
                y = self._row(y, row.title, _lanes([(s.start_s, s.end_s) for s in spans]), draw)
        if self._streams:
            room_s = 12 * self._length_s / self._plot  # for the cross at its end
            lanes = _lanes([(s.drawn_from_s, s.closed_s + room_s) for s in self._streams])
            draw = [partial(self._stream, stream) for stream in self._streams]
            y = self._row(y, _STREAMS, lanes, draw)
        bars, self.lines[begin:] = self.lines[begin:], []
        for number, (row_y, height) in enumerate(self._stripes):
            if number % 2 == 0:
                self.rect(0, row_y, self._width, height, _PALE)
        for at_s in _ticks(self._length_s):
            self.line(self._x(at_s), top, self._x(at_s), y, f'stroke="{_GRID}"')
        self.lines += bars  # in front of stripes and grid
        return y

    def _row(
        self, y: float, title: str, lanes: Sequence[int], draw: Sequence[Callable[[float], None]]
    ) -> float:
        """One row; `draw` takes the y of each bar. Gives where the row ends."""
        height = _LANE * max(1, max(lanes, default=0) + 1) + 10
        self._stripes.append((y, height))
        self.text(24, y + height / 2 + 4, title, size=13)
        for draw_at, lane in zip(draw, lanes, strict=True):
            draw_at(y + 8 + _LANE * lane)
        return y + height

    def _bar(self, span: Span, y: float) -> None:
        x, end = self._x(span.start_s), self._x(span.end_s)
        width = max(end - x, 2.0)
        number = self._numbers.get(id(span))
        label = str(number) if number is not None else "" if span.row in _SPOKEN else span.label
        times = f"{span.start_s:.2f} s to {span.end_s:.2f} s"
        self.lines.append(f"<g><title>{safe(f'{span.label} ({times})'.strip())}</title>")
        self.rect(x, y, width, _BAR, span.row.colour, rounded=True)
        if shown := _fitting(label, width):
            ink = "#FFFFFF" if span.row in _SPOKEN else INK
            self.text(x + width / 2, y + 16.5, shown, size=12, colour=ink, anchor="middle")
        self.lines.append("</g>")

    def _stream(self, stream: StreamBar, y: float) -> None:
        opened, closed = self._x(stream.opened_s), self._x(stream.closed_s)
        live = closed if stream.live_s is None else self._x(stream.live_s)
        self.lines.append(f"<g><title>{safe(stream.facts)}</title>")
        if stream.standby_s >= _LEAST_STANDBY_S:
            self.rect(opened, y, max(live - opened, 2.0), _BAR, _HATCHED, outline=_STREAM)
        else:
            live = opened
        if closed > live:
            self.rect(live, y, max(closed - live, 2.0), _BAR, _STREAM, rounded=True)
        named = live if closed > live else opened
        if shown := _fitting(stream.name, closed - named):
            ink = "#FFFFFF" if closed > live else INK
            self.text(named + 8, y + 16.5, shown, size=12, colour=ink, halo=closed <= live)
        if stream.replayed_s and stream.live_s is not None:
            spoken = self._x(stream.live_s - stream.replayed_s)
            self.rect(spoken, y + _BAR - 6, max(live - spoken, 2.0), 6, _REPLAY)
        if stream.cut:
            self.shape("cross", "#FFFFFF", closed, y + _BAR / 2 + 1)
            self.shape("cross", _CUT, closed, y + _BAR / 2)
        self.lines.append("</g>")

    def _axis(self, y: float) -> float:
        self.line(_LEFT, y, _LEFT + self._plot, y, f'stroke="{INK}"')
        for at_s in _ticks(self._length_s):
            x = self._x(at_s)
            self.line(x, y, x, y + 5, f'stroke="{INK}"')
            self.text(x, y + 19, _clock(at_s), size=12, anchor="middle")
        self.text(24, y + 19, "Time, min:s", size=12, colour="#555B66")
        return y + 24

    def _legend(self, y: float) -> float:
        items = self._legend_items()
        if not items:
            return y
        self.text(24, y + 12, "Legend", size=12, colour="#555B66")
        x = _LEFT
        for title, draw in items:
            width = 30 + _CHARACTER * len(title) + 16
            if x + width > self._width - 8:
                x, y = _LEFT, y + 22
            draw(x, y)
            self.text(x + 24, y + 12, title, size=12)
            x += width
        return y + 36

    def _legend_items(self) -> list[tuple[str, Callable[[float, float], None]]]:
        """What is in the picture: its name, and what draws its sample at a place."""

        def swatch(x: float, y: float, *, fill: str, outline: str = "") -> None:
            self.rect(x, y + 2, 16, 12, fill, rounded=True, outline=outline)

        def shape(x: float, y: float, *, name: str, colour: str) -> None:
            self.shape(name, colour, x + 8, y + 8)

        rows = {span.row for span in self._spans}
        kinds = {mark.kind for mark in self._marks}
        standby = any(stream.standby_s >= _LEAST_STANDBY_S for stream in self._streams)
        replay = any(stream.replayed_s for stream in self._streams)
        cut = any(stream.cut for stream in self._streams)
        return [
            *((row.title, partial(swatch, fill=row.colour)) for row in Row if row in rows),
            *([(_STREAMS, partial(swatch, fill=_STREAM))] if self._streams else []),
            *([("standby", partial(swatch, fill=_HATCHED, outline=_STREAM))] if standby else []),
            *([("replayed to it", partial(swatch, fill=_REPLAY))] if replay else []),
            *([("stream cut", partial(shape, name="cross", colour=_CUT))] if cut else []),
            *(
                (kind.title, partial(shape, name=kind.shape, colour=kind.colour))
                for kind in MarkKind
                if kind in kinds
            ),
        ]

    def _transcript(self, y: float) -> float:
        room = int((self._width - _LEFT - 150) / _CHARACTER)
        for span in self._said:
            y += 20
            self.rect(24, y - 13, 30, 17, span.row.colour, rounded=True)
            number = str(self._numbers[id(span)])
            self.text(39, y, number, size=12, colour="#FFFFFF", anchor="middle")
            self.text(66, y, _clock(span.start_s, tenths=True), size=12, colour="#555B66")
            self.text(_LEFT, y, "Caller" if span.row is Row.CALLER else "Bot", size=12)
            text = span.label if len(span.label) <= room else f"{span.label[: room - 1]}…"
            self.text(_LEFT + 62, y, text, size=12)
        return y + 20


def _lanes(times: Iterable[tuple[float, float]]) -> list[int]:
    """The lane of each beginning and end (sorted by beginning), so that none lies on another."""
    free: list[float] = []
    lanes: list[int] = []
    for begin, end in times:
        lane = next((i for i, until in enumerate(free) if until <= begin), len(free))
        free[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def _fitting(label: str, width: float) -> str:
    """As much of a label as a bar has room for."""
    room = int((width - 4) / _CHARACTER)
    return label if len(label) <= room else f"{label[: room - 1]}…" if room > 3 else ""


def _ticks(length_s: float) -> list[float]:
    """Round moments for the axis, not more than about fifteen."""
    step = next((s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300) if length_s / s <= 15), 600)
    return [float(step * i) for i in range(math.floor(length_s / step) + 1)]


def _clock(at_s: float, *, tenths: bool = False) -> str:
    n_tenths = round(at_s * 10)
    clock = f"{n_tenths // 600}:{n_tenths // 10 % 60:02d}"
    return f"{clock}.{n_tenths % 10}" if tenths else clock
