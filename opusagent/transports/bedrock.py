"""Nova Sonic streams on the AWS SDK: `AsyncBedrockRuntimeClient`, one for each stream.

What the SDK leaves to its user is done here: credentials are found before it is called (a resolver
that fails hangs it), every wait but the reader's is bounded, each stream has its own connection and
its own pinned key, and no exception is left for the garbage collector to report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aws_sdk_bedrock_runtime.client import AsyncBedrockRuntimeClient
from aws_sdk_bedrock_runtime.config import AsyncBedrockRuntimeConfig
from aws_sdk_bedrock_runtime.models import InvokeModelWithBidirectionalStreamOperationInput

from opusagent.errors import ConfigError, TransportError
from opusagent.sonic.failures import Remedy, classify
from opusagent.transports.bedrock_protocol import (
    PinnedResolver,
    Receiver,
    StreamProtocol,
    StreamTransport,
)
from opusagent.transports.credentials import Credentials, Pinned
from opusagent.transports.http2 import Exchange
from opusagent.transports.http2_connector import Http2Connector

if TYPE_CHECKING:
    from opusagent.transports.bedrock_protocol import Publisher

__all__ = ["BedrockConnector", "BedrockTransport", "Limits"]


SPARED_S: Final = 1.5
"""For so long after a stream was throttled that a caller waits for, none is asked for that can wait: where the
account's quota is full, the place that a call gives up would go to another one's next stream. A call that has lost
its stream asks again within 1 s, and so renews it; one that only begins may take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a step may take, in seconds."""

    connect_s: float = 3.0
    open_s: float = 8.0  # credentials, if they must be waited for, and the connection
    head_s: float = 10.0
    send_s: float = 5.0
    close_s: float = 2.0


class BedrockConnector:
    """Opens streams. One for a process; belongs to its event loop."""

    def __init__(
        self,
        *,
        region: str,
        model_id: str,
        credentials: Credentials,
        utcnow: Callable[[], datetime],
        endpoint: str | None = None,
        ca_file: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            region: The AWS region, also of the signatures.
            model_id: Of streams that are not to another model, e.g. `amazon.nova-2-sonic-v1:0`.
            credentials: Asked for each stream.
            utcnow: The clock of the signatures.
            endpoint: An `https://` URL in place of the region's own.
            ca_file: PEM certificates in place of the system's.
            limits: How long each step may take.

        Raises:
            ConfigError: If the endpoint is no HTTPS URL or `ca_file` cannot be used.
        """
        if endpoint is not None and not endpoint.startswith("https://"):
            raise ConfigError(
                f"AWS_ENDPOINT_URL_BEDROCK_RUNTIME: {endpoint!r} must begin with https:// "
                "(streams need HTTP/2, which is agreed upon in TLS)"
            )
        self._region = region
        self._model_id = model_id
        self._credentials = credentials
        self._utcnow = utcnow
        self._endpoint = endpoint
        self._limits = limits or Limits()
        self._http2 = Http2Connector(ca_file=ca_file, connect_s=self._limits.connect_s)
        self._config: AsyncBedrockRuntimeConfig | None = None
        self._throttled_at: datetime | None = None

    def connect(self, model_id: str = "", *, can_wait: bool = False) -> BedrockTransport:
        """Give a transport for a new stream to that model, or to the usual one."""
        return BedrockTransport(self, model_id or self._model_id, can_wait=can_wait)

    @property
    def limits(self) -> Limits:
        """How long each step may take."""
        return self._limits

    async def pin(self) -> Pinned:
        """Give the credentials for one stream, from its beginning to its end.

        Raises:
            TransportError: `NoCredentials`.
        """
        return await self._credentials.get()

    def expires_in_s(self, pinned: Pinned) -> float | None:
        """Seconds for which these are good; None if they do not expire."""
        if pinned.expires_at is None:
            return None
        return (pinned.expires_at - self._utcnow()).total_seconds()

    async def invoke(self, exchange: Exchange, pinned: Pinned, model_id: str) -> Any:
        """Give the SDK's stream for a new request on `exchange`; for `BedrockTransport`."""

        def for_this_stream(config: AsyncBedrockRuntimeConfig) -> None:
            config.transport = StreamTransport(self._http2, exchange)
            config.aws_credentials_identity_resolver = PinnedResolver(pinned)
            config.protocol = StreamProtocol(
                exchange=exchange,
                pinned=pinned,
                region=self._region,
                send_s=self._limits.send_s,
                utcnow=self._utcnow,
            )

        client = AsyncBedrockRuntimeClient(await self._base_config(), plugins=[for_this_stream])
        request = InvokeModelWithBidirectionalStreamOperationInput(model_id=model_id)
        return await client.invoke_model_with_bidirectional_stream(request)

    async def prepare(self) -> None:
        """Read the SDK's own configuration now, at start-up, where an error can still be mended.

        Raises:
            ConfigError: If it cannot be used.
        """
        try:
            await self._base_config()
        except Exception as error:  # the SDK fails as its parts do, over a user's file too
            raise ConfigError(
                f"AWS configuration (AWS_PROFILE, AWS_CONFIG_FILE, AWS_MAX_ATTEMPTS): {error}"
            ) from error

    async def handshake(self, url: str) -> bool:
        """Whether the connection of a stream to `url` comes up; nothing is asked on it. Bounded.

        It trusts the certificates that streams trust; another TLS library may know others.
        """
        parts = urlsplit(url)
        exchange = Exchange()
        self._http2.connect(exchange, parts.hostname or "", parts.port or 443)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await exchange.connected()
        except (TimeoutError, TransportError):
            return False
        finally:
            await exchange.close(limit_s=self._limits.close_s)
        return True

    @property
    def is_short(self) -> bool:
        """Whether a caller waits for a stream, as far as is known, because the service gives no more."""
        at = self._throttled_at
        return at is not None and abs((self._utcnow() - at).total_seconds()) < SPARED_S

    def note(self, failure: TransportError, pinned: Pinned | None, *, can_wait: bool) -> None:
        """Look at why a stream failed, for the next ones.

        Keys that the service refuses are not shown to it again, and those who have a stream leave the
        room that there is to those who have none.
        """
        remedy = classify(failure.code, failure.message).remedy
        if remedy is Remedy.REFRESH and pinned is not None:
            self._credentials.forget(pinned)
        if remedy is Remedy.REOPEN_LATER and not can_wait:
            self._throttled_at = self._utcnow()

    async def _base_config(self) -> AsyncBedrockRuntimeConfig:
        """Give what all clients begin with; the SDK copies it for each."""
        if self._config is None:
            self._config = await AsyncBedrockRuntimeConfig.resolve(
                region=self._region, endpoint_uri=self._endpoint, transport=None
            )
        return self._config


