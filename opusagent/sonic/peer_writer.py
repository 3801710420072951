"""What the service's events look like: ids, stages, usage, and all that can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Final

from pydantic_core import to_json

from opusagent.models.session_state import Role
from opusagent.sonic import events as wire
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.peer_faults import Fault
from opusagent.sonic.reader import Stage, StopReason
from opusagent.sonic.wire import AudioWriter, dump

__all__ = ["INTERRUPTED", "PeerWriter"]

INTERRUPTED: Final = '{ "interrupted" : true }'
"""The literal that stands where a text should, spaces included (measured on a live service)."""

SPEECH_TOKENS_PER_S: Final = 25
"""An invention; only that the counts grow and add up matters."""


class UserSpeechEnd(wire.FromService):
    """Nova 2.5 says when the caller has finished; what it holds is not documented."""

    wire_name: ClassVar[str] = "userSpeechEnd"


class NovelEvent(wire.FromService):
    """An event that no client knows."""

    wire_name: ClassVar[str] = "novelEvent"


class PeerWriter:
    """Writes what the service says, into a list that `drain` empties.

    Args:
        new_id: Names the session, the completion, and every block.
        faults: Those that spoil single events are honoured here.
    """

    def __init__(self, *, new_id: Callable[[], str], faults: Collection[Fault] = ()) -> None:
        self._new_id = new_id
        self._faults = frozenset(faults)
        self._session_id = new_id()
        self._completion_id = new_id()
        self._payloads: list[bytes] = []
        self._started = False
        self._audio: AudioWriter | None = None
        self._audio_id = ""
        self._held = b""
        self._total = [0, 0, 0, 0]
        self._reported = [0, 0, 0, 0]
        self.prompt_name = ""
        self.rate_hz = 24_000
        """Rate of the bot's audio; set from `promptStart`, like the name of the prompt."""

    def drain(self) -> list[bytes]:
        """Everything written since the last call, in order."""
        payloads, self._payloads = self._payloads, []
        return payloads

    # Text

    def text(self, role: Role, stage: Stage, texts: Sequence[str], stop: StopReason) -> None:
        """One text block from start to end."""
        content_id = self._start(
            "TEXT",
            role,
            additional_model_fields=None
            if Fault.NO_STAGE in self._faults
            else to_json({"generationStage": stage}).decode(),
            text_output_configuration=wire.MediaConfiguration(),
        )
        for text in texts:
            if Fault.EMPTY_TEXT in self._faults:
                self._text(content_id, role, "")
            self._text(content_id, role, text)
            if Fault.DUPLICATE_TEXT in self._faults:
                self._text(content_id, role, text)
        self._end(content_id, "TEXT", stop)

    def speech_end(self) -> None:
        """Say that the caller has finished (Nova 2.5)."""
        self._write(UserSpeechEnd())

    # Audio

    @property
    def audio_open(self) -> bool:
        """Whether a block of bot audio has begun and not ended."""
        return self._audio is not None

    def start_audio(self) -> None:
        """Begin a block of bot audio."""
        self._audio_id = self._start(
            "AUDIO",
            Role.ASSISTANT,
            audio_output_configuration=wire.AudioConfiguration.model_validate(
                {"sample_rate_hertz": self.rate_hz, "audio_type": None}
            ),
        )
        self._audio = AudioWriter(
            self._stamped(wire.AudioOutput(content_id=self._audio_id, content=""))
        )

    def audio(self, pcm: bytes) -> None:
        """Send a piece of the block that is open."""
        if self._audio is None:
            return
        if Fault.EMPTY_AUDIO in self._faults:
            self._payloads.append(self._audio(b""))
        if Fault.ODD_AUDIO in self._faults:
            # Every other event begins in the middle of a sample.
            pcm = self._held + pcm
            keep = len(pcm) % 2 == 0
            self._held = pcm[-1:] if keep else b""
            pcm = pcm[:-1] if keep else pcm
        self._payloads.append(self._audio(pcm))

    def end_audio(self, stop: StopReason) -> None:
        """End the block of bot audio, if one is open."""
        if self._audio is None:
            return
        if self._held:
            self._payloads.append(self._audio(self._held))
            self._held = b""
        self._audio = None
        self._end(self._audio_id, "AUDIO", stop)

    # Tools

    def tools(self, asks: Sequence[tuple[str, ToolAsk]]) -> None:
        """Ask for tools, each under its id."""
        overlap = Fault.INTERLEAVED_TOOLS in self._faults
        open_blocks: list[str] = []
        for tool_use_id, ask in asks:
            content_id = self._tool(tool_use_id, ask)
            if overlap:
                open_blocks.insert(0, content_id)
            elif Fault.TOOL_WITHOUT_END not in self._faults:
                self._end(content_id, "TOOL", StopReason.TOOL_USE)
        for content_id in open_blocks:
            self._end(content_id, "TOOL", StopReason.TOOL_USE)

    def _tool(self, tool_use_id: str, ask: ToolAsk) -> str:
        content_id = self._start(
            "TOOL",
            "TOOL",
            tool_use_output_configuration=wire.MediaConfiguration(media_type="application/json"),
        )
        content = to_json(ask.arguments).decode()
        if Fault.BROKEN_TOOL in self._faults:
            content = content[:-1]
        if Fault.TWICE_ENCODED_TOOL in self._faults:
            content = to_json(content).decode()
        use = wire.ToolUse(
            content_id=content_id,
            content=content,
            tool_name=ask.name,
            tool_use_id=tool_use_id,
            role="TOOL",
        )
        for _ in range(2 if Fault.DUPLICATE_TOOL in self._faults else 1):
            self._write(use)
        return content_id

    # The rest

    def count(
        self,
        *,
        speech_in_s: float = 0.0,
        text_in: str = "",
        speech_out_s: float = 0.0,
        text_out: str = "",
    ) -> None:
        """Add to the tokens of this session; silence costs nothing."""
        self._total[0] += round(speech_in_s * SPEECH_TOKENS_PER_S)
        self._total[1] += len(text_in.split())
        self._total[2] += round(speech_out_s * SPEECH_TOKENS_PER_S)
        self._total[3] += len(text_out.split())

    def usage(self) -> None:
        """Report the tokens, if there are new ones."""
        if self._total == self._reported:
            return
        delta = [new - old for new, old in zip(self._total, self._reported, strict=True)]
        self._reported = list(self._total)
        self._write(
            wire.UsageEvent(
                details=wire.UsageDetails(delta=_tokens(delta), total=_tokens(self._total)),
                total_input_tokens=sum(self._total[:2]),
                total_output_tokens=sum(self._total[2:]),
                total_tokens=sum(self._total),
            )
        )

    def completion_end(self) -> None:
        """Say that nothing more will come, if anything ever came."""
        if self._started:
            self._write(
                wire.CompletionEnd(
                    stop_reason=StopReason.END_TURN,
                )
            )

    def _write(self, event: wire.FromService) -> None:
        if not self._started:
            # Once in a session, at the first output (measured on a live service).
            self._started = True
            self._write(wire.CompletionStart())
        self._payloads.append(dump(self._stamped(event)))

    def _stamped[E: wire.FromService](self, event: E) -> E:
        ids = {
            "session_id": self._session_id,
            "prompt_name": self.prompt_name,
            "completion_id": self._completion_id,
        }
        return event.model_copy(update=ids)

    def _start(
        self,
        content_type: str,
        role: str,
        *,
        additional_model_fields: str | None = None,
        text_output_configuration: wire.MediaConfiguration | None = None,
        audio_output_configuration: wire.AudioConfiguration | None = None,
        tool_use_output_configuration: wire.MediaConfiguration | None = None,
    ) -> str:
        if Fault.UNKNOWN_EVENT in self._faults:
            self._write(NovelEvent())
        if Fault.STRAY_END in self._faults:
            self._end(self._new_id(), content_type, StopReason.PARTIAL_TURN)
        content_id = self._new_id()
        self._write(
            wire.ServiceContentStart(
                content_id=content_id,
                type=content_type,
                role=role,
                additional_model_fields=additional_model_fields,
                text_output_configuration=text_output_configuration,
                audio_output_configuration=audio_output_configuration,
                tool_use_output_configuration=tool_use_output_configuration,
            )
        )
        return content_id

    def _text(self, content_id: str, role: str, content: str) -> None:
        self._write(
            wire.TextOutput(
                content_id=content_id,
                content=content,
                role=role,
            )
        )

    def _end(self, content_id: str, content_type: str, stop: StopReason) -> None:
        self._write(
            wire.ServiceContentEnd(
                content_id=content_id,
                stop_reason=stop,
                type=content_type,
            )
        )


def _tokens(counts: Sequence[int]) -> wire.TokenCounts:
    speech_in, text_in, speech_out, text_out = counts
    return wire.TokenCounts(
        input=wire.TokenCount(speech_tokens=speech_in, text_tokens=text_in),
        output=wire.TokenCount(speech_tokens=speech_out, text_tokens=text_out),
    )
