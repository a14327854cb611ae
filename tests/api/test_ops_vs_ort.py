"""Every operator our engine runs, against ONNX Runtime on models of single nodes.

Layout, integer, comparison and quantizing operators must agree to the bit; the others to 1e-5
relative to the largest element.  Each case runs twice: on data that are known only when the model
runs (the executor's kernels) and on constants (the folding kernels).
"""
import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

REPQUANT = Path(os.environ.get("REPQUANT", Path(__file__).parents[2] / "build" / "repquant"))
EXACT, CLOSE = 0.0, 1e-5


@dataclass(eq=False)
class Case:
    """One node.  `data` are arrays (None: an absent input); `const` lists those the shape depends on."""

    label: str
    op: str
    data: list
    attrs: dict = field(default_factory=dict)
    const: tuple = ()
    opset: int = 17
    n_out: int = 1
    tolerance: float = EXACT
    via: int = 0  # a TensorProto type: float inputs are cast to it, the outputs back to float32
    to_float: bool = False  # the outputs are cast to float32: npz has no such type


CASES: list[Case] = []


def case(label, op, data, const=(), opset=17, n_out=1, tol=EXACT, via=0, to_float=False, **attrs):
    data = [None if d is None else np.asarray(d) for d in data]
    CASES.append(Case(f"{op}: {label}", op, data, attrs, tuple(const), opset, n_out, tol, via, to_float or bool(via)))


GENERATOR = np.random.default_rng(0)


def rng(*shape, dtype="float32", lo=-3.0, hi=3.0):
    """Uniform numbers, rounded for integer types; the same in every run."""
    values = GENERATOR.uniform(lo, hi, shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(values).astype(dtype)


def i64(*values):
    return np.array(values, np.int64)


# ---- arithmetic: broadcasting, types ----

PAIRS = {
    "same shape": ((3, 4, 5), (3, 4, 5)),
    "scalar right": ((3, 4), ()),
    "scalar left": ((), (3, 4)),
    "row right": ((2, 3, 7), (7,)),
    "row left": ((7,), (2, 3, 7)),
    "column": ((2, 3, 7), (2, 3, 1)),
    "middle": ((2, 3, 4), (2, 1, 4)),
    "both stretch": ((4, 1, 3), (1, 5, 3)),
    "outer product": ((5, 1), (1, 6)),
    "rank 0": ((), ()),
    "ones": ((1, 1), (1,)),
    "empty": ((0, 3), (3,)),
    "five dims": ((2, 1, 3, 1, 4), (1, 3, 1, 2, 1)),
    "long rows": ((3, 1031), (1031,)),
}
for name, (left, right) in PAIRS.items():
    for op in ("Add", "Sub", "Mul", "Div"):
        case(name, op, [rng(*left), rng(*right, lo=0.5)])
for dtype in ("float64", "float16", "int32", "int64", "uint8", "int8"):
    for op in ("Add", "Sub", "Mul", "Div"):
        case(dtype, op, [rng(2, 5, dtype=dtype, lo=1, hi=9), rng(5, dtype=dtype, lo=1, hi=5)])
case("int64 truncates", "Div", [i64(-7, 7, -7, 7), i64(2, 2, -2, -2)])
case("int32 truncates", "Div", [np.array([-7, 7, -9], np.int32), np.array([3, -3, 4], np.int32)])
case("int32 wraps", "Mul", [np.array([2**30, -(2**31)], np.int32), np.array([4, 3], np.int32)])
case("square", "Pow", [rng(4, 5), np.float32(2)], tol=CLOSE)
case("square root", "Pow", [rng(4, 5, lo=0.1), np.float32(0.5)], tol=CLOSE)
case("cube of negatives", "Pow", [rng(4, 5), np.float32(3)], tol=CLOSE)
case("tensor exponent", "Pow", [rng(4, 5, lo=0.1), rng(5)], tol=CLOSE)
case("base broadcast", "Pow", [np.float32(10000), rng(6, lo=0, hi=1)], tol=CLOSE)
case("int64 exponent", "Pow", [rng(4), i64(2)], tol=CLOSE)
case("int64 base", "Pow", [i64(-3, 2, 7), i64(3, 5, 0)])
case("int32 base, float exponent", "Pow", [np.array([4, 9], np.int32), np.float32(0.5)])
case("sign of divisor", "Mod", [i64(-7, 7, -7, 7, 6), i64(3, -3, -3, 3, 3)])
case("fmod of integers", "Mod", [i64(-7, 7, -7, 7), i64(3, -3, -3, 3)], fmod=1)
case("fmod of floats", "Mod", [rng(3, 4), rng(4, lo=1)], fmod=1, tol=CLOSE)
for op in ("Min", "Max"):
    case("two", op, [rng(3, 4), rng(4)])
    case("three broadcast", op, [rng(3, 1), rng(4), rng(2, 1, 1)])
    case("two numbers, a row", op, [rng(1), rng(1), rng(3, 64)])
    case("two columns, a row", op, [rng(3, 1), rng(3, 1), rng(64), rng(3, 64)])
    case("one", op, [rng(3, 4)])
    case("NaN", op, [np.float32([1, np.nan, 3, np.nan]), np.float32([np.nan, 2, 1, np.nan])])
    case("int64", op, [i64(3, -4), i64(-3, 4)])
    case("float64", op, [rng(5, dtype="float64"), rng(dtype="float64")])

# ---- comparison, logic, choice ----

SPECIAL = np.float32([0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 1e-45])
for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
    case("float32", op, [rng(3, 4).round(), rng(4).round()])
    case("special values", op, [SPECIAL, np.roll(SPECIAL, 1)])
    case("int64", op, [i64(2**62, -5, 3), i64(2**62 + 1, -5, 2)])
    case("int32 scalar", op, [rng(3, 3, dtype="int32"), np.int32(0)])
case("bool", "Equal", [np.array([True, False]), np.array([[True], [False]])])
for op in ("And", "Or"):
    case("broadcast", op, [np.array([[True], [False]]), np.array([True, False, True])])
case("bool", "Not", [np.array([True, False, True])])
COND = np.array([[True, False, True], [False, False, True]])
for dtype in ("float32", "int64", "int32", "uint8", "float64"):
    case(dtype, "Where", [COND, rng(2, 3, dtype=dtype, lo=1), rng(3, dtype=dtype, lo=5, hi=9)])
case("scalar branches", "Where", [COND, np.float32(-np.inf), np.float32(0)])
case("condition row", "Where", [COND[0], rng(4, 1), rng(4, 3)])
case("string-like empty", "Where", [np.zeros((0, 3), bool), rng(3), rng(1)])

# ---- one in, one out ----

for op in ("Neg", "Abs", "Relu", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Tanh",
           "Sigmoid", "Sin", "Cos"):
    exact = op in ("Neg", "Abs", "Relu", "Sign", "Floor", "Ceil", "Round", "Sqrt")
    positive = op in ("Sqrt", "Log", "Reciprocal")
    x = rng(7, 131, lo=0.01 if positive else -5, hi=5)
    case("float32", op, [x], tol=EXACT if exact else CLOSE)
    case("rank 0", op, [np.float32(0.7)], tol=EXACT if exact else CLOSE)
    case("empty", op, [np.zeros((2, 0), np.float32)])
    if op not in ("Sign",):
        case("special values", op, [np.abs(SPECIAL) if positive else SPECIAL], tol=CLOSE)
for op in ("Neg", "Abs", "Sign"):
    for dtype in ("int32", "int64", "int8"):
        case(dtype, op, [rng(3, 4, dtype=dtype)])
case("int32", "Relu", [rng(3, 4, dtype="int32")])
case("ties to even", "Round", [np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999])])
for op in ("Exp", "Erf", "Sqrt"):
    case("float64" if op != "Erf" else "float32 wide", op,
         [rng(9, dtype="float64" if op != "Erf" else "float32", lo=0.1)], tol=CLOSE)
