// A histogram of bytes: atomics in shared memory, then one global atomic a bin and block.
extern "C" __global__ void histogram(const unsigned char *x, unsigned n, unsigned *bins) {
    __shared__ unsigned counts[256];
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&counts[x[i]], 1u);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
        if (counts[i]) atomicAdd(&bins[i], counts[i]);
}
