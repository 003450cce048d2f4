// Every atomic operation of 32 and 64 bits, on global and shared memory; each result does not depend on the order.
#include <cuda_fp16.h>
__device__ float max_by_cas(float *p, float v) {
    unsigned *bits = reinterpret_cast<unsigned *>(p), seen;
    unsigned old = *reinterpret_cast<volatile unsigned *>(p);
    do {
        seen = old;
        if (__uint_as_float(seen) >= v) break;
        old = atomicCAS(bits, seen, __float_as_uint(v));
    } while (old != seen);
    return __uint_as_float(old);
}

extern "C" __global__ void atomics32(const int *x, unsigned *o, int *s, float *f, unsigned *tickets) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    int v = x[i];
    unsigned u = v;
    atomicAdd(o + 0, u), atomicSub(o + 1, u), atomicMin(o + 2, u), atomicMax(o + 3, u);
    atomicAnd(o + 4, u | 0xff), atomicOr(o + 5, u & 0xff00ff), atomicXor(o + 6, u);
    tickets[atomicInc(o + 7, 1u << 20)] = i;
    atomicDec(o + 8, 100);
    atomicInc(o + 9, 6);
    atomicExch(o + 10, 77);
    atomicMin(s + 0, v), atomicMax(s + 1, v);
    atomicAdd(f + 0, (float)(v % 64)), max_by_cas(f + 1, (float)v);
}

extern "C" __global__ void atomics64(const long long *x, unsigned long long *o, long long *s, double *d, __half2 *h) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    long long v = x[i];
    unsigned long long u = v;
    atomicAdd(o + 0, u), atomicMin(o + 1, u), atomicMax(o + 2, u), atomicAnd(o + 3, u | 0xff);
    atomicOr(o + 4, u & 0xff00ff00ff), atomicXor(o + 5, u), atomicExch(o + 6, 77ull << 40);
    unsigned long long old = o[7 + i], seen = atomicCAS(o + 7 + i, old, u);
    if (seen != old) atomicAdd(o + 0, 1ull);
    atomicMin(s + 0, v), atomicMax(s + 1, v);
    atomicAdd(d, (double)(v % 1024) * 0.25);
    atomicAdd(h, __floats2half2_rn(v & 1, (v & 2) * 0.25f));
}

extern "C" __global__ void atomics_shared(const int *x, unsigned *out) {
    __shared__ unsigned u[8];
    __shared__ unsigned long long l[2];
    __shared__ float f;
    __shared__ double d;
    int t = threadIdx.x, v = x[blockIdx.x * blockDim.x + t];
    if (t < 8) u[t] = t == 2 || t == 4 ? ~0u : 0;
    if (t < 2) l[t] = 0;
    if (t == 0) f = 0, d = 0;
    __syncthreads();
    unsigned slot = atomicAdd(u + 0, 1u);
    atomicXor(u + 1, slot), atomicMin(u + 2, (unsigned)v), atomicMax(u + 3, (unsigned)v);
    atomicAnd(u + 4, (unsigned)v | 7), atomicOr(u + 5, (unsigned)v & 0xf0f0), atomicInc(u + 6, 1000);
    atomicCAS(u + 7, 0, 5);
    atomicAdd(l + 0, (unsigned long long)(unsigned)v), atomicMax(l + 1, (unsigned long long)(unsigned)v);
    atomicAdd(&f, 0.5f), atomicAdd(&d, 0.25);
    __syncthreads();
    unsigned *o = out + blockIdx.x * 14;
    if (t < 8) o[t] = u[t];
    if (t < 2) o[8 + 2 * t] = (unsigned)l[t], o[9 + 2 * t] = (unsigned)(l[t] >> 32);
    if (t == 0) o[12] = (unsigned)(f * 2), o[13] = (unsigned)(d * 4);
}