case("exact", "Gelu", [rng(5, 67, lo=-6, hi=6)], opset=20, tol=CLOSE)
case("tanh", "Gelu", [rng(5, 67, lo=-6, hi=6)], opset=20, tol=CLOSE, approximate="tanh")
case("float32", "IsNaN", [SPECIAL])
case("both", "Clip", [rng(4, 9), np.float32(-1), np.float32(1.5)])
case("min only", "Clip", [rng(4, 9), np.float32(-1)])
case("max only", "Clip", [rng(4, 9), None, np.float32(1)])
case("neither", "Clip", [rng(4, 9)])
case("crossed", "Clip", [rng(4, 9), np.float32(2), np.float32(-2)])
case("int64", "Clip", [rng(9, dtype="int64", lo=-9, hi=9), np.int64(-4), np.int64(5)])
case("int8", "Clip", [rng(9, dtype="int8", lo=-9, hi=9), np.int8(-4), np.int8(5)])
case("alpha", "ThresholdedRelu", [rng(4, 9)], alpha=0.5)
case("default alpha", "ThresholdedRelu", [rng(4, 9)])

# ---- Cast ----

for source in ("float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool"):
    for target in ("float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool"):
        values = np.array([0, 1, 2, 100, 37], source) if source == "bool" else rng(3, 5, dtype=source, lo=0, hi=100)
        case(f"{source} to {target}", "Cast", [values],
             to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
case("negative floats truncate", "Cast", [np.float32([-1.9, -0.5, 0.5, 1.9])], to=TensorProto.INT64)
case("integers wrap", "Cast", [i64(300, -1, 2**40 + 5)], to=TensorProto.UINT8)
case("large int64 rounds once", "Cast", [i64(2**53 + 1, 2**24 + 1, -(2**62) - 1, 9007199791611905)], to=TensorProto.FLOAT)
case("float16 rounding", "Cast",
     [np.float32([65504, 65519, 65520, 1e-8, 6e-8, 2**-14, 2**-14 - 2**-25, 1.0009765, 2049, 2051, -0.0, np.inf])],
     to=TensorProto.FLOAT16)
case("float and bool", "Cast", [SPECIAL], to=TensorProto.BOOL)
case("bfloat16 rounding", "Identity", [np.float32([1.00390625, 1.01171875, 3.4e38, -1e-40, np.nan, np.inf])],
     via=TensorProto.BFLOAT16)

# ---- layout ----

for dtype in ("float32", "int64", "uint8", "float16"):
    case(dtype, "Transpose", [rng(2, 3, 4, dtype=dtype)], perm=[2, 0, 1])
for shape, perm in (((3, 5), None), ((37, 70), [1, 0]), ((2, 3, 4, 5), [0, 2, 1, 3]), ((2, 3, 4, 5), [0, 2, 3, 1]),
                    ((2, 3, 4, 5), [3, 2, 1, 0]), ((2, 17, 3, 33), [0, 2, 1, 3]), ((2, 35, 18), [0, 2, 1]), ((1, 3, 1, 5), [2, 3, 0, 1]),
                    ((5,), [0]), ((0, 3), [1, 0]), ((2, 1, 3, 2, 2), [4, 0, 2, 1, 3]), ((3, 2, 64), [1, 0, 2]),
                    ((2, 3, 4, 2, 3, 2), [0, 5, 1, 3, 2, 4])):
    case(f"{shape} {perm}", "Transpose", [rng(*shape)], **({"perm": perm} if perm else {}))
case("scalar", "Transpose", [np.float32(3)])
case("minus one", "Reshape", [rng(2, 3, 4), i64(0, -1)], const=[1])
case("to scalar", "Reshape", [rng(1, 1), np.zeros(0, np.int64)], const=[1])
case("allowzero", "Reshape", [rng(0, 3), i64(3, 0)], const=[1], allowzero=1)
case("bool", "Reshape", [COND, i64(6)], const=[1])
for axis in (0, 1, 2, -1):
    case(f"axis {axis}", "Flatten", [rng(2, 3, 4)], axis=axis)
case("axes", "Squeeze", [rng(1, 3, 1, 2), i64(0, -2)], const=[1])
case("all", "Squeeze", [rng(1, 3, 1)])
case("axes", "Unsqueeze", [rng(3, 2), i64(0, -1)], const=[1])
case("identity", "Identity", [rng(3, 2)])
case("inference", "Dropout", [rng(3, 2)])
for dtype in ("float32", "int64", "bool", "float16"):
    case(dtype, "Concat", [rng(2, 3, dtype=dtype), rng(2, 1, dtype=dtype), rng(2, 4, dtype=dtype)], axis=1)
case("first axis", "Concat", [rng(2, 3), rng(1, 3)], axis=0)
case("last of three", "Concat", [rng(2, 3, 4), rng(2, 3, 1), rng(2, 3, 0)], axis=-1)
case("one", "Concat", [rng(2, 3)], axis=0)
case("given", "Split", [rng(2, 7, 3), i64(2, 4, 1)], const=[1], n_out=3, axis=1)
case("equal", "Split", [rng(6, 3)], n_out=3, axis=0)
case("last, negative axis", "Split", [rng(2, 3, 8), i64(3, 5)], const=[1], n_out=2, axis=-1)
case("num_outputs, uneven", "Split", [rng(7, 2)], n_out=3, axis=0, opset=18, num_outputs=3)
case("int64", "Split", [rng(4, 2, dtype="int64")], n_out=2, axis=0)


def sliced(label, shape, starts, ends, axes=None, steps=None, dtype="float32"):
    data = [rng(*shape, dtype=dtype), i64(*starts), i64(*ends)]
    data += [i64(*axes)] if axes is not None else [None] if steps else []
    data += [i64(*steps)] if steps else []
    case(label, "Slice", data, const=range(1, 5))


BIG = 2**63 - 1
sliced("first", (5, 6), [1], [4], [0])
sliced("no axes", (5, 6), [1, 2], [4, 6])
sliced("negative ends", (5, 6), [-4, 0], [-1, -2], [0, 1])
sliced("steps", (7, 9), [0, 1], [7, 9], [0, 1], [2, 3])
sliced("backwards", (7, 9), [-1, 7], [-BIG, 1], [0, 1], [-1, -2])
sliced("backwards from beyond", (7,), [100], [-100], [0], [-3])
sliced("clamped", (5,), [-100], [100], [0])
sliced("to the end", (5, 4), [2], [BIG], [-2])
sliced("empty", (5, 4), [3], [3], [0])
sliced("empty beyond", (5, 4), [9], [12], [1])
sliced("one row", (5, 4), [4], [5], [0])
sliced("int64", (8,), [1], [8], [0], [3], "int64")
sliced("uint8", (8, 3), [1], [8], [0], [3], "uint8")
sliced("huge step", (8, 3), [0], [8], [0], [BIG])

for dtype in ("float32", "int64", "bool"):
    case(dtype, "Gather", [rng(4, 5, dtype=dtype), i64(3, 0, -1, -4)], axis=0)
case("axis 1", "Gather", [rng(4, 5, 3), i64([0, 4], [-5, 2])], axis=1)
case("last axis", "Gather", [rng(4, 5), i64(2, 2, 1)], axis=-1)
case("scalar index", "Gather", [rng(4, 5), np.int64(-2)], axis=0)
case("int32 indices", "Gather", [rng(4, 5), np.array([1, 3], np.int32)], axis=1)
case("no indices", "Gather", [rng(4, 5), np.zeros(0, np.int64)], axis=0)
case("axis 0", "GatherElements", [rng(3, 4), i64([0, 1, 2, 0], [2, -1, 0, 1])], axis=0)
case("axis 1", "GatherElements", [rng(3, 4), i64([0, -1], [2, 1], [3, 3])], axis=1)
case("three axes", "GatherElements", [rng(3, 4, 2), np.ones((2, 4, 2), np.int32)], axis=-1)
case("rows", "Expand", [rng(3, 1), i64(2, 1, 4)], const=[1])
case("one way", "Expand", [rng(3, 4), i64(1, 4)], const=[1])
case("scalar", "Expand", [np.int64(7), i64(2, 3)], const=[1])
case("bool", "Expand", [np.array([[True], [False]]), i64(2, 3)], const=[1])
case("matrix", "Tile", [rng(2, 3), i64(2, 2)], const=[1])
case("middle", "Tile", [rng(2, 1, 3), i64(1, 4, 1)], const=[1])
case("all", "Tile", [rng(2, 3, 2), i64(3, 2, 2)], const=[1])
case("zero times", "Tile", [rng(2, 3), i64(0, 2)], const=[1])
case("int64", "Tile", [i64(1, 2, 3), i64(3)], const=[1])
case("constant", "Pad", [rng(2, 3), i64(1, 0, 2, 1)], const=[1])
case("value", "Pad", [rng(2, 3), i64(0, 1, 0, 1), np.float32(7)], const=[1, 2])
case("cropping", "Pad", [rng(4, 5), i64(-1, 1, 0, -2)], const=[1])
case("axes", "Pad", [rng(4, 5), i64(1, 2), None, i64(-1)], const=[1, 3], opset=18)
for mode in ("reflect", "edge"):
    case(mode, "Pad", [rng(3, 4), i64(1, 2, 2, 3)], const=[1], mode=mode)
case("wrap", "Pad", [rng(3, 4), i64(1, 2, 2, 3)], const=[1], mode="wrap", opset=19)
for pads in ((-1, 0, 3, 0), (4, 0, -2, 0), (-1, -1, 2, 9), (-1, 0, -1, 1)):
    case(f"wrap what is left by {pads}", "Pad", [rng(4, 3), i64(*pads)], const=[1], mode="wrap", opset=19)
case("int64", "Pad", [rng(3, dtype="int64"), i64(1, 1), np.int64(5)], const=[1, 2])
for upper in (0, 1):
    for k in (None, -1, 0, 2, 10, -10):
        case(f"upper {upper} k {k}", "Trilu", [rng(2, 4, 5)] + ([] if k is None else [np.int64(k)]), const=[1], upper=upper)
case("int64", "Trilu", [rng(4, 4, dtype="int64")])
for reverse in (0, 1):
    for exclusive in (0, 1):
        case(f"reverse {reverse} exclusive {exclusive}", "CumSum", [rng(3, 5), np.int64(1)], const=[1],
             reverse=reverse, exclusive=exclusive, tol=CLOSE)
case("int64, first axis", "CumSum", [rng(3, 5, dtype="int64"), np.int64(0)], const=[1])
case("negative axis", "CumSum", [rng(3, 5, 2), np.int32(-2)], const=[1], tol=CLOSE)

# ---- made from shapes and scalars ----

case("float", "ConstantOfShape", [i64(2, 3)], const=[0], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5]))
case("default", "ConstantOfShape", [i64(4)], const=[0])
case("int64", "ConstantOfShape", [i64(2, 1)], const=[0], value=helper.make_tensor("v", TensorProto.INT64, [1], [-1]))
case("bool, empty", "ConstantOfShape", [i64(0, 2)], const=[0], value=helper.make_tensor("v", TensorProto.BOOL, [1], [True]))
case("int64", "Range", [np.int64(2), np.int64(11), np.int64(3)], const=[0, 1, 2])
case("downwards", "Range", [np.int32(5), np.int32(-5), np.int32(-4)], const=[0, 1, 2])
case("float32", "Range", [np.float32(0), np.float32(1), np.float32(0.1)], const=[0, 1, 2], tol=CLOSE)
case("whole", "Shape", [rng(2, 3, 4)])
case("part", "Shape", [rng(2, 3, 4)], start=-2, end=100)
case("elements", "Size", [rng(2, 3, 4)])

