// The selective scan, forward. Equation, shapes and options: src/ops/selective_scan.
//
// A block walks one part of a sequence from its first step to its last, a tile of steps at a time. While the states go
// through a tile, the next one's x, dt, z, B and C are on their way into shared memory. Pointwise work is dealt out over the
// block by vectors of steps, whatever lanes a channel has. Where there may be several slabs they wait in the workspace,
// tile by tile.

#include "selective_scan_tile.cuh"

namespace {

// Blocks of a multiprocessor: leaves 128 registers.
template <int THREADS>
constexpr int kBlocks = 512 / THREADS;
// x, dt, z and out are visited by number, and B and C.
static_assert(offsetof(SsmSelectiveScanFwd, out) == offsetof(SsmSelectiveScanFwd, x) + 3 * sizeof(SsmSequence));
static_assert(offsetof(SsmSelectiveScanFwd, C) == offsetof(SsmSelectiveScanFwd, B) + sizeof(SsmProjection));

// Steps step0 to step0 + steps - 1 of a sequence, which lie in a window.
struct Steps {
    int step0;
    int steps;
    Window window;
};

template <typename T, int LANES>
struct Scan {
    using S = Tile<T, LANES>;
    using Bits = typename T::Bits;
    static constexpr int kThreads = S::kThreads;
    const SsmSelectiveScanFwd &p;
    const Span span;
    const uint32_t seq;
    const uint32_t first_channel;
    const uint32_t channels;
    const uint32_t slabs;

    __device__ __forceinline__ Scan(const SsmSelectiveScanFwd &p, uint32_t seq, uint32_t first, uint32_t channels)
        : p(p), span(p.spans, seq), seq(seq), first_channel(first), channels(channels),
          slabs(S::kSlabs ? max(1u, (p.dstate + S::kSlab - 1) / S::kSlab) : 1) {}

    // This thread's channel of the block. Threads beyond the last channel compute with zeros: they take part in barriers and
    // shuffles, and write nothing.
    __device__ __forceinline__ static uint32_t own_channel() {
        return thread() / LANES;
    }
    __device__ __forceinline__ static uint32_t lane() {
        return thread() % LANES;
    }
    __device__ __forceinline__ bool active() const {
        return own_channel() < channels;
    }

    // The part's row of states and sums.
    __device__ __forceinline__ int64_t row() const {
        return static_cast<int64_t>(seq) * p.spans.parts + blockIdx.z;
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
        return shared_at<float>(0) + thread();
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
        const int64_t block = (static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z) * gridDim.x + blockIdx.x;
        const int64_t unit = (block * slabs + slab) * 2 + what;
        return reinterpret_cast<float4 *>(p.slab_states) + unit * (kQuads * kThreads) + thread();
    }

    __device__ __forceinline__ void load(uint32_t slab, States &states) const {
        const int64_t d = first_channel + own_channel();
        copy(own(), p.A.address, d * p.A.dim_stride, p.A.dstate_stride, slab, kAbsentA, false);
        from_own(states.A);
        const SsmState &from = p.initial_state;
        copy(own(), from.address, row() * from.batch_stride + d * from.dim_stride, from.dstate_stride, slab, 0.0f, false);
        from_own(states.h);
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
        const uint32_t which = thread();
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
        constexpr uint32_t kWarps = kThreads / 32;
#pragma unroll 1
        for (uint32_t task = thread() / 32; task < 5; task += kWarps) {
            if (task < 3) {
                const bool wanted = !projections_alone && (task < 2 || p.out.address) && (&p.x)[task].address;
                if (wanted) {
                    S::Rows::bring(raw(task, parity), source(task), channels, steps.window);
                }
            } else if (!(&p.B)[task - 3].constant) {
                Source from = source(task + 1);
                if (S::kSlabs) {
                    from.address += slab * S::kSlab * from.row_stride * static_cast<int64_t>(sizeof(Bits));
                }
                S::States::bring(raw_projection(task - 3), from, states_of(slab), steps.window);
            }
        }
    }

