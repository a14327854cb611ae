#!/usr/bin/env python3
"""SmoothQuant W8A8 and RepQuant-like W4A8 on stories260k, written again in numpy: what is lost there is the method's, not our quantizer's.

    bench/stories_numpy.py [--seeds 8] [--skip smoothquant repquant]       # needs numpy, onnx, onnxruntime, MODELS_DIR and DATA_DIR

Nothing of RepQuant is run or imported; tests/tools/plant_outliers.py gives the model its loud channels.  The float pass is first held against
ONNX Runtime's.  Then, with what `repquant recipes` shows of our presets (per-tensor 8-bit activations, attention's products and the head too):

    SmoothQuant    the model with 6 channels of every norm 30 times as loud.  A seed draws the 512 of the 8192 rows that alpha is chosen on.
    RepQuant       the model as it is; every linear at 4 bits by GPTQ.  A seed moves the moments by 1e-6 of themselves, as another BLAS kernel
                   would; or draws 56 of the 64 calibration sequences.

Printed: by how much the perplexity on the 300 evaluation sequences grows, for each seed.
"""
import argparse
import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"      # matrices are small: threads would wait for each other, on a busy machine for long
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import numpy_helper  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "tools"))
from plant_outliers import plant  # noqa: E402

MODELS, DATA = (os.environ.get(name, os.path.join(ROOT, "..", "shared", folder)) for name, folder in (("MODELS_DIR", "models"), ("DATA_DIR", "data")))
MODEL = os.path.join(MODELS, "stories260k.onnx")
BLOCKS, HEAD_SIZE, EPSILON = 5, 8, np.float32(1e-5)
# The linears that read each norm, and those whose input a linear before them can scale: its reader, and that linear.
NORMS = {**{f"blocks.{b}.n1": [f"blocks.{b}.{n}" for n in "qkv"] for b in range(BLOCKS)},
         **{f"blocks.{b}.n2": [f"blocks.{b}.{n}" for n in ("gate", "up")] for b in range(BLOCKS)}, "norm": ["head"]}
INNER = {**{f"blocks.{b}.att": (f"blocks.{b}.o", f"blocks.{b}.v") for b in range(BLOCKS)},
         **{f"blocks.{b}.act": (f"blocks.{b}.down", f"blocks.{b}.up") for b in range(BLOCKS)}}

# What is varied; the rest is as our presets have it.
SMOOTHQUANT = {
    "as published": {},
    "channels of gate * up as wide as their 98 % quantile at least, inner factors from a quarter of the data (ours)": {"floor": 0.98, "inner": 4},
    "the 75 % quantile, all data": {"floor": 0.75},
}
REPQUANT = {"share 0.75, factors behind norms": {}, "share 1": {"share": 1}, "share 0.75, no factors behind norms": {"channels": False}}


# ---- the model ----

def read_weights(model):
    """The initializers by the names their layers have: [inputs, outputs] of linears."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    named = {n: w for n, w in constants.items() if not n.startswith("onnx::")}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            named[node.name.removesuffix("/MatMul").strip("/").replace("/", ".") or "head"] = constants[node.input[1]]
    return named


class Network:
    """Computes the model: site() is called on whatever a product reads, linear() for each product with constant weights."""

    def __init__(self, weights):
        self.w, self.bias, self.quantizers = dict(weights), {}, {}

    def site(self, name, x):
        return self.quantizers[name](x) if name in self.quantizers else x

    def linear(self, name, x, residual=None):
        y = x @ self.w[name]
        if name in self.bias:
            y += self.bias[name]
        return y if residual is None else residual + y

    def norm(self, name, x):
        return self.site(name, x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + EPSILON) * self.w[f"{name}.weight"])

    def rotate(self, x):
        cos, sin = (self.w[n][:x.shape[1], None] for n in ("cos", "sin"))
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)

    def attention(self, block, h):
        n, t = h.shape[:2]
        q, k, v = (self.linear(f"{block}.{name}", h).reshape(n, t, -1, HEAD_SIZE) for name in "qkv")
        q, k, v = self.site(f"{block}.q", self.rotate(q)), self.site(f"{block}.k", self.rotate(k)), self.site(f"{block}.v", v)
        repeat = q.shape[2] // k.shape[2]
        k, v = (np.repeat(x, repeat, axis=2).transpose(0, 2, 1, 3) for x in (k, v))
        s = q.transpose(0, 2, 1, 3) @ k.swapaxes(2, 3) / np.float32(np.sqrt(HEAD_SIZE)) + self.w["mask"][:t, :t]
        p = np.exp(s - s.max(-1, keepdims=True))
        p = self.site(f"{block}.p", p / p.sum(-1, keepdims=True))
        return self.site(f"{block}.att", (p @ v).transpose(0, 2, 1, 3).reshape(n, t, -1))

    def run(self, ids):
        x = self.w["emb.weight"][ids]
        for b in range(BLOCKS):
            block = f"blocks.{b}"
            x = self.linear(f"{block}.o", self.attention(block, self.norm(f"{block}.n1", x)), x)
            h = self.norm(f"{block}.n2", x)
            gate = self.linear(f"{block}.gate", h)
            h = self.site(f"{block}.act", gate / (1 + np.exp(-gate)) * self.linear(f"{block}.up", h))
            x = self.linear(f"{block}.down", h, x)
        return self.linear("head", self.norm("norm", x))

    def logits(self, ids, batch=10):
        return np.concatenate([self.run(ids[at:at + batch]) for at in range(0, len(ids), batch)])


class Watched(Network):
    """Keeps what every site saw."""

    def __init__(self, weights):
        super().__init__(weights)
        self.seen = {}

    def site(self, name, x):
        self.seen[name] = x.reshape(-1, x.shape[-1])
        return x


def check_float(model, network, ids):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, {"input_ids": ids})[0]
    worst = np.abs(network.run(ids) - want).max() / np.abs(want).max()
    assert worst <= 1e-4, f"numpy's logits are off by {worst:.1e} of the largest"
    return worst


# ---- quantizers ----

def affine(lo, hi, bits):
    """Step and the codes' ends for ranges that hold 0; a range of no width has the step 1."""
    lo, hi, top = np.minimum(lo, 0), np.maximum(hi, 0), 2 ** bits - 1
    step = np.where(hi > lo, (hi - lo) / top, 1).astype(np.float32)
    zero = np.clip(np.rint(-lo / step), 0, top).astype(np.float32)
    return step, -zero, top - zero


