"""Users' modules: what is loaded of a file, and what goes on where it changes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest
import structlog

from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.observability import configure_logging
from opusagent.tools.modules import load_module, load_source, source_of


def test_a_module_is_loaded_once_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text("from __future__ import annotations\nX = []\n", encoding="utf-8")
    module = load_module(str(path))
    assert load_module(str(path)) is module
    assert load_module("json").__name__ == "json"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.py", "there is no such file"),
        ("no_such_module", "ModuleNotFoundError"),
        ("broken.py", r"ZeroDivisionError: division by zero \(broken\.py, line 2\)$"),
        ("no_python.py", r"SyntaxError: '\(' was never closed \(no_python\.py, line 1\)$"),
        ("far_away.py", r"JSONDecodeError: .* \(far_away\.py, line 3\)$"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_refused_with_the_reason(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("\n1 / 0", encoding="utf-8")
    (tmp_path / "no_python.py").write_text("X = (", encoding="utf-8")
    (tmp_path / "far_away.py").write_text("import json\n\njson.loads('')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # a module that failed is not taken for loaded
        with pytest.raises(ConfigError, match=words):
            load_module(name)


def test_a_file_imports_what_is_beside_it_and_hides_nothing_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "orders_beside.py").write_text("X = 1\n", encoding="utf-8")
    (tmp_path / "colorsys.py").write_text("X = 1\n", encoding="utf-8")
    path = tmp_path / "orders.py"
    path.write_text("import colorsys, orders_beside\nX = orders_beside.X\n", encoding="utf-8")
    module = load_module(str(path))
    assert module.X == 1
    assert hasattr(module.colorsys, "rgb_to_hsv")


def test_what_is_beside_another_file_does_not_come_in_place_of_what_is_beside_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    bank, shop = tmp_path / "bank", tmp_path / "shop"
    for folder in (bank, shop):
        folder.mkdir()
        (folder / "client_of_shop.py").write_text(f"KEY = '{folder.name}'\n", encoding="utf-8")
        (folder / "unused.py").write_text("1 / 0", encoding="utf-8")
    (shop / "helper_of_shop.py").write_text("import client_of_shop\n", encoding="utf-8")
    mine = bank / "tools.py"
    mine.write_text(
        "def key():\n    import client_of_shop as x\n    return x.KEY\n", encoding="utf-8"
    )
    assert load_module(str(mine)).key() == "bank"
    path = shop / "tools.py"
    for through in ("client_of_shop", "helper_of_shop"):
        path.write_text(f"import json, {through}, os.path\n", encoding="utf-8")
        with pytest.raises(
            ConfigError, match=r"bank/client_of_shop\.py has that name; call .*/shop/"
        ):
            load_module(str(path))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "client_of_shop", ModuleType("client_of_shop"))
        assert load_module(str(path), again=True).json is json
    (bank / "client_of_shop.py").unlink()  # it is no more, as where mounted files were replaced
    path.write_text("import client_of_shop, json\n", encoding="utf-8")
    assert load_module(str(path), again=True).json is json


def test_a_file_may_run_a_loop_of_its_own_wherever_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text(
        "import asyncio\n\nasync def x():\n    return 1\n\nX = asyncio.run(x())\n", encoding="utf-8"
    )

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert load_module(str(path)).X == 1
        assert asyncio.get_running_loop() is loop

    asyncio.run(main())


LOUD = """
import logging
import sys

import structlog

print("loaded")
structlog.configure(processors=[structlog.processors.JSONRenderer()])
logging.basicConfig(level=logging.DEBUG, force=True)
logging.getLogger().setLevel(logging.DEBUG)
logging.getLogger(__name__).setLevel(logging.INFO)
"""


@pytest.mark.usefixtures("logging_as_it_was")
def test_what_a_file_prints_and_sets_up_as_it_is_loaded_changes_nothing_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)
    path = tmp_path / "orders.py"
    path.write_text(LOUD, encoding="utf-8")
    module = load_module(str(path))
    assert capsys.readouterr() == ("", "loaded\n")
    logging.getLogger("websockets.server").debug("Authorization: Bearer hunter2")
    assert log.getvalue() == ""
    logging.getLogger("websockets.server").warning("a warning")
    structlog.get_logger().info("a line", pii={"said": "4711"})
    assert "4711" not in log.getvalue()
    logging.getLogger(module.__name__).info("of its own")
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == [
        "a warning",
        "a line",
        "of its own",
    ]


@pytest.mark.usefixtures("logging_as_it_was")
def test_where_no_log_was_set_up_a_file_may_do_so(tmp_path: Path) -> None:
    root = logging.getLogger()
    root.handlers.clear()
    structlog.reset_defaults()
    path = tmp_path / "orders.py"
    path.write_text(LOUD, encoding="utf-8")
    load_module(str(path))
    assert (root.level, len(root.handlers)) == (logging.DEBUG, 1)
    assert structlog.is_configured()


def test_what_a_file_defines_can_be_pickled(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Order:\n    id: str\n",
        encoding="utf-8",
    )
    order = load_module(str(path)).Order("4527")
    assert pickle.loads(pickle.dumps(order)) == order


def test_a_file_that_has_changed_is_loaded_anew_for_who_asks(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text("X = 1\n", encoding="utf-8")
    first = load_module(str(path))
    assert load_module(str(path), again=True) is first
    stamp = path.stat()
    path.write_text("X = 2\n", encoding="utf-8")  # as long as before, and within the same second
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert load_module(str(path)) is first
    assert load_module(str(path), again=True).X == 2
    assert load_module(str(path)).X == 2
    assert source_of(str(path)) == "X = 2\n"
    assert not (tmp_path / "__pycache__").exists()


def test_a_file_that_is_only_written_again_is_not_loaded_anew(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text("X = []\n", encoding="utf-8")
    first = load_module(str(path))
    os.utime(path, ns=(0, 0))
    assert load_module(str(path), again=True) is first


@pytest.mark.parametrize(
    "text", ["X = (", "raise RuntimeError('no')", "raise SystemExit('no')", "\xff\xfe", None]
)
def test_of_a_file_that_is_broken_what_was_loaded_goes_on(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "orders.py"
    source = (
        "from dataclasses import dataclass\n\ndef make(): return dataclass(type('A', (), {}))\n"
    )
    path.write_text(source, encoding="utf-8")
    first = load_module(str(path))
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="latin-1")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"orders\.py"):
            load_module(str(path), again=True)
        assert load_module(str(path)) is first
        assert source_of(str(path)) == source
    assert first.make()
    path.write_text("X = 3", encoding="utf-8")
    assert load_module(str(path), again=True).X == 3


def test_a_text_can_be_loaded_that_is_not_what_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text("X = (", encoding="utf-8")
    load_source(str(path), "X = 1")
    assert load_module(str(path)).__file__ == str(path)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        load_source(str(path), "1 / 0")
    assert load_module(str(path)).__file__ == str(path)


def test_a_module_by_its_dotted_name_is_loaded_once() -> None:
    module = load_module("json")
    assert load_module("json", again=True) is module
    assert source_of("json") is None
