"""CPU time of the selective scan in PyTorch, one thread: the algorithm that upstream tests its kernels against.

python3 pytorch.py FOLDER [TURNS]     FOLDER as `ssm-peers --dump FOLDER` leaves it. README.md says what is compared.
"""

import math
import os

os.environ["OMP_NUM_THREADS"] = "1"  # Before torch looks.

import pathlib
import statistics
import sys
import time

import numpy
import torch
import torch.nn.functional as F

LAP = 0.003  # Seconds between two looks at the clock: what is shorter runs several times.


def load(folder, name, *extents):
    return torch.from_numpy(numpy.fromfile(folder / f"{name}.f32", dtype="<f4").reshape(extents))


class Inputs:
    """Views of (batch, dim, seqlen) on files of (batch, seqlen, dim), or copies that lie as they say."""

    def __init__(self, folder, dense):
        self.batch, self.dim, self.seqlen = (int(extent) for extent in folder.name.split("x"))
        self.A = load(folder, "A", self.dim, -1)
        self.dstate = self.A.shape[1]
        self.D, self.dt_bias = load(folder, "D", self.dim), load(folder, "dt_bias", self.dim)
        lay = lambda tensor: tensor.transpose(1, 2).contiguous() if dense else tensor.transpose(1, 2)
        sequence = lambda name: lay(load(folder, name, self.batch, self.seqlen, self.dim))
        row = lambda name: lay(load(folder, name, self.batch, self.seqlen, self.dstate))
        self.x, self.dt, self.z, self.dout = (sequence(name) for name in ("x", "dt", "z", "dout"))
        self.B, self.C = row("B"), row("C")

    def leaves(self):
        return [self.x, self.dt, self.A, self.B, self.C, self.D, self.z, self.dt_bias]

    def state_steps(self):
        return self.batch * self.dim * self.seqlen * self.dstate


def scan(x, dt, A, B, C, D, z, dt_bias):
    """All decays and all that comes in at once, then a loop over the steps.

    Taken apart by unbind: an index for each step, as upstream has it, makes backward quadratic in the length.
    """
    delta = F.softplus(dt + dt_bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    added = torch.einsum("bdl,bnl,bdl->bdln", delta, B, x)
    state, outs = torch.zeros_like(decay[:, :, 0]), []
    for decay, added, c in zip(decay.unbind(2), added.unbind(2), C.unbind(2)):
        state = decay * state + added
        outs.append(torch.einsum("bdn,bn->bd", state, c))
    return (torch.stack(outs, dim=2) + x * D[:, None]) * F.silu(z)


def token(state, x, dt, A, B, C, D, z, dt_bias):
    """One step, in place in the state."""
    delta = F.softplus(dt + dt_bias)
    decay = torch.exp(torch.einsum("bd,dn->bdn", delta, A))
    state.copy_(state * decay + torch.einsum("bd,bn,bd->bdn", delta, B, x))
    return (torch.einsum("bdn,bn->bd", state, C) + x * D) * F.silu(z)


def lap(run, calls=1):
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls


def report(name, inputs, runs, turns):
    """Each in turn."""
    calls = {}
    for layout, run in runs.items():
        run()
        calls[layout] = max(1, math.ceil(LAP / max(lap(run), 1e-9)))
    laps = {layout: [] for layout in runs}
    for _ in range(turns):
        for layout, run in runs.items():
            laps[layout].append(lap(run, calls[layout]))
    for layout, times in laps.items():
        each = 1e9 / inputs.state_steps()
        print(f"| {name}, {layout} | {statistics.median(times) * each:.3f} | {min(times) * each:.3f} |")


def difference(folder, name, theirs):
    """From (batch, seqlen, dim), or what has no steps."""
    theirs = theirs.detach().transpose(1, 2).contiguous() if theirs.dim() == 3 else theirs.detach()
    ours = load(folder, name, *theirs.shape)
    apart = ((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-38)).item()
    print(f"    {name}: {apart:.1e}")
    if not apart <= 2e-5:
        sys.exit(f"{name}: not the same is timed")


def check(folder, inputs):
    print("  greatest difference from ours over the greatest value:")
    leaves = [leaf.clone().requires_grad_() for leaf in inputs.leaves()]
    out = scan(*leaves)
    difference(folder, "out", out)
    gradients = torch.autograd.grad(out, leaves, inputs.dout)
    for name, gradient in zip(("dx", "ddt", "dA", "dB", "dC", "dD", "dz", "ddt_bias"), gradients):
        difference(folder, name, gradient)


class Backward:
    """Of a graph that a forward pass made before, and that stays for the next call."""

    def __init__(self, inputs):
        self.leaves = [leaf.detach().requires_grad_() for leaf in inputs.leaves()]
        self.out, self.dout = scan(*self.leaves), inputs.dout

    def __call__(self):
        torch.autograd.grad(self.out, self.leaves, self.dout, retain_graph=True)


def forward(inputs):
    def run():
        with torch.no_grad():
            scan(*inputs.leaves())

    return run


def decode(inputs):
    state = torch.zeros(inputs.batch, inputs.dim, inputs.dstate)
    x, dt, A, B, C, D, z, dt_bias = inputs.leaves()
    first = [tensor[:, :, 0].contiguous() for tensor in (x, dt, B, C, z)]

    def run():
        with torch.no_grad():
            token(state, first[0], first[1], A, first[2], first[3], D, first[4], dt_bias)

    return run


def measure(folder, turns):
    layouts = {"dense": Inputs(folder, True), "channel-last": Inputs(folder, False)}
    inputs = layouts["channel-last"]
    print(f"\n## ({inputs.batch}, {inputs.dim}, {inputs.seqlen}), {inputs.dstate} states")
    check(folder, inputs)
    print("\n| CPU ns per state step | median | least |\n|---|---:|---:|")
    if inputs.seqlen == 1:
        report("a token", inputs, {"one step": decode(inputs)}, turns)
        return
    report("forward", inputs, {layout: forward(own) for layout, own in layouts.items()}, turns)
    for layout, own in layouts.items():
        report("backward from forward's graph", own, {layout: Backward(own)}, turns)


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 11
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} thread")
    for shape in sorted(folder.iterdir()):
        measure(shape, turns)


if __name__ == "__main__":
    main()
