"""The table of rewrites: what each class of layer said differently before Keras 3, and since when it does not.

Every entry was read in the sources of Keras (tags 1.0.0 to 2.15.0) and of TensorFlow. The order counts: classes get
their new names first, then settings, then defaults.
"""

from __future__ import annotations

from typing import Any

from edgelstm.converters.loading.rewriting.base import Context, Layer, Rewrite
from edgelstm.converters.loading.rewriting.settings import (
    become,
    default,
    drop,
    drop_if,
    rename,
    single,
    translate,
)

KERAS_2 = (2, 0)
RECURRENT = ("SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
GATED = ("LSTM", "GRU", "LSTMCell", "GRUCell", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
STATEFUL = (*RECURRENT, "RNN", "Bidirectional")

CLASS_NAMES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
}
"""Classes that only changed their names."""


def _initial_forget_bias(layer: Layer, _: Context) -> None:
    value = layer.settings.pop("forget_bias_init", None)
    if value is not None:
        layer.settings.setdefault("unit_forget_bias", value == "one")


def _kernel_size(*names: str) -> Any:
    """Collects the size of a kernel from one setting for each axis."""

    def change(layer: Layer, _: Context) -> None:
        sizes = [layer.settings.pop(name) for name in names if name in layer.settings]
        if len(sizes) == len(names):
            layer.settings.setdefault("kernel_size", sizes)

    return change


def _padding_sides(layer: Layer, _: Context) -> None:
    """Keras 1 named the sides of ZeroPadding2D."""
    sides = layer.settings.get("padding")
    if isinstance(sides, dict):
        top, bottom, left, right = (sides.get(f"{side}_pad", 0) for side in ("top", "bottom", "left", "right"))
        layer.settings["padding"] = [[top, bottom], [left, right]]


def _recurrent_default(layer: Layer, context: Context) -> None:
    """Before 2.3 the default recurrent activation was hard_sigmoid; every version known to us writes the setting."""
    if "recurrent_activation" in layer.settings or layer.class_name.startswith("ConvLSTM"):
        layer.settings.setdefault("recurrent_activation", "hard_sigmoid")
    elif context.writer.before(2, 3) and "-tf" in context.writer.text:
        raise context.refusal(
            layer.name,
            f"does not say its recurrent activation, and the default of {context.writer.title} depended on the "
            "version of TensorFlow. Write recurrent_activation into its configuration",
        )
    else:
        layer.settings["recurrent_activation"] = "hard_sigmoid" if context.writer.before(2, 3) else "sigmoid"


def _threshold(layer: Layer, _: Context) -> None:
    """ThresholdedReLU is x where x > theta and 0 elsewhere, which is ReLU with that threshold."""
    layer.class_name = "ReLU"
    layer.settings["threshold"] = layer.settings.pop("theta", 1.0)


def _causal_attention(layer: Layer, context: Context) -> None:
    """Up to 2.10 Attention had the setting `causal`, now it is an argument of each call."""
    if layer.settings.pop("causal", False):
        raise context.refusal(layer.name, "has causal=True, which Keras 3 takes in calls only")


def _keras_1_merge(layer: Layer, context: Context) -> None:
    """The one class Merge of Keras 1 became a class for each mode."""
    modes = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot"}
    mode = layer.settings.get("mode")
    if layer.settings.get("mode_type", "raw") != "raw" or mode not in modes:
        raise context.refusal(layer.name, f"is a Merge with mode={mode!r:.40}, which Keras 3 does not have")
    settings: dict[str, Any] = {"name": layer.name}
    if mode == "concat":
        settings["axis"] = layer.settings.get("concat_axis", -1)
    if mode == "dot":
        settings["axes"] = layer.settings.get("dot_axes", -1)
    layer.class_name, layer.settings = modes[mode], settings


_TIME_MAJOR = "so that time is its first axis and not its second. Save the model with batch-major recurrent layers"
_NO_COUNTERPART = "which Keras 3 does not have"
_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first", "default": None}

REWRITES: tuple[Rewrite, ...] = (
    # Classes that are told in other words today
    Rewrite(
        ("TimeDistributedDense",),
        become("Dense"),
        "Dense works on the last of any number of axes since 2.0",
    ),
    Rewrite(
        ("CuDNNLSTM",),
        become("LSTM", activation="tanh", recurrent_activation="sigmoid", use_bias=True),
        "one class LSTM with these activations runs on cuDNN by itself since 2.3 (TensorFlow 2.0)",
    ),
    Rewrite(
        ("CuDNNGRU",),
        become("GRU", activation="tanh", recurrent_activation="sigmoid", use_bias=True, reset_after=True),
        "one class GRU with these settings runs on cuDNN by itself since 2.3 (TensorFlow 2.0)",
    ),
    Rewrite(("ThresholdedReLU",), _threshold, "left out of Keras 3"),
    Rewrite(("Merge",), _keras_1_merge, "replaced by classes in 2.0", KERAS_2),
    # Names of Keras 1
    Rewrite(
        (),
        rename(
            inner_activation="recurrent_activation",
            inner_init="recurrent_initializer",
            W_regularizer="kernel_regularizer",
            U_regularizer="recurrent_regularizer",
            b_regularizer="bias_regularizer",
            W_constraint="kernel_constraint",
            b_constraint="bias_constraint",
            bias="use_bias",
            dropout_W="dropout",
            dropout_U="recurrent_dropout",
            nb_filter="filters",
            border_mode="padding",
            subsample="strides",
            subsample_length="strides",
            stride="strides",
            filter_length="kernel_size",
            pool_length="pool_size",
            atrous_rate="dilation_rate",
            dim_ordering="data_format",
            beta_init="beta_initializer",
            gamma_init="gamma_initializer",
        ),
        "names of Keras 1",
        KERAS_2,
    ),
    Rewrite(("Embedding",), rename(kernel_regularizer="embeddings_regularizer"), "names of Keras 1", KERAS_2),
    Rewrite(("Embedding",), rename(kernel_constraint="embeddings_constraint"), "names of Keras 1", KERAS_2),
    Rewrite(("Embedding",), drop("dropout", "init"), "dropped whole words, in training only", KERAS_2),
    Rewrite(("PReLU",), rename(init="alpha_initializer"), "names of Keras 1", KERAS_2),
    Rewrite((), rename(init="kernel_initializer"), "names of Keras 1", KERAS_2),
    Rewrite(
        ("Dense", *RECURRENT),
        rename(output_dim="units"),
        "names of Keras 1",
        KERAS_2,
    ),
    Rewrite(
        ("Dropout", "GaussianDropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        rename(p="rate"),
        "names of Keras 1",
        KERAS_2,
    ),
    Rewrite(("GaussianNoise",), rename(sigma="stddev"), "names of Keras 1", KERAS_2),
    Rewrite(("UpSampling1D",), rename(length="size"), "names of Keras 1", KERAS_2),
    Rewrite(
        ("Conv2D", "SeparableConv2D", "Conv2DTranspose", "ConvLSTM2D"), _kernel_size("nb_row", "nb_col"), "", KERAS_2
    ),
    Rewrite(("Conv3D",), _kernel_size("kernel_dim1", "kernel_dim2", "kernel_dim3"), "names of Keras 1", KERAS_2),
    Rewrite(("Conv2DTranspose",), drop("output_shape"), "found by Keras since 2.0", KERAS_2),
    Rewrite(("ZeroPadding2D",), _padding_sides, "a tuple since 2.0", KERAS_2),
    Rewrite((), translate("data_format", _DATA_FORMATS), "other names since 2.0", KERAS_2),
    Rewrite(RECURRENT, _initial_forget_bias, "a switch since 2.0", KERAS_2),
    Rewrite(
        ("BatchNormalization",),
        drop_if((0,), "which left Keras in 2.0", "mode"),
        "only mode 0 is left",
        KERAS_2,
    ),
    Rewrite(
        ("Dense", *RECURRENT, "Conv1D", "SeparableConv1D"),
        drop("input_dim", "input_length", "consume_less"),
        "the first layer's shape, and how to compute the same",
        KERAS_2,
    ),
    # Defaults
    Rewrite(GATED, _recurrent_default, "sigmoid since 2.3, in ConvLSTM since 3.0"),
    Rewrite(("GRU", "GRUCell"), default(reset_after=False), "a setting since 2.1.3, False until TensorFlow 2.0"),
    # Settings that Keras 3 does not have
    Rewrite(STATEFUL, drop_if((False, None), _TIME_MAJOR, "time_major"), "left out of Keras 3"),
    Rewrite(
        STATEFUL,
        drop_if(
            (0, None), "and constants of recurrent cells are left out of Keras 3", "num_constants", "_num_constants"
        ),
        "left out of Keras 3",
    ),
    Rewrite(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), drop("implementation"), "how to compute the same"),
    Rewrite(("SimpleRNN", "SimpleRNNCell"), drop("implementation"), "how to compute the same"),
    Rewrite(("Embedding",), drop("input_length", "sparse"), "the number of steps, found by Keras 3"),
    Rewrite(
        ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "DepthwiseConv1D", "DepthwiseConv2D", *SEPARABLE),
        drop_if((1, None), _NO_COUNTERPART, "groups"),
        "written by tf.keras, but never used",
    ),
    Rewrite(
        SEPARABLE,
        drop("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
        "written by tf.keras, but such a layer has two other kernels",
    ),
    Rewrite(
        ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        drop("trainable", "noise_shape"),
        "nothing in such a layer is trainable, and the shape of its noise follows from its input",
    ),
    Rewrite(("Discretization",), drop("trainable"), "nothing in such a layer is trainable"),
    Rewrite(
        ("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomCrop", "RandomContrast"),
        drop("rng_type"),
        "how to draw the same random numbers",
    ),
    Rewrite(("LeakyReLU",), rename(alpha="negative_slope"), "renamed in 3.0"),
    Rewrite(("BatchNormalization",), single("axis"), "a list inside TensorFlow"),
    Rewrite(
        ("BatchNormalization",),
        drop_if((False, None), _NO_COUNTERPART, "renorm", "virtual_batch_size", "adjustment"),
        "left out of Keras 3",
    ),
    Rewrite(("BatchNormalization",), drop("fused", "renorm_clipping", "renorm_momentum"), "how to compute the same"),
    Rewrite(("Attention", "AdditiveAttention"), _causal_attention, "an argument of calls since 2.11"),
    Rewrite(("Softmax",), drop("robust_masking"), "how to compute the same"),
    Rewrite(("MultiHeadAttention",), drop("softmax_robust_masking"), "how to compute the same"),
    Rewrite(
        ("MultiHeadAttention",),
        drop("query_shape", "key_shape", "value_shape"),
        "found by Keras 3 when it calls the layer",
    ),
    Rewrite((), drop("batch_input_shape", "input_dtype", "dynamic"), "told by InputLayer in Keras 3"),
    Rewrite((), drop_if((None,), "and weights stand in the file elsewhere", "weights"), "not a setting any more"),
)
