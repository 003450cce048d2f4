// Pointwise work as `Pointwise` does it, the same arithmetic without its questions: for whole tiles of sequences that lie alike,
// forward in time, with softplus and D. A thread has eight elements at once: steps of a channel where steps lie side by side,
// else four steps of two neighbouring channels.
#pragma once

#include "selective_scan_fwd_block.cuh"

namespace {

template <typename T, int LANES, bool BY_STEP>
struct Whole {
    using B = Block<T, LANES>;
    using S = Tile<T, LANES>;
    using Bits = typename T::Bits;
    static constexpr int kThreads = S::kThreads;
    static constexpr int kPiece = 2 * kFour;
    static constexpr int kTurns = S::kChannels * S::kSteps / (kPiece * kThreads);
    // Threads along what lies side by side.
    static constexpr int kAlong = BY_STEP ? S::kSteps / kPiece : S::kChannels / 2;
    static constexpr int kChannelsOn = BY_STEP ? kThreads / kAlong : 0;
    static constexpr int kStepsOn = BY_STEP ? 0 : kThreads / kAlong * kFour;
    static constexpr int kRawOn = kChannelsOn * S::kSteps + kStepsOn * S::kChannels;
    static constexpr int kPairsOn = kChannelsOn * S::kPairRow + 2 * kStepsOn;
    // From the first four of delta and delta x to the second.
    static constexpr int kSecond = BY_STEP ? 2 * kFour : S::kPairRow;
    const B &b;
    const uint32_t channel;
    const uint32_t m;

    __device__ __forceinline__ explicit Whole(const B &b)
        : b(b), channel(BY_STEP ? this_thread() / kAlong : this_thread() % kAlong * 2),
          m(BY_STEP ? this_thread() % kAlong * kPiece : this_thread() / kAlong * kFour) {}

    __device__ __forceinline__ float *pairs() const {
        return S::pairs(channel) + 2 * m;
    }
    __device__ __forceinline__ const Bits *raw(int which, int parity) const {
        return B::raw(which, parity) + (BY_STEP ? channel * S::kSteps + m : m * S::kChannels + channel);
    }
    __device__ __forceinline__ static void read(const Bits *from, float (&v)[kPiece]) {
        if constexpr (BY_STEP) {
            S::Rows::read(from, true, v);
        } else {
#pragma unroll
            for (int j = 0; j < kFour; ++j) {
                float both[2];
                T::unpack_two(from + j * S::kChannels, both);
                v[j] = both[0];
                v[j + kFour] = both[1];
            }
        }
    }
    // Of a channel one number, for its steps.
    __device__ __forceinline__ static void read_channels(const float *from, float (&v)[2]) {
        v[0] = from[0];
        v[1] = BY_STEP ? v[0] : from[1];
    }

    __device__ __forceinline__ void prepare(int parity) const {
        const Bits *xs = raw(0, parity), *dts = raw(1, parity);
        const float *biases = shared_at<const float>(S::kBias) + channel;
        float *to = pairs();
#pragma unroll
        for (int turn = 0; turn < kTurns; ++turn) {
            float delta[kPiece], x[kPiece], bias[2];
            read(xs, x);
            read(dts, delta);
            read_channels(biases, bias);
#pragma unroll
            for (int j = 0; j < kPiece; ++j) {
                delta[j] += bias[j / kFour];
            }
            softplus_each(delta);
#pragma unroll
            for (int i = 0; i < kPiece; i += 2) {
                float4 *two = reinterpret_cast<float4 *>(to + i / kFour * kSecond + i % kFour * 2);
                *two = make_float4(delta[i], x[i] * delta[i], delta[i + 1], x[i + 1] * delta[i + 1]);
            }
            xs += kRawOn;
            dts += kRawOn;
            biases += kChannelsOn;
            to += kPairsOn;
        }
    }

    // Rows that are not aligned are left where their channel's delta was.
    __device__ __forceinline__ void put(int parity, int base) const {
        const Source out = B::source(3);
        const Bits *xs = raw(0, parity), *zs = raw(2, parity);
        const float *Ds = shared_at<const float>(S::kD) + channel;
        float *sums = pairs();
        Bits *to = out.at<T>(channel, base + m);
        const int64_t to_on = BY_STEP ? kChannelsOn * out.row_stride : kStepsOn * out.step_stride;
#pragma unroll 1
        for (int turn = 0; turn < kTurns; ++turn) {
            float y[kPiece], x[kPiece], D[2];
            read(xs, x);
            read_channels(Ds, D);
#pragma unroll
            for (int i = 0; i < kPiece; i += kFour) {
                const float4 four = *reinterpret_cast<const float4 *>(sums + i / kFour * kSecond);
                y[i] = fmaf(D[i / kFour], x[i], four.x);
                y[i + 1] = fmaf(D[i / kFour], x[i + 1], four.y);
                y[i + 2] = fmaf(D[i / kFour], x[i + 2], four.z);
                y[i + 3] = fmaf(D[i / kFour], x[i + 3], four.w);
            }
            if (b.p.z.address) {
                float z[kPiece], silus[kPiece], unused[kPiece];
                read(zs, z);
                silu_each<false>(z, silus, unused);
#pragma unroll
                for (int j = 0; j < kPiece; ++j) {
                    y[j] *= silus[j];
                }
            }
            write(out, to, sums, y);
            xs += kRawOn;
            zs += kRawOn;
            Ds += kChannelsOn;
            sums += kPairsOn;
            to += to_on;
        }
    }

    // To memory, or, rows of steps that are not aligned, where their channel's delta was.
    __device__ __forceinline__ static void write(const Source &out, Bits *to, float *unwritten, const float (&y)[kPiece]) {
        if (BY_STEP && out.aligned) {
            S::Rows::write(to, y);
        } else if (BY_STEP) {
#pragma unroll
            for (int i = 0; i < kPiece; i += kFour) {
                *reinterpret_cast<float4 *>(unwritten + i / kFour * kSecond) = make_float4(y[i], y[i + 1], y[i + 2], y[i + 3]);
            }
        } else {
#pragma unroll
            for (int j = 0; j < kFour; ++j) {
                const float both[2] = {y[j], y[j + kFour]};
                if (out.aligned) {
                    T::pack_two(to, both);
                } else {
                    to[0] = T::encode(both[0]);
                    to[out.row_stride] = T::encode(both[1]);
                }
                to += out.step_stride;
            }
        }
    }
};

}  // namespace
