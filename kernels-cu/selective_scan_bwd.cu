// The selective scan, backward. Equations, shapes and options: src/ops/selective_scan.
//
// A block walks one part of a sequence from its last window to its first; a window reaches from one chunk state to the
// next. In a window it runs forward once, keeping the states before each tile of a few steps in the workspace; then, from
// the last tile to the first, forward again into shared memory and backward from there. dB and dC are summed over the
// block's channels by shuffles and shared memory, and over blocks by a pass of its own, always in the same order.

#include "selective_scan.cuh"

namespace {

// Blocks of a multiprocessor: leaves 168 registers.
constexpr int kBlocks = 3;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
// dfirst, dA, dB_constant and dC_constant are visited by number.
static_assert(offsetof(SsmSelectiveScanBwd, dC_constant) == offsetof(SsmSelectiveScanBwd, dfirst) + 3 * sizeof(SsmState));

// Of 16 sums over the channels of a warp, how many each channel is left with; at one lane, two channels have the same.
template <int LANES>
constexpr int kSumsLeft = LANES == 1 ? 1 : LANES / 2;

// v[i] summed over the channels of a warp: channel c is left with the sums from c * kSumsLeft on (c / 2 at one lane).
template <int LANES, int DISTANCE = kWarp / 2, int COUNT = kStates>
__device__ __forceinline__ void sum_over_channels(float *v) {
    if constexpr (DISTANCE >= LANES && COUNT == 1) {
        v[0] += __shfl_xor_sync(0xffffffffu, v[0], DISTANCE);
    } else if constexpr (DISTANCE >= LANES) {
        const bool upper = (threadIdx.x & DISTANCE) != 0;
#pragma unroll
        for (int i = 0; i < COUNT / 2; ++i) {
            const float keep = upper ? v[i + COUNT / 2] : v[i];
            const float give = upper ? v[i] : v[i + COUNT / 2];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, DISTANCE);
        }
        sum_over_channels<LANES, DISTANCE / 2, COUNT / 2>(v);
    }
}

extern __shared__ float4 shared_memory[];

// Shared memory of a block: places in f32 from its beginning, which take half the registers of pointers. First, the states
// before each step of the tile; once those are read, sums over channels.
// src/gpu/selective_scan/layout.rs counts the same bytes.
template <int LANES>
struct Shared {
    using S = Shape<LANES>;
    // This thread's A: read in every step, but registers are the scarcer.
    const int A;
    // What is summed over time alone: dB and dC of constant B and C.
    const int constant_B;
    const int constant_C;
    const int B;
    const int C;
    // Per step and channel: delta, x, and the gradient of the ungated output; then dx, ddelta, and the ungated output.
    const int delta;
    const int x;
    const int g;
    // The derivative of delta by the raw step.
    const int slope;
    // What a channel sums over time, like A kept here for the registers' sake, each in two f32: ddt_bias; and dD, or, in a
    // carry pass, delta.
    const int delta_sum;
    const int dD;
    const int ddt_bias;
    // Sums over earlier slabs, and over channels at 32 lanes.
    const int earlier;
    const int sums;

    __device__ __forceinline__ explicit Shared(const SsmSelectiveScanBwd &p)
        : A(p.tile * kUnit * kQuad), constant_B(A + kUnit * kQuad),
          constant_C(constant_B + (p.dB_constant.address ? kUnit * kQuad : 0)),
          B(constant_C + (p.dC_constant.address ? kUnit * kQuad : 0)),
          C(B + (p.B.constant ? S::kChannels : p.tile) * S::kSlab),
          delta(C + (p.C.constant ? S::kChannels : p.tile) * S::kSlab), x(delta + p.tile * S::kChannels),
          g(x + p.tile * S::kChannels), slope(g + p.tile * S::kChannels), delta_sum(slope + p.tile * S::kChannels),
          dD(delta_sum), ddt_bias(dD + 2 * S::kChannels), earlier(ddt_bias + 2 * S::kChannels),
          sums(S::kSlabs ? earlier + 3 * p.tile * S::kChannels : 0) {}

