// The selective scan, forward. Equation, shapes and options: src/ops/selective_scan.
//
// A block walks one part of a sequence from its first step to its last. B and C are staged as f32 in shared memory, a tile
// of kTile steps at a time, once per block. Where there may be several slabs they wait in the workspace, tile by tile.

#include "selective_scan.cuh"

namespace {

// Blocks of a multiprocessor: leaves 128 registers, which every entry has room in.
constexpr int kBlocks = 4;

template <int LANES>
struct Tile : Shape<LANES> {
    using Shape<LANES>::kChannels;
    using Shape<LANES>::kSlab;
    using Shape<LANES>::kSlabs;
    // 8 KiB of B and of C, 16 KiB at 32 lanes.
    static constexpr int kTile = LANES <= 8 ? 64 / LANES : 8;
    // One row per step if B varies with time, one per channel if it is constant.
    static constexpr int kStaged = kTile * kSlab > kChannels * kSlab ? kTile * kSlab : kChannels * kSlab;
    static constexpr int kPartial = kSlabs ? kChannels * kTile : 1;
};

// One step of this lane's states; returns its share of sum C h. `DECAYS`: A has log2(e) in it.
template <int LANES, bool DECAYS>
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
            const float decay = DECAYS ? exp2_approx(delta * A[i]) : exp_approx(delta * A[i]);
            h[i] = fmaf(decay, h[i], delta_x * bs[j]);
            y = fmaf(h[i], cs[j], y);
        }
    }
    return y;
}

template <typename T, int LANES>
struct Scan {
    using S = Tile<LANES>;
    const SsmSelectiveScanFwd &p;
    const Span span;
    const uint32_t seq;
    // The part's row of states and sums.
    const int64_t row;
    const uint32_t first_channel;
    const uint32_t channels;
    const uint32_t channel;
    const uint32_t lane;
    // The last channel stands in for threads beyond it: they take part in barriers and shuffles, and write nothing.
    const uint32_t d;
    const bool active;
    // This thread's place in shared memory, through which states are copied.
    float *const own;

    __device__ __forceinline__ Scan(
        const SsmSelectiveScanFwd &p, float *copies, uint32_t seq, uint32_t first, uint32_t channels)
        : p(p), span(p.spans, seq), seq(seq), row(static_cast<int64_t>(seq) * p.spans.parts + blockIdx.z),
          first_channel(first), channels(channels),
          channel(min(static_cast<uint32_t>(threadIdx.x / LANES), channels - 1)), lane(threadIdx.x % LANES),
          d(first + channel), active(threadIdx.x / LANES < channels), own(copies + threadIdx.x) {}

    __device__ __forceinline__ int64_t at(const SsmSequence &s, int64_t t) const {
        return span.batch * s.batch_stride + d * s.dim_stride + t * s.seqlen_stride;
    }

    __device__ __forceinline__ void copy_states(const SsmState &s, int64_t row, uint32_t slab, bool save) const {
        const int64_t offset = row * s.batch_stride + d * s.dim_stride;
        const uint32_t dstate = active || !save ? p.dstate : 0;
        copy_states_of<LANES>(own, kThreads, s.address, offset, s.dstate_stride, slab, dstate, 0.0f, save);
    }

    // Where A and the states of a slab wait while another is worked on: the block's, not the sequence's, which take turns.
    __device__ __forceinline__ float4 *waiting(uint32_t slab, uint32_t slabs, int what) const {
        const int64_t block = (static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z) * gridDim.x + blockIdx.x;
        const int64_t unit = (block * slabs + slab) * 2 + what;
        return reinterpret_cast<float4 *>(p.slab_states) + unit * kUnit + threadIdx.x;
    }

