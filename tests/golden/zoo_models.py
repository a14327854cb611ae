"""The networks of make_zoo.py: small, with random weights, written the way the public implementations of each family are.

Nothing here is a copy of a checkpoint or of a library's code; what counts is how a forward pass is spelled, since that
decides which nodes an exporter writes.  Width 32, two blocks, at most 64 words.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, WORDS, LENGTH = 32, 2, 64, 24
LOWEST = torch.finfo(torch.float32).min


def heads(x, n=HEADS):
    """[b, t, c] -> [b, n, t, c / n]"""
    return x.view(x.shape[0], x.shape[1], n, -1).transpose(1, 2)


def joined(x):
    """[b, n, t, d] -> [b, t, n d]"""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def attend(q, k, v, bias=None, spelled="div"):
    """Attention with the scale where each family has it; sdpa is left to the exporter."""
    root = math.sqrt(q.shape[-1])
    if spelled == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    if spelled == "q":
        s = (q * root ** -1) @ k.transpose(-2, -1)
    elif spelled == "none":
        s = q @ k.transpose(-2, -1)
    else:
        s = q @ k.transpose(-2, -1)
        s = s / root if spelled == "div" else s * root ** -1
    if bias is not None:
        s = s + bias
    return s.softmax(-1) @ v


def new_gelu(x):
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def old_gelu(x):
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


class MLP(nn.Module):
    def __init__(self, act=F.gelu, inner=2 * WIDTH, bias=True, width=WIDTH):
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(width, inner, bias), nn.Linear(inner, width, bias), act

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Separate(nn.Module):
    """Projections of their own for q, k and v."""

    def __init__(self, spelled="div", biases=(True, True, True, True), width=WIDTH):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, b) for b in biases)
        self.spelled = spelled

    def forward(self, x, bias=None):
        return self.out(joined(attend(heads(self.query(x)), heads(self.key(x)), heads(self.value(x)), bias, self.spelled)))


class Fused(nn.Module):
    """One projection: unbound, indexed, chunked or split."""

    def __init__(self, spelled="q", cut="unbind", bias=True):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias), nn.Linear(WIDTH, WIDTH)
        self.spelled, self.cut = spelled, cut

    def parts(self, x):
        y = self.qkv(x)
        if self.cut in ("chunk", "split"):
            return [heads(p) for p in (y.chunk(3, -1) if self.cut == "chunk" else y.split(WIDTH, 2))]
        y = y.reshape(x.shape[0], x.shape[1], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        return y.unbind(0) if self.cut == "unbind" else (y[0], y[1], y[2])

    def forward(self, x, bias=None):
        q, k, v = self.parts(x)
        return self.proj(joined(attend(q, k, v, bias, self.spelled)))


class PreNorm(nn.Module):
    def __init__(self, attn, mlp, norm=nn.LayerNorm):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm(WIDTH), attn, norm(WIDTH), mlp

    def forward(self, x, bias=None):
        x = x + self.attn(self.norm1(x), bias)
        return x + self.mlp(self.norm2(x))


class PostNorm(nn.Module):
    def __init__(self, attn, mlp):
        super().__init__()
        self.attn, self.norm1, self.mlp, self.norm2 = attn, nn.LayerNorm(WIDTH), mlp, nn.LayerNorm(WIDTH)

    def forward(self, x, bias=None):
        x = self.norm1(self.attn(x, bias) + x)
        return self.norm2(self.mlp(x) + x)


def stack(make):
    return nn.ModuleList([make(), make()])


# ---- pictures ----

class ViT(nn.Module):
    """Class token, or two and two heads (distilled)."""

    def __init__(self, attn, tokens=1, act=F.gelu):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, tokens, WIDTH))
        self.pos = nn.Parameter(torch.randn(1, 16 + tokens, WIDTH))
        self.blocks = stack(lambda: PreNorm(attn(), MLP(act)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.ModuleList([nn.Linear(WIDTH, 10) for _ in range(tokens)])

    def forward(self, pixel_values):
        x = self.patch(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for b in self.blocks:
            x = b(x)
        x = self.norm(x)
        told = [h(x[:, i]) for i, h in enumerate(self.head)]
        return told[0] if len(told) == 1 else (told[0] + told[1]) / 2


def relative_index(h, w):
    at = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")).flatten(1)
    off = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + torch.tensor([h - 1, w - 1])
    return off[..., 0] * (2 * w - 1) + off[..., 1]


class Biased(nn.Module):
    """Attention with a table of relative positions."""

    def __init__(self, attn, side):
        super().__init__()
        self.attn = attn
        self.table = nn.Parameter(torch.randn((2 * side - 1) ** 2, HEADS))
        self.register_buffer("index", relative_index(side, side))

    def forward(self, x, mask=None):
        n = self.index.shape[0]
        bias = self.table[self.index.view(-1)].view(n, n, HEADS).permute(2, 0, 1).contiguous().unsqueeze(0)
        return self.attn(x, bias if mask is None else bias + mask)


SIDE, SHIFT = 4, 2


def windows(x):
    b, h, w, c = x.shape
    return x.view(b, h // SIDE, SIDE, w // SIDE, SIDE, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, SIDE * SIDE, c)


def unwindows(x, h, w):
    x = x.view(-1, h // SIDE, w // SIDE, SIDE, SIDE, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, x.shape[-1])


def shift_mask(h, w, like):
    regions = like.new_zeros((h, w))
    count = 0
    for rows in ((0, -SIDE), (-SIDE, -SHIFT), (-SHIFT, None)):
        for cols in ((0, -SIDE), (-SIDE, -SHIFT), (-SHIFT, None)):
            regions[rows[0]:rows[1], cols[0]:cols[1]] = count
            count += 1
    r = windows(regions.view(1, h, w, 1)).squeeze(-1)
    off = r.unsqueeze(1) - r.unsqueeze(2)
    return off.masked_fill(off != 0, -100.0).masked_fill(off == 0, 0.0)


class SwinBlock(nn.Module):
    """at_run_time: the mask is made by the graph, not kept as a buffer."""

    def __init__(self, attn, side, shift, at_run_time):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = nn.LayerNorm(WIDTH), Biased(attn, SIDE), nn.LayerNorm(WIDTH), MLP()
        self.side, self.shift, self.at_run_time = side, shift, at_run_time
        self.register_buffer("kept", shift_mask(side, side, torch.zeros(1)))

    def mask(self, x):
        mask = shift_mask(self.side, self.side, x) if self.at_run_time else self.kept
        return mask.unsqueeze(1).repeat(x.shape[0], 1, 1, 1)

    def forward(self, x):
        h = self.norm1(x)
        if self.shift:
            h = torch.roll(h, (-SHIFT, -SHIFT), (1, 2))
        h = unwindows(self.attn(windows(h), self.mask(x) if self.shift else None), self.side, self.side)
        if self.shift:
            h = torch.roll(h, (SHIFT, SHIFT), (1, 2))
        x = x + h
        return x + self.mlp(self.norm2(x))


class Merging(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH, False)

    def forward(self, x):
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self, attn, at_run_time):
        super().__init__()
        self.patch, self.embedded = nn.Conv2d(3, WIDTH, 2, 2), nn.LayerNorm(WIDTH)
        self.first = nn.ModuleList([SwinBlock(attn(), 8, i % 2, at_run_time) for i in range(2)])
        self.merging = Merging()
        self.last = SwinBlock(attn(), 4, 0, at_run_time)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, pixel_values):
        x = self.embedded(self.patch(pixel_values).permute(0, 2, 3, 1))
        for b in self.first:
            x = b(x)
        x = self.norm(self.last(self.merging(x)))
        return self.head(x.mean((1, 2)))


class Scaled(nn.Module):
    """Layer scale: a factor for each channel of a branch."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.gamma = inner, nn.Parameter(torch.rand(WIDTH))

    def forward(self, x, *more):
        return self.gamma * self.inner(x, *more)


