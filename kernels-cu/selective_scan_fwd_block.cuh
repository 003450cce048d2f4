// A block of the forward scan: which channels and states its threads have, where its tensors and tiles lie, and how they are
// brought.
#pragma once

#include "selective_scan_fwd_tile.cuh"

namespace {

// x, dt, z and out are visited by number, and B and C.
static_assert(offsetof(SsmSelectiveScanFwd, out) == offsetof(SsmSelectiveScanFwd, x) + 3 * sizeof(SsmSequence));
static_assert(offsetof(SsmSelectiveScanFwd, C) == offsetof(SsmSelectiveScanFwd, B) + sizeof(SsmProjection));

// Steps step0 to step0 + steps - 1 of a sequence, which lie in a window.
struct Steps {
    int step0;
    int steps;
    Window window;
};

// How a block's sequences lie, if whole tiles of them are `Whole`'s. Bits, since of numbers ptxas makes a table of branches.
enum Kind : uint32_t { kAny = 0, kByStep = 1, kAcross = 2 };

template <typename T, int LANES>
struct Block {
    using S = Tile<T, LANES>;
    using Bits = typename T::Bits;
    static constexpr int kThreads = S::kThreads;
    const SsmSelectiveScanFwd &p;
    const Span span;
    const uint32_t seq;
    const uint32_t first_channel;
    const uint32_t channels;
    const uint32_t slabs;

    __device__ __forceinline__ Block(const SsmSelectiveScanFwd &p, uint32_t seq, uint32_t first, uint32_t channels)
        : p(p), span(p.spans, seq), seq(seq), first_channel(first), channels(channels),
          slabs(S::kSlabs ? max(1u, (p.dstate + S::kSlab - 1) / S::kSlab) : 1) {}

    // This thread's channel of the block. Threads beyond the last channel compute with zeros: they take part in barriers and
    // shuffles, and write nothing.
    __device__ __forceinline__ static uint32_t own_channel() {
        return this_thread() / LANES;
    }
    __device__ __forceinline__ static uint32_t lane() {
        return this_thread() % LANES;
    }
    __device__ __forceinline__ bool active() const {
        return own_channel() < channels;
    }

    // The part's row of states and sums.
    __device__ __forceinline__ int64_t row() const {
        return static_cast<int64_t>(seq) * p.spans.parts + this_part();
    }

    // The last step of the sequence is this part's; an empty sequence is the first part's. Where the part begins is worked out
    // again.
    __device__ __forceinline__ bool last() const {
        return span.end == span.len && (this_part() == 0 || this_part() * p.spans.part < span.end);
    }

    // Places in shared memory of this thread's constant B and C; 0: they vary.
    __device__ __forceinline__ int constant(int of_C) const {
        const bool both = of_C && p.B.constant;
        return (of_C ? p.C : p.B).constant ? S::kConstants + (both ? S::kOwn : 0) : 0;
    }

    __device__ __forceinline__ void copy(
        float *own, uint64_t address, int64_t offset, int64_t stride, uint32_t slab, float absent, bool save) const {
        copy_states_of<LANES, kThreads>(own, kThreads, address, offset, stride, slab, active() ? p.dstate : 0, absent, save);
    }
    __device__ __forceinline__ static float *own() {
        return shared_at<float>(0) + this_thread();
    }
    __device__ __forceinline__ static void from_own(float (&v)[kStates]) {
        const float *from = own();
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            v[i] = from[i * kThreads];
        }
    }

    // Where A and the states of a slab wait while another is worked on: the block's, not the sequence's, which take turns.
    __device__ __forceinline__ float4 *waiting(uint32_t slab, int what) const {
        const int64_t block = (static_cast<int64_t>(this_row_of_blocks()) * gridDim.z + this_part()) * gridDim.x + blockIdx.x;
        const int64_t unit = (block * slabs + slab) * 2 + what;
        return reinterpret_cast<float4 *>(p.slab_states) + unit * (kQuads * kThreads) + this_thread();
    }

