// The approximate functions: intrinsics, and plain functions that -use_fast_math turns into them.
#define FUNCTION(NAME, VALUE)                                                        \
    extern "C" __global__ void k_##NAME(const float *in, float *out, unsigned n) {   \
        unsigned i = blockIdx.x * blockDim.x + threadIdx.x;                          \
        if (i >= n) return;                                                          \
        float x = in[i];                                                             \
        out[i] = VALUE;                                                              \
    }
__device__ float tanh_approx(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
FUNCTION(expf, __expf(x))
FUNCTION(logf, __logf(x))
FUNCTION(log2f, __log2f(x))
FUNCTION(sinf, __sinf(x))
FUNCTION(cosf, __cosf(x))
FUNCTION(divide, __fdividef(3, x))
FUNCTION(tanh, tanh_approx(x))
FUNCTION(sqrtf, sqrtf(x))
FUNCTION(sigmoid, 1 / (1 + expf(-x)))
