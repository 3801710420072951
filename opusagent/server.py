"""The bridge as a service: accept sockets, authenticate, start a call on each, let go on SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog
from pydantic import JsonValue

from opusagent.agents import AgentDirectory, AgentFolder
from opusagent.audiocodes import messages
from opusagent.audiocodes.codec import dump
from opusagent.bridges.audiocodes_bridge import AudioCodesBridge
from opusagent.bridges.handshake import Asked, BrokenRequest, CallerLine, Handshake, Nonsense
from opusagent.bridges.reception import Reception
from opusagent.bridges.reporting import Reporter
from opusagent.bridges.under_way import CallsUnderWay, Live
from opusagent.call.events import StateChanged
from opusagent.call.plan import CallPlan
from opusagent.clock import Clock, SystemClock
from opusagent.config import Settings
from opusagent.errors import TransportError
from opusagent.facts import CallFacts
from opusagent.footprint import holdings, release
from opusagent.models.session_state import SessionState
from opusagent.observability import Metrics, bound
from opusagent.recording import Recorder, open_recordings
from opusagent.services.session_manager_service import (
    Refusal,
    Refused,
    Resumed,
    SessionManagerService,
    Verdict,
)
from opusagent.tools.runner import LateTools
from opusagent.tools.toolbox import Toolbox
from opusagent.transports import CallerTransport, SonicConnector
from opusagent.transports.reachability import Problem
from opusagent.transports.websocket import WebSocketServer

_log = structlog.get_logger("opusagent.server")

RESERVE_S = 3.0
"""How long before `DRAIN_SECONDS` are over the last call is."""

LET_GO_S = 8.0
"""What a call may take to end once it is let go: 7 s where a socket and a stream do not react, 8 s where
VoiceAI Connect was asked to hang up and still has to say that it did."""

FLUSH_S = 1.0
"""What the last states may take to be stored."""

STOP_S = 3.0
"""What calls may take to end when the process ends at once."""

RESUMED_FACTOR = 2
"""How far above `SESSION_MAX_CONCURRENT` callers who come back are taken."""

TAKE_UP_PATIENCE_S = 2.0
"""How long a store in trouble is asked again for a caller who comes back: it may be failing over, and a
refusal ends her call. How long VoiceAI Connect waits is not documented; it waited 0.7 s on a live capture."""


class BridgeServer:
    """All calls of this process.

    Args:
        settings: What was configured.
        agents: Who answers: a folder, which is looked at before each call, or these for good.
        sonic: Makes streams to Nova Sonic.
        metrics: The process's counts.
        sessions: Keeps the states of calls; None where nothing is kept.
        is_shared: Whether another process can take up what is kept.
        tools: What the agents can do; without it what their files declare.
        clock: The calendar, and what calls are measured by.
        at_rest: Called a moment after the last call, at a time when it disturbs nobody.
    """

    def __init__(
        self,
        settings: Settings,
        agents: AgentFolder | AgentDirectory,
        sonic: SonicConnector,
        metrics: Metrics,
        *,
        sessions: SessionManagerService | None = None,
        is_shared: bool = False,
        tools: Toolbox | None = None,
        clock: Clock | None = None,
        at_rest: Callable[[], None] = release,
    ) -> None:
        """Prepare; nothing is bound before `start`."""
        self._settings = settings
        self._reception = Reception(settings, agents, metrics, tools)
        self._sonic = sonic
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._sessions = sessions
        self._is_shared = is_shared
        self._recordings = open_recordings(settings, metrics)
        self._at_rest = at_rest
        self._calls = CallsUnderWay(metrics, self._rest)
        self._draining = False
        self._socket_server = WebSocketServer(
            self.serve,
            host=settings.bridge_host,
            port=settings.bridge_port,
            tokens=settings.tenants(),
            refuse_new=lambda: self._draining,
            tls_cert=settings.bridge_tls_cert,
            tls_key=settings.bridge_tls_key,
        )
        self.bedrock_problem: Problem | None = None
        """Why Bedrock cannot be reached, as far as is known."""
        self.store_problem: str | None = None
        """Why sessions cannot be stored, as far as is known."""

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ConfigError: If the address cannot be taken.
        """
        await self._reception.start()
        return await self._socket_server.start()

    async def drain(self) -> None:
        """Refuse new calls, and let go of those under way so that another process takes them up.

        What the bot is saying is heard first. Where nobody could take a call up, calls run on while
        there is time. All are over `RESERVE_S` before `DRAIN_SECONDS` are.
        """
        self._draining = True
        self._calls.rest_no_more()
        _log.info("draining", calls=len(self._calls), seconds=self._settings.drain_seconds)
        time_s = max(self._settings.drain_seconds - RESERVE_S, 0.0)
        run_on_s = max(time_s - LET_GO_S, 0.0)
        if self._can_be_taken_up:
            await self._calls.let_go(run_on_s, after_s=run_on_s)
        else:
            await self._calls.wait(run_on_s)
        await self._calls.let_go(min(time_s, LET_GO_S))
        if self._sessions is not None:
            await self._sessions.flush(FLUSH_S)

    async def stop(self) -> None:
        """Close the listener and whatever is still open, bounded."""
        self._draining = True
        self._calls.rest_no_more()
        await self._calls.let_go(STOP_S)
        await self._socket_server.stop()
        await self._reception.stop()
        if self._recordings is not None:
            await asyncio.to_thread(self._recordings.close)

    def abort(self) -> None:
        """Cut every caller's socket at once."""
        self._socket_server.abort()

    # What the admin port asks

    def ready(self) -> list[str]:
        """Why no call could be taken now; empty when one could."""
        reasons = []
        if self._draining:
            reasons.append("draining: this process is about to end")
        if self._is_full:
            reasons.append(f"at capacity: {len(self._calls)} calls (SESSION_MAX_CONCURRENT)")
        if self.bedrock_problem is not None:
            reasons.append(f"Bedrock: {self.bedrock_problem}")
        if self.store_problem is not None and not self._settings.ready_without_store:
            reasons.append(f"session store: {self.store_problem}")
        return reasons

    def stats(self) -> dict[str, Any]:
        """Facts for `/stats`."""
        return {
            "calls_active": len(self._calls),
            "capacity": self._settings.session_max_concurrent,
            "draining": self._draining,
            "store_problem": self.store_problem,
            "agents": list(self._reception.names),
            "agent_problems": dict(self._reception.problems),
            **({} if self._sessions is None else self._sessions.facts()),
            **holdings(),
        }

    def calls(self) -> list[dict[str, JsonValue]]:
        """The calls under way, oldest first; see `CallFacts.as_json`."""
        return [live.facts.as_json(live.bridge.phase.value) for live in self._calls]

    # One socket

    async def serve(
        self, caller: CallerTransport, tenant: str, query: Mapping[str, str] | None = None
    ) -> None:
        """Find out what a socket is for, and carry its call if it asks for one.

        Args:
            caller: The socket, open.
            tenant: Whose it is.
            query: Of the URL that it came to.
        """
        handshake = Handshake(caller)
        try:
            async with asyncio.timeout(self._settings.handshake_timeout_seconds):
                first = await handshake.request()
        except TimeoutError:
            if handshake.validated:  # all that was wanted
                await caller.close(1000, "validated")
            else:
                self._metrics.calls_refused.labels("handshake_timeout").inc()
                await caller.close(1008, "no session.initiate came")
            return
        except TransportError:
            return
        match first:
            case None:
                pass
            case Nonsense():
                _log.warning("socket refused", reason="no message of the Bot API came")
                self._metrics.calls_refused.labels("broken_handshake").inc()
                await caller.close(1002, "no message of the Bot API came")
            case BrokenRequest(got):
                await self._refuse(caller, "broken_handshake", f"this cannot be read: {got}")
            case Asked(text, message):
                with bound(conversation_id=message.conversation_id):  # of a refusal as well
                    await self._answer(CallerLine(caller, tenant, query or {}, text), message)

    async def _answer(self, line: CallerLine, message: messages.SessionRequest) -> None:
        await self._reception.look()  # before all that must not have changed when the call begins
        if isinstance(message, messages.SessionResume):
            await self._resume(line, message)
            return
        no_model = self.bedrock_problem is not None and self.bedrock_problem.lasts
        refused = self._draining or no_model  # and keeps the conversation that she may have
        is_free = not refused and await self._calls.is_free(message.conversation_id, line.tenant)
        if self._draining:  # upgraded just before
            await self._refuse(line.caller, "draining", "this bridge is about to end")
        elif no_model:
            await self._refuse(line.caller, "no_bedrock", "the model cannot be reached")
        elif not is_free:
            await self._refuse(line.caller, "duplicate", "this conversation is under way already")
        elif self._is_full and self._calls.get(message.conversation_id) is None:
            await self._refuse(line.caller, "at_capacity", "all lines are busy")
        else:
            await self._carry(line, message)

    async def _resume(self, line: CallerLine, message: messages.SessionResume) -> None:
        """Give a caller who comes back her conversation: from this process, or from the store."""
        caller, tenant = line.caller, line.tenant
        live = await self._calls.settled(message.conversation_id)
        if live is not None and live.tenant == tenant:
            self._metrics.recovery("resumed")
            await live.bridge.attach(caller, line.text)
        elif live is not None:
            self._metrics.recovery(Refusal.FOREIGN)
            await self._refuse(caller, "unknown_session", Refused(Refusal.FOREIGN).words)
        elif self._draining:  # not refused: she would be hung up on
            await caller.close(1012, "service restart")
        elif self._calls.expected >= RESUMED_FACTOR * self._settings.session_max_concurrent:
            self._metrics.recovery("at_capacity")
            await self._refuse(caller, "at_capacity", "all lines are busy")
        elif self._sessions is None:
            self._metrics.recovery(Refusal.UNKNOWN)
            await self._refuse(caller, "unknown_session", Refused(Refusal.UNKNOWN).words)
        else:
            match await self._take_up(self._sessions, message.conversation_id, tenant):
                case _ if self._draining:  # since it was asked for
                    await caller.close(1012, "service restart")
                case Resumed(state):
                    await self._carry(line, message, resume_from=state)
                case Refused(reason=Refusal.TAKEN):  # not refused: she is there, on another socket
                    await caller.close(1000, "resumed elsewhere")
                case Refused(reason=Refusal.FOREIGN) as refused:
                    await self._refuse(caller, "unknown_session", refused.words)
                case Refused() as refused if self._settings.on_unknown_session == "refuse":
                    await self._refuse(caller, "unknown_session", refused.words)
                case Refused(reason):
                    _log.warning("started afresh", reason=reason)
                    await self._carry(line, message)

    async def _take_up(
        self, sessions: SessionManagerService, conversation_id: str, tenant: str
    ) -> Verdict:
        with self._calls.taking_up(conversation_id):
            return await sessions.take_up(
                conversation_id, tenant=tenant, patience_s=TAKE_UP_PATIENCE_S
            )

    async def _carry(
        self,
        line: CallerLine,
        message: messages.SessionRequest,
        *,
        resume_from: SessionState | None = None,
    ) -> None:
        conversation_id = message.conversation_id
        if isinstance(message, messages.SessionInitiate):
            bot_name, number = message.bot_name or "", message.caller
        elif resume_from is not None:
            bot_name, number = resume_from.bot_name, resume_from.caller
        else:
            bot_name, number = "", ""
        plan = self._reception.plan(bot_name, line.query, resume_from)
        context = {"conversation_id": conversation_id, "agent": plan.agent_name}
        if line.tenant:
            context["tenant"] = line.tenant
        reporter = Reporter(self._metrics, **context)
        facts = CallFacts(
            conversation_id,
            agent=plan.agent_name,
            tenant=line.tenant,
            clock=self._clock,
            then=reporter.report,
        )
        tools = LateTools()

        def answered_by(chosen: CallPlan) -> CallPlan:
            name = chosen.agent_name
            own = self._reception.tools(name)
            tools.of_call = own.for_call(
                conversation_id,
                caller=number,
                agent=name,
                state=None if resume_from is None else resume_from.variables,
                on_state=lambda key, value: bridge.step(StateChanged(key, value)),
            )
            return replace(chosen, tools=own.specs, query=line.query)

        def settle(called: str) -> CallPlan:
            chosen = self._reception.plan_by_number(bot_name, line.query, called)
            facts.answered_by(chosen.agent_name)
            reporter.bind(agent=chosen.agent_name)
            return answered_by(chosen)

        plan = answered_by(plan)
        if resume_from is None and self._reception.hangs_on_number(line.query):
            plan = replace(plan, settle=settle)
        bridge = AudioCodesBridge(
            platform_websocket=line.caller,
            realtime_websocket=self._sonic,
            session_config=plan,
            session_storage=self._sessions,
            tenant=line.tenant,
            resume_from=resume_from,
            start_afresh=isinstance(message, messages.SessionResume) and resume_from is None,
            report=facts.report,
            tool=tools,
            keep=tools.keep,
            recorder=self._recorder(conversation_id, plan.agent_name),
            clock=self._clock,
        )
        live = Live(bridge, line.tenant, facts)
        self._calls.begin(conversation_id, live)
        began = self._clock.monotonic()
        try:
            with bound(**context):
                outcome = await bridge.run(line.text)
            reporter.ended(outcome, self._clock.monotonic() - began)
        except Exception:  # noqa: BLE001 - the top of a call: a bug ends this call and no other
            _log.exception("call failed", **context)
            self._metrics.calls.labels("bug").inc()
        finally:
            self._calls.end(conversation_id, live)

    def _recorder(self, conversation_id: str, agent: str) -> Recorder | None:
        if self._recordings is None:
            return None
        now = asyncio.get_running_loop().time()
        return self._recordings.begin(
            conversation_id, agent=agent, at=self._clock.utcnow(), now=now
        )

    def _rest(self) -> None:
        self._reception.at_rest()
        self._at_rest()

    async def _refuse(self, caller: CallerTransport, label: str, reason: str) -> None:
        """Answer with `session.error`, so that the tenant's fail-over runs."""
        _log.warning("call refused", reason=reason)
        self._metrics.calls_refused.labels(label).inc()
        try:
            await caller.send(dump(messages.SessionError(reason=reason)))
        except TransportError:
            return
        await caller.close(1000, "refused")

    @property
    def _can_be_taken_up(self) -> bool:
        """Whether another process would find our calls."""
        failing = self._sessions is None or self._sessions.is_failing
        return self._is_shared and self.store_problem is None and not failing

    @property
    def _is_full(self) -> bool:
        return len(self._calls) >= self._settings.session_max_concurrent
