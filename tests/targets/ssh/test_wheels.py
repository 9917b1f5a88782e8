from __future__ import annotations

import json

import pytest

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.remote.pythons import RemotePython
from edgelstm.targets.ssh.wheels import choose_offer, download_command, fitting


def python(version=(3, 11, 2), machine="aarch64", libc=("glibc", "2.36")) -> RemotePython:
    return RemotePython("/usr/bin/python3", version, machine, libc, (), None)


@pytest.mark.parametrize(
    "there, runtime",
    [
        (python(), "ai-edge-litert"),
        (python((3, 13, 5), libc=("glibc", "2.41")), "ai-edge-litert"),
        (python((3, 9, 2), libc=("glibc", "2.31")), "ai-edge-litert"),
        (python(machine="x86_64"), "ai-edge-litert"),
        (python(machine="armv7l"), "tflite-runtime"),
        (python((3, 9, 2), "armv7l", ("glibc", "2.31")), "tflite-runtime"),
        (python((3, 11, 2), libc=("glibc", "2.24")), "tflite-runtime"),
    ],
)
def test_the_runtime_is_the_newest_that_has_wheels(there, runtime):
    assert choose_offer("ssh://b", "auto", [there]) == (choose_offer("ssh://b", runtime, [there])[0], there)
    assert choose_offer("ssh://b", "auto", [there])[0].name == runtime


def test_another_python_is_taken_where_the_first_has_no_wheels():
    newer, older = python((3, 13, 5), "armv7l"), python((3, 11, 2), "armv7l")
    assert choose_offer("ssh://b", "auto", [newer, older])[1] is older


@pytest.mark.parametrize(
    "there, text",
    [
        (python((3, 13, 5), "armv7l"), "Install Python 3.9 to 3.11 there"),
        (python(machine="armv6l"), "Use a 64-bit or 32-bit .armv7. system"),
        (python(libc=("", "")), "with another C library than glibc"),
        (python(machine="riscv64"), "for Python 3.11.2 on riscv64 with glibc 2.36"),
    ],
)
def test_a_python_without_wheels_is_named_with_what_would_help(there, text):
    with pytest.raises(TargetError, match=text):
        choose_offer("ssh://b", "auto", [there])


def test_other_runtimes_are_not_installed():
    with pytest.raises(SettingError, match="'tflite-micro' cannot be installed on a device, only ai-edge-litert"):
        choose_offer("ssh://b", "tflite-micro", [python()])


def test_a_32_bit_python_on_a_64_bit_kernel_takes_32_bit_wheels():
    line = (
        '{"version": [3, 11, 2], "bits": 32, "machine": "aarch64", '
        '"libc": ["glibc", "2.36"], "packages": [], "numpy": "1.24.2"}'
    )
    assert RemotePython.parse("python3", line, "ssh://b").machine == "armv7l"
    assert RemotePython.parse("python3", line.replace("32, ", "64, ", 1), "ssh://b").machine == "aarch64"


def test_the_command_to_fetch_wheels_asks_for_nothing_the_device_cannot_load():
    command = download_command(python(libc=("glibc", "2.31")), "wheels", ("ai-edge-litert", "numpy"))
    assert "manylinux_2_31_aarch64" in command
    assert "manylinux_2_34_aarch64" not in command
    assert command[:3] == ["pip", "download", "--only-binary=:all:"]
    assert command[-4:] == ["--dest", "wheels", "ai-edge-litert", "numpy"]
    assert "https://www.piwheels.org/simple" in download_command(python(machine="armv7l"), "w", ("numpy<2",))


def test_only_wheels_for_the_machine_are_sent(tmp_path):
    names = ["a-1-py3-none-any.whl", "b-1-cp311-cp311-manylinux_2_27_aarch64.whl", "b-1-cp311-cp311-linux_armv7l.whl"]
    for name in [*names, "notes.txt"]:
        (tmp_path / name).touch()
    assert [path.name for path in fitting(tmp_path, "aarch64")] == names[:2]
    assert [path.name for path in fitting(tmp_path, "armv7l")] == [names[0], names[2]]


def test_a_device_with_a_numpy_of_its_own_needs_one_wheel():
    assert "--no-deps" in download_command(python(machine="armv7l"), "w", ("tflite-runtime",))
    assert "--no-deps" not in download_command(python(machine="armv7l"), "w", ("tflite-runtime", "numpy<2"))


TOLD = {
    "version": [3, 11, 2],
    "bits": 64,
    "machine": "aarch64",
    "libc": ["glibc", "2.36"],
    "packages": [],
    "numpy": "2",
}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        "[" * 100_000,
        *(
            json.dumps({**TOLD, **change})
            for change in (
                {"version": "3.11"},
                {"version": [3]},
                {"bits": None},
                {"machine": 64},
                {"libc": ["glibc"]},
                {"libc": ["glibc", "new"]},
                {"libc": ["glibc", f"2.{'9' * 5000}"]},
                {"packages": None},
                {"numpy": 2},
            )
        ),
    ],
)
def test_a_python_that_answers_nonsense_is_told(line):
    assert RemotePython.parse("/bin/python3", json.dumps(TOLD), "ssh://b").libc == ("glibc", "2.36")
    with pytest.raises(
        TargetError, match=r"^ssh://b: /bin/python3 there answered nonsense \(.*\)\. Check that it is a"
    ):
        RemotePython.parse("/bin/python3", line, "ssh://b")