    // Rows of B and C in f32, in the order of the scan; states beyond dstate are 0.
    __device__ __forceinline__ void convert_projections(uint32_t slab) const {
        const uint32_t states = states_of(slab);
#pragma unroll 1
        for (uint32_t i = thread(); i < 2 * S::kFours * S::kSlab; i += kThreads) {
            const uint32_t of_C = i / (S::kFours * S::kSlab);
            const uint32_t four = i / S::kSlab % S::kFours;
            const uint32_t n = i % S::kSlab;
            float v[kFour] = {};
            if (n < states && !(of_C ? p.C : p.B).constant) {
                const bool by_step = source(4 + of_C).by_step;
                S::States::read(raw_projection(of_C) + S::States::place(by_step, n, four), by_step, v);
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
                float *to = shared_at<float>(constant(of_C)) + thread() * kQuad;
                copy_states_of<LANES, kThreads>(
                    to, 1, s.address, (first_channel + own_channel()) * s.dim_stride, s.dstate_stride, slab,
                    active() ? p.dstate : 0, 0.0f, false);
            }
        }
    }

    // A thread's way through a tile's channels and steps, four steps at a time: neighbouring threads have neighbouring
    // addresses, and from one turn to the next every place moves by as much.
    struct Walk {
        uint32_t channel;
        int four;
        uint32_t channels_on;
        int fours_on;

        __device__ __forceinline__ explicit Walk(bool by_step) {
            const uint32_t u = thread();
            channel = by_step ? u / S::kFours : u % S::kChannels;
            four = by_step ? u % S::kFours : u / S::kChannels;
            channels_on = by_step ? kThreads / S::kFours : 0;
            fours_on = by_step ? 0 : kThreads / S::kChannels;
        }
        __device__ __forceinline__ bool more() const {
            return channel < S::kChannels && four < S::kFours;
        }
        __device__ __forceinline__ void on() {
            channel += channels_on;
            four += fours_on;
        }
    };
    // Where a walk is in a raw tile.
    struct Cursor {
        const Bits *at;
        int on;
        bool by_step;

        __device__ __forceinline__ Cursor(const Walk &walk, int which, int parity) : by_step(source(which).by_step) {
            at = raw(which, parity) + S::Rows::place(by_step, walk.channel, walk.four);
            on = S::Rows::place(by_step, walk.channels_on, walk.fours_on);
        }
        __device__ __forceinline__ void read(float (&v)[kFour]) const {
            S::Rows::read(at, by_step, v);
        }
    };
    // The first of a walk's places in the order of the scan.
    __device__ __forceinline__ int position(const Walk &walk) const {
        return span.reverse ? S::kSteps - kFour - walk.four * kFour : walk.four * kFour;
    }
    // Where delta and delta x of a walk's steps lie, and how far they are from one turn to the next.
    __device__ __forceinline__ float *pairs(const Walk &walk) const {
        return S::pairs(walk.channel) + 2 * position(walk);
    }
    __device__ __forceinline__ int pairs_on(const Walk &walk) const {
        const int steps_on = walk.fours_on * kFour;
        return walk.channels_on * S::kPairRow + 2 * (span.reverse ? -steps_on : steps_on);
    }

