/* What kernels are told, shared by CUDA C, the Rust host and the Rust device code (kernels-rs/params.rs is made from
   this file by `cargo xtask bindings`). <stdint.h> and nothing else. An address of 0 is an absent tensor; strides are in
   elements. */
#ifndef SSM_PARAMS_H
#define SSM_PARAMS_H

#include <stdint.h>

/* x, dt, z, out: (batch, dim, seqlen). */
typedef struct {
    uint64_t address;
    int64_t batch_stride;
    int64_t dim_stride;
    int64_t seqlen_stride;
} SsmSequence;

/* initial_state, final_state: (batch, dim, dstate); chunk_states: (nchunks, dim, dstate). f32. */
typedef struct {
    uint64_t address;
    int64_t batch_stride;
    int64_t dim_stride;
    int64_t dstate_stride;
} SsmState;

/* A: (dim, dstate). f32. */
typedef struct {
    uint64_t address;
    int64_t dim_stride;
    int64_t dstate_stride;
} SsmMatrix;

/* D, dt_bias: (dim). f32. */
typedef struct {
    uint64_t address;
    int64_t dim_stride;
} SsmVector;

/* B, C: (batch, ngroups, dstate, seqlen) in the I/O dtype, or constant: (dim, dstate) in f32. */
typedef struct {
    uint64_t address;
    int64_t batch_stride;
    int64_t ngroups_stride;
    int64_t dim_stride;
    int64_t dstate_stride;
    int64_t seqlen_stride;
    uint32_t channels_per_group;
    uint32_t constant;
} SsmProjection;

/* A tensor over a domain of up to four dimensions: a stride of 0 where it is broadcast. */
typedef struct {
    uint64_t address;
    int64_t strides[4];
} SsmWide;

/* dt to delta. */
typedef struct {
    uint32_t softplus;
    uint32_t limited;
    float min;
    float max;
} SsmStep;

/* Sums per sequence or part of one: (rows, dim). f32. */
typedef struct {
    uint64_t address;
    int64_t batch_stride;
    int64_t dim_stride;
} SsmRows;

/* How sequences lie along seqlen, and the parts that blocks work on: part p has the steps from p * part on, in scan
   order. Rows of states and sums belong to sequences, or to (sequence, part) where there are several parts. */
typedef struct {
    /* i32 (nseqs + 1): where packed sequences begin. Absent: every row of the batch is a sequence. */
    uint64_t cu_seqlens;
    int64_t seqlen;
    /* Steps from one chunk state to the next. */
    int64_t every;
    int64_t part;
    uint32_t parts;
    uint32_t nseqs;
    uint32_t reverse;
    uint32_t reserved;
} SsmSpans;

typedef struct {
    SsmSequence x;
    SsmSequence dt;
    SsmSequence z;
    /* Absent: states alone. */
    SsmSequence out;
    SsmMatrix A;
    SsmProjection B;
    SsmProjection C;
    SsmVector D;
    SsmVector dt_bias;
    /* A row per part. */
    SsmState initial_state;
    /* A row per part if `final_per_part`, else per sequence. */
    SsmState final_state;
    SsmState chunk_states;
    /* Workspace in units of a block's registers, 16 f32 of each thread: what waits while another slab is worked on; at 32
       lanes. */
    uint64_t slab_states;
    /* The sum of delta, a row per part. */
    SsmRows delta_sum;
    SsmSpans spans;
    uint32_t dim;
    uint32_t dstate;
    /* Channels that share their rows of B and C; blocks do not reach over the end of such a run. */
    uint32_t run;
    uint32_t final_per_part;
    SsmStep step;
} SsmSelectiveScanFwd;

/* dB or dC of a variable projection: itself, in the I/O dtype, if one tile of channels makes it whole; else partial
   sums in f32, one for each of the blocks that share a group. */
typedef struct {
    uint64_t address;
    int64_t partial_stride;
    int64_t batch_stride;
    int64_t ngroups_stride;
    int64_t dstate_stride;
    int64_t seqlen_stride;
    uint32_t partial;
    uint32_t reserved;
} SsmProjectionSum;

