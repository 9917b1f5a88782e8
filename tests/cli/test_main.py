from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from recorder import Recorder

import edgelstm
from edgelstm.cli import main
from edgelstm.errors import LoadError, LoweringError

COMMANDS = ["tasks", "train", "tune", "evaluate", "sample", "convert", "verify", "inspect", "bench", "demo"]


def test_help_lists_the_commands_in_the_order_of_work(run):
    done = run("--help")
    listed = [line.split()[0] for line in done.out.split("Commands:\n")[1].splitlines() if line.startswith("  ")]
    assert (done.code, done.err) == (0, "")
    assert [name for name in listed if name in COMMANDS] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_fits_into_eighty_columns(run, command):
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80


def test_version(run):
    assert run("--version") == (0, f"edgelstm {edgelstm.__version__}\n", "")


def test_without_a_command_the_help_goes_to_stderr(run):
    done = run()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: edgelstm [OPTIONS] COMMAND")


@pytest.mark.parametrize("wrong, right", [("convart", "convert"), ("inspct", "inspect"), ("benchmark", "bench")])
def test_an_unknown_command_suggests_the_nearest(run, wrong, right):
    done = run(wrong)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"edgelstm: error: No such command {wrong!r}. Did you mean {right!r}? See 'edgelstm --help'.\n"


def test_a_command_like_none_names_all(run):
    error = run("xyz").err
    assert "No such command 'xyz'. Commands: tasks, " in error
    assert all(f" {name}" in error for name in COMMANDS)


def test_an_unknown_option_suggests_the_nearest(run):
    done = run("convert", "m.keras", "-o", "m.tflite", "--quantise", "int8")
    assert (done.code, done.out) == (2, "")
    assert "'--quantise'" in done.err
    assert "'--quantize'" in done.err or "Possible options: --quantize" in done.err


@pytest.mark.parametrize("argv", [["convert"], ["convert", "m.keras"], ["verify", "m.keras"], ["inspect"], ["demo"]])
def test_a_missing_argument_is_wrong_usage(run, argv):
    done = run(*argv)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("edgelstm: error: Missing ")
    assert done.err.endswith(f"See 'edgelstm {argv[0]} --help'.\n")
    assert len(done.err.splitlines()) == 1


class TestErrors:
    def test_an_error_of_the_library_is_one_line(self, run, replace):
        replace("conversion", convert=Recorder(LoadError("m.keras is empty.\nSave the model again.")))
        done = run("convert", "m.keras", "-o", "m.tflite")
        assert done == (1, "", "edgelstm: error: m.keras is empty. Save the model again.\n")

    def test_an_unexpected_error_is_one_line_that_tells_how_to_see_more(self, run, replace):
        replace("conversion", convert=Recorder(ZeroDivisionError("division\nby zero")))
        done = run("convert", "m.keras", "-o", "m.tflite")
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            "edgelstm: error: unexpected ZeroDivisionError: division by zero "
            "(To see where: edgelstm --traceback COMMAND …)\n"
        )

    def test_an_endless_message_is_cut(self, run, replace):
        replace("conversion", convert=Recorder(RuntimeError("x" * 5000)))
        assert len(run("convert", "m.keras", "-o", "m.tflite").err) < 500

    @pytest.mark.parametrize("error", [ZeroDivisionError("oh"), LoweringError("oh")])
    def test_traceback_shows_where(self, run, replace, error):
        replace("conversion", convert=Recorder(error))
        done = run("--traceback", "convert", "m.keras", "-o", "m.tflite")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("Traceback (most recent call last)")
        assert "oh" in done.err.splitlines()[-1]

    def test_no_traceback_unless_asked(self, run, replace):
        replace("conversion", convert=Recorder(ZeroDivisionError("oh")))
        assert "Traceback" not in run("convert", "m.keras", "-o", "m.tflite").err

    def test_an_interrupt_is_130_without_a_traceback(self, run, replace):
        replace("conversion", convert=Recorder(KeyboardInterrupt()))
        done = run("convert", "m.keras", "-o", "m.tflite")
        assert (done.code, done.out) == (130, "")
        assert done.err.split() == ["edgelstm:", "error:", "interrupted."]


def test_a_real_interrupt_ends_the_process_with_130(tmp_path):
    code = (
        "import sys, time, types, edgelstm, edgelstm.cli\n"
        "def wait(*args, **kwargs):\n"
        "    print('waiting', file=sys.stderr, flush=True); time.sleep(60)\n"
        "edgelstm.conversion = types.SimpleNamespace(convert=wait)\n"
        "sys.exit(edgelstm.cli.main(['convert', 'm.keras', '-o', 'm.tflite']))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read().split() == ["edgelstm:", "error:", "interrupted."]


@pytest.mark.parametrize("command", [["--help"], ["convert", "--help"], ["--version"]], ids=" ".join)
def test_help_takes_less_than_half_a_second_and_no_tensorflow(run_python, command):
    code = (
        "import time; start = time.perf_counter()\n"
        "import sys; from edgelstm.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'tflite_runtime', 'numpy'} & set(sys.modules)\n"
        "print(time.perf_counter() - start, sorted(heavy), file=sys.stderr)\n"
    )
    # The best of three: a busy machine may hold up any one of them.
    lines = [run_python(code, *command).stderr.split(" ", 1) for _ in range(3)]
    assert {heavy.strip() for _, heavy in lines} == {"[]"}
    assert min(float(seconds) for seconds, _ in lines) < 0.5


def test_the_installed_program_and_the_module_are_the_same(tmp_path):
    program = [sys.executable, "-m", "edgelstm", "nothing"]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("edgelstm: error: No such command 'nothing'.")


def test_arguments_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edgelstm", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("edgelstm ")


def test_tensorflow_is_told_to_be_quiet_unless_the_user_said_otherwise(run, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    run("--version")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    run("--version")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
