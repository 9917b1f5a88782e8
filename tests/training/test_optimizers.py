from __future__ import annotations

import numpy as np
import pytest

from edgelstm.training.optimizers import ADAMW_WEIGHT_DECAY, make_optimizer, own_optimizer
from tests.training.tiny_task import TinyTask

keras = pytest.importorskip("keras")

GRADIENTS = [np.array([[3.0, -0.02], [0.5, 1.0]], np.float32), np.array([-4.0, 0.1], np.float32)]
NORM = float(np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in GRADIENTS)))
START = 0.5


def step(times=1, **settings):
    """Applies the gradients; returns the optimizer and the weights."""
    optimizer = make_optimizer(TinyTask().setup(settings={"learning_rate": 0.1, **settings}), 5)
    variables = [keras.Variable(np.full(gradient.shape, START, np.float32)) for gradient in GRADIENTS]
    for _ in range(times):
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in GRADIENTS], variables)
    return optimizer, [variable.numpy() for variable in variables]


def adam(gradients, times=1, decay=0.0, rate=0.1):
    """Kingma and Ba, "Adam" (2015), algorithm 1; decoupled decay of Loshchilov and Hutter (2019), algorithm 2."""
    weights = [np.full(gradient.shape, START) for gradient in gradients]
    m = [np.zeros(gradient.shape) for gradient in gradients]
    v = [np.zeros(gradient.shape) for gradient in gradients]
    for t in range(1, times + 1):
        for index, gradient in enumerate(gradients):
            g = gradient.astype(np.float64)
            m[index] = 0.9 * m[index] + 0.1 * g
            v[index] = 0.999 * v[index] + 0.001 * g**2
            corrected = m[index] / (1 - 0.9**t), v[index] / (1 - 0.999**t)
            weights[index] -= rate * decay * weights[index]
            weights[index] -= rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-7)
    return weights


def moments(optimizer):
    """Adam's first moments after one step: a tenth of what gradients were after clipping."""
    return [v.numpy() for v in optimizer.variables if v.path.endswith("momentum")]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_norm_is_that_of_all_gradients():
    optimizer, weights = step()
    assert float(optimizer.gradient_norm.numpy()) == pytest.approx(NORM, rel=1e-6)
    assert_close(weights, adam(GRADIENTS))


def test_adam_goes_on_from_its_moments():
    assert_close(step(3)[1], adam(GRADIENTS, 3))


@pytest.mark.parametrize("given, decay", [(0.0, ADAMW_WEIGHT_DECAY), (0.3, 0.3)])
def test_adamw_decays(given, decay):
    _, weights = step(2, optimizer="adamw", weight_decay=given)
    expected = adam(GRADIENTS, 2, decay)
    assert_close(weights, expected)
    assert np.abs(expected[0] - adam(GRADIENTS, 2)[0]).max() > 3e-4, "a decay that does not show proves nothing"


def test_clipnorm_scales_all_gradients_to_the_limit_and_the_norm_told_is_that_before():
    optimizer, _ = step(clipnorm=0.5)
    assert_close(moments(optimizer), [0.1 * gradient * 0.5 / NORM for gradient in GRADIENTS])
    assert float(optimizer.gradient_norm.numpy()) == pytest.approx(NORM, rel=1e-6)


def test_clipnorm_leaves_shorter_gradients_alone():
    optimizer, _ = step(clipnorm=NORM * 1.01)
    assert_close(moments(optimizer), [0.1 * gradient for gradient in GRADIENTS])


def test_clipvalue_cuts_each_value():
    optimizer, _ = step(clipvalue=0.4)
    assert_close(moments(optimizer), [0.1 * np.clip(gradient, -0.4, 0.4) for gradient in GRADIENTS])


def test_without_limits_nothing_is_clipped():
    assert_close(moments(step()[0]), [0.1 * gradient for gradient in GRADIENTS])


def test_cosine_goes_down_to_nothing_over_all_steps():
    optimizer = make_optimizer(TinyTask().setup(settings={"schedule": "cosine", "learning_rate": 0.1, "epochs": 4}), 5)
    schedule = optimizer._learning_rate
    found = [float(schedule(index)) for index in (0, 1, 10, 20)]
    np.testing.assert_allclose(found, [0.05 * (1 + np.cos(np.pi * index / 20)) for index in (0, 1, 10, 20)], atol=1e-8)


def test_the_own_one_is_below_the_one_that_scales_losses():
    optimizer = make_optimizer(TinyTask().setup(), 5)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer), "mse")
    assert own_optimizer(model) is optimizer
    model.compile(optimizer, "mse")
    assert own_optimizer(model) is optimizer
