// Elements of the I/O dtypes as f32 and back. Own instructions: cuda_bf16.hpp puts hashes of its path into names.
#pragma once

#include <stdint.h>

struct F32 {
    static __device__ __forceinline__ float load(const void *base, int64_t offset) {
        return static_cast<const float *>(base)[offset];
    }
    static __device__ __forceinline__ void store(void *base, int64_t offset, float value) {
        static_cast<float *>(base)[offset] = value;
    }
};

struct F16 {
    static __device__ __forceinline__ float load(const void *base, int64_t offset) {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<const uint16_t *>(base)[offset]));
        return value;
    }
    static __device__ __forceinline__ void store(void *base, int64_t offset, float value) {
        uint16_t bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        static_cast<uint16_t *>(base)[offset] = bits;
    }
};

struct BF16 {
    static __device__ __forceinline__ float load(const void *base, int64_t offset) {
        uint32_t bits = static_cast<const uint16_t *>(base)[offset];
        return __uint_as_float(bits << 16);
    }
    static __device__ __forceinline__ void store(void *base, int64_t offset, float value) {
        uint16_t bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        static_cast<uint16_t *>(base)[offset] = bits;
    }
};
