"""Keeps a Nova Sonic stream fed in real time, although VoiceAI Connect withholds audio now and then.

Nova Sonic ends a stream that gets no audio (55 or 295 s, by version), and it needs a running clock of
audio to notice the end of speech. VoiceAI Connect sends nothing while the bot plays with barge-in off,
on hold, and before its first `userStream.start`.
"""

from __future__ import annotations

__all__ = ["Feed"]

QUANTUM_S = 0.1
"""Length of one piece of silence."""

STALL_S = 1.0
"""How long an open user stream may pause before silence takes its place. VoiceAI Connect was seen to
pause for a second and send the missing chunks at once; silence in between would split a word."""

AHEAD_S = 0.2
"""How far a burst counts ahead of real time. More would hold back the silence after it, by which the
model notices that the caller has finished."""


class Feed:
    """Says how much silence a stream is owed.

    Args:
        bytes_per_second: Of 16-bit PCM at the rate of the model's input.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._silence = bytes(int(QUANTUM_S * bytes_per_second) & ~1)
        self._covered_until = 0.0
        self.withheld = True
        """Whether no audio is to be expected: the phone's user stream is closed, or nothing has come of it
        yet (it took VoiceAI Connect half a second on a live capture)."""

    def restart(self, now: float) -> None:
        """A stream begins to listen now."""
        self._covered_until = now

    def fed(self, n_bytes: int, now: float) -> None:
        """Caller audio went out. A burst after a pause counts for the pause."""
        covered = max(self._covered_until, now - STALL_S) + n_bytes / self._rate
        self._covered_until = min(covered, now + AHEAD_S)

    def silence_due(self, now: float) -> bytes:
        """Silence to send now; empty while the caller's audio covers the time."""
        if now < self.next_timer():
            return b""
        # After a long stall of this process only the newest second is made up for.
        self._covered_until = max(self._covered_until, now - STALL_S - QUANTUM_S) + QUANTUM_S
        return self._silence

    def next_timer(self) -> float:
        """When silence is due next."""
        return self._covered_until + QUANTUM_S + (0.0 if self.withheld else STALL_S)