/* An absent gradient is not written. Without dout there is no dC, dD or dz: the host sets them to 0. */
typedef struct {
    SsmSequence x;
    SsmSequence dt;
    SsmSequence z;
    SsmSequence dout;
    SsmMatrix A;
    SsmProjection B;
    SsmProjection C;
    SsmVector D;
    SsmVector dt_bias;
    SsmState initial_state;
    SsmState chunk_states;
    /* What comes back through the state at the end of each part. */
    SsmState dlast;
    SsmSequence dx;
    SsmSequence ddt;
    SsmSequence dz;
    SsmProjectionSum dB;
    SsmProjectionSum dC;
    /* What goes on from the start of each part; and, a row per part, sums over time. In this order. */
    SsmState dfirst;
    SsmState dA;
    SsmState dB_constant;
    SsmState dC_constant;
    SsmRows dD;
    SsmRows ddt_bias;
    SsmRows delta_sum;
    /* Workspaces in units of a block's registers, 16 f32 of each thread: the states before each tile of a window; and, at 32
       lanes, what waits while another slab is worked on. */
    uint64_t tile_states;
    uint64_t slab_states;
    SsmSpans spans;
    uint32_t dim;
    uint32_t dstate;
    uint32_t run;
    /* Blocks that share a run, and the tiles of channels of each. */
    uint32_t blocks_per_run;
    uint32_t tiles_per_block;
    /* States that are kept of the longest window, from one chunk state to the next, and one more: those before each tile of
       steps whose states shared memory holds, or, if `sparse`, before each stretch of tiles whose inputs it holds. */
    uint32_t window_tiles;
    uint32_t sparse;
    /* Only `dfirst` and `delta_sum`. */
    uint32_t carry_only;
    /* `dfirst` has a row per part; else only that of the first part is written, a row per sequence. */
    uint32_t first_per_part;
    /* Of what is asked for nothing needs the states: dx, dB, dD and dfirst do not. */
    uint32_t no_states;
    SsmStep step;
} SsmSelectiveScanBwd;

/* carried[first chunk] = initial; carried[next] = exp(A delta_sum) carried + states. (batch, nchunks, dim, dstate). */
typedef struct {
    SsmMatrix A;
    SsmWide delta_sum;
    SsmWide states;
    SsmWide initial;
    SsmWide carried;
    uint64_t batch;
    uint64_t nchunks;
    uint64_t dim;
    uint64_t dstate;
    uint32_t reverse;
    uint32_t reserved;
} SsmSelectiveScanCarry;

/* target[i] = the sum of source[i] over `slices`, in order: first of each `group` neighbouring slices, then of these sums.
   The source is f32. */
typedef struct {
    SsmWide source;
    SsmWide target;
    uint64_t extents[4];
    uint64_t slices;
    uint64_t group;
    int64_t slice_stride;
} SsmSelectiveScanSum;

/* Values of `rule`. */
enum {
    SSM_RULE_EULER = 0,
    SSM_RULE_EXP_EULER = 1,
    SSM_RULE_ZOH = 2,
    SSM_RULE_BILINEAR = 3,
    SSM_RULE_EXP_TRAPEZOIDAL = 4,
};

/* The inputs of both directions. dt, B, lambda in the I/O dtype, A and dt_bias in f32. */
typedef struct {
    SsmWide dt;
    SsmWide A;
    SsmWide B;
    SsmWide dt_bias;
    SsmWide lambda;
    uint64_t extents[4];
    uint32_t rule;
    uint32_t reserved;
    SsmStep step;
} SsmDiscretise;

/* f32. */
typedef struct {
    SsmDiscretise inputs;
    SsmWide delta;
    SsmWide A_bar;
    SsmWide B_bar;
    SsmWide B_prev_bar;
} SsmDiscretiseFwd;

/* Upstream gradients, ddt_bias and dA in f32; ddt, dB, dlambda in the I/O dtype. */
typedef struct {
    SsmDiscretise inputs;
    SsmWide ddelta;
    SsmWide dA_bar;
    SsmWide dB_bar;
    SsmWide dB_prev_bar;
    SsmWide ddt;
    SsmWide ddt_bias;
    SsmWide dA;
    SsmWide dB;
    SsmWide dlambda;
} SsmDiscretiseBwd;

