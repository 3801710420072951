"""Requests as they go out and answers as they come in; no sockets, and no real time."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import sys
from typing import Any, override

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.models.agent import HttpTool
from opusagent.observability import configure_logging
from opusagent.tools.http_client import FIRST_PAUSE_S, HttpClient
from opusagent.tools.http_tools import CONNECT_S, http_tool
from tests import virtual_time
from tests.tools.rig import Counts, asks, of_call
from tests.tools.test_arguments import JSON
from tests.waiting import pass_time

ORDER = {
    "type": "http",
    "name": "find_order",
    "description": "Look an order up.",
    "url": "https://shop.example/orders/{order_id}",
    "parameters": {"order_id": {"description": "Its number."}},
}
PLACE = {
    "type": "http",
    "name": "place_order",
    "description": "Order something.",
    "method": "POST",
    "url": "https://shop.example/orders?dry=no",
    "parameters": {
        "item": {"enum": ["tea", "milk"]},
        "count": {"type": "integer"},
        "gift": {"type": "boolean", "required": False},
    },
}


class Service(httpx.AsyncBaseTransport):
    """Answers with what it was given, in turn, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception | float) -> None:
        self._answers = list(answers) or [httpx.Response(200, json={"ok": True})]
        self.requests: list[httpx.Request] = []
        self.at_s: list[float] = []

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.at_s.append(asyncio.get_running_loop().time())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        match answer:
            case Exception():
                raise answer
            case httpx.Response():
                return answer
            case float():
                await pass_time(answer)
                return httpx.Response(200, json={"after": answer})

    @property
    def request(self) -> httpx.Request:
        (request,) = self.requests
        return request

    @property
    def body(self) -> Any:
        return json.loads(self.request.content)


def ask(
    service: Service,
    arguments: dict[str, JsonValue],
    declared: dict[str, Any],
    *,
    environ: dict[str, str] | None = None,
    use: str = "u1",
    **more: Any,
) -> dict[str, JsonValue]:
    async def main() -> dict[str, JsonValue]:
        client = HttpClient(service)
        tool = http_tool(HttpTool.model_validate(declared | more), environ or {}, client)
        try:
            return await of_call([tool])(asks(tool.spec.name, json.dumps(arguments), use))
        finally:
            await client.close()

    return virtual_time.run(main())


def answer(status: int = 200, **of_response: Any) -> httpx.Response:
    return httpx.Response(status, **of_response)


# What the model is told


def test_the_model_is_told_of_a_tool_what_the_file_says() -> None:
    spec = http_tool(HttpTool.model_validate(PLACE), {}, HttpClient()).spec
    assert (spec.name, spec.description, spec.repeatable) == (
        "place_order",
        "Order something.",
        False,
    )
    assert spec.input_schema == {
        "type": "object",
        "properties": {
            "item": {"type": "string", "enum": ["tea", "milk"]},
            "count": {"type": "integer"},
            "gift": {"type": "boolean"},
        },
        "required": ["item", "count"],
    }


# Requests


def test_arguments_stand_in_the_address_where_the_file_says() -> None:
    service = Service()
    assert ask(service, {"order_id": "A 1/ä?#"}, ORDER) == {"ok": True}
    assert str(service.request.url) == "https://shop.example/orders/A%201%2F%C3%A4%3F%23"
    assert service.request.method == "GET"
    assert service.request.content == b""


@pytest.mark.parametrize("order_id", ["..", ".", ""])
def test_no_argument_leads_to_another_address(order_id: str) -> None:
    service = Service()
    assert "error" in ask(service, {"order_id": order_id}, ORDER)
    assert service.requests == []


@given(st.text(min_size=1))
def test_whatever_the_argument_the_request_goes_to_the_same_place_or_nowhere(text: str) -> None:
    service = Service()
    result = ask(service, {"order_id": text}, ORDER)
    if service.requests:
        url = service.request.url
        assert (url.scheme, url.host, url.query) == ("https", "shop.example", b"")
        assert url.raw_path.startswith(b"/orders/")
        assert url.raw_path.count(b"/") == 2
    else:
        assert "error" in result


@given(JSON)
def test_no_arguments_make_anything_but_an_object_come_out(arguments: JsonValue) -> None:
    for declared in (ORDER, PLACE):
        assert isinstance(ask(Service(), arguments, declared), dict)  # type: ignore[arg-type]


def test_arguments_that_stand_nowhere_go_into_the_body_or_the_query() -> None:
    given: dict[str, JsonValue] = {"item": "tea", "count": 2}
    service = Service()
    ask(service, given, PLACE)
    assert service.body == {"item": "tea", "count": 2}
    assert service.request.url.query == b"dry=no"
    service = Service()
    ask(service, given | {"gift": True}, PLACE, method="DELETE")
    assert service.request.url.query == b"dry=no&item=tea&count=2&gift=true"
    assert service.request.content == b""


