"""The words in which the service refuses, and what its stream ends with.

They are those that clients of the real service have reported; where only a part of a message is
known, the rest is ours.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CONTENTS_OPEN",
    "EMPTY_VOICE",
    "HISTORY_FIRST",
    "HISTORY_LIMIT",
    "IDLE",
    "INVALID",
    "NO_AUDIO",
    "NO_DATA",
    "NO_EVENTS",
    "SECOND_SYSTEM",
    "TOOL_MEDIA",
    "TOOL_PARSING",
    "UNEXPECTED",
    "UNPARSABLE",
    "VOICE",
    "Refused",
]

INVALID: Final = "Invalid input request, please fix your input and try again."
UNPARSABLE: Final = (
    "Unable to parse input chunk. Please check input format contains correct format."
)
HISTORY_FIRST: Final = "Chat history should be sent completely before streaming audio."
HISTORY_LIMIT: Final = "Chat history is over max limit. Trim chat history and try again."
SECOND_SYSTEM: Final = (
    "Duplicate SYSTEM content. SYSTEM content can only be provided once per prompt"
)
CONTENTS_OPEN: Final = "All contents must be closed before ending prompt"
NO_DATA: Final = "Cannot end content [{}] as no content data was received"
NO_AUDIO: Final = "The prompt must have at least one audio content"
UNEXPECTED: Final = (
    "The system encountered an unexpected error during processing. Try your request again."
)
TOOL_MEDIA: Final = "Tool result media type must be one of: [text/plain]"
TOOL_PARSING: Final = "Tool Response parsing error"
VOICE: Final = "Received invalid voiceId: {}"
EMPTY_VOICE: Final = "value must not be empty"
IDLE: Final = (
    "InternalErrorCode=532::Timed out waiting for audio bytes or interactive content. Please ensure"
    " gaps between audio bytes and interactive content are less than {:g} seconds."
)
NO_EVENTS: Final = "No events to transform were found"


class Refused(Exception):
    """The stream is over: the exception that the service sends."""

    def __init__(self, message: str, code: str = "validationException") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
