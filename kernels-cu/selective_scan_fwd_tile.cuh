// The forward scan's shared memory, and its arithmetic on the states of a tile.
#pragma once

#include "selective_scan.cuh"
#include "stage.cuh"

namespace {

// How a block's channels and a tile's steps lie over threads and shared memory; places are in bytes.
// src/gpu/selective_scan/forward.rs counts the same bytes.
template <typename T, int LANES>
struct Tile {
    // So many that 128 channels share B and C, where a channel has one lane or two.
    static constexpr int kThreads = LANES == 1 ? 128 : 256;
    static constexpr int kChannels = kThreads / LANES;
    static constexpr int kSlab = LANES * kStates;
    static constexpr bool kSlabs = LANES == 32;
    // A sector of each row, as long as B and C leave room.
    static constexpr int kSteps = (LANES <= 8 ? 2 : 1) * kVector<T>;
    static constexpr int kFours = kSteps / kFour;

    using Rows = StagedTile<T, kChannels, kSteps>;
    using States = StagedTile<T, kSlab, kSteps>;

    // Per channel delta and delta x of each step, in f32; the pad keeps channels apart in the banks. Then, in the first half
    // of each four steps, what the states give to the output. Also the way of states into registers and back.
    static constexpr int kPairRow = 2 * kSteps + 4;
    static constexpr int kOwn = kThreads * kStates * 4;
    static constexpr int kPairs = kChannels * kPairRow * 4 > kOwn ? kChannels * kPairRow * 4 : kOwn;
    // x and z, of this tile and the next, and dt.
    static constexpr int kX = kPairs;
    static constexpr int kDt = kX + 2 * Rows::kBytes;
    static constexpr int kZ = kDt + Rows::kBytes;
    // B and C, as they come and in f32.
    static constexpr int kRawProjections = kZ + 2 * Rows::kBytes;
    static constexpr int kProjections = kRawProjections + 2 * States::kBytes;
    static constexpr int kProjection = kSteps * kSlab * 4;
    // Sums over earlier slabs.
    static constexpr int kEarlier = kProjections + 2 * kProjection;
    // What a channel has one of, and the block.
    static constexpr int kBias = kEarlier + (kSlabs ? kChannels * kSteps * 4 : 0);
    static constexpr int kD = kBias + kChannels * 4;
    static constexpr int kDeltaSum = kD + kChannels * 4;
    static constexpr int kFirstChunk = kDeltaSum + kChannels * 4;
    static constexpr int kKind = kFirstChunk + 8;
    // Of x, dt, z, out, B and C.
    static constexpr int kSources = kFirstChunk + 16;
    // Where lanes begin to bring all of these but out.
    static constexpr int kStarts = kSources + 6 * static_cast<int>(sizeof(Source));
    // The tile that the states go through, and the next.
    static constexpr int kTiles = kStarts + 5 * 32 * 8;
    // Constant B and C, of each thread's states.
    static constexpr int kConstants = kTiles + 2 * 16;

    static __device__ __forceinline__ float *pairs(int channel) {
        return shared_at<float>(channel * (kPairRow * 4));
    }
    static __device__ __forceinline__ float *projection(int of_C) {
        return shared_at<float>(kProjections + of_C * kProjection);
    }
    // Where the output of steps `position` to `position` + 3 of a channel lies.
    static __device__ __forceinline__ float *sums(int channel, int position) {
        return kSlabs ? shared_at<float>(kEarlier) + channel * kSteps + position : pairs(channel) + 2 * position;
    }
};

// A lane's states of a channel, and its longest mild step.
struct States {
    float A[kStates];
    float h[kStates];
    float mild;
};

__device__ __forceinline__ void settle(States &states, const SsmStep &step) {
    states.mild = longest_mild_step(states.A, step);
}

// What is done for a step: what mild ones need; what those need in which states decay; what any needs.
enum class Form { mild, strong, any };

// One step of this lane's first QUADS quads of states; returns its share of sum C h. `B`, `C`: its quads, `apart` from one
// to the next.
template <int QUADS, Form FORM>
__device__ __forceinline__ float advance(
    States &states, const Decay &decay, float delta_x, const float4 *B, int B_apart, const float4 *C, int C_apart) {
    float y = 0.0f;
#pragma unroll
    for (int quad = 0; quad < QUADS; ++quad) {
        const float4 b4 = B[quad * B_apart];
        const float4 c4 = C[quad * C_apart];
        const float b[kQuad] = {b4.x, b4.y, b4.z, b4.w};
        const float c[kQuad] = {c4.x, c4.y, c4.z, c4.w};
#pragma unroll
        for (int j = 0; j < kQuad; ++j) {
            const int i = quad * kQuad + j;
            float &h = states.h[i];
            const float exponent = decay.exponent * states.A[i];
            float before = h;
            if (FORM != Form::mild) {
                const float lost = decay.lost<FORM == Form::any>(exponent, states.A[i]);
                before = fmaf(h, lost, h);
            }
            h = fmaf(exp2_approx(exponent), before, delta_x * b[j]);
            y = i == 0 ? h * c[j] : fmaf(h, c[j], y);
        }
    }
    return y;
}

// The sums over a channel's lanes of `kFour` values, of which this lane is left with one or all. Returns the number of
// the first that it has.
template <int LANES>
__device__ __forceinline__ int sum_together(float (&y)[kFour], uint32_t lane) {
    if constexpr (LANES < kFour) {
#pragma unroll
        for (int i = 0; i < kFour; ++i) {
            y[i] = sum_over_lanes<LANES>(y[i]);
        }
        return 0;
    } else {
        const bool second = (lane & (LANES / 2)) != 0, odd = (lane & (LANES / 4)) != 0;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float keep = second ? y[i + 2] : y[i];
            const float give = second ? y[i] : y[i + 2];
            y[i] = keep + __shfl_xor_sync(0xffffffffu, give, LANES / 2);
        }
        const float keep = odd ? y[1] : y[0];
        const float give = odd ? y[0] : y[1];
        y[0] = sum_over_lanes<LANES / 4>(keep + __shfl_xor_sync(0xffffffffu, give, LANES / 4));
        return 2 * second + odd;
    }
}

