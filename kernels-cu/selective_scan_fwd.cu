// The selective scan, forward. Equation, shapes and options: src/ops/selective_scan.
//
// A block walks one part of a sequence from its first step to its last, a tile of steps at a time. While the states go
// through a tile, the next one's x, dt, z, B and C are on their way into shared memory. Pointwise work is dealt out over the
// block by vectors of steps, whatever lanes a channel has. Where there may be several slabs they wait in the workspace,
// tile by tile.

#include "selective_scan_fwd_points.cuh"
#include "selective_scan_fwd_whole.cuh"

namespace {

// Blocks of a multiprocessor: leaves 128 registers.
template <int THREADS>
constexpr int kBlocks = 512 / THREADS;

template <typename T, int LANES>
struct Scan {
    using S = Tile<T, LANES>;
    static constexpr int kThreads = S::kThreads;
    const Block<T, LANES> b;

    __device__ __forceinline__ Scan(const SsmSelectiveScanFwd &p, uint32_t seq, uint32_t first, uint32_t channels)
        : b(p, seq, first, channels) {}

    // The states of a slab through a tile.
    __device__ __forceinline__ void go(const Steps &steps, uint32_t slab, States &states) const {
        const int first = b.position(b.span.reverse ? steps.window.high - 1 : steps.window.low);
        const int last = first + steps.steps;
        const bool adds = slab > 0;
        const uint32_t channel = b.own_channel(), in_channel = b.lane();
        if (b.p.B.constant || b.p.C.constant || !__all_sync(0xffffffffu, states.mild >= 0.0f)) {
            go_through<T, LANES>(states, channel, in_channel, first, last, adds, b.constant(0), b.constant(1));
            return;
        }
        const int first_four = first / kFour * kFour;
        // Fewer quads where more lanes would hold the states of fewer, or where there are few states.
        const uint32_t quads = (b.p.dstate + kQuad * LANES - 1) / (kQuad * LANES);
        if (LANES <= 4 && quads == 1) {
            decay_through<T, LANES, LANES <= 4 ? 1 : kQuads>(states, channel, in_channel, first_four, last, adds);
        } else if (LANES != 8 && quads <= 2) {
            decay_through<T, LANES, LANES != 8 ? 2 : kQuads>(states, channel, in_channel, first_four, last, adds);
        } else {
            decay_through<T, LANES, kQuads>(states, channel, in_channel, first_four, last, adds);
        }
    }

    // The tile of a parity, which is worked out once: no registers are left for it while the states go through.
    __device__ __forceinline__ static int4 *kept(int parity) {
        return shared_at<int4>(S::kTiles) + parity;
    }
    __device__ __forceinline__ static Steps tile(int parity) {
        const int4 kept = *Scan::kept(parity);
        const uint32_t low = static_cast<uint32_t>(kept.w);
        return Steps{kept.x, kept.y, Window{kept.z, low, low + kept.y}};
    }

    __device__ __forceinline__ void bring_next(const Steps &steps, int parity) const {
        const Steps next = b.tile(steps.step0 + steps.steps);
        if (this_thread() == 0) {
            *kept(parity) = make_int4(next.step0, next.steps, next.window.base, static_cast<int>(next.window.low));
        }
        if (next.steps > 0) {
            b.bring(next, parity, 0, false);
        }
    }

    // All slabs through a tile; meanwhile the next one comes.
    __device__ __forceinline__ void pass(const Steps &steps, int parity, States &states) const {
#pragma unroll 1
        for (uint32_t slab = 0; slab < b.slabs; ++slab) {
            if (S::kSlabs && b.slabs > 1) {
                b.resume(slab, states);
                if (slab > 0) {
                    b.bring(steps, parity, slab, true);
                    wait_for_copies();
                    __syncthreads();
                }
                b.load_constants(slab);
            }
            if (steps.steps > 0) {
                b.convert_projections(slab);
            }
            __syncthreads();
            if (slab + 1 == b.slabs) {
                bring_next(steps, parity ^ 1);
            }
            if (b.p.dstate > 0 && steps.steps > 0) {
                go(steps, slab, states);
            }
            if (S::kSlabs && b.slabs > 1) {
                b.suspend(slab, states);
            }
        }
    }

