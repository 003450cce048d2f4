// Barriers with a vote, named members in divergent code, threads that leave before the barrier, odd sizes of blocks.
extern "C" __global__ void barrier_votes(const int *x, int *out) {
    int t = threadIdx.x, v = x[blockIdx.x * blockDim.x + t];
    int count = __syncthreads_count(v > 0), all = __syncthreads_and(v > -50), any = __syncthreads_or(v == 17);
    out[blockIdx.x * blockDim.x + t] = count * 4 + (all != 0) * 2 + (any != 0);
}

extern "C" __global__ void early_return(const int *x, int *out, int n) {
    __shared__ int s[128];
    int t = threadIdx.x;
    if (t >= n) return;
    s[t] = x[t];
    __syncthreads();
    out[t] = s[n - 1 - t];
}

extern "C" __global__ void divergent_warp(const int *x, int *out) {
    __shared__ int s[64];
    int t = threadIdx.x, lane = t % 32;
    if (lane < 10) {
        s[t] = x[t];
        __syncwarp(0x3ff);
        out[t] = s[t / 32 * 32 + 9 - lane] + __shfl_sync(0x3ff, x[t], 3);
    } else {
        s[t] = 2 * x[t];
        __syncwarp(0xfffffc00);
        out[t] = s[t / 32 * 32 + 41 - lane] + __shfl_sync(0xfffffc00, x[t], 20);
    }
    __syncwarp();
    out[64 + t] = s[t ^ 31];
}
