from __future__ import annotations

import pytest
from pydantic import JsonValue

from opusagent.errors import ConfigError
from opusagent.tools.paths import find, parse_path

VALUE: JsonValue = {"a": {"b-c": [{"id": 1}, {"id": 2}]}, "n": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", VALUE),
        ("$.n", None),
        ("$.a.b-c[0].id", 1),
        ("$.a.b-c[-1]", {"id": 2}),
        ("$.a.b-c[*].id", [1, 2]),
    ],
)
def test_a_path_leads_to_a_part_of_the_answer(path: str, found: JsonValue) -> None:
    assert find(VALUE, parse_path(path)) == found


@pytest.mark.parametrize("path", ["$.x", "$.a.b-c[2]", "$.a[0]", "$.n.x", "$[*]", "$.a.b-c[*].x"])
def test_what_is_not_there_is_an_error(path: str) -> None:
    with pytest.raises(LookupError):
        find(VALUE, parse_path(path))


@pytest.mark.parametrize("path", ["", "a.b", "$a", "$.", "$.a..b", "$[x]", "$.a[", "$.a b", "$$"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="is no path"):
        parse_path(path)
