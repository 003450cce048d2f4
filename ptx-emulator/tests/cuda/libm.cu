// The mathematical library in single and double precision, a kernel a function.
#define FUNCTION(TYPE, NAME, VALUE)                                                \
    extern "C" __global__ void k_##NAME(const TYPE *in, TYPE *out, unsigned n) {   \
        unsigned i = blockIdx.x * blockDim.x + threadIdx.x;                        \
        if (i >= n) return;                                                        \
        TYPE x = in[i];                                                            \
        out[i] = VALUE;                                                            \
    }
FUNCTION(float, expf, expf(x))
FUNCTION(float, exp2f, exp2f(x))
FUNCTION(float, expm1f, expm1f(x))
FUNCTION(float, logf, logf(x))
FUNCTION(float, log2f, log2f(x))
FUNCTION(float, log1pf, log1pf(x))
FUNCTION(float, sinf, sinf(x))
FUNCTION(float, cosf, cosf(x))
FUNCTION(float, tanhf, tanhf(x))
FUNCTION(float, erff, erff(x))
FUNCTION(float, rsqrtf, rsqrtf(x))
FUNCTION(float, sqrtf, sqrtf(x))
FUNCTION(float, cbrtf, cbrtf(x))
FUNCTION(float, atanf, atanf(x))
FUNCTION(float, sinhf, sinhf(x))
FUNCTION(float, fmodf, fmodf(x, 0.7f))
FUNCTION(float, reciprocal, 1 / x)
FUNCTION(double, exp, exp(x))
FUNCTION(double, log, log(x))
FUNCTION(double, sin, sin(x))
FUNCTION(double, tanh, tanh(x))
FUNCTION(double, sqrt, sqrt(x))

extern "C" __global__ void k_powf(const float *x, const float *y, float *out, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = powf(x[i], y[i]);
}
extern "C" __global__ void k_sincosf(const float *x, float *sine, float *cosine, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sincosf(x[i], &sine[i], &cosine[i]);
}
