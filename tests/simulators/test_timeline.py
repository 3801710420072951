from __future__ import annotations

import wave
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from opusagent.simulators.timeline import (
    Mark,
    MarkKind,
    Row,
    Span,
    timeline_svg,
    write_call_wav,
)

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def bars(svg: str, row: Row) -> list[tuple[float, float, float]]:
    """x, y and width of a row's bars."""
    groups = ET.fromstring(svg).iter(f"{SVG}g")
    found = [rect for group in groups for rect in group.iter(f"{SVG}rect")]
    return [
        (float(rect.attrib["x"]), float(rect.attrib["y"]), float(rect.attrib["width"]))
        for rect in found
        if rect.attrib["fill"] == row.colour
    ]


def test_a_call_is_drawn_with_its_rows_words_and_marks() -> None:
    svg = timeline_svg(
        [
            Span(Row.BOT, 0.5, 3, "Hello <there> & welcome."),
            Span(Row.CALLER, 4, 6, "My name is Alice."),
            Span(Row.PLAY, 0.5, 3, "play 1"),
            Span(Row.NOVA, 0, 8, "stream 1"),
        ],
        [Mark(MarkKind.BARGE_IN, 3), Mark(MarkKind.DTMF, 5, "1 2")],
        title="basic",
        subtitle="two figures",
    )
    shown = texts(svg)
    for expected in (
        "basic",
        "two figures",
        "Caller speaks",
        "Bot is heard",
        "Play streams",
        "Nova streams",
        "play 1",
        "stream 1",
        "barge-in",
        "DTMF 1 2",
        "Hello <there> & welcome.",
        "My name is Alice.",
        "0:08",
    ):
        assert expected in shown
    assert "Standby" not in shown
    assert "resume" not in shown


def test_a_bar_stands_where_its_time_is() -> None:
    svg = timeline_svg([Span(Row.CALLER, 2, 4), Span(Row.CALLER, 6, 7)], duration_s=10)
    (first, _, width), (second, _, half) = bars(svg, Row.CALLER)
    assert abs(width - 2 * half) < 0.2
    assert abs((second - first) - 2 * width) < 0.2


def test_what_overlaps_in_a_row_is_drawn_in_lanes() -> None:
    svg = timeline_svg([Span(Row.NOVA, 0, 5), Span(Row.NOVA, 4, 9), Span(Row.NOVA, 6, 9)])
    (_, first, _), (_, second, _), (_, third, _) = bars(svg, Row.NOVA)
    assert first == third
    assert second > first


def test_marks_at_the_same_moment_do_not_cover_each_other() -> None:
    marks = [Mark(kind, 5.0) for kind in MarkKind]
    elements = ET.fromstring(timeline_svg([], marks)).iter(f"{SVG}text")
    names = {kind.title for kind in MarkKind}
    halos = [element for element in elements if "paint-order" in element.attrib]
    assert {element.text for element in halos} == names
    heights = sorted(float(element.attrib["y"]) for element in halos)
    assert all(below - above >= 16 for above, below in pairwise(heights))


def test_a_mark_at_the_right_edge_has_its_name_on_the_left() -> None:
    svg = timeline_svg([], [Mark(MarkKind.SOCKET_CUT, 10)], duration_s=10)
    elements = ET.fromstring(svg).iter(f"{SVG}text")
    (name,) = [element for element in elements if "paint-order" in element.attrib]
    assert name.attrib["text-anchor"] == "end"


def test_eight_minutes_fit_in_a_picture_with_few_ticks() -> None:
    svg = timeline_svg([Span(Row.NOVA, 0, 480)], duration_s=480)
    assert float(ET.fromstring(svg).attrib["width"]) < 2600
    assert len([text for text in texts(svg) if ":" in text and text[0].isdigit()]) <= 17


def test_a_call_without_anything_is_still_a_picture() -> None:
    assert "Caller speaks" in texts(timeline_svg([]))


@given(st.text(), st.text())
def test_any_text_makes_a_well_formed_picture(label: str, title: str) -> None:
    spans = [Span(row, 0, 2, label) for row in Row]
    svg = timeline_svg(spans, [Mark(MarkKind.DTMF, 1, label)], title=title)
    ET.fromstring(svg)


def test_a_recording_has_the_caller_left_and_the_bot_right(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    write_call_wav(path, b"\x01\x00\x02\x00\x03\x00", b"\x09\x00\x08", 8_000)
    with wave.open(str(path)) as recording:
        assert recording.getnchannels() == 2
        assert recording.getframerate() == 8_000
        assert recording.readframes(9) == bytes([1, 0, 9, 0, 2, 0, 0, 0, 3, 0, 0, 0])
    assert list(tmp_path.iterdir()) == [path]
