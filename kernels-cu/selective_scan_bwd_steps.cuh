// The state loops of the backward scan. FAST: steps are mild for all states, B and C vary with time, and, except in a carry pass,
// no step of the tile is missing.
#pragma once

#include "selective_scan_bwd_sums.cuh"

namespace {

template <bool FAST>
__device__ __forceinline__ float decay_of(const Decay &decay, float A) {
    const float exponent = decay.exponent * A, power = exp2_approx(exponent);
    return FAST ? power : fmaf(power, decay.lost<true>(exponent, A), power);
}
template <bool FAST>
__device__ __forceinline__ Decay decay_in(float delta, float mild) {
    return FAST ? Decay(delta) : Decay(delta, mild);
}

// Where a lane finds its quads of B and C at a step of the stretch.
template <bool FAST, typename T, int LANES>
struct Projections {
    using S = Places<LANES>;
    // One will do where quads are not flipped.
    static constexpr int kOwn = S::kFlips ? kQuads : 1;
    uint32_t quads[kOwn];
    uint32_t to_C;
    int B_step;
    int C_step;

    __device__ __forceinline__ Projections(const Block<T, LANES> &b, int s)
        : to_C(S::kRow), B_step(2 * S::kRow), C_step(2 * S::kRow) {
        uint32_t B = b.base + S::kRows + s * B_step;
        if (!FAST) {
            const uint32_t own = b.base + (b.channel() - S::variant(b.flip())) * (S::kSlab * 4);
            const uint32_t C = b.p.C.constant ? own + b.constant_C() : B + S::kRow;
            B = b.p.B.constant ? own + b.constant_B() : B;
            B_step = b.p.B.constant ? 0 : B_step;
            C_step = b.p.C.constant ? 0 : C_step;
            to_C = C - B;
        }
        if constexpr (S::kFlips) {
            uint32_t at[kQuads];
            b.quads_at(at);
#pragma unroll
            for (int k = 0; k < kQuads; ++k) {
                quads[k] = B + at[k];
            }
        } else {
            quads[0] = B + S::quad_at(0, b.lane(), 0);
        }
    }
    __device__ __forceinline__ uint32_t at(int k) const {
        return S::kFlips ? quads[k % kOwn] : quads[0] + k * LANES * 16;
    }
    __device__ __forceinline__ void B(int k, float (&v)[kQuad]) const {
        get4(at(k), v);
    }
    __device__ __forceinline__ void C(int k, float (&v)[kQuad]) const {
        get4(at(k) + (FAST ? S::kRow : to_C), v);
    }
    // To the step after it, or before.
    __device__ __forceinline__ void move(int by) {
#pragma unroll
        for (int k = 0; k < kOwn; ++k) {
            quads[k] += FAST ? by * 2 * S::kRow : by * B_step;
        }
        to_C += FAST ? 0 : by * (C_step - B_step);
    }
};

// Forward through steps of the stretch; if `keep`, the states before each stay in shared memory.
template <bool FAST, typename T, int LANES>
__device__ __forceinline__ void go_forward(
    const Block<T, LANES> &b, int first, int steps, bool keep, const Rates<LANES> &A, float mild, float (&h)[kStates]) {
    using S = Places<LANES>;
    Projections<FAST, T, LANES> projections(b, first);
    const uint32_t A_at = A.at(b.base);
    uint32_t states = b.base + this_thread() * 16;
    uint32_t pair = b.base + S::kDeltaX + first * S::kPairBytes + b.channel() * 8;
#pragma unroll(FAST ? 2 : 1)
    for (int left = FAST ? S::kTile : steps; left > 0; --left) {
        if (keep) {
#pragma unroll
            for (int k = 0; k < kQuads; ++k) {
                set4(states + k * kThreads * 16, h + k * kQuad);
            }
        }
        const float2 delta_x = get2(pair);
        const float product = delta_x.x * delta_x.y;
        const Decay decay = decay_in<FAST>(delta_x.x, mild);
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            float B[kQuad], a[kQuad];
            projections.B(k, B);
            A.quad(A_at, k, a);
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                h[i] = fmaf(decay_of<FAST>(decay, a[j]), h[i], product * B[j]);
            }
        }
        states += S::kUnitBytes;
        pair += S::kPairBytes;
        projections.move(1);
    }
}

// What comes back through steps, from the last to the first, for a carry pass: the same bits as `go_back`.
template <bool FAST, typename T, int LANES>
__device__ __forceinline__ void carry_back(
    const Block<T, LANES> &b, int first, int steps, const Rates<LANES> &A, float mild, float (&carry)[kStates]) {
    using S = Places<LANES>;
    Projections<FAST, T, LANES> projections(b, first + steps - 1);
    const uint32_t A_at = A.at(b.base);
    uint32_t pair = b.base + S::kDeltaX + (first + steps) * S::kPairBytes + b.channel() * 8;
#pragma unroll 1
    for (int left = steps; left > 0; --left) {
        pair -= S::kPairBytes;
        const Decay decay = decay_in<FAST>(get(pair), mild);
        const float g = get(pair + S::kGradient - S::kDeltaX);
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            float C[kQuad], a[kQuad];
            projections.C(k, C);
            A.quad(A_at, k, a);
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                carry[i] = fmaf(g, C[j], carry[i]) * decay_of<FAST>(decay, a[j]);
            }
        }
        projections.move(-1);
    }
}

