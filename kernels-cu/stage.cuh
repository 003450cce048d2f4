// Tiles of a tensor on their way through shared memory: some rows (channels, or states) of a window of steps.
//
// A tile lies in shared memory as it lies outside: the steps of a row side by side, or the rows of a step. Aligned tiles are
// copied 16 bytes at a time while other work goes on, others element by element with neighbouring threads at neighbouring
// addresses. No byte outside the tensor is touched: what a tile lacks is 0.
#pragma once

#include "load_store.cuh"

namespace {

// Steps of a row that a thread works on at once.
constexpr int kFour = 4;

extern __shared__ float4 shared_memory[];

template <typename P>
__device__ __forceinline__ P *shared_at(int bytes) {
    return reinterpret_cast<P *>(reinterpret_cast<char *>(shared_memory) + bytes);
}

// This thread's number, read anew: what is made of it is not worth registers from one tile to the next.
__device__ __forceinline__ int thread() {
    int number;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
    return number;
}

// Steps base + low to base + high - 1; `base` is a multiple of the tile's steps, which keeps rows aligned.
struct Window {
    int base;
    int low;
    int high;
};

// Where a tile comes from or goes to: row r, time t at address + (r * row_stride + t * step_stride) elements.
struct Source {
    char *address;
    int64_t row_stride;
    int64_t step_stride;

    // The dimension that lies side by side; the other one, if it is its stride that is 1.
    __device__ __forceinline__ bool by_step() const {
        return step_stride == 1 || (row_stride != 1 && step_stride <= row_stride);
    }
    template <typename T>
    __device__ __forceinline__ bool aligned() const {
        const int64_t across = (by_step() ? row_stride : step_stride) * static_cast<int64_t>(sizeof(typename T::Bits));
        const int64_t along = by_step() ? step_stride : row_stride;
        return along == 1 && ((reinterpret_cast<int64_t>(address) | across) & 15) == 0;
    }
    template <typename T>
    __device__ __forceinline__ typename T::Bits *at(int row, int t) const {
        return reinterpret_cast<typename T::Bits *>(address) + (row * row_stride + t * step_stride);
    }
};

__device__ __forceinline__ void copy_16_bytes(void *to, const void *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :: "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from))
                 : "memory");
}

__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

template <typename T, int ROWS, int STEPS, int THREADS>
struct StagedTile {
    using Bits = typename T::Bits;
    static constexpr int kVectors = STEPS / kVector<T>;
    static constexpr int kBytes = ROWS * STEPS * static_cast<int>(sizeof(Bits));

    // Brings `rows` rows; the copies are waited for by `wait_for_copies`.
    static __device__ __forceinline__ void bring(Bits *to, const Source &from, int rows, const Window &window) {
        const bool whole = window.low == 0 && window.high == STEPS && from.aligned<T>();
        if (from.by_step() && whole) {
#pragma unroll 1
            for (int i = thread(); i < rows * kVectors; i += THREADS) {
                copy_16_bytes(
                    to + i * kVector<T>, from.at<T>(i / kVectors, window.base + i % kVectors * kVector<T>));
            }
        } else if (whole && rows == ROWS) {
            constexpr int kAcross = ROWS / kVector<T> > 0 ? ROWS / kVector<T> : 1;
#pragma unroll 1
            for (int i = thread(); i < STEPS * kAcross; i += THREADS) {
                copy_16_bytes(to + i * kVector<T>, from.at<T>(i % kAcross * kVector<T>, window.base + i / kAcross));
            }
        } else {
            bring_elements(to, from, rows, window);
        }
    }

    static __device__ __forceinline__ void bring_elements(
        Bits *to, const Source &from, int rows, const Window &window) {
        const bool by_step = from.by_step();
#pragma unroll 1
        for (int i = thread(); i < ROWS * STEPS; i += THREADS) {
            const int row = by_step ? i / STEPS : i % ROWS;
            const int m = by_step ? i % STEPS : i / ROWS;
            Bits bits = 0;
            if (row < rows && m >= window.low && m < window.high) {
                bits = *from.at<T>(row, window.base + m);
            }
            to[i] = bits;
        }
    }

    // Steps 4 * four to 4 * four + 3 of a row.
    static __device__ __forceinline__ void read(const Bits *tile, bool by_step, int row, int four, float (&v)[kFour]) {
        if (by_step) {
            constexpr int kWords = kFour / T::kPerWord;
            uint32_t words[kWords];
            const Bits *from = tile + row * STEPS + four * kFour;
            if constexpr (kWords == 2) {
                const uint2 both = *reinterpret_cast<const uint2 *>(from);
                words[0] = both.x;
                words[1] = both.y;
            } else {
                const uint4 all = *reinterpret_cast<const uint4 *>(from);
                words[0] = all.x;
                words[1] = all.y;
                words[2] = all.z;
                words[3] = all.w;
            }
#pragma unroll
            for (int i = 0; i < kWords; ++i) {
                T::unpack(words[i], v + i * T::kPerWord);
            }
        } else {
#pragma unroll
            for (int i = 0; i < kFour; ++i) {
                v[i] = T::decode(tile[(four * kFour + i) * ROWS + row]);
            }
        }
    }

    // Four steps of a row to memory, where they are aligned.
    static __device__ __forceinline__ void write(Bits *to, const float (&v)[kFour]) {
        if constexpr (T::kPerWord == 2) {
            *reinterpret_cast<uint2 *>(to) = make_uint2(T::pack(v), T::pack(v + 2));
        } else {
            *reinterpret_cast<float4 *>(to) = make_float4(v[0], v[1], v[2], v[3]);
        }
    }
};

}  // namespace
