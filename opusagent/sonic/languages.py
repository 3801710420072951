"""Which voice speaks which language. Source: Nova 2 user guide, language support."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["LANGUAGES", "POLYGLOT", "Language"]


@dataclass(frozen=True, slots=True)
class Language:
    """A language of Nova Sonic.

    Attributes:
        name: In English, as the model is told of it.
        voices: Whose mother tongue it is.
    """

    name: str
    voices: frozenset[str]


_INDIAN: Final = frozenset({"kiara", "arjun"})

LANGUAGES: Final[Mapping[str, Language]] = MappingProxyType(
    {
        "en-US": Language("English", frozenset({"tiffany", "matthew"})),
        "en-GB": Language("British English", frozenset({"amy"})),
        "en-AU": Language("Australian English", frozenset({"olivia"})),
        "en-IN": Language("Indian English", _INDIAN),
        "hi-IN": Language("Hindi", _INDIAN),
        "fr-FR": Language("French", frozenset({"ambre", "florian"})),
        "it-IT": Language("Italian", frozenset({"beatrice", "lorenzo"})),
        "de-DE": Language("German", frozenset({"tina", "lennart", "greta"})),
        "es-US": Language("Spanish", frozenset({"lupe", "carlos"})),
        "pt-BR": Language("Portuguese", frozenset({"carolina", "leo"})),
    }
)
"""By its tag (BCP 47)."""

POLYGLOT: Final = frozenset({"tiffany", "matthew"})
"""Voices that speak any of them, from Nova 2 on."""
