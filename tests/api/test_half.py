"""Models whose weights lie in the file as float16 or bfloat16: computed and quantized as float32, and never there as a whole."""
import json
import os
import resource

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import SANITIZED, quantize, repquant, run_ours, run_theirs
from test_memory import peak

TYPES = {
    "float16": (TensorProto.FLOAT16, lambda w: w.astype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, lambda w: (w.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)),
}
WORDS, WIDTH, MB = 800, 256, 1e6


def saved(folder, stored, layers, width=WIDTH, hidden=2 * WIDTH):
    """ids -> table -> `layers` x (norm, up, Relu, down, residual), every matrix behind a Cast, in a file of its own."""
    kind, convert = TYPES[stored]
    rng, data, nodes, matrices = np.random.default_rng(0), open(folder / "weights.bin", "wb"), [], []

    def matrix(name, *dims):
        t = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
        w = convert(rng.standard_normal(dims, np.float32) / np.sqrt(dims[0], dtype=np.float32))
        for key, value in (("location", "weights.bin"), ("offset", data.tell()), ("length", w.nbytes)):
            t.external_data.add(key=key, value=str(value))
        w.tofile(data)
        matrices.append(t)
        nodes.append(helper.make_node("Cast", [name], [f"{name}/float"], f"{name}/Cast", to=TensorProto.FLOAT))
        return f"{name}/float"

    def node(op, inputs, name, **attributes):
        nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    x = node("Gather", [matrix("table", WORDS, width), "ids"], "embedded")
    for i in range(layers):
        y = node("MatMul", [node("LayerNormalization", [x, "gamma", "beta"], f"{i}/norm"), matrix(f"{i}/up", width, hidden)], f"{i}/fc1")
        down = node("Transpose", [matrix(f"{i}/down", width, hidden)], f"{i}/turned", perm=[1, 0]) if i == 1 else matrix(f"{i}/down", hidden, width)
        x = node("Add", [x, node("MatMul", [node("Relu", [y], f"{i}/relu"), down], f"{i}/fc2")], f"{i}/sum")
    node("Identity", [x], "y")
    data.close()
    graph = helper.make_graph(nodes, "half", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", width])],
                              [*matrices, helper.make_tensor("gamma", TensorProto.FLOAT, [width], [1.0] * width),
                               helper.make_tensor("beta", TensorProto.FLOAT, [width], [0.0] * width)])
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def ids(count, seed=1):
    return {"ids": np.random.default_rng(seed).integers(0, WORDS, (count, 6))}


@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize("recipe", ["minmax-w8a8", "repquant-w4a8", "smoothquant-w8a8"])
def test_it_is_quantized_as_onnx_runtime_has_it(stored, recipe, tmp_path):
    model = saved(tmp_path, stored, 2)
    theirs, ours = run_theirs(model, ids(5)), run_ours(model, ids(5), tmp_path)
    assert np.abs(ours["y"] - theirs["y"]).max() <= 1e-4 * np.abs(theirs["y"]).max()
    np.savez(tmp_path / "calib.npz", **ids(32))
    out = quantize(model, tmp_path / "calib.npz", tmp_path, recipe)
    report = json.loads((out / "report.json").read_text())
    assert report["summary"]["quantized_layers"] == 4 and all(row["output_sqnr_db"] > 15 for row in report["layers"])
    quantized, simulated = run_theirs(out / "model.onnx", ids(5, 2)), run_ours(out / "model.onnx", ids(5, 2), tmp_path)
    assert np.abs(quantized["y"] - simulated["y"]).max() <= 2e-2 * np.abs(quantized["y"]).max()
    # What stays float stays as it was stored.
    tables = [t for t in onnx.load(out / "model.onnx").graph.initializer if t.dims == [WORDS, WIDTH]]
    assert [t.data_type for t in tables] == [TYPES[stored][0]]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not the program's")
def test_weights_become_float_one_layer_at_a_time(tmp_path):
    model = saved(tmp_path, "float16", 6, width=1024, hidden=4096)
    size = (tmp_path / "weights.bin").stat().st_size
    np.savez(tmp_path / "calib.npz", **ids(16))
    assert size > 100 * MB
    assert peak("inspect", model) < size / 2
    # Codes are half of the size; all weights as float32 at once would be twice it, beside what is here anyway.
    assert peak("quantize", model, "--calibration", tmp_path / "calib.npz", "--recipe", "minmax-w8a8", "--output", tmp_path / "out",
                "--progress", "none") < 3 * size


def read_from_disk(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
    repquant(*arguments)
    return (resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock - before) * 512


@pytest.mark.parametrize("recipe", ["minmax-w8a8", "smoothquant-w8a8"])
def test_no_weight_is_read_twice_from_disk(recipe, tmp_path):
    model, out = saved(tmp_path, "float16", 4, width=512, hidden=2048), tmp_path / "out"
    np.savez(tmp_path / "calib.npz", **ids(16))
    command = ["quantize", model, "--calibration", tmp_path / "calib.npz", "--recipe", recipe, "--output", out, "--progress", "none"]
    read_from_disk(*command)              # programs and libraries are at hand from here on
    with open(tmp_path / "weights.bin", "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert read_from_disk(*command) < 1.2 * (tmp_path / "weights.bin").stat().st_size
