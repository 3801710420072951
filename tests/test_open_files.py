from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from resource import RLIM_INFINITY

import pytest

from opusagent.open_files import Allowed, for_calls


@pytest.mark.parametrize(
    ("calls", "soft", "hard", "files", "needed"),
    [
        (40, 1024, 524_288, 1024, 340),
        (1000, 1024, 524_288, 6100, 6100),
        (1000, 1024, RLIM_INFINITY, 6100, 6100),
        (1000, 1024, 4096, 4096, 6100),
        (1000, RLIM_INFINITY, RLIM_INFINITY, 6100, 6100),
        (10**25, 1024, RLIM_INFINITY, 1 << 20, 1 << 20),
    ],
)
def test_the_limit_is_what_calls_need_as_far_as_the_system_lets_it(
    calls: int, soft: int, hard: int, files: int, needed: int
) -> None:
    assert for_calls(calls, soft=soft, hard=hard) == Allowed(files, needed)


def test_too_few_are_said_in_words() -> None:
    assert for_calls(40, soft=1024, hard=1024).warning is None
    words = for_calls(1000, soft=1024, hard=4096).warning
    assert words is not None
    assert words.startswith("ulimit -n is 4096: SESSION_MAX_CONCURRENT calls may need 6100 ")


@pytest.mark.parametrize(("hard", "then"), [(700, "700"), (300, "300")])
def test_the_process_s_own_limit_is_raised(hard: int, then: str) -> None:
    code = (
        "import resource as r\n"
        "from opusagent.open_files import allow_open_files\n"
        f"r.setrlimit(r.RLIMIT_NOFILE, (64, {hard}))\n"
        "allow_open_files(100)\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == then


def test_a_system_that_does_not_let_it_leaves_it_as_it_was() -> None:
    code = (
        "import resource as r\n"
        "from opusagent.open_files import allow_open_files\n"
        "def refuse(*_): raise ValueError('current limit exceeds maximum limit')\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 700))\n"
        "print(allow_open_files(100, set_limits=refuse).files)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "64"


def test_a_bridge_that_may_open_too_few_says_so_at_the_start(tmp_path: Path) -> None:
    code = (
        "import resource as r, sys\n"
        "from opusagent.cli import main\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 64))\n"
        "sys.exit(main(['serve']))"
    )
    nowhere = str(tmp_path / "none")
    variables = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
    variables |= {"AWS_EC2_METADATA_DISABLED": "true", "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=variables
    )
    assert ran.returncode == 2
    assert "ulimit -n is 64" in ran.stderr