    // The sum of delta, if it is asked for, in the order of the scan.
    __device__ __forceinline__ void sum_delta(const Steps &steps) const {
        if (!b.p.delta_sum.address) {
            return;
        }
        __syncthreads();
        const int first = b.position(b.span.reverse ? steps.window.high - 1 : steps.window.low);
        const float *pairs = S::pairs(b.own_channel());
        // A tile's own sum first: the error of one long sum would grow with the sequence, and states with it.
        float sum = 0.0f;
#pragma unroll 1
        for (int p = first; p < first + steps.steps; ++p) {
            sum += pairs[2 * p];
        }
        if (b.lane() == 0) {
            shared_at<float>(S::kDeltaSum)[b.own_channel()] += sum;
        }
    }

    __device__ __forceinline__ void save_slabs(const SsmState &s, int64_t row, States &states) const {
#pragma unroll 1
        for (uint32_t slab = 0; slab < b.slabs && s.address; ++slab) {
            if (S::kSlabs && b.slabs > 1) {
                load_quads<kThreads>(b.waiting(slab, 1), states.h);
            }
            b.save(s, row, slab, states);
        }
    }

    // Eight elements of a thread at once: `Whole` sees to what it can.
    static constexpr bool kWhole = Pointwise<T, LANES>::kPiece == 2 * kFour;
    __device__ __forceinline__ static uint32_t kind(const Steps &steps) {
        return steps.steps == S::kSteps ? *shared_at<uint32_t>(S::kKind) : kAny;
    }
    __device__ __forceinline__ void prepare(const Steps &steps, int parity) const {
        if constexpr (kWhole) {
            const uint32_t kind = Scan::kind(steps);
            if (kind & kByStep) {
                Whole<T, LANES, true>(b).prepare(parity);
            } else if (kind & kAcross) {
                Whole<T, LANES, false>(b).prepare(parity);
            } else {
                // Where channels lie side by side other threads have read these places of a whole tile.
                __syncthreads();
                Pointwise<T, LANES>(b).prepare(steps, parity);
            }
        } else {
            Pointwise<T, LANES>(b).prepare(steps, parity);
        }
        sum_delta(steps);
    }
    __device__ __forceinline__ void put(const Steps &steps, int parity) const {
        const Pointwise<T, LANES> pointwise(b);
        if constexpr (kWhole) {
            const uint32_t kind = Scan::kind(steps);
            if (kind & kAcross) {
                Whole<T, LANES, false>(b).put(parity, steps.window.base);
                return;
            }
            if (kind & kByStep) {
                Whole<T, LANES, true>(b).put(parity, steps.window.base);
            } else {
                pointwise.put(steps, parity);
                // As above, if the next tile is a whole one.
                __syncthreads();
            }
        } else {
            pointwise.put(steps, parity);
        }
        pointwise.write_left(steps);
    }

    // What a tile writes once the states are through it.
    __device__ __forceinline__ void finish(const Steps &steps, int parity, States &states) const {
        if (b.p.out.address) {
            put(steps, parity);
        }
        const uint32_t done = steps.step0 + steps.steps;
        if (b.p.chunk_states.address && done % b.every() == 0) {
            __syncthreads();
            save_slabs(b.p.chunk_states, *shared_at<int64_t>(S::kFirstChunk) + done / b.every() - 1, states);
            __syncthreads();
        }
    }

