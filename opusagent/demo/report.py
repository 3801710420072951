"""What a demo shows: the transcript, the figures, and three files."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from opusagent.demo.result import DemoResult
from opusagent.simulators.caller_wav import stereo_wav
from opusagent.simulators.stream_report import StreamReport
from opusagent.simulators.timeline import Mark, MarkKind, Row, Span, StreamBar, timeline_svg

__all__ = ["show", "write_files"]

_LONGEST_ID = 5
"""Of a play stream, in characters, in the picture: its end is what differs."""
_DIES_S = 0.5
"""How soon the service sees that the bridge of a stream is gone."""


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
    if result.comebacks:
        console.print(_comebacks(result))
        console.print(_plays(result))
    if result.tools:
        console.print(_tools(result))
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
    if result.has_secrets:
        found = ", ".join(result.secrets_in) or "nowhere"
        rows.append(("where the secret keys stand: log, transcript, model", found))
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


def _tools(result: DemoResult) -> Table:
    table = Table(title="tools that the model had run")
    for heading in ("tool", "at", "took", "result"):
        table.add_column(heading, justify="left" if heading in {"tool", "result"} else "right")
    for run in result.tools:
        kind = "none" if run.seconds is None else "an error" if run.failed else "an answer"
        took = "-" if run.seconds is None else f"{run.seconds:.2f} s"
        table.add_row(run.name, f"{run.at_s:.1f} s", took, kind)
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


def _comebacks(result: DemoResult) -> Table:
    table = Table(title="until the call went on", show_header=False)
    for one in result.comebacks:
        table.add_row(f"[bold]{one.what}[/]", f"[bold]{one.at_s:.1f} s[/]")
        table.add_row("until session.resume, as told", _whole_ms(one.resume_ms))
        table.add_row("until session.accepted", _whole_ms(_sum(one.resume_ms, one.accepted_ms)))
        table.add_row("  of that after session.resume", _whole_ms(one.accepted_ms))
        frame_ms = _sum(one.frame_sent_ms, one.frame_ms)
        table.add_row("until the caller's first frame on the model's stream", _whole_ms(frame_ms))
        table.add_row("  of that after it was sent", _whole_ms(one.frame_ms))
        table.add_row("until the bot was heard again", _whole_ms(one.bot_ms))
        if one.stream is not None:
            table.add_row(f"turns that stream {one.stream} was told", str(len(one.history)))
    table.add_row("turns lost", str(len(result.turns_lost)))
    return table


def _plays(result: DemoResult) -> Table:
    table = Table(title="play streams, as heard at the phone")
    for heading in ("id", "at", "heard", "words"):
        table.add_column(heading, no_wrap=heading == "id")
    for span, words in zip(result.record.played, result.words_at_phone, strict=True):
        end = " [red](lost)[/]" if span.lost_at is not None else ""
        table.add_row(
            span.stream_id, f"{span.opened_at:.1f} s", f"{span.heard_s:.1f} s", f"{words}{end}"
        )
    return table


def _picture(result: DemoResult) -> str:
    record = result.record
    spans = [Span(Row.CALLER, p.began_at, p.ended_at, p.label) for p in record.phrases]
    heard = [s for s in record.played if s.began_at is not None and s.ended_at is not None]
    words = {
        id(play): text for play, text in zip(record.played, result.words_at_phone, strict=True)
    }
    for play in heard:
        began, ended = play.began_at or 0.0, play.ended_at or 0.0
        text = words[id(play)]
        spans.append(Span(Row.BOT, began, ended, text))
        closed = play.closed_at or play.lost_at or ended
        name = play.stream_id
        name = name if len(name) <= _LONGEST_ID else f"…{name[1 - _LONGEST_ID :]}"
        spans.append(Span(Row.PLAY, play.opened_at, closed, name))
    end = record.ended_at or max((span.end_s for span in spans), default=1.0)
    marks = [Mark(MarkKind.SWITCH, one.at_s, one.reason) for one in result.switches]
    for one in result.comebacks:
        kind = MarkKind.KILLED if one.killed else MarkKind.SOCKET_CUT
        marks.append(Mark(kind, one.at_s, str(one.old) if one.killed else ""))
        if one.resume_ms is not None:
            on = f"on bridge {one.new}" if one.new != one.old else ""
            marks.append(Mark(MarkKind.RESUME, one.at_s + one.resume_ms / 1000, on))
    for run in result.tools:
        marks.append(Mark(MarkKind.TOOL, run.at_s, run.name))
        if run.seconds is not None:
            marks.append(Mark(MarkKind.RESULT, run.at_s + run.seconds, run.name))
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
        streams=[_bar(result, report, over) for report in result.streams],
        title=f"OpusAgent demo: {result.scenario.name}",
        subtitle=result.scenario.description,
        duration_s=end,
    )


def _bar(result: DemoResult, report: StreamReport, over: datetime) -> StreamBar:
    """A stream; where there are several bridges with the bridge, and its end if that was killed."""
    bar = report.bar(result.began, over)
    if len(set(result.scenario.route)) == 1:
        return bar
    bridge = result.bridge_of(report)
    died = any(
        one.killed and one.old == bridge and abs(bar.closed_s - one.at_s) < _DIES_S
        for one in result.comebacks
    )
    return replace(
        bar, name=f"{bar.name}, bridge {bridge}", cut="with its bridge" if died else bar.cut
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _whole_ms(ms: int | None) -> str:
    return "-" if ms is None else f"{ms} ms"


def _sum(begin_ms: int | None, more_ms: int | None) -> int | None:
    return None if begin_ms is None or more_ms is None else begin_ms + more_ms
