"""A buffer of audio that is bounded in seconds."""

from __future__ import annotations

__all__ = ["AudioTail"]


class AudioTail:
    """The newest `max_s` seconds of 16-bit audio, first in, first out. The oldest goes first."""

    def __init__(self, bytes_per_second: int, max_s: float) -> None:
        """Raise ValueError unless both are positive."""
        if bytes_per_second <= 0 or max_s <= 0:
            raise ValueError("an audio tail needs a positive rate and a positive length")
        self._bytes_per_second = bytes_per_second
        self._max_bytes = int(bytes_per_second * max_s) & ~1
        self._kept = bytearray()

    def append(self, pcm: bytes) -> int:
        """Keep `pcm`, whole samples; returns how many bytes of old audio had to go for it.

        Raises:
            ValueError: If `pcm` ends in half a sample: everything after it would be noise.
        """
        if len(pcm) & 1:
            raise ValueError("half a sample")
        self._kept += pcm
        dropped = len(self._kept) - self._max_bytes
        if dropped <= 0:
            return 0
        del self._kept[:dropped]  # moves the start of a bytearray, not its content
        return dropped

    def take(self, max_s: float | None = None) -> bytes:
        """What is kept, in order, at most `max_s` seconds of it; it is not kept afterwards."""
        n_bytes = len(self._kept)
        if max_s is not None:
            n_bytes = min(n_bytes, int(self._bytes_per_second * max_s) & ~1)
        pcm = bytes(self._kept[:n_bytes])
        del self._kept[:n_bytes]
        return pcm

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    @property
    def seconds(self) -> float:
        """How long what is kept lasts."""
        return len(self._kept) / self._bytes_per_second

    def __len__(self) -> int:
        return len(self._kept)