    __device__ __forceinline__ void load(uint32_t slab, States &states) const {
        const int64_t d = first_channel + own_channel();
        copy(own(), p.A.address, d * p.A.dim_stride, p.A.dstate_stride, slab, kAbsentA, false);
        from_own(states.A);
        const SsmState &from = p.initial_state;
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            states.h[i] = 0.0f;
        }
        if (from.address) {
            copy(own(), from.address, row() * from.batch_stride + d * from.dim_stride, from.dstate_stride, slab, 0.0f, false);
            from_own(states.h);
        }
    }

    __device__ __forceinline__ void save(const SsmState &s, int64_t row, uint32_t slab, const States &states) const {
        float *to = own();
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
            to[i * kThreads] = states.h[i];
        }
        const int64_t d = first_channel + own_channel();
        copy(to, s.address, row * s.batch_stride + d * s.dim_stride, s.dstate_stride, slab, 0.0f, true);
    }

    __device__ __forceinline__ void suspend(uint32_t slab, const States &states) const {
        store_quads<kThreads>(waiting(slab, 1), states.h);
    }
    __device__ __forceinline__ void resume(uint32_t slab, States &states) const {
        load_quads<kThreads>(waiting(slab, 0), states.A);
        load_quads<kThreads>(waiting(slab, 1), states.h);
        settle(states, p.step);
    }

    // Steps of a chunk; sequences are shorter than what it is limited to, and 64 bits are divided slowly.
    __device__ __forceinline__ uint32_t every() const {
        return static_cast<uint32_t>(min(p.spans.every, static_cast<int64_t>(INT32_MAX)));
    }

    // The tile that begins at `step0`: to the end of the part, of a chunk whose state is wanted, or of the window.
    __device__ __forceinline__ Steps tile(int step0) const {
        int end = span.end;
        if (p.chunk_states.address) {
            const uint32_t rest = every() - step0 % every();
            end = static_cast<int>(min(step0 + rest, static_cast<uint32_t>(end)));
        }
        const int t = static_cast<int>(span.time(step0));
        const int in_window = t & (S::kSteps - 1);
        const int room = span.reverse ? in_window + 1 : S::kSteps - in_window;
        const int steps = min(end - step0, room);
        const uint32_t low = span.reverse ? in_window + 1 - steps : in_window;
        return Steps{step0, steps, Window{t - in_window, low, low + steps}};
    }
    // The place among a tile's steps, in the order of the scan, of its step at time base + m.
    __device__ __forceinline__ int position(int m) const {
        return span.reverse ? S::kSteps - 1 - m : m;
    }

    // Of x, dt, z, out, B or C, worked out once.
    __device__ __forceinline__ static const Source &source(int which) {
        return shared_at<const Source>(S::kSources)[which];
    }
    __device__ __forceinline__ void find_sources() const {
        const uint32_t which = this_thread();
        if (which < 4) {
            const SsmSequence &s = (&p.x)[which];
            const int64_t offset = span.batch * s.batch_stride + first_channel * s.dim_stride;
            shared_at<Source>(S::kSources)[which] = Source::of<T>(s.address, offset, s.dim_stride, s.seqlen_stride);
        } else if (which < 6) {
            const SsmProjection &s = (&p.B)[which - 4];
            const int64_t group = first_channel / s.channels_per_group;
            const int64_t offset = span.batch * s.batch_stride + group * s.ngroups_stride;
            shared_at<Source>(S::kSources)[which] = Source::of<T>(s.address, offset, s.dstate_stride, s.seqlen_stride);
        }
        __syncthreads();
        if (this_thread() == 0) {
            *shared_at<Kind>(S::kKind) = kind();
        }
#pragma unroll 1
        for (uint32_t task = this_thread() / 32; task < kTasks; task += kThreads / 32) {
            start(task) = task < 3 ? S::Rows::start(source(task)) : S::States::start(source(task + 1));
        }
    }
    __device__ __forceinline__ Kind kind() const {
        const uint32_t by_step = source(3).by_step;
        const bool alike =
            source(0).by_step == by_step && source(1).by_step == by_step && (!p.z.address || source(2).by_step == by_step);
        const bool usual = p.out.address && p.D.address && p.dstate > 0 && p.step.softplus && !p.step.limited && !span.reverse;
        return alike && usual && channels == S::kChannels ? (by_step ? kByStep : kAcross) : kAny;
    }
    // Where this lane begins to bring x, dt, z, B or C, which are a warp's task each.
    static constexpr uint32_t kTasks = 5;
    __device__ __forceinline__ static const Bits *&start(uint32_t task) {
        return shared_at<const Bits *>(S::kStarts)[task * 32 + this_thread() % 32];
    }
    __device__ __forceinline__ uint32_t states_of(uint32_t slab) const {
        return min(p.dstate - slab * S::kSlab, static_cast<uint32_t>(S::kSlab));
    }
    // Of x, dt or z; x and z of a tile are needed until the next one has come.
    __device__ __forceinline__ static Bits *raw(int which, int parity) {
        const int first = which == 0 ? S::kX : which == 1 ? S::kDt : S::kZ;
        return shared_at<Bits>(first + (which == 1 ? 0 : parity * S::Rows::kBytes));
    }
    __device__ __forceinline__ static Bits *raw_projection(uint32_t of_C) {
        return shared_at<Bits>(S::kRawProjections + of_C * S::States::kBytes);
    }

    // Has a tile brought, of a sequence's tensors or only of B and C, a warp for each.
    __device__ __forceinline__ void bring(const Steps &steps, int parity, uint32_t slab, bool projections_alone) const {
#pragma unroll 1
        for (uint32_t task = this_thread() / 32; task < kTasks; task += kThreads / 32) {
            if (task < 3) {
                const bool wanted = !projections_alone && (task < 2 || p.out.address) && (&p.x)[task].address;
                if (wanted) {
                    S::Rows::bring(raw(task, parity), source(task), start(task), channels, steps.window);
                }
            } else if (!(&p.B)[task - 3].constant) {
                Source from = source(task + 1);
                const Bits *own = start(task);
                if (S::kSlabs) {
                    const int64_t to_slab = slab * S::kSlab * from.row_stride;
                    from.address += to_slab * static_cast<int64_t>(sizeof(Bits));
                    own += to_slab;
                }
                S::States::bring(raw_projection(task - 3), from, own, states_of(slab), steps.window);
            }
        }
    }

    // Rows of B and C in f32, in the order of the scan; states beyond dstate are 0.
    __device__ __forceinline__ void convert_projections(uint32_t slab) const {
        const uint32_t states = states_of(slab);
#pragma unroll 1
        for (uint32_t i = this_thread(); i < 2 * S::kFours * S::kSlab; i += kThreads) {
            const uint32_t of_C = i / (S::kFours * S::kSlab);
            const uint32_t four = i / S::kSlab % S::kFours;
            const uint32_t n = i % S::kSlab;
            float v[kFour] = {};
            if (n < states && !(of_C ? p.C : p.B).constant) {
                const bool by_step = source(4 + of_C).by_step;
                S::States::read(raw_projection(of_C) + S::States::place(by_step, n, four * kFour), by_step, v);
            }
            float *to = S::projection(of_C) + position(four * kFour) * S::kSlab + n;
            const int on = span.reverse ? -S::kSlab : S::kSlab;
#pragma unroll
            for (int j = 0; j < kFour; ++j) {
                to[j * on] = v[j];
            }
        }
    }

    // Constant B and C of this thread's states.
    __device__ __forceinline__ void load_constants(uint32_t slab) const {
#pragma unroll 1
        for (int of_C = 0; of_C < 2; ++of_C) {
            const SsmProjection &s = (&p.B)[of_C];
            if (s.constant) {
                float *to = shared_at<float>(constant(of_C)) + this_thread() * kQuad;
                copy_states_of<LANES, kThreads>(
                    to, 1, s.address, (first_channel + own_channel()) * s.dim_stride, s.dstate_stride, slab,
                    active() ? p.dstate : 0, 0.0f, false);
            }
        }
    }
};

}  // namespace
