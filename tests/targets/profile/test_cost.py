from __future__ import annotations

import dataclasses
import math

import pytest

from edgelstm.targets.profile.calibration import read_calibration
from edgelstm.targets.profile.cost import KERNELS, Kernel, bound, estimate_cost, kernel_name, piece_cost
from edgelstm.targets.profile.device import device_names, find_device
from edgelstm.targets.profile.pieces import Piece
from edgelstm.targets.profile.work import Work
from tests.targets.profile.made import CALIBRATION, DEVICE, device


def work(*pieces: Piece, turns: int = 0) -> Work:
    return Work(pieces, turns, file_bytes=1000, expanded_bytes=0, live_bytes=100)


def lstm(units: int, features: int, steps: int, kernel: str = "lstm_float32", size: int = 4) -> Piece:
    gates = 4 * units * steps
    return Piece(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        kernel=kernel,
        macs=gates * (units + features),
        weight_bytes=size * 4 * units * (units + features),
        weights=(1,),
        passes=steps,
        activations=5 * units * steps,
        elements=2 * gates,
        moved_bytes=4 * steps * (units + features),
        steps=steps,
        dot_products=2 * gates,
    )


def test_a_tiny_lstm_costs_what_its_formulas_give_by_hand():
    # 10 steps, 3 features, 4 units: 1,120 multiply-accumulates, 448 bytes of weights, which fit into the first cache
    cost = piece_cost(lstm(4, 3, 10), 448, DEVICE, CALIBRATION)
    # bound: most of 1 / 4 multiplied, 5.2 / 16 loaded, 1.5 / 2 issued; at half its efficiency
    assert cost.products == pytest.approx(1120 * 0.75 / 0.5)
    assert cost.weights == 0
    assert cost.values == pytest.approx((200 * 10 + 320 * 1 + 320 * 3) / 2)
    assert cost.moved == pytest.approx(280 / 16)
    assert cost.overhead == pytest.approx((10 * 100 + 50) / 2)
    assert cost.cycles == pytest.approx(1680 + 1640 + 17.5 + 525)
    whole = estimate_cost(work(lstm(4, 3, 10), turns=2), DEVICE, CALIBRATION)
    assert whole.cycles - cost.cycles == pytest.approx((2 * 1000 + 500) / 2)
    parts = whole.in_us(DEVICE)
    assert parts["products"] == pytest.approx(1680 / 2000)
    assert sum(parts.values()) == pytest.approx(whole.cycles / 2000)


def test_recurrent_weights_are_read_at_each_step_from_where_they_fit():
    # 20 features, 20 units: 12,800 bytes, in the third cache; the whole model of 200,000 bytes in main memory
    piece = lstm(20, 20, 10)
    cost = piece_cost(piece, 200_000, DEVICE, CALIBRATION)
    main_memory = 2.0 / 2.0 * 2.0  # bytes a cycle: GB/s over GHz, times `stream`
    assert cost.weights == pytest.approx(12_800 * (1 / main_memory + 9 / 4))
    alone = piece_cost(piece, 12_800, DEVICE, CALIBRATION)
    assert alone.weights == pytest.approx(12_800 * 10 / 4)
    assert alone.products == cost.products


def test_a_loop_reads_its_weights_once_from_afar_and_unrolled_steps_each_their_own_copy():
    one = Piece("FULLY_CONNECTED", kernel="float32", macs=1600, weight_bytes=6400, weights=(1,), runs=10)
    loop, unrolled = (
        estimate_cost(work(dataclasses.replace(one, operators=number)), DEVICE, CALIBRATION) for number in (1, 10)
    )
    assert loop.weights == pytest.approx(6400 * 10 / 8)  # 6,400 bytes fit into the second cache
    assert unrolled.weights == pytest.approx(6400 * 10 / 4)  # ten copies only into the third
    shared = dataclasses.replace(one, kernel="int16", operators=10)
    assert estimate_cost(work(shared), DEVICE, CALIBRATION).weights == pytest.approx(6400 * 10 / 8)


