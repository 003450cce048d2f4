// dB and dC: sums over the channels of a warp by shuffles, of a block through shared memory, always in the same order.
#pragma once

#include "selective_scan_bwd_block.cuh"

namespace {

// Of 16 sums over the channels of a warp, how many each channel is left with; at one lane, two channels have the same.
template <int LANES>
constexpr int kSumsLeft = LANES == 1 ? 1 : LANES / 2;

// v[i] summed over the channels of a warp, `DISTANCE` lanes apart and less: a lane keeps its first places, and gives away the
// others, which are the first of the lane that gets them (`Places::kFlips`).
template <int LANES, int DISTANCE, int COUNT>
__device__ __forceinline__ void sum_over_channels(float *v) {
    if constexpr (DISTANCE >= LANES && COUNT == 1) {
        v[0] += __shfl_xor_sync(0xffffffffu, v[0], DISTANCE);
    } else if constexpr (DISTANCE >= LANES) {
#pragma unroll
        for (int i = 0; i < COUNT / 2; ++i) {
            v[i] += __shfl_xor_sync(0xffffffffu, v[i + COUNT / 2], DISTANCE);
        }
        sum_over_channels<LANES, DISTANCE / 2, COUNT / 2>(v);
    }
}

// factor * v[i] summed so, into the first `kSumsLeft` of `sums`: channel c is left with the sums of the states from
// c * kSumsLeft on (c / 2 at one lane).
template <int LANES>
__device__ __forceinline__ void sum_products(float factor, const float (&v)[kStates], float (&sums)[kStates]) {
    if constexpr (LANES == kWarp) {
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            sums[i] = factor * v[i];
        }
    } else {
        constexpr int kHalf = kStates / 2;
#pragma unroll
        for (int i = 0; i < kHalf; ++i) {
            sums[i] = fmaf(factor, v[i], __shfl_xor_sync(0xffffffffu, factor * v[i + kHalf], kWarp / 2));
        }
        sum_over_channels<LANES, kWarp / 4, kHalf>(sums);
    }
}

// Adds dB or dC of a constant projection, which this thread alone touches.
__device__ __forceinline__ void add_products(float4 *sum, float factor, const float (&v)[kStates]) {
#pragma unroll
    for (int k = 0; k < kQuads; ++k) {
        float4 quad = sum[k * kThreads];
        quad.x = fmaf(factor, v[4 * k], quad.x);
        quad.y = fmaf(factor, v[4 * k + 1], quad.y);
        quad.z = fmaf(factor, v[4 * k + 2], quad.z);
        quad.w = fmaf(factor, v[4 * k + 3], quad.w);
        sum[k * kThreads] = quad;
    }
}

// Into the places for sums of a step, before which this lane's states lie at `states`; its sums lie `back` before those.
template <int LANES, typename T>
__device__ __forceinline__ void put_sums(
    const Block<T, LANES> &b, uint32_t states, uint32_t back, int of_C, const float (&sums)[kStates]) {
    using S = Places<LANES>;
    uint32_t at = states - back;
    if (S::kSlabs) {
        const uint32_t s = (states - b.base) / S::kUnitBytes;
        at = b.base + S::kSums + s * S::kSumBytes + this_thread() * 4;
    }
#pragma unroll
    for (int q = 0; q < kSumsLeft<LANES>; ++q) {
        set(at + S::sum_at(0, of_C * kSumsLeft<LANES> + q, 0, 0) - S::kSums, sums[q]);
    }
}

template <typename T, int LANES>
__device__ __forceinline__ void write_sum(const Block<T, LANES> &b, int of_C, int64_t t, uint32_t n, float sum) {
    const SsmProjectionSum &target = of_C ? b.p.dC : b.p.dB;
    const int64_t offset = n * target.dstate_stride + t * target.seqlen_stride;
    void *row = reinterpret_cast<void *>(b.address(kProjectionSums + 2 * of_C));
    if (!target.partial) {
        T::store(row, offset, sum);
        return;
    }
    float *place = static_cast<float *>(row) + offset;
    // The block's first tile of channels sets the sum, the others add to it.
    *place = b.number(kChannelTile) > 0 ? *place + sum : sum;
}

// dB and dC of a tile: the sum over the block's channels.
template <typename T, int LANES>
__device__ __forceinline__ void write_sums(const Block<T, LANES> &b, int step0, int steps, uint32_t slab) {
    using S = Places<LANES>;
#pragma unroll 1
    for (int turn = 0; turn < 2 * S::kSlab * S::kTile / kThreads; ++turn) {
        const uint32_t i = turn * kThreads + this_thread();
        const uint32_t s = i % S::kTile;
        const uint32_t of_C = i / (S::kTile * S::kSlab);
        const uint32_t in_slab = i / S::kTile % S::kSlab;
        const uint32_t n = slab * S::kSlab + in_slab;
        if (static_cast<int>(s) >= steps || n >= b.p.dstate || !(of_C ? b.p.dC : b.p.dB).address) {
            continue;
        }
        // The thread that `sum_products` left it to.
        const uint32_t state = in_slab / (kQuad * LANES) * kQuad + in_slab % kQuad;
        const uint32_t keeper = LANES == 1 ? 2 * state : state / kSumsLeft<LANES>;
        const uint32_t thread = keeper * LANES + in_slab / kQuad % LANES;
        const uint32_t q = of_C * kSumsLeft<LANES> + state % kSumsLeft<LANES>;
        float sum = 0.0f;
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) {
            const float part = get(b.base + S::sum_at(s, q, warp, thread));
            sum = warp == 0 ? part : sum + part;
        }
        write_sum(b, of_C, b.time(step0 + static_cast<int>(s)), n, sum);
    }
}

}  // namespace
