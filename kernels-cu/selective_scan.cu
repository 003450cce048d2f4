// The selective scan, forward. Equation, shapes and options: src/ops/selective_scan.
//
// A channel belongs to LANES neighbouring lanes of a warp, each with kStates states in registers; a block holds
// kThreads / LANES channels of one run (channels that share their rows of B and C) and walks one sequence from its first
// step to its last. B and C are staged as f32 in shared memory, a tile of kTile steps at a time, once per block.
// States beyond LANES * kStates are worked off in slabs, tile by tile, and wait in the workspace meanwhile.

#include "load_store.cuh"
#include "math.cuh"
#include "params.h"

namespace {

constexpr int kThreads = 128;
// Blocks of a multiprocessor: leaves 128 registers, which every entry has room in.
constexpr int kBlocks = 4;
constexpr int kStates = 16;
constexpr int kQuad = 4;

template <int LANES>
struct Shape {
    static constexpr int kChannels = kThreads / LANES;
    static constexpr int kSlab = LANES * kStates;
    // 8 KiB of B and of C, 16 KiB at 32 lanes.
    static constexpr int kTile = LANES <= 8 ? 64 / LANES : 8;
    // One row per step if B varies with time, one per channel if it is constant.
    static constexpr int kStaged = kTile * kSlab > kChannels * kSlab ? kTile * kSlab : kChannels * kSlab;
    // More lanes come before more slabs, so only the most lanes have them.
    static constexpr bool kSlabs = LANES == 32;
    static constexpr int kPartial = kSlabs ? kChannels * kTile : 1;
};

// Sequence `seq`: its row of the batch, its place along seqlen, and the order of its steps.
struct Span {
    int64_t batch;
    int64_t start;
    int64_t len;
    bool reverse;

    __device__ __forceinline__ Span(const SsmSelectiveScanFwd &p, uint32_t seq) : reverse(p.reverse != 0) {
        const int32_t *ends = reinterpret_cast<const int32_t *>(p.cu_seqlens);
        batch = ends ? 0 : seq;
        start = ends ? ends[seq] : 0;
        len = ends ? ends[seq + 1] - start : p.seqlen;
    }

    __device__ __forceinline__ int64_t time(int64_t step) const {
        return reverse ? start + len - 1 - step : start + step;
    }

    // Full chunks of the sequences before `seq`.
    __device__ __forceinline__ int64_t first_chunk(const SsmSelectiveScanFwd &p, uint32_t seq) const {
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
};

// This lane's states in a tensor: quads that lie LANES quads apart, so that neighbouring lanes read neighbouring quads
// of shared memory. `left`: how many states there are from the first on.
template <int LANES>
struct StateRow {
    float *first;
    int64_t stride;
    int left;

    __device__ __forceinline__ StateRow(
        uint64_t address, int64_t offset, int64_t stride, uint32_t slab, uint32_t lane, uint32_t dstate)
        : stride(stride) {
        const uint32_t n = slab * Shape<LANES>::kSlab + lane * kQuad;
        first = reinterpret_cast<float *>(address) + offset + n * stride;
        left = static_cast<int>(dstate) - static_cast<int>(n);
    }

    // Calls f(i, place) for each state that exists.
    template <typename F>
    __device__ __forceinline__ void each(F f) const {
        float *place = first;
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            if ((i / kQuad) * kQuad * LANES + i % kQuad < left) {
                f(i, place);
            }
            place += i % kQuad == kQuad - 1 ? (kQuad * LANES - kQuad + 1) * stride : stride;
        }
    }
};

// The rows of B or C that the next `steps` steps need, as f32; states beyond dstate are 0.
template <typename T, int LANES>
__device__ __forceinline__ void stage(
    float *staged, const SsmProjection &p, const Span &span, int64_t step0, int steps, uint32_t first_channel,
    uint32_t channels, uint32_t slab, uint32_t dstate) {
    constexpr int kSlab = Shape<LANES>::kSlab;
    const void *base = reinterpret_cast<const void *>(p.address);
    const int rows = p.constant ? static_cast<int>(channels) : steps;
#pragma unroll 1
    for (int i = threadIdx.x; i < rows * kSlab; i += kThreads) {
        int row = i / kSlab;
        uint32_t n = slab * kSlab + i % kSlab;
        float value = 0.0f;
        if (n < dstate && p.constant) {
            value = F32::load(base, (first_channel + row) * p.dim_stride + n * p.dstate_stride);
        } else if (n < dstate) {
            int64_t group = first_channel / p.channels_per_group;
            value = T::load(
                base, span.batch * p.batch_stride + group * p.ngroups_stride + n * p.dstate_stride +
                          span.time(step0 + row) * p.seqlen_stride);
        }
        staged[i] = value;
    }
}

// One step of this lane's states; returns its share of sum C h.
template <int LANES>
__device__ __forceinline__ float advance(
    float (&h)[kStates], const float (&A)[kStates], float delta, float delta_x, const float *B, const float *C) {
    float y = 0.0f;
#pragma unroll
    for (int quad = 0; quad < kStates / kQuad; ++quad) {
        const float4 b = *reinterpret_cast<const float4 *>(B + quad * kQuad * LANES);
        const float4 c = *reinterpret_cast<const float4 *>(C + quad * kQuad * LANES);
        const float bs[kQuad] = {b.x, b.y, b.z, b.w};
        const float cs[kQuad] = {c.x, c.y, c.z, c.w};
#pragma unroll
        for (int j = 0; j < kQuad; ++j) {
            const int i = quad * kQuad + j;
            h[i] = fmaf(exp_approx(delta * A[i]), h[i], delta_x * bs[j]);
            y = fmaf(h[i], cs[j], y);
        }
    }
    return y;
}

template <int LANES>
__device__ __forceinline__ float sum_over_lanes(float y) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        y += __shfl_xor_sync(0xffffffffu, y, distance);
    }
    return y;
}