@pytest.mark.parametrize("kernel, changes, cycles", [
    (Kernel("float32_macs_per_cycle", 0.1, 0.1), {}, 1 / 4),
    (Kernel("float32_macs_per_cycle", 0.1, 8.0), {}, 8 / 16),
    (Kernel("float32_macs_per_cycle", 3.0, 0.1), {}, 3 / 2),
    (Kernel(None, 0.1, 0.1), {}, 0.1 / 2),
    (Kernel("wide_int8_macs_per_cycle", 0.01, 0.01), {}, 1 / 32),
])  # fmt: skip
def test_the_scarcest_resource_bounds_a_product(kernel, changes, cycles):
    assert bound(kernel, device(**changes)) == pytest.approx(cycles)


@pytest.mark.parametrize("architecture, name, kernel", [
    ("arm", "lstm_int8", "lstm_int8"),
    ("x86", "lstm_int8", "lstm_int8_portable"),
    ("cortex-m", "lstm_int8", "micro_int8"),
    ("cortex-m", "lstm_float32", "micro_float32"),
    ("cortex-m", "float32", "micro_float32"),
    ("arm", "lstm_int16", "lstm_int8"),
    ("x86", "dynamic", "dynamic"),
])  # fmt: skip
def test_kernels_differ_from_architecture_to_architecture(architecture, name, kernel):
    assert kernel_name(name, device(architecture=architecture)) == kernel


def test_x86_multiplies_with_memory_and_so_needs_fewer_instructions():
    cost = piece_cost(lstm(4, 3, 10), 448, device(architecture="x86"), CALIBRATION)
    assert cost.products == pytest.approx(1120 * (0.9 / 2) / 0.5)


@pytest.mark.parametrize("architecture, float_instructions, integer_instructions", [
    ("arm", 10, 20), ("x86", 10, 40), ("cortex-m", 40, 20),
])  # fmt: skip
def test_activations_cost_what_the_code_for_an_architecture_takes(
    architecture, float_instructions, integer_instructions
):
    made = device(architecture=architecture)
    floats = piece_cost(Piece("TANH", activations=6), 0, made, CALIBRATION)
    integers = piece_cost(Piece("TANH", integer_activations=6), 0, made, CALIBRATION)
    assert (floats.values, integers.values) == (6 * float_instructions / 2, 6 * integer_instructions / 2)


def test_threads_share_large_products_of_xnnpack_and_no_fused_lstm():
    large = Piece("FULLY_CONNECTED", kernel="float32", macs=200_000, weight_bytes=100)
    small = dataclasses.replace(large, macs=2000)
    fused = lstm(64, 64, 100)

    def products(piece: Piece, threads: int) -> float:
        return estimate_cost(work(piece), DEVICE, CALIBRATION, threads).products

    assert products(large, 4) == pytest.approx(products(large, 1) / 4)
    assert products(large, 9) == products(large, 4)  # no more than cores
    assert products(small, 4) == products(small, 1)
    assert products(fused, 4) == products(fused, 1)


@pytest.mark.parametrize("name", device_names())
@pytest.mark.parametrize("kernel, size", [("lstm_float32", 4), ("lstm_dynamic", 1), ("lstm_int8", 1)])
def test_more_units_features_or_steps_are_never_cheaper(name, kernel, size):
    found, calibration = find_device(name), read_calibration()

    def cycles(units: int, features: int, steps: int) -> float:
        return estimate_cost(work(lstm(units, features, steps, kernel, size)), found, calibration).cycles

    numbers = (1, 2, 3, 5, 8, 13, 32, 64, 100, 128, 256, 512, 1024)
    for costs in (
        [cycles(units, 16, 20) for units in numbers],
        [cycles(32, features, 20) for features in numbers],
        [cycles(32, 16, steps) for steps in numbers],
    ):
        assert costs == sorted(costs)
        assert len(set(costs)) == len(costs)
        assert all(math.isfinite(cost) and cost > 0 for cost in costs)


def test_a_faster_device_is_never_slower():
    calibration = read_calibration()
    piece = work(lstm(128, 64, 100))
    slowest_first = ("raspberry-pi-zero-2", "raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5")
    times = [
        sum(estimate_cost(piece, found, calibration).in_us(found).values()) for found in map(find_device, slowest_first)
    ]
    assert times == sorted(times, reverse=True)


def test_the_constants_that_come_with_edgelstm_are_complete():
    calibration = read_calibration()
    assert set(calibration.efficiency) == set(KERNELS)
    assert all(0 < value <= 1 for value in calibration.efficiency.values())
    assert calibration.factor > 1
    assert calibration.micro_factor >= calibration.factor
    assert calibration.band
    assert calibration.micro_band