/* Dtypes that a kernel is told of. */
enum {
    SSM_DTYPE_F32 = 0,
    SSM_DTYPE_F16 = 1,
    SSM_DTYPE_BF16 = 2,
};

/* Weight (dim, width) and bias (dim) of a causal convolution, both of `dtype`; or their gradients. */
typedef struct {
    uint64_t weight;
    int64_t weight_dim_stride;
    int64_t weight_width_stride;
    uint64_t bias;
    int64_t bias_dim_stride;
    uint32_t dtype;
    uint32_t width;
} SsmTaps;

/* Tiles of `steps` steps: a sequence has ceil(its length / steps) of them, at least one. Packed, sequence s owns those from
   cu_seqlens[s] / steps + s on; else those from s * tiles_per_seq on. */
typedef struct {
    uint64_t cu_seqlens;
    int64_t seqlen;
    uint32_t steps;
    uint32_t tiles_per_seq;
    uint32_t nseqs;
    uint32_t dim;
} SsmTiles;

/* States hold inputs, in the I/O dtype: (nseqs, dim, width - 1). */
typedef struct {
    SsmSequence x;
    SsmSequence out;
    SsmTaps taps;
    SsmState initial_state;
    SsmState final_state;
    SsmTiles tiles;
    uint32_t silu;
    uint32_t reserved;
} SsmCausalConv1dFwd;

/* An absent gradient is not written. */
typedef struct {
    SsmSequence x;
    SsmSequence dout;
    SsmSequence dx;
    SsmTaps taps;
    SsmState initial_state;
    SsmState dfinal_state;
    SsmState dinitial_state;
    /* f32 (tiles, width + 1, dim): the sums of a tile for each tap, and last for the bias. */
    uint64_t partials;
    SsmTiles tiles;
    uint32_t silu;
    uint32_t reserved;
} SsmCausalConv1dBwd;

/* dweight and dbias from the partial sums: of each sequence first, then of these. */
typedef struct {
    SsmTaps gradients;
    uint64_t partials;
    SsmTiles tiles;
} SsmCausalConv1dSum;

/* conv_state: (slots, dim, state_len) in the I/O dtype. */
typedef struct {
    SsmSequence x;
    SsmSequence out;
    SsmTaps taps;
    SsmState conv_state;
    /* i32 (batch). */
    uint64_t cache_seqlens;
    uint64_t state_indices;
    /* u32: set to 1 where an index lies beyond the slots. */
    uint64_t out_of_range;
    int64_t state_len;
    uint64_t slots;
    uint32_t batch;
    uint32_t dim;
    uint32_t seqlen;
    uint32_t silu;
} SsmCausalConv1dUpdate;

/* Channels are heads. x, dt, z, out: (batch, seqlen, nheads, headdim) in the I/O dtype, as B and C, (batch, seqlen, ngroups,
   dstate); A: (nheads, headdim, dstate), D and dt_bias: (nheads, headdim), f32; state: (slots, nheads, headdim, dstate) and
   token_states: (batch seqlen, nheads, headdim, dstate) in a dtype of their own. */
typedef struct {
    SsmWide x;
    SsmWide dt;
    SsmWide z;
    SsmWide out;
    SsmWide A;
    SsmWide B;
    SsmWide C;
    SsmWide D;
    SsmWide dt_bias;
    SsmWide state;
    SsmWide token_states;
    /* i32 (batch). Absent: row b of the batch has row b of the state. */
    uint64_t state_indices;
    int64_t state_indices_stride;
    /* u32: 1 + the last row of the batch whose index is beyond the slots. */
    uint64_t index_flag;
    int64_t slots;
    uint32_t seqlen;
    uint32_t nheads;
    uint32_t headdim;
    uint32_t dstate;
    /* Heads that share a group. */
    uint32_t B_heads;
    uint32_t C_heads;
    /* Blocks of a row of the batch; and lanes of a channel, a power of two. */
    uint32_t tiles;
    uint32_t lanes;
    /* A and delta are the same for all of a head. */
    uint32_t one_decay;
    /* Four neighbours may be moved at once: of A; of B and C; of states. */
    uint32_t A_by_four;
    uint32_t rows_by_four;
    uint32_t states_by_four;
    SsmStep step;
} SsmStateUpdate;

#endif
