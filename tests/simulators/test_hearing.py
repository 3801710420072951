from __future__ import annotations

import random
import time

import audioop
import pytest

from opusagent.simulators.hearing import Heard, PhraseBook
from opusagent.simulators.voice import EspeakVoice, ToneVoice, VoiceStyle

PHRASES = {
    "name": "My name is Alice Miller.",
    "account": "My account number is four five two seven.",
    "ask_name": "What is my name?",
    "yes": "Yes.",
    "stop": "Sorry, please stop. Just tell me the balance.",
    "address": "I want to change my address.",
    "human": "I would like to speak to a human, please.",
    "weather": "What is the weather like in Berlin today?",
    "repeat": "Please repeat that.",
    "lost": "I did not understand you.",
    "hours": "Can you tell me the opening hours?",
    "green": "My favourite colour is green.",
    "elephant": "My favourite animal is the elephant.",
    "call_back": "Please call me back tomorrow at nine.",
    "order": "The order number is seven seven one zero.",
    "cancel": "Cancel my order, please.",
    "parcel": "Where is my parcel?",
    "bill": "I have a question about my bill.",
    "owe": "How much do I owe you?",
    "telephone": "My telephone number is five five five, one two three four.",
    "morning": "Good morning.",
    "hello": "Hello.",
    "wait": "Wait a moment, please.",
    "here": "I am still here.",
    "wrong": "That is not what I said.",
    "count": "One two three four five six seven eight nine ten.",
    "ask_account": "What is my account number?",
    "goodbye": "Thank you, goodbye.",
    "no": "No.",
    "yes_please": "Yes, please.",
}
RATES = (8_000, 16_000, 24_000)


@pytest.fixture(scope="module")
def book(caller_voice: EspeakVoice) -> PhraseBook:
    return PhraseBook(PHRASES, caller_voice)


def silence(seconds: float, rate_hz: int) -> bytes:
    return bytes(2 * round(seconds * rate_hz))