template <typename T, int LANES>
struct Scan {
    using S = Shape<LANES>;
    const SsmSelectiveScanFwd &p;
    const Span span;
    const uint32_t seq;
    const uint32_t first_channel;
    const uint32_t channels;
    const uint32_t channel;
    const uint32_t lane;
    // The last channel stands in for threads beyond it: they take part in barriers and shuffles, and write nothing.
    const uint32_t d;
    const bool active;

    __device__ __forceinline__ Scan(const SsmSelectiveScanFwd &p, uint32_t seq, uint32_t first, uint32_t channels)
        : p(p), span(p, seq), seq(seq), first_channel(first), channels(channels), channel(min(static_cast<uint32_t>(threadIdx.x / LANES), channels - 1)),
          lane(threadIdx.x % LANES), d(first + channel), active(threadIdx.x / LANES < channels) {}

    __device__ __forceinline__ int64_t at(const SsmSequence &s, int64_t t) const {
        return span.batch * s.batch_stride + d * s.dim_stride + t * s.seqlen_stride;
    }

    __device__ __forceinline__ StateRow<LANES> states(const SsmState &s, int64_t row, uint32_t slab) const {
        const int64_t offset = row * s.batch_stride + d * s.dim_stride;
        return StateRow<LANES>(s.address, offset, s.dstate_stride, slab, lane, p.dstate);
    }

