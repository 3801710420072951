from __future__ import annotations

import pytest

from tests.call.driver import CallDriver


@pytest.fixture
def call() -> CallDriver:
    """A call that nobody has answered yet; the bot waits for the caller."""
    return CallDriver()


@pytest.fixture
def talking() -> CallDriver:
    """A call with a live stream and an open microphone; the bot waits for the caller."""
    driver = CallDriver()
    driver.answer()
    return driver
