"""Masked sequences on an operator that knows no masks: compact the valid steps, run, spread the result.

Keras lets a masked step keep the state and repeat the previous output; before the first valid step the
output is zeros. Moving the valid steps to the front (in the order they are processed) makes the fused
operator compute exactly those states; what it computes after them is never read. All index arithmetic is
in int32, so that no quantizer touches it; only runtimes that cannot sort count in float32, in which small whole
numbers are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PADDINGS = ("auto", "pre", "post", "none")


@dataclass(frozen=True)
class MaskPlan:
    """Index tensors for one masked call; `valid` and all others are int32 TensorFlow tensors.

    Attributes:
        valid: 1 on valid steps in the order they are processed, shape (batch, time).
        count: Number of valid steps up to and including each processed step, shape (batch, time).
        order: Input step that each compacted step reads, shape (batch, time); None for "as they are".
        tail: 1 on compacted steps behind the last valid one, shape (batch, time).
    """

    valid: Any
    count: Any
    order: Any
    tail: Any


def plan_mask(mask: Any, *, go_backwards: bool, padding: str, counting: bool = False) -> MaskPlan:
    """Computes where each step goes.

    Args:
        mask: True on valid steps, shape (batch, time), static.
        go_backwards: Whether the layer processes the last step first.
        padding: "auto" for any pattern; "pre" or "post" where the caller promises that all masked steps
            come first or last, which needs no sorting.
        counting: Whether to do without TOPK_V2 and without counting in int32.
    """
    import tensorflow as tf

    given = tf.cast(mask, tf.int32)
    time = int(given.shape[1])
    steps = tf.range(time, dtype=tf.int32)[tf.newaxis, :]
    valid = tf.reverse(given, axis=[1]) if go_backwards else given
    count = _running_count(valid, in_float=counting)
    total = count[:, -1:]
    if padding == "auto":
        order = _order_by_counting(count, go_backwards) if counting else _order_by_sorting(given, go_backwards)
    elif padding == "pre":
        order = None if go_backwards else tf.minimum(steps + (time - total), time - 1)
    else:
        order = tf.maximum(total - 1 - steps, 0) if go_backwards else None
    return MaskPlan(valid, count, order, tf.cast(steps >= total, tf.int32))


def _running_count(valid: Any, *, in_float: bool) -> Any:
    """CUMSUM, if need be in float32 between two CASTs: quantizers leave that alone, and it is exact."""
    import tensorflow as tf

    if in_float:
        return tf.cast(tf.cumsum(tf.cast(valid, tf.float32), axis=1), tf.int32)
    return tf.cumsum(valid, axis=1)


def _order_by_sorting(given: Any, go_backwards: bool) -> Any:
    """Valid steps above all masked ones, by unique keys, each group in the order of processing."""
    import tensorflow as tf

    time = int(given.shape[1])
    steps = tf.range(time, dtype=tf.int32)[tf.newaxis, :]
    rank = steps + 1 if go_backwards else time - steps
    return tf.math.top_k(given * time + rank, time).indices


def _order_by_counting(count: Any, go_backwards: bool) -> Any:
    """The j-th valid step is the first to count more than j: one comparison for each pair of steps."""
    import tensorflow as tf

    time = int(count.shape[1])
    steps = tf.range(time, dtype=tf.int32)[tf.newaxis, :, tf.newaxis]
    reached = tf.cast(count[:, tf.newaxis, :] > steps, tf.int8)
    first = tf.argmax(reached, axis=2, output_type=tf.int32)
    return (time - 1) - first if go_backwards else first


def compact(sequences: Any, plan: MaskPlan, *, go_backwards: bool) -> Any:
    """Moves the valid steps of (batch, time, features) to the front, in the order of processing."""
    import tensorflow as tf

    if plan.order is not None:
        return tf.gather(sequences, tf.broadcast_to(plan.order, sequences.shape[:2]), batch_dims=1)
    return tf.reverse(sequences, axis=[1]) if go_backwards else sequences


def spread(outputs: Any, plan: MaskPlan, *, zero_output: bool) -> Any:
    """Brings compacted outputs (batch, time, units) back to the processed steps, repeating over masked ones."""
    import tensorflow as tf

    gathered = tf.gather(outputs, tf.maximum(plan.count - 1, 0), batch_dims=1)
    written = plan.valid if zero_output else plan.count
    return tf.where(written[:, :, tf.newaxis] > 0, gathered, tf.zeros_like(gathered))


def last_output(outputs: Any, plan: MaskPlan, *, zero_output: bool) -> Any:
    """The last step of `spread` without spreading, shape (batch, units)."""
    import tensorflow as tf

    last = _at_last_valid(outputs, plan)
    written = (plan.valid if zero_output else plan.count)[:, -1:]
    return tf.where(written > 0, last, tf.zeros_like(last))


def last_hidden_state(outputs: Any, plan: MaskPlan, initial: Any) -> Any:
    """The hidden state after the last valid step, the initial one where there is none; shape (batch, units)."""
    import tensorflow as tf

    return tf.where(plan.count[:, -1:] > 0, _at_last_valid(outputs, plan), initial)


def _at_last_valid(outputs: Any, plan: MaskPlan) -> Any:
    import tensorflow as tf

    index = tf.maximum(plan.count[:, -1:] - 1, 0)
    return tf.squeeze(tf.gather(outputs, index, batch_dims=1), axis=1)
