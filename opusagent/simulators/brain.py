"""The mind of the local Nova Sonic service: a scenario's rules, applied to what it heard.

It holds nothing between calls or streams, and within one only which tools it waits for. What it knows of
the caller is what stands in the conversation that it is shown: a new stream that was given no history has forgotten the name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from opusagent.audio.speech import rms
from opusagent.models.session_state import Role
from opusagent.simulators.hearing import Heard as HeardPhrase
from opusagent.simulators.hearing import PhraseBook
from opusagent.simulators.scenario import Phrase, Scenario, ToolRule, names_in
from opusagent.simulators.voice import Voice
from opusagent.sonic.peer_brain import Heard, PeerContext, Reply, ToolAnswer, ToolAsk

__all__ = ["PhraseEars", "ScenarioBrain"]

_GONE: Final = "…"
_WORD: Final = re.compile(r"…|[\w']+")


class PhraseEars:
    """Ears that know the phrases of a scenario, by the caller's voice.

    Attributes:
        heard: Every phrase of every utterance so far, with its score and what was missing of it; for
            reports, one tuple for each utterance.
    """

    def __init__(self, book: PhraseBook) -> None:
        self._book = book
        self.heard: list[tuple[HeardPhrase, ...]] = []

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        """The words of an utterance, an ellipsis where words are missing or are in no book."""
        found = self._book.hear(pcm, rate_hz)
        self.heard.append(found)
        if not found and not rms(pcm):
            return Heard("")
        return Heard(" ".join(phrase.words for phrase in found) or _GONE)


@dataclass(frozen=True, slots=True)
class _Understood:
    phrase: Phrase
    words: tuple[str, ...]


class ScenarioBrain:
    """Answers as a scenario says."""

    def __init__(self, scenario: Scenario, voice: Voice) -> None:
        """Take a scenario's rules.

        Args:
            scenario: Phrases and answers.
            voice: The bot's.
        """
        self._scenario = scenario
        self._voice = voice
        self._asked: list[ToolRule] = []
        self._words = {phrase.id: _words_of(phrase.text) for phrase in scenario.phrase}
        self._longest = max(map(len, self._words.values()), default=0)

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """The sentence as PCM16 mono in the bot's voice."""
        return self._voice.speak(sentence, rate_hz)

    def reply(self, heard: str, context: PeerContext) -> Reply:
        """The answer to everything that was said or typed.

        Text that is no phrase is looked up in the rules for typed text; what is neither gets the
        answer to unknown speech. A caller's typed keys and words may come together.
        """
        phrases = [one.phrase for one in self._understand(heard)]
        facts = self._facts(context, heard)
        sentences: list[str] = []
        for rule in self._scenario.typed:
            groups = rule.search(heard)
            if groups is not None and not phrases:
                sentences += _filled(rule.answer, facts | _present(groups)) or ()
        for phrase in phrases:
            forgets = phrase.forgets or self._scenario.bot.forgets
            sentences += _filled(phrase.answer, facts) or forgets if phrase.answer else ()
        tools = self._ask([tool for phrase in phrases for tool in phrase.tools], facts)
        if not sentences and not tools and _WORD.search(heard):
            sentences += self._scenario.bot.unknown
        return Reply(tuple(dict.fromkeys(sentences)), tools)

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        """What a tool's rule says about its result; nothing for a tool that no phrase asks for."""
        facts = self._facts(context, "")
        sentences: list[str] = []
        following: list[ToolRule] = []
        for answer in answers:
            rule = self._rule_of(answer.name, context)
            if rule is not None:
                has_failed = "error" in answer.result
                known = facts | {f"result.{key}": text for key, text in _texts(answer.result)}
                said = _filled(rule.failed if has_failed else rule.answer, known)
                sentences += said or self._scenario.bot.forgets
                following += () if has_failed else rule.tools
        return Reply(tuple(sentences), self._ask(following, facts))

    def _rule_of(self, name: str, context: PeerContext) -> ToolRule | None:
        """The rule by which a tool was asked for, else that of the phrase that came last."""
        for rule in self._asked:
            if rule.name == name:
                self._asked.remove(rule)
                return rule
        said = [turn.text for turn in context.conversation if turn.role is Role.USER]
        last = [one.phrase for text in reversed(said) for one in self._understand(text)]
        rules = (rule for phrase in (*last, *self._scenario.phrase) for rule in phrase.chain())
        return next((rule for rule in rules if rule.name == name), None)

    def _ask(self, rules: Sequence[ToolRule], facts: Mapping[str, str]) -> tuple[ToolAsk, ...]:
        self._asked += rules
        return tuple(ToolAsk(r.name, _fill_json(dict(r.arguments), facts)) for r in rules)

    def _facts(self, context: PeerContext, heard: str) -> dict[str, str]:
        """What the caller has told, by what stands in the conversation; the latest word counts."""
        facts: dict[str, str] = {}
        said = [turn.text for turn in context.conversation if turn.role is Role.USER]
        for text in (*said, heard):
            for rule in self._scenario.typed:
                groups = rule.search(text)
                if groups is not None:
                    facts |= _present(groups)
            for one in self._understand(text):
                facts |= {
                    name: value
                    for name, value in one.phrase.facts.items()
                    if self._told(one, _words_of(value))
                }
        return facts

    def _told(self, one: _Understood, value: tuple[str, ...]) -> bool:
        """Whether the words of a fact arrived; of a fact in other words, the whole phrase must."""
        if _contains(self._words[one.phrase.id], value):
            return _contains(one.words, value)
        return _GONE not in one.words

    def _understand(self, text: str) -> list[_Understood]:
        """The phrases in a text, in order; words between them that fit no phrase are passed over."""
        words = _words_of(text)
        found: list[_Understood] = []
        begin = 0
        while begin < len(words):
            for end in range(min(len(words), begin + self._longest + 2), begin, -1):
                phrase = self._phrase_of(words[begin:end])
                if phrase is not None:
                    found.append(_Understood(phrase, words[begin:end]))
                    begin = end
                    break
            else:
                begin += 1
        return found

    def _phrase_of(self, words: tuple[str, ...]) -> Phrase | None:
        """The phrase that these words are, with the fewest missing where some are."""
        fitting = [p for p in self._scenario.phrase if _fits(words, self._words[p.id])]
        return min(fitting, key=lambda phrase: len(self._words[phrase.id]), default=None)


