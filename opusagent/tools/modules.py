"""Users' modules, and the tools in them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import os
import sys
import traceback
from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, override

import structlog

from opusagent.errors import ConfigError
from opusagent.tools import ToolRegistry
from opusagent.tools.tool import Tool

__all__ = [
    "FileStamp",
    "file_stamp",
    "load_module",
    "load_source",
    "source_of",
    "staying_here",
    "tools_in",
]

type FileStamp = tuple[int, int, int] | None


def file_stamp(path: Path) -> FileStamp:
    """What changes with a file's content; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file as it was loaded last without an error."""

    stamp: FileStamp
    source: str
    module: ModuleType


_loaded: Final[dict[Path, _Loaded]] = {}
_folders: Final[set[Path]] = set()
"""Of files that were loaded."""


def tools_in(module: str, *, again: bool = False) -> dict[str, Tool]:
    """The functions that the registries of a module have decorated, by name, in order.

    Args:
        module: As of `load_module`.
        again: As of `load_module`.

    Raises:
        ConfigError: If the module cannot be loaded, or has none.
    """
    found = vars(load_module(module, again=again)).values()
    registries = [item for item in found if isinstance(item, ToolRegistry)]
    tools = {tool.spec.name: tool for registry in registries for tool in registry.tools}
    if not tools:
        raise ConfigError(f"{module}: has no function that a ToolRegistry decorates")
    return tools


def load_module(name: str, *, again: bool = False) -> ModuleType:
    """A module by its dotted name, or by the path of its `.py` file; each is loaded once.

    Args:
        name: Of the module.
        again: Whether a file is looked at again: where its text has changed since, it is loaded anew. Where
            that fails, who does not ask for it goes on getting what was loaded before.

    Raises:
        ConfigError: If there is none, or it cannot be loaded.
    """
    with _refusing(name):
        if not name.endswith(".py"):
            return importlib.import_module(name)
        return _load_file(Path(name).resolve(), again=again)


def source_of(name: str) -> str | None:
    """The text of the file that `load_module` has loaded; None where it is no file, or not loaded."""
    loaded = _loaded.get(Path(name).resolve())
    return None if loaded is None else loaded.source


def load_source(name: str, source: str) -> None:
    """Load a file's text as another process has read it; from then on it is what `load_module` gives.

    Raises:
        ConfigError: If it cannot be loaded.
    """
    path = Path(name).resolve()
    with _refusing(name):
        _loaded[path] = _Loaded(None, source, _run_body(path, source))


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        with _undisturbed():
            yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # a user's module may do anything
        reason = f"{type(error).__name__}: {error}{_place(error, name)}"
        raise ConfigError(f"{name}: cannot be loaded: {reason}") from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What a module does as it is loaded changes nothing for the process that loads it."""
    loop = _get_running_loop()
    _set_running_loop(None)  # it may run one of its own
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    lines = structlog.get_config() if structlog.is_configured() else None
    try:
        with redirect_stdout(sys.stderr):  # standard output has a reader who waits for READY
            yield
    finally:
        _set_running_loop(loop)
        if handlers:  # below the level that was set libraries log payloads and credentials
            root.setLevel(level)
            root.handlers[:] = handlers
        if lines is not None:  # ours leaves out what is private
            structlog.configure(**lines)


@contextmanager
def staying_here() -> Iterator[None]:
    """A module may go to another folder as it is loaded; paths of the bridge stay where they are."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        yield
        return
    try:
        yield
    finally:
        os.chdir(here)


def _place(error: BaseException, name: str) -> str:
    """Where in a file it happened, as a `SyntaxError` says it; that says it itself."""
    path = Path(name).resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f" ({path.name}, line {lines[-1]})" if lines else ""


def _load_file(path: Path, *, again: bool) -> ModuleType:
    loaded = _loaded.get(path)
    if loaded is not None and not again:
        return loaded.module
    stamp = file_stamp(path)  # before it is read: what changes meanwhile is seen next time
    if loaded is None or stamp != loaded.stamp:
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file")
        source = importlib.util.decode_source(path.read_bytes())
        if loaded is not None and source == loaded.source:
            loaded = replace(loaded, stamp=stamp)
        else:
            loaded = _Loaded(stamp, source, _run_body(path, source))
        _loaded[path] = loaded
    return loaded.module


def _run_body(path: Path, source: str) -> ModuleType:
    # Without a dot, which would make it a part of a package: what the file defines can be pickled.
    name = f"opusagent_tools_of {path}".replace(".", "%")
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)  # last: what is beside the file can be imported, and hides nothing
    _folders.add(path.parent)
    _refuse_twins(path, source, set())
    loader = _Text(name, str(path), source)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and type hints look there
    try:
        loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module


def _refuse_twins(path: Path, source: str, seen: set[str]) -> None:
    """See that nothing is imported from beside another file that is meant from beside this one.

    Python has one module of a name: whoever asked for it first, everybody gets his.
    """
    for name in _imported(ast.parse(source, str(path))) - seen:
        seen.add(name)
        beside = path.parent / f"{name}.py"
        if not beside.is_file():
            continue
        found = _origin(name)
        if found != beside and found.parent in _folders and found.is_file():
            raise ConfigError(
                f"{path}: import {name}: {found} has that name; call {beside} otherwise"
            )
        _refuse_twins(beside, importlib.util.decode_source(beside.read_bytes()), seen)


def _origin(name: str) -> Path:
    """Where a module comes from, or would."""
    with suppress(ValueError):  # it is there and came from nowhere, as those that tests make
        if (spec := importlib.util.find_spec(name)) is not None and spec.origin:
            return Path(spec.origin)
    return Path()


def _imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


class _Text(SourceFileLoader):
    """Loads the text that was read: what Python keeps compiled counts as current for a whole second."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    @override
    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)
