"""One AudioCodes call: a websocket of VoiceAI Connect joined to Nova Sonic."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Callable
from functools import partial

from pydantic import JsonValue

from opusagent.bridges.base_bridge import BaseBridge, Tool
from opusagent.call.call import Ambient, Call
from opusagent.call.events import CallOutcome, Fenced, Record, RecordSilence, Report, ToolCall
from opusagent.call.plan import CallPlan
from opusagent.clock import Clock, SystemClock
from opusagent.models.session_state import SessionState
from opusagent.recording import Recorder
from opusagent.services.saver import Held
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.transports import CallerTransport, SonicConnector

SAVED_S = 0.5
"""How long the end of a call waits for its last state to be stored."""

TOOL_WAITS_S = 0.1
"""How long a tool waits for its call to be stored. It runs without that where the store is in trouble."""


class AudioCodesBridge(BaseBridge):
    """Carries the call of one websocket.

    Args:
        platform_websocket: The caller's websocket, open.
        realtime_websocket: Makes the streams to Nova Sonic.
        session_config: The agent and the settings of the line.
        report: Takes what is worth a log line and a count.
        session_storage: Keeps each new state of the session; None where nothing is kept.
        tenant: Whose session it is.
        resume_from: The session as it was stored, if the caller comes back to it.
        start_afresh: Whether a caller who comes back to an unknown session gets a new one.
        tool: Runs a tool.
        keep: Takes each value of the call's state that the model sets, for the tools to see.
        recorder: Takes what the call sounds like and reports, where it is recorded.
        clock: The calendar.
    """

    def __init__(
        self,
        *,
        platform_websocket: CallerTransport,
        realtime_websocket: SonicConnector,
        session_config: CallPlan,
        report: Callable[[Report], None],
        session_storage: SessionManagerService | None = None,
        tenant: str = "",
        resume_from: SessionState | None = None,
        start_afresh: bool = False,
        tool: Tool | None = None,
        keep: Callable[[str, JsonValue], None] | None = None,
        recorder: Recorder | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare the call; `run` carries it."""
        caller, sonic, plan = platform_websocket, realtime_websocket, session_config
        ambient = Ambient(
            new_id=lambda: str(uuid.uuid4()),
            utcnow=(clock or SystemClock()).utcnow,
            random=random.random,
        )
        call = Call(plan, ambient=ambient, resume_from=resume_from, start_afresh=start_afresh)
        self._tenant = tenant
        self._storage = session_storage
        self._stored = resume_from
        self._held: Held | None = None
        super().__init__(
            call,
            caller=caller,
            sonic=sonic,
            report=report if recorder is None else _both(report, recorder),
            save=None if session_storage is None else partial(self._keep, session_storage),
            saved=None if session_storage is None else self.saved,
            tool=None if tool is None else self._once_saved(tool),
            keep=keep,
            record=None if recorder is None else _into(recorder),
            lead_s=plan.play_lead_s,
        )
        self._recorder = recorder

    async def run(self, *first: str | bytes) -> CallOutcome:
        """Carry the call to its end, and end its recording.

        Args:
            first: Messages that were read from the websocket already.
        """
        outcome = None
        if self._storage is not None and self._stored is not None:
            self._hold(self._storage, self._stored.conversation_id)  # it is ours from now on
        try:
            outcome = await super().run(*first)
            await self.saved()  # whoever comes back at this moment must find all of it
        finally:
            if self._recorder is not None:
                self._recorder.close(outcome, _now())
            if self._held is not None:
                self._held.release()
        return outcome

    async def saved(self, within_s: float = SAVED_S) -> None:
        """Wait until all that there is to be stored is, at most so long."""
        if self._held is not None and not self._held.is_clean.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._held.is_clean.wait()

    def _once_saved(self, tool: Tool) -> Tool:
        """Run a tool after its call was stored: whoever takes the conversation up must know of it."""

        async def run(call: ToolCall) -> dict[str, JsonValue]:
            await self.saved(TOOL_WAITS_S)
            return await tool(call)

        return run

    def _keep(self, storage: SessionManagerService, state: SessionState) -> None:
        held = self._held or self._hold(storage, state.conversation_id)
        held.put(state)

    def _hold(self, storage: SessionManagerService, conversation_id: str) -> Held:
        self._held = storage.hold(
            conversation_id,
            tenant=self._tenant,
            stored=self._stored,
            on_fenced=lambda: self.step(Fenced()),
        )
        return self._held


def _now() -> float:
    return asyncio.get_running_loop().time()


def _both(report: Callable[[Report], None], recorder: Recorder) -> Callable[[Report], None]:
    def tell(what: Report) -> None:
        report(what)
        recorder.report(what, _now())

    return tell


def _into(recorder: Recorder) -> Callable[[Record | RecordSilence], None]:
    return lambda effect: recorder.sound(effect, _now())