def cut(pcm: bytes, rate_hz: int, *, begin_ms: int = 0, end_ms: int | None = None) -> bytes:
    end = None if end_ms is None else 2 * (rate_hz * end_ms // 1000)
    return pcm[2 * (rate_hz * begin_ms // 1000) : end]


def only(heard: tuple[Heard, ...]) -> Heard:
    (one,) = heard
    return one


@pytest.mark.parametrize("rate_hz", RATES)
def test_every_phrase_is_understood_as_itself_and_as_nothing_else(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int
) -> None:
    for phrase_id, text in PHRASES.items():
        one = only(book.hear(caller_voice.speak(text, rate_hz), rate_hz))
        assert (one.phrase_id, one.text, one.words) == (phrase_id, text, text)
        assert one.score > 0.95
        assert one.whole


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("before", [0, 1, 77, 3333])
def test_a_phrase_is_understood_at_any_offset(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int, before: int
) -> None:
    phrase = caller_voice.speak(PHRASES["name"], rate_hz)
    pcm = bytes(2 * before) + phrase + silence(1, rate_hz)
    one = only(book.hear(pcm, rate_hz))
    assert one.phrase_id == "name"
    assert one.whole
    assert one.begins_ms == pytest.approx(before * 1000 / rate_hz, abs=15)
    assert one.ends_ms == pytest.approx(one.begins_ms + len(phrase) * 500 / rate_hz, abs=30)


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_telephone_line_with_mu_law_at_8_khz_changes_nothing(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int
) -> None:
    for text in PHRASES.values():
        pcm = caller_voice.speak(text, rate_hz)
        narrow, _ = audioop.ratecv(pcm, 2, 1, rate_hz, 8_000, None)
        narrow = audioop.ulaw2lin(audioop.lin2ulaw(narrow, 2), 2)
        wide, _ = audioop.ratecv(narrow, 2, 1, 8_000, rate_hz, None)
        one = only(book.hear(silence(0.2, rate_hz) + wide, rate_hz))
        assert one.text == text
        assert one.whole


def test_a_quiet_caller_is_understood(book: PhraseBook, caller_voice: EspeakVoice) -> None:
    pcm = audioop.mul(caller_voice.speak(PHRASES["account"], 16_000), 2, 0.1)
    assert only(book.hear(pcm, 16_000)).whole


@pytest.mark.parametrize("gap_s", [0.0, 0.3])
def test_several_phrases_in_one_utterance_are_understood_in_order(
    book: PhraseBook, caller_voice: EspeakVoice, gap_s: float
) -> None:
    ids = ["name", "account", "ask_name"]
    gap = silence(gap_s, 16_000)
    heard = book.hear(gap.join(caller_voice.speak(PHRASES[i], 16_000) for i in ids), 16_000)
    assert [one.phrase_id for one in heard] == ids
    assert all(one.whole for one in heard)


def test_a_phrase_said_twice_is_understood_twice(
    book: PhraseBook, caller_voice: EspeakVoice
) -> None:
    pcm = caller_voice.speak(PHRASES["account"], 8_000)
    assert [one.whole for one in book.hear(pcm + pcm, 8_000)] == [True, True]


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_clipped_beginning_is_heard_as_clipped(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int
) -> None:
    pcm = cut(caller_voice.speak(PHRASES["account"], rate_hz), rate_hz, begin_ms=300)
    one = only(book.hear(pcm, rate_hz))
    assert one.missing_start_ms == pytest.approx(300, abs=20)
    assert one.words == "… account number is four five two seven."
    assert 0.74 < one.score < 0.97
    assert not one.whole


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_clipped_end_is_heard_as_clipped(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int
) -> None:
    whole = caller_voice.speak(PHRASES["account"], rate_hz)
    n_ms = len(whole) // 2 * 1000 // rate_hz
    one = only(book.hear(cut(whole, rate_hz, end_ms=n_ms - 400), rate_hz))
    assert one.missing_end_ms == pytest.approx(400, abs=20)
    assert one.words == "My account number is four five two …"


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("filling_ms", [0, 300])
def test_a_hole_is_heard_as_a_hole_whether_skipped_or_silent(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int, filling_ms: int
) -> None:
    pcm = caller_voice.speak(PHRASES["account"], rate_hz)
    hole = silence(filling_ms / 1000, rate_hz)
    pcm = cut(pcm, rate_hz, end_ms=800) + hole + cut(pcm, rate_hz, begin_ms=1100)
    one = only(book.hear(pcm, rate_hz))
    assert one.holes_ms == pytest.approx(300, abs=20)
    assert (one.missing_start_ms, one.missing_end_ms, one.repeated_ms) == (0, 0, 0)
    assert one.words == "My account … is four five two seven."


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("doubled_ms", [20, 300])
def test_a_part_that_came_twice_is_heard_as_repeated(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int, doubled_ms: int
) -> None:
    pcm = caller_voice.speak(PHRASES["account"], rate_hz)
    pcm = cut(pcm, rate_hz, end_ms=800 + doubled_ms) + cut(pcm, rate_hz, begin_ms=800)
    one = only(book.hear(pcm, rate_hz))
    assert one.repeated_ms == pytest.approx(doubled_ms, abs=20)
    assert (one.missing_start_ms, one.missing_end_ms, one.holes_ms) == (0, 0, 0)


def test_a_single_lost_frame_is_heard(book: PhraseBook, caller_voice: EspeakVoice) -> None:
    pcm = caller_voice.speak(PHRASES["account"], 16_000)
    pcm = cut(pcm, 16_000, end_ms=800) + cut(pcm, 16_000, begin_ms=820)
    assert only(book.hear(pcm, 16_000)).holes_ms == pytest.approx(20, abs=10)


def test_the_shared_beginning_of_two_phrases_goes_to_the_one_that_was_said(
    book: PhraseBook, caller_voice: EspeakVoice
) -> None:
    for phrase_id in ("green", "elephant"):
        pcm = caller_voice.speak(PHRASES[phrase_id], 16_000)
        holed = cut(pcm, 16_000, end_ms=700) + cut(pcm, 16_000, begin_ms=900)
        assert only(book.hear(holed, 16_000)).phrase_id == phrase_id


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog.",
        "My name is Robert Jones from Kansas.",
        "My account number is nine eight one two.",
        "Interest rates were raised by a quarter of a point.",
    ],
)
def test_unknown_speech_is_not_understood_even_if_it_begins_like_a_phrase(
    book: PhraseBook, caller_voice: EspeakVoice, rate_hz: int, text: str
) -> None:
    assert book.hear(caller_voice.speak(text, rate_hz), rate_hz) == ()


def test_a_phrase_in_another_voice_is_not_understood(
    book: PhraseBook, bot_voice: EspeakVoice
) -> None:
    assert book.hear(bot_voice.speak(PHRASES["account"], 16_000), 16_000) == ()


def test_noise_silence_and_nothing_are_not_understood(book: PhraseBook) -> None:
    noise = random.Random(1).randbytes(2 * 16_000)
    assert book.hear(noise, 16_000) == ()
    assert book.hear(silence(3, 16_000), 16_000) == ()
    assert book.hear(b"", 16_000) == ()
    assert book.hear(b"\x00", 16_000) == ()


def test_an_empty_book_understands_nothing(caller_voice: EspeakVoice) -> None:
    pcm = caller_voice.speak("Yes.", 16_000)
    assert PhraseBook({}, caller_voice).hear(pcm, 16_000) == ()
    assert PhraseBook({"dots": "..."}, caller_voice).hear(pcm, 16_000) == ()


def test_melodies_are_understood_as_well_as_speech() -> None:
    voice = ToneVoice(VoiceStyle())
    book = PhraseBook(PHRASES, voice)
    for text in PHRASES.values():
        assert only(book.hear(silence(0.1, 8_000) + voice.speak(text, 8_000), 8_000)).text == text


def test_five_seconds_and_thirty_phrases_take_little_time(
    book: PhraseBook, caller_voice: EspeakVoice
) -> None:
    ids = ["name", "account", "ask_name"]
    pcm = silence(0.1, 16_000).join(caller_voice.speak(PHRASES[i], 16_000) for i in ids)
    began = time.process_time()
    for _ in range(3):
        book.hear(pcm, 16_000)
    assert (time.process_time() - began) / 3 < 0.25  # 20 ms alone on this kind of machine
