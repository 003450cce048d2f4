// What the scan's two directions share: how channels, states and steps are laid out over threads and blocks.
//
// A channel belongs to LANES neighbouring lanes of a warp, each with kStates states in registers; a block of kThreads (forward,
// from two lanes on, twice as many) holds as many channels as there are lanes for, of one run (channels that share their rows of B and C). States beyond LANES * kStates are
// worked off in slabs.
#pragma once

#include "load_store.cuh"
#include "math.cuh"
#include "params.h"

namespace {

constexpr int kThreads = 128;
constexpr int kStates = 16;
constexpr int kQuad = 4;
constexpr int kQuads = kStates / kQuad;
// A of a state that does not exist: its decay is a number whatever the step is, infinity included.
constexpr float kAbsentA = -1.0f;
// A block's registers: 16 f32 of each thread, as quads.
constexpr int kUnit = kQuads * kThreads;

template <int LANES>
struct Shape {
    static constexpr int kChannels = kThreads / LANES;
    static constexpr int kSlab = LANES * kStates;
    // More lanes come before more slabs, so only the most lanes have them.
    static constexpr bool kSlabs = LANES == 32;
};

// The block's part of sequence `seq`: its row of the batch, its place along seqlen, the order of its steps, and which of them
// are the part's. Steps count from the first of the sequence in scan order; the host refuses lengths beyond 31 bits.
struct Span {
    uint32_t batch;
    int start;
    int len;
    int begin;
    int end;
    bool reverse;

    __device__ __forceinline__ Span(const SsmSpans &p, uint32_t seq) : reverse(p.reverse != 0) {
        const int32_t *ends = reinterpret_cast<const int32_t *>(p.cu_seqlens);
        batch = ends ? 0 : seq;
        start = ends ? ends[seq] : 0;
        len = ends ? ends[seq + 1] - start : static_cast<int>(p.seqlen);
        begin = static_cast<int>(min(blockIdx.z * p.part, static_cast<int64_t>(len)));
        end = p.parts == 1 ? len : static_cast<int>(min(begin + p.part, static_cast<int64_t>(len)));
    }

    __device__ __forceinline__ int64_t time(int step) const {
        return reverse ? start + len - 1 - step : start + step;
    }
};

// Full chunks of the sequences before `seq`.
__device__ __forceinline__ int64_t chunks_before(const SsmSpans &p, uint32_t seq) {
    const int32_t *ends = reinterpret_cast<const int32_t *>(p.cu_seqlens);
    if (!ends) {
        return seq * (p.seqlen / p.every);
    }
    int64_t chunks = 0;
#pragma unroll 1
    for (uint32_t earlier = 0; earlier < seq; ++earlier) {
        chunks += (ends[earlier + 1] - ends[earlier]) / p.every;
    }
    return chunks;
}

// Up to 2^-kMild in a step a decay may be ex2 of a rounded exponent. Beyond, the rounding shows where a tensor holds nothing but
// what is left of decayed states.
constexpr float kMild = 4.0f;
// Where |A| is 0 or between these, a step beyond the longest leaves nothing that the longest does not leave, and no product
// with either overflows.
constexpr float kLeastRate = 1e-15f, kLargestRate = 1e15f;
constexpr float kLongestStep = 1e22f;

// The longest step that is mild for all states of a lane; -infinity where states may grow, or A is out of the ordinary.
__device__ __forceinline__ float longest_mild_step(const float (&A)[kStates], const SsmStep &step) {
    float largest = kLeastRate, least = kLargestRate;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
        // NaN, which comparisons refuse, stays.
        asm("max.NaN.f32 %0, %0, %1;" : "+f"(largest) : "f"(-A[i]));
        least = fminf(least, -A[i]);
    }
    if (least < kLeastRate) {
        least = kLargestRate;
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            least = fminf(least, A[i] == 0.0f ? kLeastRate : -A[i]);
        }
    }
    const bool decays = step.softplus ? !(step.limited && step.max < 0.0f) : step.limited && step.min >= 0.0f;
    const bool all = decays && least >= kLeastRate && largest <= kLargestRate;
    return all ? kMild * kLn2 * reciprocal(largest) : -INFINITY;
}

// How a lane's states decay in a step: by 2^(exponent A), and where that is not mild by what rounding lost, which else is 0. A
// lane chooses by its own step and A, whatever its neighbours do.
struct Decay {
    float exponent;
    float rest;
    float unit;

