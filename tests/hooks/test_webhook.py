"""Posting until it is taken, on virtual time; the wire is in `tests/end_to_end/test_hooks.py`."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import urllib.error
from collections.abc import Mapping

import pytest

from opusagent.config import Settings
from opusagent.hooks.events import Event
from opusagent.hooks.lanes import Outcome
from opusagent.hooks.signing import verify
from opusagent.hooks.webhook import WebhookSink
from opusagent.observability import Metrics, configure_logging
from opusagent.setting_types import signing_key
from tests.hooks.rig import turn
from tests.services.faulty import LoopClock
from tests.virtual_time import run
from tests.waiting import pass_time

SECRET = "sixteen letters!"


class Wire:
    """Answers in order, the last for good; 0 is no answer.

    Attributes:
        at: When each attempt came.
    """

    def __init__(self, *answers: int) -> None:
        self._answers = list(answers)
        self.at: list[float] = []
        self.sent: list[tuple[bytes, Mapping[str, str]]] = []

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> int:
        self.at.append(asyncio.get_running_loop().time())
        self.sent.append((body, headers))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not answer:
            raise ConnectionRefusedError
        return answer


def deliver(
    wire: Wire, event: Event, *, hurry_after_s: float | None = None, **options: bool | float
) -> tuple[Outcome, Metrics]:
    metrics = Metrics()

    async def main() -> Outcome:
        told = {"include_text": False, "include_numbers": False, "retry_s": 300.0} | options
        sink = WebhookSink(
            wire,
            key=signing_key(SECRET),
            clock=LoopClock(),
            metrics=metrics,
            include_text=bool(told["include_text"]),
            include_numbers=bool(told["include_numbers"]),
            retry_s=told["retry_s"],
        )
        hurry = asyncio.Event()
        if hurry_after_s is not None:
            asyncio.get_running_loop().call_later(hurry_after_s, hurry.set)
        outcome = await sink.deliver(event, hurry)
        await pass_time(hurry_after_s or 0)
        return outcome

    return run(main()), metrics


def test_what_is_taken_is_posted_once() -> None:
    wire = Wire(204)
    assert deliver(wire, turn(1))[0] == "delivered"
    assert wire.at == [0.0]


@pytest.mark.parametrize("failure", [0, 500, 503, 429, 408, 425])
def test_what_may_pass_is_tried_again_later_and_later(failure: int) -> None:
    wire = Wire(failure, failure, failure, 200)
    outcome, metrics = deliver(wire, turn(1))
    assert outcome == "delivered"
    assert wire.at == [0.0, 1.0, 3.0, 7.0]
    assert metrics.registry.get_sample_value("opusagent_event_retries_total") == 3


@pytest.mark.parametrize("answer", [301, 400, 401, 404, 410])
def test_what_will_not_change_is_not_tried_again(answer: int) -> None:
    wire = Wire(answer)
    assert deliver(wire, turn(1))[0] == "refused"
    assert len(wire.at) == 1


def unknown_certificate() -> OSError:
    error = urllib.error.URLError("of https://crm.example/hunter2")
    error.__cause__ = ssl.SSLCertVerificationError(1, "of hunter2")
    error.__cause__.verify_message = "self-signed certificate"
    return error


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (503, "HTTP 503"),
        (unknown_certificate(), "URLError: self-signed certificate"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_the_log_says_once_why_a_receiver_takes_nothing(
    trouble: OSError | int, problem: str
) -> None:
    class Troubled(Wire):
        async def __call__(self, body: bytes, headers: Mapping[str, str]) -> int:
            if isinstance(trouble, OSError):
                raise trouble
            return trouble

    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)
    assert deliver(Troubled(0), turn(1))[0] == "failed"
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["problem"]) == ("webhook not taken", problem)
    assert "hunter2" not in log.getvalue()


def test_it_is_given_up_in_the_end() -> None:
    wire = Wire(503)
    assert deliver(wire, turn(1), retry_s=100.0)[0] == "failed"
    assert wire.at == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0]
    once = Wire(503)
    assert deliver(once, turn(1), retry_s=0.0)[0] == "failed"
    assert len(once.at) == 1


def test_a_process_that_ends_tries_once_more_and_waits_no_longer() -> None:
    wire = Wire(503)
    assert deliver(wire, turn(1), hurry_after_s=20.0)[0] == "failed"
    assert wire.at == [0.0, 1.0, 3.0, 7.0, 15.0, 20.0]


def test_each_attempt_is_signed_anew_with_the_same_id_and_body() -> None:
    wire = Wire(503, 200)
    deliver(wire, turn(1, text="hello"), include_text=True)
    (body, first), (again, second) = wire.sent
    assert body == again
    assert json.loads(body)["text"] == "hello"
    assert first["webhook-id"] == second["webhook-id"] == "c-1"
    assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 1
    for headers in (first, second):
        verify(SECRET, headers, body, now=int(headers["webhook-timestamp"]), tolerance_s=0)
    assert first["content-type"] == "application/json"


def test_what_was_said_stays_here_unless_it_is_asked_for() -> None:
    wire = Wire(200)
    deliver(wire, turn(1, text="hello"))
    assert json.loads(wire.sent[0][0])["text"] is None


@pytest.mark.parametrize(
    "error", [UnicodeError("label empty or too long"), RuntimeError("can't start new thread")]
)
def test_an_attempt_that_cannot_even_be_made_is_one_that_was_not_taken(error: Exception) -> None:
    class Breaks(Wire):
        async def __call__(self, body: bytes, headers: Mapping[str, str]) -> int:
            if not self.at:
                self.at.append(0.0)
                raise error
            return await super().__call__(body, headers)

    wire = Breaks(200)
    outcome, _ = deliver(wire, turn(1))
    assert (outcome, len(wire.at)) == ("delivered", 2)


def test_the_longest_pause_is_a_minute() -> None:
    wire = Wire(503)
    assert deliver(wire, turn(1), retry_s=200.0)[0] == "failed"
    assert wire.at[-3:] == [63.0, 123.0, 183.0]