    __device__ __forceinline__ static float *at(int place) {
        return reinterpret_cast<float *>(shared_memory) + place;
    }
    // This thread's quads of a unit.
    __device__ __forceinline__ static float4 *own(int place) {
        return shared_memory + place / kQuad + threadIdx.x;
    }

    // Where this thread puts sum `q` of step `s`. Below 32 lanes that is where its own warp's states before the step were.
    __device__ __forceinline__ static int sum_at(int s, int q, int warp, int lane) {
        if (Shape<LANES>::kSlabs) {
            return (s * kWarp + q) * kThreads + warp * kWarp + lane;
        }
        return ((s * kQuads + q / kQuad) * kThreads + warp * kWarp) * kQuad + q % kQuad * kWarp + lane;
    }
};

template <typename T, int LANES>
struct Backward {
    using S = Shape<LANES>;
    const SsmSelectiveScanBwd &p;
    const Shared<LANES> shared;
    const Span span;
    const uint32_t seq;
    const uint32_t first_channel;
    const uint32_t channels;
    const uint32_t channel;
    const uint32_t lane;
    // Threads beyond the last channel compute with zeros: they take part in barriers and shuffles, and write nothing.
    const bool active;
    const uint32_t slabs;
    // The block's first tile of channels sets the sums over channels, the others add to them.
    const bool adds;

    __device__ __forceinline__ Backward(
        const SsmSelectiveScanBwd &p, uint32_t seq, uint32_t first, uint32_t channels, bool adds)
        : p(p), shared(p), span(p.spans, seq), seq(seq),
          first_channel(first), channels(channels),
          channel(threadIdx.x / LANES), lane(threadIdx.x % LANES), active(channel < channels),
          slabs(S::kSlabs ? max(1u, (p.dstate + S::kSlab - 1) / S::kSlab) : 1), adds(adds) {}

    // The part's row of states and sums.
    __device__ __forceinline__ int64_t row() const {
        return seq * p.spans.parts + blockIdx.z;
    }
    __device__ __forceinline__ uint32_t d() const {
        return first_channel + channel;
    }

    __device__ __forceinline__ int64_t at(const SsmSequence &s, uint32_t channel, int64_t t) const {
        return span.batch * s.batch_stride + (first_channel + channel) * s.dim_stride + t * s.seqlen_stride;
    }

    __device__ __forceinline__ float4 *own_states(int s) const {
        return shared_memory + s * kUnit + threadIdx.x;
    }

    // Units of the workspace: the states before a tile of the window, and what waits while another slab is worked on. They
    // belong to the block, not to the sequence: sequences take turns.
    __device__ __forceinline__ int64_t block_row() const {
        return ((static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z) * gridDim.x + blockIdx.x) * slabs;
    }
    __device__ __forceinline__ float4 *before_tile(int tile, uint32_t slab) const {
        // The first tile's are the window's own.
        const int64_t unit = (block_row() + slab) * (p.window_tiles - 1) + tile - 1;
        return reinterpret_cast<float4 *>(p.tile_states) + unit * kUnit + threadIdx.x;
    }
    __device__ __forceinline__ float4 *waiting(uint32_t slab, int what) const {
        return reinterpret_cast<float4 *>(p.slab_states) + ((block_row() + slab) * 5 + what) * kUnit + threadIdx.x;
    }

    __device__ __forceinline__ void copy_states(
        const SsmState &s, int64_t row, uint32_t slab, float4 *own, bool save) const {
        const int64_t offset = row * s.batch_stride + d() * s.dim_stride;
        copy_states_of<LANES>(reinterpret_cast<float *>(own), 1, s.address, offset, s.dstate_stride, slab, active ? p.dstate : 0, 0.0f, save);
    }
    __device__ __forceinline__ void load_A(uint32_t slab) const {
        const int64_t offset = d() * p.A.dim_stride;
        copy_states_of<LANES>(
            reinterpret_cast<float *>(shared.own(shared.A)), 1, p.A.address, offset, p.A.dstate_stride, slab, active ? p.dstate : 0, kAbsentA, false);
    }

