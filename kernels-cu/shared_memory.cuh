// A block's shared memory, and the numbers of a thread and of its block.
#pragma once

#include <stdint.h>

namespace {

extern __shared__ float4 shared_memory[];

template <typename P>
__device__ __forceinline__ P *shared_at(int bytes) {
    return reinterpret_cast<P *>(reinterpret_cast<char *>(shared_memory) + bytes);
}

// The number of this thread, asked for anew: what the compiler makes of it it would else make before all loops and keep in
// registers that are not there.
__device__ __forceinline__ uint32_t this_thread() {
    uint32_t thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

// The numbers of this block along y and z, likewise.
__device__ __forceinline__ uint32_t this_row_of_blocks() {
    uint32_t row;
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(row));
    return row;
}
__device__ __forceinline__ uint32_t this_part() {
    uint32_t part;
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(part));
    return part;
}

// Shared memory at 32-bit addresses that are kept and moved: places relative to `shared_memory` would be added to its address,
// which is computed anew, in every step.
__device__ __forceinline__ uint32_t shared_base() {
    uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(shared_memory));
    asm volatile("" : "+r"(base));
    return base;
}
__device__ __forceinline__ float get(uint32_t at) {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ float2 get2(uint32_t at) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ void get4(uint32_t at, float (&v)[4]) {
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "r"(at) : "memory");
}
__device__ __forceinline__ int get_int(uint32_t at) {
    int v;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(v) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ void set_int(uint32_t at, int v) {
    asm volatile("st.shared.s32 [%0], %1;" :: "r"(at), "r"(v) : "memory");
}
__device__ __forceinline__ uint64_t get_address(uint32_t at) {
    uint64_t v;
    asm volatile("ld.shared.u64 %0, [%1];" : "=l"(v) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ void set_address(uint32_t at, uint64_t v) {
    asm volatile("st.shared.u64 [%0], %1;" :: "r"(at), "l"(v) : "memory");
}
__device__ __forceinline__ void set(uint32_t at, float v) {
    asm volatile("st.shared.f32 [%0], %1;" :: "r"(at), "f"(v) : "memory");
}
__device__ __forceinline__ void set2(uint32_t at, float x, float y) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" :: "r"(at), "f"(x), "f"(y) : "memory");
}
__device__ __forceinline__ void set4(uint32_t at, const float *v) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};"
                 :: "r"(at), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]) : "memory");
}

}  // namespace