    // A and the states before the tile: 0, the initial ones, or those that wait in the workspace.
    __device__ __forceinline__ void load(uint32_t slab, bool first, float (&A)[kStates], float (&h)[kStates]) const {
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            A[i] = 0.0f;
            h[i] = 0.0f;
        }
        const StateRow<LANES> decay(p.A.address, d * p.A.dim_stride, p.A.dstate_stride, slab, lane, p.dstate);
        decay.each([&](int i, const float *place) { A[i] = *place; });
        const SsmState &before = first ? p.initial_state : p.slab_states;
        if (before.address) {
            states(before, seq, slab).each([&](int i, const float *place) { h[i] = *place; });
        }
    }

    __device__ __forceinline__ void save(const SsmState &s, int64_t row, uint32_t slab, const float (&h)[kStates]) const {
        if (s.address && active) {
            states(s, row, slab).each([&](int i, float *place) { *place = h[i]; });
        }
    }

    // The output from the full sum: skip, gate, round.
    __device__ __forceinline__ void write(int64_t t, float x, float y) const {
        if (p.D.address) {
            y = fmaf(F32::load(reinterpret_cast<const void *>(p.D.address), d * p.D.dim_stride), x, y);
        }
        if (p.z.address) {
            y *= silu(T::load(reinterpret_cast<const void *>(p.z.address), at(p.z, t)));
        }
        T::store(reinterpret_cast<void *>(p.out.address), at(p.out, t), y);
    }

    // All steps of one tile on one slab. `partial`: the sum over earlier slabs, per channel and step.
    __device__ __forceinline__ void tile(
        int64_t step0, int steps, uint32_t slab, uint32_t slabs, const float (&A)[kStates], float (&h)[kStates],
        const float *B, const float *C, float *partial, int64_t first_chunk) const {
        const float *b = B + (p.B.constant ? channel * S::kSlab : 0) + lane * kQuad;
        const float *c = C + (p.C.constant ? channel * S::kSlab : 0) + lane * kQuad;
        const int b_step = p.B.constant ? 0 : S::kSlab;
        const int c_step = p.C.constant ? 0 : S::kSlab;
        float bias = 0.0f;
        if (p.dt_bias.address) {
            bias = F32::load(reinterpret_cast<const void *>(p.dt_bias.address), d * p.dt_bias.dim_stride);
        }
#pragma unroll 1
        for (int s = 0; s < steps; ++s) {
            const int64_t t = span.time(step0 + s);
            const float x = T::load(reinterpret_cast<const void *>(p.x.address), at(p.x, t));
            const float raw = T::load(reinterpret_cast<const void *>(p.dt.address), at(p.dt, t)) + bias;
            const float delta = effective_step(raw, p.step);
            // Without states there is nothing to sum, not even 0 * infinity.
            float y = 0.0f;
            if (p.dstate > 0) {
                y = sum_over_lanes<LANES>(advance<LANES>(h, A, delta, delta * x, b + s * b_step, c + s * c_step));
            }
            if (lane == 0 && active) {
                y += slab > 0 ? partial[channel * S::kTile + s] : 0.0f;
                if (slab + 1 < slabs) {
                    partial[channel * S::kTile + s] = y;
                } else {
                    write(t, x, y);
                }
            }
            const int64_t done = step0 + s + 1;
            if (p.chunk_states.address && done % p.every == 0) {
                save(p.chunk_states, first_chunk + done / p.every - 1, slab, h);
            }
        }
    }

    __device__ __forceinline__ void run(float *B, float *C, float *partial) const {
        const uint32_t slabs = S::kSlabs ? max(1u, (p.dstate + S::kSlab - 1) / S::kSlab) : 1;
        const int64_t first_chunk = p.chunk_states.address ? span.first_chunk(p, seq) : 0;
        float A[kStates];
        float h[kStates];
        if (!S::kSlabs) {
            load(0, true, A, h);
        }
        // At least one tile, so that an empty sequence has its final state.
#pragma unroll 1
        for (int64_t step0 = 0; step0 == 0 || step0 < span.len; step0 += S::kTile) {
            const int steps = static_cast<int>(min(static_cast<int64_t>(S::kTile), span.len - step0));
            const bool last = step0 + S::kTile >= span.len;
#pragma unroll 1
            for (uint32_t slab = 0; slab < slabs; ++slab) {
                if (S::kSlabs && (slabs > 1 || step0 == 0)) {
                    load(slab, step0 == 0, A, h);
                }
                __syncthreads();
                stage<T, LANES>(B, p.B, span, step0, steps, first_channel, channels, slab, p.dstate);
                stage<T, LANES>(C, p.C, span, step0, steps, first_channel, channels, slab, p.dstate);
                __syncthreads();
                tile(step0, steps, slab, slabs, A, h, B, C, partial, first_chunk);
                if (S::kSlabs && (last || slabs > 1)) {
                    save(last ? p.final_state : p.slab_states, seq, slab, h);
                }
            }
        }
        if (!S::kSlabs) {
            save(p.final_state, seq, 0, h);
        }
    }
};

template <typename T, int LANES>
__device__ __forceinline__ void selective_scan_fwd(const SsmSelectiveScanFwd &p) {
    using S = Shape<LANES>;
    __shared__ __align__(16) float B[S::kStaged];
    __shared__ __align__(16) float C[S::kStaged];
    __shared__ float partial[S::kPartial];
    const uint32_t tiles_per_run = (p.run + S::kChannels - 1) / S::kChannels;
    const uint32_t in_run = blockIdx.x % tiles_per_run * S::kChannels;
    const uint32_t first = blockIdx.x / tiles_per_run * p.run + in_run;
    const uint32_t channels = min(static_cast<uint32_t>(S::kChannels), p.run - in_run);
#pragma unroll 1
    for (uint32_t seq = blockIdx.y; seq < p.nseqs; seq += gridDim.y) {
        Scan<T, LANES>(p, seq, first, channels).run(B, C, partial);
    }
}

}  // namespace

#define ENTRY(DTYPE_NAME, DTYPE, LANES)                                                                   \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)                                              \
        selective_scan_fwd_##DTYPE_NAME##_lanes##LANES(const __grid_constant__ SsmSelectiveScanFwd params) { \
        selective_scan_fwd<DTYPE, LANES>(params);                                                         \
    }

#define ENTRIES(DTYPE_NAME, DTYPE) \
    ENTRY(DTYPE_NAME, DTYPE, 1)    \
    ENTRY(DTYPE_NAME, DTYPE, 2)    \
    ENTRY(DTYPE_NAME, DTYPE, 4)    \
    ENTRY(DTYPE_NAME, DTYPE, 8)    \
    ENTRY(DTYPE_NAME, DTYPE, 16)   \
    ENTRY(DTYPE_NAME, DTYPE, 32)

// One file per dtype: -DSSM_F32, -DSSM_F16 or -DSSM_BF16.
#if defined(SSM_F32)
ENTRIES(f32, F32)
#elif defined(SSM_F16)
ENTRIES(f16, F16)
#elif defined(SSM_BF16)
ENTRIES(bf16, BF16)
#endif
