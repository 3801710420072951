from __future__ import annotations

import pytest

from opusagent.errors import ConfigError
from opusagent.tools.templates import Template, fill_json, names_in, read_json, resolve


def test_variables_of_the_environment_and_arguments_are_filled_in_at_once() -> None:
    template = Template("${HOST}/a/{id}?q={q}&x={{}", {"HOST": "https://x/{id}"})
    assert template.names == {"id", "q"}
    assert template.head == "https://x/{id}/a/"  # what a variable holds is no template
    filled = template.fill({"id": 7, "q": None}, lambda name, text: f"<{name}:{text}>")
    assert filled == "https://x/{id}/a/<id:7>?q=<q:>&x={{}"


def test_a_variable_that_is_missing_or_empty_is_named() -> None:
    for environ in ({}, {"TOKEN": ""}, {"TOKEN": "\n"}):
        with pytest.raises(ConfigError, match=r"Authorization: \$\{TOKEN\} is not set"):
            resolve({"Authorization": "Bearer ${TOKEN}"}, environ)
        with pytest.raises(ConfigError, match=r"\$\{TOKEN\} is not set"):
            Template("${TOKEN}", environ)
    assert resolve({"A": "x ${T} y"}, {"T": "1"}) == {"A": "x 1 y"}


def test_a_variable_ends_where_its_line_ends() -> None:
    environ = {"T": " s3cret \r\n"}
    assert resolve({"A": "<${T}>"}, environ) == {"A": "< s3cret >"}
    assert Template("?key=${T}&a=1", environ).head == "?key= s3cret &a=1"


def test_a_body_gets_its_arguments_with_their_types() -> None:
    body = read_json(
        {
            "id": "{id}",
            "text": "order {id} of {who}",
            "left_out": "{none}",
            "list": ["{id}", "{none}", {"deep": "{tags}"}],
            "fixed": 1,
            "key": "${KEY}",
        },
        {"KEY": "{who}"},
    )
    assert fill_json(body, {"id": 7, "who": "Ann", "tags": ["a"]}) == {
        "id": 7,
        "text": "order 7 of Ann",
        "list": [7, {"deep": ["a"]}],
        "fixed": 1,
        "key": "{who}",  # what a variable holds is no template
    }


def test_the_arguments_in_a_body_are_found_wherever_they_are() -> None:
    body = read_json({"a": "{x}", "b": [{"c": "{y} {z}"}], "d": 1, "e": "${KEY}"}, {"KEY": "{k}"})
    assert set(names_in(body)) == {"x", "y", "z"}


def test_a_variable_that_a_body_lacks_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^a: 1: b: \$\{KEY\} is not set"):
        read_json({"a": [1, {"b": "${KEY}"}]}, {})
