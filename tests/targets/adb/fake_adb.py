"""A program that answers the command lines of adb which edgelstm uses, as adb 1.0.41 does.

    FAKE_ADB=state.json fake_adb.py devices -l | -s SERIAL shell -T LINE | -s SERIAL push LOCAL REMOTE

The state: {"devices": [[serial, state, rest of the line]], "temporary": folder, "path": what $PATH is there,
"push_error": null or what push says, "log": file to which every call is added}. A device that can be used runs its
commands in this machine's shell; /data/local/tmp is the temporary folder, named in $TMPDIR.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    state = json.loads(Path(os.environ["FAKE_ADB"]).read_text(encoding="utf-8"))
    with Path(state["log"]).open("a", encoding="utf-8") as log:
        print(json.dumps(arguments), file=log)
    if arguments == ["devices", "-l"]:
        print("* daemon not running; starting now at tcp:5037\n* daemon started successfully", file=sys.stderr)
        print("List of devices attached")
        for serial, name, rest in state["devices"]:
            print(f"{serial:22} {name} {rest}".rstrip())
        print()
        return 0
    assert arguments[0] == "-s", arguments
    serial, command, *rest = arguments[1:]
    names = {each[0]: each[1] for each in state["devices"]}
    if serial not in names:
        return fail(f"adb: device '{serial}' not found")
    if names[serial] != "device":
        return fail(f"error: device {names[serial]}.")
    if command == "push":
        return push(state, *rest)
    assert command == "shell", arguments
    assert rest[0] == "-T", arguments
    environment = {"PATH": state["path"], "TMPDIR": state["temporary"], "HOME": "/"}
    return subprocess.run(["sh", "-c", " ".join(rest[1:])], env=environment, check=False).returncode


def push(state: dict[str, str], local: str, remote: str) -> int:
    if state["push_error"]:
        return fail(f"adb: error: failed to copy '{local}' to '{remote}': {state['push_error']}")
    shutil.copyfile(local, remote)
    print(f"{local}: 1 file pushed, 0 skipped. 15.2 MB/s ({Path(local).stat().st_size} bytes in 0.001s)")
    return 0


def fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