    // The states before a tile: those of the last chunk, or those kept on the way forward.
    __device__ __forceinline__ void load_before(
        int w0, int tile, int first_chunk, uint32_t slab, float (&h)[kStates]) const {
        if (tile > 0) {
            load_quads(before_tile(tile, slab), h);
            return;
        }
        const SsmState &states = w0 == 0 ? p.initial_state : p.chunk_states;
        copy_states(states, w0 == 0 ? seq : first_chunk + w0 / p.spans.every - 1, slab, own_states(0), false);
        load_quads(own_states(0), h);
    }

    // delta and x of a tile; if `backward`, also the gradient of the ungated output. 0 beyond the last channel.
    __device__ __forceinline__ void stage_steps(int step0, int steps, bool backward) const {
        const bool by_time = p.x.seqlen_stride < p.x.dim_stride;
#pragma unroll 1
        for (int i = threadIdx.x; i < steps * S::kChannels; i += kThreads) {
            const int s = by_time ? i % steps : i / S::kChannels;
            const uint32_t c = by_time ? i / steps : i % S::kChannels;
            float delta = 0.0f, x = 0.0f, g = 0.0f, slope = 0.0f;
            if (c < channels) {
                const int64_t t = span.time(step0 + s);
                const float raw = T::load(reinterpret_cast<const void *>(p.dt.address), at(p.dt, c, t));
                delta = effective_step(raw + load_vector(p.dt_bias, first_channel + c, 0.0f), p.step, slope);
                x = T::load(reinterpret_cast<const void *>(p.x.address), at(p.x, c, t));
                if (backward && p.dout.address) {
                    g = T::load(reinterpret_cast<const void *>(p.dout.address), at(p.dout, c, t));
                    if (p.z.address) {
                        g *= silu(T::load(reinterpret_cast<const void *>(p.z.address), at(p.z, c, t)));
                    }
                }
            }
            *shared.at(shared.delta + s * S::kChannels + c) = delta;
            *shared.at(shared.x + s * S::kChannels + c) = x;
            if (backward) {
                *shared.at(shared.g + s * S::kChannels + c) = g;
                *shared.at(shared.slope + s * S::kChannels + c) = slope;
            }
        }
    }

    // B, unless there is no way forward, and C, unless there is none back.
    __device__ __forceinline__ void stage_rows(int step0, int steps, uint32_t slab, bool forward) const {
#pragma unroll 1
        for (int of_C = p.carry_only; of_C < (forward ? 1 : 2); ++of_C) {
            // Without a gradient of the output C is left out: even infinity times nothing is nothing.
            stage<T, LANES>(
                shared.at(of_C ? shared.C : shared.B), of_C ? p.C : p.B, span, step0, steps, first_channel, channels, slab,
                of_C && !p.dout.address ? 0 : p.dstate);
        }
    }

    // This lane's quads of B or C at step `s` of the tile.
    __device__ __forceinline__ const float *row_of(int staged, const SsmProjection &projection, int s) const {
        const int r = projection.constant ? min(channel, channels - 1) : s;
        return shared.at(staged + r * S::kSlab + lane * kQuad);
    }

    // Forward through a tile; the states before each step stay in shared memory.
    __device__ __forceinline__ void forward(int steps, float (&h)[kStates]) const {
#pragma unroll 1
        for (int s = 0; s < steps; ++s) {
            store_quads(own_states(s), h);
            const float delta = *shared.at(shared.delta + s * S::kChannels + channel);
            const float delta_x = delta * *shared.at(shared.x + s * S::kChannels + channel);
            const float *B = row_of(shared.B, p.B, s);
#pragma unroll
            for (int k = 0; k < kQuads; ++k) {
                const float4 a4 = shared.own(shared.A)[k * kThreads];
                const float4 b4 = *reinterpret_cast<const float4 *>(B + k * kQuad * LANES);
                const float A[kQuad] = {a4.x, a4.y, a4.z, a4.w};
                const float b[kQuad] = {b4.x, b4.y, b4.z, b4.w};
#pragma unroll
                for (int j = 0; j < kQuad; ++j) {
                    const int i = k * kQuad + j;
                    h[i] = fmaf(exp_approx(delta * A[j]), h[i], delta_x * b[j]);
                }
            }
        }
    }

