"""Reads docstrings of Keras' style for mkdocs.yml, as mkdocstrings' google style."""

import importlib
import inspect
import re
import textwrap

import griffe

# A constructor of the zoo completes such a line when it is imported.
_COMPLETED = re.compile(r"^\s*<\w+>$", re.MULTILINE)
# Markdown takes a list for one only behind an empty line.
_LIST = re.compile(r"^((?!\s*- ).*\S)\n(\s*- )", re.MULTILINE)
# What follows these is not indented, so that google's style knows no section here.
_HEADING = re.compile(r"^(Example|References):\n$", re.MULTILINE)
# Google's style has no such sections.
_SHAPE = re.compile(r"^((?:In|Out)put shape):\n((?:    .*\n?|\n)+)", re.MULTILINE)
# These are lines of the interpreter, with what they print.
_DOCTEST = re.compile(r"^>>> .*(?:\n.*\S.*)*", re.MULTILINE)


class KerasDocstrings(griffe.Extension):
    """Has every docstring read as it is meant."""

    def on_object(self, *, obj, **_):
        """Replaces the text of an object's docstring."""
        if obj.docstring is None:
            return
        text = obj.docstring.value
        if _COMPLETED.search(text):
            module = importlib.import_module(obj.module.path)
            text = inspect.getdoc(getattr(module, obj.name))
        text = _LIST.sub(r"\1\n\n\2", text)
        text = _SHAPE.sub(_shape, text)
        text = _HEADING.sub(r"**\1**\n", text)
        obj.docstring.value = _DOCTEST.sub("```pycon\n\\g<0>\n```", text)


def _shape(found):
    return f"**{found[1]}**\n\n{textwrap.dedent(found[2])}"
