#!/usr/bin/python3
"""Trains the example model: a vision transformer that reads handwritten digits.

    apt-get install python3-torch python3-sklearn      # Debian 12; needed only to train again
    /usr/bin/python3 examples/digits/train.py

Writes beside itself
    model.onnx   the float model, opset 17, dynamic batch: pixel_values float32 [batch,1,8,8] -> logits [batch,10]
    calib.npz    128 training samples: pixel_values
    eval.npz     500 held-out samples: pixel_values, labels

Everything is seeded and runs on one thread, so one machine gives the same files each time.
"""
import math
import os

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 7
TRAIN, CALIB = 1297, 128            # of 1797 samples; the rest is held out
DIM, DEPTH, HEADS = 64, 4, 4
PATCH, SIDE, CLASSES = 2, 8, 10
EPOCHS, BATCH, PEAK_RATE = 120, 64, 2e-3


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        p = (q @ k.transpose(-2, -1) * (DIM // HEADS) ** -0.5).softmax(dim=-1)
        return self.proj((p @ v).transpose(1, 2).reshape(b, t, DIM))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(DIM), Attention()
        self.norm2 = nn.LayerNorm(DIM)
        self.fc1, self.act, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class DigitViT(nn.Module):
    """Pre-LN, as ViT and DeiT: patches, a class token, blocks, a norm, and a head on the class token."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, DIM, PATCH, stride=PATCH)
        self.cls = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos = nn.Parameter(torch.randn(1, 1 + (SIDE // PATCH) ** 2, DIM) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


def jittered(x):
    """The batch, each sample turned, scaled, sheared and moved a little, with a little noise."""
    n = len(x)
    turn, shear = (torch.rand(n) - 0.5) * 0.5, (torch.rand(n) - 0.5) * 0.4
    zoom, move = 1 + (torch.rand(n, 2) - 0.5) * 0.3, (torch.rand(n, 2) - 0.5) * 0.5
    cos, sin = turn.cos(), turn.sin()
    rows = torch.stack([torch.stack([cos * zoom[:, 0], shear - sin, move[:, 0]], 1),
                        torch.stack([sin, cos * zoom[:, 1], move[:, 1]], 1)], 1)
    grid = nn.functional.affine_grid(rows, x.shape, align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False) + torch.randn_like(x) * 0.05


def train(model, x, y):
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    steps = EPOCHS * math.ceil(len(x) / BATCH)
    warmup = steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(s / warmup, 0.5 * (1 + math.cos(math.pi * s / steps))))
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        total = 0.0
        for i in torch.randperm(len(x)).split(BATCH):
            loss = loss_of(model(jittered(x[i])), y[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(i)
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1}: loss {total / len(x):.4f}", flush=True)


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    digits = load_digits()
    order = np.random.RandomState(SEED).permutation(len(digits.images))
    images = (digits.images[order, None] / 16.0).astype(np.float32)     # 0..16 -> 0..1
    labels = digits.target[order].astype(np.int64)

    model = DigitViT()
    train(model, torch.from_numpy(images[:TRAIN]), torch.from_numpy(labels[:TRAIN]))
    model.eval()
    with torch.no_grad():
        guess = model(torch.from_numpy(images[TRAIN:])).argmax(1).numpy()
    right = int((guess == labels[TRAIN:]).sum())
    print(f"held out: {right} of {len(guess)} right ({100 * right / len(guess):.2f} %)")

    torch.onnx.export(model, torch.from_numpy(images[:2]), os.path.join(HERE, "model.onnx"), opset_version=17,
                      input_names=["pixel_values"], output_names=["logits"],
                      dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}})
    np.savez(os.path.join(HERE, "calib.npz"), pixel_values=images[:CALIB])
    np.savez_compressed(os.path.join(HERE, "eval.npz"), pixel_values=images[TRAIN:], labels=labels[TRAIN:])


if __name__ == "__main__":
    main()
