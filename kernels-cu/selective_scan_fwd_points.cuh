// Pointwise work of the forward scan, dealt out over the block by vectors of steps: delta and delta x of a tile, before the
// states go through it, and its outputs, after.
#pragma once

#include "selective_scan_fwd_block.cuh"

namespace {

template <typename T, int LANES>
struct Pointwise {
    using B = Block<T, LANES>;
    using S = Tile<T, LANES>;
    using Bits = typename T::Bits;
    static constexpr int kThreads = S::kThreads;
    // Steps that a thread works on at once: two fours where that leaves no thread without work.
    static constexpr int kPiece = S::kChannels * S::kFours >= 2 * kThreads ? 2 * kFour : kFour;
    static constexpr int kPieces = S::kSteps / kPiece;
    const B &b;

    __device__ __forceinline__ explicit Pointwise(const B &b) : b(b) {}

    // A thread's way through a tile's channels and steps, a piece at a time: neighbouring threads have neighbouring
    // addresses, and from one turn to the next every place moves by as much.
    struct Walk {
        static constexpr int kItems = S::kChannels * kPieces;
        static constexpr int kTurns = kItems > kThreads ? kItems / kThreads : 1;
        uint32_t channel;
        // The piece's first step.
        int m;
        uint32_t channels_on;
        int steps_on;

        __device__ __forceinline__ explicit Walk(bool by_step) {
            const uint32_t u = this_thread();
            channel = by_step ? u / kPieces : u % S::kChannels;
            m = (by_step ? u % kPieces : u / S::kChannels) * kPiece;
            channels_on = by_step ? kThreads / kPieces : 0;
            steps_on = by_step ? 0 : kThreads / S::kChannels * kPiece;
        }
        // Of all channels there might be, and of the first `channels`, which are the earlier ones.
        __device__ __forceinline__ static int turns() {
            return kItems >= kThreads || this_thread() < kItems ? kTurns : 0;
        }
        __device__ __forceinline__ int turns(uint32_t channels) const {
            if (channel >= channels || turns() == 0) {
                return 0;
            }
            const int more = (channels - 1 - channel) / (kThreads / kPieces);
            return channels_on == 0 ? kTurns : min(more + 1, kTurns);
        }
    };
    // Where a walk is in a raw tile.
    struct Cursor {
        const Bits *at;
        int on;
        bool by_step;

        __device__ __forceinline__ Cursor(const Walk &walk, int which, int parity) : by_step(B::source(which).by_step) {
            at = B::raw(which, parity) + S::Rows::place(by_step, walk.channel, walk.m);
            on = S::Rows::place(by_step, walk.channels_on, walk.steps_on);
        }
        __device__ __forceinline__ void read(float (&v)[kPiece]) const {
            S::Rows::read(at, by_step, v);
        }
    };
    // The first of a walk's places in the order of the scan.
    __device__ __forceinline__ int position(const Walk &walk) const {
        return b.span.reverse ? S::kSteps - kPiece - walk.m : walk.m;
    }
    // Where delta and delta x of a walk's steps lie, and how far they are from one turn to the next.
    __device__ __forceinline__ float *pairs(const Walk &walk) const {
        return S::pairs(walk.channel) + 2 * position(walk);
    }
    __device__ __forceinline__ int pairs_on(const Walk &walk) const {
        return walk.channels_on * S::kPairRow + 2 * (b.span.reverse ? -walk.steps_on : walk.steps_on);
    }

    // delta and delta x of a tile; 0 for steps and channels that there are not.
    __device__ __forceinline__ void prepare(const Steps &steps, int parity) const {
        const Walk walk(B::source(3).by_step);
        Cursor xs(walk, 0, parity), dts(walk, 1, parity);
        const float *bias = shared_at<const float>(S::kBias) + walk.channel;
        float *to = pairs(walk);
        const int to_on = pairs_on(walk), there = walk.turns(b.channels);
        int turn = 0;
#pragma unroll 1
        for (; turn < there; ++turn) {
            float delta[kPiece], x[kPiece];
            xs.read(x);
            dts.read(delta);
#pragma unroll
            for (int j = 0; j < kPiece; ++j) {
                delta[j] += *bias;
            }
            effective_steps(delta, b.p.step);
#pragma unroll
            for (int j = 0; j < kPiece; ++j) {
                x[j] *= delta[j];
            }
            if (steps.steps < S::kSteps) {
                leave_out(walk.m + turn * walk.steps_on, steps.window, delta, x);
            }
            set_pairs(to, delta, x);
            to += to_on;
            bias += walk.channels_on;
            xs.at += xs.on;
            dts.at += dts.on;
        }
#pragma unroll 1
        for (; turn < Walk::turns(); ++turn) {
            const float none[kPiece] = {};
            set_pairs(to, none, none);
            to += to_on;
        }
    }
    __device__ __forceinline__ void set_pairs(float *to, const float (&delta)[kPiece], const float (&x)[kPiece]) const {
        if (b.span.reverse) {
            float2 *pairs = reinterpret_cast<float2 *>(to);
#pragma unroll
            for (int j = 0; j < kPiece; ++j) {
                pairs[kPiece - 1 - j] = make_float2(delta[j], x[j]);
            }
        } else {
            float4 *pairs = reinterpret_cast<float4 *>(to);
#pragma unroll
            for (int j = 0; j < kPiece; j += 2) {
                pairs[j / 2] = make_float4(delta[j], x[j], delta[j + 1], x[j + 1]);
            }
        }
    }
    // Steps beyond the window.
    __device__ __forceinline__ static void leave_out(
        int first, const Window &window, float (&delta)[kPiece], float (&delta_x)[kPiece]) {
#pragma unroll
        for (int j = 0; j < kPiece; ++j) {
            const uint32_t m = first + j;
            const bool there = m >= window.low && m < window.high;
            delta[j] = there ? delta[j] : 0.0f;
            delta_x[j] = there ? delta_x[j] : 0.0f;
        }
    }

