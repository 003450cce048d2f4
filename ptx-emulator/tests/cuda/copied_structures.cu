// Structures copied whole that are written in part: padding and unused fields are nobody's mistake.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

struct Pair {
    char tag;
    int value, unused;
};

__device__ __noinline__ int value(Pair pair) { return pair.value + pair.tag; }
__device__ __noinline__ int wrong(Pair pair) { return pair.unused; }

extern "C" __global__ void copied_structures(const int *x, int *out) {
    const auto tile = cooperative_groups::tiled_partition<16>(cooperative_groups::this_thread_block());
    Pair pair;
    pair.tag = 1;
    pair.value = cooperative_groups::reduce(tile, x[threadIdx.x], cooperative_groups::plus<int>());
    const Pair copy = pair;
    out[threadIdx.x] = value(copy);
}

extern "C" __global__ void field_of_nobody(const int *x, int *out) {
    Pair pair;
    pair.value = x[threadIdx.x];
    const Pair copy = pair;
    out[threadIdx.x] = wrong(copy);
}

// Without debug information: half of a register is packed with one that nothing writes.
extern "C" __global__ void upper_half(const unsigned *x, unsigned *out) {
    union {
        unsigned word;
        short halves[2];
    } both;
    both.word = x[threadIdx.x];
    both.halves[1] += 5;
    out[threadIdx.x] = both.word;
}
