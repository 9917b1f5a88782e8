from __future__ import annotations

from pathlib import Path

import pytest
from recorder import Recorder


@pytest.mark.parametrize("options, json_output", [([], False), (["--json"], True)])
@pytest.mark.parametrize("code", [0, 1])
def test_the_demo_gets_its_folder_and_returns_its_code(run, replace, options, json_output, code):
    demo = Recorder(code)
    replace("demo", run_demo=demo)
    assert run("demo", "-o", "out", *options) == (code, "", "")
    assert (demo.args, demo.kwargs) == ((Path("out"),), {"json_output": json_output})
