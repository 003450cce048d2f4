// The inputs of a stretch of steps, on their way to shared memory, and the gradients of its sequences, on their way back. Of
// the sequences a thread has the steps of a channel, a piece of them after the other. Where they lie side by side and aligned
// a piece is moved at once, else one by one, with neighbouring channels in neighbouring lanes.
#pragma once

#include "selective_scan_bwd_block.cuh"

namespace {

__device__ __forceinline__ void load_words(const void *from, uint32_t (&words)[4]) {
    const uint4 v = *static_cast<const uint4 *>(from);
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}
__device__ __forceinline__ void load_words(const void *from, uint32_t (&words)[2]) {
    const uint2 v = *static_cast<const uint2 *>(from);
    words[0] = v.x, words[1] = v.y;
}
__device__ __forceinline__ void load_words(const void *from, uint32_t (&words)[1]) {
    words[0] = *static_cast<const uint32_t *>(from);
}
__device__ __forceinline__ void store_words(void *to, const uint32_t (&words)[4]) {
    *static_cast<uint4 *>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}
__device__ __forceinline__ void store_words(void *to, const uint32_t (&words)[2]) {
    *static_cast<uint2 *>(to) = make_uint2(words[0], words[1]);
}
__device__ __forceinline__ void store_words(void *to, const uint32_t (&words)[1]) {
    *static_cast<uint32_t *>(to) = words[0];
}

// Steps of a stretch, as many as a thread moves at once: from step0 on, numbered as they lie in memory. Number 0 is at time
// `lowest`.
template <typename T, int LANES>
struct Piece {
    using S = Places<LANES>;
    using Bits = typename T::Bits;
    static constexpr int kSteps = S::kPiece;
    static constexpr int kWords = kSteps / T::kPerWord;
    const Block<T, LANES> &b;
    // The channel, and its number among those of the tensors.
    const uint32_t thread;
    const uint32_t d;
    const bool there;
    const int64_t batch;
    // Of the stretch.
    const int first;
    const int steps;
    const int lowest;
    const bool whole;

    __device__ __forceinline__ Piece(const Block<T, LANES> &b, int stretch, int first, int end)
        : b(b), thread(this_thread()), d(b.first_channel() + thread), there(thread < b.channels()), batch(b.batch()),
          first(first), steps(min(kSteps, end - stretch - first)),
          lowest(b.time(stretch + first + (b.p.spans.reverse ? kSteps - 1 : 0))),
          whole(steps == kSteps && b.number(kAligned) && lowest % kSteps == 0) {}

    // The step in scan order of a number, from the piece's first on.
    __device__ __forceinline__ int step(int i) const {
        return b.p.spans.reverse ? kSteps - 1 - i : i;
    }
    // This thread's place for step number i among values of which a channel has `bytes`.
    __device__ __forceinline__ uint32_t place(int values, int bytes, int i) const {
        return b.base + values + ((first + step(i)) * S::kChannels + thread) * bytes;
    }
    __device__ __forceinline__ Bits *at(const SsmSequence &s) const {
        return reinterpret_cast<Bits *>(s.address) + (batch * s.batch_stride +
               d * s.dim_stride + lowest * s.seqlen_stride);
    }

    // 0 for steps that are not there.
    __device__ __forceinline__ void load(const SsmSequence &s, float (&v)[kSteps]) const {
        const Bits *from = at(s);
        if (S::kMoved && whole) {
            uint32_t words[kWords];
            load_words(from, words);
#pragma unroll
            for (int i = 0; i < kWords; ++i) {
                T::unpack(words[i], v + i * T::kPerWord);
            }
            return;
        }
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            v[i] = step(i) < steps ? T::decode(from[i * s.seqlen_stride]) : 0.0f;
        }
    }
    __device__ __forceinline__ void store(const SsmSequence &s, const float (&v)[kSteps]) const {
        if (!s.address) {
            return;
        }
        Bits *to = at(s);
        if (S::kMoved && whole) {
            uint32_t words[kWords];
#pragma unroll
            for (int i = 0; i < kWords; ++i) {
                words[i] = T::pack(v + i * T::kPerWord);
            }
            store_words(to, words);
            return;
        }
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            if (step(i) < steps) {
                to[i * s.seqlen_stride] = T::encode(v[i]);
            }
        }
    }

    // delta from the raw steps, and its derivative by them. The comparisons keep NaN.
    __device__ __forceinline__ void effective_steps(float (&delta)[kSteps], float (&slope)[kSteps]) const {
        const SsmStep &rule = b.p.step;
        const float bias = load_vector(b.p.dt_bias, d, 0.0f);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            delta[i] += bias;
            slope[i] = 1.0f;
        }
        if (rule.softplus) {
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                delta[i] = softplus_by(delta[i], slope[i]);
            }
        }
        if (rule.limited) {
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                const bool below = delta[i] < rule.min, above = delta[i] > rule.max;
                slope[i] = below || above ? 0.0f : slope[i];
                delta[i] = below ? rule.min : above ? rule.max : delta[i];
            }
        }
    }

    // delta and x; on the way back also the gradient of the ungated output, and what makes dz of that output. Zeros beyond the
    // last channel.
    __device__ __forceinline__ void stage(bool ahead) const {
        const SsmSelectiveScanBwd &p = b.p;
        float delta[kSteps] = {}, slope[kSteps] = {}, x[kSteps] = {};
        if (there) {
            load(p.dt, delta);
            load(p.x, x);
            effective_steps(delta, slope);
        }
        if (thread < S::kChannels) {
            put_pairs(S::kDeltaX, delta, x);
        }
        if (ahead || thread >= S::kChannels) {
            return;
        }
        float g[kSteps] = {}, gate[kSteps] = {};
        if (there && p.dout.address) {
            load(p.dout, g);
            if (p.z.address) {
                load(p.z, gate);
#pragma unroll
                for (int i = 0; i < kSteps; ++i) {
                    const float silu = silu_by(gate[i], gate[i]);
                    gate[i] *= g[i];
                    g[i] *= silu;
                }
            }
        }
        put_pairs(S::kGradient, g, slope);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            set(place(S::kGate, 4, i), gate[i]);
        }
        sum_over_steps(delta, x, g);
    }

    __device__ __forceinline__ void put_pairs(int values, const float (&first)[kSteps], const float (&second)[kSteps]) const {
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            set2(place(values, 8, i), first[i], second[i]);
        }
    }

    // dD, or, in a carry pass, the sum of delta.
    __device__ __forceinline__ void sum_over_steps(
        const float (&delta)[kSteps], const float (&x)[kSteps], const float (&g)[kSteps]) const {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            // Steps that are not there have a delta.
            const float step_delta = step(i) < steps ? delta[i] : 0.0f;
            sum = b.p.carry_only ? sum + step_delta : fmaf(g[i], x[i], sum);
        }
        b.add_to(S::kChannelSums, thread, sum);
    }

    // dx, ddt, dz and ddt_bias, from what the steps left.
    __device__ __forceinline__ void write() const {
        const SsmSelectiveScanBwd &p = b.p;
        if (!there) {
            return;
        }
        float dx[kSteps], ddt[kSteps], dz[kSteps];
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            const float2 pair = get2(place(S::kDeltaX, 8, i));
            dx[i] = pair.x;
            ddt[i] = pair.y;
            dz[i] = get(place(S::kGate, 4, i));
        }
        store(p.dx, dx);
        store(p.ddt, ddt);
        store(p.dz, dz);
        if (p.ddt_bias.address) {
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                sum += step(i) < steps ? ddt[i] : 0.0f;
            }
            b.add_to(S::kChannelSums + S::kPairBytes, thread, sum);
        }
    }
};

