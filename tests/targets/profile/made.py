"""A device and constants of round numbers, with which estimates can be computed by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgelstm.targets.profile.calibration import Calibration
from edgelstm.targets.profile.cost import KERNELS
from edgelstm.targets.profile.device import NUMBERS, Device

DEVICE = Device(
    name="made",
    title="a made device",
    cpu="made core",
    architecture="arm",
    clock_ghz=2.0,
    cores=4,
    issue_width=2,
    float32_macs_per_cycle=4,
    int8_macs_per_cycle=8,
    wide_float32_macs_per_cycle=8,
    wide_int8_macs_per_cycle=32,
    load_bytes_per_cycle=16,
    l1_bytes=1000,
    l2_bytes=10_000,
    l2_bytes_per_cycle=8,
    l3_bytes=100_000,
    l3_bytes_per_cycle=4,
    copy_gb_per_s=2.0,
    ram_bytes=2**30,
    flash_bytes=0,
    upper_factor=2.0,
    sources=dict.fromkeys(NUMBERS, "made"),
)

CALIBRATION = Calibration(
    efficiency=dict.fromkeys(KERNELS, 0.5),
    activation=10,
    integer_activation=20,
    integer_activation_portable=40,
    dot_product=3,
    quantize=2,
    element=1,
    step=100,
    operator=50,
    turn=1000,
    call=500,
    stream=2.0,
    factor=1.5,
    micro_factor=3.0,
    band="made up",
    micro_band="made up, too",
)


def device(**changes: Any) -> Device:
    return dataclasses.replace(DEVICE, **changes)