    // delta and delta x of a tile; 0 for steps and channels that there are not.
    __device__ __forceinline__ void prepare(const Steps &steps, int parity) const {
        Walk walk(source(3).by_step);
        Cursor xs(walk, 0, parity), dts(walk, 1, parity);
        float *to = pairs(walk);
        const int to_on = pairs_on(walk);
#pragma unroll 1
        for (; walk.more(); walk.on()) {
            float delta[kFour] = {}, x[kFour] = {};
            if (walk.channel < channels) {
                xs.read(x);
                dts.read(delta);
                const float bias = shared_at<float>(S::kBias)[walk.channel];
#pragma unroll
                for (int j = 0; j < kFour; ++j) {
                    delta[j] += bias;
                }
                effective_steps(delta, p.step);
#pragma unroll
                for (int j = 0; j < kFour; ++j) {
                    x[j] *= delta[j];
                }
                if (steps.steps < S::kSteps) {
                    leave_out(walk.four, steps.window, delta, x);
                }
            }
            float4 *pairs = reinterpret_cast<float4 *>(to);
            if (span.reverse) {
                pairs[0] = make_float4(delta[3], x[3], delta[2], x[2]);
                pairs[1] = make_float4(delta[1], x[1], delta[0], x[0]);
            } else {
                pairs[0] = make_float4(delta[0], x[0], delta[1], x[1]);
                pairs[1] = make_float4(delta[2], x[2], delta[3], x[3]);
            }
            to += to_on;
            xs.at += xs.on;
            dts.at += dts.on;
        }
    }
    // Steps beyond the window.
    __device__ __forceinline__ static void leave_out(
        int four, const Window &window, float (&delta)[kFour], float (&delta_x)[kFour]) {
#pragma unroll
        for (int j = 0; j < kFour; ++j) {
            const uint32_t m = four * kFour + j;
            const bool there = m >= window.low && m < window.high;
            delta[j] = there ? delta[j] : 0.0f;
            delta_x[j] = there ? delta_x[j] : 0.0f;
        }
    }

    // The outputs of a tile from the sums over states: skip, gate, round.
    __device__ __forceinline__ void put(const Steps &steps, int parity) const {
        const Source out = source(3);
        const bool whole = steps.steps == S::kSteps && out.aligned;
        Walk walk(out.by_step);
        Cursor xs(walk, 0, parity), zs(walk, 2, parity);
        float *sums = S::kSlabs ? S::sums(walk.channel, position(walk)) : pairs(walk);
        const int sums_on = S::kSlabs ? pairs_on(walk) / 2 - 2 * static_cast<int>(walk.channels_on) : pairs_on(walk);
        Bits *to = out.at<T>(walk.channel, steps.window.base + walk.four * kFour);
        const int64_t to_on = walk.channels_on * out.row_stride + walk.fours_on * kFour * out.step_stride;
#pragma unroll 1
        for (; walk.more() && walk.channel < channels; walk.on()) {
            float y[kFour];
            read_sums(sums, y);
            if (p.D.address) {
                const float D = shared_at<float>(S::kD)[walk.channel];
                float x[kFour];
                xs.read(x);
#pragma unroll
                for (int j = 0; j < kFour; ++j) {
                    y[j] = fmaf(D, x[j], y[j]);
                }
            }
            if (p.z.address) {
                float z[kFour];
                zs.read(z);
#pragma unroll
                for (int j = 0; j < kFour; ++j) {
                    y[j] *= silu(z[j]);
                }
            }
            if (!out.by_step) {
                write_across(to, out.step_stride, walk.four, steps.window, y);
            } else if (whole) {
                S::Rows::write(to, y);
            } else {
                *reinterpret_cast<float4 *>(pairs(walk)) = make_float4(y[0], y[1], y[2], y[3]);
            }
            sums += sums_on;
            to += to_on;
            xs.at += xs.on;
            zs.at += zs.on;
        }
        if (out.by_step && !whole) {
            __syncthreads();
            write_elements(out, steps);
            __syncthreads();
        }
    }

    __device__ __forceinline__ void read_sums(const float *from, float (&y)[kFour]) const {
        // Without states there is nothing to sum, not even 0 * infinity.
        float4 sums = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (p.dstate > 0) {
            sums = *reinterpret_cast<const float4 *>(from);
        }
        y[0] = span.reverse ? sums.w : sums.x;
        y[1] = span.reverse ? sums.z : sums.y;
        y[2] = span.reverse ? sums.y : sums.z;
        y[3] = span.reverse ? sums.x : sums.w;
    }