    // Whether no state of this lane can grow. A and delta then keep their signs, and A may take log2(e) in: that it is rounded
    // once and for all makes an error of |delta A| in each step, and what decays forgets the steps as fast.
    __device__ __forceinline__ bool decays(float (&A)[kStates]) const {
        bool all = !S::kSlabs && (p.step.softplus || (p.step.limited && p.step.min >= 0.0f));
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            // Below, A log2(e) may be infinite, and 0 times it no number.
            all = all && A[i] <= 0.0f && A[i] >= -1e38f;
        }
        if (all) {
#pragma unroll
            for (int i = 0; i < kStates; ++i) {
                A[i] *= kLog2e;
            }
        }
        return all;
    }

    __device__ __forceinline__ void load(uint32_t slab, float (&A)[kStates], float (&h)[kStates]) const {
        const int64_t offset = d * p.A.dim_stride;
        copy_states_of<LANES>(
            own, kThreads, p.A.address, offset, p.A.dstate_stride, slab, p.dstate, kAbsentA, false);
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            A[i] = own[i * kThreads];
        }
        copy_states(p.initial_state, row, slab, false);
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            h[i] = own[i * kThreads];
        }
    }

    __device__ __forceinline__ void save(const SsmState &s, int64_t row, uint32_t slab, const float (&h)[kStates]) const {
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            own[i * kThreads] = h[i];
        }
        copy_states(s, row, slab, true);
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

    // All steps of one tile on one slab. `partial`: the sum over earlier slabs, per channel and step. Returns the sum of
    // delta.
    __device__ __forceinline__ float tile(
        int step0, int steps, uint32_t slab, uint32_t slabs, const float (&A)[kStates], float (&h)[kStates],
        bool decaying, const float *B, const float *C, float *partial, int64_t first_chunk) const {
        const float *b = B + (p.B.constant ? channel * S::kSlab : 0) + lane * kQuad;
        const float *c = C + (p.C.constant ? channel * S::kSlab : 0) + lane * kQuad;
        const int b_step = p.B.constant ? 0 : S::kSlab;
        const int c_step = p.C.constant ? 0 : S::kSlab;
        const float bias = load_vector(p.dt_bias, d, 0.0f);
        float delta_sum = 0.0f;
#pragma unroll 1
        for (int s = 0; s < steps; ++s) {
            const int64_t t = span.time(step0 + s);
            const float x = T::load(reinterpret_cast<const void *>(p.x.address), at(p.x, t));
            const float raw = T::load(reinterpret_cast<const void *>(p.dt.address), at(p.dt, t)) + bias;
            const float delta = effective_step(raw, p.step);
            delta_sum += delta;
            // Without states there is nothing to sum, not even 0 * infinity.
            float y = 0.0f;
            if (p.dstate > 0) {
                const float *bs = b + s * b_step, *cs = c + s * c_step;
                y = decaying ? advance<LANES, true>(h, A, delta, delta * x, bs, cs)
                             : advance<LANES, false>(h, A, delta, delta * x, bs, cs);
                y = sum_over_lanes<LANES>(y);
            }
            if (lane == 0 && active && p.out.address) {
                y += slab > 0 ? partial[channel * S::kTile + s] : 0.0f;
                if (slab + 1 < slabs) {
                    partial[channel * S::kTile + s] = y;
                } else {
                    write(t, x, y);
                }
            }
            const int done = step0 + s + 1;
            if (p.chunk_states.address && done % p.spans.every == 0) {
                save(p.chunk_states, first_chunk + done / p.spans.every - 1, slab, h);
            }
        }
        return delta_sum;
    }

    __device__ __forceinline__ void run(float *B, float *C, float *partial) const {
        const uint32_t slabs = S::kSlabs ? max(1u, (p.dstate + S::kSlab - 1) / S::kSlab) : 1;
        const int64_t first_chunk = p.chunk_states.address ? chunks_before(p.spans, seq) : 0;
        float delta_sum = 0.0f;
        float A[kStates];
        float h[kStates];
#pragma unroll 1
        for (uint32_t slab = 0; slab < slabs; ++slab) {
            load(slab, A, h);
            if (S::kSlabs) {
                store_quads(waiting(slab, slabs, 0), A);
                store_quads(waiting(slab, slabs, 1), h);
            }
        }
        const bool decaying = decays(A);
#pragma unroll 1
        for (int step0 = span.begin; step0 < span.end; step0 += S::kTile) {
            const int steps = min(S::kTile, span.end - step0);
#pragma unroll 1
            for (uint32_t slab = 0; slab < slabs; ++slab) {
                if (S::kSlabs) {
                    load_quads(waiting(slab, slabs, 0), A);
                    load_quads(waiting(slab, slabs, 1), h);
                }
                __syncthreads();
                stage<T, LANES>(B, p.B, span, step0, steps, first_channel, channels, slab, p.dstate);
                stage<T, LANES>(C, p.C, span, step0, steps, first_channel, channels, slab, p.dstate);
                __syncthreads();
                const float sum = tile(step0, steps, slab, slabs, A, h, decaying, B, C, partial, first_chunk);
                delta_sum += slab == 0 ? sum : 0.0f;
                if (S::kSlabs) {
                    store_quads(waiting(slab, slabs, 1), h);
                }
            }
        }
        if (p.final_per_part || span.last()) {
#pragma unroll 1
            for (uint32_t slab = 0; slab < slabs; ++slab) {
                if (S::kSlabs) {
                    load_quads(waiting(slab, slabs, 1), h);
                }
                save(p.final_state, p.final_per_part ? row : seq, slab, h);
            }
        }
        if (p.delta_sum.address && lane == 0 && active) {
            store_row(p.delta_sum, row, d, delta_sum);
        }
    }
};

template <typename T, int LANES>
__device__ __forceinline__ void selective_scan_fwd(const SsmSelectiveScanFwd &p) {
    using S = Tile<LANES>;
    __shared__ __align__(16) float B[S::kStaged];
    __shared__ __align__(16) float C[S::kStaged];
    __shared__ float partial[S::kPartial];
    __shared__ float copies[kUnit * kQuad];
    const uint32_t tiles_per_run = (p.run + S::kChannels - 1) / S::kChannels;
    const uint32_t in_run = blockIdx.x % tiles_per_run * S::kChannels;
    const uint32_t first = blockIdx.x / tiles_per_run * p.run + in_run;
    const uint32_t channels = min(static_cast<uint32_t>(S::kChannels), p.run - in_run);
#pragma unroll 1
    for (uint32_t seq = blockIdx.y; seq < p.spans.nseqs; seq += gridDim.y) {
        Scan<T, LANES>(p, copies, seq, first, channels).run(B, C, partial);
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
