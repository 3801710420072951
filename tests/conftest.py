"""What all tests share: the same examples in every run, an order that is quick, logging that is given back."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import Final

import pytest
import structlog
from hypothesis import settings

# What fails once fails again, on every machine.
settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.load_profile("steady")

# The tests start more than a hundred processes, and each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

IN_REAL_TIME: Final = ("demo", "end_to_end", "packaging", "bench", "test_serving", "test_cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what mostly waits, so that another worker computes meanwhile and neither is last alone."""
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(IN_REAL_TIME))


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """For a test that configures logging: the next one finds it as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # or `force` would close pytest's own
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
