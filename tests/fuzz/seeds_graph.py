#!/usr/bin/env python3
"""Writes small ONNX models into a folder, as seeds for fuzz_graph: what is written as other nodes when a model is loaded."""
import pathlib
import sys

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

node = helper.make_node


def value(name, shape=None, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, opset=17, functions=(), x=("batch", 3, 4), **constants):
    inits = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", x)], [value("y")], inits)
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", opset), ("d", 1), ("com.microsoft", 1))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def function(name, nodes, opset=17):
    return helper.make_function("d", name, ["x"], ["y"], nodes, [helper.make_opsetid("", opset), helper.make_opsetid("d", 1)],
                                attributes=["alpha"], attribute_protos=[helper.make_attribute("gamma", 0.5)])


def referring(op, **refs):
    n = node(op, ["x"], ["t"])
    for name, ref in refs.items():
        n.attribute.add(name=name, ref_attr_name=ref, type=AttributeProto.FLOAT)
    return n


def control():
    branch = helper.make_graph([node("Add", ["x", "w"], ["o"])], "b", [], [value("o")])
    same = helper.make_graph([node("Identity", ["x"], ["s"])], "s", [], [value("s")])
    body = helper.make_graph([node("Mul", ["v", "w"], ["v2"]), node("Identity", ["go"], ["go2"]), node("Neg", ["v2"], ["all"]),
                              node("If", ["go"], ["u"], then_branch=helper.make_graph([node("Abs", ["v"], ["a"])], "a", [], [value("a")]),
                                   else_branch=same)], "l",
                             [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v")],
                             [value("go2", [], TensorProto.BOOL), value("u"), value("all")])
    yes, w = np.True_, np.ones(4, np.float32)
    shape = [node("Shape", ["x"], ["n"]), node("Gather", ["n", "axis"], ["l"], axis=0), node("Less", ["l", "five"], ["c"])]
    return {
        "if": model([*shape, node("If", ["c"], ["y"], then_branch=branch, else_branch=same)], w=w, axis=np.int64(1), five=np.int64(5)),
        "loop": model([node("Loop", ["trips", "", "x"], ["z", "all"], body=body), node("ReduceSum", ["all"], ["y"])], w=w, trips=np.int64(3)),
        "while": model([node("Loop", ["trips", "yes", "x"], ["y", "all"], body=body)], w=w, trips=np.int64(2), yes=yes),
    }


def main(folder):
    w, four = np.ones((4, 4), np.float32), np.ones(4, np.float32)
    seeds = {
        "functions": model([node("F", ["x"], ["y"], domain="d", alpha=2.0)], functions=[
            function("F", [referring("Selu", alpha="alpha", gamma="gamma"), node("G", ["t"], ["y"], domain="d")]),
            function("G", [node("Constant", [], ["c"], value_float=1.5), node("Dropout", ["x"], ["e"]), node("Mul", ["e", "c"], ["y"])])]),
        "itself": model([node("F", ["x"], ["y"], domain="d")], functions=[function("F", [node("F", ["x"], ["y"], domain="d")])]),
        "linear": model([node("Einsum", ["x", "w"], ["y"], equation="bsd,dhk->bshk")], w=np.ones((4, 2, 3), np.float32)),
        "scores": model([node("Einsum", ["x", "x"], ["y"], equation="bqd,bkd->bqk")]),
        "diagonal": model([node("Einsum", ["x", "w"], ["y"], equation="...d,dd->...")], w=w),
        "row": model([node("Conv", ["x", "w"], ["y"], strides=[2], pads=[1, 1])], w=np.ones((2, 3, 2), np.float32)),
        "skip": model([node("SkipLayerNormalization", ["x", "x", "g", "b"], ["y"], domain="com.microsoft")], g=four, b=four),
        "attention": model([node("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)], 23),
        "old": model([node("Unsqueeze", ["x"], ["u"], axes=[1]), node("Softmax", ["u"], ["s"], axis=2), node("Squeeze", ["s"], ["y"], axes=[1])], 11),
        **control(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, proto in seeds.items():
        (folder / f"{name}.onnx").write_bytes(proto.SerializeToString())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
