"""The page of a rollout, live, for this machine alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

from kanbatsu.report.language import Language
from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.pages.page import deadline_in, open_journal, render

ADDRESS = "127.0.0.1"
"""Where the page is served: nobody but this machine can reach it."""

REFRESH = 5
"""Seconds after which a browser loads the page again."""

HOSTS = ("127.0.0.1", "localhost")
"""Names under which a browser may ask: another site's page must not read this one."""


class ServeError(RolloutError):
    """A page that cannot be served; the message says why and what to do."""


class Live:
    """A server of the page, at `/` in the language it was begun with, and at `/en` and `/ja`.

    Each request reads what the journal has got since the one before.

    Example:
        >>> import tempfile, urllib.request
        >>> out = Path(tempfile.mkdtemp())
        >>> (out / "journal").mkdir()
        >>> with Live(out) as live:
        ...     urllib.request.urlopen(live.address).status
        200
    """

    def __init__(self, out: Path, port: int = 0, lang: Language = "en") -> None:
        """Begin to serve, from threads of its own, until `close`.

        Args:
            out: folder of the rollout.
            port: port; 0 takes a free one.
            lang: language of the page at `/`.

        Raises:
            FileNotFoundError: The folder holds no journal.
            ServeError: The port is taken, or not allowed.
        """
        self._out, self._lang = out, lang
        self._reader, self._overview = open_journal(out)
        self._reading = threading.Lock()
        try:
            self._server = ThreadingHTTPServer((ADDRESS, port), _handler(self.page))
        except OSError as error:
            raise ServeError(
                f"the page cannot be served on {ADDRESS}:{port} ({error}): give another port"
            ) from error
        self.address = f"http://{ADDRESS}:{self._server.server_port}/"
        """Address of the page."""
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def page(self, path: str) -> str | None:
        """Return the page at a path; None where there is none."""
        languages: tuple[Language, ...] = get_args(Language)
        wanted = {"/": self._lang, **{f"/{lang}": lang for lang in languages}}.get(path)
        if wanted is None:
            return None
        with self._reading:
            self._overview.add(self._reader.new())
            return render(
                self._overview,
                self._out.resolve().name,
                wanted,
                deadline_in(self._out),
                self._reader.notes,
                REFRESH,
            )

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _handler(page: Callable[[str], str | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            html = page(self.path) if host in HOSTS else None
            body = (html or "not here").encode()
            self.send_response(404 if html is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002
            """Say nothing: a terminal is for what matters."""

    return Handler
