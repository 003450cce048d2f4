// Double precision where it is exact, and its conversions.
extern "C" __global__ void doubles(const double *x, const double *y, const double *z, double *out,
                                   long long *longs, float *floats) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    double a = x[i], b = y[i], c = z[i], *o = out + 18 * i;
    o[0] = a + b, o[1] = a - b, o[2] = __dmul_rn(a, b), o[3] = fma(a, b, c), o[4] = a / b, o[5] = sqrt(fabs(a));
    o[6] = 1 / a, o[7] = floor(a), o[8] = ceil(a), o[9] = trunc(a), o[10] = rint(a), o[11] = fmin(a, b);
    o[12] = fmax(a, b), o[13] = copysign(a, b), o[14] = __dadd_rz(a, b), o[15] = __dadd_ru(a, b);
    o[16] = (double)(float)a, o[17] = (double)(long long)c;
    long long *l = longs + 4 * i;
    l[0] = (long long)a, l[1] = __double2ll_rn(a), l[2] = __double2int_rd(a), l[3] = __double2uint_ru(a);
    float *f = floats + 3 * i;
    f[0] = (float)a, f[1] = __double2float_rz(a), f[2] = __double2float_ru(a);
}
