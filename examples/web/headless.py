"""Open the page in headless Chromium and take its figures; Chromium, and npm install in this folder, are needed."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import urlencode

PAGE = Path(__file__).parent

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """The path of Chromium; empty where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), "")


def is_ready() -> bool:
    """True where Chromium and onnxruntime-web are at hand."""
    return bool(browser()) and (PAGE / "node_modules/onnxruntime-web").is_dir()


class _Handler(SimpleHTTPRequestHandler):
    """Serves the page, and the files under ``/given``; takes the report."""

    def __init__(self, *args: Any, files: Mapping[str, Path], reports: Queue[dict[str, Any]], **more: Any) -> None:
        self.files, self.reports = files, reports
        super().__init__(*args, **more)

    def guess_type(self, path: Any) -> str:
        types = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        return types.get(Path(path).suffix) or super().guess_type(path)

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].removeprefix("/given/")
        return str(self.files[name]) if name in self.files else super().translate_path(path)

    def do_POST(self) -> None:
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def figures(files: Mapping[str, Path], *, count: int = 16, repeats: int = 30, timeout: float = 120) -> dict[str, Any]:
    """The result of the page for ``files``: ``float``, ``int8`` and ``samples``.

    Raises:
        TimeoutError: the browser gave none in ``timeout`` seconds.
    """
    reports: Queue[dict[str, Any]] = Queue()
    handler = partial(_Handler, directory=str(PAGE), files=files, reports=reports)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, TemporaryDirectory() as profile:
        Thread(target=server.serve_forever, daemon=True).start()
        query = urlencode(
            {**{name: f"given/{name}" for name in files}, "report": "report", "count": count, "repeats": repeats}
        )
        address = f"http://127.0.0.1:{server.server_address[1]}/index.html?{query}"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        opened = subprocess.Popen([browser(), *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return reports.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"no figures from {browser()} in {timeout:g} seconds") from None
        finally:
            opened.terminate()
            opened.wait()
            server.shutdown()
