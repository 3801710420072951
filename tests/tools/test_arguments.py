from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.errors import ConfigError, ToolError
from opusagent.tools.arguments import Parameter, Parameters, parse_arguments

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"id": "A1"}', {"id": "A1"}),
        (json.dumps('{"id": "A1"}'), {"id": "A1"}),
        (json.dumps(json.dumps(json.dumps('{"id": "A1"}'))), None),
        ("", {}),
        ("  ", {}),
        ('""', {}),
        ("null", {}),
        ("{}", {}),
    ],
)
def test_arguments_are_read_even_if_they_are_encoded_twice_or_not_there(
    text: str, arguments: dict[str, object] | None
) -> None:
    if arguments is None:
        with pytest.raises(ToolError, match="not a JSON object"):
            parse_arguments(text)
    else:
        assert parse_arguments(text) == arguments


@pytest.mark.parametrize("text", ["[]", "1", "true", "{", '{"a": NaN}', "[" * 100_000, '{"a":1}x'])
def test_what_is_no_object_is_refused_in_words(text: str) -> None:
    with pytest.raises(ToolError, match="the arguments are not"):
        parse_arguments(text)


PARAMETERS = Parameters(
    [
        Parameter(name="model_dump", annotation=str),
        Parameter(name="schema", annotation=int, default=1),
        Parameter(name="_x", annotation=list[float] | None, default=None),
    ]
)


def test_arguments_may_be_named_like_anything() -> None:
    checked = PARAMETERS.check({"model_dump": "a", "_x": [1]})
    assert checked == {"model_dump": "a", "schema": 1, "_x": [1.0]}


@given(st.text() | JSON.map(json.dumps) | st.dictionaries(st.text(), JSON).map(json.dumps))
def test_whatever_the_model_sends_is_arguments_or_an_error_in_words(text: str) -> None:
    try:
        PARAMETERS.check(parse_arguments(text))
    except ToolError as error:
        assert 0 < len(str(error)) < 1_100  # noqa: PT017 - whether it is raised is the question


def test_a_default_that_the_model_could_not_be_told_is_refused() -> None:
    with pytest.raises(ConfigError, match="a text that UTF-8 does not have"):
        Parameters([Parameter(name="a", annotation=str, default="caf\udce9")])


def test_an_error_says_what_is_wrong_with_five_arguments_at_most() -> None:
    with pytest.raises(ToolError) as caught:
        PARAMETERS.check({f"{n}" * 300: n for n in range(9)})
    assert str(caught.value).count(";") == 4
    assert len(str(caught.value)) < 1_100
