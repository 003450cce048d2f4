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

/* dt to delta. */
typedef struct {
    uint32_t softplus;
    uint32_t limited;
    float min;
    float max;
} SsmStep;

typedef struct {
    SsmSequence x;
    SsmSequence dt;
    SsmSequence z;
    SsmSequence out;
    SsmMatrix A;
    SsmProjection B;
    SsmProjection C;
    SsmVector D;
    SsmVector dt_bias;
    SsmState initial_state;
    SsmState final_state;
    SsmState chunk_states;
    /* Workspace (nseqs, dim, dstate), if dstate needs more than one slab. */
    SsmState slab_states;
    /* i32 (nseqs + 1): where packed sequences begin. Absent: every row of the batch is a sequence. */
    uint64_t cu_seqlens;
    int64_t seqlen;
    /* Steps from one chunk state to the next. */
    int64_t every;
    uint32_t nseqs;
    uint32_t dim;
    uint32_t dstate;
    /* Channels that share their rows of B and C; blocks do not reach over the end of such a run. */
    uint32_t run;
    uint32_t reverse;
    uint32_t reserved;
    SsmStep step;
} SsmSelectiveScanFwd;

/* A tensor of discretise over its domain: a stride of 0 where it is broadcast. */
typedef struct {
    uint64_t address;
    int64_t strides[4];
} SsmWide;

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

#endif
