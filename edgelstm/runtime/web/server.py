"""Serves the page that runs a model, to this machine only, and takes what it sends back.

The page stands under http://127.0.0.1:PORT/SECRET/, where both change from run to run. It fetches

    page.js, packages/…   the code: ours, and the files of the npm packages @litertjs/…
    plan.json             {"calls": number of calls, "inputs": [names], "sequence": calls after which carried inputs
                          begin anew, "carry": {name of an input: {"output": name of the output whose value of the
                          call before it takes, "begin": the value it begins with}}}
    model.tflite          the model
    input/INDEX           the values of an input of the plan for all calls, bytes in the order of the array

and sends

    output/INDEX          the values of an output for all calls, bytes
    done                  JSON, the answer: {"outputs": [{"name", "dtype", "shape"}] by the indices above,
                          "latencies_ms": [per call], "load_ms", "browser"}, or
                          {"failed": message, "errors": [lines on the console]}
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from edgelstm.runtime.tensors import Array

_HERE = Path(__file__).parent
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".wasm": "application/wasm"}
MAX_SENT_BYTES = 2**31


class PageServer:
    """Serves one run, from `with` to its end.

    Args:
        packages: The folder node_modules/@litertjs.
        model: The content of the file.
        inputs: The inputs by name, shape (calls, *input shape), C-ordered.
        plan: The plan but for its inputs.

    Attributes:
        finished: Set as soon as `answer` is there.
        answer: What the page sent to "done".
        outputs: What it sent to "output", by index.
    """

    def __init__(self, packages: Path, model: bytes, inputs: dict[str, Array], plan: dict[str, Any]) -> None:
        self.finished = threading.Event()
        self.answer: dict[str, Any] = {}
        self.outputs: dict[int, bytes] = {}
        self.nonce = secrets.token_urlsafe(16)
        self._packages = packages.resolve()
        self._arrays = list(inputs.values())
        self._secret = secrets.token_urlsafe(16)
        plan_json = json.dumps({**plan, "inputs": list(inputs)}).encode()
        page = (_HERE / "page.html").read_text("utf-8").replace("NONCE", self.nonce)
        self._fixed: dict[str, tuple[Callable[[], bytes], str]] = {
            "": (page.encode, ".html"),
            "page.js": ((_HERE / "page.js").read_bytes, ".js"),
            "plan.json": (lambda: plan_json, ".json"),
            "model.tflite": (lambda: model, ".tflite"),
        }
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._secret}/"

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def read(self, path: str) -> tuple[bytes, str] | None:
        """Returns what the page fetches and its content type; None where there is nothing."""
        name = self._below_secret(path)
        if name is None:
            return None
        if name in self._fixed:
            content, suffix = self._fixed[name]
            return content(), _TYPES.get(suffix, "application/octet-stream")
        if (index := _index(name, "input")) is not None and index < len(self._arrays):
            return self._arrays[index].tobytes(), "application/octet-stream"
        return self._package_file(name)

    def take(self, path: str, body: bytes) -> bool:
        """Keeps what the page sends; returns whether it was expected."""
        name = self._below_secret(path)
        if name is None or self.finished.is_set():
            return False
        if (index := _index(name, "output")) is not None:
            self.outputs[index] = body
            return True
        if name == "done":
            self.answer = json.loads(body)
            self.finished.set()
        return name == "done"

    def _below_secret(self, path: str) -> str | None:
        start = f"/{self._secret}/"
        return path.removeprefix(start) if path.startswith(start) else None

    def _package_file(self, name: str) -> tuple[bytes, str] | None:
        path = (self._packages / name.removeprefix("packages/")).resolve()
        if not name.startswith("packages/") or not path.is_relative_to(self._packages) or not path.is_file():
            return None
        return path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a connection that a killed browser left open must not keep us

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps quiet: a browser that is killed breaks its connections."""


def _index(name: str, kind: str) -> int | None:
    match = re.fullmatch(rf"{kind}/(\d{{1,4}})", name)
    return int(match[1]) if match else None


def _handler(page: PageServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = page.read(self.path)
            if found is None:
                self.send_error(404)
                return
            content, kind = found
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            # Clocks are exact to 5 us instead of 100 us in pages that are isolated like this.
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.send_header(
                "Content-Security-Policy",
                f"default-src 'self'; script-src 'self' 'wasm-unsafe-eval' 'nonce-{page.nonce}'; img-src data:",
            )
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            taken = length <= MAX_SENT_BYTES and page.take(self.path, self.rfile.read(length))
            self.send_response(204 if taken else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps quiet."""

    return Handler