    // Four steps of a channel, where its neighbours write theirs beside them.
    __device__ __forceinline__ static void write_across(
        Bits *to, int64_t step_stride, int four, const Window &window, const float (&y)[kFour]) {
#pragma unroll
        for (int j = 0; j < kFour; ++j) {
            const uint32_t m = four * kFour + j;
            if (m >= window.low && m < window.high) {
                *to = T::encode(y[j]);
            }
            to += step_stride;
        }
    }
    // Rows of steps that are not aligned or not whole, from where `put` left them: where their channel's delta was.
    __device__ __forceinline__ void write_elements(const Source &out, const Steps &steps) const {
        const uint32_t m = thread() % S::kSteps;
        if (m < steps.window.low || m >= steps.window.high) {
            return;
        }
        const uint32_t first = thread() / S::kSteps;
        Bits *to = out.at<T>(first, steps.window.base + static_cast<int>(m));
        const int four = m / kFour;
        const int place = span.reverse ? S::kSteps - kFour - four * kFour : four * kFour;
        const float *from = S::pairs(first) + 2 * place + m % kFour;
#pragma unroll 4
        for (uint32_t c = first; c < channels; c += kThreads / S::kSteps) {
            *to = T::encode(*from);
            to += kThreads / S::kSteps * out.row_stride;
            from += kThreads / S::kSteps * S::kPairRow;
        }
    }

    // The states of a slab through a tile.
    __device__ __forceinline__ void go(const Steps &steps, uint32_t slab, States &states) const {
        const int first = position(span.reverse ? steps.window.high - 1 : steps.window.low);
        const int last = first + steps.steps;
        const bool adds = slab > 0;
        const uint32_t channel = own_channel(), in_channel = lane();
        if (p.B.constant || p.C.constant || !__all_sync(0xffffffffu, states.decaying)) {
            go_through<T, LANES>(states, channel, in_channel, first, last, adds, constant(0), constant(1));
            return;
        }
        const int first_four = first / kFour * kFour;
        // Fewer quads where more lanes would hold the states of fewer, or where there are few states.
        const uint32_t quads = (p.dstate + kQuad * LANES - 1) / (kQuad * LANES);
        if (LANES <= 4 && quads == 1) {
            decay_through<T, LANES, LANES <= 4 ? 1 : kQuads>(states, channel, in_channel, first_four, last, adds);
        } else if (LANES != 8 && quads <= 2) {
            decay_through<T, LANES, LANES != 8 ? 2 : kQuads>(states, channel, in_channel, first_four, last, adds);
        } else {
            decay_through<T, LANES, kQuads>(states, channel, in_channel, first_four, last, adds);
        }
    }

    __device__ __forceinline__ void bring_next(const Steps &steps, int parity) const {
        const Steps next = tile(steps.step0 + steps.steps);
        if (next.steps > 0) {
            bring(next, parity, 0, false);
        }
    }

    // All slabs through a tile; meanwhile the next one comes.
    __device__ __forceinline__ void pass(const Steps &steps, int parity, States &states) const {
#pragma unroll 1
        for (uint32_t slab = 0; slab < slabs; ++slab) {
            if (S::kSlabs && slabs > 1) {
                resume(slab, states);
                if (slab > 0) {
                    bring(steps, parity, slab, true);
                    wait_for_copies();
                    __syncthreads();
                }
                load_constants(slab);
            }
            if (steps.steps > 0) {
                convert_projections(slab);
            }
            __syncthreads();
            if (slab + 1 == slabs) {
                bring_next(steps, parity ^ 1);
            }
            if (p.dstate > 0 && steps.steps > 0) {
                go(steps, slab, states);
            }
            if (S::kSlabs && slabs > 1) {
                suspend(slab, states);
            }
        }
    }

