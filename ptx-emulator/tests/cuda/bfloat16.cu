// bfloat16: arithmetic of pairs and conversions.
#include <cuda_bf16.h>
extern "C" __global__ void bfloat16(const __nv_bfloat162 *x, const __nv_bfloat162 *y, const __nv_bfloat162 *z,
                                    __nv_bfloat162 *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    __nv_bfloat162 a = x[i], b = y[i], c = z[i], *o = out + 8 * i;
    o[0] = __hadd2(a, b), o[1] = __hsub2(a, b), o[2] = __hmul2(a, b), o[3] = __hfma2(a, b, c), o[4] = __hmin2(a, b);
    o[5] = __hmax2(a, b), o[6] = __hneg2(a), o[7] = __habs2(a);
}

extern "C" __global__ void bfloat16_conversions(const float *x, unsigned short *halves, float *floats) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float a = x[i];
    unsigned short *h = halves + 4 * i;
    h[0] = __bfloat16_as_ushort(__float2bfloat16_rn(a)), h[1] = __bfloat16_as_ushort(__float2bfloat16_rz(a));
    __nv_bfloat162 pair = __floats2bfloat162_rn(a, a * 3);
    h[2] = __bfloat16_as_ushort(__low2bfloat16(pair)), h[3] = __bfloat16_as_ushort(__high2bfloat16(pair));
    floats[i] = __bfloat162float(__low2bfloat16(pair));
}
