from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.sonic.failures import OUR_CODES, Remedy, classify
from opusagent.sonic.peer_faults import STREAM_FAULTS

IDLE = "InternalErrorCode=532::Timed out waiting for audio bytes or interactive content."
RESET = "InternalErrorCode=531::RST_STREAM closed stream. HTTP/2 error code: NO_ERROR"


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        ("ModelTimeoutException", "Model has timed out in processing the request.", Remedy.REOPEN),
        ("ValidationException", f"RequestId=1 : {IDLE}", Remedy.REOPEN),
        ("ValidationException", RESET, Remedy.REOPEN),
        ("ValidationException", "Timed out waiting for input events", Remedy.REOPEN),
        ("ValidationException", "System instability detected.", Remedy.REOPEN_LATER),
        ("ValidationException", "Tool Response parsing error", Remedy.REOPEN),
        (
            "ValidationException",
            "This request has been blocked by our content filters.",
            Remedy.REOPEN_WITHOUT_LAST,
        ),
        ("ValidationException", "Chat history is over max limit.", Remedy.REOPEN_SHORTER),
        ("ValidationException", "Invalid input request, please fix", Remedy.REOPEN_SHORTER),
        ("ValidationException", "Duplicate SYSTEM content.", Remedy.REOPEN_SHORTER),
        ("ValidationException", "All contents must be closed", Remedy.REOPEN_SHORTER),
        ("ValidationException", "words that nobody has seen", Remedy.REOPEN_SHORTER),
        ("ValidationException", "The provided model identifier is invalid.", Remedy.FATAL),
        ("ValidationException", "Received invalid voiceId: x", Remedy.FATAL),
        ("ValidationException", "The security token is expired", Remedy.REFRESH),
        ("ThrottlingException", "", Remedy.REOPEN_LATER),
        ("ServiceQuotaExceededException", "", Remedy.REOPEN_LATER),
        ("ModelNotReadyException", "", Remedy.REOPEN_LATER),
        ("ServiceUnavailableException", "", Remedy.REOPEN_LATER),
        ("ModelErrorException", "", Remedy.REOPEN),
        ("ModelStreamErrorException", "", Remedy.REOPEN),
        ("InternalServerException", "", Remedy.REOPEN),
        ("AccessDeniedException", "You don't have access to the model", Remedy.FATAL),
        ("AccessDeniedException", "The security token has expired", Remedy.REFRESH),
        ("ResourceNotFoundException", "", Remedy.FATAL),
        ("ExpiredTokenException", "", Remedy.REFRESH),
        ("ExpiredToken", "", Remedy.REFRESH),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            Remedy.REFRESH,
        ),
        ("UnknownOperationException", "", Remedy.FATAL),
        ("OptInRequired", "The AWS Access Key Id needs a subscription", Remedy.FATAL),
        ("NotAuthorized", "", Remedy.FATAL),
        ("HTTP400", "", Remedy.FATAL),
        ("HTTP401", "", Remedy.FATAL),
        ("HTTP403", "", Remedy.FATAL),
        ("HTTP403", "Signature expired", Remedy.REFRESH),
        ("HTTP404", "", Remedy.FATAL),
        ("HTTP407", "", Remedy.FATAL),
        ("HTTP408", "", Remedy.REOPEN),
        ("HTTP424", "", Remedy.REOPEN),
        ("HTTP429", "", Remedy.REOPEN_LATER),
        ("HTTP500", "", Remedy.REOPEN),
        ("HTTP503", "", Remedy.REOPEN),
        ("ConnectionLost", "AWS_ERROR_HTTP_UNSUPPORTED_PROTOCOL: An unsupported", Remedy.FATAL),
        ("weirdException", "", Remedy.REOPEN),
        ("weird[Exception", "", Remedy.REOPEN),
        ("KeyError", "'weirdException'", Remedy.REOPEN),
        ("NoHead", "", Remedy.REOPEN_LATER),
        ("Ended", "", Remedy.REOPEN),
        ("ConnectionLost", "", Remedy.REOPEN),
        ("SendTimeout", "", Remedy.REOPEN),
        ("Undecodable", "", Remedy.REOPEN),
        ("Deaf", "", Remedy.REOPEN),
        ("NoCredentials", "", Remedy.REFRESH),
    ],
)
def test_a_failure_is_classified_by_its_code_and_its_words(
    code: str, message: str, remedy: Remedy
) -> None:
    failure = classify(code, message)
    assert (failure.remedy, failure.code, failure.message) == (remedy, code, message)


@pytest.mark.parametrize(
    "spelling",
    [
        "ThrottlingException",
        "throttlingException",
        "Throttling",
        "throttling_exception",
        "com.amazonaws.bedrock#ThrottlingException",
        "ThrottlingException:http://internal.amazon.com/coral/",
    ],
)
def test_a_code_is_known_in_every_spelling(spelling: str) -> None:
    assert classify(spelling).remedy is Remedy.REOPEN_LATER


@given(st.text(), st.text())
def test_every_failure_has_a_remedy(code: str, message: str) -> None:
    assert classify(code, message).remedy in Remedy


def test_our_own_codes_are_never_fatal() -> None:
    assert all(classify(code).remedy is not Remedy.FATAL for code in OUR_CODES)


def test_every_error_that_the_peer_can_show_can_be_survived() -> None:
    assert all(classify(*fault).remedy is not Remedy.FATAL for fault in STREAM_FAULTS.values())
