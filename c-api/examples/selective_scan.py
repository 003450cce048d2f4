"""The selective scan of ssm-kernels on NumPy arrays, and on PyTorch's CUDA tensors where there are any.

    cargo build --release -p ssm-kernels-c
    python3 selective_scan.py target/release/libssm_kernels_c.so

The one thing to know is `Tensor`: a pointer, a shape and strides, with dimensions in the order that
include/ssm_kernels.h names. Nothing is copied.
"""

import ctypes
import sys

import numpy as np


class Tensor(ctypes.Structure):
    """SsmTensor, which is DLPack's DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]

    @classmethod
    def of(cls, array):
        """Of a NumPy array or a PyTorch tensor."""
        longs = ctypes.c_int64 * len(array.shape)
        if isinstance(array, np.ndarray):
            device, data = (1, 0), array.ctypes.data
            strides = [stride // array.itemsize for stride in array.strides]
            code, bits = {"f": 2, "i": 0}[array.dtype.kind], 8 * array.itemsize
        else:
            device = (2, array.device.index) if array.is_cuda else (1, 0)
            data, strides, bits = array.data_ptr(), array.stride(), 8 * array.element_size()
            code = 4 if str(array.dtype) == "torch.bfloat16" else 2 if array.is_floating_point() else 0
        return cls(data, *device, len(array.shape), code, bits, 1, longs(*array.shape), longs(*strides), 0)


def struct(name, tensors, options):
    """A struct of the header: its size, pointers to tensors, options."""
    fields = [("size", ctypes.c_size_t)] + [(field, ctypes.POINTER(Tensor)) for field in tensors] + options
    return type(name, (ctypes.Structure,), {"_fields_": fields})


On = struct("SsmOn", [], [
    ("stream", ctypes.c_void_p), ("workspace", ctypes.c_void_p), ("workspace_bytes", ctypes.c_size_t),
    ("single_thread", ctypes.c_bool), ("reserved", ctypes.c_uint8 * 7),
])
Scan = struct("SsmSelectiveScan", ["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "cu_seqlens",
                                   "cu_seqlens_on_device"], [
    ("split", ctypes.c_size_t), ("dt_min", ctypes.c_float), ("dt_max", ctypes.c_float),
    ("dt_softplus", ctypes.c_bool), ("dt_limit", ctypes.c_bool), ("reverse", ctypes.c_bool),
    ("reserved", ctypes.c_uint8 * 5),
])
Outputs = struct("SsmSelectiveScanOutputs", ["out", "final_state", "chunk_states", "delta_sum"],
                 [("chunk_every", ctypes.c_size_t)])


def made(kind, tensors, **options):
    """One of them, with what is given; the rest is 0."""
    given = {name: ctypes.pointer(Tensor.of(tensor)) for name, tensor in tensors.items()}
    return kind(size=ctypes.sizeof(kind), **given, **options)


def selective_scan(library, out, final_state=None, stream=None, **tensors):
    """x, dt, z: (batch, dim, seqlen); A: (dim, dstate); B, C: (batch, ngroups, dstate, seqlen); D, dt_bias: (dim)."""
    scan = made(Scan, tensors, dt_softplus=True)
    outputs = made(Outputs, {"out": out} | ({} if final_state is None else {"final_state": final_state}))
    on = made(On, {}, stream=stream)
    if library.ssm_selective_scan_forward(ctypes.byref(on), ctypes.byref(scan), ctypes.byref(outputs)):
        raise ValueError(library.ssm_error_message().decode())
    return out


def reference(x, dt, A, B, C, D, z, dt_bias):
    """The recurrence, in float64."""
    delta = np.logaddexp(0, dt.astype(np.float64) + dt_bias[:, None])
    h, out = np.zeros((x.shape[0], *A.shape)), np.empty(x.shape)
    for t in range(x.shape[2]):
        step = delta[:, :, t, None]
        h = np.exp(step * A) * h + step * B[:, :, :, t] * x[:, :, t, None]
        out[:, :, t] = (h * C[:, :, :, t]).sum(-1) + D * x[:, :, t]
    return out * z / (1 + np.exp(-z.astype(np.float64)))


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.ssm_error_message.restype = ctypes.c_char_p
    batch, dim, seqlen, dstate = 2, 96, 300, 16
    random = np.random.default_rng(0)
    draw = lambda *shape: random.standard_normal(shape, dtype=np.float32)
    # Channel-last memory: the dimensions are put in order, the bytes stay.
    x, dt, z = (draw(batch, seqlen, dim).transpose(0, 2, 1) for _ in range(3))
    inputs = dict(x=x, dt=dt, z=z, A=-np.exp(draw(dim, dstate)), B=draw(batch, 1, dstate, seqlen),
                  C=draw(batch, 1, dstate, seqlen), D=draw(dim), dt_bias=draw(dim))
    out = selective_scan(library, np.empty_like(x), **inputs)
    truth = reference(**inputs)
    difference = np.abs(out - truth).max()
    print(f"NumPy, CPU backend: largest difference to float64 {difference:.2e}, of values up to {np.abs(truth).max():.1f}")
    assert difference < 1e-4 * np.abs(truth).max()

    try:
        import torch
    except ImportError:
        return print("PyTorch is not installed: no CUDA tensors")
    if not torch.cuda.is_available():
        return print("PyTorch has no GPU: no CUDA tensors")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).cuda() for name, array in inputs.items()}
    stream = torch.cuda.current_stream().cuda_stream
    on_gpu = selective_scan(library, torch.empty_like(tensors["x"]), stream=stream, **tensors).cpu().numpy()
    print(f"PyTorch, CUDA backend: largest difference to float64 {np.abs(on_gpu - truth).max():.2e}")
    assert np.abs(on_gpu - truth).max() < 1e-4 * np.abs(truth).max()


if __name__ == "__main__":
    main()
