"""The same examples on every machine and in every run, and the tests that wait for real time first."""

from __future__ import annotations

import os
import sys
from typing import Final

import pytest
from hypothesis import settings

settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.load_profile("steady")

# The tests start more than a hundred processes, and each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

IN_REAL_TIME: Final = ("demo", "end_to_end", "packaging", "bench", "test_serving", "test_cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what mostly waits, so that another worker computes meanwhile and neither is last alone."""
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(IN_REAL_TIME))
