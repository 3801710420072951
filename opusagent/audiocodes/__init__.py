"""How the phone side talks: the AudioCodes Bot API in streaming mode, without sockets and clocks.

`protocol` is the bot's end of a websocket, `peer` the strict end of VoiceAI Connect for the
simulator and the tests. Both rest on `messages` (shapes) and `codec` (text).
"""

from __future__ import annotations

from opusagent.audiocodes.codec import UnknownMessage
from opusagent.audiocodes.events import (
    ActivityReceived,
    CallerAudio,
    CallerEvent,
    CallerHungUp,
    CallStarted,
    ConnectionValidated,
    DtmfPressed,
    HangupHint,
    NoUserInput,
    PlayFinished,
    ResumeRequested,
    SessionRequested,
    TransferStatus,
    UserStreamClosed,
    UserStreamOpened,
)
from opusagent.audiocodes.protocol import AudioCodesProtocol

__all__ = [
    "ActivityReceived",
    "AudioCodesProtocol",
    "CallStarted",
    "CallerAudio",
    "CallerEvent",
    "CallerHungUp",
    "ConnectionValidated",
    "DtmfPressed",
    "HangupHint",
    "NoUserInput",
    "PlayFinished",
    "ResumeRequested",
    "SessionRequested",
    "TransferStatus",
    "UnknownMessage",
    "UserStreamClosed",
    "UserStreamOpened",
]
