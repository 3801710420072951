"""What an adapter must know of a session without reading it: who owns it, and how old it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from pydantic_core import PydanticSerializationError, to_json

from opusagent.session_storage import Hold

__all__ = ["Envelope", "Watchers"]

_OVER = frozenset({"ended", "error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The outside of a stored session.

    Attributes:
        owner: Who may write.
        owner_epoch: How often it was claimed.
        saved: `last_activity` as the document has it; empty if it has none.
        active_at: When something last happened, a sign of life from the owner included.
        is_over: Whether the conversation has ended.
    """

    owner: str
    owner_epoch: int
    saved: str
    active_at: datetime
    is_over: bool

    @classmethod
    def of(cls, session_data: dict[str, Any], now: datetime) -> Self:
        """The envelope of a document that is about to be stored."""
        epoch = session_data.get("owner_epoch", 0)
        saved = session_data.get("last_activity", "")
        saved = saved if isinstance(saved, str) else ""
        return cls(
            owner=str(session_data.get("owner", "")),
            owner_epoch=epoch if isinstance(epoch, int) else 0,
            saved=saved,
            active_at=_moment(saved) or now,
            is_over=session_data.get("status") in _OVER,
        )

    def claimed_by(self, owner: str) -> Self:
        """The envelope after a claim."""
        return replace(self, owner=owner, owner_epoch=self.owner_epoch + 1)

    def touched(self, now: datetime) -> Self:
        """The envelope after a sign of life."""
        return replace(self, active_at=max(now, self.active_at))

    def judge(self, owner_epoch: int, last_activity: str) -> Hold:
        """What an owner with this epoch learns, whose last write had this `last_activity`."""
        if self.owner_epoch > owner_epoch:
            return Hold.FENCED
        return Hold.KEPT if self.saved == last_activity else Hold.STALE

    def around(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with what has changed since it was written: owner, epoch, sign of life."""
        if self.owner_epoch != document.get("owner_epoch", 0):
            document = {**document, "owner": self.owner, "owner_epoch": self.owner_epoch}
        written = _moment(self.saved)
        if written is not None and self.active_at > written:
            document = {**document, "last_activity": self.active_at.isoformat()}
        return document


class Watchers:
    """Who wants to know of which session's next owner."""

    def __init__(self) -> None:
        self._watching: dict[str, list[Callable[[int], None]]] = {}

    def add(self, conversation_id: str, claimed: Callable[[int], None]) -> Callable[[], None]:
        """Begin; the returned function ends it and may be called twice."""
        self._watching.setdefault(conversation_id, []).append(claimed)

        def remove() -> None:
            watching = self._watching.get(conversation_id, [])
            if claimed in watching:
                watching.remove(claimed)
            if not watching:
                self._watching.pop(conversation_id, None)

        return remove

    def tell(self, conversation_id: str, owner_epoch: int) -> None:
        """Pass a claim on."""
        for claimed in tuple(self._watching.get(conversation_id, ())):
            claimed(owner_epoch)

    def tell_message(self, channel: bytes, data: bytes) -> None:
        """Pass on what came by `handover:ID`; what is no number is left out."""
        if data.isdigit():
            self.tell(channel.partition(b":")[2].decode(errors="replace"), int(data))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def json_of(document: dict[str, Any]) -> bytes:
    """The document as compact UTF-8 JSON."""
    try:
        return to_json(document)
    except PydanticSerializationError:  # half of a surrogate pair, as a model may write it
        return json.dumps(document, separators=(",", ":")).encode()