# ---- reductions ----

for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"):
    for axes in ([-1], [0], [1], [0, 2], [1, 2], [0, 1, 2]):
        for keep in (0, 1):
            if op == "ReduceSum":
                case(f"{axes} keepdims {keep}", op, [rng(3, 5, 9), i64(*axes)], const=[1], keepdims=keep, tol=CLOSE)
            else:
                case(f"{axes} keepdims {keep}", op, [rng(3, 5, 9)], axes=axes, keepdims=keep, tol=CLOSE)
    case("all", op, [rng(3, 5)], tol=CLOSE)
    case("axes input", op, [rng(3, 5), i64(1)], const=[1], opset=18, tol=CLOSE)
    case("nothing to do", op, [rng(3, 5), np.zeros(0, np.int64)], const=[1], opset=18, noop_with_empty_axes=1)
    case("int32", op, [rng(3, 5, dtype="int32", lo=-9, hi=9), i64(1)], const=[1], opset=18)
    case("long row", op, [rng(2, 4099), i64(1)], const=[1], opset=18, tol=CLOSE)
    case("rank 0", op, [np.float32(3)], tol=CLOSE)
TIES = np.float32([[1, 3, 3, 2], [5, 5, 5, 5], [-2, -1, -3, -1]])
for axis in (0, 1, -1):
    for last in (0, 1):
        case(f"axis {axis} last {last}", "ArgMax", [TIES], axis=axis, select_last_index=last)
