"""What has happened between two states of a session, as events."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from opusagent.hooks.events import (
    CallEnded,
    CallResumed,
    CallStarted,
    Event,
    FunctionCalled,
    StreamSwitched,
    TurnSpoken,
)
from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    SessionState,
    SessionStatus,
    StreamSwitch,
    ToolStatus,
)

__all__ = ["events_between"]

_NAMES: Final = uuid.UUID("5b0a2a52-6a0e-4bd1-9a1f-0c6f1d7f5d21")


def events_between(
    before: SessionState | None, after: SessionState, *, tenant: str = ""
) -> list[Event]:
    """What `after` tells and `before`, which was stored before it, does not; in order.

    The id of an event follows from what it tells, so the same thing has the same id in every process.

    Args:
        before: None where nothing was stored.
        after: What is stored now.
        tenant: Whose session it is.
    """
    told = _Teller(after, tenant)
    events: list[Event] = []
    if _has_begun(after) and not (before is not None and _has_begun(before)):
        events.append(told.started())
    if before is not None and after.resumed_count > before.resumed_count:
        events.append(told.resumed())
    events += sorted(
        [
            *map(told.turn, _added(_over(before), _over(after))),
            *map(told.function, _added(_steps(before), _steps(after))),
            *map(told.switched, _added(_switches(before), _switches(after))),
        ],
        key=lambda event: event.at,
    )
    if _ended_by(after) and not (before is not None and _ended_by(before)) and _has_begun(after):
        events.append(told.ended())
    return events


class _Teller:
    """Makes the events of one state."""

    def __init__(self, state: SessionState, tenant: str) -> None:
        self._state = state
        self._tenant = tenant

    def _common(self, at: datetime, *what: object) -> dict[str, Any]:
        conversation_id = self._state.conversation_id
        return {
            "id": str(uuid.uuid5(_NAMES, "/".join(map(str, (conversation_id, *what))))),
            "at": at,
            "conversation_id": conversation_id,
            "agent": str(self._state.metadata.get("agent", "")),
            "tenant": self._tenant,
        }

    def started(self) -> CallStarted:
        state = self._state
        start = state.metadata.get("start")
        called = start.get("callee") if isinstance(start, Mapping) else None
        return CallStarted(
            **self._common(state.created_at, "started", state.created_at),
            bot_name=state.bot_name,
            caller=None if state.caller == "unknown" else state.caller,
            called=called if isinstance(called, str) and called else None,
        )

    def resumed(self) -> CallResumed:
        state = self._state
        return CallResumed(
            **self._common(state.last_activity, "resumed", state.resumed_count),
            resumed_count=state.resumed_count,
        )

    def turn(self, item: ConversationItem) -> TurnSpoken:
        at = item.at or self._state.last_activity
        return TurnSpoken(
            **self._common(at, "turn", item.type, at),
            role="caller" if item.type == "input" else "bot",
            text=item.text,
            interrupted=item.interrupted,
        )

    def function(self, step: tuple[FunctionCall, bool]) -> FunctionCalled:
        call, is_over = step
        at = call.ended_at if is_over and call.ended_at else call.started_at
        return FunctionCalled(
            **self._common(at, "function", call.tool_use_id, is_over),
            tool_use_id=call.tool_use_id,
            name=call.name,
            status=call.status if is_over else ToolStatus.RUNNING,
            arguments=call.arguments,
            result=call.result if is_over else None,
            started_at=call.started_at,
            ended_at=call.ended_at if is_over else None,
        )

    def switched(self, switch: StreamSwitch) -> StreamSwitched:
        return StreamSwitched(**self._common(switch.at, "switch", switch.at), reason=switch.reason)

    def ended(self) -> CallEnded:
        state = self._state
        of_caller = sum(item.type == "input" for item in state.conversation_history)
        return CallEnded(
            **self._common(state.last_activity, "ended", state.created_at, state.resumed_count),
            ended_by=_ended_by(state),
            reason=str(state.metadata.get("end_reason", "")),
            resumable=state.status not in (SessionStatus.ENDED, SessionStatus.ERROR),
            seconds=round((state.last_activity - state.created_at).total_seconds(), 3),
            caller_turns=of_caller,
            bot_turns=len(state.conversation_history) - of_caller,
            function_calls=len(state.function_calls),
            stream_switches=len(state.stream_switches),
            resumed_count=state.resumed_count,
        )


def _has_begun(state: SessionState) -> bool:
    """Whether the call was answered and `start` came, or something has happened without it."""
    signs = ("start" in state.metadata, state.resumed_count, state.conversation_history)
    is_over = bool(_ended_by(state)) and state.status is not SessionStatus.ERROR
    return state.status is not SessionStatus.INITIATED and (any(signs) or is_over)


def _ended_by(state: SessionState) -> str:
    return str(state.metadata.get("ended_by", ""))


def _over(state: SessionState | None) -> Iterator[tuple[object, ConversationItem]]:
    """The turns that nothing will be added to: all but the last, and that at the end."""
    if state is None:
        return
    items = state.conversation_history if _ended_by(state) else state.conversation_history[:-1]
    yield from (((item.type, item.at), item) for item in items)


def _steps(state: SessionState | None) -> Iterator[tuple[object, tuple[FunctionCall, bool]]]:
    """The beginnings and ends of tools."""
    for call in () if state is None else state.function_calls:
        yield (call.tool_use_id, False), (call, False)
        if call.status is not ToolStatus.RUNNING:
            yield (call.tool_use_id, True), (call, True)


def _switches(state: SessionState | None) -> Iterator[tuple[object, StreamSwitch]]:
    yield from () if state is None else ((switch.at, switch) for switch in state.stream_switches)


def _added[T](before: Iterable[tuple[object, T]], after: Iterable[tuple[object, T]]) -> list[T]:
    known = {key for key, _ in before}
    return [item for key, item in after if key not in known]
