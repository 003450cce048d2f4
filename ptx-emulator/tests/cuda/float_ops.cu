// Single precision where it is exact: directed rounding, rounding to integers, minima with NaN, conversions.
extern "C" __global__ void rounding(const float *x, const float *y, const float *z, float *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float a = x[i], b = y[i], c = z[i], *o = out + 20 * i;
    o[0] = __fadd_rn(a, b), o[1] = __fadd_rz(a, b), o[2] = __fadd_ru(a, b), o[3] = __fadd_rd(a, b);
    o[4] = __fmul_rn(a, b), o[5] = __fmul_rz(a, b), o[6] = __fmul_ru(a, b), o[7] = __fmul_rd(a, b);
    o[8] = __fmaf_rn(a, b, c), o[9] = __fmaf_rz(a, b, c), o[10] = __fmaf_ru(a, b, c), o[11] = __fmaf_rd(a, b, c);
    o[12] = __fdiv_rn(a, b), o[13] = __fdiv_rz(a, b), o[14] = __fdiv_ru(a, b), o[15] = __fdiv_rd(a, b);
    o[16] = __fsqrt_rn(fabsf(a)), o[17] = __fsqrt_rd(fabsf(a)), o[18] = __frcp_rn(a), o[19] = __frcp_ru(a);
}

extern "C" __global__ void to_integers(const float *x, float *out, int *ints,
                                       unsigned long long *longs) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float a = x[i], *o = out + 12 * i;
    int *n = ints + 10 * i;
    unsigned long long *l = longs + 4 * i;
    o[0] = floorf(a), o[1] = ceilf(a), o[2] = truncf(a), o[3] = rintf(a), o[4] = roundf(a), o[5] = __saturatef(a);
    o[6] = fminf(a, 1.5f), o[7] = fmaxf(-1.5f, a), o[8] = copysignf(2, a), o[9] = fabsf(a), o[10] = -a;
    o[11] = isnan(a) ? 3 : isinf(a) ? 2 : signbit(a) ? 1 : 0;
    n[0] = __float2int_rn(a), n[1] = __float2int_rz(a), n[2] = __float2int_ru(a), n[3] = __float2int_rd(a);
    n[4] = __float2uint_rn(a), n[5] = __float2uint_rz(a), n[6] = (int)__float2uint_ru(a);
    n[7] = __float_as_int(a) >> 23;
    n[8] = a < 1 ? a <= -1 : a != 2, n[9] = !(a > 1) * 2 + !(a == 1);
    l[0] = __float2ll_rn(a), l[1] = __float2ull_rz(a), l[2] = __float2ll_rd(a), l[3] = (unsigned long long)(long long)a;
}

extern "C" __global__ void from_integers(const long long *x, float *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    long long a = x[i];
    int s = (int)a;
    float *o = out + 10 * i;
    o[0] = __int2float_rn(s), o[1] = __int2float_rz(s), o[2] = __int2float_ru(s), o[3] = __uint2float_rn(s);
    o[4] = __uint2float_rd(s), o[5] = __ll2float_rn(a), o[6] = __ull2float_rn(a), o[7] = __ll2float_rz(a);
    o[8] = (short)a, o[9] = (unsigned char)a;
}
