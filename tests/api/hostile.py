"""Files that a stranger may send: damaged models, models that lie, other formats, arrays that do not fit.  All seeded."""
import io
import json
import pickle
import struct
import zipfile

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from support import DIGITS

F = TensorProto.FLOAT


def value(name, shape, kind=F):
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def model(nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="tests").SerializeToString()


def small_models():
    """Valid models of few bytes, so that a damaged byte often means something; and the example, whose shapes are computed."""
    rng = np.random.default_rng(0)

    def w(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    node = helper.make_node
    return {
        "mlp": model([node("MatMul", ["x", "w"], ["a"], "fc1"), node("Add", ["a", "b"], ["c"]), node("Relu", ["c"], ["d"]),
                      node("Gemm", ["d", "v"], ["y"], "fc2", transB=1)],
                     [value("x", ["n", 8])], [value("y", ["n", 4])], [tensor("w", w(8, 6)), tensor("b", w(6)), tensor("v", w(4, 6))]),
        "conv": model([node("Conv", ["x", "w"], ["a"], "patch", strides=[2, 2]), node("Reshape", ["a", "s"], ["b"]),
                       node("Transpose", ["b"], ["y"], perm=[0, 2, 1])],
                      [value("x", ["n", 3, 8, 8])], [value("y", ["n", 16, 5])], [tensor("w", w(5, 3, 2, 2)), tensor("s", np.int64([0, 5, 16]))]),
        "shapes": model([node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Unsqueeze", ["n", "axis"], ["m"]),
                         node("Concat", ["m", "rest"], ["to"], axis=0), node("Reshape", ["x", "to"], ["r"]),
                         node("Slice", ["r", "from", "until", "along"], ["cut"]), node("Softmax", ["cut"], ["y"], axis=-1)],
                        [value("x", ["n", 2, 6])], [value("y", ["n", 3, 2])],
                        [tensor("zero", np.int64(0)), tensor("axis", np.int64([0])), tensor("rest", np.int64([4, 3])),
                         tensor("from", np.int64([1])), tensor("until", np.int64([9])), tensor("along", np.int64([1]))]),
        "embedding": model([node("Gather", ["table", "ids"], ["e"]), node("LayerNormalization", ["e", "g", "b"], ["y"], axis=-1)],
                           [value("ids", ["n", "t"], TensorProto.INT64)], [value("y", ["n", "t", 4])],
                           [tensor("table", w(9, 4)), tensor("g", w(4)), tensor("b", w(4))]),
        "digits": (DIGITS / "model.onnx").read_bytes(),
    }


# ---- damage: (random generator, bytes) -> bytes ----

def truncated(rng, b):
    return b[:rng.integers(len(b))]


def flipped(rng, b):
    out = bytearray(b)
    for at in rng.integers(len(b), size=rng.integers(1, 9)):
        out[at] ^= 1 << rng.integers(8)
    return bytes(out)


def near_the_end(rng, b):
    """Flips behind the weights, where names and shapes of small models are."""
    out = bytearray(b)
    for at in rng.integers(max(0, len(b) - 400), len(b), size=rng.integers(1, 5)):
        out[at] = rng.integers(256)
    return bytes(out)


def lengthened(rng, b):
    """Bytes that become the largest length or number."""
    at, n = rng.integers(len(b)), int(rng.integers(1, 10))
    return b[:at] + b"\xff" * n + b[at + n:]


def removed(rng, b):
    at, n = rng.integers(len(b)), int(rng.integers(1, 64))
    return b[:at] + b[at + n:]


def repeated(rng, b):
    at, n = rng.integers(len(b)), int(rng.integers(1, 200))
    return b[:at + n] + b[at:at + n] * int(rng.integers(1, 20)) + b[at + n:]


def appended(rng, b):
    return b + rng.bytes(int(rng.integers(1, 200)))


def other_bytes(rng, b):
    return rng.bytes(int(rng.integers(1, 4000)))


NUMBERS = [0, 1, -1, 2, 3, 7, -2, 127, 255, 65536, 2**31 - 1, -2**31, 2**31, 2**40, 2**62, 2**63 - 1, -2**63]
OPS = ["MatMul", "Gemm", "Conv", "Add", "Softmax", "Reshape", "Transpose", "Gather", "Concat", "Slice", "Expand", "ConstantOfShape", "Split", "Where",
       "LayerNormalization", "ReduceMean", "Range", "Pad", "Tile", "QuantizeLinear", "DequantizeLinear", "Unsqueeze", "Squeeze", "Shape", "Trilu",
       "OneHot", "GatherND", "ScatterND", "CumSum", "Flatten", "Cast", "Einsum", "Identity", "Dropout", "TopK", "Resize"]


def rewritten(rng, b):
    """Well-formed protobuf with one to three changes of meaning: a number, a shape, a name, an operator, a type."""
    def pick(items):
        return items[rng.integers(len(items))]

    m = ModelProto.FromString(b)
    g = m.graph
    for _ in range(rng.integers(1, 4)):
        node, number = pick(g.node), int(pick(NUMBERS))
        match rng.integers(9):
            case 0:
                node.op_type = pick(OPS)
            case 1 if len(node.input):
                node.input[rng.integers(len(node.input))] = pick([*(o for n in g.node for o in n.output), *(i.name for i in g.initializer), ""])
            case 2 if len(node.attribute):
                attribute = pick(node.attribute)
                if attribute.ints:
                    attribute.ints[rng.integers(len(attribute.ints))] = number
                elif attribute.type == 2:
                    attribute.i = number
            case 3:
                node.attribute.append(helper.make_attribute(pick(["axis", "perm", "group", "strides", "to", "transB", "epsilon"]), number))
            case 4:
                t = pick(g.initializer)
                t.dims[:] = [*t.dims, number] if rng.integers(2) else [number]
            case 5:
                t = pick([i for i in g.initializer if i.data_type == TensorProto.INT64] or g.initializer)
                t.raw_data = np.full(len(t.raw_data) // 8, number, np.int64).tobytes()
            case 6:
                pick(g.initializer).data_type = int(rng.integers(24))
            case 7:
                pick(pick(g.input).type.tensor_type.shape.dim).dim_value = number
            case _:
                node.output[0] = pick(g.node).output[0]
    return m.SerializeToString()


def damaged(count, seed):
    """`count` files as (name, bytes); the first is empty."""
    rng, models = np.random.default_rng(seed), list(small_models().items())
    damages = [truncated, rewritten, flipped, rewritten, near_the_end, rewritten, lengthened, rewritten, removed, rewritten, repeated, rewritten,
               appended, rewritten, other_bytes, rewritten]
    yield "0000-empty", b""
    for i in range(1, count):
        damage, (name, content) = damages[i % len(damages)], models[rng.integers(len(models))]
        yield f"{i:04}-{damage.__name__}-{name}", damage(rng, content)


# ---- models that are well-formed protobuf and lie ----

def varint(n):
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def message(*fields):
    """Protobuf by hand, (number, int or bytes): the library refuses to write what is too deep."""
    return b"".join(varint(number << 3) + varint(v) if isinstance(v, int) else varint(number << 3 | 2) + varint(len(v)) + v for number, v in fields)


def nested(depth):
    """If in If in If."""
    y = (12, value("y", [1]).SerializeToString())
    graph = message((1, helper.make_node("Identity", ["x"], ["y"]).SerializeToString()), (2, b"g"), y)
    for _ in range(depth):
        branch = message((1, b"then_branch"), (6, graph), (20, 5))
        graph = message((1, message((1, b"c"), (2, b"y"), (4, b"If"), (5, branch))), (2, b"g"), y)
    return message((1, 8), (8, message((2, 17))), (7, graph))


def external(location, offset="0", length="16"):
    t = TensorProto(name="w", data_type=F, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", offset), ("length", length)):
        t.external_data.add(key=key, value=text)
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [value("x", [4])], [value("y", [4])], [t])


def raw(dims, data=b"", kind=F):
    t = TensorProto(name="w", data_type=kind, dims=dims, raw_data=data)
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [value("x", [4])], [value("y", [4])], [t])


def one(op, inputs, attributes=None, weights=(), shape=(4,), opset=17, domain=""):
    node = helper.make_node(op, inputs, ["y"], f"the_{op}", domain=domain, **(attributes or {}))
    return model([node], [value("x", list(shape))], [value("y", None)], weights, opset)


def lies():
    """(bytes, the code of the refusal, a word its message has) by what is wrong."""
    node, x, y = helper.make_node, [value("x", [4])], [value("y", [4])]
    i64 = np.int64
    return {
        "a cycle": (model([node("Add", ["x", "b"], ["a"], "first"), node("Relu", ["a"], ["b"], "second"), node("Relu", ["b"], ["y"])], x, y),
                    "model.invalid", "'second'"),
        "a node that feeds itself": (model([node("Add", ["x", "y"], ["y"], "self")], x, y), "model.invalid", "y"),
        "an input that nobody makes": (model([node("Add", ["x", "ghost"], ["y"])], x, y), "model.invalid", "ghost"),
        "one name made twice": (model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], x, y), "model.invalid", "y"),
        "an unknown operator": (one("Frobnicate", ["x"]), "model.unsupported_op", "Frobnicate"),
        "an unknown domain": (one("Relu", ["x"], domain="com.example"), "model.", "com.example"),
        "an opset of the future": (one("Relu", ["x"], opset=999), "model.opset", "999"),
        "an opset of the past": (one("Relu", ["x"], opset=1), "model.opset", "1"),
        "a dimension of 2^62": (raw([2**62]), "model.", "w"),
        "dimensions whose product overflows": (raw([2**32, 2**32, 2**32]), "model.", "w"),
        "a product that wraps to 4": (raw([2**62 + 1, 4], b"\0" * 16), "model.", "w"),
        "a negative dimension": (raw([-4], b"\0" * 16), "model.", "w"),
        "fewer bytes than the shape": (raw([1000], b"\0" * 16), "model.invalid", "w"),
        "more bytes than the shape": (raw([2], b"\0" * 16), "model.invalid", "w"),
        "an unknown element type": (raw([4], b"\0" * 16, kind=99), "model.", "w"),
        "ConstantOfShape of 2^62": (one("ConstantOfShape", ["s"], weights=[tensor("s", i64([2**62]))]), "model.", "ConstantOfShape"),
        "Expand beyond all memory": (one("Expand", ["x", "s"], weights=[tensor("s", i64([2**31, 2**31, 4]))]), "model.", "Expand"),
        "Tile beyond all memory": (one("Tile", ["x", "s"], weights=[tensor("s", i64([2**61]))]), "model.", "Tile"),
        "Pad beyond all memory": (one("Pad", ["x", "s"], weights=[tensor("s", i64([2**62, 2**62]))]), "model.", "Pad"),
        "Range without an end": (one("Range", ["a", "b", "d"], weights=[tensor("a", i64(0)), tensor("b", i64(2**62)), tensor("d", i64(1))]),
                                 "model.", "Range"),
        "Range with a step of zero": (one("Range", ["a", "b", "d"], weights=[tensor("a", i64(0)), tensor("b", i64(9)), tensor("d", i64(0))]),
                                      "model.", "Range"),
        "Reshape to another size": (one("Reshape", ["x", "s"], weights=[tensor("s", i64([5]))]), "model.shape", "Reshape"),
        "Gather out of range": (one("Gather", ["w", "i"], weights=[tensor("w", np.ones(3, np.float32)), tensor("i", i64([7]))]), "model.", "Gather"),
        "an axis that is not there": (one("Softmax", ["x"], {"axis": 5}), "model.", "Softmax"),
        "a permutation that is none": (one("Transpose", ["x"], {"perm": [3]}), "model.", "Transpose"),
        "a kernel larger than the picture": (one("Conv", ["x", "w"], weights=[tensor("w", np.ones((1, 1, 9, 9), np.float32))], shape=(1, 1, 4, 4)),
                                             "model.shape", "Conv"),
        "strides of zero": (one("Conv", ["x", "w"], {"strides": [0, 0]}, [tensor("w", np.ones((1, 1, 2, 2), np.float32))], (1, 1, 4, 4)),
                            "model.", "Conv"),
        "a group of 2^62": (one("Conv", ["x", "w"], {"group": 2**62}, [tensor("w", np.ones((1, 1, 2, 2), np.float32))], (1, 1, 4, 4)),
                            "model.", "Conv"),
        "a MatMul that does not fit": (one("MatMul", ["x", "w"], weights=[tensor("w", np.ones((5, 2), np.float32))]), "model.shape", "MatMul"),
        "an attribute of another type": (one("Softmax", ["x"], {"axis": "last"}), "model.invalid", "axis"),
        "too few inputs": (one("MatMul", ["x"]), "model.invalid", "MatMul"),
        "external data at /etc/passwd": (external("/etc/passwd"), "model.external_data", "/etc/passwd"),
        "external data above the folder": (external("../../etc/passwd"), "model.external_data", "../../etc/passwd"),
        "external data that is absent": (external("weights.bin"), "model.external_data", "weights.bin"),
        "external data at a negative offset": (external("weights.bin", offset="-8"), "model.external_data", "offset"),
        "external data without a name": (external(""), "model.external_data", "w"),
        "If in If, 31 deep": (nested(30), "model.", "If"),
        "If in If, 90 deep": (nested(90), "model.", ""),
        "no graph": (helper.make_model(helper.make_graph([], "g", [], []), ir_version=8).SerializeToString(), "model.", ""),
    }


