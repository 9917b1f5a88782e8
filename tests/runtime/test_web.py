from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime import web
from edgelstm.runtime.engines import ENGINES, run_on, run_sequences_on
from edgelstm.runtime.interpreters import VARIABLE
from edgelstm.runtime.web import explain, installation
from edgelstm.runtime.web.server import PageServer
from tests.lstm_reference import lstm_reference
from tests.runtime import state_free_models as models
from tests.runtime.processes import processes_of
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, TinyModels, lstm_weights

TOLERANCE = 2e-6  # float32 with fused multiply-add; the values are below 1
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def here():
    """Leaves a test out where LiteRT.js or Chromium is not installed."""
    if not web.is_here():
        pytest.skip(f"no LiteRT.js: {web.REQUIREMENT}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def inputs_of(calls: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(calls).normal(size=(calls, *shape)).astype(np.float32)


def run(path: Path, timeout_s: float = TIMEOUT_S, **calls: Any) -> dict[str, Any]:
    return run_on("litertjs", path, calls, timeout_s=timeout_s)[0]


def message_of(path: Path, timeout_s: float = TIMEOUT_S, **calls: Any) -> str:
    with pytest.raises(ModelRunError) as caught:
        run(path, timeout_s, **calls)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true in a time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def leaves_nothing(monkeypatch):
    """Asserts that a test leaves no process of a browser and no file of it behind."""
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        monkeypatch.undo()
        assert within(5, lambda: processes_of(folder) == [])
        assert list(Path(folder).glob("edgelstm-*")) == []


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_loop_answers_like_the_reference_on_every_call(here, folder, leaves_nothing, dynamic):
    x = inputs_of(5, BATCH, TIME, FEATURES)
    x[3] = x[0]
    path = models.write(folder / f"loop{dynamic}.tflite", models.loop_lstm, dynamic=dynamic, x=x.shape[1:])
    y = run(path, x=x)["y"]
    expected = np.stack([lstm_reference(call, lstm_weights()).last_output for call in x])
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(y[3], y[0])


def test_the_data_sees_swapped_gates():
    (x,) = inputs_of(1, BATCH, TIME, FEATURES)
    right = lstm_reference(x, lstm_weights()).last_output
    for a, b in itertools.combinations("ifco", 2):
        assert np.abs(lstm_reference(x, lstm_weights().swap(a, b)).last_output - right).max() > 100 * TOLERANCE


def test_inputs_and_outputs_go_by_name_in_the_right_dtype(here, tiny):
    left, right = inputs_of(2, 3, 1, 2)
    tokens = np.array([[[0, 1]], [[2, 3]], [[3, 0]]])
    outputs, result = run_on(
        "litertjs", tiny["two_by_two"], {"tokens": tokens, "right": right, "left": left}, timeout_s=TIMEOUT_S
    )
    np.testing.assert_array_equal(outputs["difference"], left - right)
    np.testing.assert_array_equal(outputs["looked_up"], np.array([5, 6, 7, 8], np.float32)[tokens])
    assert (result["runtime"], result["runtime_version"]) == ("litertjs", ENGINES["litertjs"].version())
    assert "HeadlessChrome" in result["browser"]
    assert {tensor["name"]: (tensor["shape"], tensor["dtype"]) for tensor in result["inputs"]} == {
        "left": ([1, 2], "float32"),
        "right": ([1, 2], "float32"),
        "tokens": ([1, 2], "int32"),
    }
    assert len(result["samples_ns"]) == 3
    assert all(sample > 0 for sample in [result["load_us"], *result["samples_ns"]])


def test_every_bit_of_a_float_arrives(here, folder):
    import tensorflow as tf

    path = models.write(folder / "bits.tflite", lambda x: {"y": tf.reshape(x, (4, 2))}, x=(2, 4))
    bits = np.array([0, 1, 0x7F800000, 0xFF800000, 0x80000000, 0x7FC01234, 0x00400000, 0x3F800001], np.uint32)
    y = run(path, x=np.stack([bits, bits[::-1]]).view(np.float32).reshape(2, 2, 4))["y"]
    np.testing.assert_array_equal(y.view(np.uint32).reshape(2, 8), [bits, bits[::-1]])


def test_a_file_without_a_signature_goes_by_tensor_names(here, folder):
    path = models.write(folder / "unsigned.tflite", lambda x, y: {"z": x - y}, x=(1, 3), y=(1, 3))
    models.strip_signature(path)
    (x, y), (infos, (output,)) = inputs_of(2, 4, 1, 3), web.read_ports(path)
    names = sorted(info.name for info in infos)
    outputs = run(path, **dict(zip(names, (x, y), strict=True)))
    np.testing.assert_array_equal(outputs[output.name], x - y)


def test_states_are_carried_within_a_sequence_and_begin_anew_with_the_next(here, folder):
    state = (BATCH, UNITS)
    path = models.write(folder / "chunk.tflite", models.chunk_lstm, x=(BATCH, FEATURES), h_in=state, c_in=state)
    x = inputs_of(3, BATCH, TIME, FEATURES)
    calls = np.moveaxis(x, 2, 1).reshape(3 * TIME, BATCH, FEATURES)
    carry = {"h_in": "h_out", "c_in": "c_out"}
    outputs, _ = run_sequences_on("litertjs", path, {"x": calls}, sequence=TIME, carry=carry, timeout_s=TIMEOUT_S)
    expected = [lstm_reference(sequence, lstm_weights()) for sequence in x]
    y = np.moveaxis(outputs["y"].reshape(3, TIME, *state), 1, 2)
    np.testing.assert_allclose(y, [2 * result.outputs for result in expected], rtol=0, atol=2 * TOLERANCE)
    last = outputs["c_out"].reshape(3, TIME, *state)[:, -1]
    np.testing.assert_allclose(last, [result.c for result in expected], rtol=0, atol=TOLERANCE)


def test_a_state_that_the_file_does_not_have_is_refused(here, tiny):
    with pytest.raises(ModelRunError, match=r"affine\.tflite has no h, nothing to carry a state in\."):
        run_sequences_on("litertjs", tiny["affine"], {}, sequence=1, carry={"h": "nothing"}, timeout_s=TIMEOUT_S)


def test_a_variable_tensor_is_refused_with_the_reason_on_the_console(here, tiny, leaves_nothing):
    message = message_of(tiny["fused_lstm"], x=inputs_of(1, BATCH, TIME, FEATURES))
    assert re.fullmatch(
        r".*fused_lstm\.tflite: litertjs [\d.]+ failed: Failed to load model from buffer: Variable tensors not yet "
        r"supported\.",
        message,
    )


def test_an_operator_that_fails_is_an_error_though_litertjs_goes_on(here, tiny):
    tokens, other = np.array([[[0, 1]], [[2, 4]]]), inputs_of(2, 1, 2)
    message = message_of(tiny["two_by_two"], left=other, right=other, tokens=tokens)
    assert "failed: call 2 failed: gather index out of bounds" in message


def test_outputs_that_share_a_tensor_are_refused(here, folder):
    def function(x: Any) -> dict[str, Any]:
        doubled = x * 2.0
        return {"y": doubled, "h": doubled}

    path = models.write(folder / "shared.tflite", function, x=(1, 3))
    message = message_of(path, x=inputs_of(2, 1, 3))
    assert re.search(
        r"litertjs [\d.]+ gives no output '[yh]': of outputs that share one tensor it gives one\. Export", message
    )


def test_a_type_that_litertjs_lacks_is_refused_by_name(here, tiny):
    assert message_of(tiny["affine_int8"], x=inputs_of(1, 2, 3)).endswith(
        "LiteRT.js takes and gives float32, int32, uint8 only, but 'x' is int8. Export the model with float32 inputs "
        "and outputs."
    )


def test_a_free_size_is_refused_by_name(here, tiny):
    assert message_of(tiny["affine_free"], x=inputs_of(1, 2, 3)).endswith(
        "LiteRT.js takes fixed sizes only, but the file leaves sizes of input 'x' open, (-1, 3). Export the model with "
        "a fixed batch and length."
    )


def test_wrong_inputs_are_refused(here, tiny):
    assert message_of(tiny["affine"], z=inputs_of(1, 2, 3)).endswith(
        "affine.tflite: litertjs cannot be fed: the inputs are ['x'], but ['z'] were given."
    )


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a "browser" of Python code, and an empty LiteRT.js."""
    package = tmp_path / "litertjs" / "node_modules" / "@litertjs" / "core"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "1.2.3"}')
    monkeypatch.setenv(VARIABLE, f"litertjs={tmp_path / 'litertjs'}")

    def make(code: str) -> Path:
        path = tmp_path / "browser"
        path.write_text(f"#!{sys.executable} -S\nimport os, subprocess, sys, time\n{code}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CHROMIUM", str(path))
        return path

    return make


def test_a_browser_that_does_not_answer_is_stopped_with_all_that_it_started(fake, tiny, leaves_nothing):
    fake("subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)', *sys.argv[1:]])\ntime.sleep(60)")
    started = time.monotonic()
    message = message_of(tiny["affine"], 2, x=inputs_of(1, 2, 3))
    assert message.endswith("affine.tflite: litertjs 1.2.3 was stopped after 2 s. Give it fewer calls or more time.")
    assert time.monotonic() - started < 20


def test_a_real_browser_is_stopped_with_all_that_it_started(here, tiny, leaves_nothing, monkeypatch):
    monkeypatch.setattr(PageServer, "take", lambda *_: True)
    assert "was stopped after 3 s" in message_of(tiny["affine"], 3, x=inputs_of(1, 2, 3))


def test_a_browser_that_ends_says_why(fake, tiny, leaves_nothing):
    path = fake("print('no display', 'sandbox missing', sep='\\n', file=sys.stderr); sys.exit(3)")
    assert message_of(tiny["affine"], x=inputs_of(1, 2, 3)).endswith(
        "affine.tflite: the browser ended with status 3 before litertjs answered: sandbox missing. "
        f"Check that {path} --headless starts."
    )


def test_a_browser_that_cannot_be_started_is_named(fake, tiny):
    path = fake("")
    path.write_bytes(b"\x7fELF nothing")
    message = message_of(tiny["affine"], x=inputs_of(1, 2, 3))
    assert re.search(r"affine\.tflite: the browser ended with status 126 before .*: .*[Ee]xec format error\. ", message)
    assert message.endswith(f" Check that {path} --headless starts.")


def test_a_real_browser_does_not_outlive_a_process_that_is_killed(here, tiny):
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from edgelstm.runtime import web; from edgelstm.runtime.web.server import PageServer\n"
        "PageServer.take = lambda *_: True\n"
        "web.run(Path(sys.argv[1]), {'x': np.zeros((1, 2, 3))}, timeout_s=60)"
    )
    with tempfile.TemporaryDirectory(prefix="web-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen([sys.executable, "-c", code, tiny["affine"]], env=environment) as process:
            try:
                assert within(60, lambda: any("--type=renderer" in line for line in processes_of(folder)))
            finally:
                process.kill()
        assert within(20, lambda: processes_of(folder) == [])


def test_the_browser_reaches_nothing_and_leaves_the_home_alone(fake, tiny, tmp_path):
    seen = tmp_path / "seen"
    fake(f"open({str(seen)!r}, 'w').write('\\n'.join([*sys.argv[1:], os.environ['HOME']])); sys.exit(1)")
    message_of(tiny["affine"], x=inputs_of(1, 2, 3))
    *options, url, home = seen.read_text().splitlines()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", url)
    assert "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1" in options
    assert f"--user-data-dir={home}/profile" in options
    assert home != os.environ["HOME"]
    assert ("--no-sandbox" in options) == (os.geteuid() == 0)


def test_without_a_folder_it_says_how_to_get_one(monkeypatch, tiny):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not ENGINES["litertjs"].is_here()
    with pytest.raises(
        MissingExtraError, match=r"LiteRT\.js is not installed.*npm install --prefix FOLDER .*=litertjs=FOLDER\.$"
    ):
        run(tiny["affine"], x=inputs_of(1, 2, 3))


def test_without_a_browser_it_says_how_to_get_one(fake, tiny, monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    assert not ENGINES["litertjs"].is_here()
    with pytest.raises(MissingExtraError, match=r"needs Chromium, and there is none\. Install it: apt-get install"):
        run(tiny["affine"], x=inputs_of(1, 2, 3))


def test_a_folder_without_the_package_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, f"litertjs={tmp_path}")
    for question in (ENGINES["litertjs"].is_here, ENGINES["litertjs"].version):
        with pytest.raises(ModelRunError, match=rf"{VARIABLE}: {tmp_path} has no LiteRT\.js.* npm install --prefix"):
            question()


@pytest.mark.parametrize(
    "message, lines, text",
    [
        ("Failed.", [], "Failed"),
        (
            "Failed",
            ["ERROR: [load.cc:290] No variables.", "ERROR: [load.cc:290] No variables."],
            "Failed: No variables",
        ),
        ("ERROR: [layout.h:140]", ["ERROR: [layout.h:140]"], "ERROR: [layout.h:140]"),
        ("Failed", ["ERROR: out of bounds", "FATAL: [a.cc:1] gone"], "Failed: out of bounds; gone"),
    ],
)
def test_reasons_are_put_into_one_clause(message, lines, text):
    assert explain(message, lines) == text


@pytest.fixture
def server(tmp_path):
    packages = tmp_path / "node_modules" / "@litertjs"
    (packages / "core").mkdir(parents=True)
    (packages / "core" / "index.js").write_text("export {};")
    (tmp_path / "secret.txt").write_text("secret")
    (packages / "link.js").symlink_to(tmp_path / "secret.txt")
    with PageServer(packages, b"the model", {"x": np.arange(3, dtype=np.int32)}, {"calls": 3}) as page:
        yield page


def fetch(url: str, data: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, data, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


def test_the_page_gets_its_files(server):
    assert fetch(server.url + "model.tflite") == (200, b"the model")
    assert fetch(server.url + "packages/core/index.js") == (200, b"export {};")
    assert fetch(server.url + "input/0") == (200, np.arange(3, dtype=np.int32).tobytes())
    assert b'"inputs": ["x"]' in fetch(server.url + "plan.json")[1]
    assert server.nonce.encode() in fetch(server.url)[1]


@pytest.mark.parametrize(
    "path",
    ["input/1", "other", "packages/../../secret.txt", "packages/link.js", "packages/core", "packages//etc/passwd"],
)
def test_the_page_gets_nothing_else(server, path):
    host, port = urllib.request.urlparse(server.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:  # urllib would tidy the path
        connection.sendall(f"GET {urllib.request.urlparse(server.url).path}{path} HTTP/1.0\r\n\r\n".encode())
        assert connection.recv(100).split()[1] == b"404"


def test_nobody_gets_or_sends_anything_without_the_secret(server):
    root = server.url.rsplit("/", 2)[0]
    for path in ("/", "/model.tflite", "/page.js", "/wrong/model.tflite"):
        assert fetch(root + path)[0] == 404
        assert fetch(root + path, b"{}")[0] == 404
    assert not server.finished.is_set()


def test_what_the_page_sends_is_kept_until_it_is_done(server):
    assert fetch(server.url + "output/1", b"bytes")[0] == 204
    assert fetch(server.url + "elsewhere", b"bytes")[0] == 404
    assert fetch(server.url + "done", b'{"failed": "so"}')[0] == 204
    assert fetch(server.url + "done", b"{}")[0] == 404
    assert (server.outputs, server.answer, server.finished.is_set()) == ({1: b"bytes"}, {"failed": "so"}, True)


def test_the_install_command_is_the_same_everywhere():
    assert installation.PACKAGE in web.REQUIREMENT
    assert installation.PACKAGE in str(web.__doc__)
