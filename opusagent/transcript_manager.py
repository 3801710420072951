"""Who said what, in order: FINAL text becomes turns, planned text stands in where FINAL never comes.

Nova Sonic tells an answer twice: first SPECULATIVE, sentence by sentence and before its audio, later
FINAL, which is what was really spoken. FINAL text may come seconds after the next turn has begun, or
never (Nova 2 user guide, output events), so each sentence keeps its place from the moment it is planned.
What the caller cannot have heard, because it was never handed to the phone, is no part of the
conversation, whatever the model believes. What waits to be handed over is a part of it for the next
stream of this process, which will play it, and for nobody else: a process may die before it does.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from opusagent.models.session_state import ConversationItem

__all__ = ["TranscriptManager"]

LIKENESS = 0.5
"""Share of words that two wordings of one sentence have in common, at least."""


MAX_WAITING = 4
"""So many answers may wait to be played; one before them that seems to has lost its sound."""


class _Told(enum.Enum):
    """What is known of a sentence of the bot."""

    PLANNED = "planned"  # announced; no audio of it has come
    PROMISED = "promised"  # its audio is still to come, and will be played
    VOICED = "voiced"  # its audio came: it waits for the phone, is being played or has been
    UNHEARD = "unheard"  # cut off by the caller before a word of it was played
    FINAL = "final"  # the model says that it was spoken


_TO_COME = (_Told.PLANNED, _Told.PROMISED)
_SPOKEN = (_Told.PROMISED, _Told.VOICED, _Told.FINAL)


@dataclass(slots=True)
class _Sentence:
    text: str
    text_id: str = ""  # the block that announced it
    audio_id: str = ""  # the block that speaks it
    told: _Told = _Told.PLANNED
    given: bool = False  # some of its audio was handed to the phone

    def counts(self, *, given_only: bool) -> bool:
        """Whether it was said. What no block of audio belongs to cannot be followed to the phone."""
        unseen = self.told is _Told.FINAL and not self.audio_id
        return self.told in _SPOKEN and (not given_only or self.given or unseen)

    @property
    def waits(self) -> bool:
        """Whether it counts as said, and may still be cut off before a word of it is heard."""
        followed = bool(self.audio_id) or self.told is _Told.PROMISED
        return self.told in _SPOKEN and followed and not self.given


@dataclass(slots=True)
class _Entry:
    """One turn. A caller's turn has text, a bot's turn has sentences."""

    at: datetime
    stream: int
    text: str | None = None
    sentences: list[_Sentence] = field(default_factory=list)
    interrupted: bool = False
    complete: bool = False
    broken_off: bool = False  # by the end of the call in the process that spoke it
    extra: dict[str, JsonValue] = field(default_factory=dict)
    known: ConversationItem | None = None

    def item(self, *, given_only: bool) -> ConversationItem | None:
        """As it is stored or told; None where nothing was said. It is made anew only where it differs."""
        text = self.spoken_text(given_only=given_only)
        if not text:
            return None
        known, unfinished = self.known, given_only and self.unfinished
        if known is None or (known.text, known.interrupted, known.unfinished) != (
            text,
            self.interrupted,
            unfinished,
        ):
            known = self.known = ConversationItem(
                type="input" if self.text is not None else "output",
                text=text,
                at=self.at,
                interrupted=self.interrupted,
                unfinished=unfinished,
                **self.extra,
            )
        return known

    @property
    def unfinished(self) -> bool:
        """Whether more of it is to be handed to the phone, or may still come."""
        followed = [s for s in self.sentences if s.audio_id and s.told in _SPOKEN]
        waits = any(not sentence.given for sentence in followed)
        return self.broken_off or waits or (bool(followed) and not self.complete)

    def spoken_text(self, *, given_only: bool) -> str:
        if self.text is not None:
            return self.text
        return " ".join(s.text for s in self.sentences if s.counts(given_only=given_only))

    def add_unplanned(self, text: str) -> None:
        """Words that nobody announced; they were spoken with what stands before them."""
        added = _Sentence(text, told=_Told.FINAL)
        if self.sentences and (last := self.sentences[-1]).told in _SPOKEN:
            added.audio_id, added.given = last.audio_id, last.given
        self.sentences.append(added)


class TranscriptManager:
    """The turns of one conversation, as they were said."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._entries: list[_Entry] = []

    # What the wires tell

    def caller_said(self, text: str, *, stream: int, at: datetime) -> None:
        """Add what the caller said; texts that follow one another are one turn.

        A late text of a stream that was replaced keeps its place before what the next one said.
        """
        text = text.strip()
        if not text:
            return
        place = len(self._entries)
        while stream and place and self._entries[place - 1].stream > stream:
            place -= 1
            at = min(at, self._entries[place].at)
        last = self._entries[place - 1] if place else None
        if last is not None and last.text is not None and last.stream == stream:
            last.text = f"{last.text} {text}"
        else:
            self._entries.insert(place, _Entry(at=at, stream=stream, text=text))

    def bot_plans(self, text: str, *, content_id: str, stream: int, at: datetime) -> None:
        """Add a sentence that the bot is about to speak; `content_id` names its text block."""
        text = text.strip()
        if not text:
            return
        answer = self._open_answer(stream, at)
        last = answer.sentences[-1] if answer.sentences else None
        if last is not None and last.text_id == content_id and last.told is _Told.PLANNED:
            last.text = f"{last.text} {text}"
        else:
            answer.sentences.append(_Sentence(text, text_id=content_id))

    def bot_begins(self, *, content_id: str, stream: int) -> None:
        """Note that audio will come for the oldest planned sentence; `content_id` names its block."""
        if (answer := self._last_answer(stream)) is None:
            return
        for sentence in answer.sentences:
            if sentence.told in _TO_COME and not sentence.audio_id:
                sentence.audio_id = content_id
                return

    def bot_voices(self, *, content_id: str) -> None:
        """Note that audio of this block came and will be played."""
        for sentence in self._voiced_by({content_id}):
            if sentence.told in _TO_COME:
                sentence.told = _Told.VOICED

    def bot_given(self, *, content_id: str) -> bool:
        """Note that audio of this block was handed to the phone. True if that says a sentence."""
        says = False
        for sentence in self._voiced_by({content_id}):
            says |= not sentence.given
            sentence.given = True
        return says

    def bot_unheard(self, *, content_id: str) -> None:
        """Note that nothing of this block will be played."""
        for sentence in self._voiced_by({content_id}):
            sentence.told = _Told.UNHEARD

    def bot_said(self, text: str, *, stream: int, at: datetime) -> None:
        """Add what the model says was spoken: it replaces what was planned, where it was planned.

        A sentence of which the caller heard nothing stays out.
        """
        rest = text = text.strip()
        if not _words(text):
            return
        for entry in self._answers(stream):
            if rest:
                rest = _settle(entry, rest)
            if rest != text:
                if rest:
                    entry.add_unplanned(rest)
                return
        if _reword(list(self._answers(stream)), rest):
            return
        answer = self._last_answer(stream) or self._open_answer(stream, at)
        answer.add_unplanned(rest)

    def bot_recorded(self, text: str, *, content_id: str, at: datetime) -> None:
        """Add words that are played from a recording, apart from any stream."""
        if text.strip():
            spoken = [_Sentence(text.strip(), audio_id=content_id, told=_Told.VOICED)]
            self._entries.append(_Entry(at=at, stream=0, sentences=spoken, complete=True))

    def bot_will_say(self, *, stream: int) -> None:
        """Note that the rest of the answer will be heard, though its audio is still to come."""
        answer = self._last_answer(stream)
        for sentence in () if answer is None or answer.complete else answer.sentences:
            if sentence.told is _Told.PLANNED:
                sentence.told = _Told.PROMISED

    def last_voiced(self, *, stream: int) -> str:
        """The newest sentence of the stream that sounds, or sounded; empty if there is none."""
        answer = self._last_answer(stream)
        spoken = [s.text for s in answer.sentences if s.told in _SPOKEN] if answer else []
        return spoken[-1] if spoken else ""

    def bot_finished(self, *, stream: int) -> None:
        """The answer is complete: the next planned sentence begins another one."""
        if (answer := self._last_answer(stream)) is None:
            return
        answer.complete = True
        for sentence in answer.sentences:
            if sentence.told is _Told.PROMISED:
                sentence.told = _Told.PLANNED  # it did not come

    def bot_interrupted(
        self, *, heard: Collection[str], unheard: Collection[str], broken_off: bool = False
    ) -> None:
        """What was being played was cut off.

        Args:
            heard: The audio blocks that the caller heard, in part at least.
            unheard: Those of which she heard nothing.
            broken_off: Whether it was not she who did it: she may want the rest.
        """
        cut = {*heard, *unheard}
        for entry in self._entries:
            if not any(sentence.audio_id in cut for sentence in entry.sentences):
                continue
            entry.interrupted = entry.complete = True
            entry.broken_off = broken_off
            for sentence in entry.sentences:
                if sentence.told in _TO_COME or sentence.audio_id in unheard:
                    sentence.told = _Told.UNHEARD

    def drop_last_exchange(self) -> None:
        """Forget the newest caller turn and all after it, e.g. when a content filter refused it."""
        for place in reversed(range(len(self._entries))):
            if self._entries[place].text is not None:
                del self._entries[place:]
                return

    # What others read

    @property
    def waits_from(self) -> datetime | None:
        """When the oldest of the newest answers began that waits for the phone in part; None where none does."""
        answers = [entry for entry in self._entries if entry.text is None][-MAX_WAITING:]
        return next((e.at for e in answers if any(s.waits for s in e.sentences)), None)

    def get_conversation_context(self, *, given_only: bool = False) -> list[ConversationItem]:
        """The turns in order; those without a word heard are left out.

        Args:
            given_only: Leave out the sentences that still wait to be handed to the phone, and mark the
                answers that are `unfinished`.
        """
        items = (entry.item(given_only=given_only) for entry in self._entries)
        return [item for item in items if item is not None]

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
                broken_off=item.unfinished,
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

    def _answers(self, stream: int) -> Iterator[_Entry]:
        return (e for e in self._entries if e.text is None and e.stream == stream)

    def _voiced_by(self, content_ids: Collection[str]) -> Iterator[_Sentence]:
        for entry in self._entries:
            yield from (s for s in entry.sentences if s.audio_id in content_ids)

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


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _settle(entry: _Entry, text: str) -> str:
    """Match spoken text to the planned sentences of one answer; returns what matched none.

    The text may be one sentence, several, or the part of one that was spoken before a barge-in.
    """
    rest = text
    for sentence in entry.sentences:
        planned, spoken = _words(sentence.text), _words(rest)
        if sentence.told is _Told.FINAL or not planned or not spoken:
            continue
        if spoken[: len(planned)] == planned:
            matched, rest = _split(rest, len(planned))
        elif planned[: len(spoken)] == spoken:
            matched, rest = rest, ""
        elif rest != text:
            break
        else:
            continue
        if sentence.told is not _Told.UNHEARD:
            sentence.told, sentence.text = _Told.FINAL, matched
    return rest


def _split(text: str, n_words: int) -> tuple[str, str]:
    """The text up to the end of its `n_words`-th word with what closes the sentence, and the rest."""
    ends = [match.end() for match in re.finditer(r"\w+", text)]
    if n_words >= len(ends):
        return text, ""
    end = ends[n_words - 1]
    while end < len(text) and not text[end].isspace():
        end += 1
    return text[:end].strip(), text[end:].strip()


def _reword(answers: list[_Entry], text: str) -> bool:
    """Take the text for the sentence that it resembles most; False if it resembles none."""
    spoken = set(_words(text))
    best, likeness = None, 0.0
    for sentence in (s for answer in answers for s in answer.sentences):
        planned = set(_words(sentence.text))
        if sentence.told is _Told.FINAL or not planned or not spoken:
            continue
        share = len(planned & spoken) / max(len(planned), len(spoken))
        if share > likeness:
            best, likeness = sentence, share
    if best is None or likeness < LIKENESS:
        return False
    if best.told is not _Told.UNHEARD:
        best.told, best.text = _Told.FINAL, text
    return True
