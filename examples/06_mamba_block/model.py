"""Writes the model that 06_mamba_block.rs runs: python3 examples/06_mamba_block/model.py [OUT.safetensors]

A small Mamba-1 language model in upstream's names, drawn from a seed, token ids, and their logits twice: `logits` in
float64 is the truth; `logits_f32` comes from the same loops with every result rounded to float32, and its error says
what may be asked of float32. Weights are float32, as the loops and the example read them.

The definition is that of state-spaces/mamba (Apache-2.0), written anew as loops:
  mamba_ssm/modules/mamba_simple.py at 52f57d66f8d6d02a73b1e38f5f3708eb8ccfa39c (Mamba.forward without fused kernels)
  mamba_ssm/modules/block.py at 60dadf2e0ee730ac337035d5533de10bc26e4847 (Block.forward)
  mamba_ssm/models/mixer_seq_simple.py at 60dadf2e0ee730ac337035d5533de10bc26e4847 (MambaLMHeadModel, its head not tied)
  mamba_ssm/ops/triton/layer_norm.py at 0f12d2c811687ebae68b1d9ef2dab5b1a91fce4e (rms_norm_ref)

Python 3.10 or later, and nothing else. exp and ln are decimal's, which make the same bytes on any platform.
"""

import json
import math
import random
import struct
import sys
from decimal import Decimal, getcontext
from pathlib import Path

getcontext().prec = 40

SEED = 20
D_MODEL, N_LAYER, VOCAB = 20, 2, 17
D_INNER, D_STATE, D_CONV, DT_RANK = 40, 8, 4, 2  # expand 2; dt_rank = ceil(d_model / 16)
BATCH, SEQLEN = 2, 24
NORM_EPSILON = 1e-5


