"""The whole way of a user who compares targets: what is counted and estimated is never taken for a measurement."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelstm.cli import main
from edgelstm.targets.emulated.emulator import Emulator
from tests.tiny_models import TinyModels

pytestmark = [pytest.mark.arm, pytest.mark.xdist_group("emulated"), pytest.mark.timeout(900)]

CPU, EMULATED, PROFILE = TARGETS = ("cpu", "emulated:arm64", "profile:raspberry-pi-4")
TIME = re.compile(r"\d (ns|µs|ms|s)\b")
IN_TEXT = {
    EMULATED: "instructions counted under emulation, not a latency",
    PROFILE: "estimated from the device's peak rates, not measured",
}
ON_PAGE = {
    CPU: ("measured", "measured"),
    EMULATED: ("emulated", "emulated: instruction counts, no latency"),
    PROFILE: ("estimated", "estimated, not measured"),
}


def blocks_of(text: str) -> dict[str, str]:
    """Returns what is told of each target."""
    starts = [match.start() for match in re.finditer(rf"^(?:{'|'.join(TARGETS)}): ", text, re.MULTILINE)]
    blocks = [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return {block[: block.index(": ")]: block for block in blocks}


def sections_of(page: str) -> dict[str, str]:
    """Returns the section of each target."""
    return {section.partition("<")[0]: section for section in page.split("<h2>")[1:]}


def test_every_kind_of_number_is_labelled_as_what_it_is(
    emulator: Callable[[str], Emulator], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    emulator("arm64")
    model, page = TinyModels(tmp_path)["fused_lstm"], tmp_path / "out.html"
    capfd.readouterr()
    targets = [word for target in TARGETS for word in ("--target", target)]
    code = main(["bench", str(model), *targets, "--html", str(page), "--plan", "quick"])
    out, err = capfd.readouterr()
    assert code == 0, err

    blocks, sections = blocks_of(out), sections_of(page.read_text(encoding="utf-8"))
    assert tuple(blocks) == tuple(sections) == TARGETS
    for target in TARGETS:
        assert [label for label in IN_TEXT.values() if label in blocks[target]] == (
            [IN_TEXT[target]] if target in IN_TEXT else []
        )
        labels = re.findall(r'<span class="kind (\w+)">([^<]*)</span>', sections[target])
        assert labels == [ON_PAGE[target]]
    # Times are measured or estimated, and a count is neither.
    assert {target: bool(TIME.search(block)) for target, block in blocks.items()} == {
        CPU: True,
        EMULATED: False,
        PROFILE: True,
    }
    assert "error band" in blocks[PROFILE]
    assert {target for target, block in blocks.items() if "instructions" in block} == {EMULATED}
    count = re.search(rf"^\s*{model.stem} .*?(\d+(?:,\d{{3}})+)", blocks[EMULATED], re.MULTILINE)
    assert count is not None
    assert f"<td>{count[1]}</td>" in sections[EMULATED]
    assert "The answers" not in blocks[EMULATED]  # they are those of this machine
