"""What holds for the shell whatever both sides do, cut off at any point."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from opusagent.call.events import Drain, HangUp
from opusagent.errors import OpusAgentError
from tests.bridges.rig import Line, Services, new_line
from tests.call.driver import caller_frame
from tests.virtual_time import run
from tests.waiting import pass_time

phone_steps = st.sampled_from(
    ["start", "listen", "deafen", "loud", "quiet", "key", "end", "abort", "close", "junk", "again"]
)
service_steps = st.sampled_from(
    ["accept", "refuse", "deny", "fail", "filter", "stop", "block", "unblock", "junk"]
)
own_steps = st.sampled_from(["hang up", "drain", "cancel"])
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.02, 0.3, 1.0, 4.0]), phone_steps | service_steps | own_steps
    ),
    max_size=25,
)


async def phone_does(line: Line, step: str) -> None:
    peer = line.peer
    match step:
        case "start":
            peer.start()
        case "listen":
            peer.start_user_stream()
        case "deafen":
            peer.stop_user_stream()
        case "loud" | "quiet":
            for _ in range(30):
                peer.chunk(caller_frame(line.frames, loud=step == "loud"))
                line.frames += 1
        case "key":
            peer.dtmf("1")
        case "end":
            peer.end()
        case "abort":
            line.phone.abort()
        case "close":
            await line.phone.close()
        case "junk":
            await line.phone.send(json.dumps({"type": "nonsense", "at": line.frames}))
        case "again":
            peer.initiate("c-1")
    await line.flush()


def service_does(services: Services, step: str) -> None:
    if not services.streams:
        return
    end = services.streams[-1]
    match step:
        case "accept":
            end.accept()
        case "refuse":
            end.refuse("ThrottlingException", "slow down")
        case "deny":
            end.refuse("AccessDeniedException", "no")
        case "fail":
            end.fail("modelStreamErrorException", "broken")
        case "filter":
            end.fail("validationException", "blocked by our content filters")
        case "stop":
            end.end()
        case "block":
            end.stop_reading()
        case "unblock":
            end.resume_reading()
        case "junk":
            end.send(b'{"event":{"nonsense":{}}}')


@settings(max_examples=150, deadline=None)
@given(
    script=steps,
    head_s=st.sampled_from([None, 0.1, 0.1, 0.1, 2.0]),
    answered=st.booleans(),
)
def test_whatever_both_sides_do_a_call_ends_and_leaves_nothing(
    script: list[tuple[float, str]], head_s: float | None, *, answered: bool
) -> None:
    async def main() -> None:
        services = Services(head_s=head_s)
        line = new_line(services)
        loop = asyncio.get_running_loop()
        listener = loop.create_task(line.listen())
        call = loop.create_task(line.bridge.run())
        line.peer.initiate("c-1")
        await line.flush()
        if answered:
            await pass_time(1.1)
            line.peer.start()
            line.peer.start_user_stream()
            await line.flush()
        for seconds, step in script:
            if seconds:
                await pass_time(seconds)
            try:
                if step == "cancel":
                    call.cancel()
                elif step in ("hang up", "drain"):
                    if not call.done():
                        line.bridge.step(HangUp("done") if step == "hang up" else Drain())
                else:
                    service_does(services, step)
                    await phone_does(line, step)
            except OpusAgentError:
                pass  # the test's own end was closed
        line.phone.abort()
        done, _ = await asyncio.wait((call,), timeout=20.0)
        assert done, "the call does not end"
        assert call.cancelled() or call.exception() is None
        assert all(end.is_closed for end in services.streams)
        await listener
        await services.all_over()

    run(main())
