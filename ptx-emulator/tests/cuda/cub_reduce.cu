// CUB's reductions of a block by two algorithms.
#include <cub/block/block_reduce.cuh>
extern "C" __global__ void cub_reduce(const float *x, float *out, unsigned n) {
    using Warps = cub::BlockReduce<float, 128>;
    using Raking = cub::BlockReduce<float, 128, cub::BLOCK_REDUCE_RAKING>;
    __shared__ union { Warps::TempStorage warps; Raking::TempStorage raking; } storage;
    unsigned i = blockIdx.x * 128 + threadIdx.x;
    float v = i < n ? x[i] : 0, sum = Warps(storage.warps).Sum(v);
    __syncthreads();
    unsigned left = n - blockIdx.x * 128;
    float most = Raking(storage.raking).Reduce(v, cuda::maximum<>(), min(left, 128u));
    if (threadIdx.x == 0) out[2 * blockIdx.x] = sum, out[2 * blockIdx.x + 1] = most;
}
