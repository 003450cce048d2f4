// Order that fences, flags and atomics pass on, within a block and between blocks. Planted: what has none.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;

extern "C" __global__ void tiles_of_64(const int *x, int *out) {
    // Clean: groups of two warps, whose barriers are atomics in shared memory.
    __shared__ int s[192];
    auto tile = cg::tiled_partition<64>(cg::this_thread_block());
    int i = threadIdx.x;
    s[i] = x[i];
    tile.sync();
    int other = s[i ^ 33];
    int sum = cg::reduce(tile, x[i], cg::plus<int>());
    tile.sync();
    out[i] = 100 * sum + 10 * other + tile.shfl(x[i], 3);
}
// Warp 0 writes for warp 1, which waits for a flag.
#define HAND_OVER(CLEAR, BEFORE, SET, WAIT)   \
    if (threadIdx.x == 0) CLEAR;              \
    __syncthreads();                          \
    if (threadIdx.x < 32) {                   \
        s[threadIdx.x] = x[threadIdx.x];      \
        __syncwarp();                         \
        BEFORE;                               \
        if (threadIdx.x == 0) SET;            \
    } else {                                  \
        while (WAIT) {                        \
        }                                     \
        __threadfence_block();

extern "C" __global__ void flag_of_a_warp(const int *x, int *out) {
    __shared__ int s[32];
    __shared__ volatile int flag_in_shared;
    HAND_OVER(flag_in_shared = 0, __threadfence_block(), flag_in_shared = 1, flag_in_shared == 0)
        out[threadIdx.x] = s[threadIdx.x - 32];
    }
}
extern "C" __global__ void flag_without_fence(const int *x, int *out) {
    __shared__ int s[32];
    __shared__ volatile int flag_in_shared;
    HAND_OVER(flag_in_shared = 0, , flag_in_shared = 1, flag_in_shared == 0)
        out[threadIdx.x] = s[threadIdx.x - 32];
    }
}
extern "C" __global__ void data_after_the_flag(const int *x, int *out) {
    __shared__ int s[32];
    __shared__ volatile int flag_in_shared;
    HAND_OVER(flag_in_shared = 0, __threadfence_block(), flag_in_shared = 1, flag_in_shared == 0)
        out[threadIdx.x] = s[threadIdx.x - 32];
    }
    if (threadIdx.x < 32)
        s[threadIdx.x] = 0;
}
extern "C" __global__ void flag_in_global(const int *x, int *out, int *flag) {
    __shared__ int s[32];
    HAND_OVER(*flag = 0, __threadfence_block(), atomicExch(flag, 1), atomicAdd(flag, 0) == 0)
        out[threadIdx.x] = s[threadIdx.x - 32];
    }
}
extern "C" __global__ void lock_in_shared(int *out) {
    __shared__ int lock, count;
    if (threadIdx.x == 0) lock = count = 0;
    __syncthreads();
    for (bool done = false; !done;) {
        if (atomicCAS(&lock, 0, 1) == 0) {
            __threadfence_block();
            ++count;
            __threadfence_block();
            atomicExch(&lock, 0);
            done = true;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) *out = count;
}
// Block 0 writes for the others.
#define TO_BLOCKS(SCOPE)                                                                                             \
    if (blockIdx.x == 0) {                                                                                           \
        x[threadIdx.x] = threadIdx.x;                                                                                \
        __syncthreads();                                                                                             \
        if (threadIdx.x == 0) asm volatile("st.release." SCOPE ".global.b32 [%0], 1;" ::"l"(flag) : "memory");       \
    } else {                                                                                                         \
        int seen;                                                                                                    \
        do asm volatile("ld.acquire." SCOPE ".global.b32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");            \
        while (seen == 0);

extern "C" __global__ void released_to_the_device(int *x, int *out, int *flag) {
    TO_BLOCKS("gpu")
        out[threadIdx.x] = x[threadIdx.x];
    }
}
extern "C" __global__ void released_to_the_block(int *x, int *out, int *flag) {
    TO_BLOCKS("cta")
        out[threadIdx.x] = x[threadIdx.x]; // planted: released_to_the_block
    }
}