    __device__ __forceinline__ explicit Decay(float delta) : exponent(delta * kLog2e), rest(0.0f), unit(0.0f) {}
    __device__ __forceinline__ Decay(float delta, float mild) : Decay(delta) {
        const bool is_mild = delta <= mild;
        rest = is_mild ? 0.0f : delta;
        unit = is_mild ? 0.0f : -kLn2;
    }
    // The exponent of e that 2^of_2 lacks. ANY: both may be infinite.
    template <bool ANY>
    __device__ __forceinline__ float lost(float of_2, float A) const {
        const float lost = fmaf(unit, of_2, rest * A);
        return ANY ? fminf(lost, 1.0f) : lost;
    }
};

template <int THREADS = kThreads>
__device__ __forceinline__ void load_quads(const float4 *from, float (&v)[kStates]) {
#pragma unroll
    for (int k = 0; k < kQuads; ++k) {
        const float4 quad = from[k * THREADS];
        v[4 * k] = quad.x;
        v[4 * k + 1] = quad.y;
        v[4 * k + 2] = quad.z;
        v[4 * k + 3] = quad.w;
    }
}

template <int THREADS = kThreads>
__device__ __forceinline__ void store_quads(float4 *to, const float (&v)[kStates]) {
#pragma unroll
    for (int k = 0; k < kQuads; ++k) {
        to[k * THREADS] = make_float4(v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]);
    }
}

// This lane's states of a tensor into `own` in shared memory, or back; those that do not exist are `absent`. State i lies
// at own[i / 4 * 4 * THREADS + i % 4 * apart]: `apart` is 1 for quads, THREADS for single states without bank
// conflicts. Neighbouring quads of states belong to neighbouring lanes; place i has state i ^ flip. A loop, because there are
// many of these copies and few states that they move.
template <int LANES, int THREADS = kThreads, bool FLIPPED = false>
__device__ __forceinline__ void copy_states_of(
    float *own, int apart, uint64_t address, int64_t offset, int64_t stride, uint32_t slab, uint32_t dstate, float absent,
    bool save, uint32_t flip = 0) {
    const uint32_t own_lane = threadIdx.x % LANES, end = address ? dstate : 0;
    uint32_t first = slab * Shape<LANES>::kSlab + own_lane * kQuad;
    float *from = reinterpret_cast<float *>(address) + (offset + first * stride);
    if (!save && !FLIPPED && stride == 1 && end >= (slab + 1) * Shape<LANES>::kSlab) {
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            own[i / kQuad * (kQuad * THREADS) + i % kQuad * apart] = from[i / kQuad * (kQuad * LANES) + i % kQuad];
        }
        return;
    }
#pragma unroll 1
    for (uint32_t quad = 0; quad < kQuads; ++quad) {
        // Or else each state's address would be made anew.
        asm("" : "+l"(from));
        __builtin_assume(__isGlobal(from));
        float *place = own + (quad ^ flip / kQuad) * (kQuad * THREADS);
        float v[kQuad];
#pragma unroll
        for (uint32_t j = 0; j < kQuad && !save; ++j) {
            const uint32_t in_quad = j ^ flip % kQuad;
            v[j] = first + in_quad < end ? from[in_quad * stride] : absent;
        }
#pragma unroll
        for (uint32_t j = 0; j < kQuad; ++j) {
            const uint32_t in_quad = j ^ flip % kQuad;
            if (!save) {
                place[j * apart] = v[j];
            } else if (first + in_quad < end) {
                from[in_quad * stride] = place[j * apart];
            }
        }
        first += kQuad * LANES;
        from += kQuad * LANES * stride;
    }
}

// In every lane of a channel.
template <int LANES>
__device__ __forceinline__ float sum_over_lanes(float value) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    }
    return value;
}

__device__ __forceinline__ float load_vector(const SsmVector &v, uint32_t d, float absent) {
    return v.address ? F32::load(reinterpret_cast<const void *>(v.address), d * v.dim_stride) : absent;
}

__device__ __forceinline__ void store_row(const SsmRows &rows, int64_t row, uint32_t d, float value) {
    F32::store(reinterpret_cast<void *>(rows.address), row * rows.batch_stride + d * rows.dim_stride, value);
}

}  // namespace