def through(x, step, least, most):
    return np.clip(np.rint(x / step), least, most) * step


def per_tensor(lo, hi, bits=8):
    a = affine(lo, hi, bits)
    return lambda x: through(x, *a)


def symmetric_weights(w, bits=8):
    most = 2 ** (bits - 1) - 1
    reach = np.abs(w).max(0)
    return through(w, np.where(reach > 0, reach / most, 1).astype(np.float32), -most, most)


def range_by_error(x, bits=8, most=1 << 16):
    """Both ends shrunk together, then each alone, as long as the squared error of up to 65,536 of the values falls."""
    lo, hi, some = x.min(), x.max(), x.ravel()
    if x.size > most:
        some = some[np.random.default_rng(0).integers(0, x.size, most)]      # no stride: it could skip channels
    best = np.inf
    for ends in ((1, 1), (1, 0), (0, 1)):
        start = lo, hi
        for f in np.linspace(0, 0.5, 26):
            a, b = (end * np.float32(1 - f * moves) for end, moves in zip(start, ends))
            error = np.square(per_tensor(a, b, bits)(some) - some).sum(dtype=np.float64)
            if error < best:
                best, lo, hi = error, a, b
    return lo, hi


# ---- SmoothQuant ----

def smooth_factors(x_reach, w, alpha):
    s = x_reach ** alpha / np.maximum(np.abs(w).max(1), 1e-5) ** (1 - alpha)
    return np.where(x_reach > 0, np.maximum(s, 1e-5), 1).astype(np.float32)


def shared(x, group):
    """The largest over channels that must share a factor (query heads of one key-value head); group: how many heads, 1 for none."""
    if group == 1:
        return x
    heads = x.reshape(-1, group, HEAD_SIZE)
    return np.broadcast_to(heads.max(1, keepdims=True), heads.shape).ravel()


def choose_factors(seen, x, w, group=1, floor=0):
    """
    The factors with the least squared error of the readers' outputs on the rows x; no factors at all are a choice too.  seen: the rows whose
    extremes count; floor: a channel counts as wide as this quantile of all at least.
    """
    lo, hi = seen.min(0), seen.max(0)
    reach, weights = shared(np.maximum(-lo, hi), group), shared(np.abs(w).max(1), group)[:, None]
    reach = np.maximum(reach, np.quantile(reach, floor))
    y, best, choice = x @ w, np.inf, None
    for s in [np.ones_like(reach)] + [smooth_factors(reach, weights, alpha) for alpha in np.arange(11) / 10]:
        x8 = per_tensor((lo / s).min(), (hi / s).max())(x / s)
        error = np.square(x8 @ symmetric_weights(w * s[:, None]) - y).sum(dtype=np.float64)
        if error < best:
            best, choice = error, s
    return choice


