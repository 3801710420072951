"""What each failure of a Nova Sonic stream means: one table, classified by code and message."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

__all__ = ["OUR_CODES", "Failure", "Remedy", "classify"]


class Remedy(enum.StrEnum):
    """What to do about a failure."""

    REOPEN = "reopen"
    """Open another stream with the history."""
    REOPEN_LATER = "reopen_later"
    """The same after a back-off with jitter: quota or overload."""
    REOPEN_SHORTER = "reopen_shorter"
    """With a trimmed history, once, and an alarm: our request was refused."""
    REOPEN_WITHOUT_LAST = "reopen_without_last"
    """Without the last exchange: the content filter took it."""
    REFRESH = "refresh"
    """New credentials, then reopen."""
    FATAL = "fatal"
    """No other try can work."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A classified failure. `code` is the service's exception name or one of `OUR_CODES`."""

    remedy: Remedy
    code: str
    message: str = ""

    @property
    def may_be_shown(self) -> bool:
        """Whether the message is of the line or the account: no words of a conversation, and no keys."""
        return _key(self.code) in _OF_LINE_OR_ACCOUNT


OUR_CODES: Final = (
    "NoHead",
    "Ended",
    "ConnectionLost",
    "SendTimeout",
    "Undecodable",
    "NoCredentials",
    "Deaf",
    "DrainTimeout",
)
"""Codes for what no exception of the service describes: no response head in time, a bare end of the
stream, a broken connection, a send that blocks, a frame that cannot be decoded, no credentials to
be had, a stream that takes everything and says nothing, and a replaced one that does not finish its answer."""

# What breaks a frame or a request may quote it, and a signature that does not match the token that was signed.
_OF_LINE_OR_ACCOUNT: Final = frozenset(
    {
        *(code.lower() for code in OUR_CODES if code != "Undecodable"),
        "accessdenied",
        "notauthorized",
        "optinrequired",
        "resourcenotfound",
        "throttling",
        "toomanyrequests",
        "servicequotaexceeded",
        "modelnotready",
        "serviceunavailable",
    }
)

# First match wins. A row holds the code without its ending (a pattern, `*` is any), a
# piece of the message in lower case ("" is any message), and what to do. One class, ValidationException, stands for idle
# time-outs, resets, overload, the content filter and our own mistakes, so the words decide before
# the class does.
_TABLE: Final[tuple[tuple[str, str, Remedy], ...]] = (
    ("validation", "internalerrorcode=532", Remedy.REOPEN),
    ("validation", "timed out waiting for", Remedy.REOPEN),
    ("validation", "internalerrorcode=531", Remedy.REOPEN),
    ("validation", "rst_stream", Remedy.REOPEN),
    ("validation", "system instability detected", Remedy.REOPEN_LATER),
    ("validation", "tool response parsing error", Remedy.REOPEN),
    ("validation", "no events to transform", Remedy.REOPEN),
    ("validation", "content filter", Remedy.REOPEN_WITHOUT_LAST),
    ("validation", "security token", Remedy.REFRESH),
    ("validation", "expiredtoken", Remedy.REFRESH),
    ("validation", "credential", Remedy.REFRESH),
    ("validation", "model identifier", Remedy.FATAL),
    ("validation", "invalid voiceid", Remedy.FATAL),
    ("validation", "unexpected error", Remedy.REOPEN),
    # "over max limit", "Invalid input request", "Duplicate SYSTEM", open contents, unparsable
    # chunks and words never seen before: we sent something that this service does not take.
    ("validation", "", Remedy.REOPEN_SHORTER),
    ("modeltimeout", "", Remedy.REOPEN),
    ("modelerror", "", Remedy.REOPEN),
    ("modelstreamerror", "", Remedy.REOPEN),
    ("internalserver", "", Remedy.REOPEN),
    ("throttling", "", Remedy.REOPEN_LATER),
    ("toomanyrequests", "", Remedy.REOPEN_LATER),
    ("servicequotaexceeded", "", Remedy.REOPEN_LATER),
    ("modelnotready", "", Remedy.REOPEN_LATER),
    ("serviceunavailable", "", Remedy.REOPEN_LATER),
    ("conflict", "", Remedy.REOPEN_LATER),
    # A 429 whose body stays open shows no head (measured with the SDK), so it is taken for one.
    ("nohead", "", Remedy.REOPEN_LATER),
    # The CRT's word for a peer that does not agree upon HTTP/2 (measured): no Bedrock.
    ("connectionlost", "unsupported_protocol", Remedy.FATAL),
    ("accessdenied", "expired", Remedy.REFRESH),
    ("accessdenied", "security token", Remedy.REFRESH),
    ("accessdenied", "", Remedy.FATAL),
    ("notauthorized", "", Remedy.FATAL),
    ("optinrequired", "", Remedy.FATAL),
    ("resourcenotfound", "", Remedy.FATAL),
    ("unknownoperation", "", Remedy.FATAL),
    ("expiredtoken", "", Remedy.REFRESH),
    ("requestexpired", "", Remedy.REFRESH),
    ("unrecognizedclient", "", Remedy.REFRESH),
    ("invalidclienttokenid", "", Remedy.REFRESH),
    ("invalidsignature", "", Remedy.REFRESH),
    ("signaturedoesnotmatch", "", Remedy.REFRESH),
    ("incompletesignature", "", Remedy.REFRESH),
    ("missingauthenticationtoken", "", Remedy.REFRESH),
    ("nocredentials", "", Remedy.REFRESH),
    ("*", "security token included in the request", Remedy.REFRESH),
    # A status without the name of an exception: something on the way answered, or not Bedrock.
    ("http40[13]", "expired", Remedy.REFRESH),
    ("http408", "", Remedy.REOPEN),
    ("http424", "", Remedy.REOPEN),
    ("http429", "", Remedy.REOPEN_LATER),
    ("http4??", "", Remedy.FATAL),
)


def classify(code: str, message: str = "") -> Failure:
    """Say what a failure means, by its words where one class has many meanings, else by its code.

    Args:
        code: The exception's name in any spelling (`ThrottlingException`, `throttlingException`,
            `Throttling`, with or without a namespace), or one of `OUR_CODES`.
        message: The service's words; may be empty.

    Returns:
        The failure with its remedy; `REOPEN` for a code that is not in the table.

    Source: Nova user guide, handling errors; the service model's list of exceptions; field reports
    for what the words of a ValidationException mean.
    """
    key = _key(code)
    words = message.lower()
    for row_key, row_words, remedy in _TABLE:
        if fnmatchcase(key, row_key) and row_words in words:
            return Failure(remedy, code, message)
    return Failure(Remedy.REOPEN, code, message)


def _key(code: str) -> str:
    # Errors before the stream may be named "namespace#Name:url" (`x-amzn-errortype`).
    name = code.rpartition("#")[2].partition(":")[0]
    return name.strip().lower().replace("_", "").removesuffix("exception")
