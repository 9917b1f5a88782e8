from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from recorder import Recorder

from edgelstm.artifact import Artifact
from edgelstm.cli.convert import _STAGES
from edgelstm.cli.summary import conversion_summary, format_size
from edgelstm.compression.staging import FLAGS


@pytest.fixture
def convert(replace, artifact):
    """The library's function, replaced."""
    recorder = Recorder(artifact)
    replace("conversion", convert=recorder)
    return recorder


NOISE = ["native to stdout", "native to stderr", "child to stdout", "child to stderr"]


def chatter(**_):
    """Prints in all the ways in which libraries do."""
    print("from Python")
    os.write(1, b"native to stdout\n")
    os.write(2, b"native to stderr\n")
    subprocess.run("echo child to stdout; echo child to stderr >&2", shell=True, check=True)


def test_defaults_are_those_of_the_library(run, convert):
    assert run("convert", "digits.keras", "-o", "digits.tflite").code == 0
    assert convert.args == (Path("digits.keras"), Path("digits.tflite"))
    assert convert.kwargs == {
        "quantize": "float32",
        "layers": {},
        "runtime": "interpreter",
        "streaming": False,
        "approximate_gates": False,
        "calibration": None,
        "batch": None,
        "length": None,
        "padding": "auto",
        "io": "float",
        "strip_names": False,
        "stages": [],
        "data": None,
        "weights": None,
        "custom": (),
        "verify": True,
        "timeout_s": 600.0,
        "progress": None,
    }


def test_stages_run_in_the_order_in_which_help_lists_their_flags(run):
    assert list(_STAGES) == list(FLAGS)
    options = run("convert", "--help").out.partition("Options:")[2].splitlines()
    lines = [line.split()[0] for line in options if line.strip().startswith("--")]
    assert [line for line in lines if line[2:] in FLAGS] == [f"--{kind}" for kind in FLAGS]


def test_flags_of_stages_without_data_train_nothing(run, convert):
    flags = "--prune-units 0.5 --cluster 16 --factorize 0.8 --prune 0.5"
    assert run("convert", "m.keras", "-o", "m.tflite", *flags.split()).code == 0
    assert convert.kwargs["stages"] == [
        {"kind": "prune-units", "epochs": 0, "fraction": 0.5},
        {"kind": "factorize", "epochs": 0, "data_aware": False, "energy": 0.8},
        {"kind": "prune", "ramp_epochs": 0, "epochs": 0, "sparsity": 0.5},
        {"kind": "cluster", "epochs": 0, "clusters": 16},
    ]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--data", "task:text"], "--data is for stages such as --prune-units"),
        (["--qat", "3"], "--qat needs data to learn from: add --data"),
        (["--prune-units", "half"], "'half' is not a valid float"),
    ],
)
def test_flags_of_stages_that_make_no_sense_end_with_2(run, convert, flags, words):
    out = run("convert", "m.keras", "-o", "m.tflite", *flags)
    assert out.code == 2
    assert words in " ".join(out.err.split())


def test_every_option_reaches_the_library(run, convert):
    options = (
        "--layer lstm_1=float32 --layer a=b/c=dynamic "
        "--quantize int8 --calibration c.npz --batch 4 --length 50 --padding pre --io int8 --no-verify --timeout 2.5 "
        "--runtime micro --streaming --approximate-gates --strip-names --weights w.h5 "
        "--data task:text --qat 3 --prune-units 0.4"
    )
    custom = ["--custom", "layers:Attention", "--custom", "my.own.layers:Peephole"]
    assert run("convert", "m.h5", "--output", "m.tflite", *options.split(), *custom).code == 0
    assert convert.kwargs == {
        "quantize": "int8",
        "layers": {"lstm_1": "float32", "a=b/c": "dynamic"},
        "runtime": "micro",
        "streaming": True,
        "approximate_gates": True,
        "calibration": Path("c.npz"),
        "batch": 4,
        "length": 50,
        "padding": "pre",
        "io": "int8",
        "strip_names": True,
        "stages": [{"kind": "prune-units", "fraction": 0.4}, {"kind": "qat", "epochs": 3}],
        "data": "task:text",
        "weights": Path("w.h5"),
        "custom": ("layers:Attention", "my.own.layers:Peephole"),
        "verify": False,
        "timeout_s": 2.5,
        "progress": None,
    }