    // The outputs of a tile from the sums over states: skip, gate, round.
    __device__ __forceinline__ void put(const Steps &steps, int parity) const {
        const Source out = B::source(3);
        const bool whole = is_written(out, steps);
        const Walk walk(out.by_step);
        Cursor xs(walk, 0, parity), zs(walk, 2, parity);
        const float *D = shared_at<const float>(S::kD) + walk.channel;
        float *sums = S::kSlabs ? S::sums(walk.channel, position(walk)) : pairs(walk);
        const int sums_on = S::kSlabs ? pairs_on(walk) / 2 - 2 * static_cast<int>(walk.channels_on) : pairs_on(walk);
        float *unwritten = pairs(walk);
        Bits *to = out.at<T>(walk.channel, steps.window.base + walk.m);
        const int64_t to_on = walk.channels_on * out.row_stride + walk.steps_on * out.step_stride;
        const int there = walk.turns(b.channels);
        const bool plain = !b.span.reverse && b.p.dstate > 0;
#pragma unroll 1
        for (int turn = 0; turn < there; ++turn) {
            float y[kPiece];
            read_sums(sums, plain, y);
            if (b.p.D.address) {
                float x[kPiece];
                xs.read(x);
#pragma unroll
                for (int j = 0; j < kPiece; ++j) {
                    y[j] = fmaf(*D, x[j], y[j]);
                }
            }
            if (b.p.z.address) {
                float z[kPiece], silus[kPiece], unused[kPiece];
                zs.read(z);
                silu_each<false>(z, silus, unused);
#pragma unroll
                for (int j = 0; j < kPiece; ++j) {
                    y[j] *= silus[j];
                }
            }
            if (!out.by_step) {
                write_across(to, out.step_stride, walk.m + turn * walk.steps_on, steps.window, y);
            } else if (whole) {
                S::Rows::write(to, y);
            } else {
                leave_unwritten(unwritten + turn * pairs_on(walk), y);
            }
            sums += sums_on;
            D += walk.channels_on;
            to += to_on;
            xs.at += xs.on;
            zs.at += zs.on;
        }
    }
    // What could not be written where it belongs.
    __device__ __forceinline__ void write_left(const Steps &steps) const {
        const Source &out = B::source(3);
        if (out.by_step && !is_written(out, steps)) {
            __syncthreads();
            write_elements(out, steps);
            __syncthreads();
        }
    }
    __device__ __forceinline__ static bool is_written(const Source &out, const Steps &steps) {
        return steps.steps == S::kSteps && out.aligned;
    }

    // Fours lie 8 apart. `plain`: there are states, and their order is that of time.
    __device__ __forceinline__ void read_sums(const float *from, bool plain, float (&y)[kPiece]) const {
        if (plain) {
#pragma unroll
            for (int i = 0; i < kPiece; i += kFour) {
                const float4 sums = *reinterpret_cast<const float4 *>(from + 2 * i);
                y[i] = sums.x;
                y[i + 1] = sums.y;
                y[i + 2] = sums.z;
                y[i + 3] = sums.w;
            }
            return;
        }
#pragma unroll
        for (int j = 0; j < kPiece; ++j) {
            // Without states there is nothing to sum, not even 0 * infinity.
            const int place = b.span.reverse ? kPiece - 1 - j : j;
            y[j] = b.p.dstate > 0 ? from[2 * (place & -kFour) + place % kFour] : 0.0f;
        }
    }
    __device__ __forceinline__ void leave_unwritten(float *to, const float (&y)[kPiece]) const {
#pragma unroll
        for (int i = 0; i < kPiece; i += kFour) {
            float4 *four = reinterpret_cast<float4 *>(to + 2 * (b.span.reverse ? kPiece - kFour - i : i));
            *four = make_float4(y[i], y[i + 1], y[i + 2], y[i + 3]);
        }
    }

    // Steps of a channel, where its neighbours write theirs beside them.
    __device__ __forceinline__ static void write_across(
        Bits *to, int64_t step_stride, int first, const Window &window, const float (&y)[kPiece]) {
#pragma unroll
        for (int j = 0; j < kPiece; ++j) {
            const uint32_t m = first + j;
            if (m >= window.low && m < window.high) {
                *to = T::encode(y[j]);
            }
            to += step_stride;
        }
    }
    // Rows of steps that are not aligned or not whole, from where `put` left them: where their channel's delta was.
    __device__ __forceinline__ void write_elements(const Source &out, const Steps &steps) const {
        const uint32_t m = this_thread() % S::kSteps;
        if (m < steps.window.low || m >= steps.window.high) {
            return;
        }
        const uint32_t first = this_thread() / S::kSteps;
        Bits *to = out.at<T>(first, steps.window.base + static_cast<int>(m));
        const int four = m / kFour;
        const int place = b.span.reverse ? S::kSteps - kFour - four * kFour : four * kFour;
        const float *from = S::pairs(first) + 2 * place + m % kFour;
#pragma unroll 4
        for (uint32_t c = first; c < b.channels; c += kThreads / S::kSteps) {
            *to = T::encode(*from);
            to += kThreads / S::kSteps * out.row_stride;
            from += kThreads / S::kSteps * S::kPairRow;
        }
    }
};

}  // namespace
