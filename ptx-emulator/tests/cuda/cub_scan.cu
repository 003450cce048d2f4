// CUB's scans of a block and of a warp.
#include <cub/block/block_scan.cuh>
#include <cub/warp/warp_scan.cuh>
struct Max { __device__ float operator()(float a, float b) const { return a > b ? a : b; } };

extern "C" __global__ void cub_block_scan(const int *x, int *out, int *total) {
    using Scan = cub::BlockScan<int, 128>;
    __shared__ Scan::TempStorage storage;
    int items[4], i = (blockIdx.x * 128 + threadIdx.x) * 4, sum;
    for (int j = 0; j < 4; ++j) items[j] = x[i + j];
    Scan(storage).ExclusiveSum(items, items, sum);
    for (int j = 0; j < 4; ++j) out[i + j] = items[j];
    if (threadIdx.x == 0) total[blockIdx.x] = sum;
}

extern "C" __global__ void cub_block_scan_raking(const float *x, float *out) {
    using Scan = cub::BlockScan<float, 96, cub::BLOCK_SCAN_RAKING>;
    __shared__ Scan::TempStorage storage;
    int i = blockIdx.x * 96 + threadIdx.x;
    float v;
    Scan(storage).InclusiveScan(x[i], v, Max());
    out[i] = v;
}

extern "C" __global__ void cub_warp_scan(const int *x, int *out) {
    using Scan = cub::WarpScan<int>;
    using Short = cub::WarpScan<int, 8>;
    __shared__ Scan::TempStorage storage[2];
    __shared__ Short::TempStorage shorts[8];
    int t = threadIdx.x, inclusive, exclusive, part;
    Scan(storage[t / 32]).Scan(x[t], inclusive, exclusive, 0, cuda::std::plus<>());
    Short(shorts[t / 8]).InclusiveSum(x[t], part);
    out[3 * t] = inclusive, out[3 * t + 1] = exclusive, out[3 * t + 2] = part;
}
