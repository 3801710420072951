from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.simulators.timeline import (
    Mark,
    MarkKind,
    Row,
    Span,
    StreamBar,
    timeline_svg,
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
        ],
        [Mark(MarkKind.BARGE_IN, 3), Mark(MarkKind.DTMF, 5, "1 2")],
        streams=[StreamBar(name="stream 1", opened_s=0, live_s=0, closed_s=8)],
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
    assert not {"standby", "replayed to it", "stream cut", "resume"} & set(shown)


def test_a_bar_stands_where_its_time_is() -> None:
    svg = timeline_svg([Span(Row.CALLER, 2, 4), Span(Row.CALLER, 6, 7)], duration_s=10)
    (first, _, width), (second, _, half) = bars(svg, Row.CALLER)
    assert abs(width - 2 * half) < 0.2
    assert abs((second - first) - 2 * width) < 0.2


def test_what_overlaps_in_a_row_is_drawn_in_lanes() -> None:
    svg = timeline_svg([Span(Row.PLAY, 0, 5), Span(Row.PLAY, 4, 9), Span(Row.PLAY, 6, 9)])
    (_, first, _), (_, second, _), (_, third, _) = bars(svg, Row.PLAY)
    assert first == third
    assert second > first


def test_marks_at_the_same_moment_do_not_cover_each_other() -> None:
    marks = [Mark(kind, 5.0) for kind in MarkKind]
    elements = ET.fromstring(timeline_svg([], marks)).iter(f"{SVG}text")
    names = {kind.title for kind in MarkKind}
    halos = [element for element in elements if "aria-hidden" in element.attrib]
    assert {element.text for element in halos} == names
    heights = sorted(float(element.attrib["y"]) for element in halos)
    assert all(below - above >= 16 for above, below in pairwise(heights))


def test_a_mark_at_the_right_edge_has_its_name_on_the_left() -> None:
    svg = timeline_svg([], [Mark(MarkKind.SOCKET_CUT, 10)], duration_s=10)
    elements = ET.fromstring(svg).iter(f"{SVG}text")
    (name,) = [element for element in elements if "aria-hidden" in element.attrib]
    assert name.attrib["text-anchor"] == "end"


def test_eight_minutes_fit_in_a_picture_with_few_ticks() -> None:
    svg = timeline_svg([Span(Row.PLAY, 0, 480)], duration_s=480)
    assert float(ET.fromstring(svg).attrib["width"]) < 2600
    assert len([text for text in texts(svg) if ":" in text and text[0].isdigit()]) <= 17


def test_a_call_without_anything_is_still_a_picture() -> None:
    assert "Caller speaks" in texts(timeline_svg([]))


@given(st.text(), st.text())
def test_any_text_makes_a_well_formed_picture(label: str, title: str) -> None:
    spans = [Span(row, 0, 2, label) for row in Row]
    stream = StreamBar(name=label, opened_s=0, live_s=1, closed_s=2, replayed_s=1, cut=label)
    svg = timeline_svg(spans, [Mark(MarkKind.DTMF, 1, label)], streams=[stream], title=title)
    ET.fromstring(svg)


def group(svg: str, begins: str) -> ET.Element:
    """The bar whose tooltip begins so."""
    (found,) = [
        element
        for element in ET.fromstring(svg).iter(f"{SVG}g")
        if (element.findtext(f"{SVG}title") or "").startswith(begins)
    ]
    return found


def extent(element: ET.Element, fill: str) -> tuple[float, float]:
    """Where the rectangle of a colour begins and ends, in x."""
    (rect,) = [rect for rect in element.iter(f"{SVG}rect") if rect.attrib["fill"] == fill]
    x = float(rect.attrib["x"])
    return x, x + float(rect.attrib["width"])


LIVE, STANDBY, REPLAY = "#009E73", "url(#standby)", "#CC79A7"
TWO = (
    StreamBar(name="1", opened_s=0.0, live_s=0.02, closed_s=12.0, cut="modelTimeoutException"),
    StreamBar(name="2", opened_s=8.0, live_s=11.0, closed_s=20.0, replayed_s=1.5),
)


def test_a_stream_is_hatched_while_it_is_a_standby_and_filled_once_it_is_live() -> None:
    svg = timeline_svg([Span(Row.CALLER, 8, 11), Span(Row.BOT, 11, 20)], streams=TWO)
    (standby, _, width), (live, _, rest) = bars(svg, Row.CALLER)[0], bars(svg, Row.BOT)[0]
    second = group(svg, "stream 2")
    assert extent(second, STANDBY) == pytest.approx((standby, standby + width))
    assert extent(second, LIVE) == pytest.approx((live, live + rest))
    assert 'id="standby"' in svg
    assert "standby" in texts(svg)


def test_a_stream_that_is_live_at_once_has_no_hatched_part() -> None:
    first = group(timeline_svg([], streams=TWO), "stream 1")
    assert [rect.attrib["fill"] for rect in first.iter(f"{SVG}rect")] == [LIVE]


def test_a_standby_that_never_went_live_is_hatched_to_its_end() -> None:
    unused = StreamBar(name="3", opened_s=2.0, live_s=None, closed_s=6.0)
    svg = timeline_svg([Span(Row.CALLER, 2, 6)], streams=[unused])
    ((x, _, width),) = bars(svg, Row.CALLER)
    bar = group(svg, "stream 3 (2.00 s to 6.00 s, never live)")
    assert extent(bar, STANDBY) == pytest.approx((x, x + width))
    assert [rect.attrib["fill"] for rect in bar.iter(f"{SVG}rect")] == [STANDBY]


def test_what_was_replayed_is_marked_where_it_was_spoken() -> None:
    svg = timeline_svg([Span(Row.CALLER, 9.5, 11)], streams=TWO, duration_s=20)
    ((x, _, width),) = bars(svg, Row.CALLER)
    assert extent(group(svg, "stream 2"), REPLAY) == pytest.approx((x, x + width))
    assert "replayed to it" in texts(svg)


def test_a_stream_that_was_cut_ends_in_a_cross_and_says_why() -> None:
    svg = timeline_svg([], streams=TWO)
    cut, whole = group(svg, "stream 1"), group(svg, "stream 2")
    assert len(list(cut.iter(f"{SVG}path"))) == 2  # a white one behind it
    assert list(whole.iter(f"{SVG}path")) == []
    assert cut.findtext(f"{SVG}title") == (
        "stream 1 (0.00 s to 12.00 s, cut: modelTimeoutException)"
    )
    assert whole.findtext(f"{SVG}title") == (
        "stream 2 (8.00 s to 20.00 s, standby until 11.00 s, 1.50 s replayed to it)"
    )
    assert "stream cut" in texts(svg)


def test_streams_that_overlap_stand_in_lanes_in_one_row() -> None:
    svg = timeline_svg([], streams=TWO)
    first, second = (
        float(next(group(svg, f"stream {name}").iter(f"{SVG}rect")).attrib["y"]) for name in "12"
    )
    assert second > first
    assert texts(svg).count("Nova streams") == 2  # the row and the legend


def test_what_was_replayed_lies_on_no_other_stream() -> None:
    cut = StreamBar(name="1", opened_s=0, live_s=0, closed_s=9.5, cut="reset")
    following = StreamBar(name="2", opened_s=10, live_s=10, closed_s=20, replayed_s=2)
    svg = timeline_svg([], streams=[cut, following])
    first, second = (
        float(next(group(svg, f"stream {name}").iter(f"{SVG}rect")).attrib["y"]) for name in "12"
    )
    assert second > first
