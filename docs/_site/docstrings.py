"""Docstrings call their examples `Example`; the reader of docstrings knows `Examples` as code."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Let examples of docstrings be shown as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of examples of one object."""
        if obj.docstring is not None:
            lines = obj.docstring.value.splitlines()
            renamed = ["Examples:" if line == "Example:" else line for line in lines]
            obj.docstring.value = "\n".join(renamed)