# ---- other kinds of files ----

def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in members.items():
            z.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def other_kinds():
    """(bytes, what the message calls it)."""
    state = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return {
        "pytorch zip": (zipped(**{"archive__data.pkl": pickle.dumps({"w": 1}), "archive__version": b"3"}), "PyTorch"),
        "torchscript zip": (zipped(**{"m__data.pkl": pickle.dumps(1), "m__code____torch__.py": b""}), "PyTorch"),
        "pickle": (pickle.dumps({"weight": [1.0] * 100}, protocol=2), "pickle"),
        "pickle 5": (pickle.dumps({"weight": [1.0] * 100}, protocol=5), "pickle"),
        "safetensors": (struct.pack("<Q", len(state)) + state + b"\0" * 8, "safetensors"),
        "GGUF": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"\0" * 64, "GGUF"),
        "TFLite": (b"\x1c\0\0\0TFL3" + b"\0" * 64, "TensorFlow Lite"),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "HDF5"),
        "npz": (npz(x=np.zeros(3)), "NumPy"),
        "JSON": (b'{"model": 1}', "JSON"),
        "an error page": (b"<!DOCTYPE html><html>404</html>", "web page"),
        "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        "empty": (b"", "empty"),
    }


# ---- arrays that do not fit the example (pixel_values float32 [n,1,8,8]) ----

