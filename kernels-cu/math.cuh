// The scalar functions that operators share. The only place where they are written for CUDA C.
#pragma once

#include "params.h"
#include "params_layout.h"

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

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
    return fmaf(e, fmaf(-t, kLn2, v), e);
}

// ln(1 + e^v), and v itself above 20.
__device__ __forceinline__ float softplus(float v) {
    return v > 20.0f ? v : log1pf(expf(v));
}

// v / (1 + e^-v). Far below zero e^v may be subnormal although v e^v is not: e^(v/2) keeps all its bits.
__device__ __forceinline__ float silu(float v) {
    if (v < -80.0f) {
        const float e = expf(0.5f * v);
        return v * e * e;
    }
    return __fdiv_rn(v, 1.0f + expf(-v));
}

// 1 / (1 + e^-v), without overflow on either side.
__device__ __forceinline__ float sigmoid(float v) {
    const float e = expf(-fabsf(v));
    return __fdiv_rn(v < 0.0f ? e : 1.0f, 1.0f + e);
}

// delta from the raw step with its bias, and its derivative by that. The comparisons keep NaN.
__device__ __forceinline__ float effective_step(float raw, const SsmStep &step, float &slope) {
    float delta = step.softplus ? softplus(raw) : raw;
    slope = step.softplus && !(raw > 20.0f) ? sigmoid(raw) : 1.0f;
    if (step.limited && delta < step.min) {
        delta = step.min;
        slope = 0.0f;
    }
    if (step.limited && delta > step.max) {
        delta = step.max;
        slope = 0.0f;
    }
    return delta;
}

__device__ __forceinline__ float effective_step(float raw, const SsmStep &step) {
    float slope;
    return effective_step(raw, step, slope);
}

__device__ __forceinline__ float reciprocal_approx(float v) {
    float value;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(v));
    return value;
}

// e^-|v|, of which softplus, the logistic function and silu are made without overflow; below -80 by its root, which keeps
// what would be subnormal.
struct Exponential {
    float root;
    float value;
    bool small;

    __device__ __forceinline__ explicit Exponential(float v) : small(v < -80.0f) {
        root = exp_approx(-fabsf(small ? 0.5f * v : v));
        value = small ? root * root : root;
    }
};

// ln(1 + e^v) and its derivative, of one exponential; above 20, v itself.
__device__ __forceinline__ float softplus_by(float v, float &slope) {
    const float e = Exponential(v).value;
    const float inverse = reciprocal_approx(1.0f + e);
    slope = v > 20.0f ? 1.0f : (v < 0.0f ? e : 1.0f) * inverse;
    // (ln(1 + e) - e) / e^2 for 0 <= e <= 1, as the CPU has it: 1.2 ulp of ln(1 + e).
    float tail = 0.0020844345f;
    tail = fmaf(tail, e, -0.013691349f);
    tail = fmaf(tail, e, 0.042114507f);
    tail = fmaf(tail, e, -0.08323886f);
    tail = fmaf(tail, e, 0.124795325f);
    tail = fmaf(tail, e, -0.16135173f);
    tail = fmaf(tail, e, 0.19899623f);
    tail = fmaf(tail, e, -0.24988864f);
    tail = fmaf(tail, e, 0.33332714f);
    tail = fmaf(tail, e, -0.49999988f);
    return v > 20.0f ? v : fmaxf(v, 0.0f) + fmaf(e * e, tail, e);
}

// v / (1 + e^-v) and its derivative.
__device__ __forceinline__ float silu_by(float v, float &slope) {
    const Exponential e(v);
    const float inverse = reciprocal_approx(1.0f + e.value);
    const float other = e.value * inverse;
    const float gate = v < 0.0f ? other : inverse;
    slope = fmaf(v * (v < 0.0f ? inverse : other), gate, gate);
    return e.small ? v * e.root * e.root : v * gate;
}
