// Sums and running sums of a warp by shuffles of all four kinds, on 32-bit, 64-bit and double values.
extern "C" __global__ void shuffle_reduce(const int *x, int *down, int *all) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    int a = x[i], b = a;
    for (int step = 16; step > 0; step /= 2) a += __shfl_down_sync(~0u, a, step);
    for (int step = 16; step > 0; step /= 2) b += __shfl_xor_sync(~0u, b, step);
    if (i % 32 == 0) down[i / 32] = a;
    all[i] = b;
}

extern "C" __global__ void shuffle_scan(const double *x, double *scan, const long long *y, long long *rotated,
                                        int *segments) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, lane = i % 32;
    double sum = x[i];
    for (int step = 1; step < 32; step *= 2) {
        double other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
    }
    scan[i] = sum;
    rotated[i] = __shfl_sync(~0u, y[i], lane + 5);
    // Segments of eight lanes, each with its own source lane.
    segments[i] = __shfl_sync(~0u, (int)lane * 3, 2, 8) * 10000 + __shfl_down_sync(~0u, (int)lane, 3, 8) * 100 +
                  __shfl_up_sync(~0u, (int)lane, 3, 8);
}
