// Elements of the I/O dtypes as f32 and back. Own instructions: cuda_bf16.hpp puts hashes of its path into names.
#pragma once

#include <stdint.h>

struct F32 {
    using Bits = uint32_t;
    static constexpr int kPerWord = 1;
    static __device__ __forceinline__ float decode(Bits bits) {
        return __uint_as_float(bits);
    }
    static __device__ __forceinline__ Bits encode(float value) {
        return __float_as_uint(value);
    }
    // The elements of a word of memory.
    static __device__ __forceinline__ void unpack(uint32_t word, float *v) {
        v[0] = __uint_as_float(word);
    }
    static __device__ __forceinline__ uint32_t pack(const float *v) {
        return __float_as_uint(v[0]);
    }
    // Two neighbours, at an address of as many bytes.
    static __device__ __forceinline__ void unpack_two(const Bits *from, float *v) {
        const uint2 both = *reinterpret_cast<const uint2 *>(from);
        v[0] = __uint_as_float(both.x);
        v[1] = __uint_as_float(both.y);
    }
    static __device__ __forceinline__ void pack_two(Bits *to, const float *v) {
        *reinterpret_cast<uint2 *>(to) = make_uint2(__float_as_uint(v[0]), __float_as_uint(v[1]));
    }
    static __device__ __forceinline__ float load(const void *base, int64_t offset) {
        return static_cast<const float *>(base)[offset];
    }
    static __device__ __forceinline__ void store(void *base, int64_t offset, float value) {
        static_cast<float *>(base)[offset] = value;
    }
};

struct F16 {
    using Bits = uint16_t;
    static constexpr int kPerWord = 2;
    static __device__ __forceinline__ float decode(Bits bits) {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
    static __device__ __forceinline__ Bits encode(float value) {
        Bits bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return bits;
    }
    static __device__ __forceinline__ void unpack(uint32_t word, float *v) {
        v[0] = decode(static_cast<Bits>(word));
        v[1] = decode(static_cast<Bits>(word >> 16));
    }
    static __device__ __forceinline__ uint32_t pack(const float *v) {
        uint32_t word;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(v[1]), "f"(v[0]));
        return word;
    }
    static __device__ __forceinline__ void unpack_two(const Bits *from, float *v) {
        unpack(*reinterpret_cast<const uint32_t *>(from), v);
    }
    static __device__ __forceinline__ void pack_two(Bits *to, const float *v) {
        *reinterpret_cast<uint32_t *>(to) = pack(v);
    }
    static __device__ __forceinline__ float load(const void *base, int64_t offset) {
        return decode(static_cast<const Bits *>(base)[offset]);
    }
    static __device__ __forceinline__ void store(void *base, int64_t offset, float value) {
        static_cast<Bits *>(base)[offset] = encode(value);
    }
};

struct BF16 {
    using Bits = uint16_t;
    static constexpr int kPerWord = 2;
    static __device__ __forceinline__ float decode(Bits bits) {
        return __uint_as_float(static_cast<uint32_t>(bits) << 16);
    }
    static __device__ __forceinline__ Bits encode(float value) {
        Bits bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return bits;
    }
    static __device__ __forceinline__ void unpack(uint32_t word, float *v) {
        v[0] = __uint_as_float(word << 16);
        v[1] = __uint_as_float(word & 0xffff0000u);
    }
    static __device__ __forceinline__ uint32_t pack(const float *v) {
        uint32_t word;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(v[1]), "f"(v[0]));
        return word;
    }
    static __device__ __forceinline__ void unpack_two(const Bits *from, float *v) {
        unpack(*reinterpret_cast<const uint32_t *>(from), v);
    }
    static __device__ __forceinline__ void pack_two(Bits *to, const float *v) {
        *reinterpret_cast<uint32_t *>(to) = pack(v);
    }
    static __device__ __forceinline__ float load(const void *base, int64_t offset) {
        return decode(static_cast<const Bits *>(base)[offset]);
    }
    static __device__ __forceinline__ void store(void *base, int64_t offset, float value) {
        static_cast<Bits *>(base)[offset] = encode(value);
    }
};

// The elements of 16 bytes.
template <typename T>
constexpr int kVector = 4 * T::kPerWord;
