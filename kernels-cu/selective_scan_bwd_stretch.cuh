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

// Steps of a stretch, as many as a thread moves at once, numbered as they lie in memory: from the stretch's first on, then
// `on` to the next.
template <typename T, int LANES>
struct Piece {
    using S = Places<LANES>;
    using Bits = typename T::Bits;
    static constexpr int kSteps = S::kPiece;
    static constexpr int kWords = kSteps / T::kPerWord;
    const Block<T, LANES> &b;
    const bool reverse;
    // The channel, and whether it is one.
    const uint32_t thread;
    const bool there;
    const bool aligned;
    // The time of number 0, and the steps from the first in scan order to the end.
    int lowest;
    int steps;
    // The row of number 0 of those that a channel has in shared memory, and from a number's row to the next.
    uint32_t row;
    const uint32_t row_on;

    __device__ __forceinline__ Piece(const Block<T, LANES> &b, int stretch, int end)
        : b(b), reverse(b.p.spans.reverse), thread(this_thread()), there(thread < b.channels()),
          aligned(S::kMoved && (b.number(kLies) & kAligned) != 0), lowest(b.time(stretch + (reverse ? kSteps - 1 : 0))),
          steps(end - stretch), row((reverse ? kSteps - 1 : 0) * S::kChannels + thread),
          row_on(reverse ? -S::kChannels : S::kChannels) {}

    __device__ __forceinline__ void on() {
        lowest += reverse ? -kSteps : kSteps;
        steps -= kSteps;
        row += kSteps * S::kChannels;
    }
    // Whether there is a step of this number, and whether all are and can be moved at once.
    __device__ __forceinline__ bool has(int i) const {
        return (reverse ? kSteps - 1 - i : i) < steps;
    }
    __device__ __forceinline__ bool whole() const {
        return aligned && steps >= kSteps && lowest % kSteps == 0;
    }
    // This thread's place for number i among values of which a channel has `bytes`.
    __device__ __forceinline__ uint32_t place(int values, int bytes, int i) const {
        return b.base + row * bytes + i * (row_on * bytes) + values;
    }
    // Of sequence `which` (`kSequences`), at number 0.
    __device__ __forceinline__ Bits *at(int which, const SsmSequence &s) const {
        return reinterpret_cast<Bits *>(b.address(kSequences + 2 * which)) +
               (thread * s.dim_stride + lowest * s.seqlen_stride);
    }

    // 0 for steps that are not there.
    __device__ __forceinline__ void load(int which, const SsmSequence &s, float (&v)[kSteps]) const {
        const Bits *from = at(which, s);
        if (S::kMoved && whole()) {
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
            v[i] = has(i) ? T::decode(from[i * s.seqlen_stride]) : 0.0f;
        }
    }
    __device__ __forceinline__ void store(int which, const SsmSequence &s, const float (&v)[kSteps]) const {
        if (!s.address) {
            return;
        }
        Bits *to = at(which, s);
        if (S::kMoved && whole()) {
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
            if (has(i)) {
                to[i * s.seqlen_stride] = T::encode(v[i]);
            }
        }
    }

    // delta from the raw steps, and, on the way back, its derivative by them. The comparisons keep NaN.
    __device__ __forceinline__ void effective_steps(bool ahead, float (&delta)[kSteps], float (&slope)[kSteps]) const {
        const SsmStep &rule = b.p.step;
        const float bias = get(b.base + S::kD + thread * 8 + 4);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            delta[i] += bias;
            slope[i] = 1.0f;
        }
        if (rule.softplus) {
            float e[kSteps];
            exp_of_minus_magnitude_each(delta, e);
            if (!ahead) {
#pragma unroll
                for (int i = 0; i < kSteps; ++i) {
                    slope[i] = logistic_of(delta[i], e[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                delta[i] = softplus_of(delta[i], e[i]);
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
            load(1, p.dt, delta);
            load(0, p.x, x);
            effective_steps(ahead, delta, slope);
        }
        if (thread < S::kChannels) {
            put_pairs(S::kDeltaX, delta, x);
        }
        if (ahead || thread >= S::kChannels) {
            return;
        }
        float g[kSteps] = {}, gate[kSteps] = {};
        if (there && p.dout.address) {
            load(3, p.dout, g);
            if (p.z.address) {
                load(2, p.z, gate);
                float silus[kSteps], slopes[kSteps];
                silu_each<true>(gate, silus, slopes);
#pragma unroll
                for (int i = 0; i < kSteps; ++i) {
                    gate[i] = slopes[i] * g[i];
                    g[i] *= silus[i];
                }
            }
        }
        put_pairs(S::kGradient, g, slope);
        const float D = get(b.base + S::kD + thread * 8);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            set2(place(S::kGate, 8, i), gate[i], D);
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
        float sum[1] = {};
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            // Steps that are not there have a delta.
            const float step_delta = has(i) ? delta[i] : 0.0f;
            sum[0] = b.p.carry_only ? sum[0] + step_delta : fmaf(g[i], x[i], sum[0]);
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
            dz[i] = get(place(S::kGate, 8, i));
        }
        store(4, p.dx, dx);
        store(5, p.ddt, ddt);
        store(6, p.dz, dz);
        if (p.ddt_bias.address) {
            float sum[1] = {};
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                sum[0] += has(i) ? ddt[i] : 0.0f;
            }
            b.add_to(S::kChannelSums + S::kPairBytes, thread, sum);
        }
    }
};

// An element of B or C into its places.
template <typename T, int LANES>
__device__ __forceinline__ void put_variants(const Block<T, LANES> &b, uint32_t s, uint32_t of_C, uint32_t in_slab, float value) {
    using S = Places<LANES>;
    const uint32_t place = S::kRows + (2 * s + of_C) * S::kRow + in_slab * 4;
#pragma unroll
    for (int v = 0; v < S::kVariants; ++v) {
        set(b.base + (S::kVariants == 1 ? place : place ^ (v * S::kSlab | S::flipped(v)) * 4), value);
    }
}

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
        const uint32_t dstate = of_C && !p.dout.address ? 0 : p.dstate;
        const void *row = reinterpret_cast<const void *>(b.address(kProjections + 2 * of_C));
        const bool by_time = from.seqlen_stride < from.dstate_stride;
        const int first = b.time(step0), on = p.spans.reverse ? -1 : 1;
#pragma unroll 2
        for (int turn = 0; turn < S::kStretch * S::kSlab / kThreads; ++turn) {
            const uint32_t i = turn * kThreads + this_thread();
            const int s = by_time ? i % S::kStretch : i / S::kSlab;
            const uint32_t in_slab = by_time ? i / S::kStretch : i % S::kSlab;
            const uint32_t n = slab * S::kSlab + in_slab;
            float value = 0.0f;
            if (s < steps && n < dstate) {
                value = T::load(row, n * from.dstate_stride + (first + s * on) * from.seqlen_stride);
            }
            put_variants<T, LANES>(b, s, of_C, in_slab, value);
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