    // The sum of delta, if it is asked for, in the order of the scan.
    __device__ __forceinline__ void sum_delta(const Steps &steps) const {
        if (!p.delta_sum.address) {
            return;
        }
        __syncthreads();
        const int first = position(span.reverse ? steps.window.high - 1 : steps.window.low);
        const float *pairs = S::pairs(own_channel());
        // A tile's own sum first: the error of one long sum would grow with the sequence, and states with it.
        float sum = 0.0f;
#pragma unroll 1
        for (int p = first; p < first + steps.steps; ++p) {
            sum += pairs[2 * p];
        }
        if (lane() == 0) {
            shared_at<float>(S::kDeltaSum)[own_channel()] += sum;
        }
    }

    __device__ __forceinline__ void save_slabs(const SsmState &s, int64_t row, States &states) const {
#pragma unroll 1
        for (uint32_t slab = 0; slab < slabs && s.address; ++slab) {
            if (S::kSlabs && slabs > 1) {
                load_quads<kThreads>(waiting(slab, 1), states.h);
            }
            save(s, row, slab, states);
        }
    }

    // What a tile writes once the states are through it.
    __device__ __forceinline__ void finish(const Steps &steps, int parity, States &states) const {
        if (p.out.address) {
            put(steps, parity);
        }
        const uint32_t done = steps.step0 + steps.steps;
        if (p.chunk_states.address && done % every() == 0) {
            __syncthreads();
            save_slabs(p.chunk_states, *shared_at<int64_t>(S::kFirstChunk) + done / every() - 1, states);
            __syncthreads();
        }
    }

    __device__ __forceinline__ void start(States &states) const {
#pragma unroll 1
        for (uint32_t slab = 0; slab < slabs; ++slab) {
            load(slab, states);
            if (S::kSlabs && slabs > 1) {
                store_quads<kThreads>(waiting(slab, 0), states.A);
                suspend(slab, states);
            }
        }
        if (!S::kSlabs || slabs == 1) {
            load_constants(0);
        }
        settle(states, p.step);
        if (thread() == 0 && p.chunk_states.address) {
            *shared_at<int64_t>(S::kFirstChunk) = chunks_before(p.spans, seq);
        }
        find_sources();
#pragma unroll 1
        for (uint32_t c = thread(); c < S::kChannels; c += kThreads) {
            shared_at<float>(S::kDeltaSum)[c] = 0.0f;
            if (c >= channels) {
                continue;
            }
            shared_at<float>(S::kBias)[c] = load_vector(p.dt_bias, first_channel + c, 0.0f);
            shared_at<float>(S::kD)[c] = load_vector(p.D, first_channel + c, 0.0f);
        }
    }

    __device__ __forceinline__ void run() const {
        States states;
        __syncthreads();
        start(states);
        // Before the first tile there is nothing to do but to have it brought.
        int step0 = span.begin, parity = 0;
        bool first = true;
#pragma unroll 1
        while (true) {
            const Steps steps = first ? Steps{step0, 0, Window{0, 0, 0}} : tile(step0);
            if (steps.steps > 0) {
                prepare(steps, parity);
                sum_delta(steps);
            }
            pass(steps, parity, states);
            wait_for_copies();
            __syncthreads();
            // Not the tile but where it begins is kept while the states go through it, for the registers' sake.
            asm volatile("" : "+r"(step0));
            if (!first) {
                const Steps done = tile(step0);
                finish(done, parity, states);
                step0 += done.steps;
            }
            first = false;
            parity ^= 1;
            if (step0 == span.end) {
                break;
            }
        }
        __syncthreads();
        if (p.final_per_part || span.last()) {
            save_slabs(p.final_state, p.final_per_part ? row() : seq, states);
        }
        if (p.delta_sum.address && lane() == 0 && active()) {
            store_row(p.delta_sum, row(), first_channel + own_channel(), shared_at<float>(S::kDeltaSum)[own_channel()]);
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
