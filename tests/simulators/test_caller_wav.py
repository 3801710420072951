from __future__ import annotations

import io
import wave

import audioop

from opusagent.simulators.caller_playout import Sound
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_wav import stereo_wav, track


def loud(seconds: float, rate_hz: int) -> bytes:
    return b"\xe8\x03" * round(seconds * rate_hz)


def test_the_caller_is_on_the_left_and_the_bot_on_the_right_each_at_its_time() -> None:
    record = CallRecord(began_at=100.0)
    record.caller_sound = [Sound(1.0, loud(1.0, 16_000), 16_000)]
    record.bot_sound = [
        Sound(3.0, loud(0.5, 24_000), 24_000),
        Sound(3.5, loud(0.5, 24_000), 24_000),
    ]

    with wave.open(io.BytesIO(stereo_wav(record))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 24_000)
        frames = file.readframes(file.getnframes())
    assert len(frames) == 4 * 4 * 24_000
    seconds = [frames[at : at + 4 * 24_000] for at in range(0, len(frames), 4 * 24_000)]
    left = [audioop.rms(audioop.tomono(one, 2, 1, 0), 2) for one in seconds]
    right = [audioop.rms(audioop.tomono(one, 2, 0, 1), 2) for one in seconds]
    assert [level > 500 for level in left] == [False, True, False, False]
    assert [level > 500 for level in right] == [False, False, False, True]


def test_sounds_that_follow_each_other_have_no_seam() -> None:
    whole = loud(1.0, 8_000)
    pieces = [Sound(at / 10, whole[1_600 * at : 1_600 * at + 1_600], 8_000) for at in range(10)]
    assert track(pieces, 24_000) == track([Sound(0.0, whole, 8_000)], 24_000)


def test_a_call_without_sound_is_a_file_all_the_same() -> None:
    with wave.open(io.BytesIO(stereo_wav(CallRecord(began_at=0.0)))) as file:
        assert file.getnframes() == 1
