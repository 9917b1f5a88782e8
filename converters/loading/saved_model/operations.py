"""Which TensorFlow operations are taken from a SavedModel, and which are refused.

Only operations that are listed here are ever run, and only those that the signature's outputs are computed from:
nothing else in the file, neither its restore function nor its initialisers, is executed. The list holds functions of
numbers alone. Everything that reads or writes files, opens connections, calls Python, keeps state or draws random
numbers is missing from it on purpose, as are operations that no TensorFlow Lite operator stands for.
"""

from __future__ import annotations


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


ARITHMETIC = _names("""
    Abs Add AddN AddV2 Atan2 BiasAdd BiasAddV1 Ceil ClipByValue Cos Cumsum Cumprod Div DivNoNan Elu Erf Exp Expm1 Floor
    FloorDiv FloorMod Inv IsFinite IsInf IsNan L2Loss LeakyRelu Log Log1p LogSoftmax Maximum Minimum Mod Mul MulNoNan
    Neg Pow RealDiv Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Square
    SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy
""")
COMPARISON = _names("""
    ApproximateEqual Equal Greater GreaterEqual Less LessEqual LogicalAnd LogicalNot LogicalOr NotEqual Select SelectV2
    BitwiseAnd BitwiseOr BitwiseXor LeftShift RightShift
""")
REDUCTION = _names("All Any ArgMax ArgMin Max Mean Min Prod SegmentSum Sum TopK TopKV2 UnsortedSegmentSum")
PRODUCT = _names("""
    AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D Conv2DBackpropInput Conv3D DepthwiseConv2dNative
    Einsum FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN MatMul MaxPool MaxPool3D ResizeBilinear
    ResizeNearestNeighbor RFFT IRFFT RFFT2D
""")
SHAPE = _names("""
    BatchToSpaceND BroadcastArgs BroadcastTo Cast Concat ConcatOffset ConcatV2 DepthToSpace
    ExpandDims Fill Gather GatherNd GatherV2 InvertPermutation LinSpace MatrixBandPart
    MatrixDiag MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad OneHot OnesLike Pack
    Pad PadV2 Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice
    SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin
    TensorScatterSub TensorScatterUpdate Tile Transpose Unique UniqueV2 Unpack Where ZerosLike Bitcast Real Imag Complex
    ComplexAbs
""")
LISTS = _names("""
    EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListSetItem
    TensorListStack
""")
SHAPE_QUESTIONS = _names("Rank Shape ShapeN Size")
PURE = ARITHMETIC | COMPARISON | REDUCTION | PRODUCT | SHAPE | LISTS

PASSING = _names(
    "Identity Snapshot StopGradient PreventGradient CheckNumerics CheckNumericsV2 EnsureShape DisableCopyOnRead"
)
"""Operations that answer their first input."""
VARIABLES = _names("VarHandleOp ReadVariableOp ResourceGather ResourceGatherNd VariableShape")
CALLS = _names("PartitionedCall StatefulPartitionedCall")
LOOPS = _names("While StatelessWhile")
BRANCHES = _names("If StatelessIf")
SOURCES = _names("Const Placeholder PlaceholderWithDefault IdentityN NoOp")
TAKEN = PURE | PASSING | VARIABLES | CALLS | LOOPS | BRANCHES | SOURCES

WITHOUT_CONSEQUENCE = _names("""
    Assert Print PrintV2 RandomGamma RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform
    RandomUniformInt ReadVariableOp RngReadAndSkip RngSkip StatefulPartitionedCall StatefulStandardNormalV2
    StatefulUniform TruncatedNormal VarHandleOp While If
""")
"""Operations with side effects that no answer depends on. They are left out where no output is computed from them."""
ASSIGNMENTS = _names("""
    Assign AssignAdd AssignSub AssignVariableOp AssignAddVariableOp AssignSubVariableOp ResourceScatterAdd
    ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd
    ResourceScatterNdUpdate ResourceScatterSub ResourceScatterUpdate ResourceStridedSliceAssign ScatterUpdate
""")
READS = _names("ReadVariableOp ResourceGather ResourceGatherNd")
OLD_CONTROL_FLOW = _names("Enter Exit Merge NextIteration Switch LoopCond RefEnter RefExit RefMerge")
