// The selective scan, backward. Equations, shapes and options: src/ops/selective_scan.
//
// A block walks one part of a sequence from its last window to its first; a window reaches from one chunk state to the
// next. In a window it runs forward once, keeping the states before each tile of a few steps in the workspace; then, from
// the last tile to the first, forward again into shared memory and backward from there. What steps need is brought for a
// stretch of tiles at once. dB and dC are summed over the block's channels by shuffles and shared memory, and over blocks by
// a pass of its own, always in the same order.

#include "selective_scan_bwd_steps.cuh"
#include "selective_scan_bwd_whole.cuh"

namespace {

// Blocks of a multiprocessor: leaves 128 registers.
constexpr int kBlocks = 4;
// dfirst, dA, dB_constant and dC_constant are visited by number, and so are the sequences.
static_assert(offsetof(SsmSelectiveScanBwd, dout) == offsetof(SsmSelectiveScanBwd, x) + 3 * sizeof(SsmSequence));
static_assert(offsetof(SsmSelectiveScanBwd, dz) == offsetof(SsmSelectiveScanBwd, dx) + 2 * sizeof(SsmSequence));
static_assert(offsetof(SsmSelectiveScanBwd, dC_constant) == offsetof(SsmSelectiveScanBwd, dfirst) + 3 * sizeof(SsmState));

// What a lane keeps in registers: of its states, and what comes back through them.
template <int LANES>
struct Lane {
    Rates<LANES> A;
    float carry[kStates];
    float dA[kStates];
    // Of the lane's states; -infinity where B or C is constant.
    float mild;
};

template <typename T, int LANES>
struct Backward {
    using S = Places<LANES>;
    static constexpr int kTiles = S::kTiles;
    // Slabs have the long form only.
    static constexpr bool kFast = !S::kSlabs;
    const SsmSelectiveScanBwd &p;
    const Block<T, LANES> b;

    __device__ __forceinline__ explicit Backward(const SsmSelectiveScanBwd &p) : p(p), b(p) {}

    // What a slab keeps while another is worked on: carry, dA, A, and constant dB and dC.
    __device__ __forceinline__ void copy_sums(uint32_t slab, bool save) const {
#pragma unroll 1
        for (int what = 3; what < 5; ++what) {
            const bool there = what == 3 ? p.dB_constant.address : p.dC_constant.address;
#pragma unroll 1
            for (int k = 0; k < kQuads && there; ++k) {
                float4 *own = b.own(what == 3 ? b.sum_B() : b.sum_C()) + k * kThreads;
                float4 *waiting = b.waiting(slab, what) + k * kThreads;
                *(save ? waiting : own) = *(save ? own : waiting);
            }
        }
    }
    __device__ __forceinline__ void suspend(uint32_t slab, const Lane<LANES> &lane) const {
        store_quads(b.waiting(slab, 0), lane.carry);
        store_quads(b.waiting(slab, 1), lane.dA);
        copy_sums(slab, true);
    }
    __device__ __forceinline__ void resume(uint32_t slab, Lane<LANES> &lane) const {
        load_quads(b.waiting(slab, 0), lane.carry);
        load_quads(b.waiting(slab, 1), lane.dA);
        float A[kStates];
        load_quads(b.waiting(slab, 2), A);
        lane.A.put(b.base, A);
        copy_sums(slab, false);
    }

    // Zero sums, and what comes back through the end of the part.
    __device__ __forceinline__ void start(Lane<LANES> &lane) const {
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            lane.dA[i] = 0.0f;
        }
        for (int i = threadIdx.x; i < 4 * S::kChannels; i += kThreads) {
            set(b.base + S::kChannelSums + i * 4, 0.0f);
        }
        if (b.lane() == 0) {
            const float D = b.active() && p.dout.address ? load_vector(p.D, b.d(), 0.0f) : 0.0f;
            set2(b.base + S::kD + b.channel() * 8, D, b.active() ? load_vector(p.dt_bias, b.d(), 0.0f) : 0.0f);
        }
        if (p.dB_constant.address) {
            store_quads(b.own(b.sum_B()), lane.dA);
        }
        if (p.dC_constant.address) {
            store_quads(b.own(b.sum_C()), lane.dA);
        }
        float A[kStates];
#pragma unroll 1
        for (uint32_t slab = 0; slab < b.slabs(); ++slab) {
            b.load_A(slab, A);
#pragma unroll
            for (int i = 0; i < kStates; ++i) {
                lane.carry[i] = 0.0f;
            }
            if (p.dlast.address) {
                b.copy_states(p.dlast, b.row(), slab, b.own_states(0), false);
                load_quads(b.own_states(0), lane.carry);
            }
            if (S::kSlabs) {
                store_quads(b.waiting(slab, 2), A);
                suspend(slab, lane);
            }
        }
        if (!S::kSlabs) {
            stage_constants(b, 0);
        }
        // No way forward puts states there, but what is made of them is not asked for.
        for (int s = 0; s < S::kTile && p.no_states; ++s) {
            store_quads(b.own_states(s), lane.dA);
        }
        lane.mild = p.B.constant || p.C.constant ? -INFINITY : longest_mild_step(A, p.step);
        lane.A.put(b.base, A);
    }

