"""What the generations of Nova Sonic do differently, as switches.

Where field reports contradict each other, the default is the documented or the stricter behaviour
and the other one is an option: `dataclasses.replace(PROFILES["nova-2"], idle_limit_s=295)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["PROFILES", "Profile", "Timing"]

_V1_VOICES: Final = frozenset(
    {
        *("matthew", "tiffany", "amy", "lupe", "carlos", "ambre"),
        *("florian", "greta", "lennart", "beatrice", "lorenzo"),
    }
)
_NOVA_2_VOICES: Final = (_V1_VOICES - {"greta"}) | {
    *("olivia", "kiara", "arjun", "tina", "carolina", "leo")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one generation of the service behaves.

    Attributes:
        name: What it is selected by.
        model_id: The model that behaves so.
        voices: The `voiceId`s that it knows.
        typed_text_answered: Whether an interactive text makes the model speak.
        takes_turn_detection: Whether `turnDetectionConfiguration` decides how long it waits.
        refuses_flat_endpointing: Whether `endpointingSensitivity` right under `sessionStart` is
            an error.
        idle_limit_s: Longest time without audio or interactive content; 295 s has been seen since
            the middle of 2026, 55 s is the documented wording.
        silence_is_activity: Whether silent audio resets that clock. Contested; most say it does.
        audio_during_tool: Whether audio may be sent while a tool's result is awaited. One team saw
            it refused by 2.5; every other source says that it may.
        announces_speech_end: Whether `userSpeechEnd` is sent.
        max_history_part_bytes: Largest `textInput` of the history, in UTF-8.
        max_history_bytes: Largest history.
        max_history_turns: Most blocks of history, or `None`.

    Source: Nova and Nova 2 user guides; the speech model's field reports where those are silent.
    """

    name: str
    model_id: str
    voices: frozenset[str] = _NOVA_2_VOICES
    typed_text_answered: bool = True
    takes_turn_detection: bool = True
    refuses_flat_endpointing: bool = True
    idle_limit_s: float = 55.0
    silence_is_activity: bool = True
    audio_during_tool: bool = True
    announces_speech_end: bool = False
    max_history_part_bytes: int = 1024
    max_history_bytes: int = 40 * 1024
    max_history_turns: int | None = None


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                name="v1",
                model_id="amazon.nova-sonic-v1:0",
                voices=_V1_VOICES,
                typed_text_answered=False,
                takes_turn_detection=False,
                refuses_flat_endpointing=False,
                idle_limit_s=59.0,
                max_history_turns=40,
            ),
            Profile(name="nova-2", model_id="amazon.nova-2-sonic-v1:0"),
            Profile(
                name="nova-2.5",
                model_id="amazon.nova-2-5-sonic-v1:0",
                idle_limit_s=295.0,
                announces_speech_end=True,
            ),
        )
    }
)
"""The known profiles by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the service takes, in seconds of the clock that drives it.

    Attributes:
        speed: How much faster than real time bot audio comes.
        chunk_s: Bot audio in one event.
        think_s: From the end of the caller's turn (its closing pause included), of a typed text, or
            of a tool's result, to the first word. Field reports: 0.57 to 1.34 s for typed text.
        pause_s: How long a caller must be quiet to be done; `None`: as the client chose.
        final_delay_s: From the end of the bot's speech to its FINAL text, which comes before the
            next USER text in any case; `None`: only then. Field reports: 2.6 to 9 s.
        interruptible_playout: Whether the bot counts as speaking while its audio would be played in
            real time. Else it is done when the audio has been sent, and no interruption is
            announced after that.
        limit_s: Life of a stream.
        deaf_s: How much of a stream's first audio is not understood; about 0.5 s has been seen.
        threshold_rms: Louder audio is speech.
        linger_s: How long the output stays open for a client that ended the session but not its
            input.
    """

    speed: float = 4.0
    chunk_s: float = 0.064
    think_s: float = 0.5
    pause_s: float | None = None
    final_delay_s: float | None = 3.0
    interruptible_playout: bool = False
    limit_s: float = 480.0
    deaf_s: float = 0.0
    threshold_rms: int = 300
    linger_s: float = 2.0