def single(value):
    """The float32 next to a float64."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Arithmetic:
    """The operations that depend on the precision: each result is rounded by `r`."""

    def __init__(self, r):
        self.r = r

    def exp(self, v):
        return self.r(float(Decimal(v).exp()))

    def softplus(self, v):  # torch.nn.functional.softplus: above its threshold of 20 it is v
        return v if v > 20 else self.r(float((1 + Decimal(v).exp()).ln()))

    def silu(self, v):
        return self.r(v / self.r(1 + self.exp(-v)))

    def dot(self, a, b):
        total = 0.0
        for x, y in zip(a, b, strict=True):
            total = self.r(total + self.r(x * y))
        return total

    def linear(self, weight, x):
        return [self.dot(row, x) for row in weight]

    def rms_norm(self, x, weight):
        mean = self.r(self.dot(x, x) / len(x))
        rstd = self.r(1 / self.r(math.sqrt(self.r(mean + NORM_EPSILON))))
        return [self.r(self.r(v * rstd) * w) for v, w in zip(x, weight, strict=True)]

    def convolution(self, w, rows):
        """conv1d and its activation for one token, from its row of channels and those before it."""
        taps = [self.dot(weight[0], channel) for weight, channel in zip(w["conv1d.weight"], zip(*rows), strict=True)]
        return [self.silu(self.r(v + bias)) for v, bias in zip(taps, w["conv1d.bias"], strict=True)]


def windows(x):
    """For each row of x the D_CONV rows that end with it; zeros come before the first."""
    padded = [[0.0] * D_INNER] * (D_CONV - 1) + x
    return [padded[t : t + D_CONV] for t in range(len(x))]


def mixer(ar, w, hidden):
    """Mamba.forward for one sequence: hidden (seqlen, d_model) and what comes out likewise."""
    r = ar.r
    xz = [ar.linear(w["in_proj.weight"], row) for row in hidden]
    x, z = [row[:D_INNER] for row in xz], [row[D_INNER:] for row in xz]
    x = [ar.convolution(w, past) for past in windows(x)]
    A = [[-ar.exp(v) for v in row] for row in w["A_log"]]
    state = [[0.0] * D_STATE for _ in range(D_INNER)]
    out = []
    for x_t, z_t in zip(x, z):
        x_dbl = ar.linear(w["x_proj.weight"], x_t)
        dt, B, C = x_dbl[:DT_RANK], x_dbl[DT_RANK : DT_RANK + D_STATE], x_dbl[DT_RANK + D_STATE :]
        dt = ar.linear(w["dt_proj.weight"], dt)
        y = []
        for d in range(D_INNER):
            delta = ar.softplus(r(dt[d] + w["dt_proj.bias"][d]))
            for n in range(D_STATE):
                decay = ar.exp(r(delta * A[d][n]))
                state[d][n] = r(r(decay * state[d][n]) + r(r(delta * B[n]) * x_t[d]))
            y.append(r(r(ar.dot(state[d], C) + r(w["D"][d] * x_t[d])) * ar.silu(z_t[d])))
        out.append(ar.linear(w["out_proj.weight"], y))
    return out


def logits(ar, weights, ids):
    """MambaLMHeadModel.forward for one sequence."""

    def add(a, b):
        return [ar.r(x + y) for x, y in zip(a, b, strict=True)]

    residual = [weights["backbone.embedding.weight"][token] for token in ids]
    for i in range(N_LAYER):
        prefix = f"backbone.layers.{i}."
        norm = weights[prefix + "norm.weight"]
        prefix += "mixer."
        layer = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        hidden = mixer(ar, layer, [ar.rms_norm(row, norm) for row in residual])
        residual = [add(row, more) for row, more in zip(residual, hidden)]
    hidden = [ar.rms_norm(row, weights["backbone.norm_f.weight"]) for row in residual]
    return [ar.linear(weights["lm_head.weight"], row) for row in hidden]


def draw():
    """Weights by name, as nested lists of float32, and token ids."""
    source = random.Random(SEED)

    def uniform(shape, low, high):
        if not shape:
            return single(source.uniform(low, high))
        return [uniform(shape[1:], low, high) for _ in range(shape[0])]

    def linear(outputs, inputs):  # variance 1 in, variance 1 out
        return uniform([outputs, inputs], -math.sqrt(3 / inputs), math.sqrt(3 / inputs))

    def bias():  # delta = softplus(bias) is spread from 0.01 to 1, evenly in the logarithm
        delta = 10 ** Decimal(source.uniform(-2, 0))
        return single(float(delta + (1 - (-delta).exp()).ln()))

    def A_log():  # of A from -1 to -8, as upstream begins, and some way off
        row = [float(Decimal(n + 1).ln()) for n in range(D_STATE)]
        return [[single(log + source.uniform(-0.2, 0.2)) for log in row] for _ in range(D_INNER)]

    weights = {"backbone.embedding.weight": uniform([VOCAB, D_MODEL], -1, 1)}
    for i in range(N_LAYER):
        prefix = f"backbone.layers.{i}."
        weights[prefix + "norm.weight"] = uniform([D_MODEL], 0.5, 1.5)
        prefix += "mixer."
        weights[prefix + "in_proj.weight"] = linear(2 * D_INNER, D_MODEL)
        weights[prefix + "conv1d.weight"] = uniform([D_INNER, 1, D_CONV], -1, 1)
        weights[prefix + "conv1d.bias"] = uniform([D_INNER], -0.5, 0.5)
        weights[prefix + "x_proj.weight"] = linear(DT_RANK + 2 * D_STATE, D_INNER)
        weights[prefix + "dt_proj.weight"] = linear(D_INNER, DT_RANK)
        weights[prefix + "dt_proj.bias"] = [bias() for _ in range(D_INNER)]
        weights[prefix + "A_log"] = A_log()
        weights[prefix + "D"] = uniform([D_INNER], 0.5, 1.5)
        weights[prefix + "out_proj.weight"] = linear(D_MODEL, D_INNER)
    weights["backbone.norm_f.weight"] = uniform([D_MODEL], 0.5, 1.5)
    weights["lm_head.weight"] = linear(VOCAB, D_MODEL)
    return weights, [[source.randrange(VOCAB) for _ in range(SEQLEN)] for _ in range(BATCH)]


def flatten(values):
    return [v for inner in values for v in flatten(inner)] if isinstance(values, list) else [values]


def shape(values):
    return [len(values), *shape(values[0])] if isinstance(values, list) else []


def safetensors(tensors, metadata):
    """The bytes of a file: tensors as (dtype, nested lists) by name, the widest dtype first."""
    codes = {"F64": "d", "I64": "q", "F32": "f"}
    assert all(v == single(v) for dtype, values in tensors.values() if dtype == "F32" for v in flatten(values))
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, values) in sorted(tensors.items(), key=lambda item: (item[1][0] == "F32", item[0])):
        flat = flatten(values)
        start, data = len(data), data + struct.pack(f"<{len(flat)}{codes[dtype]}", *flat)
        header[name] = {"dtype": dtype, "shape": shape(values), "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def main():
    weights, ids = draw()
    tensors = {name: ("F32", values) for name, values in weights.items()}
    tensors["input_ids"] = ("I64", ids)
    tensors["logits"] = ("F64", [logits(Arithmetic(float), weights, row) for row in ids])
    tensors["logits_f32"] = ("F32", [logits(Arithmetic(single), weights, row) for row in ids])
    source = "MambaLMHeadModel of state-spaces/mamba in float64 on these weights: examples/06_mamba_block/model.py"
    path = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".safetensors")
    Path(path).write_bytes(safetensors(tensors, {"source": source, "seed": str(SEED)}))


if __name__ == "__main__":
    main()
