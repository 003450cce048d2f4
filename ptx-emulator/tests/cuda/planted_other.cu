// Planted: non-coherent reads of what the kernel writes, sums whose order is open, endless loops, traps.
extern "C" __global__ void non_coherent(const float *x, float *same) {
    same[threadIdx.x] = 2;
    __syncthreads();
    float v = __ldg(x + (threadIdx.x ^ 1)); // planted
    same[blockDim.x + threadIdx.x] = v;
}
extern "C" __global__ void float_sum(const float *x, float *out) {
    atomicAdd(out, x[blockIdx.x * blockDim.x + threadIdx.x]);
}
extern "C" __global__ void endless(volatile int *flag) {
    while (flag[threadIdx.x] == 0) {}
}
extern "C" __global__ void trapped(const int *x, int *out) {
    if (x[threadIdx.x] == 7)
        __trap(); // planted: trapped
    out[threadIdx.x] = x[threadIdx.x];
}