@pytest.mark.parametrize(
    "option, value, allowed",
    [
        ("--quantize", "int4", "'float32', 'float16', 'dynamic', 'int8'"),
        ("--layer", "lstm", "NAME=PRECISION"),
        ("--layer", "=float32", "NAME=PRECISION"),
        ("--layer", "lstm=int4", "float32, float16, dynamic, int8"),
        ("--padding", "left", "'auto', 'pre', 'post', 'none'"),
        ("--io", "int16", "'float', 'int8'"),
        ("--batch", "0", "x>=1"),
        ("--batch", "-2", "x>=1"),
        ("--batch", "many", "integer"),
        ("--length", "0", "x>=1"),
        ("--length", "-1", "x>=1"),
        ("--timeout", "0", "x>0"),
        ("--custom", "Attention", "module:Class"),
        ("--custom", "a/b.py:Attention", "module:Class"),
        ("--custom", "layers:", "module:Class"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(run, convert, option, value, allowed):
    done = run("convert", "m.keras", "-o", "m.tflite", option, value)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"edgelstm: error: Invalid value for '{option}': ")
    assert allowed in done.err
    assert len(done.err.splitlines()) == 1
    assert convert.args == ()


def test_a_layer_named_twice_is_refused(run, convert):
    done = run("convert", "m.keras", "-o", "m.tflite", "--layer", "a=float32", "--layer", "a=float16")
    assert (done.code, done.out) == (2, "")
    assert "'a' is given twice" in done.err


class TestJson:
    def test_stdout_is_one_document(self, run, convert, artifact):
        done = run("convert", "m.keras", "-o", "m.tflite", "--json")
        assert json.loads(done.out) == {
            "path": str(artifact.path),
            "card_path": str(artifact.card_path),
            "card": artifact.card,
        }
        assert (done.code, done.err) == (0, "")

    def test_what_python_prints_goes_to_stderr_and_native_noise_nowhere(self, run, convert):
        convert.during = chatter
        done = run("convert", "m.keras", "-o", "m.tflite", "--json")
        assert json.loads(done.out)["card"]["precision"] == "int8"
        assert done.err == "from Python\n"

    def test_with_traceback_all_noise_goes_to_stderr(self, run, convert):
        convert.during = chatter
        done = run("--traceback", "convert", "m.keras", "-o", "m.tflite", "--json")
        assert json.loads(done.out)["card"]["precision"] == "int8"
        assert sorted(done.err.splitlines()) == sorted(["from Python", *NOISE])

    def test_stdout_is_back_after_an_error(self, run, convert):
        convert.result = ZeroDivisionError("oh")
        assert run("convert", "m.keras", "-o", "m.tflite", "--json").out == ""
        assert run("--version").out.startswith("edgelstm ")

    def test_numbers_that_json_does_not_know_are_null(self, run, convert, artifact):
        artifact.card["accuracy"] = [float("nan"), {"ratio": float("inf")}]
        done = run("convert", "m.keras", "-o", "m.tflite", "--json")
        assert json.loads(done.out)["card"]["accuracy"] == [None, {"ratio": None}]

    def test_warnings_stay_on_stderr(self, run, convert, artifact):
        artifact.card["warnings"] = ["The model has no LSTM."]
        done = run("convert", "m.keras", "-o", "m.tflite", "--json")
        assert json.loads(done.out)["card"]["warnings"] == ["The model has no LSTM."]
        assert done.err == "edgelstm: warning: The model has no LSTM.\n"


class TestProgress:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    def test_on_a_terminal_it_shows_and_disappears(self, convert, monkeypatch):
        from edgelstm.cli import main

        terminal = self.Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        convert.during = lambda progress, **_: progress("Comparing with the Keras model on ai-edge-litert and others")
        assert main(["convert", "m.keras", "-o", "m.tflite"]) == 0
        assert terminal.getvalue() == "\r\x1b[KComparing with the Keras model on ai-ed\r\x1b[K"

    def test_in_a_pipe_nothing_shows(self, run, convert):
        assert run("convert", "m.keras", "-o", "m.tflite").err == ""
        assert convert.kwargs["progress"] is None


class TestSummary:
    def test_it_says_size_tensors_operators_and_parity(self, artifact):
        path = Artifact(Path("digits.tflite"), artifact.card)
        assert conversion_summary(path).splitlines() == [
            "Wrote digits.tflite and its card digits.json",
            "  size       104 kB, int8",
            "  input      pixels  float32  1 x 8 x 8",
            "  output     digit  float32  1 x 10",
            "  operators  1 UNIDIRECTIONAL_SEQUENCE_LSTM, 2 FULLY_CONNECTED, 1 ARG_MAX,",
            "             2 GATHER, 1 RESHAPE",
            "  parity     difference from digits.keras, 3 calls in a row",
            "                    largest  mean     allowed  same decision",
            "    ai-edge-litert  1.2e-02  4.5e-04  5e-02    99.8%",
            "    tflite-runtime  1.2e-02  4.5e-04  5e-02    -",
        ]

    def test_without_verification_it_says_so(self, artifact):
        artifact.card["parity"] = []
        assert "  parity     not verified" in conversion_summary(artifact).splitlines()

    def test_names_of_any_length_stay_within_eighty_columns(self, artifact):
        artifact.card["inputs"] = [{"name": "a_very_long_name" * 8, "shape": [1, 200, 128], "dtype": "float32"}]
        artifact.card["operators"] = {f"OPERATOR_NUMBER_{i}": i for i in range(30)}
        artifact.card["parity"] = [{**artifact.card["parity"][0], "runtime": "a-runtime-of-some-length 2.14.0" * 3}]
        lines = conversion_summary(Artifact(Path("m.tflite"), artifact.card)).splitlines()
        assert max(map(len, lines)) <= 80

    def test_it_goes_to_stdout_and_warnings_to_stderr(self, run, convert, artifact):
        artifact.card["warnings"] = ["The weights of layer 'lstm' stay float32. " * 4, "Second."]
        done = run("convert", "m.keras", "-o", "m.tflite")
        assert done.out == conversion_summary(artifact) + "\n"
        assert done.err.startswith("edgelstm: warning: The weights of layer 'lstm' stay float32.")
        assert done.err.endswith("\nedgelstm: warning: Second.\n")
        assert max(map(len, done.err.splitlines())) <= 80


@pytest.mark.parametrize(
    "size_bytes, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1240, "1.24 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_600, "1 MB"),
        (5_120_000, "5.12 MB"),
        (7_000_000_000_000, "7000 GB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(size_bytes, text):
    assert format_size(size_bytes) == text


def test_in_a_process_of_its_own_python_is_heard_and_native_noise_is_not(run_python):
    code = (
        "import logging, os, sys, types, edgelstm, edgelstm.cli\n"
        "def fail(*args, **kwargs):\n"
        "    print('from Python'); os.write(1, b'noise'); os.write(2, b'noise')\n"
        "    logging.basicConfig(); logging.warning('logged')\n"
        "    raise ZeroDivisionError('oh')\n"
        "edgelstm.conversion = types.SimpleNamespace(convert=fail)\n"
        "code = edgelstm.cli.main(['convert', 'm.keras', '-o', 'm.tflite'])\n"
        "logging.warning('later'); os.write(2, b'native again\\n'); os.write(1, b'result\\n'); sys.exit(code)\n"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout) == (1, "result\n")
    heard = [line for line in done.stderr.splitlines() if "unexpected ZeroDivisionError: oh" not in line]
    assert heard == ["from Python", "WARNING:root:logged", "WARNING:root:later", "native again"]


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(run_python, tmp_path, closed):
    code = (
        "import sys, types, pathlib, edgelstm, edgelstm.cli\n"
        "edgelstm.verifying = types.SimpleNamespace(verify=lambda *args, **kwargs: types.SimpleNamespace(\n"
        "    passed=True, summary=lambda: 'equal'))\n"
        "pathlib.Path('code').write_text(str(edgelstm.cli.main(['verify', 'm.keras', 'm.tflite'])))\n"
    )
    run_python(code, prefix=("sh", "-c", f'"$0" "$@" {closed}'))
    assert (tmp_path / "code").read_text() == "0"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    import keras

    x = keras.Input((4,), dtype="int32", name="tokens")
    y = keras.layers.Bidirectional(keras.layers.LSTM(3))(keras.layers.Embedding(9, 2, mask_zero=True)(x))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.Model(x, keras.layers.Dense(2, activation="softmax", name="class")(y)).save(path)
    return path


class TestOtherOutputs:
    @pytest.mark.parametrize("output", ["m.onnx", "served/"])
    def test_the_library_decides_by_the_name(self, run, convert, output):
        assert run("convert", "m.keras", "-o", output).code == 0
        assert convert.args == (Path("m.keras"), Path(output))

    @pytest.mark.parametrize(
        "name, option, kind",
        [
            ("m.onnx", ["--quantize", "int8"], "an ONNX file"),
            ("m.onnx", ["--runtime", "micro"], "an ONNX file"),
            ("m", ["--streaming"], "a SavedModel folder"),
        ],
    )
    def test_options_of_tflite_files_are_refused_in_one_line(self, run, tmp_path, name, option, kind):
        done = run("convert", tmp_path / "missing.keras", "-o", tmp_path / name, *option)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"edgelstm: error: {' '.join(option)} is an option")
        assert f"of .tflite files, and {tmp_path / name} is to be {kind}: leave it out" in done.err
        assert done.err.endswith("or name the output m.tflite.\n")
        assert len(done.err.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("output", [".", "/"])
    def test_a_folder_without_a_name_is_refused_in_one_line(self, run, tmp_path, output):
        done = run("convert", tmp_path / "missing.keras", "-o", output)
        assert (done.code, done.out) == (1, "")
        assert "a SavedModel needs a folder of its own, with a name" in done.err
        assert len(done.err.splitlines()) == 1

    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
    @pytest.mark.parametrize(
        "name, card, kind, runtime",
        [("m.onnx", "m.onnx.json", ", ONNX opset 17", "onnxruntime"), ("served", "served.json", "", "tensorflow")],
    )
    def test_a_model_is_written_with_its_card(self, run, words, tmp_path, name, card, kind, runtime):
        done = run("convert", words, "-o", f"{tmp_path / name}{'' if kind else '/'}")
        lines = done.out.splitlines()
        assert (done.code, done.err) == (0, "")
        assert lines[0] == f"Wrote {tmp_path / name} and its card {card}"
        assert lines[1].startswith("  size ")
        assert lines[1].endswith(f"B, float32{kind}")
        assert lines[2:4] == ["  input      tokens  int32  any x 4", "  output     class  float32  any x 2"]
        assert [line.split()[0] for line in lines[-2:]] == [runtime, runtime]
        assert ", batch 3 " in lines[-1]
        assert max(map(len, lines[1:])) <= 80
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, card])
        assert json.loads((tmp_path / card).read_text())["source"]["name"] == "model.keras"
