// A block of the backward scan: which channels and states its threads have, and what lies where in shared memory and in the
// workspace.
#pragma once

#include "selective_scan.cuh"
#include "shared_memory.cuh"

namespace {

constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;

// What a block keeps of the part that it is at work on.
enum Number {
    // Its first step, the one after its last, the steps of a window, and the number of the chunk state at the end of the
    // sequence's first.
    kBegin,
    kEnd,
    kEvery,
    kFirstChunk,
    // The time of step 0, the sequence, the row of the part's states and sums; the block's tile of channels, the first of
    // these and how many.
    kOrigin,
    kSequence,
    kPartRow,
    kChannelTile,
    kFirstChannel,
    kChannelCount,
    // How the sequences lie (`Lie`).
    kLies,
    // The first step of the window, its last tile, and the step after its last.
    kWindow,
    kLastTile,
    kWindowEnd,
    // Addresses, in two halves: of the states before the tiles of the block; where x, dt, z, dout, dx, ddt and dz have the
    // block's first channel, B and C its group, and dB and dC, or their partial sums, that too.
    kTileStates = (kWindowEnd + 2) / 2 * 2,
    kSequences = kTileStates + 2,
    kProjections = kSequences + 2 * 7,
    kProjectionSums = kProjections + 2 * 2,
    kNumbers = (kProjectionSums + 2 * 2 + 3) / 4 * 4,
};

// How sequences lie: all channels have their steps side by side, and begin where a piece can be moved at once; whole stretches
// are `WholeStretch`'s; which moves all of their steps at once.
enum Lie { kAligned = 1, kUsual = 2, kMovedAtOnce = 4 };

// Places in shared memory, in bytes. First, the states before each step of the tile; once those are read, sums over channels.
// src/gpu/selective_scan/layout.rs counts the same bytes.
template <int LANES>
struct Places : Shape<LANES> {
    using Shape<LANES>::kChannels;
    using Shape<LANES>::kSlab;
    using Shape<LANES>::kSlabs;
    // Steps whose states shared memory holds, steps whose inputs it holds, and those of them that a thread moves at once.
    static constexpr int kTile = kSlabs ? 2 : 4;
    static constexpr int kPiece = LANES == 1 ? 4 : 2;
    // Whether a piece may be moved at once. Beyond one lane there is little of this work, and text enough.
    static constexpr bool kMoved = LANES == 1;
    static constexpr int kStretch = kSlabs ? 2 : 8;
    static constexpr int kTiles = kStretch / kTile;
    // Place i of a lane has state i ^ flip, so that in the sum over channels what it keeps are its first places, without
    // selecting: the flip has the bits of the lane's channel, highest first. Quads are read from where they lie; for the bits
    // inside of a quad, rows of B and C lie there in as many variants.
    static constexpr uint32_t kFlips = LANES == 1 ? 15 : LANES == 4 ? 14 : LANES == 8 ? 12 : 0;
    static constexpr int kVariants = LANES == 1 ? 4 : LANES == 4 ? 2 : 1;
    // Bytes from a unit, a row of steps' pairs, or a row of B or C to the next.
    static constexpr int kUnitBytes = kUnit * kQuad * 4;
    static constexpr int kPairBytes = kChannels * 8;
    static constexpr int kRow = kVariants * kSlab * 4;

