from __future__ import annotations

from opusagent.audio.formats import MediaFormat
from opusagent.demo.listening import listen
from opusagent.simulators.caller_playout import PlayOut
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.voice import BOT, open_voice

SENTENCES = ("Opus Bank. Your name, please?", "Thank you, Alice Miller.")
RATE_HZ = 24_000
VOICE = open_voice(BOT)


def played(*pieces: bytes) -> CallRecord:
    """A call in which each piece was one play stream."""
    playout = PlayOut()
    now = 1.0
    for number, piece in enumerate(pieces):
        playout.start(str(number), MediaFormat.LPCM16_24K, now)
        playout.chunk(piece, now)
        playout.stop(now)
        now = playout.ends_at
    record = CallRecord(began_at=0.0)
    record.played, record.bot_sound = playout.spans, playout.heard
    return record


def test_each_play_stream_is_listened_to_by_itself() -> None:
    sounds = [VOICE.speak(sentence, RATE_HZ) for sentence in SENTENCES]
    heard = listen(played(*sounds), SENTENCES, VOICE)
    assert [[(one.text, one.whole) for one in sentences] for sentences in heard] == [
        [(sentence, True)] for sentence in SENTENCES
    ]


def test_what_is_cut_off_or_comes_twice_is_noticed() -> None:
    sound = VOICE.speak(SENTENCES[0], RATE_HZ)
    middle, again = round(0.7 * RATE_HZ) * 2, round(0.4 * RATE_HZ) * 2
    cut, doubled = sound[: len(sound) * 3 // 4 & ~1], sound[:middle] + sound[again:]
    (short,), (long,) = listen(played(cut, doubled), SENTENCES, VOICE)
    assert short.missing_end_ms > 200
    assert 200 < long.repeated_ms < 400


def test_a_sentence_whose_rest_came_in_the_next_play_stream_is_one() -> None:
    first, last = (VOICE.speak(sentence, RATE_HZ) for sentence in SENTENCES)
    cut = len(first) // 2 & ~1
    record = played(first[:cut], first[cut:] + last)
    broken_off, _ = record.played
    (begun,), (next_one,) = listen(record, SENTENCES, VOICE, goes_on=lambda s: s is broken_off)
    assert (begun.text, begun.whole) == (SENTENCES[0], True)
    assert (next_one.text, next_one.whole) == (SENTENCES[1], True)
    assert not any(one.whole for one in listen(record, SENTENCES, VOICE)[0])


def test_a_play_stream_without_sound_says_nothing() -> None:
    assert listen(played(b""), SENTENCES, VOICE) == [()]