    __device__ __forceinline__ void finish(Lane<LANES> &lane) const {
        __syncthreads();
#pragma unroll 1
        for (uint32_t slab = 0; slab < b.slabs(); ++slab) {
            if (S::kSlabs) {
                resume(slab, lane);
            }
            store_quads(b.own_states(0), lane.carry);
            store_quads(b.own_states(1), lane.dA);
#pragma unroll 1
            for (int what = 0; what < (p.carry_only ? 1 : 4); ++what) {
                const SsmState &to = (&p.dfirst)[what];
                const bool per_sequence = what == 0 && !p.first_per_part;
                if (to.address && !(per_sequence && blockIdx.z > 0)) {
                    float4 *from = what < 2 ? b.own_states(what) : b.own(what == 2 ? b.sum_B() : b.sum_C());
                    b.copy_states(to, per_sequence ? b.seq() : b.row(), slab, from, true);
                }
            }
        }
        const uint32_t c = threadIdx.x;
        if (c >= b.channels()) {
            return;
        }
        if (p.dD.address) {
            b.store_sum(p.dD, c, S::kChannelSums);
        }
        if (p.delta_sum.address) {
            b.store_sum(p.delta_sum, c, S::kChannelSums);
        }
        if (p.ddt_bias.address) {
            b.store_sum(p.ddt_bias, c, S::kChannelSums + S::kPairBytes);
        }
    }

    // The window's first step, and the one after its last.
    __device__ __forceinline__ int w0() const {
        return b.number(kWindow);
    }
    __device__ __forceinline__ int end() const {
        return b.number(kWindowEnd);
    }
    __device__ __forceinline__ int first_of_stretch(int tile) const {
        return w0() + tile / kTiles * S::kStretch;
    }
    // Steps of the tile from the first of its stretch on: the first, and the one after the last.
    __device__ __forceinline__ int first_of(int tile) const {
        return tile % kTiles * S::kTile;
    }
    __device__ __forceinline__ int last_of(int tile) const {
        return min(first_of(tile) + S::kTile, end() - first_of_stretch(tile));
    }

    // The stretch of a tile.
    __device__ __forceinline__ void bring(int tile, bool ahead) const {
        const int step0 = first_of_stretch(tile);
        if (S::kMoved && WholeStretch<T, LANES, false>::is_one(b, step0, end())) {
            const WholeStretch<T, LANES, false> strided(b, step0);
            strided.stage_projections(ahead);
            if (strided.is_moved()) {
                WholeStretch<T, LANES, true>(b, step0).stage(ahead);
            } else {
                strided.stage(ahead);
            }
        } else {
            Piece<T, LANES> piece(b, step0, end());
#pragma unroll 1
            for (int first = 0; first < S::kStretch; first += S::kPiece) {
                piece.stage(ahead);
                piece.on();
            }
            if (!S::kSlabs) {
                stage_projections(b, step0, min(static_cast<int>(S::kStretch), end() - step0), 0, ahead);
            }
        }
        __syncthreads();
    }
    __device__ __forceinline__ void send(int tile) const {
        const int step0 = first_of_stretch(tile);
        if (S::kMoved && WholeStretch<T, LANES, false>::is_one(b, step0, end())) {
            const WholeStretch<T, LANES, false> strided(b, step0);
            if (strided.is_moved()) {
                WholeStretch<T, LANES, true>(b, step0).write();
            } else {
                strided.write();
            }
        } else {
            Piece<T, LANES> piece(b, step0, end());
#pragma unroll 1
            for (int first = 0; first < S::kStretch; first += S::kPiece) {
                piece.write();
                piece.on();
            }
        }
    }
    // What a slab needs, that was another's.
    __device__ __forceinline__ void enter(uint32_t slab, int tile, bool ahead, Lane<LANES> &lane) const {
        resume(slab, lane);
        __syncthreads();
        const int step0 = first_of_stretch(tile);
        stage_projections(b, step0, min(static_cast<int>(S::kStretch), end() - step0), slab, ahead);
        stage_constants(b, slab);
        __syncthreads();
    }