    // Per step and channel: delta and x, then dx and ddt; the gradient of the ungated output, and the derivative of delta by
    // the raw step; what the ungated output is multiplied by to make dz, then dz, and D, for want of an address of its own.
    static constexpr int kDeltaX = kTile * kUnitBytes;
    static constexpr int kGradient = kDeltaX + kStretch * kPairBytes;
    static constexpr int kGate = kGradient + kStretch * kPairBytes;
    // Per step B and C.
    static constexpr int kRows = kGate + kStretch * kPairBytes;
    // What a channel sums over time, each in two f32: dD or, in a carry pass, delta; and ddt_bias.
    static constexpr int kChannelSums = kRows + 2 * kStretch * kRow;
    // D of a channel, 0 without a gradient of the output, and dt_bias.
    static constexpr int kD = kChannelSums + 2 * kPairBytes;
    // Numbers of the part, for want of registers.
    static constexpr int kKept = kD + kPairBytes;
    // Where a thread's quads of B and C lie in a row, if quads are flipped.
    static constexpr int kQuadsAt = kKept + 4 * kNumbers;
    // A, where registers have no room for it beside many sums.
    static constexpr bool kSharedA = LANES >= 8;
    static constexpr int kA = kQuadsAt + (kFlips ? kThreads * 16 : 0);
    // Sums over earlier slabs, and over channels, at 32 lanes.
    static constexpr int kEarlier = kA + (kSharedA ? kUnitBytes : 0);
    static constexpr int kSums = kSlabs ? kEarlier + 3 * kStretch * kChannels * 4 : 0;
    // Rows of constant B and C, and their gradients.
    static constexpr int kSumBytes = kSlabs ? kWarp * kThreads * 4 : kUnitBytes;
    static constexpr int kConstants = kSlabs ? kSums + kStretch * kWarp * kThreads * 4 : kEarlier;
    static constexpr int kConstantRows = kChannels * kSlab * 4;
    static_assert(kVariants == 1 || kRows % kRow == 0, "variants of a row are found by flipping bits of its place");

    __device__ __forceinline__ static uint32_t flip_of(uint32_t thread) {
        return thread >> 1 & kFlips;
    }
    // Of a lane by its flip: which variant it reads.
    __device__ __forceinline__ static uint32_t variant(uint32_t flip) {
        return LANES == 1 ? flip & 3 : LANES == 4 ? flip >> 1 & 1 : 0;
    }
    // Which bits of a state's number a variant flips: those inside of a quad, and one of the quad's number, or else two
    // variants would share banks.
    __host__ __device__ static constexpr uint32_t flipped(uint32_t variant) {
        return LANES == 1 ? variant | variant >> 1 << 2 : variant << 1 | variant << 4;
    }
    // Where in a row a lane finds its quad k.
    __device__ __forceinline__ static int quad_at(uint32_t flip, uint32_t lane, int k) {
        const uint32_t v = variant(flip);
        const uint32_t quad = k ^ flip / kQuad ^ (LANES == 1 ? v >> 1 : v);
        return (v * kSlab + (quad * LANES + lane) * kQuad) * 4;
    }
    // Where this thread puts sum `q` of step `s`. Below 32 lanes that is where its own warp's states before the step were.
    __device__ __forceinline__ static int sum_at(int s, int q, int warp, int lane) {
        if (kSlabs) {
            return kSums + ((s * kWarp + q) * kThreads + warp * kWarp + lane) * 4;
        }
        return s * kUnitBytes + (((q / kQuad * kThreads + warp * kWarp) * kQuad) + q % kQuad * kWarp + lane) * 4;
    }
};

// A of a lane's states: in registers, or in shared memory at `at`.
template <int LANES>
struct Rates {
    using S = Places<LANES>;
    float in_registers[S::kSharedA ? 1 : kStates];

    __device__ __forceinline__ static uint32_t at(uint32_t base) {
        return S::kSharedA ? base + S::kA + this_thread() * 16 : 0;
    }
    __device__ __forceinline__ void quad(uint32_t at, int k, float (&A)[kQuad]) const {
        if constexpr (S::kSharedA) {
            get4(at + k * kThreads * 16, A);
        } else {
#pragma unroll
            for (int j = 0; j < kQuad; ++j) {
                A[j] = in_registers[k * kQuad + j];
            }
        }
    }
    __device__ __forceinline__ void put(uint32_t base, const float (&A)[kStates]) {
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            if (!S::kSharedA) {
                in_registers[S::kSharedA ? 0 : i] = A[i];
            } else if (i % kQuad == 0) {
                set4(at(base) + i / kQuad * kThreads * 16, A + i);
            }
        }
    }
};