def test_query_and_body_are_what_the_file_says() -> None:
    service = Service()
    ask(
        service,
        {"item": "tea", "count": "2", "gift": None},
        PLACE,
        query={"q": "{item}", "gift": "{gift}", "lang": "en"},
        body={"order": {"lines": [{"count": "{count}", "note": "{count} of {item}"}]}},
    )
    assert service.body == {"order": {"lines": [{"count": 2, "note": "2 of tea"}]}}
    assert service.request.url.query == b"dry=no&q=tea&lang=en"


def test_a_query_to_which_nothing_is_added_is_sent_as_it_stands() -> None:
    service = Service()
    url = "https://shop.example/orders?wsdl&sig=a%20b&id={order_id}"
    ask(service, {"order_id": "a+b &c"}, ORDER, url=url)
    assert service.request.url.query == b"wsdl&sig=a%20b&id=a%2Bb%20%26c"


def test_secrets_come_from_the_environment() -> None:
    service = Service()
    environ = {"SHOP": "https://shop.example", "TOKEN": "s3cret \n"}  # as mounted files end
    ask(
        service,
        {"order_id": "1"},
        ORDER,
        environ=environ,
        url="${SHOP}/orders/{order_id}",
        headers={"Authorization": "Bearer ${TOKEN}", "X-Other": "1"},
    )
    assert service.request.headers["Authorization"] == "Bearer s3cret"
    assert service.request.headers["X-Other"] == "1"
    assert service.request.url.host == "shop.example"


def test_secrets_may_stand_in_query_and_body_and_in_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = httpx.ConnectError("cannot connect to https://shop.example/orders?key=s3cret")
    service = Service(answer(json={"ok": True}), refused)
    declared = PLACE | {
        "query": {"key": "${KEY}", "q": "{item}"},
        "body": {"auth": {"tokens": ["${KEY}"]}, "count": "{count}"},
    }
    given: dict[str, JsonValue] = {"item": "tea", "count": 2}
    environ = {"KEY": "s3cret{item}"}
    with caplog.at_level("WARNING"):
        assert ask(service, given, declared, environ=environ) == {"ok": True}
        assert dict(service.request.url.params) == {"dry": "no", "key": "s3cret{item}", "q": "tea"}
        assert service.body == {"auth": {"tokens": ["s3cret{item}"]}, "count": 2}
        assert "s3cret" not in str(ask(service, given, declared, environ=environ))
    assert "s3cret" not in caplog.text


def test_no_answer_may_come_packed() -> None:
    service = Service()
    ask(service, {"order_id": "1"}, ORDER)
    assert service.request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(("timeout_s", "connect_s"), [(10, CONNECT_S), (2, 2)])
def test_a_connection_and_each_step_of_a_request_have_their_time(
    timeout_s: float, connect_s: float
) -> None:
    service = Service()
    ask(service, {"order_id": "1"}, ORDER, timeout_s=timeout_s)
    rest = dict.fromkeys(("read", "write", "pool"), timeout_s)
    assert service.request.extensions["timeout"] == {"connect": connect_s} | rest