    // Whether a tile's steps are mild for all states of the warp; those beyond the end have a delta too.
    __device__ __forceinline__ bool is_mild(int first, const Lane<LANES> &lane) const {
        if (!kFast) {
            return false;
        }
        const uint32_t pair = b.base + S::kDeltaX + first * S::kPairBytes + b.channel() * 8;
        float longest = get(pair);
#pragma unroll
        for (int s = 1; s < S::kTile; ++s) {
            longest = fmaxf(longest, get(pair + s * S::kPairBytes));
        }
        return __all_sync(0xffffffffu, longest <= lane.mild);
    }

    __device__ __forceinline__ void back(
        int first, int steps, uint32_t slab, bool mild, Lane<LANES> &lane, float (&h)[kStates]) const {
        if (p.carry_only) {
            if (kFast && mild) {
                carry_back<kFast>(b, first, steps, lane.A, lane.mild, lane.carry);
            } else {
                carry_back<false>(b, first, steps, lane.A, lane.mild, lane.carry);
            }
        } else if (p.dstate == 0) {
            put_without_states(b, first, steps);
        } else if (kFast && mild && steps == S::kTile) {
            go_back<kFast>(b, first, steps, slab, lane.A, lane.mild, h, lane.carry, lane.dA);
        } else {
            go_back<false>(b, first, steps, slab, lane.A, lane.mild, h, lane.carry, lane.dA);
        }
    }

    // Steps of a tile forward. Mild ones have the same bits in the long form, which a tile takes that lacks some.
    __device__ __forceinline__ void forward(
        int tile, int steps, bool keep, bool mild, const Lane<LANES> &lane, float (&h)[kStates]) const {
        if (kFast && mild && steps == S::kTile) {
            go_forward<kFast>(b, first_of(tile), steps, keep, lane.A, lane.mild, h);
        } else {
            go_forward<false>(b, first_of(tile), steps, keep, lane.A, lane.mild, h);
        }
    }

    // The way forward through the stretch that begins with `tile`, for the states before the next tiles up to the last.
    __device__ __forceinline__ void ahead(int tile, Lane<LANES> &lane) const {
        __syncthreads();
        bring(tile, true);
#pragma unroll 1
        for (uint32_t slab = 0; slab < b.slabs(); ++slab) {
            if (S::kSlabs) {
                enter(slab, tile, true, lane);
            }
            float h[kStates];
            b.load_before(w0(), tile, slab, h);
            int next = tile;
#pragma unroll 1
            do {
                forward(next, S::kTile, false, is_mild(first_of(next), lane), lane, h);
                ++next;
                if (!p.sparse || next % kTiles == 0) {
                    store_quads(b.before_tile(next, slab), h);
                }
            } while (next % kTiles != 0 && next < b.number(kLastTile));
        }
    }

    // The way back through a tile, on one slab: all that it writes.
    __device__ __forceinline__ void pass(int tile, int steps, uint32_t slab, Lane<LANES> &lane) const {
        const int first = first_of(tile);
        if (S::kSlabs) {
            enter(slab, tile, false, lane);
        }
        const bool mild = is_mild(first, lane);
        float h[kStates];
        if (p.no_states) {
            // Numbers; what is made of them is not asked for.
            load_quads(b.own_states(0), h);
        } else {
            int from = p.sparse ? tile / kTiles * kTiles : tile;
            b.load_before(w0(), from, slab, h);
#pragma unroll 1
            for (; from <= tile; ++from) {
                const bool last = from == tile;
                forward(from, last ? steps : S::kTile, last, last ? mild : is_mild(first_of(from), lane), lane, h);
            }
        }
        back(first, steps, slab, mild, lane, h);
        if (S::kSlabs) {
            suspend(slab, lane);
        }
        if (!p.carry_only) {
            __syncthreads();
            write_sums(b, first_of_stretch(tile) + first, steps, slab);
        }
    }