// B of a stretch, and C unless there is no way back, as f32: of a step, or, if it is constant, of a channel. States beyond
// dstate are 0, and so is C without a gradient of the output: even infinity times nothing is nothing.
template <typename T, int LANES>
__device__ __forceinline__ void stage_projections(
    const Block<T, LANES> &b, int step0, int steps, uint32_t slab, bool forward) {
    using S = Places<LANES>;
    const SsmSelectiveScanBwd &p = b.p;
#pragma unroll 1
    for (int of_C = p.carry_only; of_C < (forward ? 1 : 2); ++of_C) {
        const SsmProjection &from = of_C ? p.C : p.B;
        if (from.constant) {
            continue;
        }
        const void *base = reinterpret_cast<const void *>(from.address);
        const uint32_t dstate = of_C && !p.dout.address ? 0 : p.dstate;
        const bool by_time = from.seqlen_stride < from.dstate_stride;
        const int64_t group = b.number(kGroup + of_C);
        const int64_t offset = static_cast<int64_t>(b.batch()) * from.batch_stride + group * from.ngroups_stride;
#pragma unroll 2
        for (int i = this_thread(); i < S::kStretch * S::kSlab; i += kThreads) {
            const int s = by_time ? i % S::kStretch : i / S::kSlab;
            const uint32_t in_slab = by_time ? i / S::kStretch : i % S::kSlab;
            const uint32_t n = slab * S::kSlab + in_slab;
            float value = 0.0f;
            if (s < steps && n < dstate) {
                value = T::load(base, offset + n * from.dstate_stride + b.time(step0 + s) * from.seqlen_stride);
            }
            const uint32_t place = S::kRows + (2 * s + of_C) * S::kRow + in_slab * 4;
#pragma unroll
            for (int v = 0; v < S::kVariants; ++v) {
                set(b.base + (S::kVariants == 1 ? place : place ^ (v * S::kSlab | S::flipped(v)) * 4), value);
            }
        }
    }
}

template <typename T, int LANES>
__device__ __forceinline__ void stage_constants(const Block<T, LANES> &b, uint32_t slab) {
    using S = Places<LANES>;
    const SsmSelectiveScanBwd &p = b.p;
#pragma unroll 1
    for (int of_C = 0; of_C < 2; ++of_C) {
        const SsmProjection &from = of_C ? p.C : p.B;
        const uint32_t dstate = of_C && !p.dout.address ? 0 : p.dstate;
#pragma unroll 1
        for (int i = this_thread(); from.constant && i < S::kChannels * S::kSlab; i += kThreads) {
            const uint32_t c = i / S::kSlab, in_slab = i % S::kSlab;
            const uint32_t n = slab * S::kSlab + in_slab;
            float value = 0.0f;
            if (c < b.channels() && n < dstate) {
                const int64_t offset = (b.first_channel() + c) * from.dim_stride + n * from.dstate_stride;
                value = F32::load(reinterpret_cast<const void *>(from.address), offset);
            }
            const uint32_t flipped = S::flipped(S::variant(S::flip_of(c * LANES)));
            set(b.base + (of_C ? b.constant_C() : b.constant_B()) + (c * S::kSlab + (in_slab ^ flipped)) * 4, value);
        }
    }
}

}  // namespace
