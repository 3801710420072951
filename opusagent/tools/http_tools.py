"""Tools that are one HTTP request each, declared in an agent's file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlsplit

import structlog
from pydantic import JsonValue

from opusagent.errors import ConfigError, ToolError
from opusagent.models.agent import HttpTool, ToolParameter
from opusagent.models.session_state import ToolSpec
from opusagent.tools.addresses import check_address, check_headers
from opusagent.tools.arguments import REQUIRED, Parameter, Parameters
from opusagent.tools.http_client import Answer, HttpClient, NoAnswer
from opusagent.tools.paths import find, parse_path
from opusagent.tools.results import as_object
from opusagent.tools.templates import (
    JsonTemplate,
    Template,
    as_text,
    fill_json,
    names_in,
    read_json,
    resolve,
)
from opusagent.tools.tool import Arguments, JsonObject, Place, Tool, ToolContext, at_key

if TYPE_CHECKING:
    import httpx

__all__ = ["CONNECT_S", "IDEMPOTENCY_KEY", "http_tool"]

_log = structlog.get_logger("opusagent.tools")

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
"""The header with the id of the model's request: the same when it is sent again (IETF HTTPAPI draft)."""
CONNECT_S: Final = 3.0
"""What a connection may take to be made: a repeatable request has another try then."""