    // The window: forward, for the states before each tile but the first, and back.
    __device__ __forceinline__ void run_window(Lane<LANES> &lane) const {
#pragma unroll 1
        for (int tile = 0; !p.no_states && tile < b.number(kLastTile); tile += kTiles) {
            ahead(tile, lane);
        }
#pragma unroll 1
        for (int tile = b.number(kLastTile); tile >= 0; --tile) {
            __syncthreads();
            // By a vote, as in `settle`: of what lies in shared memory the compiler does not know that all have it alike.
            const int left = last_of(tile) - first_of(tile);
            const int steps = __popc(__ballot_sync(0xffffffffu, static_cast<int>(threadIdx.x % kWarp) < left));
            if (tile == b.number(kLastTile) || tile % kTiles == kTiles - 1) {
                bring(tile, false);
            }
#pragma unroll 1
            for (uint32_t slab = 0; slab < b.slabs(); ++slab) {
                pass(tile, steps, slab, lane);
            }
            if (!p.carry_only && tile % kTiles == 0) {
                send(tile);
            }
        }
    }

    // A part of a sequence, and a tile of the block's channels.
    __device__ __forceinline__ void run(uint32_t seq, uint32_t tile) {
        const uint32_t in_run = (blockIdx.x % p.blocks_per_run * p.tiles_per_block + tile) * S::kChannels;
        const uint32_t first = blockIdx.x / p.blocks_per_run * p.run + in_run;
        __syncthreads();
        b.keep(seq, tile, first, min(static_cast<uint32_t>(S::kChannels), p.run - in_run));
        b.keep_quads();
        __syncthreads();
        Lane<LANES> lane;
        start(lane);
        const int begin = b.number(kBegin), steps = b.number(kEnd) - begin, every = b.number(kEvery);
        int window = begin + (steps > 0 ? (steps - 1) / every : -1) * every;
#pragma unroll 1
        while (window >= b.number(kBegin)) {
            if (threadIdx.x == 0) {
                const int steps = min(b.number(kEvery), b.number(kEnd) - window);
                set_int(b.base + S::kKept + 4 * kWindow, window);
                set_int(b.base + S::kKept + 4 * kLastTile, (steps - 1) / S::kTile);
                set_int(b.base + S::kKept + 4 * kWindowEnd, window + steps);
            }
            __syncthreads();
            run_window(lane);
            window = w0() - b.number(kEvery);
            __syncthreads();
        }
        finish(lane);
    }
};

template <typename T, int LANES>
__device__ __forceinline__ void selective_scan_bwd(const SsmSelectiveScanBwd &p) {
    using S = Places<LANES>;
    uint32_t seq = blockIdx.y, in_block = 0;
#pragma unroll 1
    while (seq < p.spans.nseqs) {
        Backward<T, LANES> backward(p);
        backward.run(seq, in_block);
        in_block = backward.b.number(kChannelTile) + 1;
        seq = backward.b.seq();
        const uint32_t next = blockIdx.x % p.blocks_per_run * p.tiles_per_block + in_block;
        if (in_block == p.tiles_per_block || next * S::kChannels >= p.run) {
            in_block = 0;
            seq += gridDim.y;
        }
    }
}

}  // namespace

#define ENTRY(DTYPE_NAME, DTYPE, LANES)                                                                      \
    extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)                                          \
        selective_scan_bwd_##DTYPE_NAME##_lanes##LANES(const __grid_constant__ SsmSelectiveScanBwd params) { \
        selective_scan_bwd<DTYPE, LANES>(params);                                                            \
    }

#define ENTRIES(DTYPE_NAME, DTYPE) \
    ENTRY(DTYPE_NAME, DTYPE, 1)    \
    ENTRY(DTYPE_NAME, DTYPE, 4)    \
    ENTRY(DTYPE_NAME, DTYPE, 8)    \
    ENTRY(DTYPE_NAME, DTYPE, 32)

// One file per dtype: -DSSM_F32, -DSSM_F16 or -DSSM_BF16.
#if defined(SSM_F32)
ENTRIES(f32, F32)
#elif defined(SSM_F16)
ENTRIES(f16, F16)
#elif defined(SSM_BF16)
ENTRIES(bf16, BF16)
#endif
