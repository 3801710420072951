from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opusagent.audio.tones import tone
from opusagent.errors import ConfigError
from opusagent.simulators.caller_script import CutSocket, HangUp, Press, Say, SendNumbers
from opusagent.simulators.calling import CallOptions, call_steps, run_call, summary, validate
from opusagent.simulators.verdict import judge
from opusagent.transports.memory import MemoryCaller, caller_pair
from opusagent.transports.websocket import WebSocketServer
from tests import virtual_time
from tests.simulators.caller_rig import Bot, Habits


def wav_file(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(tone(440, seconds, 16_000, volume=0.4))
    return path


@asynccontextmanager
async def listening(bot: Bot, token: str = "") -> AsyncIterator[str]:
    server = WebSocketServer(
        lambda socket, *_: bot.serve(socket),
        host="127.0.0.1",
        port=0,
        tokens={"": token} if token else {},
        refuse_new=lambda: False,
    )
    port = await server.start()
    try:
        yield f"ws://127.0.0.1:{port}/bot"
    finally:
        await server.stop()


@pytest.mark.integration
def test_a_call_over_a_real_socket_is_made_judged_and_saved(tmp_path: Path) -> None:
    words = wav_file(tmp_path / "words.wav", 0.5)
    saved = tmp_path / "call.wav"
    bot = Bot(Habits(greeting_s=0.5, answer_s=0.5, answers_after_s=0.1))
    told: list[str] = []

    async def main() -> None:
        async with listening(bot, token="secret") as url:
            options = CallOptions(
                url=url, token="secret", audio=[words], save_audio=saved, chunk_ms=20
            )
            record = await run_call(options, lambda _, what, __: told.append(what))
        verdict = judge(record)
        assert verdict.ok, verdict.findings
        assert record.validated_after_s is not None
        (answer,) = record.answers()
        assert answer.seconds is not None
        assert 0.4 < answer.seconds < 1.5
        assert json.loads(json.dumps(summary(record, verdict)))["ok"] is True

    asyncio.run(main())
    with wave.open(str(saved)) as file:
        assert file.getnchannels() == 2
        assert file.getnframes() / file.getframerate() > 2
    assert "caller speaks" in told


@pytest.mark.integration
def test_a_wrong_token_is_a_failure_in_words() -> None:
    async def main() -> None:
        async with listening(Bot(Habits()), token="secret") as url:
            record = await run_call(CallOptions(url=url, token="wrong", numbers=1))
        assert record.failure == "Refused: HTTP 401"
        assert not judge(record).ok

    asyncio.run(main())


@pytest.mark.integration
def test_a_bot_that_is_not_there_is_a_failure_in_words() -> None:
    record = asyncio.run(run_call(CallOptions(url="ws://127.0.0.1:1/", numbers=1)))
    assert record.failure is not None
    assert record.validated_after_s is None


def test_a_sound_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.wav"):
        call_steps(CallOptions(url="", audio=[tmp_path / "gone.wav"]))


def test_every_wish_becomes_a_step(tmp_path: Path) -> None:
    words = wav_file(tmp_path / "words.wav", 0.1)
    steps = call_steps(
        CallOptions(url="", audio=[words, words], interrupt=True, dtmf="42", cut_socket=True)
    )

    says = [step for step in steps if isinstance(step, Say)]
    assert [say.over_bot for say in says] == [False, False, False, True, False]
    assert [s.digits for s in steps if isinstance(s, Press)] == ["42"]
    assert any(isinstance(step, CutSocket) for step in steps)
    assert isinstance(steps[-1], HangUp)


def test_numbered_frames_are_sent_instead_of_words() -> None:
    steps = call_steps(CallOptions(url="", numbers=500, numbers_first=10, fast=True, frame_ms=10))

    assert not any(isinstance(step, Say) for step in steps)
    assert SendNumbers(count=500, first=10, frame_ms=10, fast=True) in steps


@pytest.mark.parametrize(
    ("answer", "is_good"),
    [
        ('{"type":"connection.validated","success":true}', True),
        ("no JSON", False),
        (None, False),
    ],
)
def test_the_test_button_wants_the_right_answer(answer: str | None, is_good: bool) -> None:  # noqa: FBT001
    async def main() -> float | None:
        here, there = caller_pair()

        async def dial() -> MemoryCaller:
            if answer is not None:
                await there.send(answer)
            return here

        return await validate(dial)

    assert (virtual_time.run(main()) is not None) is is_good
