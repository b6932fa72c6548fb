"""Answers: statistics, figures and the page, from the files of a study alone.

`read` returns the results of a study for whoever works in Python or in a notebook.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanbatsu.report.reading import Results, read
    from kanbatsu.report.records import Records

__all__ = ["Records", "Results", "read"]

if not TYPE_CHECKING:  # a checker that saw this function would accept any name

    def __getattr__(name: str) -> Any:
        homes = {"Records": "records", "Results": "reading", "read": "reading"}
        if name in homes:
            return getattr(importlib.import_module(f"kanbatsu.report.{homes[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
