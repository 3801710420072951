"""Events of calls for applications: Python functions and signed webhooks.

    stored state --story--> events --> a queue each --> functions (threads), webhook (HTTP)

An event is made of two states of a session that were stored one after the other, so what it tells is in
the store already. None of it runs on the loop that carries audio but for entering events in a queue.

    from opusagent.hooks import CallEnded, Event

    def on_event(event: Event) -> None:
        if isinstance(event, CallEnded):
            print(event.conversation_id, event.seconds)

`EVENT_HOOKS=my_app.calls:on_event` has it called.
"""

from __future__ import annotations

from opusagent.hooks.events import (
    CallEnded,
    CallResumed,
    CallStarted,
    Event,
    FunctionCalled,
    StreamSwitched,
    TurnSpoken,
)
from opusagent.hooks.signing import BadSignature, verify

__all__ = [
    "BadSignature",
    "CallEnded",
    "CallResumed",
    "CallStarted",
    "Event",
    "FunctionCalled",
    "StreamSwitched",
    "TurnSpoken",
    "verify",
]
