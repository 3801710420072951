"""`sessions`: what is stored of conversations, for the operator. No caller's word unless asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from opusagent import arguments
from opusagent.errors import ConfigError, OpusAgentError, SessionUnreadable, StorageUnavailable
from opusagent.flags import with_flags_of

if TYPE_CHECKING:
    from opusagent.models.session_state import SessionState
    from opusagent.services.session_manager_service import SessionManagerService
    from opusagent.session_storage import SessionStorage

__all__ = ["app"]

DAY_S: Final = 86_400

app = typer.Typer(
    help="The stored sessions: list, show, delete, export, clean up.\n\n"
    "They are looked for where `serve` keeps them: REDIS_URL, or SESSION_STORE_DIR.",
    epilog="Example: python run_bridge.py sessions list --redis-url redis://localhost:6379",
    no_args_is_help=False,
)

_with_store_flags = with_flags_of(
    (
        "redis_url",
        "redis_password",
        "redis_db",
        "session_store_dir",
        "session_ttl",
        "session_prefix",
        "session_compression",
        "session_encryption_keys",
    )
)

_Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings; config/bridge.toml if it exists."),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]
_Id = Annotated[str, typer.Argument(metavar="ID", help="Of the conversation.")]


@app.command("list", epilog="Example: python run_bridge.py sessions list --json")
@_with_store_flags
def list_sessions(config: _Config = None, as_json: _Json = False, **flags: str | bool) -> int:
    """All sessions whose time has not run out: status, owner, times, counts."""

    async def work(store: _Store) -> int:
        from opusagent.facts import session_facts

        rows: list[dict[str, Any]] = []
        for name in await store.sessions.list_active_sessions():
            try:
                if (state := await store.sessions.get_session(name)) is not None:
                    rows.append(session_facts(state))
            except SessionUnreadable as error:
                rows.append({"id": name, "status": "unreadable", "error": str(error)})
        if as_json:
            typer.echo(json.dumps({"store": store.place, "sessions": rows}))
        else:
            _show_table(rows, store.place)
        return 0

    return _with_store(config, flags, work)


@app.command(epilog="Example: python run_bridge.py sessions show 5a1f --private")
@_with_store_flags
def show(
    conversation_id: _Id,
    config: _Config = None,
    private: Annotated[
        bool, typer.Option("--private", help="Also who called and what was said.")
    ] = False,
    as_json: _Json = False,
    **flags: str | bool,
) -> int:
    """One session: status, times, owner, counts."""

    async def work(store: _Store) -> int:
        from opusagent.facts import history, session_facts

        state = await store.state(conversation_id)
        facts = session_facts(state)
        words: dict[str, Any] = {"caller": state.caller, "history": history(state)}
        if as_json:
            typer.echo(json.dumps(facts | (words if private else {})))
            return 0
        for name, value in facts.items():
            typer.echo(f"{name:<22}  {_printable(value)}")
        if private:
            typer.echo(f"{'caller':<22}  {_printable(state.caller)}\n")
            for line in words["history"]:
                typer.echo(f"{line['role']:>9}: {_printable(line['text'])}")
        return 0

    return _with_store(config, flags, work)


@app.command(epilog="Example: python run_bridge.py sessions delete 5a1f")
@_with_store_flags
def delete(conversation_id: _Id, config: _Config = None, **flags: str | bool) -> int:
    """Remove a session; it cannot be resumed any more. One that is damaged can be removed too."""

    async def work(store: _Store) -> int:
        if not await store.storage.delete_session(conversation_id):
            raise _unknown(conversation_id, store)
        typer.echo(f"deleted {_printable(conversation_id)} (a call under way stores it again)")
        return 0

    return _with_store(config, flags, work)


@app.command(epilog="Example: python run_bridge.py sessions export 5a1f --output 5a1f.json")
@_with_store_flags
def export(
    conversation_id: _Id,
    config: _Config = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File that only you may read; without it standard output.",
            callback=arguments.writable_file,
        ),
    ] = None,
    **flags: str | bool,
) -> int:
    """The whole record as JSON, with every word, number and argument that is stored of the call."""

    async def work(store: _Store) -> int:
        record = await store.storage.retrieve_session(conversation_id)
        if record is None:
            raise _unknown(conversation_id, store)
        text = json.dumps(record, indent=2)
        if output is None:
            typer.echo(text)
        else:
            _write_private(output, f"{text}\n")
            typer.echo(f"{output} holds what was said: keep it as you keep a recording")
        return 0

    return _with_store(config, flags, work)


@app.command(epilog="Example: python run_bridge.py sessions cleanup --older-than 30")
@_with_store_flags
def cleanup(
    older_than: Annotated[
        float,
        typer.Option(
            metavar="DAYS",
            help="Remove sessions in which nothing has happened for so many days.",
            max=36_500,
            callback=arguments.more_than_zero,
        ),
    ],
    config: _Config = None,
    as_json: _Json = False,
    **flags: str | bool,
) -> int:
    """Remove old sessions. Each goes by itself after SESSION_TTL; this is for shorter times."""

    async def work(store: _Store) -> int:
        removed = await store.sessions.cleanup_expired_sessions(round(older_than * DAY_S))
        typer.echo(json.dumps({"removed": removed}) if as_json else f"removed {removed}")
        return 0

    return _with_store(config, flags, work)


@dataclass(frozen=True, slots=True)
class _Store:
    """The configured store, open."""

    storage: SessionStorage
    sessions: SessionManagerService
    place: str

    async def state(self, conversation_id: str) -> SessionState:
        state = await self.sessions.get_session(conversation_id)
        if state is None:
            raise _unknown(conversation_id, self)
        return state


def _with_store(
    config: Path | None, flags: dict[str, str | bool], work: Callable[[_Store], Awaitable[int]]
) -> int:
    from opusagent.config import load
    from opusagent.observability import configure_logging

    settings = load(flags, file=config)
    configure_logging(settings)

    async def main() -> int:
        async with _opened(settings) as store:
            try:
                return await work(store)
            except StorageUnavailable as error:
                raise StorageUnavailable(f"session store {store.place}: {error}") from error
            except SessionUnreadable as error:
                raise OpusAgentError(f"the session cannot be read: {error}") from error

    return asyncio.run(main())


@contextlib.asynccontextmanager
async def _opened(settings: Any) -> AsyncIterator[_Store]:
    from opusagent.services.session_manager_service import SessionManagerService
    from opusagent.session_storage.opening import open_storage
    from opusagent.store import storage_place, storage_settings

    kept_in = storage_settings(settings)
    if not kept_in.outlives_us:
        raise ConfigError(
            "REDIS_URL, SESSION_STORE_DIR: neither is set, and sessions in memory die with the process"
        )
    storage = open_storage(kept_in)
    try:
        yield _Store(storage, SessionManagerService(storage), storage_place(storage))
    finally:
        await storage.close()


def _unknown(conversation_id: str, store: _Store) -> OpusAgentError:
    return OpusAgentError(f"no session {_printable(conversation_id)} in {store.place}")


def _printable(value: object) -> str:
    """A value from outside as one line that leaves the terminal alone."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _show_table(rows: list[dict[str, Any]], place: str) -> None:
    """Show a line for each session; however wide the terminal, no id is cut."""
    columns = ("id", "status", "tenant", "agent", "last_activity", "turns", "resumed_count")
    lines = [[_printable(row.get(name, "")) for name in columns] for row in rows]
    if lines:
        lines.insert(0, [name.replace("_", " ") for name in columns])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(padded).rstrip())
    typer.echo(f"{len(rows)} in {place}")


def _write_private(path: Path, text: str) -> None:
    """Write a file for its owner only, whatever was there before."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, 0o600)
        file.write(text)