def _words_of(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _fits(heard: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    """Whether a phrase is what was heard, an ellipsis standing for one or more of its words."""
    if _GONE not in heard:
        return heard == phrase
    if all(word == _GONE for word in heard):
        return False
    pattern = " ".join("[^ ]+(?: [^ ]+)*" if word == _GONE else re.escape(word) for word in heard)
    return re.fullmatch(pattern, " ".join(phrase)) is not None


def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words) - len(part) + 1))


def _filled(templates: Iterable[str], facts: Mapping[str, str]) -> list[str]:
    """The templates with their facts; empty where one of them is not known."""
    templates = tuple(templates)
    if any(name not in facts for template in templates for name in names_in(template)):
        return []
    return [_fill(template, facts) for template in templates]


def _fill(template: str, facts: Mapping[str, str]) -> str:
    for name in names_in(template):
        template = template.replace(f"{{{name}}}", facts[name])
    return template


def _fill_json(value: JsonValue, facts: Mapping[str, str]) -> JsonValue:
    """A JSON value with the templates in its strings filled; what is not known is left empty."""
    match value:
        case str():
            unknown = dict.fromkeys(names_in(value), "")
            return _fill(value, {**unknown, **facts})
        case dict():
            return {key: _fill_json(item, facts) for key, item in value.items()}
        case list():
            return [_fill_json(item, facts) for item in value]
        case _:
            return value


def _present(groups: re.Match[str]) -> dict[str, str]:
    return {name: text.strip() for name, text in groups.groupdict().items() if text is not None}


def _texts(result: Mapping[str, JsonValue], path: str = "") -> Iterable[tuple[str, str]]:
    """The plain fields of a result, nested ones with a dotted name, as they would be spoken."""
    nested = (
        _texts(value, f"{path}{key}.") if isinstance(value, dict) else [(path + key, str(value))]
        for key, value in result.items()
    )
    return itertools.chain.from_iterable(nested)
