// Sums of rows, the next tile copied asynchronously while this one is added: two buffers.
#include <cuda_pipeline.h>
extern "C" __global__ void pipeline(const float4 *x, float *out, unsigned tiles) {
    __shared__ float4 buffers[2][64];
    const float4 *row = x + blockIdx.x * tiles * 64;
    unsigned t = threadIdx.x;
    __pipeline_memcpy_async(&buffers[0][t], &row[t], 16);
    __pipeline_commit();
    float sum = 0;
    for (unsigned i = 0; i < tiles; ++i) {
        if (i + 1 < tiles) __pipeline_memcpy_async(&buffers[(i + 1) % 2][t], &row[(i + 1) * 64 + t], 16);
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        // Another thread's part.
        float4 v = buffers[i % 2][63 - t];
        sum += v.x + 2 * v.y + 3 * v.z + 4 * v.w;
        __syncthreads();
    }
    out[blockIdx.x * 64 + t] = sum;
}
