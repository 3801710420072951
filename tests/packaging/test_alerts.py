"""The alert rules name metrics that exist. Written for the part of YAML that they use, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opusagent.observability import RECOVERY_OUTCOMES, Metrics
from opusagent.services.session_manager_service import Refusal

FILE = Path(__file__).parents[2] / "config" / "alerts.yml"

_KEY = re.compile(r"([\w-]+):(?: (.*))?")
_PLAIN = re.compile(r"[\w.-]+")


class Lines:
    """The lines of a document, each with its depth; a `- ` counts as two more columns."""

    def __init__(self, text: str) -> None:
        self._lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    def peek(self) -> tuple[int, str]:
        if not self._lines:
            return -1, ""
        stripped = self._lines[0].lstrip(" ")
        return len(self._lines[0]) - len(stripped), stripped

    def take(self) -> str:
        return self._lines.pop(0).strip()

    def put_back(self, depth: int, text: str) -> None:
        self._lines.insert(0, " " * depth + text)


def parse(lines: Lines) -> Any:
    """A block of YAML: mappings, lists, plain and double-quoted scalars, `|`; else a ValueError."""
    depth, first = lines.peek()
    if first.startswith("- "):
        items = []
        while lines.peek()[0] == depth:
            item = lines.take()
            if not item.startswith("- "):
                raise ValueError(item)
            lines.put_back(depth + 2, item[2:])
            items.append(parse(lines))
        return items
    found: dict[str, Any] = {}
    while lines.peek()[0] == depth:
        line = lines.take()
        match = _KEY.fullmatch(line)
        if match is None or match[1] in found:
            raise ValueError(line)
        found[match[1]] = parse_value(match[2], depth, lines)
    if lines.peek()[0] > depth:
        raise ValueError(lines.peek()[1])
    return found


def parse_value(text: str | None, depth: int, lines: Lines) -> Any:
    if text is None:
        if lines.peek()[0] <= depth:
            raise ValueError("a key without a value")
        return parse(lines)
    if text == "|":
        block = []
        while lines.peek()[0] > depth:
            block.append(lines.take())
        return "\n".join(block)
    if text.startswith('"'):
        return json.loads(text)
    if not _PLAIN.fullmatch(text):
        raise ValueError(text)
    return text


@pytest.fixture(scope="module")
def rules() -> dict[str, dict[str, Any]]:
    """By their names."""
    document = parse(Lines(FILE.read_text(encoding="utf-8")))
    assert list(document) == ["groups"]
    found = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({group["name"] for group in document["groups"]}) == len(document["groups"])
    by_name = {rule["alert"]: rule for rule in found}
    assert len(by_name) == len(found)
    return by_name


def samples() -> Iterator[tuple[str, dict[str, str]]]:
    """Every metric of a bridge that has counted nothing yet, with the labels that it shows."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    for family in Metrics().registry.collect():
        for ending in endings[family.type]:
            yield family.name + ending, {}
        for sample in family.samples:
            yield sample.name, sample.labels


@pytest.mark.parametrize(
    "broken", ["a: b: c", "a:", "- a: 1\nb: 2", "a: [1", "a: 1\na: 2", "a: 1\n  b: 2", "just words"]
)
def test_what_is_no_yaml_is_noticed(broken: str) -> None:
    with pytest.raises(ValueError):
        parse(Lines(broken))


def test_every_rule_is_whole(rules: dict[str, dict[str, Any]]) -> None:
    for name, rule in rules.items():
        assert {"alert", "expr", "labels", "annotations"} <= set(rule), name
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, name
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        for opening, closing in ("()", "[]", "{}"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing)


def test_every_metric_in_a_rule_is_one_of_ours(rules: dict[str, dict[str, Any]]) -> None:
    known = {name for name, _ in samples()}
    for rule in rules.values():
        named = re.findall(r"opusagent_\w+", rule["expr"])
        assert named
        assert set(named) <= known
        assert set(re.findall(r"opusagent_\w+", rule["annotations"]["description"])) <= known


def test_every_label_in_a_rule_is_there_before_anything_happens(
    rules: dict[str, dict[str, Any]],
) -> None:
    shown = {(name, *item) for name, labels in samples() for item in labels.items()}
    selector = re.compile(r'(opusagent_\w+)\{(\w+)(?:=|!=|=~)"([^"]+)"\}')
    found = [match for rule in rules.values() for match in selector.findall(rule["expr"])]
    assert len(found) == sum(rule["expr"].count("{") for rule in rules.values())
    for metric, label, values in found:
        for value in values.split("|"):
            assert (metric, label, value) in shown


def test_every_outcome_of_a_resume_is_counted_from_zero() -> None:
    assert set(RECOVERY_OUTCOMES) == {"resumed", "at_capacity", *Refusal}


def test_the_thresholds_are_those_of_the_recovery_guide(rules: dict[str, dict[str, Any]]) -> None:
    """90 % of recoveries, 2 s to load, 95 % of writes; put as shares of failures, so that a bridge
    where nothing works has a rate too."""
    assert rules["SessionRecoveryRateLow"]["expr"].endswith("> 0.10")
    assert rules["SessionLoadSlow"]["expr"].endswith("> 2")
    assert rules["SessionPersistenceFailing"]["expr"].endswith("> 0.05")
    buckets = {
        float(labels["le"])
        for name, labels in samples()
        if name == "opusagent_session_load_seconds_bucket" and labels
    }
    assert 2.0 in buckets


def test_what_turns_callers_away_or_leaves_them_unheard_has_a_rule(
    rules: dict[str, dict[str, Any]],
) -> None:
    assert {"StreamSwitchesFailing", "StreamsDeaf", "CallsRefusedAtCapacity"} <= set(rules)
