"""Tells what this Python is and has, as one line of JSON; runs in any Python 3, on the device.

Arguments are names of packages. The exit status is 0 if one of them is there, and what else a worker needs.
"""

import importlib.util
import json
import os
import platform
import struct
import sys


def is_there(name: str) -> bool:
    """Says whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:
        return False


def numpy_version() -> "str | None":
    """Returns the version of numpy, None without one."""
    try:
        from importlib.metadata import version

        return version("numpy")
    except Exception:
        return None


packages = [name for name in sys.argv[1:] if is_there(name)]
print(
    json.dumps(
        {
            "version": list(sys.version_info[:3]),
            "bits": 8 * struct.calcsize("P"),
            "machine": os.uname().machine,
            "libc": list(platform.libc_ver()),
            "packages": packages,
            "numpy": numpy_version(),
        }
    )
)
sys.exit(0 if packages and is_there("numpy") and sys.version_info[:2] >= (3, 9) else 3)
