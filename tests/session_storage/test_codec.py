from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.errors import ConfigError, SessionUnreadable
from opusagent.session_storage.codec import Codec, parse_keys

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
SECRET = "my card number is 4111"

_documents = st.dictionaries(
    st.text(max_size=9),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)


def spoken(size: int) -> dict[str, Any]:
    """A session whose JSON has about `size` bytes: talk, each turn with its time, no sentence twice."""
    chance = random.Random(4)
    words = [
        "the",
        "a",
        "I",
        "you",
        "we",
        "order",
        "invoice",
        "number",
        "please",
        "yes",
        "no",
        "thank",
        "could",
        "would",
        "tell",
        "me",
        "about",
        "when",
        "delivery",
        "Tuesday",
        "morning",
        "street",
        "account",
        "balance",
        "payment",
        "address",
        "change",
        "confirm",
        "moment",
        "sorry",
        "repeat",
        "again",
        "phone",
        "customer",
        "service",
        "hotel",
        "booking",
        "room",
        "night",
        "price",
        "euro",
        "twenty",
        "forty",
        "seven",
        "three",
        "hundred",
        "Berlin",
        "London",
        "flight",
        "late",
        "cancel",
        "refund",
        "policy",
        "manager",
        "help",
    ]
    turns: list[dict[str, Any]] = []
    while len(json.dumps(turns)) < size:
        text = " ".join(chance.choices(words, k=chance.randint(3, 30)))
        at = f"2026-01-01T10:{len(turns) // 60 % 60:02}:{len(turns) % 60:02}.{chance.randrange(10**6):06}Z"
        kind = "output" if len(turns) % 2 else "input"
        turns.append({"type": kind, "text": text, "at": at, "interrupted": False})
    return {"conversation_id": "c", "conversation_history": turns}


@given(_documents, st.booleans(), st.sampled_from([[], [A], [B, A]]))
def test_a_document_comes_back_as_it_went_in(
    document: dict[str, Any],
    compress: bool,  # noqa: FBT001
    keys: list[bytes],
) -> None:
    codec = Codec(compress=compress, keys=keys)
    assert codec.decode("c", codec.encode("c", document)) == document


def test_without_settings_the_document_is_plain_json() -> None:
    assert Codec().encode("c", {"a": "ü"}) == '{"a":"ü"}'.encode()


def test_a_session_of_40_kilobytes_is_stored_in_less_than_10() -> None:
    document = spoken(40_000)
    assert len(Codec().encode("c", document)) > 38_000
    assert len(Codec(compress=True).encode("c", document)) < 10_000
    assert len(Codec(compress=True, keys=[A]).encode("c", document)) < 10_000


def test_what_is_sealed_shows_nothing_and_never_looks_the_same() -> None:
    codec = Codec(keys=[A])
    once, again = (codec.encode("c", {"text": SECRET}) for _ in range(2))
    assert SECRET.encode() not in once
    assert once[30:] != again[30:]


def test_the_first_key_seals_and_all_of_them_open() -> None:
    old = Codec(keys=[A]).encode("c", {"n": 1})
    rotated = Codec(keys=[B, A])
    assert rotated.decode("c", old) == {"n": 1}
    new = rotated.encode("c", {"n": 2})
    assert Codec(keys=[C, B]).decode("c", new) == {"n": 2}
    with pytest.raises(SessionUnreadable):
        Codec(keys=[A]).decode("c", new)


@pytest.mark.parametrize("keys", [[], [C]])
def test_a_key_that_is_not_here_is_said_in_words_and_is_no_damage(keys: list[bytes]) -> None:
    sealed = Codec(keys=[A]).encode("c", {"text": SECRET})
    with pytest.raises(SessionUnreadable, match="SESSION_ENCRYPTION_KEYS") as caught:
        Codec(keys=keys).decode("c", sealed)
    assert not caught.value.damaged


def test_a_sealed_record_that_was_copied_to_another_id_does_not_open() -> None:
    codec = Codec(keys=[A])
    with pytest.raises(SessionUnreadable) as caught:
        codec.decode("other", codec.encode("c", {}))
    assert caught.value.damaged


@pytest.mark.parametrize("compress", [True, False])
def test_what_was_written_with_other_settings_stays_readable(compress: bool) -> None:  # noqa: FBT001
    plain = Codec(compress=not compress).encode("c", {"n": 1})
    assert Codec(compress=compress, keys=[A]).decode("c", plain) == {"n": 1}


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"OAe1" + tail))
def test_junk_is_unreadable_and_nothing_else(junk: bytes) -> None:
    try:
        Codec(keys=[A]).decode("c", junk)
    except SessionUnreadable:
        return
    assert isinstance(json.loads(junk), dict)


@given(st.data(), st.booleans())
def test_one_flipped_bit_of_a_sealed_record_is_noticed(
    data: st.DataObject,
    compress: bool,  # noqa: FBT001
) -> None:
    codec = Codec(compress=compress, keys=[A])
    raw = bytearray(codec.encode("c", {"text": SECRET}))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SessionUnreadable):
        codec.decode("c", bytes(raw))


@pytest.mark.parametrize("raw", [b"", b"[1]", b"null", b"{", b"OAz1junk", b"[" * 100_000])
def test_what_is_no_document_is_damaged(raw: bytes) -> None:
    with pytest.raises(SessionUnreadable) as caught:
        Codec().decode("c", raw)
    assert caught.value.damaged


def test_a_compressed_record_that_was_cut_off_is_damaged() -> None:
    raw = Codec(compress=True).encode("c", spoken(4_000))
    with pytest.raises(SessionUnreadable):
        Codec().decode("c", raw[:-1])


def test_keys_are_32_bytes_of_base64_separated_by_commas() -> None:
    text = f" {base64.b64encode(A).decode()} ,,{base64.urlsafe_b64encode(b'\xff' * 32).decode()}"
    assert parse_keys(text) == [A, b"\xff" * 32]
    assert parse_keys("") == []


@pytest.mark.parametrize("text", [",", "\n", " , "])
def test_a_setting_that_holds_no_key_is_not_taken_for_no_encryption(text: str) -> None:
    with pytest.raises(ConfigError, match="SESSION_ENCRYPTION_KEYS: holds no key"):
        parse_keys(text)


@pytest.mark.parametrize("bad", ["hunter2", base64.b64encode(b"short").decode(), "ü" * 43 + "="])
def test_a_key_that_is_none_is_named_by_its_place_and_not_quoted(bad: str) -> None:
    with pytest.raises(ConfigError, match="SESSION_ENCRYPTION_KEYS: key 2") as caught:
        parse_keys(f"{base64.b64encode(A).decode()},{bad}")
    assert bad not in str(caught.value)


def test_keys_without_the_library_are_an_error_of_configuration() -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from opusagent.session_storage.codec import Codec\n"
        "Codec(compress=True).encode('c', {})\n"
        "try: Codec(keys=[bytes(32)])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("ConfigError SESSION_ENCRYPTION_KEYS needs the extra")
