// The positive elements of an array, in any order of warps: a ballot, and one atomic a warp.
extern "C" __global__ void compact(const int *x, unsigned n, int *out, unsigned *count) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
    int value = i < n ? x[i] : 0;
    unsigned votes = __ballot_sync(~0u, value > 0), base = 0;
    if (lane == 0) base = atomicAdd(count, __popc(votes));
    base = __shfl_sync(~0u, base, 0);
    if (value > 0) out[base + __popc(votes & ((1u << lane) - 1))] = value;
}
