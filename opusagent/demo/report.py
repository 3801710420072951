"""What a demo shows: the transcript, the figures, and three files."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from opusagent.demo.result import DemoResult
from opusagent.simulators.caller_wav import stereo_wav
from opusagent.simulators.timeline import Mark, MarkKind, Row, Span, timeline_svg

__all__ = ["show", "write_files"]


def write_files(result: DemoResult, folder: Path) -> list[Path]:
    """Write `call.wav`, `transcript.json` and `timeline.svg`; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    wav, transcript, picture = (
        folder / "call.wav",
        folder / "transcript.json",
        folder / "timeline.svg",
    )
    wav.write_bytes(stereo_wav(result.record))
    turns = [
        item.model_dump(mode="json") | {"at_s": round(result.at_s(item.at), 2)}
        for item in result.transcript
    ]
    facts = {"turns": turns, "figures": result.as_json()}
    transcript.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    picture.write_text(_picture(result), encoding="utf-8")
    return [wav, transcript, picture]


def show(result: DemoResult, files: list[Path], console: Console) -> None:
    """Print the transcript of both sides, what was measured, and where the files are."""
    console.print()
    for item in result.transcript:
        who = "[blue]caller[/]" if item.type == "input" else "[red]bot[/]   "
        mark = " [dim](interrupted)[/]" if item.interrupted else ""
        console.print(f"{result.at_s(item.at):6.1f} s  {who}  {item.text}{mark}", soft_wrap=True)
    console.print()
    console.print(_figures(result))
    console.print(_phrases(result))
    if result.switches:
        console.print(_switches(result))
    for path in files:
        console.print(f"  {path}")
    for broken in result.broken:
        console.print(f"[red]broken:[/] {broken}", soft_wrap=True)
    console.print("[green]every promise kept[/]" if result.ok else "[red]a promise was broken[/]")


def _figures(result: DemoResult) -> Table:
    record = result.record
    table = Table(title="measured at the phone", show_header=False)
    rows = [
        ("session.accepted", _ms(record.accept_s)),
        ("first bot audio after that", _ms(record.first_bot_audio_s)),
        ("bot audio handed over ahead of time, at most", _ms(record.max_lead_s)),
        ("longest gap in what the bot said", _ms(result.largest_gap_s)),
    ]
    rows += [(f"answer to {a.phrase.label!r}", _ms(a.seconds)) for a in record.answers()]
    for cut in record.interruptions():
        rows.append((f"{cut.phrase.label!r} until the bot was silent", _ms(cut.silent_after_s)))
        rows.append(("  of that after the bridge's own messages", _ms(cut.flushed_after_s)))
    for what, value in rows:
        table.add_row(what, value)
    return table


def _phrases(result: DemoResult) -> Table:
    table = Table(title="heard by the service")
    for heading in ("phrase", "match", "missing", "doubled"):
        table.add_column(heading)
    for phrase in result.heard:
        table.add_row(
            phrase.text,
            f"{phrase.score:.2f}",
            f"{phrase.missing_ms} ms",
            f"{phrase.repeated_ms} ms",
        )
    return table


def _switches(result: DemoResult) -> Table:
    table = Table(title="changes of stream, by the bridge")
    headings = ("stream", "reason", "at", "turns", "bytes", "replayed", "gap", "first frame")
    for heading in headings:
        left = heading in {"stream", "reason"}
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for one in result.switches:
        table.add_row(
            f"{one.old} to {one.new}",
            one.reason,
            f"{one.at_s:.1f} s",
            str(one.history_items),
            str(one.history_bytes),
            f"{one.replayed_ms} ms",
            f"{one.gap_ms} ms",
            "-" if one.first_frame_ms is None else f"{one.first_frame_ms} ms",
        )
    return table


def _picture(result: DemoResult) -> str:
    record = result.record
    spans = [Span(Row.CALLER, p.began_at, p.ended_at, p.label) for p in record.phrases]
    heard = [s for s in record.played if s.began_at is not None and s.ended_at is not None]
    texts = [item.text for item in result.transcript if item.type == "output"]
    for number, play in enumerate(heard):
        began, ended = play.began_at or 0.0, play.ended_at or 0.0
        text = texts[number] if number < len(texts) else ""
        spans.append(Span(Row.BOT, began, ended, text))
        spans.append(Span(Row.PLAY, play.opened_at, play.closed_at or ended, play.stream_id))
    end = record.ended_at or max((span.end_s for span in spans), default=1.0)
    marks = [Mark(MarkKind.SWITCH, one.at_s, one.reason) for one in result.switches]
    for line in result.log:
        match line["event"]:
            case "barge-in":
                marks.append(Mark(MarkKind.BARGE_IN, line["at_s"], line["cause"]))
            case "dtmf":
                marks.append(Mark(MarkKind.DTMF, line["at_s"]))
    over = result.began + timedelta(seconds=end)
    return timeline_svg(
        spans,
        marks,
        streams=[report.bar(result.began, over) for report in result.streams],
        title=f"OpusAgent demo: {result.scenario.name}",
        subtitle=result.scenario.description,
        duration_s=end,
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