// dx, ddt and dz of a step, once all slabs have been there.
template <typename T, int LANES>
__device__ __forceinline__ void put(
    const Block<T, LANES> &b, uint32_t pair, uint32_t slab, float2 delta_x, float2 gradient, float y,
    float by_B, float by_A) {
    using S = Places<LANES>;
    // With many sums to keep there are no registers for these.
    if (LANES > 1) {
        delta_x = get2(pair);
        gradient = get2(pair + S::kGradient - S::kDeltaX);
    }
    const uint32_t gate = pair + (S::kGate - S::kDeltaX);
    const float2 gate_D = get2(gate);
    if (S::kSlabs) {
        const uint32_t earlier = b.base + S::kEarlier + (gate - b.base - S::kGate) / 2 * 3;
        if (slab > 0) {
            y += get(earlier);
            by_B += get(earlier + 4);
            by_A += get(earlier + 8);
        }
        if (slab + 1 < b.slabs()) {
            set(earlier, y);
            set(earlier + 4, by_B);
            set(earlier + 8, by_A);
            return;
        }
    }
    const float delta = delta_x.x, x = delta_x.y, g = gradient.x, slope = gradient.y;
    // Where the clamp holds, even an infinite gradient is none.
    const float ddt = slope == 0.0f ? 0.0f : fmaf(by_B, x, by_A) * slope;
    set2(pair, fmaf(g, gate_D.y, by_B * delta), ddt);
    set2(gate, gate_D.x * fmaf(gate_D.y, x, y), gate_D.y);
}

// The same without states, where there is nothing to sum, not even 0 * infinity.
template <typename T, int LANES>
__device__ __forceinline__ void put_without_states(const Block<T, LANES> &b, int first, int steps) {
    using S = Places<LANES>;
    const float D = get(b.base + S::kD + b.channel() * 8);
    for (int s = first; s < first + steps && b.lane() == 0; ++s) {
        const uint32_t pair = b.base + S::kDeltaX + s * S::kPairBytes + b.channel() * 8;
        const uint32_t gate = b.base + S::kGate + s * S::kPairBytes + b.channel() * 8;
        const float x = get(pair + 4), g = get(pair + S::kGradient - S::kDeltaX);
        set2(pair, b.p.D.address ? g * D : 0.0f, 0.0f);
        set(gate, get(gate) * (b.p.D.address ? D * x : 0.0f));
    }
}

// Back through steps of the stretch. h: the states after each, then those before it. `carry`: what comes back through them.
template <bool FAST, typename T, int LANES>
__device__ __forceinline__ void go_back(
    const Block<T, LANES> &b, int first, int steps, uint32_t slab, const Rates<LANES> &A, float mild, float (&h)[kStates],
    float (&carry)[kStates], float (&dA)[kStates]) {
    using S = Places<LANES>;
    // Kept, or else it would be asked in every step.
    int sums = b.p.dB.address || b.p.dC.address;
    asm volatile("" : "+r"(sums));
    Projections<FAST, T, LANES> projections(b, first + steps - 1);
    uint32_t pair = b.base + S::kDeltaX + (first + steps) * S::kPairBytes + b.channel() * 8;
    uint32_t states = b.base + steps * S::kUnitBytes + this_thread() * 16;
    const uint32_t back = this_thread() % kWarp * 12;
#pragma unroll(FAST ? 2 : 1)
    for (int left = FAST ? S::kTile : steps; left > 0; --left) {
        pair -= S::kPairBytes;
        states -= S::kUnitBytes;
        const float2 delta_x = get2(pair), gradient = get2(pair + S::kGradient - S::kDeltaX);
        const float delta = delta_x.x, g = gradient.x, product = delta_x.x * delta_x.y;
        float y = 0.0f, by_B = 0.0f, by_A = 0.0f;
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            float B[kQuad], C[kQuad];
            projections.B(k, B);
            projections.C(k, C);
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                carry[i] = fmaf(g, C[j], carry[i]);
                y = fmaf(h[i], C[j], y);
                by_B = fmaf(carry[i], B[j], by_B);
            }
        }
        projections.move(-1);
        if (!FAST && b.p.dC_constant.address) {
            add_products(b.own(b.sum_C()), g, h);
        }
        if (!FAST && b.p.dB_constant.address) {
            add_products(b.own(b.sum_B()), product, carry);
        }
        // Slabs have a place of their own for sums: no need to wait.
        float dC[kStates], dB[kStates];
        if (sums) {
            sum_products<LANES>(g, h, dC);
            if (S::kSlabs) {
                put_sums<LANES>(b, states, back, 1, dC);
            }
            sum_products<LANES>(product, carry, dB);
            if (S::kSlabs) {
                put_sums<LANES>(b, states, back, 0, dB);
            }
        }
        const uint32_t A_at = A.at(b.base);
        const Decay decay = decay_in<FAST>(delta, mild);
#pragma unroll
        for (int k = 0; k < kQuads; ++k) {
            float before[kQuad], a[kQuad];
            get4(states + k * kThreads * 16, before);
            A.quad(A_at, k, a);
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                const int i = k * kQuad + j;
                carry[i] *= decay_of<FAST>(decay, a[j]);
                const float w = carry[i] * before[j];
                by_A = fmaf(w, a[j], by_A);
                dA[i] = fmaf(w, delta, dA[i]);
                h[i] = before[j];
            }
        }
        y = sum_over_lanes<LANES>(y);
        by_B = sum_over_lanes<LANES>(by_B);
        by_A = sum_over_lanes<LANES>(by_A);
        // From here on other lanes' states and steps of this warp are overwritten.
        __syncwarp();
        if (b.lane() == 0) {
            put(b, pair, slab, delta_x, gradient, y, by_B, by_A);
        }
        if (sums && !S::kSlabs) {
            put_sums<LANES>(b, states, back, 0, dB);
            put_sums<LANES>(b, states, back, 1, dC);
        }
    }
}

}  // namespace
