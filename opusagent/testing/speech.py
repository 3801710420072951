"""Speech without a voice: every word is a tone of its own loudness, so that nobody has to recognise it.

What the model hears are the words that reached it: one that was lost on the way is missing, one that came
twice is there twice.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Final

from opusagent.sonic.peer_brain import Heard

__all__ = ["BOT_WORD_S", "WORD_S", "Speech", "bot_speech"]

WORD_S: Final = 0.3
"""How long the caller takes for a word."""
BOT_WORD_S: Final = 0.25
"""How long the bot takes for one."""
_QUIETEST: Final = 1_000
"""Well above what counts as speech."""
_LOUDEST: Final = 32_000
_MS: Final = 1_000


class Speech:
    """The caller's words, as sound and back."""

    def __init__(self) -> None:
        self._words: list[str] = []

    def say(self, text: str, rate_hz: int) -> bytes:
        """The text as PCM16 mono.

        Raises:
            ValueError: If more words are said than there are loudnesses.
        """
        sound = array("h")
        for word in text.split():
            level = _QUIETEST + len(self._words)
            if level > _LOUDEST:
                raise ValueError(f"a caller may say {_LOUDEST - _QUIETEST} words")
            self._words.append(word)
            per_ms = rate_hz // _MS
            wave = array("h", [level] * per_ms + [-level] * per_ms)
            sound += wave * round(WORD_S * _MS / 2)
        return sound.tobytes()

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        """The words in a sound; of a word at least half must be there."""
        found: Counter[int] = Counter()
        for sample in array("h", pcm)[:: rate_hz // _MS]:
            found[abs(sample) - _QUIETEST] += 1
        words: list[str] = []
        for number, n_ms in found.items():
            if 0 <= number < len(self._words):
                words += [self._words[number]] * round(n_ms / (WORD_S * _MS))
        return Heard(" ".join(words))


def bot_speech(sentence: str, rate_hz: int) -> bytes:
    """A sentence of the bot as PCM16 mono: as long as it would take."""
    n_samples = round(BOT_WORD_S * len(sentence.split()) * rate_hz)
    return array("h", [3_000, -3_000]).tobytes() * (n_samples // 2)