    // Adds a value and what lies below its last bit to a sum in two f32. Nothing but its own error would disturb a sum of
    // numbers that are given: in one f32 it would be no better than the plainest loop.
    __device__ __forceinline__ void add_to(int place, float value, float below) const {
        float *high = shared.at(place), *low = shared.at(place + S::kChannels);
        const float before = *high;
        const float sum = __fadd_rn(before, value);
        const float added = __fadd_rn(sum, -before);
        *low += __fadd_rn(__fadd_rn(before, -__fadd_rn(sum, -added)), __fadd_rn(value, -added)) + below;
        *high = sum;
    }

    __device__ __forceinline__ void store_sum(const SsmRows &rows, uint32_t d, int place) const {
        store_row(rows, row(), d, *shared.at(place) + *shared.at(place + S::kChannels));
    }

    // Adds dB or dC of a constant projection, which this thread alone touches.
    __device__ __forceinline__ static void add_quads(float4 *sum, const float *v) {
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            float4 quad = sum[k * kThreads];
            quad.x += v[4 * k];
            quad.y += v[4 * k + 1];
            quad.z += v[4 * k + 2];
            quad.w += v[4 * k + 3];
            sum[k * kThreads] = quad;
        }
    }

    // dB or dC of a step: summed over the warp's channels, or over time.
    __device__ __forceinline__ void sum_states(const SsmProjectionSum &sum, const SsmState &constant, int own, float *v) const {
        if (constant.address) {
            add_quads(shared.own(own), v);
        }
        if (sum.address) {
            sum_over_channels<LANES>(v);
        }
    }
    __device__ __forceinline__ void put_sums(int s, int of_C, const float *v) const {
        if (!(of_C ? p.dC : p.dB).address) {
            return;
        }
#pragma unroll
        for (int q = 0; q < kSumsLeft<LANES>; ++q) {
            const int at = Shared<LANES>::sum_at(s, of_C * kSumsLeft<LANES> + q, threadIdx.x / kWarp, threadIdx.x % kWarp);
            *shared.at(shared.sums + at) = v[q];
        }
    }

    // What a step's gradient of the ungated output gives to the state and to dC; and that output.
    __device__ __forceinline__ float by_output(
        int s, float g, const float (&h)[kStates], float (&carry)[kStates], float (&dC)[kStates]) const {
        const float *C = row_of(shared.C, p.C, s);
        float y = 0.0f;
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            const float4 c4 = *reinterpret_cast<const float4 *>(C + k * kQuad * LANES);
            const float c[kQuad] = {c4.x, c4.y, c4.z, c4.w};
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                carry[i] = fmaf(g, c[j], carry[i]);
                y = fmaf(h[i], c[j], y);
                dC[i] = g * h[i];
            }
        }
        return y;
    }

    // dB of a step, and the sum of the state's gradient times B.
    __device__ __forceinline__ float by_input(int s, float delta_x, const float (&dh)[kStates], float (&dB)[kStates]) const {
        const float *B = row_of(shared.B, p.B, s);
        float by_B = 0.0f;
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            const float4 b4 = *reinterpret_cast<const float4 *>(B + k * kQuad * LANES);
            const float b[kQuad] = {b4.x, b4.y, b4.z, b4.w};
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                dB[i] = dh[i] * delta_x;
                by_B = fmaf(dh[i], b[j], by_B);
            }
        }
        return by_B;
    }

    // Through the decay of a step.
    __device__ __forceinline__ void decay(float delta, float (&carry)[kStates]) const {
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            const float4 a4 = shared.own(shared.A)[k * kThreads];
            const float A[kQuad] = {a4.x, a4.y, a4.z, a4.w};
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                carry[k * kQuad + j] *= exp_approx(delta * A[j]);
            }
        }
    }

    // What the decay of a step gives to A and to delta; h becomes the states before the step.
    __device__ __forceinline__ float by_decay(
        int s, float delta, const float (&carry)[kStates], float (&h)[kStates], float (&dA)[kStates]) const {
        float by_A = 0.0f;
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            const float4 h4 = own_states(s)[k * kThreads];
            const float4 a4 = shared.own(shared.A)[k * kThreads];
            const float before[kQuad] = {h4.x, h4.y, h4.z, h4.w};
            const float A[kQuad] = {a4.x, a4.y, a4.z, a4.w};
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                const float w = carry[i] * before[j];
                by_A = fmaf(w, A[j], by_A);
                dA[i] = fmaf(w, delta, dA[i]);
                h[i] = before[j];
            }
        }
        return by_A;
    }

    // Backward through one step. h: the states after it, then those before it. `carry`: what comes back through them; in a
    // carry pass nothing else is needed. In several loops over the states, so that fewer registers are live.
    __device__ __forceinline__ void step_back(
        int s, uint32_t slab, float (&h)[kStates], float (&carry)[kStates], float (&dA)[kStates]) const {
        const int place = s * S::kChannels + channel;
        const float delta = *shared.at(shared.delta + place);
        const float x = *shared.at(shared.x + place);
        const float g = *shared.at(shared.g + place);
        float by_B = 0.0f;
        float dC[kStates], dB[kStates];
        float y = by_output(s, g, h, carry, dC);
        if (!p.carry_only) {
            sum_states(p.dC, p.dC_constant, shared.constant_C, dC);
            // A place of their own: no need to wait.
            if (S::kSlabs) {
                put_sums(s, 1, dC);
            }
            by_B = by_input(s, delta * x, carry, dB);
            sum_states(p.dB, p.dB_constant, shared.constant_B, dB);
            if (S::kSlabs) {
                put_sums(s, 0, dB);
            }
        }
        decay(delta, carry);
        if (p.carry_only) {
            if (lane == 0 && slab == 0) {
                add_to(shared.delta_sum + channel, delta, 0.0f);
            }
            return;
        }
        float by_A = p.no_states ? 0.0f : by_decay(s, delta, carry, h, dA);
        y = sum_over_lanes<LANES>(y);
        by_B = sum_over_lanes<LANES>(by_B);
        by_A = sum_over_lanes<LANES>(by_A);
        // From here on other lanes' states and steps of this warp are overwritten.
        __syncwarp();
        if (lane == 0) {
            put(s, slab, delta, x, g, y, by_B, by_A);
        }
        if (!S::kSlabs) {
            put_sums(s, 0, dB);
            put_sums(s, 1, dC);
        }
    }

    // dx, ddelta and the ungated output of a step, once all slabs have been there.
    __device__ __forceinline__ void put(
        int s, uint32_t slab, float delta, float x, float g, float y, float by_B, float by_A) const {
        const int place = s * S::kChannels + channel;
        if (S::kSlabs) {
            float *earlier = shared.at(shared.earlier + 3 * place);
            y += slab > 0 ? earlier[0] : 0.0f;
            by_B += slab > 0 ? earlier[1] : 0.0f;
            by_A += slab > 0 ? earlier[2] : 0.0f;
            if (slab + 1 < slabs) {
                earlier[0] = y;
                earlier[1] = by_B;
                earlier[2] = by_A;
                return;
            }
        }
        const float D = active ? load_vector(p.D, d(), 0.0f) : 0.0f;
        // Without states there is nothing to sum, not even 0 * infinity.
        const bool none = p.dstate == 0;
        *shared.at(shared.delta + place) = fmaf(g, p.dout.address ? D : 0.0f, none ? 0.0f : by_B * delta);
        *shared.at(shared.x + place) = none ? 0.0f : fmaf(by_B, x, by_A);
        *shared.at(shared.g + place) = fmaf(D, x, none ? 0.0f : y);
        const float product = g * x;
        add_to(shared.dD + channel, product, fmaf(g, x, -product));
    }

    // dB and dC of a tile: the sum over the block's channels.
    __device__ __forceinline__ void write_sums(int step0, int steps, uint32_t slab) const {
        const int tile = p.tile;
#pragma unroll 1
        for (int i = threadIdx.x; i < 2 * S::kSlab * tile; i += kThreads) {
            const int s = i % tile;
            const int of_C = i / (tile * S::kSlab);
            const int in_slab = i / tile % S::kSlab;
            const uint32_t n = slab * S::kSlab + in_slab;
            const SsmProjectionSum &target = of_C ? p.dC : p.dB;
            if (s >= steps || n >= p.dstate || !target.address) {
                continue;
            }
            // The thread that `sum_over_channels` left it to.
            const int state = in_slab / (kQuad * LANES) * kQuad + in_slab % kQuad;
            const int keeper = LANES == 1 ? 2 * state : state / kSumsLeft<LANES>;
            const int thread = keeper * LANES + in_slab / kQuad % LANES;
            const int q = of_C * kSumsLeft<LANES> + state % kSumsLeft<LANES>;
            float sum = 0.0f;
#pragma unroll
            for (int warp = 0; warp < kWarps; ++warp) {
                const float part = *shared.at(shared.sums + Shared<LANES>::sum_at(s, q, warp, thread));
                sum = warp == 0 ? part : sum + part;
            }
            write_sum(target, of_C ? p.C : p.B, span.time(step0 + s), n, sum);
        }
    }

    __device__ __forceinline__ void write_sum(
        const SsmProjectionSum &target, const SsmProjection &projection, int64_t t, uint32_t n, float sum) const {
        const uint32_t group = first_channel / projection.channels_per_group;
        const int64_t offset = span.batch * target.batch_stride + group * target.ngroups_stride +
                               n * target.dstate_stride + t * target.seqlen_stride;
        if (!target.partial) {
            T::store(reinterpret_cast<void *>(target.address), offset, sum);
            return;
        }
        const uint32_t run_of_group = first_channel / p.run % (projection.channels_per_group / p.run);
        const int64_t slice = run_of_group * p.blocks_per_run + blockIdx.x % p.blocks_per_run;
        float *place = reinterpret_cast<float *>(target.address) + slice * target.partial_stride + offset;
        *place = adds ? *place + sum : sum;
    }

    // dx, ddt and dz of a tile, from what `put` left.
    __device__ __forceinline__ void write_steps(int step0, int steps) const {
        const bool by_time = p.x.seqlen_stride < p.x.dim_stride;
#pragma unroll 1
        for (int i = threadIdx.x; i < steps * static_cast<int>(channels); i += kThreads) {
            const int s = by_time ? i % steps : i / static_cast<int>(channels);
            const uint32_t c = by_time ? i / steps : i % channels;
            const int place = s * S::kChannels + c;
            const int64_t t = span.time(step0 + s);
            if (p.dx.address) {
                T::store(reinterpret_cast<void *>(p.dx.address), at(p.dx, c, t), *shared.at(shared.delta + place));
            }
            if (p.ddt.address || p.ddt_bias.address) {
                const float slope = *shared.at(shared.slope + place);
                // Where the clamp holds, even an infinite gradient is none.
                const float ddt = slope == 0.0f ? 0.0f : *shared.at(shared.x + place) * slope;
                *shared.at(shared.x + place) = ddt;
                if (p.ddt.address) {
                    T::store(reinterpret_cast<void *>(p.ddt.address), at(p.ddt, c, t), ddt);
                }
            }
            if (p.dz.address) {
                const float z = T::load(reinterpret_cast<const void *>(p.z.address), at(p.z, c, t));
                const float gate = sigmoid(z);
                const float slope = gate * fmaf(z, 1.0f - gate, 1.0f);
                const float dout = T::load(reinterpret_cast<const void *>(p.dout.address), at(p.dout, c, t));
                T::store(reinterpret_cast<void *>(p.dz.address), at(p.dz, c, t), dout * *shared.at(shared.g + place) * slope);
            }
        }
    }

    // What a slab keeps while another is worked on: carry and dA, and what lies in shared memory.
    __device__ __forceinline__ void copy_waiting(uint32_t slab, bool save) const {
#pragma unroll 1
        for (int what = 2; what < 5; ++what) {
            const int place = what == 2   ? shared.A
                              : what == 3 ? (p.dB_constant.address ? shared.constant_B : 0)
                                          : (p.dC_constant.address ? shared.constant_C : 0);
#pragma unroll 1
            for (int k = 0; k < kQuads && place != 0; ++k) {
                float4 *own = shared.own(place) + k * kThreads;
                float4 *there = waiting(slab, what) + k * kThreads;
                *(save ? there : own) = *(save ? own : there);
            }
        }
    }
    __device__ __forceinline__ void suspend(uint32_t slab, const float (&carry)[kStates], const float (&dA)[kStates]) const {
        store_quads(waiting(slab, 0), carry);
        store_quads(waiting(slab, 1), dA);
        copy_waiting(slab, true);
    }
    __device__ __forceinline__ void resume(uint32_t slab, float (&carry)[kStates], float (&dA)[kStates]) const {
        load_quads(waiting(slab, 0), carry);
        load_quads(waiting(slab, 1), dA);
        copy_waiting(slab, false);
    }

    // Zero sums, and what comes back through the end of the part.
    __device__ __forceinline__ void start(float (&carry)[kStates], float (&dA)[kStates]) const {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            dA[i] = 0.0f;
        }
        for (int i = threadIdx.x; i < 4 * S::kChannels; i += kThreads) {
            *shared.at(shared.delta_sum + i) = 0.0f;
        }