def smoothed(weights, seen, rows, floor=0, inner=1):
    """
    New weights: linears give their factors to the linear before, then norms to their gammas.  floor: of what gate and up give; inner: of how many
    sequences one shows the extremes of what linears give factors for.
    """
    w = dict(weights)
    for site, (reader, maker) in INNER.items():
        group, x = len(w[reader]) // w[maker].shape[1], seen[site]
        shown = x.reshape(-1, 128, x.shape[-1])[::inner].reshape(-1, x.shape[-1])
        s = choose_factors(shown, x[rows], w[reader], group, floor if site.endswith("act") else 0)
        w[reader] = w[reader] * s[:, None]
        w[maker] = w[maker] / (s if group == 1 else s.reshape(-1, group, HEAD_SIZE)[:, 0].ravel())
    for site, readers in NORMS.items():
        s = choose_factors(seen[site], seen[site][rows], np.concatenate([w[r] for r in readers], 1))
        w[f"{site}.weight"] = w[f"{site}.weight"] / s
        for r in readers:
            w[r] = w[r] * s[:, None]
    return w


def smoothquant(weights, calib, seen, rows, **settings):
    """The W8A8 network, static ranges being the calibration set's extremes."""
    watched = Watched(smoothed(weights, seen, rows, **settings))
    watched.run(calib)
    network = Network(watched.w)
    network.quantizers = {name: per_tensor(x.min(), x.max()) for name, x in watched.seen.items()}
    for name in linears():
        network.w[name] = symmetric_weights(network.w[name])
    return network


def linears():
    return [r for readers in NORMS.values() for r in readers] + [reader for reader, _ in INNER.values()]


# ---- RepQuant ----

def gptq(target, h, damping, descents, bits=4):
    """Codes' values of target [inputs, outputs] with a small tr(E' (H + damping) E): ranges by error, act-order, Cholesky, descent."""
    hd = h + damping * np.mean(np.diag(h)) * np.eye(len(h))
    order = np.argsort(-np.diag(h), kind="stable")
    hd, v = hd[np.ix_(order, order)], target[order]
    grid = weight_ranges(v, np.diag(hd), bits)
    u, work, q = np.linalg.cholesky(np.linalg.inv(hd)).T, v.copy(), np.empty_like(v)
    for i in range(len(v)):
        q[i] = through(work[i], *grid)
        work[i + 1:] -= np.outer(u[i, i + 1:], (work[i] - q[i]) / u[i, i])
    for _ in range(descents):
        for i in range(len(v)):
            q[i] = through(q[i] - hd[i] @ (q - v) / hd[i, i], *grid)
    ret = np.empty_like(q)
    ret[order] = q
    return ret


def weight_ranges(v, weight, bits):
    """Of each output the one of 31 shrunk ranges with the least weighted squared error."""
    lo, hi = v.min(0), v.max(0)
    choices = [affine(lo * f, hi * f, bits) for f in np.linspace(1, 0.4, 31)]
    best = np.argmin([(weight[:, None] * np.square(through(v, *a) - v)).sum(0) for a in choices], 0)
    return tuple(np.take_along_axis(np.array(part), best[None], 0)[0] for part in zip(*choices))


