"""Makes tests/golden/zoo/*.onnx: small exports with random weights, in the spellings that exporters use.

    python tests/golden/make_zoo.py [NAME ...]

Needs torch 2.15, onnx 1.23 and onnxscript 0.7 in an environment of its own; the tests need none of them but onnx.
Other versions may write other nodes: look at the difference before committing it.  The weights are random (seed: the
file's name), so the files are part of the project, under its licence.

ts:  torch's TorchScript exporter (opset 9 to 17);  raw: the same without constant folding
dyn: torch's exporter of torch.export programs (opset 18 and later)
"""
import io
import logging
import pathlib
import sys
import warnings
import zlib

import onnx
import torch
import zoo_models as z

FOLDER = pathlib.Path(__file__).parent / "zoo"
PICTURE, IDS, BOTH = {"pixel_values": (3, 16, 16)}, ("input_ids",), ("input_ids", "attention_mask")
THREE = (*BOTH, "token_type_ids")

# name: how, opset, the module, its inputs (shapes without the batch, or names of [batch, seq])
ZOO = {
    "vit-ts11": ("ts", 11, lambda: z.ViT(lambda: z.Fused("q", "unbind")), PICTURE),
    "vit-dyn20": ("dyn", 20, lambda: z.ViT(lambda: z.Fused("mul", "index")), PICTURE),
    "vit-dyn23": ("dyn", 23, lambda: z.ViT(lambda: z.Separate("sdpa")), PICTURE),
    "deit-ts14": ("ts", 14, lambda: z.ViT(lambda: z.Fused("sdpa", "unbind"), 2, z.old_gelu), PICTURE),
    "deit-dyn18": ("dyn", 18, lambda: z.ViT(lambda: z.Fused("sdpa", "chunk"), 2), PICTURE),
    "swin-ts17": ("ts", 17, lambda: z.Swin(lambda: z.Fused("q", "unbind"), False), PICTURE),
    "swin-ts13-mask": ("ts", 13, lambda: z.Swin(lambda: z.Fused("q", "index"), True), PICTURE),
    "swin-dyn18": ("dyn", 18, lambda: z.Swin(lambda: z.Separate("div"), False), PICTURE),
    "beit-ts13": ("ts", 13, lambda: z.BEiT("q"), PICTURE),
    "beit-dyn20": ("dyn", 20, lambda: z.BEiT("mul"), PICTURE),
    "mobilevit-ts13": ("ts", 13, lambda: z.MobileViT("chunk"), PICTURE),
    "mobilevit-dyn20": ("dyn", 20, lambda: z.MobileViT("split"), PICTURE),
    "bert-ts11": ("ts", 11, lambda: z.BERT("div", z.F.gelu), THREE),
    "bert-raw13": ("raw", 13, lambda: z.BERT("mul", z.old_gelu), THREE),
    "bert-dyn20": ("dyn", 20, lambda: z.BERT("sdpa", z.F.gelu), THREE),
    "roberta-ts13": ("ts", 13, lambda: z.RoBERTa("div"), BOTH),
    "roberta-dyn18": ("dyn", 18, lambda: z.RoBERTa("sdpa"), BOTH),
    "distilbert-ts12": ("ts", 12, z.DistilBERT, BOTH),
    "distilbert-dyn20": ("dyn", 20, z.DistilBERT, BOTH),
    "albert-ts13": ("ts", 13, lambda: z.ALBERT("div"), THREE),
    "albert-dyn18": ("dyn", 18, lambda: z.ALBERT("mul"), THREE),
    "deberta-ts13": ("ts", 13, z.DeBERTa, BOTH),
    "deberta-dyn18": ("dyn", 18, z.DeBERTa, BOTH),
    "gpt2-ts13": ("ts", 13, z.GPT2, IDS),
    "gpt2-dyn18": ("dyn", 18, z.GPT2, IDS),
    "opt-ts14": ("ts", 14, z.OPT, BOTH),
    "opt-dyn20": ("dyn", 20, z.OPT, BOTH),
    "llama-ts17": ("ts", 17, lambda: z.LLaMA("mul"), IDS),
    "llama-dyn18": ("dyn", 18, lambda: z.LLaMA("sdpa"), IDS),
    "llama-dyn23": ("dyn", 23, lambda: z.LLaMA("op", lambda width: torch.nn.RMSNorm(width, 1e-6)), IDS),
    "t5-ts13": ("ts", 13, lambda: z.T5(False), BOTH),
    "t5-dyn18": ("dyn", 18, lambda: z.T5(True), BOTH),
    "clip-ts14": ("ts", 14, lambda: z.CLIP("q"), {"input_ids": "seq", **PICTURE}),
    "clip-dyn20": ("dyn", 20, lambda: z.CLIP("sdpa"), {"input_ids": "seq", **PICTURE}),
    "whisper-ts17": ("ts", 17, lambda: z.Whisper(lambda: z.Separate("q", (True, False, True, True))), {"input_features": (8, 24)}),
    "whisper-dyn20": ("dyn", 20, lambda: z.Whisper(lambda: z.Separate("sdpa", (True, False, True, True))), {"input_features": (8, 24)}),
    "library-ts14": ("ts", 14, z.Library, {"x": (9, 6)}),
}


def samples(inputs):
    """Tensors to trace with, and the names of their dynamic dimensions."""
    arrays, axes = {}, {}
    for name in inputs:
        shape = "seq" if isinstance(inputs, tuple) else inputs[name]
        axes[name] = {0: "batch", 1: "seq"} if shape == "seq" else {0: "batch"}
        words = {"input_ids": z.WORDS, "token_type_ids": 2}
        arrays[name] = (torch.randn(3, *shape) if shape != "seq" else torch.ones(3, 7, dtype=torch.int64) if name == "attention_mask"
                        else torch.randint(2 if name == "input_ids" else 0, words[name], (3, 7)))
    return arrays, axes


def bare(m):
    """Without what says where and from which lines a model was exported."""
    for where in (m, m.graph, *m.functions, *m.graph.node, *m.graph.input, *m.graph.output, *m.graph.value_info, *m.graph.initializer,
                  *(n for f in m.functions for n in f.node)):
        where.ClearField("doc_string")
        where.ClearField("metadata_props")
    return m


def export(name):
    how, opset, make, inputs = ZOO[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model, (arrays, axes), out = make().eval(), samples(inputs), io.BytesIO()
    more = {"opset_version": opset, "input_names": list(arrays), "output_names": ["output"]}
    if how == "dyn":
        dims = {name: {at: torch.export.Dim.DYNAMIC for at in dynamic} for name, dynamic in axes.items()}
        program = torch.onnx.export(model, kwargs=arrays, dynamo=True, dynamic_shapes=dims, verbose=False, **more)
        m = program.model_proto
    else:
        torch.onnx.export(model, tuple(arrays.values()), out, dynamo=False, dynamic_axes={**axes, "output": {0: "batch"}},
                          do_constant_folding=how == "ts", **more)
        m = onnx.load_from_string(out.getvalue())
    onnx.checker.check_model(m, full_check=True)
    onnx.save(bare(m), FOLDER / f"{name}.onnx")


def main():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ZOO:
        try:
            export(name)
            print(name, (FOLDER / f"{name}.onnx").stat().st_size, flush=True)
        except Exception as e:
            print(name, "FAILED", f"{type(e).__name__}: {e}"[:600], flush=True)


if __name__ == "__main__":
    main()