#pragma unroll 1
        for (int k = 0; k < kQuads; ++k) {
            const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (p.dB_constant.address) {
                shared.own(shared.constant_B)[k * kThreads] = zero;
            }
            if (p.dC_constant.address) {
                shared.own(shared.constant_C)[k * kThreads] = zero;
            }
        }
#pragma unroll 1
        for (uint32_t slab = 0; slab < slabs; ++slab) {
            load_A(slab);
            copy_states(p.dlast, row(), slab, own_states(0), false);
            load_quads(own_states(0), carry);
            if (S::kSlabs) {
                suspend(slab, carry, dA);
            }
        }
    }

    __device__ __forceinline__ void finish(float (&carry)[kStates], float (&dA)[kStates]) const {
        __syncthreads();
#pragma unroll 1
        for (uint32_t slab = 0; slab < slabs; ++slab) {
            if (S::kSlabs) {
                resume(slab, carry, dA);
            }
            store_quads(own_states(0), carry);
            store_quads(own_states(1), dA);
#pragma unroll 1
            for (int what = 0; what < (p.carry_only ? 1 : 4); ++what) {
                const SsmState &to = (&p.dfirst)[what];
                float4 *constant = shared.own(what == 2 ? shared.constant_B : shared.constant_C);
                const bool per_sequence = what == 0 && !p.first_per_part;
                const int64_t to_row = per_sequence ? seq : row();
                copy_states_of<LANES>(
                    reinterpret_cast<float *>(what < 2 ? own_states(what) : constant), 1, per_sequence && blockIdx.z > 0 ? 0 : to.address,
                    to_row * to.batch_stride + d() * to.dim_stride, to.dstate_stride, slab, active ? p.dstate : 0, 0.0f, true);
            }
        }
        if (lane == 0 && active && p.dD.address) {
            store_sum(p.dD, d(), shared.dD + channel);
        }
        if (lane == 0 && active && p.delta_sum.address) {
            store_sum(p.delta_sum, d(), shared.delta_sum + channel);
        }
        if (threadIdx.x < channels && p.ddt_bias.address) {
            store_sum(p.ddt_bias, first_channel + threadIdx.x, shared.ddt_bias + threadIdx.x);
        }
    }

    // A tile on one slab: on the way forward, the states before the next; on the way back, all that it wrote.
    __device__ __forceinline__ void pass(
        int w0, int tile, int first_chunk, uint32_t slab, bool ahead, float (&h)[kStates],
        float (&carry)[kStates], float (&dA)[kStates]) const {
        const int step0 = w0 + tile * p.tile;
        const int steps = min(static_cast<int>(p.tile), span.end - step0);
        __syncthreads();
        if (S::kSlabs) {
            resume(slab, carry, dA);
        }
        // On the way forward the states are still there.
        if (!p.no_states && (!ahead || S::kSlabs || tile == 0)) {
            load_before(w0, tile, first_chunk, slab, h);
        }
        stage_rows(step0, steps, slab, ahead);
        if (slab == 0) {
            stage_steps(step0, steps, !ahead);
        }
        __syncthreads();
        if (!p.no_states) {
            forward(steps, h);
        }
        if (ahead) {
            store_quads(before_tile(tile + 1, slab), h);
            return;
        }
#pragma unroll 1
        for (int s = steps - 1; s >= 0; --s) {
            step_back(s, slab, h, carry, dA);
        }
        if (S::kSlabs) {
            suspend(slab, carry, dA);
        }
        if (!p.carry_only) {
            __syncthreads();
            write_sums(step0, steps, slab);
            if (slab + 1 == slabs) {
                write_steps(step0, steps);
            }
        }
        if (p.ddt_bias.address && slab + 1 == slabs) {
            __syncthreads();
#pragma unroll 1
            for (int s = steps - 1; s >= 0 && threadIdx.x < channels; --s) {
                add_to(shared.ddt_bias + threadIdx.x, *shared.at(shared.x + s * S::kChannels + threadIdx.x), 0.0f);
            }
        }
    }

    __device__ __forceinline__ void run() const {
        const bool one_window = span.len <= p.spans.every;
        const int first_chunk = p.no_states || one_window ? 0 : static_cast<int>(chunks_before(p.spans, seq));
        float h[kStates] = {}, carry[kStates], dA[kStates];
        start(carry, dA);
        // As long as the sequence, if that is shorter.
        const int every = static_cast<int>(min(p.spans.every, static_cast<int64_t>(max(span.len, 1))));
        const int windows = span.end > span.begin ? (span.end - span.begin - 1) / every + 1 : 0;
#pragma unroll 1
        for (int window = windows - 1; window >= 0; --window) {
            const int w0 = span.begin + window * every;
            const int tiles = (min(every, span.end - w0) + static_cast<int>(p.tile) - 1) / static_cast<int>(p.tile);
            const int ahead = p.no_states ? 0 : tiles - 1;
#pragma unroll 1
            for (int i = 0; i < ahead + tiles; ++i) {
                const int tile = i < ahead ? i : ahead + tiles - 1 - i;
#pragma unroll 1
                for (uint32_t slab = 0; slab < slabs; ++slab) {
                    pass(w0, tile, first_chunk, slab, i < ahead, h, carry, dA);
                }
            }
        }
        finish(carry, dA);
    }
};