template <typename T, int LANES>
struct Block {
    using S = Places<LANES>;
    const SsmSelectiveScanBwd &p;
    // The address of shared memory.
    const uint32_t base;

    __device__ __forceinline__ Block(const SsmSelectiveScanBwd &p)
        : p(p), base(shared_base()) {}

    __device__ __forceinline__ uint32_t slabs() const {
        return S::kSlabs ? max(1u, (p.dstate + S::kSlab - 1) / S::kSlab) : 1;
    }
    __device__ __forceinline__ uint32_t channel() const {
        return this_thread() / LANES;
    }
    __device__ __forceinline__ uint32_t lane() const {
        return this_thread() % LANES;
    }
    // Threads beyond the last channel compute with zeros: they take part in barriers and shuffles, and write nothing.
    __device__ __forceinline__ bool active() const {
        return channel() < channels();
    }
    __device__ __forceinline__ uint32_t flip() const {
        return S::flip_of(this_thread());
    }
    __device__ __forceinline__ void keep_quads() const {
        if constexpr (S::kFlips) {
#pragma unroll
            for (int k = 0; k < kQuads; ++k) {
                set_int(base + S::kQuadsAt + this_thread() * 16 + k * 4, S::quad_at(flip(), lane(), k));
            }
        }
    }
    __device__ __forceinline__ void quads_at(uint32_t (&at)[kQuads]) const {
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(at[0]), "=r"(at[1]), "=r"(at[2]), "=r"(at[3])
                     : "r"(base + S::kQuadsAt + this_thread() * 16) : "memory");
    }

    // The part's numbers, for all threads after the next barrier.
    __device__ __forceinline__ void keep(uint32_t seq, uint32_t tile, uint32_t first, uint32_t count) const {
        const Span span(p.spans, seq);
        const bool one_window = span.len <= p.spans.every;
        const int first_chunk = p.no_states || one_window ? 0 : static_cast<int>(chunks_before(p.spans, seq));
        // As long as the sequence, if that is shorter.
        const int every = static_cast<int>(min(p.spans.every, static_cast<int64_t>(max(span.len, 1))));
        const int lies = S::kMoved ? how_it_lies(span.batch, first, count) : 0;
        if (threadIdx.x == 0) {
            const int kept[kWindow] = {span.begin, span.end, every, first_chunk, static_cast<int>(span.time(0)),
                                       static_cast<int>(seq), static_cast<int>(seq * p.spans.parts + blockIdx.z),
                                       static_cast<int>(tile), static_cast<int>(first), static_cast<int>(count), lies};
#pragma unroll
            for (int i = 0; i < kWindow; ++i) {
                set_int(base + S::kKept + 4 * i, kept[i]);
            }
            keep_address(kTileStates, p.tile_states + block_row() * (p.window_tiles - 1) * S::kUnitBytes);
        }
        keep_tensors(span.batch, first);
    }
    __device__ __forceinline__ void keep_address(int number, uint64_t address) const {
        set_address(base + S::kKept + 4 * number, address);
    }
    // A thread each, the projections in another warp.
    __device__ __forceinline__ void keep_tensors(int64_t batch, uint32_t first) const {
        constexpr int kBytes = sizeof(typename T::Bits);
        const uint32_t i = this_thread(), of_C = i - kWarp;
        if (i < 7) {
            const SsmSequence &s = i < 4 ? (&p.x)[i] : (&p.dx)[i - 4];
            keep_address(kSequences + 2 * i, s.address + (batch * s.batch_stride + first * s.dim_stride) * kBytes);
        }
        if (of_C < 2) {
            const SsmProjection &from = of_C ? p.C : p.B;
            const SsmProjectionSum &sum = of_C ? p.dC : p.dB;
            const uint32_t in_group = from.channels_per_group;
            const int64_t group = first / in_group;
            const int64_t row = batch * from.batch_stride + group * from.ngroups_stride;
            keep_address(kProjections + 2 * of_C, from.address + row * kBytes);
            const int64_t slice = first % in_group / p.run * p.blocks_per_run + blockIdx.x % p.blocks_per_run;
            const int64_t target = batch * sum.batch_stride + group * sum.ngroups_stride;
            keep_address(
                kProjectionSums + 2 * of_C,
                sum.address + (sum.partial ? (target + slice * sum.partial_stride) * 4 : target * kBytes));
        }
    }
    __device__ __forceinline__ int number(int number) const {
        return get_int(base + S::kKept + 4 * number);
    }
    __device__ __forceinline__ uint64_t address(int of) const {
        return get_address(base + S::kKept + 4 * of);
    }
    __device__ __forceinline__ uint32_t seq() const {
        return number(kSequence);
    }
    __device__ __forceinline__ uint32_t first_channel() const {
        return number(kFirstChannel);
    }
    __device__ __forceinline__ uint32_t channels() const {
        return number(kChannelCount);
    }
    __device__ __forceinline__ int time(int step) const {
        const int origin = number(kOrigin);
        return p.spans.reverse ? origin - step : origin + step;
    }

    // Places of what is constant, and of what is summed for it.
    __device__ __forceinline__ int constant_B() const {
        return S::kConstants;
    }
    __device__ __forceinline__ int constant_C() const {
        return constant_B() + (p.B.constant ? S::kConstantRows : 0);
    }
    __device__ __forceinline__ int sum_B() const {
        return constant_C() + (p.C.constant ? S::kConstantRows : 0);
    }
    __device__ __forceinline__ int sum_C() const {
        return sum_B() + (p.dB_constant.address ? S::kUnitBytes : 0);
    }

    // At multiples of so many elements, or of 16 bytes if those are more.
    template <int ELEMENTS>
    __device__ __forceinline__ bool all_aligned(uint32_t batch, uint32_t channel) const {
        constexpr int64_t kBytes = sizeof(typename T::Bits), kTogether = ELEMENTS * kBytes < 16 ? ELEMENTS * kBytes : 16;
        bool all = true;
#pragma unroll 1
        for (int i = 0; i < 7; ++i) {
            const SsmSequence &s = i < 4 ? (&p.x)[i] : (&p.dx)[i - 4];
            const int64_t first = s.address + (batch * s.batch_stride + channel * s.dim_stride) * kBytes;
            all = all && (!s.address || (s.seqlen_stride == 1 && (first | s.dim_stride * kBytes) % kTogether == 0));
        }
        return all;
    }

    __device__ __forceinline__ bool is_usual() const {
        constexpr int64_t kMost = INT32_MAX / (2 * S::kChannels);
        bool near = true;
#pragma unroll 1
        for (int i = 0; i < 7; ++i) {
            const SsmSequence &s = i < 4 ? (&p.x)[i] : (&p.dx)[i - 4];
            near = near && s.dim_stride >= 0 && s.dim_stride < kMost && s.seqlen_stride >= 0 && s.seqlen_stride < kMost;
        }
        for (int of_C = 0; of_C < 2; ++of_C) {
            const SsmProjection &s = of_C ? p.C : p.B;
            near = near && !s.constant && s.dstate_stride >= 0 && s.dstate_stride < INT32_MAX && s.seqlen_stride >= 0 &&
                   s.seqlen_stride < INT32_MAX;
        }
        return near && p.spans.seqlen < INT32_MAX / 2 && p.dout.address && p.step.softplus && !p.step.limited &&
               !p.spans.reverse && !p.carry_only;
    }
    __device__ __forceinline__ int how_it_lies(uint32_t batch, uint32_t channel, uint32_t count) const {
        const int usual = count == S::kChannels && is_usual() ? kUsual : 0;
        const int moved = usual && all_aligned<S::kStretch>(batch, channel) ? kMovedAtOnce : 0;
        return usual | moved | (all_aligned<S::kPiece>(batch, channel) ? kAligned : 0);
    }

    // The part's row of states and sums.
    __device__ __forceinline__ int64_t row() const {
        return static_cast<uint32_t>(number(kPartRow));
    }
    __device__ __forceinline__ uint32_t d() const {
        return first_channel() + channel();
    }

    __device__ __forceinline__ float4 *own_states(int s) const {
        return shared_memory + s * kUnit + this_thread();
    }
    // This thread's quads of a unit.
    __device__ __forceinline__ float4 *own(int place) const {
        return shared_memory + place / 16 + this_thread();
    }

    // Units of the workspace: the states before a tile of the window, and what waits while another slab is worked on. They
    // belong to the block, not to the sequence: sequences take turns.
    __device__ __forceinline__ int64_t block_row() const {
        // Neither of the two has more than 65535.
        const uint32_t turn = blockIdx.y * gridDim.z + blockIdx.z;
        return (static_cast<int64_t>(turn) * gridDim.x + blockIdx.x) * slabs();
    }
    __device__ __forceinline__ float4 *before_tile(int tile, uint32_t slab) const {
        // The first tile's are the window's own.
        const int unit_of_window = (p.sparse ? tile / S::kTiles : tile) - 1;
        const int64_t unit = static_cast<int64_t>(slab) * (p.window_tiles - 1) + unit_of_window;
        return reinterpret_cast<float4 *>(address(kTileStates) + unit * S::kUnitBytes) + this_thread();
    }
    __device__ __forceinline__ float4 *waiting(uint32_t slab, int what) const {
        return reinterpret_cast<float4 *>(p.slab_states) + ((block_row() + slab) * 5 + what) * kUnit + threadIdx.x;
    }

    // States of a tensor to this thread's quads at `own`, or back.
    __device__ __forceinline__ void copy_states(
        const SsmState &s, int64_t row, uint32_t slab, float4 *own, bool save) const {
        const int64_t offset = row * s.batch_stride + d() * s.dim_stride;
        copy_states_of<LANES, kThreads, S::kFlips != 0>(
            reinterpret_cast<float *>(own), 1, s.address, offset, s.dstate_stride, slab, active() ? p.dstate : 0, 0.0f, save,
            flip());
    }
    __device__ __forceinline__ void load_A(uint32_t slab, float (&A)[kStates]) const {
        copy_states_of<LANES, kThreads, S::kFlips != 0>(
            reinterpret_cast<float *>(own_states(0)), 1, p.A.address, d() * p.A.dim_stride, p.A.dstate_stride, slab,
            active() ? p.dstate : 0, kAbsentA, false, flip());
        load_quads(own_states(0), A);
    }

    // The states before a tile: those of the last chunk, or those kept on the way forward.
    __device__ __forceinline__ void load_before(
        int w0, int tile, uint32_t slab, float (&h)[kStates]) const {
        if (tile > 0) {
            load_quads(before_tile(tile, slab), h);
            return;
        }
        const SsmState &states = w0 == 0 ? p.initial_state : p.chunk_states;
        copy_states(states, w0 == 0 ? seq() : number(kFirstChunk) + w0 / p.spans.every - 1, slab, own_states(0), false);
        load_quads(own_states(0), h);
    }

    // Adds values to a sum in two f32, of which the second has what lies below the last bit of the first. Nothing but its
    // own error would disturb a sum of numbers that are given: in one f32 it would be no better than the plainest loop.
    template <int COUNT>
    __device__ __forceinline__ void add_to(int place, uint32_t channel, const float (&values)[COUNT]) const {
        const uint32_t at = base + place + channel * 8;
        float2 all = get2(at);
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const float sum = __fadd_rn(all.x, values[i]);
            const float added = __fadd_rn(sum, -all.x);
            all.y += __fadd_rn(__fadd_rn(all.x, -__fadd_rn(sum, -added)), __fadd_rn(values[i], -added));
            all.x = sum;
        }
        set2(at, all.x, all.y);
    }
    __device__ __forceinline__ void store_sum(const SsmRows &rows, uint32_t channel, int place) const {
        const float2 sum = get2(base + place + channel * 8);
        store_row(rows, row(), first_channel() + channel, sum.x + sum.y);
    }
};

}  // namespace