case("no keepdims", "ArgMax", [rng(2, 3, 4)], axis=1, keepdims=0)
case("int32", "ArgMax", [rng(3, 4, dtype="int32")], axis=1)

# ---- products ----

for left, right in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 5)),
                    ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)), ((1, 7), (7, 1)), ((3, 4), (2, 4, 5)),
                    ((2, 2, 1, 4), (1, 2, 4, 3)), ((65, 130), (130, 33)), ((2, 0, 4), (4, 5)), ((3, 0), (0, 2)), ((1, 3, 4), (6, 4, 2))):
    case(f"{left} {right}", "MatMul", [rng(*left), rng(*right)], tol=CLOSE)
for dtype in ("int32", "int64", "float64"):
    case(dtype, "MatMul", [rng(3, 4, dtype=dtype), rng(2, 4, 3, dtype=dtype)], tol=CLOSE if dtype == "float64" else EXACT)
for trans_a in (0, 1):
    for trans_b in (0, 1):
        data = [rng(*((4, 3) if trans_a else (3, 4))), rng(*((5, 4) if trans_b else (4, 5)))]
        case(f"transposes {trans_a}{trans_b}", "Gemm", data + [rng(5)], transA=trans_a, transB=trans_b, tol=CLOSE)
for shape in ((), (1,), (3, 1), (1, 5), (3, 5)):
    case(f"C {shape}", "Gemm", [rng(3, 4), rng(4, 5), rng(*shape)], tol=CLOSE)
