// Half precision: arithmetic of pairs, comparisons, conversions.
#include <cuda_fp16.h>
extern "C" __global__ void halves(const __half2 *x, const __half2 *y, const __half2 *z, __half2 *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    __half2 a = x[i], b = y[i], c = z[i], *o = out + 12 * i;
    o[0] = __hadd2(a, b), o[1] = __hsub2(a, b), o[2] = __hmul2(a, b), o[3] = __hfma2(a, b, c), o[4] = __hmin2(a, b);
    o[5] = __hmax2(a, b), o[6] = __hneg2(a), o[7] = __habs2(a), o[8] = __hlt2(a, b), o[9] = __hadd2_sat(a, b);
    o[10] = __hfma2_relu(a, b, c);
    o[11] = __halves2half2(__hadd(__low2half(a), __high2half(b)), __hmul(__high2half(a), __low2half(b)));
}

extern "C" __global__ void half_conversions(const float *x, unsigned short *halves, float *floats, int *ints) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float a = x[i];
    unsigned short *h = halves + 8 * i;
    h[0] = __half_as_ushort(__float2half_rn(a)), h[1] = __half_as_ushort(__float2half_rz(a));
    h[2] = __half_as_ushort(__float2half_ru(a)), h[3] = __half_as_ushort(__float2half_rd(a));
    h[4] = __half_as_ushort(__int2half_rn((int)(a * 16)));
    h[5] = __half_as_ushort(__double2half((double)a * 1.0000000001));
    __half2 pair = __floats2half2_rn(a, -a);
    h[6] = __half_as_ushort(__low2half(pair)), h[7] = __half_as_ushort(__high2half(pair));
    __half v = __float2half_rn(a);
    floats[i] = __half2float(v);
    ints[2 * i] = __half2int_rn(v), ints[2 * i + 1] = __half2short_rd(v);
}

extern "C" __global__ void half_functions(const __half *x, __half *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    __half a = x[i], *o = out + 6 * i;
    o[0] = hexp2(a), o[1] = hlog2(a), o[2] = hrsqrt(a), o[3] = hsqrt(a), o[4] = hrcp(a), o[5] = hexp(a);
}
