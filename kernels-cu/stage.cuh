// Tiles of a tensor on their way through shared memory: some rows (channels, or states) of a window of steps.
//
// A tile lies in shared memory as it lies outside: the steps of a row side by side, or the rows of a step. Aligned tiles are
// copied 16 bytes at a time while other work goes on, others element by element with neighbouring threads at neighbouring
// addresses. No byte outside the tensor is touched: what a tile lacks is 0.
#pragma once

#include "load_store.cuh"
#include "shared_memory.cuh"

namespace {

// Steps of a row that a thread works on at once.
constexpr int kFour = 4;

// Steps base + low to base + high - 1; `base` is a multiple of the tile's steps, which keeps rows aligned.
struct Window {
    int base;
    uint32_t low;
    uint32_t high;
};

// Where a tile comes from or goes to: row r, time t at address + (r * row_stride + t * step_stride) elements.
struct __align__(16) Source {
    char *address;
    int64_t row_stride;
    int64_t step_stride;
    // The dimension that lies side by side is that of steps; and it does so at addresses of 16 bytes.
    uint32_t by_step;
    uint32_t aligned;

    template <typename T>
    static __device__ __forceinline__ Source of(uint64_t address, int64_t offset, int64_t row_stride, int64_t step_stride) {
        constexpr int64_t kBytes = sizeof(typename T::Bits);
        Source source{reinterpret_cast<char *>(address) + offset * kBytes, row_stride, step_stride, 0, 0};
        source.by_step = step_stride == 1 || (row_stride != 1 && step_stride <= row_stride);
        const int64_t across = (source.by_step ? row_stride : step_stride) * kBytes;
        const int64_t along = source.by_step ? step_stride : row_stride;
        source.aligned = along == 1 && ((reinterpret_cast<int64_t>(source.address) | across) & 15) == 0;
        return source;
    }
    template <typename T>
    __device__ __forceinline__ typename T::Bits *at(uint32_t row, int t) const {
        __builtin_assume(__isGlobal(address));
        return reinterpret_cast<typename T::Bits *>(address) + (row * row_stride + t * step_stride);
    }
};

__device__ __forceinline__ void copy_16_bytes(void *to, const void *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :: "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from))
                 : "memory");
}

