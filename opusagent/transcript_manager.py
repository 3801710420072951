"""Who said what, in order: FINAL text becomes turns, planned text stands in where FINAL never comes.

Nova Sonic tells an answer twice: first SPECULATIVE, sentence by sentence and before its audio, later
FINAL, which is what was really spoken. FINAL text may come seconds after the next turn has begun, or
never (Nova 2 user guide, output events), so each sentence keeps its place from the moment it is planned.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from opusagent.models.session_state import ConversationItem


class _Told(enum.Enum):
    """What is known of a sentence of the bot."""

    PLANNED = "planned"  # announced; no audio of it has come
    VOICED = "voiced"  # its audio came and is being or has been played
    UNHEARD = "unheard"  # cut off by the caller before a word of it was played
    FINAL = "final"  # the model says that it was spoken


@dataclass(slots=True)
class _Sentence:
    text: str
    content_id: str = ""
    told: _Told = _Told.PLANNED


@dataclass(slots=True)
class _Entry:
    """One turn. A caller's turn has text, a bot's turn has sentences."""

    at: datetime
    stream: int
    text: str | None = None
    sentences: list[_Sentence] = field(default_factory=list)
    interrupted: bool = False
    complete: bool = False
    extra: dict[str, JsonValue] = field(default_factory=dict)

    def spoken_text(self) -> str:
        if self.text is not None:
            return self.text
        told = (_Told.VOICED, _Told.FINAL)
        return " ".join(s.text for s in self.sentences if s.told in told)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


class TranscriptManager:
    """The turns of one conversation, as they were said."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    # What the wires tell

    def caller_said(self, text: str, *, stream: int, at: datetime) -> None:
        """Add what the caller said; texts that follow one another are one turn."""
        text = text.strip()
        if not text:
            return
        last = self._entries[-1] if self._entries else None
        if last is not None and last.text is not None and last.stream == stream:
            last.text = f"{last.text} {text}"
        else:
            self._entries.append(_Entry(at=at, stream=stream, text=text))

    def bot_plans(self, text: str, *, content_id: str, stream: int, at: datetime) -> None:
        """Add a sentence that the bot is about to speak; `content_id` names its text block."""
        text = text.strip()
        if text:
            sentence = _Sentence(text, content_id)
            self._open_answer(stream, at).sentences.append(sentence)

    def bot_voices(self, *, content_id: str, stream: int) -> None:
        """Note that audio comes for the oldest planned sentence; `content_id` names the audio block."""
        for entry in self._answers(stream):
            for sentence in entry.sentences:
                if sentence.told is _Told.PLANNED:
                    sentence.told = _Told.VOICED
                    sentence.content_id = content_id
                    return

    def bot_said(self, text: str, *, stream: int, at: datetime) -> None:
        """Add what the model says was spoken: it replaces what was planned, where it was planned."""
        rest = text.strip()
        if not rest:
            return
        for entry in self._answers(stream):
            rest = _settle(entry, rest)
            if not rest:
                return
            if rest != text.strip():
                entry.sentences.append(_Sentence(rest, told=_Told.FINAL))
                return
        answer = self._last_answer(stream) or self._open_answer(stream, at)
        answer.sentences.append(_Sentence(rest, told=_Told.FINAL))

    def bot_recorded(self, text: str, *, at: datetime) -> None:
        """Add words that were played from a recording, apart from any stream."""
        if text.strip():
            spoken = [_Sentence(text.strip(), told=_Told.FINAL)]
            self._entries.append(_Entry(at=at, stream=0, sentences=spoken, complete=True))

    def bot_finished(self, *, stream: int) -> None:
        """The answer is complete: the next planned sentence begins another one."""
        if (answer := self._last_answer(stream)) is not None:
            answer.complete = True
            for sentence in answer.sentences:
                if sentence.told is _Told.PLANNED:
                    sentence.told = _Told.UNHEARD

    def bot_interrupted(self, *, stream: int, heard: Collection[str]) -> None:
        """The caller cut the answer off. `heard` names the audio blocks that were played, in part at least."""
        if (answer := self._last_answer(stream)) is None:
            return
        answer.interrupted = answer.complete = True
        for sentence in answer.sentences:
            if sentence.told is _Told.PLANNED:
                sentence.told = _Told.UNHEARD
            elif sentence.told is _Told.VOICED and sentence.content_id not in heard:
                sentence.told = _Told.UNHEARD

    def drop_last_exchange(self) -> None:
        """Forget the newest caller turn and all after it, e.g. when a content filter refused it."""
        while self._entries:
            if self._entries.pop().text is not None:
                return

    # What others read

    @property
    def last_is_caller(self) -> bool:
        """Whether the newest turn with words is the caller's: nobody has answered it."""
        for entry in reversed(self._entries):
            if entry.spoken_text():
                return entry.text is not None
        return False

    def get_conversation_context(self) -> list[ConversationItem]:
        """The turns in order; those without a word heard are left out."""
        return [
            ConversationItem(
                type="input" if entry.text is not None else "output",
                text=text,
                at=entry.at,
                interrupted=entry.interrupted,
                **entry.extra,  # type: ignore[arg-type]  # unknown fields of a restored item
            )
            for entry in self._entries
            if (text := entry.spoken_text())
        ]

    def restore_conversation_context(
        self,
        conversation_history: Iterable[ConversationItem | Mapping[str, JsonValue]],
        *,
        at: datetime,
    ) -> None:
        """Start from stored turns, replacing what is here. `at` dates the items that bear no time."""
        self._entries.clear()
        for raw in conversation_history:
            item = ConversationItem.model_validate(
                raw if not isinstance(raw, ConversationItem) else raw.model_dump()
            )
            entry = _Entry(
                at=item.at or at,
                stream=0,
                interrupted=item.interrupted,
                complete=True,
                extra=dict(item.model_extra or {}),
            )
            if item.type == "input":
                entry.text = item.text
            else:
                entry.sentences = [_Sentence(item.text, told=_Told.FINAL)]
            self._entries.append(entry)

    def clear_conversation_context(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _answers(self, stream: int) -> Iterable[_Entry]:
        return (e for e in self._entries if e.text is None and e.stream == stream)

    def _last_answer(self, stream: int) -> _Entry | None:
        for entry in reversed(self._entries):
            if entry.text is None and entry.stream == stream:
                return entry
        return None

    def _open_answer(self, stream: int, at: datetime) -> _Entry:
        last = self._entries[-1] if self._entries else None
        if last is None or last.text is not None or last.complete or last.stream != stream:
            last = _Entry(at=at, stream=stream)
            self._entries.append(last)
        return last


def _settle(entry: _Entry, text: str) -> str:
    """Match spoken text to the planned sentences of one answer; returns what matched none.

    The text may be one sentence, several, or the part of one that was spoken before a barge-in.
    """
    rest = text
    for sentence in entry.sentences:
        if not rest or sentence.told is _Told.FINAL:
            continue
        planned, spoken = _plain(sentence.text), _plain(rest)
        if spoken.startswith(planned):
            sentence.told = _Told.FINAL
            rest = " ".join(rest.split()[len(sentence.text.split()) :])
        elif planned.startswith(spoken):
            sentence.told, sentence.text, rest = _Told.FINAL, rest, ""
        elif rest != text:
            break
    return rest