case("alpha, beta", "Gemm", [rng(3, 4), rng(4, 5), rng(5)], alpha=0.5, beta=-2.0, tol=CLOSE)
case("no C, alpha", "Gemm", [rng(3, 4), rng(4, 5)], alpha=3.0, tol=CLOSE)
case("deep", "Gemm", [rng(9, 300), rng(40, 300), rng(40)], transB=1, tol=CLOSE)

for label, shape, kernel, attrs in (
    ("3x3", (2, 3, 8, 9), (4, 3, 3, 3), {}),
    ("patches", (2, 3, 16, 16), (6, 3, 4, 4), dict(strides=[4, 4])),
    ("pads", (1, 2, 5, 6), (3, 2, 3, 3), dict(pads=[1, 2, 0, 1])),
    ("strides and dilations", (1, 2, 11, 12), (3, 2, 3, 2), dict(strides=[2, 3], dilations=[2, 1], pads=[1, 1, 1, 1])),
    ("groups", (2, 4, 6, 6), (6, 2, 3, 3), dict(group=2)),
    ("depthwise", (2, 4, 6, 7), (4, 1, 3, 3), dict(group=4, pads=[1, 1, 1, 1])),
    ("depthwise multiplier", (1, 3, 6, 7), (6, 1, 3, 3), dict(group=3, strides=[2, 2])),
    ("1x1", (2, 5, 3, 4), (7, 5, 1, 1), {}),
    ("same upper", (1, 2, 7, 8), (3, 2, 3, 4), dict(auto_pad="SAME_UPPER", strides=[2, 2])),
    ("same lower", (1, 2, 7, 8), (3, 2, 3, 4), dict(auto_pad="SAME_LOWER", strides=[2, 2])),
    ("valid", (1, 2, 7, 8), (3, 2, 3, 4), dict(auto_pad="VALID")),
    ("one dimension", (2, 3, 12), (4, 3, 5), dict(strides=[2], pads=[2, 1])),
    ("one dimension, groups", (2, 4, 12), (4, 1, 3), dict(group=4, dilations=[2])),
    ("no images", (0, 2, 5, 5), (3, 2, 3, 3), {}),
):
    case(label, "Conv", [rng(*shape), rng(*kernel)], tol=CLOSE, **attrs)
    case(label + ", bias", "Conv", [rng(*shape), rng(*kernel), rng(kernel[0])], tol=CLOSE, **attrs)

