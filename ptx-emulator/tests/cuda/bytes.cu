// Instructions on several integers in a register that come from intrinsics and assembly.
extern "C" __global__ void bytes(const unsigned *x, const unsigned *y, unsigned *out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned a = x[i], b = y[i];
    unsigned halves, packed;
    asm("cvt.pack.sat.s16.s32 %0, %1, %2;" : "=r"(halves) : "r"(a), "r"(b));
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(packed) : "r"((int)a >> 22), "r"((int)b >> 22), "r"(a));
    out[6 * i] = __vabsdiffu4(a, b);
    out[6 * i + 1] = __vsadu4(a, b);
    out[6 * i + 2] = __vabsdiffs4(a, b);
    out[6 * i + 3] = __vsads4(a, b);
    out[6 * i + 4] = halves;
    out[6 * i + 5] = packed;
}
