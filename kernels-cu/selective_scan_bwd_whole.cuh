// A stretch as `Piece` sees to it, the same arithmetic without its questions: where all of its steps and channels are there,
// forward in time, with softplus and a gradient of the output. MOVED: all steps of a channel are moved at once.
#pragma once

#include "selective_scan_bwd_stretch.cuh"

namespace {

template <typename T, int LANES, bool MOVED>
struct WholeStretch {
    using S = Places<LANES>;
    using Bits = typename T::Bits;
    static constexpr int kSteps = S::kStretch;
    static constexpr int kPiece = S::kPiece;
    // What is loaded: words of several elements, or elements.
    static constexpr int kWords = MOVED ? kSteps / T::kPerWord : kSteps;
    using Words = uint32_t[kWords];
    const Block<T, LANES> &b;
    // Of the stretch's first step.
    const int time;
    const uint32_t thread;

    __device__ __forceinline__ WholeStretch(const Block<T, LANES> &b, int step0)
        : b(b), time(b.number(kOrigin) + step0), thread(this_thread()) {}

    // Whether a stretch is one of these, and whether all of its steps are to be moved at once.
    __device__ __forceinline__ static bool is_one(const Block<T, LANES> &b, int step0, int end) {
        return (b.number(kLies) & kUsual) != 0 && step0 + kSteps <= end;
    }
    __device__ __forceinline__ bool is_moved() const {
        return (b.number(kLies) & kMovedAtOnce) != 0 && time % kSteps == 0;
    }

