"""What is printed at the end of a proof of concept: where the page is, and how it was decided."""

import io

import pytest
from rich.console import Console

from kanbatsu.poc import command

VERDICT = {
    "decision": "adopt",
    "arm": "thin",
    "control": "dense",
    "effect": {"measure": "mean_difference", "value": 3.0, "interval": [1.0, 5.0]},
}


@pytest.mark.parametrize(("lang", "page"), [("en", "report.html"), ("ja", "report.ja.html")])
def test_the_page_that_was_written_is_named(tmp_path, monkeypatch, lang, page):
    found = {"stage": "confirm", "verdict": VERDICT}
    monkeypatch.setattr(command, "run_poc", lambda *asked: found)
    monkeypatch.setattr(command, "load_poc", lambda path: None)
    printed = io.StringIO()
    asked = command.RunArguments(file=tmp_path / "poc.toml", out=tmp_path, lang=lang)
    assert command.run(asked, Console(file=printed)) == found
    assert f"report: {tmp_path / 'confirm' / page}\n" in printed.getvalue()
