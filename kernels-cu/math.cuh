// The scalar functions that operators share. The only place where they are written for CUDA C.
#pragma once

#include "params.h"
#include "params_layout.h"

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
// What kLn2 is off by: a hundred times that is two ulp.
constexpr float kLn2Low = -1.9046543e-9f;

// 2^x by the special-function unit: 2 ulp, subnormal results are 0.
__device__ __forceinline__ float exp2_approx(float x) {
    float value;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}

// e^v by the same unit, with hardly more than its error: what rounding v log2(e) loses is put back. Without that the error
// grows with |v|, and where a state grows the errors of all steps add up; a factor with log2(e) already in it would even be
// off by the same part in every step. The limit keeps -infinity out, which has no remainder, and lets NaN pass; e^-200 is
// 0 like all below. Beyond the largest number the result is infinite or NaN.
__device__ __forceinline__ float exp_approx(float v) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(-200.0f));
    const float t = v * kLog2e;
    const float e = exp2_approx(t);
    return fmaf(e, fmaf(t, -kLn2, v), e);
}

// 1 / v within an ulp, where neither is subnormal.
__device__ __forceinline__ float reciprocal(float v) {
    float value;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(v));
    return value;
}

// |v|, or `most` if that is less; NaN stays.
__device__ __forceinline__ float limited_magnitude(float v, float most) {
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(v) : "f"(fabsf(v)), "f"(most));
    return v;
}

// e^-|v|, as exp_approx, subnormal results included.
__device__ __forceinline__ float exp_of_minus_magnitude(float v) {
    const float magnitude = limited_magnitude(v, 110.0f);
    const float t = magnitude * -kLog2e;
    float e;
    asm("ex2.approx.f32 %0, %1;" : "=f"(e) : "f"(t));
    return fmaf(e, fmaf(t, -kLn2, -magnitude), e);
}

// The first becomes the last.
template <int COUNT>
__device__ __forceinline__ void rotate(float (&v)[COUNT]) {
    const float first = v[0];
#pragma unroll
    for (int i = 1; i < COUNT; ++i) {
        v[i - 1] = v[i];
    }
    v[COUNT - 1] = first;
}

// The same of several, at less cost where none is far from zero: no power of those is subnormal.
template <int COUNT>
__device__ __forceinline__ void exp_of_minus_magnitude_each(const float (&v)[COUNT], float (&e)[COUNT]) {
    constexpr float kNear = 80.0f;
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const float magnitude = fabsf(v[i]), t = magnitude * -kLog2e, power = exp2_approx(t);
        e[i] = fmaf(power, fmaf(t, -kLn2, -magnitude), power);
        largest = fmaxf(largest, magnitude);
    }
    if (largest > kNear) {
        float left[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            left[i] = v[i];
        }
        // One after the other at the first place: a copy of this for each would be most of the text.
#pragma unroll 1
        for (int turn = 0; turn < COUNT; ++turn) {
            e[0] = fabsf(left[0]) > kNear ? exp_of_minus_magnitude(left[0]) : e[0];
            rotate(left);
            rotate(e);
        }
    }
}

// ln(1 + y) for 0 <= y <= 1: y times a polynomial whose largest relative error is the least, 1.7 ulp.
__device__ __forceinline__ float log1p_unit(float y) {
    float sum = -0.003244012f;
    sum = fmaf(sum, y, 0.0198514f);
    sum = fmaf(sum, y, -0.056959413f);
    sum = fmaf(sum, y, 0.10603642f);
    sum = fmaf(sum, y, -0.15305585f);
    sum = fmaf(sum, y, 0.19675936f);
    sum = fmaf(sum, y, -0.24954133f);
    sum = fmaf(sum, y, 0.33329964f);
    sum = fmaf(sum, y, -0.49999902f);
    return fmaf(sum, y, 1.0f) * y;
}

// ln(1 + e^v) from e = e^-|v|; above 20 that is v itself.
__device__ __forceinline__ float softplus_of(float v, float e) {
    return fmaxf(v, 0.0f) + log1p_unit(e);
}
// Its derivative, 1 / (1 + e^-v), from the same.
__device__ __forceinline__ float logistic_of(float v, float e) {
    return (v < 0.0f ? e : 1.0f) * reciprocal(1.0f + e);
}

// 1 / (1 + e^-v) and 1 / (1 + e^v), of which silu is made. Far below zero the first is subnormal although its product with v
// is not: there it is in units of 2^-40, and the second is 1.
struct Gate {
    static constexpr float kUnit = 0x1p-40f;
    bool far;
    float gate;
    float other;

    __device__ __forceinline__ explicit Gate(float v) : far(v < -60.0f) {
        const float magnitude = limited_magnitude(v, 174.0f);
        const float t = magnitude * kLog2e;
        // Exact: t is above 80.
        const float power = exp2_approx(far ? 40.0f - t : -t);
        const float e = fmaf(power, fmaf(t, kLn2Low, fmaf(t, kLn2, -magnitude)), power);
        const float inverse = reciprocal(1.0f + e);
        const float small = e * inverse;
        gate = v < 0.0f ? small : inverse;
        other = v < 0.0f ? inverse : small;
    }
    __device__ __forceinline__ float scaled(float value) const {
        return far ? value * kUnit : value;
    }
};

// silu and its derivative.
__device__ __forceinline__ float silu_by(float v, float &slope) {
    const Gate g(v);
    slope = g.scaled(fmaf(v * g.other, g.gate, g.gate));
    return g.scaled(v * g.gate);
}

// The same of several, at less cost where none is far from zero: no power of those overflows. Without SLOPES the derivatives
// are left out.
template <bool SLOPES, int COUNT>
__device__ __forceinline__ void silu_each(const float (&v)[COUNT], float (&silus)[COUNT], float (&slopes)[COUNT]) {
    constexpr float kNear = 30.0f;
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const float t = v[i] * -kLog2e, power = exp2_approx(t);
        const float e = fmaf(power, fmaf(t, -kLn2Low, fmaf(t, -kLn2, -v[i])), power);
        const float gate = reciprocal(1.0f + e);
        silus[i] = v[i] * gate;
        slopes[i] = SLOPES ? fmaf(silus[i], e * gate, gate) : 0.0f;
        largest = fmaxf(largest, fabsf(v[i]));
    }
    if (largest > kNear) {
        float left[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            left[i] = v[i];
        }
#pragma unroll 1
        for (int turn = 0; turn < COUNT; ++turn) {
            if (fabsf(left[0]) > kNear) {
                silus[0] = silu_by(left[0], slopes[0]);
            }
            rotate(left);
            rotate(silus);
            if (SLOPES) {
                rotate(slopes);
            }
        }
    }
}

template <int COUNT>
__device__ __forceinline__ void softplus_each(float (&v)[COUNT]) {
    float e[COUNT];
    exp_of_minus_magnitude_each(v, e);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        v[i] = softplus_of(v[i], e[i]);
    }
}

// delta from the raw steps with their bias.
template <int COUNT>
__device__ __forceinline__ void effective_steps(float (&steps)[COUNT], const SsmStep &step) {
    if (step.softplus) {
        softplus_each(steps);
    }
    if (step.limited) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            steps[i] = steps[i] < step.min ? step.min : steps[i];
            steps[i] = steps[i] > step.max ? step.max : steps[i];
        }
    }
}
