"""One promise of a published design, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Promise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One promise.

    Attributes:
        says: What is promised.
        tests: What shows it, each `path::name` from the folder of the tests.
        departed: Why it is not kept as it stands; empty where it is.
        pending: Whether what shows it, or a part of it, is still missing.
    """

    says: str
    tests: tuple[str, ...] = ()
    departed: str = ""
    pending: bool = False
