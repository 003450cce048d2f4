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