// Sums are written where other lanes of the channel read delta.
template <int LANES>
__device__ __forceinline__ void after_reads() {
    if constexpr (LANES > 1) {
        __syncwarp();
    }
}

// What four steps from `p` on give to the output.
template <typename T, int LANES>
__device__ __forceinline__ void put_sums(float (&y)[kFour], uint32_t channel, uint32_t lane, int p, bool adds) {
    using S = Tile<T, LANES>;
    const int mine = sum_together<LANES>(y, lane);
    after_reads<LANES>();
    float *sums = S::sums(channel, p);
    if constexpr (LANES < kFour) {
        if (lane == 0) {
            *reinterpret_cast<float4 *>(sums) = make_float4(y[0], y[1], y[2], y[3]);
        }
    } else if (lane % (LANES / kFour) == 0) {
        sums[mine] = S::kSlabs && adds ? sums[mine] + y[0] : y[0];
    }
}

// Steps of a tile from `first` to `last`, in fours, where no state grows. Steps that the tile lacks have delta = 0.
template <typename T, int LANES, int QUADS>
__device__ __forceinline__ void decay_through(
    States &states, uint32_t channel, uint32_t lane, int first, int last, bool adds) {
    using S = Tile<T, LANES>;
    constexpr int kRow = S::kSlab / kQuad;
    const float4 *B = reinterpret_cast<const float4 *>(S::projection(0)) + lane;
    const float4 *C = reinterpret_cast<const float4 *>(S::projection(1)) + lane;
    float *const pairs = S::pairs(channel);
#pragma unroll 1
    for (int p = first; p < last; p += kFour) {
#pragma unroll 1
        for (; p < last; p += kFour) {
            const float4 *steps = reinterpret_cast<const float4 *>(pairs + 2 * p);
            const float4 early = steps[0], late = steps[1];
            const float delta[kFour] = {early.x, early.z, late.x, late.z};
            const float delta_x[kFour] = {early.y, early.w, late.y, late.w};
            const bool mild = fmaxf(fmaxf(delta[0], delta[1]), fmaxf(delta[2], delta[3])) <= states.mild;
            if (!__all_sync(0xffffffffu, mild)) {
                break;
            }
            float y[kFour];
#pragma unroll
            for (int j = 0; j < kFour; ++j) {
                const int row = (p + j) * kRow;
                y[j] = advance<QUADS, Form::mild>(
                    states, Decay(delta[j]), delta_x[j], B + row, LANES, C + row, LANES);
            }
            put_sums<T, LANES>(y, channel, lane, p, adds);
        }
        if (p >= last) {
            break;
        }
        float y[kFour] = {};
        // Two at a time: half of the text, which every entry has up to three times.
#pragma unroll 1
        for (int two = 0; two < kFour; two += 2) {
            const float4 pair = *reinterpret_cast<const float4 *>(pairs + 2 * (p + two));
            const int row = (p + two) * kRow;
            y[0] = y[2];
            y[1] = y[3];
            y[2] = advance<QUADS, Form::strong>(
                states, Decay(fminf(pair.x, kLongestStep), states.mild), pair.y, B + row, LANES, C + row, LANES);
            y[3] = advance<QUADS, Form::strong>(
                states, Decay(fminf(pair.z, kLongestStep), states.mild), pair.w, B + row + kRow, LANES, C + row + kRow, LANES);
        }
        put_sums<T, LANES>(y, channel, lane, p, adds);
    }
}

// The same one step after another, whatever the states do, with constant B and C as well.
template <typename T, int LANES>
__device__ __forceinline__ void go_through(
    States &states, uint32_t channel, uint32_t lane, int first, int last, bool adds, int constant_B, int constant_C) {
    using S = Tile<T, LANES>;
    const float4 *B = constant_B ? shared_at<const float4>(constant_B) + this_thread()
                                 : reinterpret_cast<const float4 *>(S::projection(0)) + lane;
    const float4 *C = constant_C ? shared_at<const float4>(constant_C) + this_thread()
                                 : reinterpret_cast<const float4 *>(S::projection(1)) + lane;
    constexpr int kRow = S::kSlab / kQuad;
    const float *const pairs = S::pairs(channel);
#pragma unroll 1
    for (int p = first; p < last; ++p) {
        const float delta = pairs[2 * p], delta_x = pairs[2 * p + 1];
        float y = advance<kQuads, Form::any>(
            states, Decay(delta, states.mild), delta_x, B + (constant_B ? 0 : p * kRow), constant_B ? S::kThreads : LANES,
            C + (constant_C ? 0 : p * kRow), constant_C ? S::kThreads : LANES);
        y = sum_over_lanes<LANES>(y);
        after_reads<LANES>();
        if (lane == 0) {
            float *sum = S::sums(channel, p / kFour * kFour) + p % kFour;
            *sum = S::kSlabs && adds ? *sum + y : y;
        }
    }
}

}  // namespace
