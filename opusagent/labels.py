"""Names from outside as labels of metrics, in a number that no peer can make grow."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["KnownLabels"]

_LABEL: Final = re.compile(r"[\w.\-/]{1,64}", re.ASCII)


class KnownLabels:
    """Names from outside as label values: the first `limit` of each kind, then `other`."""

    def __init__(self, limit: int = 50) -> None:
        self._limit = limit
        self._seen: set[tuple[str, str]] = set()

    def label(self, kind: str, name: str) -> tuple[str, bool]:
        """The label for `name`, and whether it is the first time that this label is given."""
        label = name if _LABEL.fullmatch(name) else "invalid"
        if (kind, label) in self._seen:
            return label, False
        if sum(known == kind for known, _ in self._seen) >= self._limit:
            label = "other"
        is_new = (kind, label) not in self._seen
        self._seen.add((kind, label))
        return label, is_new
