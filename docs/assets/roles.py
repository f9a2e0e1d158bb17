"""Sphinx's roles in docstrings, such as :class:`Trained`, as plain code."""

import re

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites the docstrings of every object that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called once per object."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