class BedrockTransport:
    """One stream; see `SonicTransport`. Made by `BedrockConnector.connect`."""

    def __init__(self, connector: BedrockConnector, model_id: str, *, can_wait: bool) -> None:
        self._connector = connector
        self._model_id = model_id
        self._can_wait = can_wait
        self._limits = connector.limits
        self._exchange: Exchange | None = None
        self._publisher: Publisher | None = None
        self._receiver: Receiver | None = None
        self._beginning: asyncio.Future[None] | None = None
        self._output: asyncio.Future[Any] | None = None
        self._is_ending = False
        self._pinned: Pinned | None = None

    @property
    def expires_in_s(self) -> float | None:
        """See `SonicTransport`."""
        return None if self._pinned is None else self._connector.expires_in_s(self._pinned)

    async def open(self) -> None:
        """Connect and send the request.

        Raises:
            TransportError: `NoCredentials`, `ConnectionLost`, or what the SDK itself fails with;
                `ThrottlingException` if it can wait and a caller waits.
        """
        if self._can_wait and self._connector.is_short:
            raise TransportError("ThrottlingException", "left to a caller who has no stream")
        self._exchange = exchange = Exchange()
        # Not cut short when we are cancelled: the SDK's own tasks would be left without an owner.
        self._beginning = asyncio.ensure_future(self._begin(exchange))
        self._beginning.add_done_callback(_look_at)
        await asyncio.shield(self._beginning)

    async def _begin(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self._limits.open_s):
                self._pinned = await self._connector.pin()
                stream = await self._connector.invoke(exchange, self._pinned, self._model_id)
                self._publisher = stream.input_stream
                self._output = asyncio.ensure_future(stream.await_output())
                self._output.add_done_callback(_look_at)
                await exchange.requested()
        except TimeoutError:
            raise TransportError("ConnectionLost", "no connection in time") from None
        except TransportError:
            raise
        except Exception as error:  # the SDK fails as its parts do
            raise _failure(error) from error

    async def head(self) -> None:
        """Wait until the service has accepted the stream.

        Raises:
            TransportError: If it refused (the code is its error type), or `NoHead`.
        """
        if self._output is None:
            raise TransportError("ConnectionLost", "not open")
        done, _ = await asyncio.wait((self._output,), timeout=self._limits.head_s)
        if not done:
            raise TransportError("NoHead", f"no answer within {self._limits.head_s} s")
        error = self._output.exception()
        if error is not None:
            failure = _failure(error)
            self._connector.note(failure, self._pinned, can_wait=self._can_wait)
            raise failure
        _, self._receiver = self._output.result()

    async def send(self, *payloads: bytes) -> None:
        """Send JSON events.

        Raises:
            TransportError: `ConnectionLost`, `SendTimeout`, or `Closed` after `close_input`.
        """
        if self._publisher is None:
            raise TransportError("ConnectionLost", "not open")
        await self._publisher.send(*payloads)

    async def flush(self) -> None:
        """Wait until all that was sent has been written to the connection.

        Raises:
            TransportError: `ConnectionLost` or `SendTimeout`.
        """
        if self._publisher is None:
            raise TransportError("ConnectionLost", "not open")
        await self._publisher.flush()

    def send_now(self, *payloads: bytes) -> bool:
        """Send JSON events if that needs no waiting; returns whether they were sent."""
        return self._publisher is not None and self._publisher.send_now(*payloads)

    async def receive(self) -> bytes | None:
        """Wait for the next JSON event; waits for the head first if nobody has.

        Raises:
            TransportError: If the stream ended and we had not asked for it; for any exception.
        """
        return await self._until_the_end(Receiver.receive)

    async def listen(self, take: Callable[[bytes], None]) -> None:
        """Give every JSON event to `take` as it comes; waits for the head first if nobody has.

        Raises:
            TransportError: If the stream ended and we had not asked for it; for any exception.
        """
        await self._until_the_end(lambda receiver: receiver.listen(take))

    async def _until_the_end(
        self, read: Callable[[Receiver], Awaitable[bytes | None]]
    ) -> bytes | None:
        """Read one event, or all: what ends a stream is told in the same words."""
        if self._receiver is None:
            await self.head()
        assert self._receiver is not None
        try:
            event = await read(self._receiver)
        except TransportError as error:
            if self._is_ending and error.code in ("ConnectionLost", "Closed"):
                return None
            self._connector.note(error, self._pinned, can_wait=self._can_wait)
            raise
        if event is not None or self._is_ending:
            return event
        raise TransportError("Ended", "the service ended the stream")

    async def close_input(self) -> None:
        """End the input. What the service still has to say can be received."""
        self._is_ending = True
        if self._publisher is not None:
            await self._publisher.close()

    async def close(self) -> None:
        """Close the connection, within `Limits.close_s`."""
        self._is_ending = True
        if self._exchange is not None:
            await self._exchange.close(limit_s=self._limits.close_s)


def _failure(error: BaseException) -> TransportError:
    """Give what went wrong as ours; the SDK wraps what is not its own."""
    for known in (error, error.__cause__):
        if isinstance(known, TransportError):
            return known
    return TransportError(type(error).__name__, str(error))


def _look_at(done: asyncio.Future[Any]) -> None:
    """Retrieve an outcome that nobody may wait for any more."""
    if not done.cancelled():
        done.exception()
