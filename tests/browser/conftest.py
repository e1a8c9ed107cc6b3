"""Chromium, a fake widget host, and a real JupyterLab: shared by the browser tests.

One browser and one JupyterLab per session, one page per test. Without Chromium the tests skip with
the reason, except under ``CI=true``, where that is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest

import coreml_lab

# Test modules share what they play to the page.
sys.path.insert(0, str(Path(__file__).parent))

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# Read now: the environment of the tests themselves has no such variables.
CHROMIUM = os.environ.get("COREML_LAB_CHROMIUM")
PICTURES = os.environ.get("COREML_LAB_PICTURES")
START_TIMEOUT = 60.0
# Kernels of notebooks that nobody looks at would slow down those of the tests that follow.
SHUT = "void jupyterapp.shell.currentWidget?.context?.sessionContext?.shutdown()"
IDLE = (
    "window.jupyterapp?.shell.currentWidget?.context?.sessionContext"
    "?.session?.kernel?.status === 'idle'"
)


def find_chromium() -> str | None:
    """The browser to test with: ``COREML_LAB_CHROMIUM``, or the first one that is installed."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    installed = [path for path in APPLICATIONS if Path(path).is_file()]
    return next(iter([CHROMIUM] if CHROMIUM else found + installed), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium with a fresh profile."""
    chromium = find_chromium()
    if chromium is None:
        message = f"no Chromium: none of {', '.join(NAMES)} is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, headless=True, args=ARGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go; ``COREML_LAB_PICTURES`` names a folder to keep them."""
    folder = Path(PICTURES) if PICTURES else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Lab:
    """A running JupyterLab: its address, its token, and the folder it serves."""

    url: str
    token: str
    root: Path
    log: Path


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab for all tests of the session."""
    with serve_lab(tmp_path_factory.mktemp("lab")) as served:
        yield served


@contextlib.contextmanager
def serve_lab(home: Path) -> Iterator[Lab]:
    """JupyterLab on loopback, with a token, a free port and folders of its own."""
    root = home / "root"
    root.mkdir()
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), root, home / "lab.log")
    with served.log.open("w") as log:
        process = subprocess.Popen(
            _lab_command(served, port), stdout=log, stderr=log, env=os.environ | _lab_folders(home)
        )
    try:
        _wait_until_up(served, process)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lab_command(served: Lab, port: int) -> list[str]:
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": served.root,
        "IdentityProvider.token": served.token,
        "LabApp.expose_app_in_browser": True,
        "LabApp.extension_manager": "readonly",
        "LabApp.news_url": None,
        "JupyterNotebookApp.expose_app_in_browser": True,
    }
    return [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())]


def _lab_folders(home: Path) -> dict[str, str]:
    names = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    # The kernel imports the package that is tested, installed or not.
    package = {"PYTHONPATH": str(Path(coreml_lab.__file__).parent.parent)}
    return package | {variable: str(home / folder) for variable, folder in names.items()}


def _wait_until_up(served: Lab, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{served.url}/api", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{served.log.read_text()[-4000:]}")


@dataclass
class NotebookPage:
    """A notebook in a tab: opened, run, looked at.

    Attributes:
        errors: what scripts of the page raised.
    """

    page: Any
    lab: Lab
    errors: list[str] = field(default_factory=list)

    def open(self, cells: list[str], name: str = "", app: str = "lab") -> None:
        """Write a notebook of code cells and open it with a kernel that is ready.

        Args:
            app: ``lab`` for JupyterLab, ``notebooks`` for Notebook 7.
        """
        name = name or f"{uuid.uuid4().hex[:8]}.ipynb"
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(c) for c in cells],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}
            },
        )
        nbformat.write(made, self.lab.root / name)
        self.goto(name, app)

    def goto(self, name: str, app: str = "lab") -> None:
        """Open a notebook of the served folder, in a workspace without other tabs."""
        self.page.on("pageerror", lambda error: self.errors.append(str(error.stack or error)))
        place = f"lab/workspaces/{uuid.uuid4().hex}/tree" if app == "lab" else app
        self.page.goto(f"{self.lab.url}/{place}/{name}?token={self.lab.token}")
        self.page.wait_for_function(IDLE, timeout=90_000)

    def run_all(self) -> None:
        """Start running all cells; does not wait for them."""
        self.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")

    def wait_for_output(self, text: str, timeout: float = 60.0) -> None:
        """Wait until some output begins with ``text``."""
        self.page.wait_for_function(
            "text => [...document.querySelectorAll('.jp-OutputArea-output')]"
            ".some(e => e.innerText.startsWith(text))",
            arg=text,
            timeout=timeout * 1000,
        )

    def kernel_errors(self) -> list[str]:
        """Tracebacks and what was written to stderr."""
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        chosen = ", ".join(f".jp-OutputArea-output[data-mime-type='{kind}']" for kind in kinds)
        texts: list[str] = self.page.locator(chosen).all_inner_texts()
        return texts


@pytest.fixture(scope="session")
def tabs(browser: Any) -> Iterator[Any]:
    """One browser context for all notebooks: JupyterLab's own scripts are loaded once."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    # A machine that does other work is slow, not broken.
    context.set_default_timeout(90_000)
    yield context
    context.close()


@contextlib.contextmanager
def opened(tabs: Any, lab: Lab, picture: Path) -> Iterator[NotebookPage]:
    """A page for one notebook, whose last sight is kept; its kernel ends with it."""
    page = tabs.new_page()
    made = NotebookPage(page, lab)
    try:
        yield made
    finally:
        page.screenshot(path=picture)
        with contextlib.suppress(Exception):
            page.evaluate(SHUT)
        page.close()


@pytest.fixture
def notebook(tabs: Any, lab: Lab, pictures: Path, request: Any) -> Iterator[NotebookPage]:
    """A page for one notebook."""
    with opened(tabs, lab, pictures / f"{request.node.name}.png") as made:
        yield made


@pytest.fixture(scope="module")
def shared(tabs: Any, lab: Lab, pictures: Path, request: Any) -> Iterator[NotebookPage]:
    """A page for one notebook that the tests of a module look at, one after the other."""
    with opened(tabs, lab, pictures / f"{request.module.__name__}.png") as made:
        yield made


HOST = """async ([source, style, state]) => {
  document.head.append(Object.assign(document.createElement('style'), {textContent: style}));
  const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
  const made = (await import(url)).default;
  const widget = typeof made === 'function' ? await made() : made;
  const heard = {}; const sent = [];
  const model = {
    get: k => state[k], set(k, v) { state[k] = v; (heard['change:' + k] ?? []).forEach(f => f()); },
    save_changes() {}, send: m => sent.push(m),
    on: (e, f) => (heard[e] ??= []).push(f),
    off: (e, f) => { heard[e] = (heard[e] ?? []).filter(g => g !== f); },
  };
  const end = new AbortController();
  await widget.initialize?.({model, signal: end.signal});
  const el = document.createElement('div');
  (document.querySelector('#cell') ?? document.body).append(el);
  await widget.render({model, el, signal: end.signal});
  const drawn = []; el.addEventListener('cml:drawn', e => drawn.push(e.detail));
  const emit = (header, numbers) => (heard['msg:custom'] ?? []).forEach(
    f => f(header, [new DataView(new Float64Array(numbers.map(v => v ?? NaN)).buffer)]));
  globalThis.host = {model, heard, sent, el, end, emit, drawn,
    event: name => (heard[name] ?? []).forEach(f => f())};
}"""


@pytest.fixture
def host(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the widget's own script in a page that plays the host: no Jupyter, no kernel."""
    from coreml_lab.widgets.dashboard import bundle

    contexts = []

    def open_widget(
        state: dict[str, Any], *, body: str = "", width: int = 1120, **options: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(90_000)
        contexts.append(context)
        page = context.new_page()
        page.set_content(body or '<body style="margin:0"><div id="cell"></div></body>')
        files = [bundle(name).read_text() for name in ("dashboard.js", "dashboard.css")]
        page.evaluate(HOST, [*files, state])
        return page

    yield open_widget
    for context in contexts:
        context.close()
