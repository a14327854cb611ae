"""What a dry run says a job will take, beside what it takes: memory within 30 %, time within a factor of two.

The time that is compared is the processor's: what a busy machine adds to the clock is printed (-s) and not judged.
"""
import json
import subprocess
import time

import numpy as np
import onnx
import pytest
from conftest import REPQUANT
from onnx import TensorProto, helper, numpy_helper
from support import DIGITS, MODELS, SANITIZED, STORIES, needs, pictures

from test_pipeline_jobs import quantize_body

SAMPLES = 32
MODELS_AND_DATA = {
    "digits": (DIGITS / "model.onnx", lambda: DIGITS / "calib.npz"),
    "stories260k": (MODELS / "stories260k.onnx", lambda: STORIES / "tinystories_calib.npz"),
    "deit-tiny": (MODELS / "deit-tiny.onnx", lambda: pictures("deit", "calib", SAMPLES)),
    "vit-tiny": (MODELS / "vit-tiny.onnx", lambda: pictures("vit", "calib", SAMPLES)),
}
pytestmark = [pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory and time are not the program's")]


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory):
    from conftest import Daemon
    d = Daemon(tmp_path_factory.mktemp("daemon"), REPQUANT, {"workers": "1"}).start()
    yield d
    assert d.stop() == 0


def judge(name, recipe, quantizer):
    model, data = MODELS_AND_DATA[name]
    body = quantize_body(quantizer, model, data(), recipe)
    dry = quantizer("POST", "/v1/jobs?dry_run=true", json=body)
    assert dry.status_code == 200, dry.text
    told = dry.json()
    assert [p for p in told["problems"] if p["level"] == "error"] == []
    assert told["coverage"]["quantized_layers"] == sum(row["planned_precision"] != "float" for row in told["plan"]) > 0
    job = quantizer("POST", "/v1/jobs", json=body).json()
    result = quantizer.ended(job["id"], 300)["result"]
    estimate = told["estimate"]
    memory, time = estimate["memory_bytes"] / result["peak_bytes"], estimate["cpu_seconds"] / result["cpu_seconds"]
    print(f"{name} {recipe}: memory {estimate['memory_bytes'] >> 20} of {result['peak_bytes'] >> 20} MiB, {memory:.2f}; processor time "
          f"{estimate['cpu_seconds']:.2f} of {result['cpu_seconds']:.2f} s, {time:.2f}; by the clock {estimate['seconds']:.2f} of {result['seconds']:.2f} s")
    assert abs(memory - 1) <= 0.3
    assert 0.5 <= time <= 2
    assert abs(estimate["output_bytes"] / result["bytes_after"] - 1) < 0.3
    # The plan names what is quantized.
    rows = {row["name"]: row for row in quantizer("GET", job["urls"]["layers"]).json()["data"]}
    planned = {row["layer"]: row["planned_precision"] for row in told["plan"] if row["layer"] in rows}
    assert planned == {n: row["actual_precision"] for n, row in rows.items()}


@needs(MODELS, STORIES)
@pytest.mark.parametrize("name", MODELS_AND_DATA)
@pytest.mark.parametrize("recipe", ["percentile-w8a8", "repquant-w4a4", *(pytest.param(r, marks=pytest.mark.long)
                                    for r in ("smoothquant-w8a8", "zeroquant-w8a8", "repq-vit-w4a4"))])
def test_an_estimate_is_near_what_a_job_takes(name, recipe, quantizer):
    judge(name, recipe, quantizer)


ADAROUND = {"preset": "minmax-w8a8", "weights": {"rounding": "adaround"}}


def taught(steps, preset="zeroquant-lkd-w4a8", **more):
    return {"preset": preset, "reconstruction": {"blocks": True}, "distillation": {"steps": steps, **more}}


@needs(MODELS, STORIES)
@pytest.mark.parametrize("name, recipe", [
    ("digits", taught(10)), ("digits", taught(100)), ("digits", ADAROUND), ("stories260k", taught(10)),
    *(pytest.param(*row, marks=pytest.mark.long) for row in (
        ("digits", taught(2000)), ("digits", taught(100, batch=64)), ("digits", taught(100, "repquant-w4a8")), ("stories260k", taught(100)),
        ("stories260k", taught(100, "minmax-w8a8")), ("stories260k", ADAROUND), ("deit-tiny", taught(4)))),
], ids=str)
def test_an_estimate_counts_what_is_learned(name, recipe, quantizer):
    """Blocks that are taught by distillation and AdaRound take many times what the rest does."""
    judge(name, recipe, quantizer)


def test_a_large_model_is_not_run_to_tell_how_long_it_takes(tmp_path):
    """One sample of it is 0.55 Tflop; an inspection that ran it would not answer in time."""
    w = numpy_helper.from_array(np.ones((4096, 4096), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", "T", 4096]) for n in ("x", "y"))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "large", [x], [y], [w])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "large.onnx")
    task = {"type": "inspect_job", "model": {"files": [{"name": "large.onnx", "path": str(tmp_path / "large.onnx")}]}, "recipe": "minmax-w8a8",
            "calibration_inventory": {"format": "npz", "arrays": [{"name": "x", "dtype": "float32", "shape": [64, 16384, 4096]}]}, "threads": 2}
    (tmp_path / "job.json").write_text(json.dumps(task))
    begun = time.monotonic()
    subprocess.run([REPQUANT, "job", str(tmp_path)], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    took = time.monotonic() - begun
    estimate = json.loads((tmp_path / "result.json").read_text())["estimate"]
    assert estimate["cpu_seconds"] > 64 * 0.55e12 / 1e12 and took < estimate["cpu_seconds"] / 4
    assert estimate["memory_bytes"] > 1.2 * (1 << 30)              # held activations fill their budget
