// A dot product in one launch: a tree in shared memory for each block, and the block that finishes last adds the parts.
__device__ float tree(float *shared, float value) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    float sum = shared[0];
    __syncthreads();
    return sum;
}

extern "C" __global__ void dot(const float *x, const float *y, unsigned n, float *parts, unsigned *done, float *out) {
    __shared__ float shared[256];
    __shared__ bool last;
    float sum = 0;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i] * y[i];
    sum = tree(shared, sum);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    float total = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) total += parts[i];
    total = tree(shared, total);
    if (threadIdx.x == 0) *out = total;
}
