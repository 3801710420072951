"""Why something could not be reached, in words that cannot be a caller's."""

from __future__ import annotations

__all__ = ["kind_of"]


def kind_of(error: BaseException) -> str:
    """What kind of error it is, and what the system or TLS says of it.

    Its own words are left out: they may have an address in them, and so arguments and tokens.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    root: BaseException | None = error
    while root is not None:
        told = getattr(root, "verify_message", None) or getattr(root, "strerror", None)
        if isinstance(told, str):
            return f"{type(error).__name__}: {told}"
        root = root.__cause__ or root.__context__
    return type(error).__name__
