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

// e^v by the same unit, with nothing but its error: what rounding v log2(e) loses is put back. Without that the error
// grows with |v|, and where a state grows the errors of all steps add up; a factor with log2(e) already in it would even be
// off by the same part in every step. Where the result is 0 or infinite nothing can be put back.
__device__ __forceinline__ float exp_approx(float v) {
    const float t = v * kLog2e;
    const float e = exp2_approx(t);
    const float lost = fmaf(-t, kLn2, v);
    return fabsf(t) < 128.0f ? fmaf(e, lost, e) : e;
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

// delta from the raw step with its bias. The comparisons keep NaN.
__device__ __forceinline__ float effective_step(float raw, const SsmStep &step) {
    float delta = step.softplus ? softplus(raw) : raw;
    if (step.limited) {
        delta = delta < step.min ? step.min : delta;
        delta = delta > step.max ? step.max : delta;
    }
    return delta;
}
