"""The mask plan around an unmasked LSTM equals a masked LSTM, step by step, as Keras defines it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from edgelstm.converters.lowering.masks import compact, last_hidden_state, last_output, plan_mask, spread
from tests.lstm_reference import LstmResult, LstmWeights, lstm_reference

TIME, FEATURES, UNITS = 7, 3, 4
PATTERNS = {
    "leading": "0001111",
    "nearly all leading": "0000001",
    "trailing": "1110000",
    "nearly all trailing": "1000000",
    "scattered": "0110100",
    "alternating": "1010101",
    "both ends": "0011100",
    "whole": "0000000",
    "none": "1111111",
}
PROMISED = {
    "auto": tuple(PATTERNS),
    "pre": ("leading", "nearly all leading", "whole", "none"),
    "post": ("trailing", "nearly all trailing", "whole", "none"),
}
# Sums of the same float64 numbers in the same order.
TOLERANCE = 1e-12

every_padding = pytest.mark.parametrize("padding", PROMISED)
both_directions = pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
both_plans = pytest.mark.parametrize("counting", [False, True], ids=["sorting", "counting"])


def mask_of(*patterns: str) -> np.ndarray:
    return np.array([[step == "1" for step in PATTERNS[pattern]] for pattern in patterns])


class Case:
    """An LSTM on every pattern that a padding promises, one row for each."""

    def __init__(self, padding: str, go_backwards: bool, counting: bool = False):
        rng = np.random.default_rng(0)
        self.mask = mask_of(*PROMISED[padding])
        self.rows = len(self.mask)
        self.x = rng.normal(size=(self.rows, TIME, FEATURES))
        self.h, self.c = rng.normal(size=(2, self.rows, UNITS))
        self.weights = LstmWeights(
            rng.normal(size=(FEATURES, 4 * UNITS)), rng.normal(size=(UNITS, 4 * UNITS)), rng.normal(size=4 * UNITS)
        )
        self.go_backwards = go_backwards
        self.plan = plan_mask(tf.constant(self.mask), go_backwards=go_backwards, padding=padding, counting=counting)
        compacted = compact(tf.constant(self.x), self.plan, go_backwards=go_backwards).numpy()
        self.outputs = lstm_reference(compacted, self.weights, h=self.h, c=self.c).outputs

    def expected(self, zero_output: bool) -> LstmResult:
        return lstm_reference(
            self.x,
            self.weights,
            h=self.h,
            c=self.c,
            mask=self.mask,
            go_backwards=self.go_backwards,
            zero_output_for_mask=zero_output,
        )


@both_plans
@every_padding
@both_directions
@pytest.mark.parametrize("zero_output", [False, True], ids=["repeats", "zeros"])
def test_outputs_are_those_of_a_masked_lstm(padding, go_backwards, zero_output, counting):
    case = Case(padding, go_backwards, counting)
    expected = case.expected(zero_output)
    outputs = tf.constant(case.outputs)
    got = spread(outputs, case.plan, zero_output=zero_output)
    np.testing.assert_allclose(got, expected.outputs, rtol=0, atol=TOLERANCE)
    got = last_output(outputs, case.plan, zero_output=zero_output)
    np.testing.assert_allclose(got, expected.last_output, rtol=0, atol=TOLERANCE)


@both_plans
@every_padding
@both_directions
def test_the_final_hidden_state_is_the_last_valid_or_the_given_one(padding, go_backwards, counting):
    case = Case(padding, go_backwards, counting)
    got = last_hidden_state(tf.constant(case.outputs), case.plan, tf.constant(case.h))
    np.testing.assert_allclose(got, case.expected(False).h, rtol=0, atol=TOLERANCE)
    whole = ~case.mask.any(axis=1)
    np.testing.assert_array_equal(got[whole], case.h[whole])


@both_plans
@every_padding
@both_directions
def test_valid_steps_come_first_in_the_order_they_are_processed(padding, go_backwards, counting):
    mask = mask_of(*PROMISED[padding])
    plan = plan_mask(tf.constant(mask), go_backwards=go_backwards, padding=padding, counting=counting)
    numbers = np.broadcast_to(np.arange(TIME)[:, np.newaxis], (len(mask), TIME, 1))
    compacted = compact(tf.constant(numbers), plan, go_backwards=go_backwards).numpy()[:, :, 0]
    for row, valid in enumerate(mask):
        steps = list(np.flatnonzero(valid))
        assert list(compacted[row, : len(steps)]) == (steps[::-1] if go_backwards else steps)


@both_plans
@every_padding
@both_directions
def test_the_tail_stands_behind_the_last_valid_step(padding, go_backwards, counting):
    mask = mask_of(*PROMISED[padding])
    plan = plan_mask(tf.constant(mask), go_backwards=go_backwards, padding=padding, counting=counting)
    expected = np.arange(TIME) >= mask.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(plan.tail, expected)


@both_plans
@every_padding
@both_directions
def test_all_index_tensors_are_int32_which_no_quantizer_touches(padding, go_backwards, counting):
    plan = plan_mask(tf.constant(mask_of("none")), go_backwards=go_backwards, padding=padding, counting=counting)
    assert {tensor.dtype for tensor in vars(plan).values() if tensor is not None} == {tf.int32}


def test_promised_patterns_need_no_sorting_where_steps_already_stand_right():
    mask = tf.constant(mask_of("none"))
    for counting in (False, True):
        assert plan_mask(mask, go_backwards=False, padding="post", counting=counting).order is None
        assert plan_mask(mask, go_backwards=True, padding="pre", counting=counting).order is None


@both_plans
@both_directions
def test_a_broken_promise_is_seen_by_these_patterns(go_backwards, counting):
    case = Case("auto", go_backwards, counting)
    for promise in ("pre", "post"):
        plan = plan_mask(tf.constant(case.mask), go_backwards=go_backwards, padding=promise, counting=counting)
        compacted = compact(tf.constant(case.x), plan, go_backwards=go_backwards).numpy()
        outputs = lstm_reference(compacted, case.weights, h=case.h, c=case.c).outputs
        got = last_output(tf.constant(outputs), plan, zero_output=False)
        assert np.abs(got - case.expected(False).last_output).max() > 0.01


@both_plans
@both_directions
def test_plans_hold_for_every_mask_of_five_steps(go_backwards, counting):
    mask = np.array(list(itertools.product([False, True], repeat=5)))
    plan = plan_mask(tf.constant(mask), go_backwards=go_backwards, padding="auto", counting=counting)
    numbers = np.broadcast_to(np.arange(1.0, 6.0)[:, np.newaxis], (len(mask), 5, 1))
    processed = numbers[:, ::-1, 0] if go_backwards else numbers[:, :, 0]
    valid = mask[:, ::-1] if go_backwards else mask
    compacted = compact(tf.constant(numbers), plan, go_backwards=go_backwards)
    got = spread(compacted, plan, zero_output=True).numpy()[:, :, 0]
    np.testing.assert_array_equal(got, np.where(valid, processed, 0))


@both_directions
@pytest.mark.parametrize("time", [1, 2, 40])
def test_counting_equals_sorting_over_any_length(go_backwards, time):
    mask = np.random.default_rng(time).random((20, time)) < np.linspace(0, 1, 20)[:, np.newaxis]
    one, other = (
        plan_mask(tf.constant(mask), go_backwards=go_backwards, padding="auto", counting=counting)
        for counting in (False, True)
    )
    for name in ("valid", "count", "tail"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
    valid = np.arange(time) < mask.sum(axis=1, keepdims=True)  # what stands behind is never read
    np.testing.assert_array_equal(np.where(valid, other.order, 0), np.where(valid, one.order, 0))
    assert (other.order.numpy() >= 0).all()
    assert (other.order.numpy() < time).all()


@both_directions
def test_counting_takes_only_operations_that_no_quantizer_rounds(go_backwards):
    """Floats stand between two casts alone; a quantizer that gives them a scale miscounts."""
    plan = tf.function(lambda mask: plan_mask(mask, go_backwards=go_backwards, padding="auto", counting=True).order)
    operations = plan.get_concrete_function(tf.TensorSpec((2, TIME), tf.bool)).graph.get_operations()
    floats = {each.type for each in operations if any(tensor.dtype == tf.float32 for tensor in each.outputs)}
    assert floats == {"Cast", "Cumsum"}
