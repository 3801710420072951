"""Every promise has a test that exists, or a reason, or is known to be missing."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.requirements import PENDING, PROMISES

TESTS = Path(__file__).parent


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the test functions of a file, as pytest writes them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        names |= {prefix + one.name for one in inner if isinstance(one, functions)}
    return frozenset(names)


@pytest.mark.parametrize(("document", "promises"), [("C", 36), ("S", 21), ("E", 32), ("R", 24)])
def test_no_promise_of_a_document_is_left_out(document: str, promises: int) -> None:
    wanted = [f"{document}{n:02}" for n in range(1, promises + 1)]
    assert [name for name in PROMISES if name[0] == document] == wanted


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_has_a_test_or_a_reason_or_is_known_to_be_missing(name: str) -> None:
    promise = PROMISES[name]
    assert promise.says.endswith(".")
    assert promise.tests or promise.departed or promise.pending


@pytest.mark.parametrize("name", PROMISES)
def test_every_test_that_is_named_exists(name: str) -> None:
    for test in PROMISES[name].tests:
        file, _, function = test.partition("::")
        path = TESTS / file
        assert path.is_file(), f"{name}: there is no {file}"
        assert function in names_in(path), f"{name}: {file} has no {function}"


def test_what_is_missing_is_listed_and_nothing_else_is() -> None:
    assert {name for name, promise in PROMISES.items() if promise.pending} == PENDING