class BEiT(nn.Module):
    def __init__(self, spelled):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.blocks = stack(lambda: PreNorm(Scaled(Biased(Separate(spelled, (True, False, True, True)), 4)), Scaled(MLP())))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, pixel_values):
        x = self.patch(pixel_values).flatten(2).transpose(1, 2)
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x.mean(1)))


class MobileViT(nn.Module):
    """Depthwise convolutions, and attention among pixels of the same place in their patches."""

    def __init__(self, cut):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.depthwise, self.point = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH), nn.Conv2d(WIDTH, WIDTH, 1)
        self.blocks = stack(lambda: PreNorm(Fused("mul", cut), MLP(F.silu)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, pixel_values):
        x = F.silu(self.stem(pixel_values))
        x = F.silu(self.point(F.silu(self.depthwise(x))))
        b, c, h, w = x.shape
        x = x.reshape(b * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
        x = x.reshape(b, c, (h // 2) * (w // 2), 4).transpose(1, 3).reshape(b * 4, -1, c)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).view(b, 4, (h // 2) * (w // 2), c).transpose(1, 3)
        x = x.reshape(b * c * (h // 2), w // 2, 2, 2).transpose(1, 2).reshape(b, c, h, w)
        return self.head(x.mean((2, 3)))


# ---- text ----

def additive(mask):
    return (1.0 - mask[:, None, None, :].float()) * LOWEST


class Words(nn.Module):
    def __init__(self, kinds=0, norm=True, offset=0, width=WIDTH):
        super().__init__()
        self.word, self.position = nn.Embedding(WORDS, width), nn.Embedding(LENGTH + offset, width)
        self.kind = nn.Embedding(kinds, width) if kinds else None
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.register_buffer("places", torch.arange(LENGTH + offset).unsqueeze(0))
        self.offset = offset

    def forward(self, ids, kinds=None, places=None):
        places = self.places[:, self.offset:self.offset + ids.shape[1]] if places is None else places
        x = self.word(ids) + self.position(places)
        return self.norm(x if self.kind is None else x + self.kind(kinds))


class BERT(nn.Module):
    def __init__(self, spelled, act):
        super().__init__()
        self.words = Words(2)
        self.layers = stack(lambda: PostNorm(Separate(spelled), MLP(act)))
        self.pooler, self.classifier = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, input_ids, attention_mask, token_type_ids):
        x, bias = self.words(input_ids, token_type_ids), additive(attention_mask)
        for layer in self.layers:
            x = layer(x, bias)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


class RoBERTa(nn.Module):
    """Positions counted over what is no padding; a language head tied to the words."""

    def __init__(self, spelled):
        super().__init__()
        self.words = Words(0, offset=2)
        self.layers = stack(lambda: PostNorm(Separate(spelled), MLP()))
        self.dense, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.decoder = nn.Linear(WIDTH, WORDS)
        self.decoder.weight = self.words.word.weight

    def forward(self, input_ids, attention_mask):
        some = input_ids.ne(1).int()
        x = self.words(input_ids, places=(torch.cumsum(some, 1).type_as(some) * some).long() + 1)
        bias = additive(attention_mask)
        for layer in self.layers:
            x = layer(x, bias)
        return self.decoder(self.norm(F.gelu(self.dense(x))))


class Filled(Separate):
    """The mask filled into the logits."""

    def forward(self, x, mask):
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        s = torch.matmul(q / math.sqrt(q.shape[-1]), k.transpose(2, 3))
        s = s.masked_fill((mask == 0).view(mask.shape[0], 1, 1, mask.shape[1]).expand_as(s), LOWEST)
        return self.out(joined(torch.matmul(s.softmax(-1), v)))


class DistilBERT(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = Words()
        self.layers = stack(lambda: PostNorm(Filled(), MLP()))
        self.pre, self.classifier = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, input_ids, attention_mask):
        x = self.words(input_ids)
        for layer in self.layers:
            x = layer(x, attention_mask)
        return self.classifier(F.relu(self.pre(x[:, 0])))


class ALBERT(nn.Module):
    """One block, run twice."""

    def __init__(self, spelled):
        super().__init__()
        self.words, self.mapping = Words(2, width=16), nn.Linear(16, WIDTH)
        self.layer = PostNorm(Separate(spelled), MLP(new_gelu))
        self.classifier = nn.Linear(WIDTH, 3)

    def forward(self, input_ids, attention_mask, token_type_ids):
        x, bias = self.mapping(self.words(input_ids, token_type_ids)), additive(attention_mask)
        for _ in range(2):
            x = self.layer(x, bias)
        return self.classifier(x[:, 0])


class Disentangled(Separate):
    """Content to content, content to position and position to content; the position keys are projected by the same weights."""

    def forward(self, x, at):
        relative, mask = at
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        pos_q, pos_k = heads(self.query(relative).unsqueeze(0)), heads(self.key(relative).unsqueeze(0))
        scale = 1 / math.sqrt(q.shape[-1] * 3)
        t = x.shape[1]
        places = torch.arange(t, device=x.device)
        index = (places[:, None] - places[None, :] + LENGTH).clamp(0, 2 * LENGTH - 1).unsqueeze(0).unsqueeze(0)
        index = index.expand(x.shape[0], HEADS, t, t)
        s = torch.matmul(q, k.transpose(-1, -2) * scale)
        s = s + torch.gather(torch.matmul(q, pos_k.transpose(-1, -2) * scale), -1, index)
        s = s + torch.gather(torch.matmul(k, pos_q.transpose(-1, -2) * scale), -1, index).transpose(-1, -2)
        keep = mask.bool()[:, None, None, :]
        p = s.masked_fill(~keep, LOWEST).softmax(-1).masked_fill(~keep, 0)
        return self.out(joined(torch.matmul(p, v)))


class DisentangledBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.norm1, self.mlp, self.norm2 = Disentangled(), nn.LayerNorm(WIDTH), MLP(), nn.LayerNorm(WIDTH)

    def forward(self, x, at):
        x = self.norm1(self.attn(x, at) + x)
        return self.norm2(self.mlp(x) + x)


class DeBERTa(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = Words()
        self.relative, self.relative_norm = nn.Parameter(torch.randn(2 * LENGTH, WIDTH)), nn.LayerNorm(WIDTH)
        self.layers = stack(DisentangledBlock)
        self.classifier = nn.Linear(WIDTH, 3)

    def forward(self, input_ids, attention_mask):
        x, relative = self.words(input_ids), self.relative_norm(self.relative)
        for layer in self.layers:
            x = layer(x, (relative, attention_mask))
        return self.classifier(x[:, 0])


class Conv1D(nn.Module):
    """A linear whose weight is [in, out], computed on a matrix."""

    def __init__(self, k, n):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(k, n) * k ** -0.5), nn.Parameter(torch.randn(n) * 0.1)

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = Conv1D(WIDTH, 3 * WIDTH), Conv1D(WIDTH, WIDTH)
        self.register_buffer("bias", torch.tril(torch.ones(LENGTH, LENGTH, dtype=torch.bool)).view(1, 1, LENGTH, LENGTH))

    def forward(self, x, _=None):
        q, k, v = (heads(p) for p in self.c_attn(x).split(WIDTH, 2))
        t = x.shape[1]
        s = torch.matmul(q, k.transpose(-1, -2)) / torch.full([], v.shape[-1] ** 0.5)
        s = torch.where(self.bias[:, :, :t, :t], s, torch.full([], LOWEST))
        return self.c_proj(joined(torch.matmul(s.softmax(-1), v)))


class GPT2(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = Words(norm=False)

        def block():
            mlp = MLP(new_gelu)
            mlp.fc1, mlp.fc2 = Conv1D(WIDTH, 2 * WIDTH), Conv1D(2 * WIDTH, WIDTH)
            return PreNorm(Causal(), mlp)
        self.h = stack(block)
        self.ln_f, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, False)
        self.lm_head.weight = self.words.word.weight

    def forward(self, input_ids):
        x = self.words(input_ids)
        for b in self.h:
            x = b(x)
        return self.lm_head(self.ln_f(x))


class Batched(Separate):
    """Products of three dimensions: batch and heads are one."""

    def forward(self, x, bias):
        b, t, c = x.shape
        d = c // HEADS

        def rows(y):
            return y.view(b, t, HEADS, d).transpose(1, 2).reshape(b * HEADS, t, d)
        q, k, v = rows(self.query(x) * d ** -0.5), rows(self.key(x)), rows(self.value(x))
        s = torch.bmm(q, k.transpose(1, 2)).view(b, HEADS, t, t) + bias
        s = torch.max(s, torch.tensor(LOWEST)).view(b * HEADS, t, t)
        y = torch.bmm(s.softmax(-1), v).view(b, HEADS, t, d).transpose(1, 2)
        return self.out(y.reshape(b, t, c))


def causal(mask):
    """Padding and the future, added."""
    t = mask.shape[1]
    future = torch.full((t, t), LOWEST).triu(1)
    return future[None, None] + (1.0 - mask[:, None, None, :].float()) * (LOWEST / 2)


class OPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = Words(norm=False, offset=2)
        self.layers = stack(lambda: PreNorm(Batched(), MLP(F.relu)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, False)

    def forward(self, input_ids, attention_mask):
        x, bias = self.words(input_ids), causal(attention_mask)
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(self.norm(x))


class RMSNorm(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(width))

    def forward(self, x):
        y = x.to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


def rotate_half(x):
    a, b = x[..., :x.shape[-1] // 2], x[..., x.shape[-1] // 2:]
    return torch.cat((-b, a), -1)


class Grouped(nn.Module):
    """Four query heads, two of keys and values; rotary positions."""

    def __init__(self, spelled):
        super().__init__()
        self.q_proj, self.o_proj = nn.Linear(WIDTH, WIDTH, False), nn.Linear(WIDTH, WIDTH, False)
        self.k_proj, self.v_proj = nn.Linear(WIDTH, WIDTH // 2, False), nn.Linear(WIDTH, WIDTH // 2, False)
        self.spelled = spelled

    @staticmethod
    def repeated(x):
        b, n, t, d = x.shape
        return x[:, :, None].expand(b, n, 2, t, d).reshape(b, 2 * n, t, d)

    def forward(self, x, at):
        cos, sin, bias = at
        q, k, v = heads(self.q_proj(x), 4), heads(self.k_proj(x), 2), heads(self.v_proj(x), 2)
        q, k = (y * cos + rotate_half(y) * sin for y in (q, k))
        if self.spelled == "op":
            return self.o_proj(joined(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)))
        return self.o_proj(joined(attend(q, self.repeated(k), self.repeated(v), bias, self.spelled)))


class Gated(nn.Module):
    def __init__(self, act=F.silu):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(WIDTH, 2 * WIDTH, False), nn.Linear(WIDTH, 2 * WIDTH, False)
        self.down_proj, self.act = nn.Linear(2 * WIDTH, WIDTH, False), act

    def forward(self, x):
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class LLaMA(nn.Module):
    def __init__(self, spelled, norm=RMSNorm):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = stack(lambda: PreNorm(Grouped(spelled), Gated(), norm))
        self.norm, self.lm_head = norm(WIDTH), nn.Linear(WIDTH, WORDS, False)
        self.register_buffer("inv_freq", 1.0 / 10000 ** (torch.arange(0, 8, 2).float() / 8))

    def forward(self, input_ids):
        x = self.embed(input_ids)
        t = input_ids.shape[1]
        places = torch.arange(t, device=x.device)[None, None, :].float()
        angle = (self.inv_freq[None, :, None] @ places.expand(x.shape[0], 1, -1)).transpose(1, 2)
        angle = torch.cat((angle, angle), -1)
        at = (angle.cos().unsqueeze(1), angle.sin().unsqueeze(1), torch.full((t, t), LOWEST).triu(1)[None, None])
        for layer in self.layers:
            x = layer(x, at)
        return self.lm_head(self.norm(x))


class T5(nn.Module):
    """Encoder: a bias by distance on a logarithmic scale, no scale on the logits."""

    def __init__(self, gated):
        super().__init__()
        self.embed, self.relative = nn.Embedding(WORDS, WIDTH), nn.Embedding(8, HEADS)
        self.blocks = stack(lambda: PreNorm(Separate("none", (False,) * 4), Gated(new_gelu) if gated else MLP(F.relu, bias=False), RMSNorm))
        self.norm = RMSNorm()

    @staticmethod
    def bucket(off):
        side, off = (off > 0).long() * 4, off.abs()
        far = 2 + (torch.log(off.float() / 2) / math.log(8) * 2).long()
        return side + torch.where(off < 2, off, torch.min(far, torch.full_like(far, 3)))

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        at = torch.arange(input_ids.shape[1], device=x.device)
        bias = self.relative(self.bucket(at[None, :] - at[:, None])).permute(2, 0, 1).unsqueeze(0) + additive(attention_mask)
        for b in self.blocks:
            x = b(x, bias)
        return self.norm(x)


# ---- both, and sound ----

class CLIP(nn.Module):
    def __init__(self, spelled):
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, WIDTH, 4, 4, bias=False), nn.Parameter(torch.randn(WIDTH))
        self.pos, self.pre = nn.Parameter(torch.randn(17, WIDTH)), nn.LayerNorm(WIDTH)
        self.vision = stack(lambda: PreNorm(Separate(spelled), MLP(quick_gelu)))
        self.words = Words(norm=False)
        self.text = stack(lambda: PreNorm(Separate(spelled), MLP(quick_gelu)))
        self.post, self.final = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.visual_projection, self.text_projection = nn.Linear(WIDTH, 16, False), nn.Linear(WIDTH, 16, False)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, input_ids, pixel_values):
        x = self.patch(pixel_values).flatten(2).transpose(1, 2)
        x = self.pre(torch.cat([self.cls.expand(x.shape[0], 1, -1), x], 1) + self.pos)
        for b in self.vision:
            x = b(x)
        image = self.visual_projection(self.post(x[:, 0]))
        t = input_ids.shape[1]
        y, future = self.words(input_ids), torch.full((t, t), LOWEST).triu(1)[None, None]
        for b in self.text:
            y = b(y, future)
        y = self.final(y)
        ends = y[torch.arange(y.shape[0], device=y.device), input_ids.argmax(-1)]
        text = self.text_projection(ends)
        image, text = image / image.norm(p=2, dim=-1, keepdim=True), text / text.norm(p=2, dim=-1, keepdim=True)
        return (image * text).sum(-1) * self.logit_scale.exp()


class Whisper(nn.Module):
    def __init__(self, attn):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(8, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.register_buffer("pos", torch.randn(12, WIDTH))
        self.layers = stack(lambda: PreNorm(attn(), MLP()))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, input_features):
        x = F.gelu(self.conv2(F.gelu(self.conv1(input_features)))).permute(0, 2, 1) + self.pos
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Library(nn.Module):
    """torch's own encoder: in_proj as one weight, out_proj on a matrix."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, WIDTH)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, batch_first=True, activation="gelu"),
                                             2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3)
        for p in self.encoder.parameters():      # the layers start as copies, which the exporter would make one
            nn.init.normal_(p, 1.0 if p.dim() == 1 else 0.0, 0.2)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)))
