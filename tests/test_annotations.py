"""Every public function says what it takes and returns, as `py.typed` promises."""

import ast

import pytest

from test_imports import modules


def incomplete(body, within_class=False):
    """Yields names of public functions that lack annotations, and what lacks them."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from incomplete(node.body, within_class=True)
        if not isinstance(node, ast.FunctionDef):
            continue
        public = not node.name.startswith("_") or within_class and "__" in node.name
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args][within_class:]
        collecting = filter(None, [arguments.vararg, arguments.kwarg])
        every = [*positional, *arguments.kwonlyargs, *collecting]
        missing = [each.arg for each in every if each.annotation is None]
        missing += ["return"] if node.returns is None else []
        if public and missing:
            yield node.name, missing


def test_public_functions_have_annotations():
    found = {
        name: list(incomplete(ast.parse(path.read_text(encoding="utf-8")).body))
        for name, path in modules().items()
    }
    assert {name: functions for name, functions in found.items() if functions} == {}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("def f(a: int) -> int: ...", []),
        ("def f(a, *, b: int): ...", [("f", ["a", "return"])]),
        ("def _f(a): ...", []),
        ("class A:\n  def f(self, **k) -> int: ...", [("f", ["k"])]),
        ("class A:\n  def __init__(self, a) -> None: ...", [("__init__", ["a"])]),
        ("class _A:\n  def f(self): ...", []),
    ],
)
def test_what_is_missing_is_found(source, expected):
    assert list(incomplete(ast.parse(source).body)) == expected