# ---- rows ----

for op in ("Softmax", "LogSoftmax"):
    for axis in (-1, 0, 1):
        case(f"axis {axis}", op, [rng(3, 5, 17)], axis=axis, tol=CLOSE)
    case("default axis", op, [rng(4, 197)], tol=CLOSE)
    case("large", op, [rng(2, 9) * np.float32(100)], tol=CLOSE)
    case("masked", op, [np.float32([[1, -np.inf, 2], [0, -1e38, 5]])], tol=CLOSE)
    case("no rows", op, [np.zeros((0, 4), np.float32)])
for axis in (-1, 1, 0):
    shape = (3, 5, 17)
    norm = shape[axis:]
    case(f"axis {axis}", "LayerNormalization", [rng(*shape), rng(*norm, lo=0.5), rng(*norm)], axis=axis, tol=CLOSE)
    case(f"axis {axis}", "RMSNormalization", [rng(*shape), rng(*norm, lo=0.5)], axis=axis, opset=23, tol=CLOSE)
case("no bias, epsilon", "LayerNormalization", [rng(3, 64), rng(64)], epsilon=1e-2, tol=CLOSE)
case("mean and deviation", "LayerNormalization", [rng(2, 3, 8), rng(8), rng(8)], n_out=3, tol=CLOSE)
case("far from zero", "LayerNormalization", [rng(3, 64) + np.float32(50), rng(64), rng(64)], tol=1e-4)
case("epsilon", "RMSNormalization", [rng(3, 64), rng(64)], epsilon=1e-2, opset=23, tol=CLOSE)

# ---- quantization ----

FLOATS = np.concatenate([rng(4, 60).ravel(), np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9, np.inf, -np.inf, np.nan, 0.125, -0.0])])
FLOATS = FLOATS[:252].reshape(4, 63)
CODES = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
for dtype, (lo, hi) in CODES.items():
    for zero in (0, 3):
        for scale in (0.02, 0.5, 1 / 3):
            case(f"{dtype} scale {scale:.2f} zero {zero}", "QuantizeLinear",
                 [FLOATS, np.float32(scale), np.dtype(dtype).type(zero)], opset=21)
    codes = np.random.default_rng(1).integers(lo, hi + 1, (4, 6, 5)).astype(dtype)
    case(f"{dtype}", "DequantizeLinear", [codes, np.float32(0.37), np.dtype(dtype).type(3)], opset=21)
    case(f"{dtype}, no zero point", "DequantizeLinear", [codes, np.float32(0.37)], opset=21)
    for axis in (0, 1, 2, -1):
        n = codes.shape[axis]
        zeros = np.arange(n).astype(dtype)
        case(f"{dtype} axis {axis}", "DequantizeLinear", [codes, rng(n, lo=0.1), zeros], opset=21, axis=axis)
        case(f"{dtype} axis {axis}", "QuantizeLinear", [rng(4, 6, 5), rng(n, lo=0.01, hi=0.1), zeros], opset=21, axis=axis)
case("no zero point", "QuantizeLinear", [FLOATS, np.float32(0.1)], opset=21)
case("output_dtype", "QuantizeLinear", [FLOATS, np.float32(0.1)], opset=21, output_dtype=TensorProto.INT8)
case("opset 13", "QuantizeLinear", [rng(3, 4), rng(4, lo=0.1), np.zeros(4, np.int8)], opset=13, axis=1)
case("int32", "DequantizeLinear", [rng(3, 4, dtype="int32", lo=-1e6, hi=1e6), np.float32(0.01)], opset=13)
case("int32, per axis", "DequantizeLinear", [rng(3, 4, dtype="int32", lo=-1e6, hi=1e6), rng(3, lo=0.1)], opset=13, axis=0)
for axis, scales in ((1, (4, 3, 5)), (0, (2, 6, 5)), (2, (4, 6, 3))):
    block = 2
    codes = np.random.default_rng(2).integers(-128, 128, (4, 6, 5)).astype(np.int8)
    case(f"blocks on axis {axis}", "DequantizeLinear", [codes, rng(*scales, lo=0.1), rng(*scales, dtype="int8")], opset=21,
         axis=axis, block_size=block)
    case(f"blocks on axis {axis}", "QuantizeLinear", [rng(4, 6, 5), rng(*scales, lo=0.01, hi=0.1), rng(*scales, dtype="int8")],
         opset=21, axis=axis, block_size=block)


