// Planted: reads of what nobody wrote.
#define COPY(KIND, TO, FROM, BYTES)                                                    \
    asm volatile("cp.async." KIND ".shared.global [%0], [%1], " BYTES ";" ::"r"(       \
                     static_cast<unsigned>(__cvta_generic_to_shared(TO))),             \
                 "l"(FROM)                                                             \
                 : "memory")

extern "C" __global__ void shared_never_written(int *out) {
    __shared__ int s[64];
    if (threadIdx.x < 63) s[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] =
        s[threadIdx.x]; // planted: shared_never_written
}
extern "C" __global__ void global_never_written(const int *x, int *out) {
    out[threadIdx.x] =
        x[threadIdx.x]; // planted: global_never_written
}
extern "C" __global__ void local_never_written(const int *x, int *out) {
    int a[8];
    a[x[0]] = 5;
    a[x[1]] = 6;
    out[threadIdx.x] =
        a[x[2 + threadIdx.x]]; // planted: local_never_written
}
extern "C" __global__ void half_a_word(unsigned short *x, unsigned *out) {
    x[0] = 1;
    *out =
        *reinterpret_cast<volatile unsigned *>(x); // planted: half_a_word
}
extern "C" __global__ void copy_not_waited_for(const int *x, int *out) {
    __shared__ int s[32];
    COPY("ca", s + threadIdx.x, x + threadIdx.x, "4");
    asm volatile("cp.async.commit_group;" ::: "memory");
    out[threadIdx.x] =
        s[threadIdx.x]; // planted: copy_not_waited_for
}
extern "C" __global__ void wrong_group_waited_for(const int *x, int *out) {
    __shared__ int s[64];
    for (int i = 0; i < 2; ++i) {
        COPY("ca", s + 32 * i + threadIdx.x, x + 32 * i + threadIdx.x, "4");
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    out[threadIdx.x] = s[threadIdx.x] +
        s[32 + threadIdx.x]; // planted: wrong_group_waited_for
}
extern "C" __global__ void copy_without_barrier(const int *x, int *out) {
    __shared__ int s[64];
    COPY("ca", s + threadIdx.x, x + threadIdx.x, "4");
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[threadIdx.x] =
        s[63 - threadIdx.x]; // planted: copy_without_barrier
}
