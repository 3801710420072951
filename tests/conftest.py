"""What all tests share: examples that are the same in every run, and logging that is given back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# What fails once fails again, on every machine.
settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.load_profile("steady")


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