    __device__ __forceinline__ void start(States &states) const {
#pragma unroll 1
        for (uint32_t slab = 0; slab < b.slabs; ++slab) {
            b.load(slab, states);
            if (S::kSlabs && b.slabs > 1) {
                store_quads<kThreads>(b.waiting(slab, 0), states.A);
                b.suspend(slab, states);
            }
        }
        if (!S::kSlabs || b.slabs == 1) {
            b.load_constants(0);
        }
        settle(states, b.p.step);
        if (this_thread() == 0 && b.p.chunk_states.address) {
            *shared_at<int64_t>(S::kFirstChunk) = chunks_before(b.p.spans, b.seq);
        }
        b.find_sources();
        // Sums over slabs are read by fours, also where the steps of a tile leave some of them out.
#pragma unroll 1
        for (int i = this_thread(); S::kSlabs && i < S::kChannels * S::kSteps; i += kThreads) {
            S::sums(0, 0)[i] = 0.0f;
        }
#pragma unroll 1
        for (uint32_t c = this_thread(); c < S::kChannels; c += kThreads) {
            shared_at<float>(S::kDeltaSum)[c] = 0.0f;
            if (c >= b.channels) {
                continue;
            }
            shared_at<float>(S::kBias)[c] = load_vector(b.p.dt_bias, b.first_channel + c, 0.0f);
            shared_at<float>(S::kD)[c] = load_vector(b.p.D, b.first_channel + c, 0.0f);
        }
    }

    __device__ __forceinline__ void run() const {
        States states;
        __syncthreads();
        start(states);
        // Before the first tile there is nothing to do but to have it brought.
        int parity = 0;
        bool first = true;
#pragma unroll 1
        while (true) {
            const Steps steps = first ? Steps{b.span.begin, 0, Window{0, 0, 0}} : tile(parity);
            if (steps.steps > 0) {
                prepare(steps, parity);
            }
            pass(steps, parity, states);
            wait_for_copies();
            __syncthreads();
            if (!first) {
                finish(tile(parity), parity, states);
            }
            first = false;
            parity ^= 1;
            if (tile(parity).steps == 0) {
                break;
            }
        }
        __syncthreads();
        if (b.p.final_per_part || b.last()) {
            save_slabs(b.p.final_state, b.p.final_per_part ? b.row() : b.seq, states);
        }
        if (b.p.delta_sum.address && b.lane() == 0 && b.active()) {
            store_row(b.p.delta_sum, b.row(), b.first_channel + b.own_channel(), shared_at<float>(S::kDeltaSum)[b.own_channel()]);
        }
    }
};

template <typename T, int LANES>
__device__ __forceinline__ void selective_scan_fwd(const SsmSelectiveScanFwd &p) {
    using S = Tile<T, LANES>;
    const uint32_t tiles_per_run = (p.run + S::kChannels - 1) / S::kChannels;
    const uint32_t in_run = blockIdx.x % tiles_per_run * S::kChannels;
    const uint32_t first = blockIdx.x / tiles_per_run * p.run + in_run;
    const uint32_t channels = min(static_cast<uint32_t>(S::kChannels), p.run - in_run);
#pragma unroll 1
    for (uint32_t seq = blockIdx.y; seq < p.spans.nseqs; seq += gridDim.y) {
        Scan<T, LANES>(p, seq, first, channels).run();
    }
}

}  // namespace

#define ENTRY(DTYPE_NAME, DTYPE, LANES)                                                                      \
    extern "C" __global__ void __launch_bounds__(Tile<DTYPE, LANES>::kThreads, kBlocks<Tile<DTYPE, LANES>::kThreads>) \
        selective_scan_fwd_##DTYPE_NAME##_lanes##LANES(const __grid_constant__ SsmSelectiveScanFwd params) { \
        selective_scan_fwd<DTYPE, LANES>(params);                                                            \
    }

#define ENTRIES(DTYPE_NAME, DTYPE) \
    ENTRY(DTYPE_NAME, DTYPE, 1)    \
    ENTRY(DTYPE_NAME, DTYPE, 2)    \
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