template <typename T, int LANES>
__device__ __forceinline__ void selective_scan_bwd(const SsmSelectiveScanBwd &p) {
    using S = Shape<LANES>;
    const uint32_t tiles_per_run = (p.run + S::kChannels - 1) / S::kChannels;
    const uint32_t first_tile = blockIdx.x % p.blocks_per_run * p.tiles_per_block;
    const uint32_t last_tile = min(first_tile + p.tiles_per_block, tiles_per_run);
#pragma unroll 1
    for (uint32_t seq = blockIdx.y; seq < p.spans.nseqs; seq += gridDim.y) {
#pragma unroll 1
        for (uint32_t tile = first_tile; tile < last_tile; ++tile) {
            const uint32_t in_run = tile * S::kChannels;
            const uint32_t first = blockIdx.x / p.blocks_per_run * p.run + in_run;
            const uint32_t channels = min(static_cast<uint32_t>(S::kChannels), p.run - in_run);
            Backward<T, LANES>(p, seq, first, channels, tile > first_tile).run();
        }
    }
}

}  // namespace

#define ENTRY(DTYPE_NAME, DTYPE, LANES)                                                                      \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)                                          \
        selective_scan_bwd_##DTYPE_NAME##_lanes##LANES(const __grid_constant__ SsmSelectiveScanBwd params) { \
        selective_scan_bwd<DTYPE, LANES>(params);                                                            \
    }

#define ENTRIES(DTYPE_NAME, DTYPE) \
    ENTRY(DTYPE_NAME, DTYPE, 1)    \
    ENTRY(DTYPE_NAME, DTYPE, 4)    \
    ENTRY(DTYPE_NAME, DTYPE, 8)    \
    ENTRY(DTYPE_NAME, DTYPE, 32)

// One file per dtype: -DSSM_F32, -DSSM_F16 or -DSSM_BF16.
#if defined(SSM_F32)
ENTRIES(f32, F32)
#elif defined(SSM_F16)
ENTRIES(f16, F16)
#elif defined(SSM_BF16)
ENTRIES(bf16, BF16)
#endif
