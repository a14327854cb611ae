#!/usr/bin/env python3
"""Writes small ONNX models into a folder, as seeds for fuzz_onnx: together they use every field the reader knows."""
import pathlib
import sys

from onnx import TensorProto, helper

TYPED = [
    (TensorProto.FLOAT, [1.5, -2.0]), (TensorProto.DOUBLE, [1.5, -2.0]), (TensorProto.INT64, [-1, 2**62]), (TensorProto.UINT64, [1, 2**64 - 1]),
    (TensorProto.UINT32, [1, 2**32 - 1]), (TensorProto.INT32, [-1, 2**31 - 1]), (TensorProto.INT16, [-1, 32767]),
    (TensorProto.UINT16, [1, 65535]), (TensorProto.INT8, [-128, 127]), (TensorProto.UINT8, [0, 255]), (TensorProto.BOOL, [1, 0]),
    (TensorProto.FLOAT16, [1.5, -2.0]), (TensorProto.BFLOAT16, [1.5, -2.0]), (TensorProto.INT4, [-8, 7, 3]), (TensorProto.UINT4, [15, 1, 2]),
]


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(nodes, initializers=(), **fields):
    graph = helper.make_graph(nodes, "g", [value("x", ["batch", None, 3])], [value("y", None)], list(initializers), value_info=[value("v", [2])])
    proto = helper.make_model(graph, producer_name="seeds", opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("d", 1)],
                              ir_version=10, **fields)
    helper.set_model_props(proto, {"key": "value"})
    return proto


def referring(name, ref):
    node = helper.make_node("Selu", ["x"], ["t"])
    node.attribute.add(name=name, ref_attr_name=ref, type=1)
    return node


def function(name, domain, nodes):
    return helper.make_function(domain, name, ["x"], ["y"], nodes, [helper.make_opsetid("", 21)], attributes=["alpha"],
                                attribute_protos=[helper.make_attribute("gamma", 0.5)], overload="other")


def external(name, offset):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", "w.bin"), ("offset", str(offset)), ("length", "8")):
        tensor.external_data.add(key=key, value=text)
    return tensor


def main(folder):
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], b"\0" * 8, raw=True)
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "sub", [], [value("o", [2])])
    seeds = {
        "relu": model([helper.make_node("Relu", ["x"], ["y"], name="relu")]),
        "if": model([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [tensor]),
        "attributes": model([helper.make_node("Custom", ["", "x"], ["y"], domain="d", f=0.0, i=-3, s="text", fs=[1.0, 2.5], ns=[1, -2**63],
                                              ss=["a", "b"], t=tensor, ts=[tensor, tensor], gs=[branch, branch])], doc_string="doc"),
        "typed": model([helper.make_node("Relu", ["x"], ["y"])],
                       [helper.make_tensor(f"t{dtype}", dtype, [len(values)], values) for dtype, values in TYPED]),
        "functions": model([helper.make_node("F", ["x"], ["y"], domain="d", overload="other", alpha=2.0)], functions=[
            function("F", "d", [referring("alpha", "alpha"), helper.make_node("G", ["t"], ["y"], domain="d", overload="other")]),
            function("G", "d", [referring("gamma", "gamma"), helper.make_node("Neg", ["t"], ["y"])])]),
        "external": model([helper.make_node("Relu", ["x"], ["y"])], [external("a", 0), external("b", 8)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, proto in seeds.items():
        (folder / f"{name}.onnx").write_bytes(proto.SerializeToString())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
