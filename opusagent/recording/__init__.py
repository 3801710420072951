"""Recordings of calls, where they are asked for: a folder each, written by one thread of the process.

`call.wav` is the sound, the caller on the left and the bot on the right, in step with the clock.
`events.jsonl` is what happened, one object a line. `session.json` is the whole in figures, with the
transcript, written when the call has ended. A call never waits for its recording: what finds no room
is left out and counted, and a disk that fails costs the recording, not the call.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from opusagent.call.events import CallOutcome, Record, RecordSilence, Report
from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.observability import Metrics
from opusagent.recording.files import CallFiles, End, Item, RecordedCall

__all__ = ["Recorder", "Recordings", "open_recordings", "prepare"]

_log = structlog.get_logger("opusagent.recording")

MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may wait for the disk, of all calls together: about 400 s of one call."""

BATCH_S: Final = 0.25
"""How long the thread lets things gather: to wake for every chunk would disturb the calls."""

IN_A_ROW: Final = 20
"""How many things the thread writes before it lets the event loop go on. With 100 calls a timer of the
loop was up to 20 ms late (p99) without this and 4 ms with it, as without any recording (measured)."""

_ITEM_BYTES: Final = 500
"""What a thing costs while it waits, apart from its sound."""


def prepare(folder: Path) -> None:
    """Make the folder of all recordings where it is not there, and look whether it can be written.

    Raises:
        ConfigError: If it cannot.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"RECORDING_OUTPUT_DIR: {folder} cannot be written: {error.strerror}"
        ) from error


class Recordings:
    """All recordings of this process.

    Args:
        folder: Where they go; made if it is not there.
        metrics: The process's counts.
        with_private: Whether the private fields of reports are kept, too. (The transcript always is.)
        max_waiting_bytes: What may wait for the disk.
    """

    def __init__(
        self,
        folder: Path,
        metrics: Metrics,
        *,
        with_private: bool = False,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """Begin to write.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        prepare(folder)
        self._folder = folder
        self._metrics = metrics
        self._with_private = with_private
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[tuple[CallFiles, float, Item, int]] = deque()
        self._put_bytes = 0  # changed by the event loop only
        self._done_bytes = 0  # changed by the thread only
        self._open: set[CallFiles] = set()  # the thread's
        self._dropping = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def begin(self, conversation_id: str, *, agent: str, at: datetime, now: float) -> Recorder:
        """Record a call that begins `now` (monotonic seconds), which is `at` by the calendar."""
        about = RecordedCall(conversation_id=conversation_id, agent=agent, began_at=at)
        recording = CallFiles(self._folder, about, with_private=self._with_private)
        return Recorder(self, recording, now)

    def close(self, within_s: float = 5.0) -> None:
        """Write what waits and stop. A disk that hangs is not waited for any longer than that."""
        self._closing.set()
        self._thread.join(within_s)

    def put(self, recording: CallFiles, at_s: float, item: Item) -> None:
        """Let the thread take a thing to a recording, or drop it where too much waits."""
        n_bytes = _ITEM_BYTES + (len(item.pcm) if isinstance(item, Record) else 0)
        waiting = self._put_bytes - self._done_bytes
        if waiting + n_bytes > self._max_waiting_bytes and not isinstance(item, End):
            self._drop(recording, n_bytes)
            return
        self._put_bytes += n_bytes
        self._waiting.append((recording, at_s, item, n_bytes))

    def _drop(self, recording: CallFiles, n_bytes: int) -> None:
        self._metrics.recording_dropped_bytes.inc(n_bytes)
        with self._dropping:
            is_first, recording.dropped_bytes = (
                not recording.dropped_bytes,
                recording.dropped_bytes + n_bytes,
            )
        if is_first:
            _log.warning("recording has gaps", conversation_id=recording.about.conversation_id)

    # In the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(BATCH_S)
            while self._waiting:
                for _ in range(min(len(self._waiting), IN_A_ROW)):
                    recording, at_s, item, n_bytes = self._waiting.popleft()
                    self._write(recording, at_s, item)
                    self._done_bytes += n_bytes
                time.sleep(0)  # no pause: it lets go of the interpreter, for the event loop
        for recording in self._open:
            recording.give_up()

    def _write(self, recording: CallFiles, at_s: float, item: Item) -> None:
        if recording.failed:
            return
        self._open.add(recording)
        try:
            fits = recording.take(item, at_s)
        except Exception as error:  # noqa: BLE001 - the top of a recording: it ends this one and no other
            recording.give_up()
            self._open.discard(recording)
            self._metrics.recordings.labels("failed").inc()
            _log.warning(
                "recording failed",
                conversation_id=recording.about.conversation_id,
                error=str(error),
                exc_info=not isinstance(error, OSError),
            )
            return
        if not fits and isinstance(item, Record):
            self._drop(recording, len(item.pcm))
        if isinstance(item, End):
            self._open.discard(recording)
            status = "incomplete" if recording.dropped_bytes else "complete"
            self._metrics.recordings.labels(status).inc()


class Recorder:
    """Takes what is recorded of one call, and never waits. Times are monotonic seconds."""

    def __init__(self, recordings: Recordings, recording: CallFiles, began: float) -> None:
        """Made by `Recordings.begin`."""
        self._recordings = recordings
        self._recording = recording
        self._began = began

    def sound(self, effect: Record | RecordSilence, now: float) -> None:
        """Take sound, or the end of it."""
        self._recordings.put(self._recording, now - self._began, effect)

    def report(self, report: Report, now: float) -> None:
        """Take a report."""
        self._recordings.put(self._recording, now - self._began, report)

    def close(self, outcome: CallOutcome | None, now: float) -> None:
        """The call is over; None if a bug ended it."""
        end = End("bug", "") if outcome is None else End(outcome.by.value, outcome.reason)
        self._recordings.put(self._recording, now - self._began, end)


def open_recordings(settings: Settings, metrics: Metrics) -> Recordings | None:
    """What records calls, where that is asked for.

    Raises:
        ConfigError: As `Recordings`.
    """
    if not settings.enable_session_recording:
        return None
    return Recordings(settings.recording_output_dir, metrics, with_private=settings.log_private)