class Rebuilding(Network):
    """
    Float and quantized streams side by side (first and second half of the batch); each site's range and each linear's weights are decided as the
    quantized stream reaches it.  What a linear is to give: its float weights on (1 - share) of the quantized input and share of the float one, and
    where it is added to the residual stream, share of what that is off by.
    """

    def __init__(self, weights, share=0.75, ridge=1.0, damping=0.05, descents=2, channels=True, noise=None):
        super().__init__(weights)
        self.share, self.ridge, self.damping, self.descents, self.channels, self.noise = share, ridge, damping, descents, channels, noise

    def site(self, name, x):
        if name in NORMS and self.channels:
            x = x / self.take_factors(name, x[len(x) // 2:].reshape(-1, x.shape[-1])[::4])
        self.before, n = x, len(x) // 2
        self.quantizers[name] = per_tensor(*range_by_error(x[n:]))
        return np.concatenate([x[:n], self.quantizers[name](x[n:])])

    def take_factors(self, name, x):
        """Scales of the norm's channels moved into its readers: the share of that which costs the readers' outputs least, both sides to nearest."""
        w, reach, best = np.concatenate([self.w[r] for r in NORMS[name]], 1), np.abs(x).max(0), np.inf
        for alpha in np.arange(0, 1.01, 0.1):
            s = ((reach / reach.mean()) ** alpha).astype(np.float32)
            x8, ws = per_tensor((x / s).min(), (x / s).max())(x / s), w * s[:, None]
            error = np.square(x8 @ through(ws, *affine(ws.min(0), ws.max(0), 4)) - x @ w).sum(dtype=np.float64)
            if error < best:
                best, choice = error, s
        self.w[f"{name}.weight"] = self.w[f"{name}.weight"] / choice
        for r in NORMS[name]:
            self.w[r] = self.w[r] * choice[:, None]
        return choice

    def linear(self, name, x, residual=None):
        n, w = len(x) // 2, self.w[name].astype(np.float64)
        flat = [part.reshape(-1, len(w)).astype(np.float64) for part in (self.before[:n], self.before[n:], x[n:])]
        y = (self.share * flat[0] + (1 - self.share) * flat[1]) @ w
        if residual is not None:
            y += self.share * (residual[:n] - residual[n:]).reshape(y.shape)
        self.w[name], self.bias[name] = self.rebuild(flat[2], y, w)
        exact = x[:n] @ w.astype(np.float32)
        out = np.concatenate([exact, x[n:] @ self.w[name] + self.bias[name]])
        return out if residual is None else residual + out

    def rebuild(self, a, y, w):
        mean_a, mean_y = a.mean(0), y.mean(0)
        h, c = (a - mean_a).T @ (a - mean_a) / len(a), (a - mean_a).T @ (y - mean_y) / len(a)
        if self.noise:
            d = self.noise.standard_normal(h.shape) * 1e-6
            h = h * (1 + d + d.T)
        target = w + np.linalg.solve(h + self.ridge * np.mean(np.diag(h)) * np.eye(len(h)), c - h @ w)
        q = gptq(target, h, self.damping, self.descents)
        return q.astype(np.float32), (mean_y - mean_a @ q).astype(np.float32)


def repquant(weights, calib, **settings):
    streams = Rebuilding(weights, **settings)
    streams.run(np.concatenate([calib, calib]))
    network = Network(streams.w)
    network.bias, network.quantizers = streams.bias, streams.quantizers
    return network


# ---- what is printed ----

def perplexity(logits, ids):
    """exp of the mean negative log likelihood of each next token."""
    z = logits[:, :-1].astype(np.float64)
    z -= z.max(-1, keepdims=True)
    told = np.take_along_axis(z, ids[:, 1:, None], -1)[..., 0]
    return float(np.exp(np.mean(np.log(np.exp(z).sum(-1)) - told)))


class Judge:
    """Growth of the perplexity, and SQNR of the logits, which noise cannot improve by chance as it can the perplexity."""

    def __init__(self, network, ids):
        self.ids, self.want = ids, network.logits(ids)
        self.before = perplexity(self.want, ids)

    def __call__(self, network):
        got = network.logits(self.ids)
        noise = np.square(got - self.want).sum(dtype=np.float64)
        return 100 * (perplexity(got, self.ids) / self.before - 1), 10 * np.log10(np.square(self.want).sum(dtype=np.float64) / noise)


def told(what, figures):
    growth, sqnr = np.array(figures).T
    print(f"{what}\n    perplexity " + " ".join(f"{g:+.2f}" for g in growth) + f" %, median {np.median(growth):+.2f}"
          f"\n    logits     " + " ".join(f"{d:.2f}" for d in sqnr) + f" dB, median {np.median(sqnr):.2f}", flush=True)


def smoothquant_lines(weights, calib, judge, seeds):
    watched = Watched(weights)
    watched.run(calib)
    draws = [np.random.default_rng(seed).choice(calib.size, 512, replace=False) for seed in range(seeds)]
    for what, settings in SMOOTHQUANT.items():
        told(f"SmoothQuant W8A8, {what}", [judge(smoothquant(weights, calib, watched.seen, rows, **settings)) for rows in draws])


def repquant_lines(weights, calib, judge, seeds):
    for what, settings in REPQUANT.items():
        told(f"W4A8, {what}", [judge(repquant(weights, calib, noise=np.random.default_rng(seed), **settings)) for seed in range(seeds)])
    some = [np.random.default_rng(seed).permutation(len(calib))[:56] for seed in range(seeds)]
    told("W4A8, share 0.75, factors behind norms, 56 of 64 sequences", [judge(repquant(weights, calib[which])) for which in some])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--skip", nargs="*", choices=["smoothquant", "repquant"], default=[])
    options = parser.parse_args()
    calib, ids = (np.load(os.path.join(DATA, "tinystories", f"tinystories_{part}.npz"))["input_ids"].astype(np.int64) for part in ("calib", "eval"))
    model = onnx.load(MODEL)
    weights = read_weights(model)
    off = check_float(model, Network(weights), ids[:4])
    judge = Judge(Network(weights), ids[:300])
    print(f"float: perplexity {judge.before:.4f}, logits off ONNX Runtime's by {off:.1e} of the largest", flush=True)
    if "repquant" not in options.skip:
        repquant_lines(weights, calib, judge, options.seeds)
    if "smoothquant" not in options.skip:
        plant(model)
        loud = read_weights(model)
        check_float(model, Network(loud), ids[:4])
        smoothquant_lines(loud, calib, judge, options.seeds)


if __name__ == "__main__":
    main()