# 4-bit codes are packed two to a byte; only constants have them.
for kind in (ml_dtypes.int4, ml_dtypes.uint4):
    lo, hi = (-8, 7) if kind is ml_dtypes.int4 else (0, 15)
    name = np.dtype(kind).name
    codes = np.random.default_rng(3).integers(lo, hi + 1, (4, 6, 5)).astype(kind)
    case(name, "DequantizeLinear", [codes, np.float32(0.37), np.array(3, kind)], const=[0, 2], opset=21)
    case(f"{name} odd", "DequantizeLinear", [codes[:1, :1], rng(5, lo=0.1), codes[0, 0]], const=[0, 2], opset=21, axis=2)
    case(f"{name} blocks", "DequantizeLinear", [codes, rng(2, 6, 5, lo=0.1), codes[:2]], const=[0, 2], opset=21, axis=0,
         block_size=2)
    case(name, "QuantizeLinear", [FLOATS, np.float32(0.3), np.array(2, kind)], const=[2], opset=21, to_float=True)
    case(f"{name} odd", "QuantizeLinear", [rng(3, 5), rng(3, lo=0.1), codes[0, 0, :3]], const=[2], opset=21, axis=0,
         to_float=True)

# ---- com.microsoft ----

MSFT = "com.microsoft:"
WIDE = rng(2, 5, 64)
case("exact", MSFT + "Gelu", [WIDE], tol=CLOSE)
case("bias", MSFT + "BiasGelu", [WIDE, rng(64)], tol=CLOSE)
case("plain", MSFT + "FastGelu", [WIDE], tol=CLOSE)
case("bias", MSFT + "FastGelu", [WIDE, rng(64)], tol=CLOSE)
case("alpha", MSFT + "QuickGelu", [WIDE], alpha=1.5, tol=CLOSE)
case("plain", MSFT + "SkipLayerNormalization", [WIDE, rng(2, 5, 64), rng(64)], epsilon=1e-5, tol=CLOSE)
case("biases", MSFT + "SkipLayerNormalization", [WIDE, rng(2, 5, 64), rng(64), rng(64), rng(64)], epsilon=1e-5, tol=CLOSE)
case("plain", MSFT + "SkipSimplifiedLayerNormalization", [WIDE, rng(2, 5, 64), rng(64)], epsilon=1e-5, tol=CLOSE)
case("last axis", "SimplifiedLayerNormalization", [WIDE, rng(64)], axis=-1, epsilon=1e-5, tol=CLOSE)
for mixed in (0, 1):
    cache = [rng(16, 8, lo=-1, hi=1), rng(16, 8, lo=-1, hi=1)]
    case(f"three axes, interleaved {mixed}", MSFT + "RotaryEmbedding", [WIDE, i64(range(5), range(3, 8))] + cache, interleaved=mixed, tol=CLOSE)
    case(f"first position, interleaved {mixed}", MSFT + "RotaryEmbedding", [rng(2, 4, 5, 16), i64(2)] + cache, interleaved=mixed, tol=CLOSE)
