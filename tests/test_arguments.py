from __future__ import annotations

import math
from pathlib import Path

import pytest
import typer

from opusagent import arguments
from opusagent.errors import ConfigError
from opusagent.simulators.certificates import make_authority


def test_looking_whether_a_file_can_be_written_changes_nothing(tmp_path: Path) -> None:
    new, old = tmp_path / "new.wav", tmp_path / "old.wav"
    old.write_bytes(b"as before")
    assert arguments.writable_file(new) == new
    assert arguments.writable_file(old) == old
    assert arguments.writable_file(None) is None
    assert [path.name for path in tmp_path.iterdir()] == ["old.wav"]
    assert old.read_bytes() == b"as before"


def test_a_file_that_cannot_be_written_is_said_why(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="No such file or directory"):
        arguments.writable_file(tmp_path / "none" / "x.wav")
    with pytest.raises(typer.BadParameter, match="Is a directory"):
        arguments.writable_file(tmp_path)


def test_a_missing_folder_is_made_and_stays_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert arguments.writable_folder(folder) == folder
    assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(typer.BadParameter, match="File exists"):
        arguments.writable_folder(tmp_path / "file")


def test_certificates_must_be_there_and_be_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(typer.BadParameter, match="No such file"):
        arguments.certificates(path)
    path.write_text("none")
    with pytest.raises(typer.BadParameter, match="no certificates"):
        arguments.certificates(path)
    path.write_bytes(make_authority().ca_pem)
    assert arguments.certificates(path) == path


@pytest.mark.parametrize(
    "url", ["ws://localhost", "ws://[::1]:8765/bot", "wss://example.com/a?b=c"]
)
def test_a_url_of_a_websocket_is_taken_as_it_is(url: str) -> None:
    assert arguments.websocket_url(url) == url


@pytest.mark.parametrize(
    "url", ["", "localhost:8765", "https://x", "ws://x:0x", "ws://[::1", "ws:x"]
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be ws://"):
        arguments.websocket_url(url)


def test_keys_are_those_of_a_telephone() -> None:
    assert arguments.keys("0123456789*#ad") == "0123456789*#AD"
    with pytest.raises(typer.BadParameter, match="' E'"):
        arguments.keys("1 e")


def test_formats_are_those_of_the_bot_api() -> None:
    assert arguments.formats(["raw/mulaw", "wav/lpcm16"]) == ["raw/mulaw", "wav/lpcm16"]
    assert arguments.formats(None) is None
    with pytest.raises(typer.BadParameter, match="'raw/mp3' is none of raw/lpcm16_8"):
        arguments.formats(["raw/mulaw", "raw/mp3"])


@pytest.mark.parametrize("number", [0.0, -1.0, math.nan, math.inf])
def test_no_time_is_not_more_than_zero(number: float) -> None:
    with pytest.raises(typer.BadParameter, match="more than 0"):
        arguments.more_than_zero(number)


def test_numbers_of_calls_are_whole_and_positive() -> None:
    assert arguments.call_counts("1, 10,25") == [1, 10, 25]
    for text in ("", "0", "1,0", "-1", "1.5", "1,,2"):
        with pytest.raises(ConfigError, match="--calls"):
            arguments.call_counts(text)
