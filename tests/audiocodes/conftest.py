from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.events import CallerEvent
from opusagent.audiocodes.peer import AudioCodesPeer
from opusagent.audiocodes.peer_events import PeerEvent
from opusagent.audiocodes.protocol import AudioCodesProtocol

NOW = datetime(2025, 12, 18, 18, 1, 41, 668_000, tzinfo=UTC)


def counted(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


def new_bot(first_play: int = 1) -> AudioCodesProtocol:
    return AudioCodesProtocol(new_id=counted("bot"), utcnow=lambda: NOW, first_play=first_play)


@dataclass
class Wire:
    """Both ends of a conversation, joined without a socket."""

    bot: AudioCodesProtocol = field(default_factory=new_bot)
    peer: AudioCodesPeer = field(
        default_factory=lambda: AudioCodesPeer(new_id=counted("vaic"), utcnow=lambda: NOW)
    )

    def to_bot(self) -> list[CallerEvent]:
        """Carry what VoiceAI Connect has said to the bot."""
        return [event for text in self.peer.texts_to_send() for event in self.bot.receive(text)]

    def to_peer(self) -> list[PeerEvent]:
        """Carry what the bot has said to VoiceAI Connect."""
        return [event for text in self.bot.texts_to_send() for event in self.peer.receive(text)]

    def answer(
        self,
        media_format: MediaFormat = MediaFormat.LPCM16_16K,
        play_format: MediaFormat = MediaFormat.LPCM16_24K,
    ) -> None:
        """A call that is accepted."""
        self.peer.initiate("c-1")
        self.to_bot()
        self.bot.accept(media_format, play_format)
        self.to_peer()

    def reconnect(self) -> None:
        """The websocket is lost; the next one begins with `session.resume`."""
        self.bot = new_bot(self.bot.next_play)
        self.peer.resume("c-1")


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def call() -> Wire:
    wire = Wire()
    wire.answer()
    return wire
