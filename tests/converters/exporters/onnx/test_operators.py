"""Every operator in the table: ONNX Runtime answers like the TFLite interpreter, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator, MirrorPadMode, Padding

from edgelstm.converters.exporters.onnx.operators import FAMILIES, TRANSLATIONS
from edgelstm.converters.exporters.onnx.step import operator_name
from tests.converters.exporters.onnx.flatbuffers import Array, Fixed, both, one_operator, options

# A few roundings of values of about 1 to 10: both sides compute in float32, with sums and places to interpolate at
# rounded in another order.
TOLERANCE = 5e-6

Op = BuiltinOperator
Act = ActivationFunctionType


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(floats(*shape, seed=5)) + np.float32(0.1)


def integers(*shape: int, low: int = -9, high: int = 9, dtype: Any = np.int32, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def nonzero(*shape: int) -> Array:
    values = integers(*shape, seed=2)
    return np.where(values == 0, 5, values).astype(np.int32)


def booleans(*shape: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).random(shape) < 0.5


def case(label: str, code: int, inputs: list[Any], given: Any = (None, 0), outputs: Any = (np.float32,)) -> Any:
    return pytest.param(code, inputs, given, outputs, id=f"{operator_name(code)}-{label}")


X, Y = floats(2, 3, 4), floats(2, 3, 4, seed=9)
IMAGE = floats(2, 7, 6, 3)
VIDEO = floats(2, 5, 6, 4, 3)


def binary(code: int, name: str) -> list[Any]:
    return [
        case("same", code, [X, Y], options(name)),
        case("broadcast", code, [X, floats(4, seed=4)], options(name)),
        case("constant", code, [X, Fixed(floats(3, 1, seed=6), np.float32)], options(name)),
        case("from_constant", code, [Fixed(2.5, np.float32), X], options(name)),
        case("integers", code, [integers(2, 3), nonzero(3)], options(name), (np.int32,)),
        *(
            case(f"fused_{kind}", code, [X, Y], options(name, fusedActivationFunction=kind))
            for kind in (Act.RELU, Act.RELU6, Act.RELU_N1_TO_1)
        ),
    ]


ARITHMETIC = [
    *binary(Op.ADD, "Add"),
    *binary(Op.SUB, "Sub"),
    *binary(Op.MUL, "Mul"),
    *binary(Op.DIV, "Div"),
    case(
        "integers_64", Op.ADD, [integers(4, dtype=np.int64), integers(4, dtype=np.int64)], options("Add"), (np.int64,)
    ),
    case("three", Op.ADD_N, [X, Y, X], options("AddN")),
    case("floats", Op.MAXIMUM, [X, floats(4)], options("MaximumMinimum")),
    case("integers", Op.MAXIMUM, [integers(5), integers(5, seed=8)], options("MaximumMinimum"), (np.int32,)),
    case("floats", Op.MINIMUM, [X, floats(4)], options("MaximumMinimum")),
    case("integers", Op.MINIMUM, [integers(5), integers(5, seed=8)], options("MaximumMinimum"), (np.int32,)),
    case("floats", Op.POW, [positive(3, 4), floats(3, 4)], options("Pow")),
    case("floats", Op.FLOOR_DIV, [X, Y], options("FloorDiv")),
    case("integers", Op.FLOOR_DIV, [integers(40), nonzero(40)], options("FloorDiv"), (np.int32,)),
    case("floats", Op.FLOOR_MOD, [floats(40), floats(40, seed=4)], options("FloorMod")),
    case("whole_floats", Op.FLOOR_MOD, [integers(40).astype("f4"), nonzero(40).astype("f4")], options("FloorMod")),
    case("integers", Op.FLOOR_MOD, [integers(40), nonzero(40)], options("FloorMod"), (np.int32,)),
    case("floats", Op.SQUARED_DIFFERENCE, [X, Y], options("SquaredDifference")),
    case("floats", Op.SQUARE, [X], options("Square")),
    case("floats", Op.RSQRT, [positive(9)]),
    case("floats", Op.ABS, [X], options("Abs")),
    case("floats", Op.NEG, [X], options("Neg")),
    case("integers", Op.NEG, [integers(9)], options("Neg"), (np.int32,)),
    case("floats", Op.SQRT, [positive(9)]),
    case("floats", Op.EXP, [X], options("Exp")),
    case("floats", Op.LOG, [positive(9)]),
    case("floats", Op.SIN, [X]),
    case("floats", Op.COS, [X], options("Cos")),
    case("floats", Op.CEIL, [X]),
    case("floats", Op.FLOOR, [X]),
    case("halves", Op.ROUND, [np.arange(-4, 4, 0.5, np.float32)]),
    case("floats", Op.SIGN, [floats(9)], options("Sign")),
    *(
        case(f"{values.dtype}_to_{np.dtype(to).name}", Op.CAST, [values], options("Cast"), (to,))
        for values in (floats(9), integers(9), booleans(9), integers(9, dtype=np.int64))
        for to in (np.float32, np.int32, np.int64, np.bool_)
        if values.dtype != to
    ),
]

ACTIVATIONS = [
    *(case("floats", code, [3 * X]) for code in (Op.LOGISTIC, Op.TANH, Op.RELU, Op.RELU6, Op.RELU_N1_TO_1, Op.ELU)),
    case("floats", Op.RELU_0_TO_1, [X]),
    case("floats", Op.LEAKY_RELU, [X], options("LeakyRelu", alpha=0.3)),
    case("by_channel", Op.PRELU, [X, Fixed(floats(1, 4, seed=2), np.float32)]),
    case("floats", Op.HARD_SWISH, [2 * X], options("HardSwish")),
    case("exact", Op.GELU, [X], options("Gelu")),
    case("approximate", Op.GELU, [X], options("Gelu", approximate=True)),
    case("matrix", Op.SOFTMAX, [X], options("Softmax", beta=1.0)),
    case("beta", Op.SOFTMAX, [X], options("Softmax", beta=0.5)),
    case("matrix", Op.LOG_SOFTMAX, [X], options("LogSoftmax")),
    case("rows", Op.L2_NORMALIZATION, [X], options("L2Norm")),
]

COMPARISONS = [
    *(
        case(kind, code, [one, other], (None, 0), (np.bool_,))
        for code in (Op.EQUAL, Op.NOT_EQUAL, Op.LESS, Op.LESS_EQUAL, Op.GREATER, Op.GREATER_EQUAL)
        for kind, one, other in (
            ("floats", np.round(X), np.round(Y)),
            ("broadcast", np.round(X), Fixed(1.0, np.float32)),
            ("integers", integers(2, 9, low=0, high=3), integers(9, low=0, high=3, seed=7)),
        )
    ),
    case("booleans", Op.EQUAL, [booleans(9), booleans(9, seed=4)], options("Equal"), (np.bool_,)),
    case("booleans", Op.NOT_EQUAL, [booleans(9), booleans(9, seed=4)], options("NotEqual"), (np.bool_,)),
    case("both", Op.LOGICAL_AND, [booleans(9), booleans(9, seed=4)], options("LogicalAnd"), (np.bool_,)),
    case("both", Op.LOGICAL_OR, [booleans(9), booleans(9, seed=4)], options("LogicalOr"), (np.bool_,)),
    case("one", Op.LOGICAL_NOT, [booleans(9)], options("LogicalNot"), (np.bool_,)),
    case("same", Op.SELECT, [booleans(2, 3, 4), X, Y], options("Select")),
    case("rows", Op.SELECT, [booleans(2), X, Y], options("Select")),
    case("broadcast", Op.SELECT_V2, [booleans(2, 1, 4), X, Fixed(0.5, np.float32)], options("SelectV2")),
    case("integers", Op.SELECT_V2, [booleans(9), integers(9), integers(1)], options("SelectV2"), (np.int32,)),
    case("booleans", Op.SELECT_V2, [booleans(9), booleans(9, seed=5), booleans(1)], options("SelectV2"), (np.bool_,)),
]

REDUCTIONS = [
    *(
        case(f"{axes}_{keep}", code, [X, Fixed(axes)], options("Reducer", keepDims=keep))
        for code in (Op.SUM, Op.MEAN, Op.REDUCE_MAX, Op.REDUCE_MIN, Op.REDUCE_PROD)
        for axes in ([1], [-1], [0, 2], [0, 1, 2])
        for keep in (False, True)
    ),
    *(
        case("integers", code, [integers(3, 5), Fixed([1])], options("Reducer"), (np.int32,))
        for code in (Op.SUM, Op.REDUCE_MAX, Op.REDUCE_MIN, Op.REDUCE_PROD)
    ),
    case("image", Op.MEAN, [IMAGE, Fixed([1, 2])], options("Reducer")),
    *(
        case(f"{keep}", code, [booleans(4, 2), Fixed([1])], options("Reducer", keepDims=keep), (np.bool_,))
        for code in (Op.REDUCE_ANY, Op.REDUCE_ALL)
        for keep in (False, True)
    ),
    case("32", Op.ARG_MAX, [X, Fixed(1)], options("ArgMax", outputType=2), (np.int32,)),
    case("64", Op.ARG_MAX, [X, Fixed(-1)], options("ArgMax", outputType=4), (np.int64,)),
    case("ties", Op.ARG_MAX, [np.ones((2, 3), np.float32), Fixed(1)], options("ArgMax", outputType=2), (np.int32,)),
    case("32", Op.ARG_MIN, [X, Fixed(2)], options("ArgMin", outputType=2), (np.int32,)),
    *(
        case(
            f"{values.dtype}_{exclusive}_{reverse}",
            Op.CUMSUM,
            [values, Fixed(1)],
            options("Cumsum", exclusive=exclusive, reverse=reverse),
            (values.dtype,),
        )
        for values in (X, integers(2, 5))
        for exclusive in (False, True)
        for reverse in (False, True)
    ),
]

INDEXING = [
    case("rows", Op.GATHER, [floats(9, 4), integers(2, 3, low=0)], options("Gather", axis=0)),
    case("table", Op.GATHER, [Fixed(floats(9, 4), np.float32), integers(2, 3, low=0)], options("Gather", axis=0)),
    case("columns", Op.GATHER, [X, integers(5, low=0, high=3)], options("Gather", axis=1)),
    case("scalar", Op.GATHER, [X, Fixed(2)], options("Gather", axis=-1)),
    case("by_row", Op.GATHER, [X, integers(2, 5, low=0, high=3)], options("Gather", axis=1, batchDims=1)),
    case("by_row_one", Op.GATHER, [X, integers(2, 1, low=0, high=3)], options("Gather", axis=1, batchDims=1)),
    case("by_row_wide", Op.GATHER, [X, integers(2, 5, 6, low=0, high=3)], options("Gather", axis=1, batchDims=1)),
    case("by_row_last", Op.GATHER, [X, integers(2, 5, low=0, high=4)], options("Gather", axis=2, batchDims=1)),
    case("by_row_deep", Op.GATHER, [IMAGE, integers(2, 5, 2, low=0, high=3)], options("Gather", axis=3, batchDims=1)),
    case("by_two", Op.GATHER, [X, integers(2, 3, 5, low=0, high=4)], options("Gather", axis=2, batchDims=2)),
    case("integers", Op.GATHER, [integers(9), integers(4, low=0)], options("Gather", axis=0), (np.int32,)),
    case("pairs", Op.GATHER_ND, [X, integers(5, 2, low=0, high=2)], options("GatherNd")),
    case("rows", Op.EMBEDDING_LOOKUP, [integers(5, low=0), Fixed(floats(9, 4), np.float32)]),
    case("floats", Op.TOPK_V2, [X, Fixed(3)], options("TopKV2"), (np.float32, np.int32)),
    case("all_integers", Op.TOPK_V2, [integers(2, 9), Fixed(9)], options("TopKV2"), (np.int32, np.int32)),
    *(
        case(
            f"axis_{axis}",
            Op.ONE_HOT,
            [integers(2, 3, low=-1, high=5), Fixed(4), Fixed(1.5, np.float32), Fixed(-0.5, np.float32)],
            options("OneHot", axis=axis),
        )
        for axis in (-1, 0, 1)
    ),
]

MATRICES = [
    case(
        "bias",
        Op.FULLY_CONNECTED,
        [floats(3, 4), Fixed(floats(5, 4, seed=2), np.float32), Fixed(floats(5), np.float32)],
        options("FullyConnected"),
    ),
    case("computed", Op.FULLY_CONNECTED, [floats(3, 4), floats(5, 4, seed=2)], options("FullyConnected")),
    case("flattened", Op.FULLY_CONNECTED, [X, Fixed(floats(5, 4, seed=2), np.float32)], options("FullyConnected")),
    case("wide", Op.FULLY_CONNECTED, [X, Fixed(floats(5, 12, seed=2), np.float32)], options("FullyConnected")),
    *(
        case(
            f"kept_{kind}",
            Op.FULLY_CONNECTED,
            [X, Fixed(floats(5, 4, seed=2), np.float32), Fixed(floats(5), np.float32)],
            options("FullyConnected", keepNumDims=True, fusedActivationFunction=kind),
        )
        for kind in (Act.NONE, Act.RELU, Act.RELU6)
    ),
    *(
        case(
            f"{turned}",
            Op.BATCH_MATMUL,
            [
                floats(2, *((4, 3) if turned[0] else (3, 4))),
                floats(2, *((5, 4) if turned[1] else (4, 5)), seed=2),
            ],
            options("BatchMatMul", adjX=turned[0], adjY=turned[1]),
        )
        for turned in ((False, False), (True, False), (False, True), (True, True))
    ),
    case("constant", Op.BATCH_MATMUL, [X, Fixed(floats(5, 4, seed=2), np.float32)], options("BatchMatMul", adjY=True)),
]


def window(name: str, **fields: Any) -> Any:
    return options(name, **{"padding": Padding.SAME, "strideH": 1, "strideW": 1, **fields})


def small(*shape: int) -> Fixed:
    """Weights so small that sums of products stay near 1, and their roundings within the tolerance."""
    return Fixed(0.1 * floats(*shape, seed=2), np.float32)


KERNEL = small(4, 3, 2, 3)
BIAS = Fixed(floats(4, seed=3), np.float32)

CONVOLUTIONS = [
    *(
        case(
            f"{name}_{stride}_{dilation}_{kind}",
            Op.CONV_2D,
            [IMAGE, KERNEL, BIAS],
            window(
                "Conv2D",
                padding=padding,
                strideH=stride,
                strideW=stride,
                dilationHFactor=dilation,
                dilationWFactor=dilation,
                fusedActivationFunction=kind,
            ),
        )
        for name, padding in (("same", Padding.SAME), ("valid", Padding.VALID))
        for stride, dilation, kind in ((1, 1, Act.NONE), (2, 1, Act.RELU), (3, 1, Act.NONE), (1, 2, Act.RELU6))
    ),
    case("grouped", Op.CONV_2D, [floats(2, 7, 6, 6), KERNEL, BIAS], window("Conv2D")),
    *(
        case(
            f"{multiplier}_{padding}_{stride}",
            Op.DEPTHWISE_CONV_2D,
            [
                IMAGE,
                small(1, 3, 2, 3 * multiplier),
                Fixed(floats(3 * multiplier, seed=3), np.float32),
            ],
            window("DepthwiseConv2D", padding=padding, strideH=stride, strideW=stride, depthMultiplier=multiplier),
        )
        for multiplier in (1, 2)
        for padding in (Padding.SAME, Padding.VALID)
        for stride in (1, 2)
    ),
    *(
        case(
            f"{padding}_{stride}",
            Op.CONV_3D,
            [VIDEO, small(2, 3, 2, 3, 4), BIAS],
            options("Conv3D", padding=padding, strideD=1, strideH=stride, strideW=stride),
        )
        for padding in (Padding.SAME, Padding.VALID)
        for stride in (1, 2)
    ),
    *(
        case(
            f"{shape[1]}_{padding}_{stride}",
            Op.TRANSPOSE_CONV,
            [Fixed(shape), KERNEL, IMAGE],
            window("TransposeConv", padding=padding, strideH=stride, strideW=stride),
        )
        for padding, stride, shape in (
            (Padding.SAME, 1, (2, 7, 6, 4)),
            (Padding.SAME, 2, (2, 14, 12, 4)),
            (Padding.SAME, 2, (2, 13, 11, 4)),
            (Padding.SAME, 3, (2, 21, 18, 4)),
            (Padding.VALID, 1, (2, 9, 7, 4)),
            (Padding.VALID, 2, (2, 15, 12, 4)),
        )
    ),
    *(
        case(
            f"{padding}_{size}_{stride}",
            code,
            [IMAGE],
            window("Pool2D", padding=padding, filterHeight=size, filterWidth=size, strideH=stride, strideW=stride),
        )
        for code in (Op.AVERAGE_POOL_2D, Op.MAX_POOL_2D)
        for padding in (Padding.SAME, Padding.VALID)
        for size, stride in ((2, 2), (3, 1), (3, 2))
    ),
    *(
        case(
            f"{size}_{align}_{half}",
            code,
            [IMAGE, Fixed(size)],
            options(name, alignCorners=align, halfPixelCenters=half),
        )
        for code, name in (
            (Op.RESIZE_BILINEAR, "ResizeBilinear"),
            (Op.RESIZE_NEAREST_NEIGHBOR, "ResizeNearestNeighbor"),
        )
        for size in ((14, 12), (4, 3), (9, 11))
        for align, half in ((False, False), (False, True), (True, False))
    ),
]


def strided(**fields: int) -> Any:
    return options("StridedSlice", **fields)


SHAPES = [
    case("flat", Op.RESHAPE, [X, Fixed([6, 4])], options("Reshape", newShape=[6, 4])),
    case("scalar", Op.RESHAPE, [floats(1, 1), Fixed(np.zeros(0))], options("Reshape", newShape=[])),
    case("one", Op.SQUEEZE, [floats(2, 1, 3, 1)], options("Squeeze", squeezeDims=[1])),
    case("middle", Op.EXPAND_DIMS, [X, Fixed(1)], options("ExpandDims")),
    case("turned", Op.TRANSPOSE, [X, Fixed([2, 0, 1])], options("Transpose")),
    case("middle", Op.CONCATENATION, [X, floats(2, 1, 4)], options("Concatenation", axis=1)),
    case("last", Op.CONCATENATION, [X, Y, X], options("Concatenation", axis=-1)),
    case("integers", Op.CONCATENATION, [integers(2), Fixed([5, 6])], options("Concatenation", axis=0), (np.int32,)),
    case("front", Op.PACK, [X, Y], options("Pack", axis=0, valuesCount=2)),
    case("back", Op.PACK, [X, Y], options("Pack", axis=-1, valuesCount=2)),
    case("middle", Op.UNPACK, [X], options("Unpack", axis=1, num=3), (np.float32,) * 3),
    case("last", Op.SPLIT, [Fixed(-1), X], options("Split", numSplits=2), (np.float32,) * 2),
    case("whole", Op.SPLIT, [Fixed(1), X], options("Split", numSplits=1)),
    case("uneven", Op.SPLIT_V, [X, Fixed([1, 2]), Fixed(1)], options("SplitV", numSplits=2), (np.float32,) * 2),
    case("inside", Op.SLICE, [X, Fixed([0, 1, 1]), Fixed([2, 1, 2])], options("Slice")),
    case("to_the_end", Op.SLICE, [X, Fixed([1, 0, 2]), Fixed([-1, -1, -1])], options("Slice")),
    case("nothing_taken", Op.SLICE, [X, Fixed([0, 0, 0]), Fixed([2, 3, 4])], options("Slice")),
    case("computed", Op.SLICE, [X, np.asarray([1, 0, 2], np.int32), Fixed([1, 2, 1])], options("Slice")),
    case(
        "last_step",
        Op.STRIDED_SLICE,
        [X, Fixed([0, -1, 0]), Fixed([0, 0, 0]), Fixed([1, 1, 1])],
        strided(beginMask=5, endMask=5, shrinkAxisMask=2),
    ),
    case("steps", Op.STRIDED_SLICE, [X, Fixed([0, 0, 1]), Fixed([2, 3, 4]), Fixed([1, 2, 2])], strided()),
    case("backwards", Op.STRIDED_SLICE, [X, Fixed([0, -1, 3]), Fixed([2, -4, 0]), Fixed([1, -1, -2])], strided()),
    case(
        "backwards_masked",
        Op.STRIDED_SLICE,
        [X, Fixed([0, 0]), Fixed([0, 0]), Fixed([1, -1])],
        strided(beginMask=3, endMask=3),
    ),
    case(
        "new_axis", Op.STRIDED_SLICE, [X, Fixed([0, 0, 1]), Fixed([2, 0, 3]), Fixed([1, 1, 1])], strided(newAxisMask=2)
    ),
    case("beyond", Op.STRIDED_SLICE, [X, Fixed([-9, 1]), Fixed([9, 9]), Fixed([1, 1])], strided()),
    case("offset", Op.STRIDED_SLICE, [X, Fixed([0, 1, 2]), Fixed([2, 2, 1]), Fixed([1, 1, 1])], strided(offset=True)),
    case(
        "booleans",
        Op.STRIDED_SLICE,
        [booleans(2, 5), Fixed([0, -1]), Fixed([0, 0]), Fixed([1, 1])],
        strided(beginMask=1, endMask=1, shrinkAxisMask=2),
        (np.bool_,),
    ),
    case("time", Op.REVERSE_V2, [X, Fixed([1])], options("ReverseV2")),
    case("integers", Op.REVERSE_V2, [integers(2, 5), Fixed([-1])], options("ReverseV2"), (np.int32,)),
    case("booleans", Op.REVERSE_V2, [booleans(2, 5), Fixed([1])], options("ReverseV2"), (np.bool_,)),
    case("by_row", Op.REVERSE_SEQUENCE, [X, Fixed([3, 2])], options("ReverseSequence", seqDim=1, batchDim=0)),
    case("by_column", Op.REVERSE_SEQUENCE, [X, Fixed([1, 2, 2])], options("ReverseSequence", seqDim=0, batchDim=1)),
    case("zeros", Op.PAD, [X, Fixed([[0, 0], [1, 2], [0, 3]])], options("Pad")),
    case("integers", Op.PAD, [integers(2, 3), Fixed([[0, 0], [2, 0]])], options("Pad"), (np.int32,)),
    case("value", Op.PADV2, [X, Fixed([[0, 0], [1, 2], [0, 3]]), Fixed(7.5, np.float32)], options("PadV2")),
    *(
        case(name, Op.MIRROR_PAD, [X, Fixed([[0, 0], [1, 2], [2, 1]])], options("MirrorPad", mode=mode))
        for name, mode in (("reflect", MirrorPadMode.REFLECT), ("symmetric", MirrorPadMode.SYMMETRIC))
    ),
    case("repeat", Op.TILE, [X, Fixed([1, 3, 2])], options("Tile")),
    case("integers", Op.TILE, [integers(2, 1), Fixed([1, 3])], options("Tile"), (np.int32,)),
    case("rows", Op.BROADCAST_TO, [floats(2, 1, 4), Fixed([2, 3, 4])], options("BroadcastTo")),
    case("booleans", Op.BROADCAST_TO, [booleans(2, 1), Fixed([2, 3])], options("BroadcastTo"), (np.bool_,)),
    case("value", Op.FILL, [Fixed([2, 3]), floats(1).reshape(())], options("Fill")),
    case("infinity", Op.ZEROS_LIKE, [np.asarray([1, np.inf, np.nan], np.float32)], options("ZerosLike")),
    case("one", Op.SPACE_TO_BATCH_ND, [floats(2, 7, 3), Fixed([2]), Fixed([[1, 2]])], options("SpaceToBatchND")),
    case(
        "two",
        Op.SPACE_TO_BATCH_ND,
        [floats(2, 7, 6, 3), Fixed([2, 3]), Fixed([[1, 0], [0, 0]])],
        options("SpaceToBatchND"),
    ),
    case("one", Op.BATCH_TO_SPACE_ND, [floats(4, 5, 3), Fixed([2]), Fixed([[1, 2]])], options("BatchToSpaceND")),
    case(
        "two",
        Op.BATCH_TO_SPACE_ND,
        [floats(12, 4, 2, 3), Fixed([2, 3]), Fixed([[1, 0], [0, 1]])],
        options("BatchToSpaceND"),
    ),
]

CASES = [*ARITHMETIC, *ACTIVATIONS, *COMPARISONS, *REDUCTIONS, *INDEXING, *MATRICES, *CONVOLUTIONS, *SHAPES]


@pytest.mark.parametrize("code, inputs, given, outputs", CASES)
def test_it_answers_like_the_interpreter(code, inputs, given, outputs):
    graph = one_operator(code, inputs, given, outputs)
    expected, found = both(graph, inputs)
    for right, answer in zip(expected, found, strict=True):
        assert answer.dtype == right.dtype
        assert answer.shape == right.shape
        np.testing.assert_allclose(answer, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=False)


def test_every_operator_of_the_table_is_tried():
    assert set(TRANSLATIONS) == {each.values[0] for each in CASES}


def test_no_operator_is_in_two_families():
    assert sum(len(family.TRANSLATIONS) for family in FAMILIES) == len(TRANSLATIONS)