def bomb(shape, unpacked):
    """A deflated member that claims `shape` and unpacks to so many zeros."""
    head, out = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z, z.open("pixel_values.npy", "w") as f:
        f.write(head.getvalue())
        for _ in range(unpacked >> 20):
            f.write(bytes(1 << 20))
    return out.getvalue()


def bad_arrays():
    """(bytes, the code of the refusal, a word its message has)."""
    good = np.load(DIGITS / "calib.npz")["pixel_values"]
    nan, inf = good.copy(), good.copy()
    nan[3, 0, 2, 1], inf[5, 0, 0, 0] = np.nan, -np.inf
    fine = npz(pixel_values=good)
    return {
        "another name": (npz(pixels=good), "dataset.schema", "pixel_values"),
        "no array": (zipped(), "dataset.", "array"),
        "complex numbers": (npz(pixel_values=good.astype(np.complex64)), "dataset.", "pixel_values"),
        "text": (npz(pixel_values=np.array(["a"] * 64)), "dataset.", "pixel_values"),
        "pickled objects": (npz(pixel_values=np.array([{"a": 1}] * 64, dtype=object)), "dataset.", "pixel_values"),
        "no channels": (npz(pixel_values=good[:, 0]), "dataset.shape_mismatch", "pixel_values"),
        "a number": (npz(pixel_values=np.float32(1)), "dataset.shape_mismatch", "pixel_values"),
        "other pictures": (npz(pixel_values=np.zeros((64, 1, 9, 9), np.float32)), "dataset.shape_mismatch", "9"),
        "channels last": (npz(pixel_values=good.transpose(0, 2, 3, 1)), "dataset.shape_mismatch", "NHWC"),
        "not a number": (npz(pixel_values=nan), "dataset.values", "pixel_values"),
        "infinity": (npz(pixel_values=inf), "dataset.values", "pixel_values"),
        "no samples": (npz(pixel_values=good[:0]), "dataset.", "pixel_values"),
        "Fortran order": (npz(pixel_values=np.asfortranarray(good)), "dataset.", "ascontiguousarray"),
        "big-endian": (npz(pixel_values=good.astype(">f4")), "dataset.", "astype"),
        "a bomb": (bomb((1 << 20, 1, 8, 8), 256 << 20), "dataset.limit_exceeded", ""),
        "a bomb that claims little": (bomb((32, 1, 8, 8), 64 << 20), "dataset.", ""),
        "a claim of 2^60 samples": (bomb((2**60, 1, 8, 8), 1 << 20), "dataset.", ""),
        "cut short": (fine[:-400], "dataset.format", ""),
        "not a zip": (b"these are no arrays", "dataset.format", ""),
        "empty": (b"", "dataset.format", "empty"),
        "a model": ((DIGITS / "model.onnx").read_bytes(), "dataset.format", ""),
        "a bit of a member flipped": (fine[:9000] + bytes([fine[9000] ^ 4]) + fine[9001:], "dataset.", "pixel_values"),
    }
