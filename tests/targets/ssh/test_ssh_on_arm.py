"""The whole way of a Raspberry Pi: a real sshd whose sessions land in an emulated Arm userland."""

from __future__ import annotations

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.base import SetupOptions
from edgelstm.targets.ssh import KIND, SshTarget
from edgelstm.targets.subjects import Settings
from tests.targets.fake_board import fake_board
from tests.targets.ssh.helpers import SHORT, left_behind
from tests.tiny_models import TinyModels

pytestmark = [pytest.mark.arm, pytest.mark.xdist_group("boards"), pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    "architecture, runtime, machine",
    [("arm64", "ai-edge-litert", "aarch64"), ("armhf", "tflite-runtime", "armv7l")],
)
def test_setup_bench_and_clean_up(architecture, runtime, machine, tmp_path, monkeypatch):
    model = TinyModels(tmp_path)["fused_lstm"]
    (tmp_path / "board").mkdir()
    with fake_board(architecture, tmp_path / "board") as board:
        monkeypatch.setenv("EDGELSTM_SSH_CONFIG", str(board.ssh_config))
        target = SshTarget(board.target)
        before = set(left_behind(board))
        with pytest.raises(TargetError, match="has no runtime for models"):
            target.measure(model, SHORT)
        # The wheels are fetched here and installed there without a network.
        done = KIND.setup(board.target, SetupOptions(options={"download": "yes"}), None)
        assert f"installed {runtime} " in done
        assert f" on {machine}, in ~/.local/share/edgelstm/venv." in done
        assert "it is set up already" in KIND.setup(board.target, SetupOptions(), None)

        board.set_vcgencmd(get_throttled="throttled=0x4")
        measurement = target.measure(model, SHORT, Settings(runtime=runtime))
        assert (measurement.runtime, measurement.machine["architecture"]) == (runtime, machine)
        assert measurement.machine["governor"] == "ondemand"
        assert measurement.statistics.num_samples >= SHORT.min_runs
        assert {entry["throttled"] for entry in measurement.processes[0].conditions} == {"throttled=0x4"}
        assert any("throttled because of heat" in text for text in measurement.warnings)
        assert set(left_behind(board)) - before == {str(board.home / ".local")}