    // Strides, and distances within a block, have 31 bits, or that is not usual.
    __device__ __forceinline__ static int64_t product(int a, int64_t stride, int64_t more) {
        asm("mad.wide.s32 %0, %1, %2, %0;" : "+l"(more) : "r"(a), "r"(static_cast<int>(stride)));
        return more;
    }
    __device__ __forceinline__ static Bits *moved_on(Bits *from, int64_t by) {
        from += by;
        // Or else each place would be made anew from the first.
        asm("" : "+l"(from));
        __builtin_assume(__isGlobal(from));
        return from;
    }
    __device__ __forceinline__ Bits *at(int which, const SsmSequence &s) const {
        Bits *first = reinterpret_cast<Bits *>(b.address(kSequences + 2 * which));
        const int channel = static_cast<int>(thread) * static_cast<int>(s.dim_stride);
        return MOVED ? first + (channel + time) : moved_on(first, product(time, s.seqlen_stride, channel));
    }
    __device__ __forceinline__ void load(int which, const SsmSequence &s, Words &words) const {
        Bits *from = at(which, s);
#pragma unroll
        for (int i = 0; i < kWords && !MOVED; ++i) {
            words[i] = *from;
            from = moved_on(from, static_cast<int>(s.seqlen_stride));
        }
#pragma unroll
        for (int i = 0; i < kWords && MOVED; i += 4) {
            const uint4 v = reinterpret_cast<const uint4 *>(from)[i / 4];
            words[i] = v.x, words[i + 1] = v.y, words[i + 2] = v.z, words[i + 3] = v.w;
        }
    }
    __device__ __forceinline__ static void unpack(const Words &words, float (&v)[kSteps]) {
#pragma unroll
        for (int i = 0; i < kWords; ++i) {
            if constexpr (MOVED) {
                T::unpack(words[i], v + i * T::kPerWord);
            } else {
                v[i] = T::decode(static_cast<Bits>(words[i]));
            }
        }
    }
    __device__ __forceinline__ void store(int which, const SsmSequence &s, const float (&v)[kSteps]) const {
        if (!s.address) {
            return;
        }
        Bits *to = at(which, s);
#pragma unroll
        for (int i = 0; i < kWords && !MOVED; ++i) {
            *to = T::encode(v[i]);
            to = moved_on(to, static_cast<int>(s.seqlen_stride));
        }
#pragma unroll
        for (int i = 0; i < kWords && MOVED; i += 4) {
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                words[j] = T::pack(v + (i + j) * T::kPerWord);
            }
            store_words(to + i * T::kPerWord, words);
        }
    }
    __device__ __forceinline__ uint32_t place(int values, int bytes) const {
        return b.base + values + thread * bytes;
    }
    __device__ __forceinline__ void put_pairs(int values, const float (&first)[kSteps], const float (&second)[kSteps]) const {
        const uint32_t to = place(values, 8);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            set2(to + i * S::kPairBytes, first[i], second[i]);
        }
    }

    // As `stage_projections` does it; a thread has an element of B and one of C.
    __device__ __forceinline__ void stage_projections(bool ahead) const {
        static_assert(!S::kMoved || kSteps * S::kSlab == kThreads);
#pragma unroll
        for (uint32_t of_C = 0; of_C < (ahead ? 1 : 2); ++of_C) {
            const SsmProjection &from = of_C ? b.p.C : b.p.B;
            const int by_n = static_cast<int>(from.dstate_stride), by_step = static_cast<int>(from.seqlen_stride);
            const uint32_t s = by_step < by_n ? thread % kSteps : thread / S::kSlab;
            const uint32_t n = by_step < by_n ? thread / kSteps : thread % S::kSlab;
            float value = 0.0f;
            if (n < b.p.dstate) {
                Bits *row = reinterpret_cast<Bits *>(b.address(kProjections + 2 * of_C));
                const int64_t to_step = product(time + static_cast<int>(s), by_step, 0);
                value = T::decode(*moved_on(row, product(static_cast<int>(n), by_n, to_step)));
            }
            put_variants<T, LANES>(b, s, of_C, n, value);
        }
    }

    __device__ __forceinline__ void stage(bool ahead) const {
        const SsmSelectiveScanBwd &p = b.p;
        Words dts, xs, gs = {}, zs = {};
        load(1, p.dt, dts);
        load(0, p.x, xs);
        if (!ahead) {
            load(3, p.dout, gs);
            if (p.z.address) {
                load(2, p.z, zs);
            }
        }
        const float bias = get(place(S::kD, 8) + 4);
        float delta[kSteps], x[kSteps], slope[kSteps], e[kSteps];
        unpack(dts, delta);
        unpack(xs, x);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            delta[i] += bias;
        }
        exp_of_minus_magnitude_each(delta, e);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            slope[i] = ahead ? 1.0f : logistic_of(delta[i], e[i]);
            delta[i] = softplus_of(delta[i], e[i]);
        }
        put_pairs(S::kDeltaX, delta, x);
        if (!ahead) {
            stage_gradients(gs, zs, x, slope);
        }
    }
    __device__ __forceinline__ void stage_gradients(
        const Words &gs, const Words &zs, const float (&x)[kSteps], const float (&slope)[kSteps]) const {
        float g[kSteps], gate[kSteps] = {};
        unpack(gs, g);
        if (b.p.z.address) {
            float silus[kSteps], slopes[kSteps];
            unpack(zs, gate);
            silu_each<true>(gate, silus, slopes);
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                gate[i] = slopes[i] * g[i];
                g[i] *= silus[i];
            }
        }
        put_pairs(S::kGradient, g, slope);
        const uint32_t to = place(S::kGate, 8);
        const float D = get(place(S::kD, 8));
        float sums[kSteps / kPiece] = {};
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            set2(to + i * S::kPairBytes, gate[i], D);
            sums[i / kPiece] = fmaf(g[i], x[i], sums[i / kPiece]);
        }
        b.add_to(S::kChannelSums, thread, sums);
    }

    __device__ __forceinline__ void write() const {
        const SsmSelectiveScanBwd &p = b.p;
        float dx[kSteps], ddt[kSteps], dz[kSteps], sums[kSteps / kPiece] = {};
        const uint32_t pairs = place(S::kDeltaX, 8), gates = place(S::kGate, 8);
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            const float2 pair = get2(pairs + i * S::kPairBytes);
            dx[i] = pair.x;
            ddt[i] = pair.y;
            dz[i] = get(gates + i * S::kPairBytes);
            sums[i / kPiece] += ddt[i];
        }
        store(4, p.dx, dx);
        store(5, p.ddt, ddt);
        store(6, p.dz, dz);
        if (p.ddt_bias.address) {
            b.add_to(S::kChannelSums + S::kPairBytes, thread, sums);
        }
    }
};

}  // namespace
