"""What a long conversation costs in the store: how fast it is taken up, and how large it is."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from opusagent.clock import SystemClock
from opusagent.models.session_state import ConversationItem, SessionState
from opusagent.services.saver import NoMeter
from opusagent.services.session_manager_service import Resumed, SessionManagerService
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.redis_storage import RedisSessionStorage
from opusagent.simulators.valkey import LocalValkey

__all__ = ["Stored", "long_session", "measure_stored"]

HISTORY_BYTES: Final = 40_000

_SAID: Final = (
    "I would like to know what happened to my order {n}.",
    "It was placed on the {n} of last month, from the shop in {city}.",
    "No, the parcel has not arrived, and the neighbours have not seen it either.",
    "Could you please look up the address, I moved to {city} in spring.",
    "The number of my account is {n}, and the one before it was {m}.",
    "Yes, that is right.",
    "And how much would it cost to send it again by express?",
    "Thank you, then please call me back on {m} after five o'clock.",
    "I have another question about my last bill, it says {n} euros.",
    "That cannot be right, I cancelled the insurance weeks ago.",
)
_ANSWERED: Final = (
    "Of course, I can help you with that. May I have the number of your order?",
    "Thank you. I see order {n}, it left our warehouse in {city} two days later.",
    "I am sorry to hear that. The carrier says that it was handed over at {m}.",
    "I have changed the address in our system. Is there anything else that I should note?",
    "Let me repeat that to be sure: your account is {n}. Is that correct?",
    "Sending it again by express costs {n} euros, and it arrives the next working day.",
    "I have noted that somebody calls you back. Your reference is {m}.",
    "I see the bill. The insurance was cancelled on the {n}, so one month is still charged.",
    "I have asked my colleagues to take that off your bill. You will get a letter from {city}.",
    "You are welcome. Is there anything else that I can do for you today?",
)
_CITIES: Final = ("Hamburg", "Lisbon", "Leeds", "Turin", "Aarhus", "Ghent", "Krakow", "Porto")


@dataclass(frozen=True, slots=True)
class Stored:
    """Times in milliseconds, sizes in bytes."""

    loads: int
    load_ms: list[float]
    history_bytes: int
    plain_bytes: int
    compressed_bytes: int


def long_session(conversation_id: str, n_bytes: int = HISTORY_BYTES) -> SessionState:
    """A conversation of so many bytes of text, as people and bots talk."""
    now = SystemClock().utcnow()
    chance = random.Random(7)  # noqa: S311 - not for secrets
    items: list[ConversationItem] = []
    size = 0
    for number in itertools.count():
        lines = _SAID if number % 2 == 0 else _ANSWERED
        text = " ".join(chance.sample(lines, chance.randint(1, 3))).format(
            n=chance.randint(1, 99_999), m=chance.randint(10**6, 10**9), city=chance.choice(_CITIES)
        )
        size += len(text.encode())
        if size > n_bytes:
            break
        kind = "input" if number % 2 == 0 else "output"
        at = now + timedelta(seconds=4.7 * number, microseconds=chance.randint(0, 10**6))
        items.append(ConversationItem.model_validate({"type": kind, "text": text, "at": at}))
    return SessionState(
        conversation_id=conversation_id,
        created_at=now,
        last_activity=now,
        conversation_history=items,
        current_turn=sum(item.type == "input" for item in items),
    )


class _Loads(NoMeter):
    def __init__(self) -> None:
        self.ms: list[float] = []

    def loaded(self, seconds: float) -> None:
        self.ms.append(seconds * 1000)


async def measure_stored(n_loads: int = 300) -> Stored:
    """Take a long conversation up again and again, as another process would."""
    session = long_session("long")
    loads = _Loads()
    async with LocalValkey() as valkey:
        storage = RedisSessionStorage(valkey.url)
        service = SessionManagerService(storage, meter=loads)
        await storage.store_session("long", session.to_dict())
        for _ in range(n_loads):
            verdict = await service.take_up("long")
            assert isinstance(verdict, Resumed)
        await storage.close()
    document = session.to_dict()
    return Stored(
        loads=n_loads,
        load_ms=loads.ms,
        history_bytes=sum(len(item.text.encode()) for item in session.conversation_history),
        plain_bytes=len(Codec().encode("long", document)),
        compressed_bytes=len(Codec(compress=True).encode("long", document)),
    )