@pytest.mark.parametrize(
    ("use", "key"), [("toolu-1", "toolu-1"), ("a b\r\nX: 1", "a%20b%0D%0AX%3A%201"), ("", "")]
)
def test_the_id_of_the_request_is_its_idempotency_key(use: str, key: str) -> None:
    service = Service()
    ask(service, {"order_id": "1"}, ORDER, use=use)
    assert service.request.headers["Idempotency-Key"] == key


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"item": "tea"}, "count: Field required"),
        ({"item": "gold", "count": 1}, "item: Input should be 'tea' or 'milk'"),
        ({"item": "tea", "count": "many"}, "count: Input should be a valid integer"),
        ({"item": "tea", "count": 1, "x": 1}, "x: Extra inputs are not permitted"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_sent(
    arguments: dict[str, JsonValue], words: str
) -> None:
    service = Service()
    assert words in str(ask(service, arguments, PLACE)["error"])
    assert service.requests == []


# Answers


def typed(text: str, encoding: str, content_type: str) -> httpx.Response:
    return answer(content=text.encode(encoding), headers={"Content-Type": content_type})


@pytest.mark.parametrize(
    ("response", "result", "expected"),
    [
        (answer(json={"a": {"b": [1, 2]}}), "", {"a": {"b": [1, 2]}}),
        (answer(json=[1]), "", {"result": [1]}),
        (answer(json={"a": {"b": [1, 2]}}), "$.a", {"b": [1, 2]}),
        (answer(json={"a": {"b": [1, 2]}}), "$.a.b[1]", {"result": 2}),
        (answer(json={"a": 1}), "text", {"result": '{"a":1}'}),
        (answer(text="shipped"), "", {"result": "shipped"}),
        (answer(text='{"a": 1}'), "$.a", {"result": 1}),
        (answer(204), "$.a", {"result": None}),
        (typed("Müller", "latin-1", "text/plain; charset=ISO-8859-1"), "", {"result": "Müller"}),
        (typed('{"a": "ü"}', "latin-1", 'application/json; charset="latin1"'), "", {"a": "ü"}),
        (typed("Müller", "utf-8", "text/plain; charset=none-such"), "", {"result": "Müller"}),
        (typed("ü", "utf-8", "text/plain; charset=idna"), "", {"result": "ü"}),
        (typed('{"a": 1}', "utf-8-sig", "application/json"), "$.a", {"result": 1}),
        (typed('{"a": NaN, "b": 1e999}', "utf-8", "text/json"), "", {"a": None, "b": None}),
        (typed('{"a": "half \\ud83d"}', "utf-8", "text/json"), "", {"a": "half ?"}),
        (
            typed("[" * 100_000, "utf-8", "application/json"),
            "",
            {"error": "find_order: the answer is not JSON"},
        ),
        (answer(json={"a": 1}), "$.b", {"error": "find_order: the answer has no $.b"}),
        (answer(text="<html>"), "$.b", {"error": "find_order: the answer is not JSON"}),
        (
            answer(404, json={"detail": "no such order"}),
            "",
            {"error": 'find_order: the service answered 404 Not Found: {"detail":"no such order"}'},
        ),
        (
            answer(500, text="trace of a stack"),
            "",
            {"error": "find_order: the service answered 500 Internal Server Error"},
        ),
        (
            answer(302, headers={"Location": "https://evil.example/"}),
            "",
            {"error": "find_order: the service answered 302 Found"},
        ),
        (answer(799), "", {"error": "find_order: the service answered 799"}),
    ],
)
def test_an_answer_becomes_a_result_as_the_file_says(
    response: httpx.Response, result: str, expected: dict[str, JsonValue]
) -> None:
    assert ask(Service(response), {"order_id": "1"}, ORDER, result=result) == expected


def test_an_answer_that_is_too_long_is_cut_if_it_is_text_and_refused_if_it_is_not() -> None:
    long = answer(content=b"x" * 400_000)
    result = ask(Service(long), {"order_id": "1"}, ORDER)
    assert "shortened" in result
    assert len(json.dumps(result)) <= 20_000
    long = answer(json=["x" * 400_000])
    assert ask(Service(long), {"order_id": "1"}, ORDER) == {
        "error": "find_order: the answer is too long"
    }


# Trouble


def test_a_service_that_cannot_be_reached_is_an_error_without_its_address() -> None:
    refused = httpx.ConnectError("cannot connect to shop.example/orders/1")
    assert ask(Service(refused), {"order_id": "1"}, ORDER) == {
        "error": "find_order: the service cannot be reached"
    }


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), answer(503), answer(429)]
)
def test_a_repeatable_request_is_sent_again_with_the_same_key(
    trouble: httpx.Response | Exception,
) -> None:
    service = Service(trouble, trouble, answer(json={"third": True}))
    assert ask(service, {"order_id": "1"}, ORDER, repeatable=True) == {"third": True}
    assert service.at_s == pytest.approx([0, FIRST_PAUSE_S, 3 * FIRST_PAUSE_S])
    assert {request.headers["Idempotency-Key"] for request in service.requests} == {"u1"}


def test_a_request_is_sent_three_times_at_most() -> None:
    service = Service(answer(503))
    result = ask(service, {"order_id": "1"}, ORDER, repeatable=True)
    assert "503" in str(result["error"])
    assert len(service.requests) == 3


@pytest.mark.parametrize("trouble", [httpx.ReadTimeout("x"), answer(503)])
def test_a_request_that_is_not_repeatable_is_sent_once(trouble: httpx.Response | Exception) -> None:
    service = Service(trouble, answer())
    assert "error" in ask(service, {"item": "tea", "count": 1}, PLACE)
    assert len(service.requests) == 1


def test_what_is_wrong_with_the_request_itself_is_not_tried_again() -> None:
    service = Service(answer(404), answer())
    assert "404" in str(ask(service, {"order_id": "1"}, ORDER, repeatable=True)["error"])