_MAX_DETAIL_CHARS: Final = 300
_USUAL: Final = frozenset({400, 404, 409, 410, 422})
"""What a service answers where there is no such thing, or not now."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_TYPES: Final[Mapping[str, Any]] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[JsonValue],
    "object": dict[str, JsonValue],
}
_TO_HOST: Final = re.compile(r"https?://[^/?#\s]+[/?#]")
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


def http_tool(declared: HttpTool, environ: Mapping[str, str], client: HttpClient) -> Tool:
    """The tool that an agent's file declares.

    Raises:
        ConfigError: If the declaration makes no sense, or a variable of the environment is missing; names
            the key.
    """
    request = _Request(declared, environ, client)
    return Tool(
        spec=ToolSpec(
            name=declared.name,
            description=declared.description,
            input_schema=request.parameters.schema,
            repeatable=declared.repeatable,
        ),
        timeout_s=declared.timeout_s,
        run=request.run,
    )


class _Request:
    """What is sent, and what is made of the answer."""

    def __init__(self, declared: HttpTool, environ: Mapping[str, str], client: HttpClient) -> None:
        self._declared = declared
        self._client = client
        self.parameters = Parameters(
            [_parameter(name, parameter) for name, parameter in declared.parameters.items()]
        )
        with at_key("url"):
            self._url = Template(declared.url, environ)
            self._in_path = Template(declared.url.partition("?")[0], environ).names
            _check_url(self._url)
        with at_key("headers"):
            self._headers = check_headers(resolve(declared.headers, environ))
            for name, text in declared.headers.items():
                for argument in Template(text, environ).names:  # it is not the model's to make one
                    raise ConfigError(f"{name}: {{{argument}}}: no argument can stand in a header")
        with at_key("query"):
            self._query = read_json(dict(declared.query), environ)
        with at_key("body"):
            self._body = read_json(declared.body or {}, environ)
        with at_key("result"):
            self._result: Literal["text"] | tuple[str | int | None, ...] = (
                "text" if declared.result == "text" else parse_path(declared.result or "$")
            )
        if declared.body is not None and declared.method not in _WITH_BODY:
            raise ConfigError(f"body: {declared.method} has none")
        used = {
            "url": self._url.names,
            "query": set(names_in(self._query)),
            "body": set(names_in(self._body)),
        }
        for key, names in used.items():
            for name in sorted(names - set(declared.parameters)):
                raise ConfigError(f"{key}: {{{name}}} is none of the parameters")
        self._rest = set(declared.parameters).difference(*used.values())

    async def run(self, arguments: Arguments, context: ToolContext, _place: Place) -> JsonObject:
        """Send the request, and make a result of the answer. Raises `ToolError`."""
        optional = {n for n, p in self._declared.parameters.items() if not p.required}
        given = {n: v for n, v in arguments.items() if v is not None or n not in optional}
        checked = self.parameters.check(given)
        given = {name: checked[name] for name in given}
        url = self._fill_url(given)
        try:
            answer = await self._client.fetch(
                lambda client: self._build(client, url, given, context.tool_use_id),
                is_repeatable=self._declared.repeatable,
            )
            return self._read(answer)
        except NoAnswer as error:
            log = _log.info if error.is_usual else _log.warning
            log("HTTP tool failed", tool=self._declared.name, problem=error.problem)
            raise ToolError(f"{self._declared.name}: {error}") from None

    def _fill_url(self, given: Arguments) -> str:
        def quoted(name: str, text: str) -> str:
            if name in self._in_path and not text:
                raise ToolError(f"{name}: must not be empty")
            return quote(text, safe="")

        url = self._url.fill(given, quoted)
        if {".", ".."} & set(urlsplit(url).path.split("/")):
            raise ToolError("there is no such address")  # it would lead to another one
        return url

    def _build(
        self, client: httpx.AsyncClient, url: str, given: Arguments, key: str
    ) -> httpx.Request:
        declared = self._declared
        seconds = declared.timeout_s
        has_body = declared.method in _WITH_BODY
        rest = {name: given[name] for name in given if name in self._rest}
        query = _filled(self._query, given) | ({} if has_body else rest)
        body = _filled(self._body, given) | rest if has_body else None
        request = client.build_request(
            declared.method,
            url,
            json=body,
            headers={
                "Accept-Encoding": "identity",  # so that a short body cannot become a long one
                IDEMPOTENCY_KEY: key if _KEY.fullmatch(key) else quote(key, safe="")[:255],
                **self._headers,
            },
            timeout=(min(CONNECT_S, seconds), seconds, seconds, seconds),
        )
        if query:  # else the address stays as it was written: `?wsdl` is not `?wsdl=` to everybody
            request.url = request.url.copy_merge_params({n: as_text(v) for n, v in query.items()})
        return request

    def _read(self, answer: Answer) -> JsonObject:
        text = _decoded(answer)
        if not 200 <= answer.status < 300:
            words = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus else ""
            # Why a request was wrong is for the model; why a service is broken is not.
            detail = text[:_MAX_DETAIL_CHARS].strip() if 400 <= answer.status < 500 else ""
            said = f"the service answered {answer.status} {words}".rstrip()
            is_usual = answer.status in _USUAL
            raise NoAnswer(f"{said}: {detail}" if detail else said, said, is_usual=is_usual)
        is_text = not self._declared.result and "json" not in answer.content_type
        if self._result == "text" or is_text:
            return as_object(text)
        if not answer.body.strip():
            return {"result": None}
        if not answer.is_whole:
            raise _useless("the answer is too long")
        try:
            return as_object(find(json.loads(text), self._result))
        except (ValueError, RecursionError):
            raise _useless("the answer is not JSON") from None
        except LookupError:
            raise _useless(f"the answer has no {self._declared.result}") from None


def _decoded(answer: Answer) -> str:
    """Its text, in the encoding that it names; UTF-8 without one."""
    named = _CHARSET.search(answer.content_type)
    try:
        text = answer.body.decode(named[1] if named else "utf-8", errors="replace")
    except (LookupError, UnicodeError):  # a name that nobody knows, or none of an encoding
        text = answer.body.decode(errors="replace")
    return text.removeprefix("\ufeff")


def _useless(words: str) -> NoAnswer:
    return NoAnswer(words, words)


def _parameter(name: str, declared: ToolParameter) -> Parameter:
    return Parameter(
        name=name,
        annotation=Literal[declared.enum] if declared.enum else _TYPES[declared.type],
        default=REQUIRED if declared.required else None,
        description=declared.description,
    )


def _filled(template: JsonTemplate, given: Arguments) -> dict[str, JsonValue]:
    filled = fill_json(template, given)
    assert isinstance(filled, dict)
    return filled


def _check_url(url: Template) -> None:
    if url.names and not _TO_HOST.match(url.head):
        raise ConfigError("must begin with http://HOST/ or https://HOST/, without arguments in it")
    check_address(url.fill({}, lambda *_: ""))
