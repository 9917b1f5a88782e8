"""LSTM cells written out in operators, in every precision, equal the plainest LSTM there is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from edgelstm.converters.lowering.activations import STEPWISE
from edgelstm.converters.lowering.cells import FloatCell, IntegerCell, quantize_rows
from edgelstm.runtime.calls import run_calls
from edgelstm.runtime.interpreters import is_available
from tests.converters.lowering.one_cell import (
    FORMS,
    PRECISIONS,
    Answer,
    add_lstm,
    answer,
    by_gate,
    call_of,
    cell_of,
    empty_graph,
    finished,
    float_cell,
    integer_cell,
    largest_difference,
    one_cell,
    random_case,
    start,
)
from tests.lstm_reference import ACTIVATIONS, LstmWeights, swap_gates

# Largest differences over up to nine steps, of states of about 1.
# float32: sums of ten products in another order. float16: weights of about 1 have an error of 2^-12.
# dynamic: weights and values in steps of 1/127 of the greatest. int8: weights in such steps, values in steps of 2^-15.
TOLERANCES = {"float32": 2e-6, "float16": 3e-3, "dynamic": 0.03, "int8": 0.02}

every_form = pytest.mark.parametrize("form", FORMS)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)
with_and_without_xnnpack = pytest.mark.parametrize("delegates", [True, False], ids=["xnnpack", "builtin"])


@pytest.mark.parametrize("part", ["kernel", "recurrent_kernel", "bias"])
@pytest.mark.parametrize("a, b", list(itertools.combinations("ifco", 2)))
def test_swapped_gates_are_seen(a, b, part):
    case = random_case()
    right = case.expected()
    changed = replace(case.weights, **{part: swap_gates(getattr(case.weights, part), a, b)})
    wrong = replace(case, weights=changed).expected()
    seen = largest_difference(Answer(wrong.outputs, wrong.h, wrong.c), right)
    assert seen > max(TOLERANCES.values())
    assert seen > 100 * TOLERANCES["float32"]


# Blocks of four steps and the rest behind them: times at, below and above each border.


@every_precision
@every_form
@with_and_without_xnnpack
@pytest.mark.parametrize("time", [1, 3, 4, 5, 8, 9])
def test_every_step_and_both_final_states_equal_the_reference(precision, form, delegates, time):
    for batch, features, units in ((1, 3, 4), (2, 3, 4), (3, 1, 5), (2, 6, 1), (1, 1, 1)):
        case = random_case(batch, time, features, units)
        got = answer(one_cell(cell_of(case, precision), case, form), case, delegates=delegates)
        assert got.outputs is not None
        assert largest_difference(got, case.expected()) <= TOLERANCES[precision], (batch, features, units)
        np.testing.assert_array_equal(got.outputs[:, -1], got.h)


@every_precision
@pytest.mark.parametrize("time", [1, 4, 6])
def test_loop_and_unrolled_compute_the_same_with_and_without_all_outputs(precision, time):
    case = random_case(time=time)
    # Blocks change which products XNNPACK computes together, so float32 sums may differ in their last bit.
    tolerance = 5e-7 if precision in ("float32", "float16") else 0
    results = [
        answer(one_cell(cell_of(case, precision), case, form, outputs=outputs), case)
        for form, outputs in itertools.product(FORMS, (True, False))
    ]
    for outputs, h, c in results[1:]:
        np.testing.assert_allclose(h, results[0].h, rtol=0, atol=tolerance)
        np.testing.assert_allclose(c, results[0].c, rtol=0, atol=tolerance)
        if outputs is not None:
            np.testing.assert_allclose(outputs, results[0].outputs, rtol=0, atol=tolerance)


def test_what_is_not_asked_for_is_not_in_the_file():
    case = random_case()
    for form in FORMS:
        with_all, without = (one_cell(float_cell(case), case, form, outputs=outputs) for outputs in (True, False))
        assert set(start(without)(x=case.x, h=case.h, c=case.c)) == {"last_h", "last_c"}
        assert len(without) < len(with_all)


# Activations


def test_every_activation_has_a_reference():
    assert set(ACTIVATIONS) == set(STEPWISE)


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "hard_sigmoid_of_keras_2", "tanh", "linear"])
@pytest.mark.parametrize("activation", STEPWISE)
def test_every_activation_equals_its_formula(activation, gate):
    # Values beyond every bend of the activations; but gates without bounds would grow beyond float32.
    time, factor = (3, 0.3) if gate == "linear" else (6, 3.0)
    case = random_case(batch=2, time=time)
    case = replace(case, x=np.float32(factor) * case.x, c=np.float32(factor) * case.c)
    wanted = case.expected(activation=ACTIVATIONS[activation], gate=ACTIVATIONS[gate])
    scale = max(1.0, float(np.abs(wanted.c).max()), float(np.abs(wanted.outputs).max()))
    for form in FORMS:
        got = answer(one_cell(float_cell(case, activation=activation, gate=gate), case, form), case)
        assert largest_difference(got, wanted) <= 5e-6 * scale


@pytest.mark.parametrize("one, other", list(itertools.combinations(STEPWISE, 2)))
def test_exchanged_activations_are_seen(one, other):
    x = np.linspace(-9, 9, 50)
    assert np.abs(ACTIVATIONS[one](x) - ACTIVATIONS[other](x)).max() > 0.05


# Rows of int8 weights with a scale each


def test_rows_are_quantized_each_within_half_a_step_of_its_own():
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(6, 5)) * 10.0 ** np.arange(-3, 3)[:, np.newaxis]).astype(np.float32)
    stored, scales = quantize_rows(matrix)
    assert stored.dtype == np.int8
    assert scales.dtype == np.float32
    np.testing.assert_array_equal(np.abs(stored).max(axis=1), 127)
    error = np.abs(stored * scales[:, np.newaxis].astype(np.float64) - matrix)
    assert (error <= 0.501 * scales[:, np.newaxis]).all()


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (1, 3)])
def test_a_row_of_zeros_stays_zero_and_its_scale_is_no_trap(shape):
    matrix = np.ones(shape, np.float32)
    matrix[0] = 0
    stored, scales = quantize_rows(matrix)
    np.testing.assert_array_equal(stored * scales[:, np.newaxis], matrix)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()


def unequal(case, largest: float = 30.0, smallest: float = 1e-3):
    """The case with gates and units of very different magnitudes."""
    columns = np.geomspace(smallest, largest, 4 * case.weights.units)
    rng = np.random.default_rng(3)

    def scaled(matrix):
        peaks = np.maximum(np.abs(matrix).max(axis=0), 1e-9)
        return (matrix / peaks * rng.permutation(columns)).astype(np.float32)

    kernel, recurrent_kernel = scaled(case.weights.kernel) / 10, scaled(case.weights.recurrent_kernel) / 30
    return replace(case, weights=replace(case.weights, kernel=kernel, recurrent_kernel=recurrent_kernel))


@pytest.mark.parametrize("precision", ["dynamic", "int8"])
@every_form
def test_rows_of_very_different_magnitude_keep_their_accuracy(precision, form):
    case = unequal(random_case(features=5, units=6))
    got = answer(one_cell(cell_of(case, precision), case, form), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES[precision]


def with_zero_rows(case):
    kernel, recurrent = case.weights.kernel.copy(), case.weights.recurrent_kernel.copy()
    kernel[:, ::3] = 0
    recurrent[:, 1::2] = 0
    # Small weights beside the rows of zeros: a scale made for zeros must not be theirs.
    return replace(case, weights=replace(case.weights, kernel=1e-2 * kernel, recurrent_kernel=1e-2 * recurrent))


@pytest.mark.parametrize("precision", ["dynamic", "int8"])
def test_rows_of_zeros_do_not_coarsen_the_others(precision):
    case = with_zero_rows(random_case(features=5, units=6))
    case = replace(case, x=100 * case.x)
    case = replace(case, weights=replace(case.weights, recurrent_kernel=100 * case.weights.recurrent_kernel))
    got = answer(one_cell(cell_of(case, precision), case, "loop"), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES[precision]


@every_precision
@pytest.mark.parametrize("part", ["kernel", "recurrent_kernel", "bias"])
def test_a_part_of_zeros_is_exact_in_every_precision(precision, part):
    case = random_case(time=6)
    case = replace(case, weights=replace(case.weights, **{part: 0 * getattr(case.weights, part)}))
    got = answer(one_cell(cell_of(case, precision), case, "loop"), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES[precision]


@every_precision
def test_inputs_and_states_of_zeros(precision):
    case = random_case(time=6)
    case = replace(case, x=0 * case.x, h=0 * case.h, c=0 * case.c)
    got = answer(one_cell(cell_of(case, precision), case, "loop"), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES[precision]


@pytest.mark.parametrize("half", [False, True])
def test_weights_that_the_converter_halved_stay_halves(half):
    case = random_case()
    cell = FloatCell(call_of(case), by_gate(case.weights, half), "float32")
    content = one_cell(cell, case, "loop")
    error = largest_difference(answer(content, case), case.expected())
    assert error <= TOLERANCES["float16" if half else "float32"]
    assert (error > TOLERANCES["float32"]) is half


def test_float16_and_int8_weights_make_files_of_a_half_and_a_quarter():
    case = random_case(time=9, features=48, units=64)
    size = {precision: len(one_cell(cell_of(case, precision), case, "loop")) for precision in PRECISIONS}
    assert size["float16"] < 0.6 * size["float32"]
    assert size["dynamic"] < 0.4 * size["float32"]
    assert size["int8"] < 0.4 * size["float32"]


# Integers: nothing wraps around, whatever the magnitudes


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_integers_take_inputs_of_any_magnitude(factor):
    case = random_case(time=6)
    case = replace(
        case,
        x=np.float32(factor) * case.x,
        weights=replace(case.weights, kernel=case.weights.kernel / np.float32(factor)),
    )
    got = answer(one_cell(integer_cell(case), case, "loop"), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES["int8"]


@pytest.mark.parametrize("factor", [1e3, 1e4, 1e5, 1e6, 1e9, 1e12])
def test_integer_gates_saturate_far_beyond_their_range(factor):
    case = random_case(time=6)
    case = replace(case, x=(np.sign(case.x) * (1 + np.abs(case.x)) * factor).astype(np.float32))
    wanted = case.expected()
    got = answer(one_cell(integer_cell(case), case, "loop"), case)
    # Every gate is 0 or 1 then; the integer ones end at sigmoid(8), which is 3e-4 short of it, at every step.
    assert largest_difference(got, wanted) <= TOLERANCES["int8"]


@pytest.mark.parametrize(
    "part, factor", [("bias", 1e3), ("bias", 1e9), ("recurrent_kernel", 1e5), ("recurrent_kernel", 1e9)]
)
def test_integers_of_any_magnitude_give_values_within_range(part, factor):
    case = random_case(time=6)
    case = replace(case, weights=replace(case.weights, **{part: np.float32(factor) * getattr(case.weights, part)}))
    got = answer(one_cell(integer_cell(case, exponent=3), case, "loop"), case)
    wanted = case.expected()
    if part == "bias":
        assert largest_difference(got, wanted) <= TOLERANCES["int8"]
    # Differences of huge products have no digits left in int8; but states stay states.
    assert np.abs(got.outputs).max() <= 1
    assert np.abs(got.c).max() <= 8


def test_a_large_bias_does_not_coarsen_small_ones():
    case = random_case(time=6)
    bias = case.weights.bias.copy()
    bias[::5] += 1000
    case = replace(case, weights=replace(case.weights, bias=bias))
    wanted = case.expected()
    got = answer(one_cell(integer_cell(case, exponent=3), case, "loop"), case)
    assert largest_difference(got, wanted) <= TOLERANCES["int8"]


@pytest.mark.parametrize("features, units", [(700, 2), (3, 640)])
def test_integer_sums_over_many_full_weights_do_not_overflow(features, units):
    """32 767 * 127 over more than 516 rows leaves int32, in which the kernel sums."""
    kernel = np.full((features, 4 * units), 2 / features, np.float32)
    recurrent = np.full((units, 4 * units), 2 / units, np.float32)
    bias = np.full(4 * units, -3, np.float32)
    rng = np.random.default_rng(0)
    case = replace(
        random_case(1, 2, 1, 1),
        x=(1 - 0.01 * rng.random((1, 2, features))).astype(np.float32),
        h=np.full((1, units), 0.99, np.float32),
        c=np.zeros((1, units), np.float32),
        weights=LstmWeights(kernel, recurrent, bias),
    )
    got = answer(one_cell(integer_cell(case, exponent=0), case, "loop"), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES["int8"]


@pytest.mark.parametrize("hidden_peak", [1.0, 2.0, 7.5])
def test_a_given_hidden_state_beyond_1_is_kept_where_the_cell_knows_of_it(hidden_peak):
    case = random_case(time=3)
    case = replace(case, h=(hidden_peak * np.sign(case.h)).astype(np.float32))
    got = answer(one_cell(integer_cell(case, hidden_peak=hidden_peak), case, "loop"), case)
    assert largest_difference(got, case.expected()) <= TOLERANCES["int8"]
    blind = answer(one_cell(integer_cell(case), case, "loop"), case)
    assert hidden_peak == 1 or largest_difference(blind, case.expected()) > 2 * TOLERANCES["int8"]


def counter(steps: int, rate: float = 0.999):
    """Cells that count up and down again in steps of tanh(3), tanh(2), …; their gates are open."""
    units = 4
    kernel = np.zeros((1, 4 * units), np.float32)
    kernel[0, 2 * units : 3 * units] = (3, 2, 1.5, 1)
    bias = np.concatenate(
        [np.full(units, 7.0), np.full(units, np.log(rate / (1 - rate))), np.zeros(units), np.full(units, 3.0)]
    )
    signs = np.concatenate([np.ones(steps), -np.ones(steps // 2)])
    return replace(
        random_case(1, 1, 1, units),
        x=signs.reshape(1, -1, 1).astype(np.float32),
        h=np.zeros((1, units), np.float32),
        c=np.zeros((1, units), np.float32),
        weights=LstmWeights(kernel, np.zeros((units, 4 * units), np.float32), bias.astype(np.float32)),
    )


@pytest.mark.parametrize("exponent", range(7))
def test_a_cell_state_is_right_up_to_its_largest_value(exponent):
    case = counter(steps=max(1, int(0.95 * 2**exponent)))
    wanted = case.expected()
    got = answer(one_cell(integer_cell(case, exponent), case, "loop"), case)
    # Each step rounds to half a step of the state, and moves by 3e-4 of it: gates end before 1.
    steps = case.x.shape[1]
    allowed = steps * (0.5 * 2.0 ** (exponent - 15) + 3e-4) + 5e-4 * 2**exponent + 2e-3
    assert np.abs(got.c - wanted.c).max() <= allowed


@pytest.mark.parametrize("exponent", range(6))
def test_a_cell_state_beyond_its_largest_value_saturates_and_comes_down_again(exponent):
    case = counter(steps=4 * 2**exponent)
    got = answer(one_cell(integer_cell(case, exponent), case, "loop"), case)
    limit = 2.0**exponent
    assert np.abs(got.c).max() <= limit
    half = case.x.shape[1] * 2 // 3
    rising = answer(
        one_cell(integer_cell(replace(case, x=case.x[:, :half]), exponent), replace(case, x=case.x[:, :half]), "loop"),
        replace(case, x=case.x[:, :half]),
    )
    np.testing.assert_allclose(rising.c[0, 0], limit, rtol=2e-3)
    assert (got.c < rising.c).all()


# Other runtimes


def all_cells(everything: bool) -> tuple[bytes, dict[str, np.ndarray], dict[str, tuple[float, np.ndarray]]]:
    """A file with every precision in every form; its inputs; tolerance and right answer by output."""
    graph, inputs, right = empty_graph(), {}, {}
    for position, (precision, form, time) in enumerate(itertools.product(PRECISIONS, FORMS, (1, 4, 6))):
        case = random_case(time=time, seed=position)
        prefix = f"{precision}_{form}_{time}_"
        # tflite-runtime 2.14 has no DYNAMIC_UPDATE_SLICE for int16; runtimes that take loops are newer.
        outputs = everything or (precision, form) != ("int8", "loop")
        add_lstm(graph, cell_of(case, precision), case, form, outputs=outputs, prefix=prefix)
        inputs |= {prefix + name: getattr(case, name)[np.newaxis] for name in "xhc"}
        wanted = case.expected()
        for name, value in (("outputs", wanted.outputs), ("last_h", wanted.h), ("last_c", wanted.c)):
            if outputs or name != "outputs":
                right[prefix + name] = TOLERANCES[precision], value
    return finished(graph), inputs, right


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime", "litert-compiled"])
def test_every_cell_runs_on_every_runtime(runtime, tmp_path):
    if not is_available(runtime):
        pytest.skip(f"{runtime} is not installed")
    content, inputs, right = all_cells(everything=runtime != "tflite-runtime")
    path = tmp_path / "cells.tflite"
    path.write_bytes(content)
    got, _ = run_calls(path, inputs, runtime=runtime)
    assert set(got) == set(right)
    for name, (tolerance, value) in right.items():
        np.testing.assert_allclose(got[name][0], value, rtol=0, atol=tolerance, equal_nan=False, err_msg=name)


def test_integer_scales_cover_what_they_are_told():
    cell = IntegerCell(call_of(random_case()), by_gate(random_case().weights), 3.0, 4)
    assert cell.x_scale == pytest.approx(3 / 32767)
    assert cell.hidden_scale == 2.0**-15
    assert cell.cell_scale == 2.0 ** (4 - 15)