// The same from an address of global memory.
__device__ __forceinline__ void copy_16_bytes(uint32_t to, int64_t from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

template <int POWER_OF_TWO>
constexpr uint32_t kLog2 = POWER_OF_TWO > 1 ? 1 + kLog2<POWER_OF_TWO / 2> : 0;
template <>
constexpr uint32_t kLog2<0> = 0;

// Tiles are brought by single warps: what it takes to find them is more than the copies themselves.
template <typename T, int ROWS, int STEPS>
struct StagedTile {
    using Bits = typename T::Bits;
    static constexpr int kBytes = ROWS * STEPS * static_cast<int>(sizeof(Bits));
    static constexpr uint32_t kWarp = 32;

    // Vectors of a line along which elements lie side by side, as a power of two, and how far lines are apart.
    static __device__ __forceinline__ uint32_t shift(const Source &from) {
        return from.by_step ? kLog2<STEPS / kVector<T>> : kLog2<ROWS / kVector<T>>;
    }
    static __device__ __forceinline__ int64_t apart(const Source &from) {
        return from.by_step ? from.row_stride : from.step_stride;
    }
    // The first vector that this lane brings of the tile at time 0, if tiles are aligned.
    static __device__ __forceinline__ const Bits *start(const Source &from) {
        const uint32_t lane = this_thread() % kWarp, along = lane & ((1 << shift(from)) - 1);
        return from.at<T>(0, 0) + (lane >> shift(from)) * apart(from) + along * kVector<T>;
    }

    // Brings `rows` rows; the copies are waited for by `wait_for_copies`. `start`: what the function of this name says.
    static __device__ __forceinline__ void bring(
        Bits *to, const Source &from, const Bits *start, uint32_t rows, const Window &window) {
        const bool whole = from.aligned && window.low == 0 && window.high == STEPS && (from.by_step || rows == ROWS);
        if (!whole) {
            bring_elements(to, from, rows, window);
            return;
        }
        constexpr int kTurns = (kBytes / 16 + kWarp - 1) / kWarp;
        const uint32_t lane = this_thread() % kWarp, vectors = (from.by_step ? rows : STEPS) << shift(from);
        to += lane * kVector<T>;
        if constexpr (ROWS / kVector<T> <= kWarp) {
            // In bytes, or else each would be made of elements anew.
            int64_t at = reinterpret_cast<int64_t>(start) + window.base * (from.step_stride * static_cast<int64_t>(sizeof(Bits)));
            const int64_t on = (kWarp >> shift(from)) * static_cast<int64_t>(sizeof(Bits)) * apart(from);
            const uint32_t shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
            const int left = static_cast<int>(vectors) - static_cast<int>(lane);
#pragma unroll(kTurns < 8 ? kTurns : 8)
            for (int turn = 0; turn < kTurns; ++turn) {
                if (turn * static_cast<int>(kWarp) < left) {
                    copy_16_bytes(shared + turn * kWarp * 16, at);
                }
                at += on;
            }
        } else {
            const Bits *lines = from.at<T>(0, window.base);
#pragma unroll 1
            for (uint32_t i = lane; i < vectors; i += kWarp) {
                copy_16_bytes(to, lines + (i >> shift(from)) * apart(from) + (i & ((1 << shift(from)) - 1)) * kVector<T>);
                to += kWarp * kVector<T>;
            }
        }
    }

    // All rows of a step, as many at once as leave none over.
    static __device__ __forceinline__ void bring_rows(Bits *to, const Bits *source, int64_t on) {
        constexpr int kRows = ROWS * STEPS / kWarp, kAtOnce = kRows < 8 ? kRows : 8;
#pragma unroll 1
        for (int row = 0; row < kRows; row += kAtOnce) {
            Bits v[kAtOnce];
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                v[i] = *source;
                source += on;
            }
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                to[i * kWarp] = v[i];
            }
            to += kAtOnce * kWarp;
        }
    }

    // Neighbouring threads along what lies side by side.
    static __device__ __forceinline__ void bring_elements(
        Bits *to, const Source &from, uint32_t rows, const Window &window) {
        const uint32_t lane = this_thread() % kWarp;
        to += lane;
        if (from.by_step) {
            // The same step of every so many rows.
            const uint32_t m = lane % STEPS, high = m >= window.low && m < window.high ? rows : 0;
            const int64_t on = kWarp / STEPS * from.row_stride;
            const Bits *source = from.at<T>(lane / STEPS, window.base + static_cast<int>(m));
            if (window.low == 0 && window.high == STEPS && rows == ROWS) {
                bring_rows(to, source, on);
                return;
            }
#pragma unroll 2
            for (uint32_t row = lane / STEPS; row < ROWS; row += kWarp / STEPS) {
                *to = row < high ? *source : Bits{0};
                to += kWarp;
                source += on;
            }
            return;
        }
#pragma unroll 1
        for (uint32_t i = lane; i < ROWS * STEPS; i += kWarp) {
            const uint32_t row = i % ROWS, m = i / ROWS;
            const bool there = row < rows && m >= window.low && m < window.high;
            *to = there ? *from.at<T>(row, window.base + static_cast<int>(m)) : Bits{0};
            to += kWarp;
        }
    }

    // The place of step `m` of a row.
    static __device__ __forceinline__ int place(bool by_step, int row, int m) {
        return by_step ? row * STEPS + m : m * ROWS + row;
    }

    // Steps of a row from their place on.
    template <int COUNT>
    static __device__ __forceinline__ void read(const Bits *from, bool by_step, float (&v)[COUNT]) {
        if (by_step) {
            constexpr int kWords = COUNT / T::kPerWord;
            uint32_t words[kWords];
            if constexpr (kWords == 2) {
                const uint2 both = *reinterpret_cast<const uint2 *>(from);
                words[0] = both.x;
                words[1] = both.y;
            } else {
#pragma unroll
                for (int i = 0; i < kWords; i += 4) {
                    const uint4 all = reinterpret_cast<const uint4 *>(from)[i / 4];
                    words[i] = all.x;
                    words[i + 1] = all.y;
                    words[i + 2] = all.z;
                    words[i + 3] = all.w;
                }
            }
#pragma unroll
            for (int i = 0; i < kWords; ++i) {
                T::unpack(words[i], v + i * T::kPerWord);
            }
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                v[i] = T::decode(from[i * ROWS]);
            }
        }
    }

    // Steps of a row to memory, where they are aligned.
    template <int COUNT>
    static __device__ __forceinline__ void write(Bits *to, const float (&v)[COUNT]) {
        constexpr int kWords = COUNT / T::kPerWord;
        uint32_t words[kWords];
#pragma unroll
        for (int i = 0; i < kWords; ++i) {
            words[i] = T::pack(v + i * T::kPerWord);
        }
        if constexpr (kWords == 2) {
            *reinterpret_cast<uint2 *>(to) = make_uint2(words[0], words[1]);
        } else {
#pragma unroll
            for (int i = 0; i < kWords; i += 4) {
                reinterpret_cast<uint4 *>(to)[i / 4] = make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
            }
        }
    }
};

}  // namespace