for bits in (4, 8):
    for k in (64, 80):
        blocks = -(-k // 32)
        packed = np.random.default_rng(4).integers(0, 256, (24, blocks, 32 * bits // 8)).astype(np.uint8)
        zeros = np.random.default_rng(5).integers(0, 256, 24 * -(-blocks * bits // 8)).astype(np.uint8)
        data = [rng(3, k), packed, rng(24 * blocks, lo=0.1)]
        case(f"{bits} bits, K {k}", MSFT + "MatMulNBits", data, const=[1, 2], K=k, N=24, bits=bits, block_size=32, tol=1e-4)
        case(f"{bits} bits, K {k}, zero points", MSFT + "MatMulNBits", data + [zeros], const=[1, 2, 3], K=k, N=24, bits=bits, block_size=32, tol=1e-4)

# ---- forms of older opsets ----

for axis in (-1, 0, 1, 2):
    case(f"opset 12, axis {axis}", "Softmax", [rng(3, 5, 17)], axis=axis, opset=12, tol=CLOSE)

# ---- models of single nodes ----

class Model:
    """The cases of a list side by side; names of case k start with c<k>_."""

    def __init__(self, cases: list[Case], constant: bool):
        """constant: the nodes' inputs are initializers, so that they are folded."""
        self.nodes, self.initializers, self.outputs = [], [], []
        for k, c in enumerate(cases):
            self.add_case(c, f"c{k}_", constant)
        # An output of its own keeps `zero` in use.
        self.node("Neg", ["zero"], ["negated"])
        zero = helper.make_tensor_value_info("zero", TensorProto.INT64, [1])
        outputs = [onnx.ValueInfoProto(name=o) for o in self.outputs + ["negated"]]
        graph = helper.make_graph(self.nodes, "nodes", [zero], outputs, self.initializers)
        opsets = [helper.make_opsetid("", cases[0].opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.proto = onnx.shape_inference.infer_shapes(model)
        for o in self.proto.graph.output:
            if not o.type.WhichOneof("value") and MSFT in cases[0].op or "Simplified" in cases[0].op:
                o.type.tensor_type.elem_type = TensorProto.INT64 if o.name == "negated" else TensorProto.FLOAT
            assert o.type.WhichOneof("value"), f"output {o.name} has no type"

    def node(self, op: str, inputs: list, outputs: list, **attrs):
        domain, _, op = op.rpartition(":")
        self.nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attrs))

    def const(self, name: str, array) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def unfold(self, name: str, array: np.ndarray):
        """The same array, of any type and bits, as something that cannot be folded: rows of a constant at the
        positions 0.. + `zero`, the model's only input.  That input is one sample, whatever the array's shape."""
        rows = self.const(name + "_const", array.reshape(1) if array.ndim == 0 else array)
        at = name + "_at"
        self.node("Add", [self.const(name + "_rows", np.arange(array.shape[0] if array.ndim else 1)), "zero"], [at])
        if array.ndim == 0:
            self.node("Reshape", [at, self.const(name + "_scalar", i64())], [at + "_0"])
            at += "_0"
        self.node("Gather", [rows, at], [name], axis=0)

    def add_case(self, c: Case, prefix: str, constant: bool):
        names = []
        for i, array in enumerate(c.data):
            name = "" if array is None else f"{prefix}x{i}"
            if array is None:
                pass
            elif constant or i in c.const:
                self.const(name, array)
            else:
                self.unfold(name, array)
            if array is not None and c.via:
                self.node("Cast", [name], [name + "_cast"], to=c.via)
                name += "_cast"
            names.append(name)
        results = [f"{prefix}y{k}" for k in range(c.n_out)]
        self.node(c.op, names, results, name=c.label, **c.attrs)
        for result in results:
            if c.to_float:
                self.node("Cast", [result], [result + "_float"], to=TensorProto.FLOAT)
                result += "_float"
            # A first axis of one sample, as repquant run wants it.
            if c.opset < 13:
                self.node("Unsqueeze", [result], [result + "_row"], axes=[0])
            else:
                self.node("Unsqueeze", [result, self.const(result + "_axis", i64(0))], [result + "_row"])
            self.outputs.append(result + "_row")


FEEDS = {"zero": np.zeros(1, np.int64)}


def run_ort(model: onnx.ModelProto) -> dict:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, FEEDS)))


def run_ours(model: onnx.ModelProto) -> tuple[dict, str]:
    """The outputs, and what went wrong ("": nothing)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model, folder / "model.onnx")
        np.savez(folder / "x.npz", **FEEDS)
        command = [REPQUANT, "run", folder / "model.onnx", "--inputs", folder / "x.npz", "--outputs", folder / "y.npz"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            return {}, f"exit {done.returncode}: {done.stderr}"
        with np.load(folder / "y.npz") as z:
            return dict(z), ""


@functools.cache
def group_of(op: str, opset: int) -> list[Case]:
    return [c for c in CASES if (c.op, c.opset) == (op, opset)]


@functools.cache
def results_of(op: str, opset: int, constant: bool) -> tuple[dict, dict, str]:
    """All cases of an operator in one model: one process in place of some twenty."""
    model = Model(group_of(op, opset), constant).proto
    return run_ort(model), *run_ours(model)


def check(c: Case, name: str, got: np.ndarray, want: np.ndarray):
    assert got.dtype == want.dtype, f"{name}: type {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{name}: shape {got.shape}, not {want.shape}"
    if c.tolerance == EXACT:
        np.testing.assert_array_equal(got, want, err_msg=name)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=name)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=name)
    largest = max(np.abs(want[finite]).max(initial=0), 1e-3)
    np.testing.assert_allclose(got[finite] / largest, want[finite] / largest, rtol=0, atol=c.tolerance, err_msg=name)


@pytest.mark.thinned(1, tsan=20)
@pytest.mark.parametrize("constant", [False, True], ids=["run", "folded"])
@pytest.mark.parametrize("c", CASES, ids=[c.label for c in CASES])
def test_operator_agrees_with_onnx_runtime(c, constant):
    want, got, failure = results_of(c.op, c.opset, constant)
    prefix = f"c{group_of(c.op, c.opset).index(c)}_y"
    if failure:     # of any case in the group: see whether it is this one's
        model = Model([c], constant).proto
        want, (got, failure), prefix = run_ort(model), run_ours(model), "c0_y"
        assert not failure, failure
    names = [name for name in want if name.startswith(prefix)]
    assert len(names) == c.n_out
    for name in names:
        check(c, name, got[name][0], want[name][0])
