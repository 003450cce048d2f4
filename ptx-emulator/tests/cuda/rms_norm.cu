// RMSNorm of rows, a block a row; x and out are bfloat16 by shifts, weights f32.
__device__ float load(const unsigned short *p) { return __uint_as_float((unsigned)*p << 16); }
extern "C" __global__ void rms_norm(const unsigned short *x, const float *weight, unsigned short *out, unsigned n,
                                    float eps) {
    __shared__ float parts[8];
    x += blockIdx.x * n, out += blockIdx.x * n;
    float sum = 0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) sum = fmaf(load(x + i), load(x + i), sum);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(~0u, sum, step);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 8) {
        sum = parts[threadIdx.x];
        for (int step = 4; step > 0; step /= 2) sum += __shfl_down_sync(0xff, sum, step, 8);
        if (threadIdx.x == 0) parts[0] = rsqrtf(sum / n + eps);
    }
    __syncthreads();
    float scale = parts[0];
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        float v = load(x + i) * scale * weight[i];
        unsigned short bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
        out[i] = bits;
    }
}
