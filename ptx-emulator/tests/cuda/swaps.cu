// Compare-and-swap loops that start from a plain load. Planted: loads of the same words that end in no swap.
#include <cuda_bf16.h>

extern "C" __global__ void sums_of_pairs(const float *x, __nv_bfloat162 *out) {
    // Clean: before sm_90 the header's atomicAdd is such a loop.
    __shared__ __nv_bfloat162 all, leaders;
    if (threadIdx.x == 0) all = leaders = __float2bfloat162_rn(0);
    __syncthreads();
    __nv_bfloat162 mine = __floats2bfloat162_rn(x[threadIdx.x], 1);
    atomicAdd(&all, mine);
    if (threadIdx.x % 32 == 0) atomicAdd(&leaders, mine);
    atomicAdd(out, mine);
    __syncthreads();
    if (threadIdx.x == 0) out[1 + 2 * blockIdx.x] = all, out[2 + 2 * blockIdx.x] = leaders;
}
__device__ void raise(int *to, int v) {
    int old = *to, seen;
    do {
        seen = old;
        old = atomicCAS(to, seen, max(seen, v));
    } while (old != seen);
}
extern "C" __global__ void read_before_the_end(const int *x, int *out) {
    __shared__ int most;
    if (threadIdx.x == 0) most = 0;
    __syncthreads();
    raise(&most, x[threadIdx.x]);
    out[threadIdx.x] = *(volatile int *)x + most; // planted: read_before_the_end
}
extern "C" __global__ void raised_if_need_be(const int *x, int *out) {
    __shared__ int most;
    if (threadIdx.x == 0) most = 0;
    __syncthreads();
    if (most < x[threadIdx.x]) // planted: raised_if_need_be
        raise(&most, x[threadIdx.x]);
    __syncthreads();
    out[threadIdx.x] = most;
}
extern "C" __global__ void raised_between_blocks(const int *x, int *most, int *out) {
    raise(most, x[threadIdx.x]);
    out[blockIdx.x * blockDim.x + threadIdx.x] = *(volatile int *)x + *most; // planted: raised_between_blocks
}
