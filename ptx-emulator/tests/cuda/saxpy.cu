// A grid-stride loop over vectors of four; the last few elements one by one.
extern "C" __global__ void saxpy(float a, const float *__restrict__ x, float *__restrict__ y, unsigned n) {
    unsigned stride = gridDim.x * blockDim.x, first = blockIdx.x * blockDim.x + threadIdx.x;
    const float4 *x4 = reinterpret_cast<const float4 *>(x);
    float4 *y4 = reinterpret_cast<float4 *>(y);
    for (unsigned i = first; i < n / 4; i += stride) {
        float4 u = x4[i], v = y4[i];
        y4[i] = make_float4(a * u.x + v.x, a * u.y + v.y, a * u.z + v.z, a * u.w + v.w);
    }
    for (unsigned i = n / 4 * 4 + first; i < n; i += stride) y[i] = a * x[i] + y[i];
}
