// Integer operations that have instructions of their own, and those that need many.
extern "C" __global__ void integers32(const unsigned *x, const unsigned *y, unsigned *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, a = x[i], b = y[i], *o = out + 24 * i;
    int s = a, t = b;
    o[0] = __umulhi(a, b), o[1] = __mulhi(s, t), o[2] = __brev(a), o[3] = __clz(a);
    o[4] = __ffs(a), o[5] = __popc(a);
    o[6] = __funnelshift_l(a, b, b), o[7] = __funnelshift_rc(a, b, b & 63), o[8] = __byte_perm(a, b, b);
    o[9] = __dp4a(a, b, 7u), o[10] = __dp4a(s, t, -7), o[11] = __sad(s, t, 3u);
    o[12] = __usad(a, b, 3u);
    o[13] = b ? a / b : 0, o[14] = b ? a % b : 0, o[15] = t && t != -1 ? s / t : 0, o[16] = t && t != -1 ? s % t : 0;
    o[17] = __hadd(s, t), o[18] = __urhadd(a, b), o[19] = a / 10 + b % 1000;
    o[20] = s >> (b & 31), o[21] = a << (b & 31);
    o[22] = (a >> 5 & 0x3ff) | (unsigned)((short)a) << 16;
    o[23] = abs(s) + max(s, t) * min(a, b) + (unsigned)(signed char)a;
}

extern "C" __global__ void integers64(const unsigned long long *x, const unsigned long long *y,
                                      unsigned long long *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned long long a = x[i], b = y[i], *o = out + 20 * i;
    long long s = a, t = b;
    o[0] = __umul64hi(a, b), o[1] = __mul64hi(s, t), o[2] = __brevll(a), o[3] = __clzll(a);
    o[4] = __ffsll(a), o[5] = __popcll(a);
    o[6] = b ? a / b : 0, o[7] = b ? a % b : 0, o[8] = t && t != -1 ? s / t : 0, o[9] = t && t != -1 ? s % t : 0;
    unsigned __int128 m = ((unsigned __int128)a << 64 | b) + ((unsigned __int128)b << 64 | a);
    o[10] = (unsigned long long)m, o[11] = (unsigned long long)(m >> 64);
    m = (unsigned __int128)a * b - ((unsigned __int128)b << 32);
    o[12] = (unsigned long long)m, o[13] = (unsigned long long)(m >> 64);
    m = ((unsigned __int128)a << 64 | b) >> (b & 127);
    o[14] = (unsigned long long)m, o[15] = (unsigned long long)(m >> 64);
    o[16] = a * b, o[17] = s >> (b & 63), o[18] = s < t ? a << (b & 63) : b, o[19] = llabs(s) + max(a, b);
}

// Chains of carries, as raw PTX: 96-bit sums and differences, and a 64 x 64 -> 128-bit product of words.
extern "C" __global__ void carries(const unsigned *x, const unsigned *y, unsigned *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, *o = out + 12 * i;
    const unsigned *a = x + 3 * i, *b = y + 3 * i;
    asm("add.cc.u32 %0, %4, %7; addc.cc.u32 %1, %5, %8; addc.cc.u32 %2, %6, %9; addc.u32 %3, 0, 0;"
        : "=&r"(o[0]), "=&r"(o[1]), "=&r"(o[2]), "=&r"(o[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(b[0]), "r"(b[1]), "r"(b[2]));
    asm("sub.cc.u32 %0, %4, %7; subc.cc.u32 %1, %5, %8; subc.cc.u32 %2, %6, %9; subc.u32 %3, 0, 0;"
        : "=&r"(o[4]), "=&r"(o[5]), "=&r"(o[6]), "=&r"(o[7])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(b[0]), "r"(b[1]), "r"(b[2]));
    asm("mul.lo.u32 %0, %4, %6; mul.hi.u32 %1, %4, %6; mad.lo.cc.u32 %1, %4, %7, %1; madc.hi.u32 %2, %4, %7, 0;"
        "mad.lo.cc.u32 %1, %5, %6, %1; madc.hi.cc.u32 %2, %5, %6, %2; madc.hi.u32 %3, %5, %7, 0;"
        "mad.lo.cc.u32 %2, %5, %7, %2; addc.u32 %3, %3, 0;"
        : "=&r"(o[8]), "=&r"(o[9]), "=&r"(o[10]), "=&r"(o[11]) : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
}
