// cp.async of 4, 8 and 16 bytes as raw PTX, and copies cut short that leave zeros behind.
#define COPY(KIND, TO, FROM, BYTES)                                                    \
    asm volatile("cp.async." KIND ".shared.global [%0], [%1], " BYTES ";" ::"r"(       \
                     static_cast<unsigned>(__cvta_generic_to_shared(TO))),             \
                 "l"(FROM)                                                             \
                 : "memory")

extern "C" __global__ void cp_async(const unsigned *x, unsigned *out, unsigned valid) {
    __shared__ __align__(16) unsigned buffer[4][128];
    unsigned t = threadIdx.x, size = min(16u, t * 16 < valid * 4 ? valid * 4 - t * 16 : 0u);
    COPY("cg", &buffer[0][4 * t], x + 4 * t, "16");
    asm volatile("cp.async.commit_group;" ::: "memory");
    COPY("ca", &buffer[1][4 * t], x + 4 * t, "4");
    COPY("ca", &buffer[1][4 * t + 1], x + 4 * t + 1, "4");
    COPY("ca", &buffer[1][4 * t + 2], x + 4 * t + 2, "8");
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(&buffer[2][4 * t]))),
                 "l"(x + 4 * t), "r"(size)
                 : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    // Groups finish in order: the first two, then all.
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    for (unsigned i = 0; i < 4; ++i)
        buffer[3][4 * t + i] = buffer[0][127 - 4 * t - i] + 1000 * buffer[1][4 * (31 - t) + i];
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    for (unsigned i = 0; i < 4; ++i) {
        out[4 * t + i] = buffer[3][4 * t + i];
        out[128 + 4 * t + i] = buffer[2][127 - 4 * t - i];
    }
}