def test_the_deadline_holds_for_all_tries_together() -> None:
    service = Service(answer(503), 60.0)
    result = ask(service, {"order_id": "1"}, ORDER, repeatable=True, timeout_s=5)
    assert result == {"error": "find_order did not answer within 5 seconds"}


# Redirections


def unreachable() -> httpx.ConnectError:
    error = httpx.ConnectError("no 4711 at https://shop.example/?key=s3cret")
    error.__cause__ = ssl.SSLCertVerificationError(1, "for key=s3cret")
    error.__cause__.verify_message = "self-signed certificate"
    return error


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize(
    ("answer", "level", "problem"),
    [
        (unreachable(), "warning", "ConnectError: self-signed certificate"),
        (httpx.ReadTimeout("of 4711"), "warning", "ReadTimeout"),
        (httpx.Response(401, text="4711"), "warning", "the service answered 401 Unauthorized"),
        (httpx.Response(404, text="4711"), "info", "the service answered 404 Not Found"),
        (httpx.Response(200, text="4711 ("), "warning", "the answer is not JSON"),
    ],
)
def test_the_log_says_why_a_service_was_of_no_use_and_nothing_of_the_caller(
    answer: httpx.Response | Exception, level: str, problem: str
) -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)
    ask(Service(answer), {"order_id": "4711"}, ORDER, result="$.a")
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["tool"]) == ("HTTP tool failed", "find_order")
    assert (line["level"], line["problem"]) == (level, problem)
    assert "4711" not in log.getvalue()
    assert "s3cret" not in log.getvalue()


def test_a_redirection_is_followed_on_the_same_host_only() -> None:
    onward = answer(307, headers={"Location": "/orders/new/1"})
    service = Service(onward, answer(json={"found": True}))
    assert ask(service, {"order_id": "1"}, ORDER) == {"found": True}
    assert [str(request.url.path) for request in service.requests] == ["/orders/1", "/orders/new/1"]
    for location in ("https://evil.example/", "http://shop.example/", "https://shop.example:444/"):
        service = Service(answer(307, headers={"Location": location}), answer())
        assert "307" in str(ask(service, {"order_id": "1"}, ORDER)["error"])
        assert len(service.requests) == 1


def test_redirections_in_a_circle_end() -> None:
    service = Service(answer(307, headers={"Location": "/orders/1"}))
    assert "307" in str(ask(service, {"order_id": "1"}, ORDER)["error"])
    assert len(service.requests) == 4


# Declarations


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"url": "ftp://x/"}, "url: must begin with http://HOST/"),
        ({"url": "https://{order_id}/"}, "url: must begin with"),
        ({"url": "https://shop{order_id}.example/"}, "url: must begin with"),
        ({"url": "https://shop.example{order_id}"}, "url: must begin with"),
        ({"url": "https://shop.example:port/{order_id}"}, "url: leads nowhere: Port"),
        ({"url": "https://shop.example/{order_id}/x\n"}, "url: has a control character"),
        ({"url": "https://shop.example/{other}"}, "url: {other} is none of the parameters"),
        ({"query": {"q": "{other}"}}, "query: {other} is none of the parameters"),
        ({"method": "POST", "body": {"q": "{other}"}}, "body: {other} is none"),
        ({"body": {"q": 1}}, "body: GET has none"),
        ({"headers": {"A": "${NONE}"}}, "headers: A: ${NONE} is not set"),
        ({"url": "${NONE}/x"}, "url: ${NONE} is not set"),
        ({"query": {"key": "${NONE}"}}, "query: key: ${NONE} is not set"),
        (
            {"method": "POST", "body": {"a": {"b": "${NONE}"}}},
            "body: a: b: ${NONE} is not set",
        ),
        (
            {"headers": {"X-Order": "no. {order_id}"}},
            "headers: X-Order: {order_id}: no argument can stand in a header",
        ),
        ({"headers": {"A B": "x"}}, "headers: 'A B' is no name of a header"),
        ({"headers": {"A": "x\r\nB: y"}}, "headers: A: has a character"),
        ({"result": "order"}, "result: 'order' is no path"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_its_key(
    more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        http_tool(HttpTool.model_validate(ORDER | more), {}, HttpClient())
    assert words in str(caught.value)


def test_without_the_package_httpx_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigError, match=r"pip install 'opusagent\[tools\]'"):
        HttpClient()


def test_what_is_counted_of_requests() -> None:
    counts = Counts()
    client = HttpClient(Service(answer(500)))
    tool = http_tool(HttpTool.model_validate(ORDER), {}, client)
    virtual_time.run(of_call([tool], meter=counts)(asks("find_order", '{"order_id": 1}')))
    assert counts.outcomes == ["refused"]
