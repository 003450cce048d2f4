// Made from kernels-cu/params.h by `cargo xtask bindings`.

#[doc = " x, dt, z, out: (batch, dim, seqlen)."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSequence {
    pub address: u64,
    pub batch_stride: i64,
    pub dim_stride: i64,
    pub seqlen_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSequence"][::core::mem::size_of::<SsmSequence>() - 32usize];
    ["Alignment of SsmSequence"][::core::mem::align_of::<SsmSequence>() - 8usize];
    ["Offset of field: SsmSequence::address"][::core::mem::offset_of!(SsmSequence, address) - 0usize];
    ["Offset of field: SsmSequence::batch_stride"][::core::mem::offset_of!(SsmSequence, batch_stride) - 8usize];
    ["Offset of field: SsmSequence::dim_stride"][::core::mem::offset_of!(SsmSequence, dim_stride) - 16usize];
    ["Offset of field: SsmSequence::seqlen_stride"][::core::mem::offset_of!(SsmSequence, seqlen_stride) - 24usize];
};
#[doc = " initial_state, final_state: (batch, dim, dstate); chunk_states: (nchunks, dim, dstate). f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmState {
    pub address: u64,
    pub batch_stride: i64,
    pub dim_stride: i64,
    pub dstate_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmState"][::core::mem::size_of::<SsmState>() - 32usize];
    ["Alignment of SsmState"][::core::mem::align_of::<SsmState>() - 8usize];
    ["Offset of field: SsmState::address"][::core::mem::offset_of!(SsmState, address) - 0usize];
    ["Offset of field: SsmState::batch_stride"][::core::mem::offset_of!(SsmState, batch_stride) - 8usize];
    ["Offset of field: SsmState::dim_stride"][::core::mem::offset_of!(SsmState, dim_stride) - 16usize];
    ["Offset of field: SsmState::dstate_stride"][::core::mem::offset_of!(SsmState, dstate_stride) - 24usize];
};
#[doc = " A: (dim, dstate). f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmMatrix {
    pub address: u64,
    pub dim_stride: i64,
    pub dstate_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmMatrix"][::core::mem::size_of::<SsmMatrix>() - 24usize];
    ["Alignment of SsmMatrix"][::core::mem::align_of::<SsmMatrix>() - 8usize];
    ["Offset of field: SsmMatrix::address"][::core::mem::offset_of!(SsmMatrix, address) - 0usize];
    ["Offset of field: SsmMatrix::dim_stride"][::core::mem::offset_of!(SsmMatrix, dim_stride) - 8usize];
    ["Offset of field: SsmMatrix::dstate_stride"][::core::mem::offset_of!(SsmMatrix, dstate_stride) - 16usize];
};
#[doc = " D, dt_bias: (dim). f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmVector {
    pub address: u64,
    pub dim_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmVector"][::core::mem::size_of::<SsmVector>() - 16usize];
    ["Alignment of SsmVector"][::core::mem::align_of::<SsmVector>() - 8usize];
    ["Offset of field: SsmVector::address"][::core::mem::offset_of!(SsmVector, address) - 0usize];
    ["Offset of field: SsmVector::dim_stride"][::core::mem::offset_of!(SsmVector, dim_stride) - 8usize];
};
#[doc = " B, C: (batch, ngroups, dstate, seqlen) in the I/O dtype, or constant: (dim, dstate) in f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmProjection {
    pub address: u64,
    pub batch_stride: i64,
    pub ngroups_stride: i64,
    pub dim_stride: i64,
    pub dstate_stride: i64,
    pub seqlen_stride: i64,
    pub channels_per_group: u32,
    pub constant: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmProjection"][::core::mem::size_of::<SsmProjection>() - 56usize];
    ["Alignment of SsmProjection"][::core::mem::align_of::<SsmProjection>() - 8usize];
    ["Offset of field: SsmProjection::address"][::core::mem::offset_of!(SsmProjection, address) - 0usize];
    ["Offset of field: SsmProjection::batch_stride"][::core::mem::offset_of!(SsmProjection, batch_stride) - 8usize];
    ["Offset of field: SsmProjection::ngroups_stride"]
        [::core::mem::offset_of!(SsmProjection, ngroups_stride) - 16usize];
    ["Offset of field: SsmProjection::dim_stride"][::core::mem::offset_of!(SsmProjection, dim_stride) - 24usize];
    ["Offset of field: SsmProjection::dstate_stride"][::core::mem::offset_of!(SsmProjection, dstate_stride) - 32usize];
    ["Offset of field: SsmProjection::seqlen_stride"][::core::mem::offset_of!(SsmProjection, seqlen_stride) - 40usize];
    ["Offset of field: SsmProjection::channels_per_group"]
        [::core::mem::offset_of!(SsmProjection, channels_per_group) - 48usize];
    ["Offset of field: SsmProjection::constant"][::core::mem::offset_of!(SsmProjection, constant) - 52usize];
};
#[doc = " A tensor over a domain of up to four dimensions: a stride of 0 where it is broadcast."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmWide {
    pub address: u64,
    pub strides: [i64; 4usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmWide"][::core::mem::size_of::<SsmWide>() - 40usize];
    ["Alignment of SsmWide"][::core::mem::align_of::<SsmWide>() - 8usize];
    ["Offset of field: SsmWide::address"][::core::mem::offset_of!(SsmWide, address) - 0usize];
    ["Offset of field: SsmWide::strides"][::core::mem::offset_of!(SsmWide, strides) - 8usize];
};
#[doc = " dt to delta."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmStep {
    pub softplus: u32,
    pub limited: u32,
    pub min: f32,
    pub max: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmStep"][::core::mem::size_of::<SsmStep>() - 16usize];
    ["Alignment of SsmStep"][::core::mem::align_of::<SsmStep>() - 4usize];
    ["Offset of field: SsmStep::softplus"][::core::mem::offset_of!(SsmStep, softplus) - 0usize];
    ["Offset of field: SsmStep::limited"][::core::mem::offset_of!(SsmStep, limited) - 4usize];
    ["Offset of field: SsmStep::min"][::core::mem::offset_of!(SsmStep, min) - 8usize];
    ["Offset of field: SsmStep::max"][::core::mem::offset_of!(SsmStep, max) - 12usize];
};
#[doc = " Sums per sequence or part of one: (rows, dim). f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmRows {
    pub address: u64,
    pub batch_stride: i64,
    pub dim_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmRows"][::core::mem::size_of::<SsmRows>() - 24usize];
    ["Alignment of SsmRows"][::core::mem::align_of::<SsmRows>() - 8usize];
    ["Offset of field: SsmRows::address"][::core::mem::offset_of!(SsmRows, address) - 0usize];
    ["Offset of field: SsmRows::batch_stride"][::core::mem::offset_of!(SsmRows, batch_stride) - 8usize];
    ["Offset of field: SsmRows::dim_stride"][::core::mem::offset_of!(SsmRows, dim_stride) - 16usize];
};
#[doc = " How sequences lie along seqlen, and the parts that blocks work on: part p has the steps from p * part on, in scan\norder. Rows of states and sums belong to sequences, or to (sequence, part) where there are several parts."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSpans {
    #[doc = " i32 (nseqs + 1): where packed sequences begin. Absent: every row of the batch is a sequence."]
    pub cu_seqlens: u64,
    pub seqlen: i64,
    #[doc = " Steps from one chunk state to the next."]
    pub every: i64,
    pub part: i64,
    pub parts: u32,
    pub nseqs: u32,
    pub reverse: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSpans"][::core::mem::size_of::<SsmSpans>() - 48usize];
    ["Alignment of SsmSpans"][::core::mem::align_of::<SsmSpans>() - 8usize];
    ["Offset of field: SsmSpans::cu_seqlens"][::core::mem::offset_of!(SsmSpans, cu_seqlens) - 0usize];
    ["Offset of field: SsmSpans::seqlen"][::core::mem::offset_of!(SsmSpans, seqlen) - 8usize];
    ["Offset of field: SsmSpans::every"][::core::mem::offset_of!(SsmSpans, every) - 16usize];
    ["Offset of field: SsmSpans::part"][::core::mem::offset_of!(SsmSpans, part) - 24usize];
    ["Offset of field: SsmSpans::parts"][::core::mem::offset_of!(SsmSpans, parts) - 32usize];
    ["Offset of field: SsmSpans::nseqs"][::core::mem::offset_of!(SsmSpans, nseqs) - 36usize];
    ["Offset of field: SsmSpans::reverse"][::core::mem::offset_of!(SsmSpans, reverse) - 40usize];
    ["Offset of field: SsmSpans::reserved"][::core::mem::offset_of!(SsmSpans, reserved) - 44usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSelectiveScanFwd {
    pub x: SsmSequence,
    pub dt: SsmSequence,
    pub z: SsmSequence,
    #[doc = " Absent: states alone."]
    pub out: SsmSequence,
    pub A: SsmMatrix,
    pub B: SsmProjection,
    pub C: SsmProjection,
    pub D: SsmVector,
    pub dt_bias: SsmVector,
    #[doc = " A row per part."]
    pub initial_state: SsmState,
    #[doc = " A row per part if `final_per_part`, else per sequence."]
    pub final_state: SsmState,
    pub chunk_states: SsmState,
    #[doc = " Workspace in units of a block's registers, 16 f32 of each thread: what waits while another slab is worked on; at 32\nlanes."]
    pub slab_states: u64,
    #[doc = " The sum of delta, a row per part."]
    pub delta_sum: SsmRows,
    pub spans: SsmSpans,
    pub dim: u32,
    pub dstate: u32,
    #[doc = " Channels that share their rows of B and C; blocks do not reach over the end of such a run."]
    pub run: u32,
    pub final_per_part: u32,
    pub step: SsmStep,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSelectiveScanFwd"][::core::mem::size_of::<SsmSelectiveScanFwd>() - 504usize];
    ["Alignment of SsmSelectiveScanFwd"][::core::mem::align_of::<SsmSelectiveScanFwd>() - 8usize];
    ["Offset of field: SsmSelectiveScanFwd::x"][::core::mem::offset_of!(SsmSelectiveScanFwd, x) - 0usize];
    ["Offset of field: SsmSelectiveScanFwd::dt"][::core::mem::offset_of!(SsmSelectiveScanFwd, dt) - 32usize];
    ["Offset of field: SsmSelectiveScanFwd::z"][::core::mem::offset_of!(SsmSelectiveScanFwd, z) - 64usize];
    ["Offset of field: SsmSelectiveScanFwd::out"][::core::mem::offset_of!(SsmSelectiveScanFwd, out) - 96usize];
    ["Offset of field: SsmSelectiveScanFwd::A"][::core::mem::offset_of!(SsmSelectiveScanFwd, A) - 128usize];
    ["Offset of field: SsmSelectiveScanFwd::B"][::core::mem::offset_of!(SsmSelectiveScanFwd, B) - 152usize];
    ["Offset of field: SsmSelectiveScanFwd::C"][::core::mem::offset_of!(SsmSelectiveScanFwd, C) - 208usize];
    ["Offset of field: SsmSelectiveScanFwd::D"][::core::mem::offset_of!(SsmSelectiveScanFwd, D) - 264usize];
    ["Offset of field: SsmSelectiveScanFwd::dt_bias"][::core::mem::offset_of!(SsmSelectiveScanFwd, dt_bias) - 280usize];
    ["Offset of field: SsmSelectiveScanFwd::initial_state"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, initial_state) - 296usize];
    ["Offset of field: SsmSelectiveScanFwd::final_state"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, final_state) - 328usize];
    ["Offset of field: SsmSelectiveScanFwd::chunk_states"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, chunk_states) - 360usize];
    ["Offset of field: SsmSelectiveScanFwd::slab_states"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, slab_states) - 392usize];
    ["Offset of field: SsmSelectiveScanFwd::delta_sum"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, delta_sum) - 400usize];
    ["Offset of field: SsmSelectiveScanFwd::spans"][::core::mem::offset_of!(SsmSelectiveScanFwd, spans) - 424usize];
    ["Offset of field: SsmSelectiveScanFwd::dim"][::core::mem::offset_of!(SsmSelectiveScanFwd, dim) - 472usize];
    ["Offset of field: SsmSelectiveScanFwd::dstate"][::core::mem::offset_of!(SsmSelectiveScanFwd, dstate) - 476usize];
    ["Offset of field: SsmSelectiveScanFwd::run"][::core::mem::offset_of!(SsmSelectiveScanFwd, run) - 480usize];
    ["Offset of field: SsmSelectiveScanFwd::final_per_part"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, final_per_part) - 484usize];
    ["Offset of field: SsmSelectiveScanFwd::step"][::core::mem::offset_of!(SsmSelectiveScanFwd, step) - 488usize];
};
#[doc = " dB or dC of a variable projection: itself, in the I/O dtype, if one tile of channels makes it whole; else partial\nsums in f32, one for each of the blocks that share a group."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmProjectionSum {
    pub address: u64,
    pub partial_stride: i64,
    pub batch_stride: i64,
    pub ngroups_stride: i64,
    pub dstate_stride: i64,
    pub seqlen_stride: i64,
    pub partial: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmProjectionSum"][::core::mem::size_of::<SsmProjectionSum>() - 56usize];
    ["Alignment of SsmProjectionSum"][::core::mem::align_of::<SsmProjectionSum>() - 8usize];
    ["Offset of field: SsmProjectionSum::address"][::core::mem::offset_of!(SsmProjectionSum, address) - 0usize];
    ["Offset of field: SsmProjectionSum::partial_stride"]
        [::core::mem::offset_of!(SsmProjectionSum, partial_stride) - 8usize];
    ["Offset of field: SsmProjectionSum::batch_stride"]
        [::core::mem::offset_of!(SsmProjectionSum, batch_stride) - 16usize];
    ["Offset of field: SsmProjectionSum::ngroups_stride"]
        [::core::mem::offset_of!(SsmProjectionSum, ngroups_stride) - 24usize];
    ["Offset of field: SsmProjectionSum::dstate_stride"]
        [::core::mem::offset_of!(SsmProjectionSum, dstate_stride) - 32usize];
    ["Offset of field: SsmProjectionSum::seqlen_stride"]
        [::core::mem::offset_of!(SsmProjectionSum, seqlen_stride) - 40usize];
    ["Offset of field: SsmProjectionSum::partial"][::core::mem::offset_of!(SsmProjectionSum, partial) - 48usize];
    ["Offset of field: SsmProjectionSum::reserved"][::core::mem::offset_of!(SsmProjectionSum, reserved) - 52usize];
};
#[doc = " An absent gradient is not written. Without dout there is no dC, dD or dz: the host sets them to 0."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSelectiveScanBwd {
    pub x: SsmSequence,
    pub dt: SsmSequence,
    pub z: SsmSequence,
    pub dout: SsmSequence,
    pub A: SsmMatrix,
    pub B: SsmProjection,
    pub C: SsmProjection,
    pub D: SsmVector,
    pub dt_bias: SsmVector,
    pub initial_state: SsmState,
    pub chunk_states: SsmState,
    #[doc = " What comes back through the state at the end of each part."]
    pub dlast: SsmState,
    pub dx: SsmSequence,
    pub ddt: SsmSequence,
    pub dz: SsmSequence,
    pub dB: SsmProjectionSum,
    pub dC: SsmProjectionSum,
    #[doc = " What goes on from the start of each part; and, a row per part, sums over time. In this order."]
    pub dfirst: SsmState,
    pub dA: SsmState,
    pub dB_constant: SsmState,
    pub dC_constant: SsmState,
    pub dD: SsmRows,
    pub ddt_bias: SsmRows,
    pub delta_sum: SsmRows,
    #[doc = " Workspaces in units of a block's registers, 16 f32 of each thread: the states before each tile of a window; and, at 32\nlanes, what waits while another slab is worked on."]
    pub tile_states: u64,
    pub slab_states: u64,
    pub spans: SsmSpans,
    pub dim: u32,
    pub dstate: u32,
    pub run: u32,
    #[doc = " Blocks that share a run, and the tiles of channels of each."]
    pub blocks_per_run: u32,
    pub tiles_per_block: u32,
    #[doc = " States that are kept of the longest window, from one chunk state to the next, and one more: those before each tile of\nsteps whose states shared memory holds, or, if `sparse`, before each stretch of tiles whose inputs it holds."]
    pub window_tiles: u32,
    pub sparse: u32,
    #[doc = " Only `dfirst` and `delta_sum`."]
    pub carry_only: u32,
    #[doc = " `dfirst` has a row per part; else only that of the first part is written, a row per sequence."]
    pub first_per_part: u32,
    #[doc = " Of what is asked for nothing needs the states: dx, dB, dD and dfirst do not."]
    pub no_states: u32,
    pub step: SsmStep,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSelectiveScanBwd"][::core::mem::size_of::<SsmSelectiveScanBwd>() - 920usize];
    ["Alignment of SsmSelectiveScanBwd"][::core::mem::align_of::<SsmSelectiveScanBwd>() - 8usize];
    ["Offset of field: SsmSelectiveScanBwd::x"][::core::mem::offset_of!(SsmSelectiveScanBwd, x) - 0usize];
    ["Offset of field: SsmSelectiveScanBwd::dt"][::core::mem::offset_of!(SsmSelectiveScanBwd, dt) - 32usize];
    ["Offset of field: SsmSelectiveScanBwd::z"][::core::mem::offset_of!(SsmSelectiveScanBwd, z) - 64usize];
    ["Offset of field: SsmSelectiveScanBwd::dout"][::core::mem::offset_of!(SsmSelectiveScanBwd, dout) - 96usize];
    ["Offset of field: SsmSelectiveScanBwd::A"][::core::mem::offset_of!(SsmSelectiveScanBwd, A) - 128usize];
    ["Offset of field: SsmSelectiveScanBwd::B"][::core::mem::offset_of!(SsmSelectiveScanBwd, B) - 152usize];
    ["Offset of field: SsmSelectiveScanBwd::C"][::core::mem::offset_of!(SsmSelectiveScanBwd, C) - 208usize];
    ["Offset of field: SsmSelectiveScanBwd::D"][::core::mem::offset_of!(SsmSelectiveScanBwd, D) - 264usize];
    ["Offset of field: SsmSelectiveScanBwd::dt_bias"][::core::mem::offset_of!(SsmSelectiveScanBwd, dt_bias) - 280usize];
    ["Offset of field: SsmSelectiveScanBwd::initial_state"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, initial_state) - 296usize];
    ["Offset of field: SsmSelectiveScanBwd::chunk_states"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, chunk_states) - 328usize];
    ["Offset of field: SsmSelectiveScanBwd::dlast"][::core::mem::offset_of!(SsmSelectiveScanBwd, dlast) - 360usize];
    ["Offset of field: SsmSelectiveScanBwd::dx"][::core::mem::offset_of!(SsmSelectiveScanBwd, dx) - 392usize];
    ["Offset of field: SsmSelectiveScanBwd::ddt"][::core::mem::offset_of!(SsmSelectiveScanBwd, ddt) - 424usize];
    ["Offset of field: SsmSelectiveScanBwd::dz"][::core::mem::offset_of!(SsmSelectiveScanBwd, dz) - 456usize];
    ["Offset of field: SsmSelectiveScanBwd::dB"][::core::mem::offset_of!(SsmSelectiveScanBwd, dB) - 488usize];
    ["Offset of field: SsmSelectiveScanBwd::dC"][::core::mem::offset_of!(SsmSelectiveScanBwd, dC) - 544usize];
    ["Offset of field: SsmSelectiveScanBwd::dfirst"][::core::mem::offset_of!(SsmSelectiveScanBwd, dfirst) - 600usize];
    ["Offset of field: SsmSelectiveScanBwd::dA"][::core::mem::offset_of!(SsmSelectiveScanBwd, dA) - 632usize];
    ["Offset of field: SsmSelectiveScanBwd::dB_constant"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, dB_constant) - 664usize];
    ["Offset of field: SsmSelectiveScanBwd::dC_constant"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, dC_constant) - 696usize];
    ["Offset of field: SsmSelectiveScanBwd::dD"][::core::mem::offset_of!(SsmSelectiveScanBwd, dD) - 728usize];
    ["Offset of field: SsmSelectiveScanBwd::ddt_bias"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, ddt_bias) - 752usize];
    ["Offset of field: SsmSelectiveScanBwd::delta_sum"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, delta_sum) - 776usize];
    ["Offset of field: SsmSelectiveScanBwd::tile_states"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, tile_states) - 800usize];
    ["Offset of field: SsmSelectiveScanBwd::slab_states"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, slab_states) - 808usize];
    ["Offset of field: SsmSelectiveScanBwd::spans"][::core::mem::offset_of!(SsmSelectiveScanBwd, spans) - 816usize];
    ["Offset of field: SsmSelectiveScanBwd::dim"][::core::mem::offset_of!(SsmSelectiveScanBwd, dim) - 864usize];
    ["Offset of field: SsmSelectiveScanBwd::dstate"][::core::mem::offset_of!(SsmSelectiveScanBwd, dstate) - 868usize];
    ["Offset of field: SsmSelectiveScanBwd::run"][::core::mem::offset_of!(SsmSelectiveScanBwd, run) - 872usize];
    ["Offset of field: SsmSelectiveScanBwd::blocks_per_run"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, blocks_per_run) - 876usize];
    ["Offset of field: SsmSelectiveScanBwd::tiles_per_block"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, tiles_per_block) - 880usize];
    ["Offset of field: SsmSelectiveScanBwd::window_tiles"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, window_tiles) - 884usize];
    ["Offset of field: SsmSelectiveScanBwd::sparse"][::core::mem::offset_of!(SsmSelectiveScanBwd, sparse) - 888usize];
    ["Offset of field: SsmSelectiveScanBwd::carry_only"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, carry_only) - 892usize];
    ["Offset of field: SsmSelectiveScanBwd::first_per_part"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, first_per_part) - 896usize];
    ["Offset of field: SsmSelectiveScanBwd::no_states"]
        [::core::mem::offset_of!(SsmSelectiveScanBwd, no_states) - 900usize];
    ["Offset of field: SsmSelectiveScanBwd::step"][::core::mem::offset_of!(SsmSelectiveScanBwd, step) - 904usize];
};
#[doc = " carried[first chunk] = initial; carried[next] = exp(A delta_sum) carried + states. (batch, nchunks, dim, dstate)."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSelectiveScanCarry {
    pub A: SsmMatrix,
    pub delta_sum: SsmWide,
    pub states: SsmWide,
    pub initial: SsmWide,
    pub carried: SsmWide,
    pub batch: u64,
    pub nchunks: u64,
    pub dim: u64,
    pub dstate: u64,
    pub reverse: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSelectiveScanCarry"][::core::mem::size_of::<SsmSelectiveScanCarry>() - 224usize];
    ["Alignment of SsmSelectiveScanCarry"][::core::mem::align_of::<SsmSelectiveScanCarry>() - 8usize];
    ["Offset of field: SsmSelectiveScanCarry::A"][::core::mem::offset_of!(SsmSelectiveScanCarry, A) - 0usize];
    ["Offset of field: SsmSelectiveScanCarry::delta_sum"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, delta_sum) - 24usize];
    ["Offset of field: SsmSelectiveScanCarry::states"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, states) - 64usize];
    ["Offset of field: SsmSelectiveScanCarry::initial"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, initial) - 104usize];
    ["Offset of field: SsmSelectiveScanCarry::carried"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, carried) - 144usize];
    ["Offset of field: SsmSelectiveScanCarry::batch"][::core::mem::offset_of!(SsmSelectiveScanCarry, batch) - 184usize];
    ["Offset of field: SsmSelectiveScanCarry::nchunks"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, nchunks) - 192usize];
    ["Offset of field: SsmSelectiveScanCarry::dim"][::core::mem::offset_of!(SsmSelectiveScanCarry, dim) - 200usize];
    ["Offset of field: SsmSelectiveScanCarry::dstate"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, dstate) - 208usize];
    ["Offset of field: SsmSelectiveScanCarry::reverse"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, reverse) - 216usize];
    ["Offset of field: SsmSelectiveScanCarry::reserved"]
        [::core::mem::offset_of!(SsmSelectiveScanCarry, reserved) - 220usize];
};
#[doc = " target[i] = the sum of source[i] over `slices`, in order: first of each `group` neighbouring slices, then of these sums.\nThe source is f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSelectiveScanSum {
    pub source: SsmWide,
    pub target: SsmWide,
    pub extents: [u64; 4usize],
    pub slices: u64,
    pub group: u64,
    pub slice_stride: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSelectiveScanSum"][::core::mem::size_of::<SsmSelectiveScanSum>() - 136usize];
    ["Alignment of SsmSelectiveScanSum"][::core::mem::align_of::<SsmSelectiveScanSum>() - 8usize];
    ["Offset of field: SsmSelectiveScanSum::source"][::core::mem::offset_of!(SsmSelectiveScanSum, source) - 0usize];
    ["Offset of field: SsmSelectiveScanSum::target"][::core::mem::offset_of!(SsmSelectiveScanSum, target) - 40usize];
    ["Offset of field: SsmSelectiveScanSum::extents"][::core::mem::offset_of!(SsmSelectiveScanSum, extents) - 80usize];
    ["Offset of field: SsmSelectiveScanSum::slices"][::core::mem::offset_of!(SsmSelectiveScanSum, slices) - 112usize];
    ["Offset of field: SsmSelectiveScanSum::group"][::core::mem::offset_of!(SsmSelectiveScanSum, group) - 120usize];
    ["Offset of field: SsmSelectiveScanSum::slice_stride"]
        [::core::mem::offset_of!(SsmSelectiveScanSum, slice_stride) - 128usize];
};
pub const SSM_RULE_EULER: _bindgen_ty_1 = 0;
pub const SSM_RULE_EXP_EULER: _bindgen_ty_1 = 1;
pub const SSM_RULE_ZOH: _bindgen_ty_1 = 2;
pub const SSM_RULE_BILINEAR: _bindgen_ty_1 = 3;
pub const SSM_RULE_EXP_TRAPEZOIDAL: _bindgen_ty_1 = 4;
#[doc = " Values of `rule`."]
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
#[doc = " The inputs of both directions. dt, B, lambda in the I/O dtype, A and dt_bias in f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmDiscretise {
    pub dt: SsmWide,
    pub A: SsmWide,
    pub B: SsmWide,
    pub dt_bias: SsmWide,
    pub lambda: SsmWide,
    pub extents: [u64; 4usize],
    pub rule: u32,
    pub reserved: u32,
    pub step: SsmStep,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmDiscretise"][::core::mem::size_of::<SsmDiscretise>() - 256usize];
    ["Alignment of SsmDiscretise"][::core::mem::align_of::<SsmDiscretise>() - 8usize];
    ["Offset of field: SsmDiscretise::dt"][::core::mem::offset_of!(SsmDiscretise, dt) - 0usize];
    ["Offset of field: SsmDiscretise::A"][::core::mem::offset_of!(SsmDiscretise, A) - 40usize];
    ["Offset of field: SsmDiscretise::B"][::core::mem::offset_of!(SsmDiscretise, B) - 80usize];
    ["Offset of field: SsmDiscretise::dt_bias"][::core::mem::offset_of!(SsmDiscretise, dt_bias) - 120usize];
    ["Offset of field: SsmDiscretise::lambda"][::core::mem::offset_of!(SsmDiscretise, lambda) - 160usize];
    ["Offset of field: SsmDiscretise::extents"][::core::mem::offset_of!(SsmDiscretise, extents) - 200usize];
    ["Offset of field: SsmDiscretise::rule"][::core::mem::offset_of!(SsmDiscretise, rule) - 232usize];
    ["Offset of field: SsmDiscretise::reserved"][::core::mem::offset_of!(SsmDiscretise, reserved) - 236usize];
    ["Offset of field: SsmDiscretise::step"][::core::mem::offset_of!(SsmDiscretise, step) - 240usize];
};
#[doc = " f32."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmDiscretiseFwd {
    pub inputs: SsmDiscretise,
    pub delta: SsmWide,
    pub A_bar: SsmWide,
    pub B_bar: SsmWide,
    pub B_prev_bar: SsmWide,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmDiscretiseFwd"][::core::mem::size_of::<SsmDiscretiseFwd>() - 416usize];
    ["Alignment of SsmDiscretiseFwd"][::core::mem::align_of::<SsmDiscretiseFwd>() - 8usize];
    ["Offset of field: SsmDiscretiseFwd::inputs"][::core::mem::offset_of!(SsmDiscretiseFwd, inputs) - 0usize];
    ["Offset of field: SsmDiscretiseFwd::delta"][::core::mem::offset_of!(SsmDiscretiseFwd, delta) - 256usize];
    ["Offset of field: SsmDiscretiseFwd::A_bar"][::core::mem::offset_of!(SsmDiscretiseFwd, A_bar) - 296usize];
    ["Offset of field: SsmDiscretiseFwd::B_bar"][::core::mem::offset_of!(SsmDiscretiseFwd, B_bar) - 336usize];
    ["Offset of field: SsmDiscretiseFwd::B_prev_bar"][::core::mem::offset_of!(SsmDiscretiseFwd, B_prev_bar) - 376usize];
};
#[doc = " Upstream gradients, ddt_bias and dA in f32; ddt, dB, dlambda in the I/O dtype."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmDiscretiseBwd {
    pub inputs: SsmDiscretise,
    pub ddelta: SsmWide,
    pub dA_bar: SsmWide,
    pub dB_bar: SsmWide,
    pub dB_prev_bar: SsmWide,
    pub ddt: SsmWide,
    pub ddt_bias: SsmWide,
    pub dA: SsmWide,
    pub dB: SsmWide,
    pub dlambda: SsmWide,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmDiscretiseBwd"][::core::mem::size_of::<SsmDiscretiseBwd>() - 616usize];
    ["Alignment of SsmDiscretiseBwd"][::core::mem::align_of::<SsmDiscretiseBwd>() - 8usize];
    ["Offset of field: SsmDiscretiseBwd::inputs"][::core::mem::offset_of!(SsmDiscretiseBwd, inputs) - 0usize];
    ["Offset of field: SsmDiscretiseBwd::ddelta"][::core::mem::offset_of!(SsmDiscretiseBwd, ddelta) - 256usize];
    ["Offset of field: SsmDiscretiseBwd::dA_bar"][::core::mem::offset_of!(SsmDiscretiseBwd, dA_bar) - 296usize];
    ["Offset of field: SsmDiscretiseBwd::dB_bar"][::core::mem::offset_of!(SsmDiscretiseBwd, dB_bar) - 336usize];
    ["Offset of field: SsmDiscretiseBwd::dB_prev_bar"]
        [::core::mem::offset_of!(SsmDiscretiseBwd, dB_prev_bar) - 376usize];
    ["Offset of field: SsmDiscretiseBwd::ddt"][::core::mem::offset_of!(SsmDiscretiseBwd, ddt) - 416usize];
    ["Offset of field: SsmDiscretiseBwd::ddt_bias"][::core::mem::offset_of!(SsmDiscretiseBwd, ddt_bias) - 456usize];
    ["Offset of field: SsmDiscretiseBwd::dA"][::core::mem::offset_of!(SsmDiscretiseBwd, dA) - 496usize];
    ["Offset of field: SsmDiscretiseBwd::dB"][::core::mem::offset_of!(SsmDiscretiseBwd, dB) - 536usize];
    ["Offset of field: SsmDiscretiseBwd::dlambda"][::core::mem::offset_of!(SsmDiscretiseBwd, dlambda) - 576usize];
};
pub const SSM_DTYPE_F32: _bindgen_ty_2 = 0;
pub const SSM_DTYPE_F16: _bindgen_ty_2 = 1;
pub const SSM_DTYPE_BF16: _bindgen_ty_2 = 2;
#[doc = " Dtypes that a kernel is told of."]
pub type _bindgen_ty_2 = ::core::ffi::c_uint;
#[doc = " Weight (dim, width) and bias (dim) of a causal convolution, both of `dtype`; or their gradients."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmTaps {
    pub weight: u64,
    pub weight_dim_stride: i64,
    pub weight_width_stride: i64,
    pub bias: u64,
    pub bias_dim_stride: i64,
    pub dtype: u32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmTaps"][::core::mem::size_of::<SsmTaps>() - 48usize];
    ["Alignment of SsmTaps"][::core::mem::align_of::<SsmTaps>() - 8usize];
    ["Offset of field: SsmTaps::weight"][::core::mem::offset_of!(SsmTaps, weight) - 0usize];
    ["Offset of field: SsmTaps::weight_dim_stride"][::core::mem::offset_of!(SsmTaps, weight_dim_stride) - 8usize];
    ["Offset of field: SsmTaps::weight_width_stride"][::core::mem::offset_of!(SsmTaps, weight_width_stride) - 16usize];
    ["Offset of field: SsmTaps::bias"][::core::mem::offset_of!(SsmTaps, bias) - 24usize];
    ["Offset of field: SsmTaps::bias_dim_stride"][::core::mem::offset_of!(SsmTaps, bias_dim_stride) - 32usize];
    ["Offset of field: SsmTaps::dtype"][::core::mem::offset_of!(SsmTaps, dtype) - 40usize];
    ["Offset of field: SsmTaps::width"][::core::mem::offset_of!(SsmTaps, width) - 44usize];
};
#[doc = " Tiles of `steps` steps: a sequence has ceil(its length / steps) of them, at least one. Packed, sequence s owns those from\ncu_seqlens[s] / steps + s on; else those from s * tiles_per_seq on."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmTiles {
    pub cu_seqlens: u64,
    pub seqlen: i64,
    pub steps: u32,
    pub tiles_per_seq: u32,
    pub nseqs: u32,
    pub dim: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmTiles"][::core::mem::size_of::<SsmTiles>() - 32usize];
    ["Alignment of SsmTiles"][::core::mem::align_of::<SsmTiles>() - 8usize];
    ["Offset of field: SsmTiles::cu_seqlens"][::core::mem::offset_of!(SsmTiles, cu_seqlens) - 0usize];
    ["Offset of field: SsmTiles::seqlen"][::core::mem::offset_of!(SsmTiles, seqlen) - 8usize];
    ["Offset of field: SsmTiles::steps"][::core::mem::offset_of!(SsmTiles, steps) - 16usize];
    ["Offset of field: SsmTiles::tiles_per_seq"][::core::mem::offset_of!(SsmTiles, tiles_per_seq) - 20usize];
    ["Offset of field: SsmTiles::nseqs"][::core::mem::offset_of!(SsmTiles, nseqs) - 24usize];
    ["Offset of field: SsmTiles::dim"][::core::mem::offset_of!(SsmTiles, dim) - 28usize];
};
#[doc = " States hold inputs, in the I/O dtype: (nseqs, dim, width - 1)."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmCausalConv1dFwd {
    pub x: SsmSequence,
    pub out: SsmSequence,
    pub taps: SsmTaps,
    pub initial_state: SsmState,
    pub final_state: SsmState,
    pub tiles: SsmTiles,
    pub silu: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmCausalConv1dFwd"][::core::mem::size_of::<SsmCausalConv1dFwd>() - 216usize];
    ["Alignment of SsmCausalConv1dFwd"][::core::mem::align_of::<SsmCausalConv1dFwd>() - 8usize];
    ["Offset of field: SsmCausalConv1dFwd::x"][::core::mem::offset_of!(SsmCausalConv1dFwd, x) - 0usize];
    ["Offset of field: SsmCausalConv1dFwd::out"][::core::mem::offset_of!(SsmCausalConv1dFwd, out) - 32usize];
    ["Offset of field: SsmCausalConv1dFwd::taps"][::core::mem::offset_of!(SsmCausalConv1dFwd, taps) - 64usize];
    ["Offset of field: SsmCausalConv1dFwd::initial_state"]
        [::core::mem::offset_of!(SsmCausalConv1dFwd, initial_state) - 112usize];
    ["Offset of field: SsmCausalConv1dFwd::final_state"]
        [::core::mem::offset_of!(SsmCausalConv1dFwd, final_state) - 144usize];
    ["Offset of field: SsmCausalConv1dFwd::tiles"][::core::mem::offset_of!(SsmCausalConv1dFwd, tiles) - 176usize];
    ["Offset of field: SsmCausalConv1dFwd::silu"][::core::mem::offset_of!(SsmCausalConv1dFwd, silu) - 208usize];
    ["Offset of field: SsmCausalConv1dFwd::reserved"][::core::mem::offset_of!(SsmCausalConv1dFwd, reserved) - 212usize];
};
#[doc = " An absent gradient is not written."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmCausalConv1dBwd {
    pub x: SsmSequence,
    pub dout: SsmSequence,
    pub dx: SsmSequence,
    pub taps: SsmTaps,
    pub initial_state: SsmState,
    pub dfinal_state: SsmState,
    pub dinitial_state: SsmState,
    #[doc = " f32 (tiles, width + 1, dim): the sums of a tile for each tap, and last for the bias."]
    pub partials: u64,
    pub tiles: SsmTiles,
    pub silu: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmCausalConv1dBwd"][::core::mem::size_of::<SsmCausalConv1dBwd>() - 288usize];
    ["Alignment of SsmCausalConv1dBwd"][::core::mem::align_of::<SsmCausalConv1dBwd>() - 8usize];
    ["Offset of field: SsmCausalConv1dBwd::x"][::core::mem::offset_of!(SsmCausalConv1dBwd, x) - 0usize];
    ["Offset of field: SsmCausalConv1dBwd::dout"][::core::mem::offset_of!(SsmCausalConv1dBwd, dout) - 32usize];
    ["Offset of field: SsmCausalConv1dBwd::dx"][::core::mem::offset_of!(SsmCausalConv1dBwd, dx) - 64usize];
    ["Offset of field: SsmCausalConv1dBwd::taps"][::core::mem::offset_of!(SsmCausalConv1dBwd, taps) - 96usize];
    ["Offset of field: SsmCausalConv1dBwd::initial_state"]
        [::core::mem::offset_of!(SsmCausalConv1dBwd, initial_state) - 144usize];
    ["Offset of field: SsmCausalConv1dBwd::dfinal_state"]
        [::core::mem::offset_of!(SsmCausalConv1dBwd, dfinal_state) - 176usize];
    ["Offset of field: SsmCausalConv1dBwd::dinitial_state"]
        [::core::mem::offset_of!(SsmCausalConv1dBwd, dinitial_state) - 208usize];
    ["Offset of field: SsmCausalConv1dBwd::partials"][::core::mem::offset_of!(SsmCausalConv1dBwd, partials) - 240usize];
    ["Offset of field: SsmCausalConv1dBwd::tiles"][::core::mem::offset_of!(SsmCausalConv1dBwd, tiles) - 248usize];
    ["Offset of field: SsmCausalConv1dBwd::silu"][::core::mem::offset_of!(SsmCausalConv1dBwd, silu) - 280usize];
    ["Offset of field: SsmCausalConv1dBwd::reserved"][::core::mem::offset_of!(SsmCausalConv1dBwd, reserved) - 284usize];
};
#[doc = " dweight and dbias from the partial sums: of each sequence first, then of these."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmCausalConv1dSum {
    pub gradients: SsmTaps,
    pub partials: u64,
    pub tiles: SsmTiles,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmCausalConv1dSum"][::core::mem::size_of::<SsmCausalConv1dSum>() - 88usize];
    ["Alignment of SsmCausalConv1dSum"][::core::mem::align_of::<SsmCausalConv1dSum>() - 8usize];
    ["Offset of field: SsmCausalConv1dSum::gradients"][::core::mem::offset_of!(SsmCausalConv1dSum, gradients) - 0usize];
    ["Offset of field: SsmCausalConv1dSum::partials"][::core::mem::offset_of!(SsmCausalConv1dSum, partials) - 48usize];
    ["Offset of field: SsmCausalConv1dSum::tiles"][::core::mem::offset_of!(SsmCausalConv1dSum, tiles) - 56usize];
};
#[doc = " conv_state: (slots, dim, state_len) in the I/O dtype."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmCausalConv1dUpdate {
    pub x: SsmSequence,
    pub out: SsmSequence,
    pub taps: SsmTaps,
    pub conv_state: SsmState,
    #[doc = " i32 (batch)."]
    pub cache_seqlens: u64,
    pub state_indices: u64,
    #[doc = " u32: set to 1 where an index lies beyond the slots."]
    pub out_of_range: u64,
    pub state_len: i64,
    pub slots: u64,
    pub batch: u32,
    pub dim: u32,
    pub seqlen: u32,
    pub silu: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmCausalConv1dUpdate"][::core::mem::size_of::<SsmCausalConv1dUpdate>() - 200usize];
    ["Alignment of SsmCausalConv1dUpdate"][::core::mem::align_of::<SsmCausalConv1dUpdate>() - 8usize];
    ["Offset of field: SsmCausalConv1dUpdate::x"][::core::mem::offset_of!(SsmCausalConv1dUpdate, x) - 0usize];
    ["Offset of field: SsmCausalConv1dUpdate::out"][::core::mem::offset_of!(SsmCausalConv1dUpdate, out) - 32usize];
    ["Offset of field: SsmCausalConv1dUpdate::taps"][::core::mem::offset_of!(SsmCausalConv1dUpdate, taps) - 64usize];
    ["Offset of field: SsmCausalConv1dUpdate::conv_state"]
        [::core::mem::offset_of!(SsmCausalConv1dUpdate, conv_state) - 112usize];
    ["Offset of field: SsmCausalConv1dUpdate::cache_seqlens"]
        [::core::mem::offset_of!(SsmCausalConv1dUpdate, cache_seqlens) - 144usize];
    ["Offset of field: SsmCausalConv1dUpdate::state_indices"]
        [::core::mem::offset_of!(SsmCausalConv1dUpdate, state_indices) - 152usize];
    ["Offset of field: SsmCausalConv1dUpdate::out_of_range"]
        [::core::mem::offset_of!(SsmCausalConv1dUpdate, out_of_range) - 160usize];
    ["Offset of field: SsmCausalConv1dUpdate::state_len"]
        [::core::mem::offset_of!(SsmCausalConv1dUpdate, state_len) - 168usize];
    ["Offset of field: SsmCausalConv1dUpdate::slots"][::core::mem::offset_of!(SsmCausalConv1dUpdate, slots) - 176usize];
    ["Offset of field: SsmCausalConv1dUpdate::batch"][::core::mem::offset_of!(SsmCausalConv1dUpdate, batch) - 184usize];
    ["Offset of field: SsmCausalConv1dUpdate::dim"][::core::mem::offset_of!(SsmCausalConv1dUpdate, dim) - 188usize];
    ["Offset of field: SsmCausalConv1dUpdate::seqlen"]
        [::core::mem::offset_of!(SsmCausalConv1dUpdate, seqlen) - 192usize];
    ["Offset of field: SsmCausalConv1dUpdate::silu"][::core::mem::offset_of!(SsmCausalConv1dUpdate, silu) - 196usize];
};
#[doc = " Channels are heads. x, dt, z, out: (batch, seqlen, nheads, headdim) in the I/O dtype, as B and C, (batch, seqlen, ngroups,\ndstate); A: (nheads, headdim, dstate), D and dt_bias: (nheads, headdim), f32; state: (slots, nheads, headdim, dstate) and\ntoken_states: (batch seqlen, nheads, headdim, dstate) in a dtype of their own."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmStateUpdate {
    pub x: SsmWide,
    pub dt: SsmWide,
    pub z: SsmWide,
    pub out: SsmWide,
    pub A: SsmWide,
    pub B: SsmWide,
    pub C: SsmWide,
    pub D: SsmWide,
    pub dt_bias: SsmWide,
    pub state: SsmWide,
    pub token_states: SsmWide,
    #[doc = " i32 (batch). Absent: row b of the batch has row b of the state."]
    pub state_indices: u64,
    pub state_indices_stride: i64,
    #[doc = " u32: 1 + the last row of the batch whose index is beyond the slots."]
    pub index_flag: u64,
    pub slots: i64,
    pub seqlen: u32,
    pub nheads: u32,
    pub headdim: u32,
    pub dstate: u32,
    #[doc = " Heads that share a group."]
    pub B_heads: u32,
    pub C_heads: u32,
    #[doc = " Blocks of a row of the batch; and lanes of a channel, a power of two."]
    pub tiles: u32,
    pub lanes: u32,
    #[doc = " A and delta are the same for all of a head."]
    pub one_decay: u32,
    #[doc = " Four neighbours may be moved at once: of A; of B and C; of states."]
    pub A_by_four: u32,
    pub rows_by_four: u32,
    pub states_by_four: u32,
    pub step: SsmStep,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmStateUpdate"][::core::mem::size_of::<SsmStateUpdate>() - 536usize];
    ["Alignment of SsmStateUpdate"][::core::mem::align_of::<SsmStateUpdate>() - 8usize];
    ["Offset of field: SsmStateUpdate::x"][::core::mem::offset_of!(SsmStateUpdate, x) - 0usize];
    ["Offset of field: SsmStateUpdate::dt"][::core::mem::offset_of!(SsmStateUpdate, dt) - 40usize];
    ["Offset of field: SsmStateUpdate::z"][::core::mem::offset_of!(SsmStateUpdate, z) - 80usize];
    ["Offset of field: SsmStateUpdate::out"][::core::mem::offset_of!(SsmStateUpdate, out) - 120usize];
    ["Offset of field: SsmStateUpdate::A"][::core::mem::offset_of!(SsmStateUpdate, A) - 160usize];
    ["Offset of field: SsmStateUpdate::B"][::core::mem::offset_of!(SsmStateUpdate, B) - 200usize];
    ["Offset of field: SsmStateUpdate::C"][::core::mem::offset_of!(SsmStateUpdate, C) - 240usize];
    ["Offset of field: SsmStateUpdate::D"][::core::mem::offset_of!(SsmStateUpdate, D) - 280usize];
    ["Offset of field: SsmStateUpdate::dt_bias"][::core::mem::offset_of!(SsmStateUpdate, dt_bias) - 320usize];
    ["Offset of field: SsmStateUpdate::state"][::core::mem::offset_of!(SsmStateUpdate, state) - 360usize];
    ["Offset of field: SsmStateUpdate::token_states"][::core::mem::offset_of!(SsmStateUpdate, token_states) - 400usize];
    ["Offset of field: SsmStateUpdate::state_indices"]
        [::core::mem::offset_of!(SsmStateUpdate, state_indices) - 440usize];
    ["Offset of field: SsmStateUpdate::state_indices_stride"]
        [::core::mem::offset_of!(SsmStateUpdate, state_indices_stride) - 448usize];
    ["Offset of field: SsmStateUpdate::index_flag"][::core::mem::offset_of!(SsmStateUpdate, index_flag) - 456usize];
    ["Offset of field: SsmStateUpdate::slots"][::core::mem::offset_of!(SsmStateUpdate, slots) - 464usize];
    ["Offset of field: SsmStateUpdate::seqlen"][::core::mem::offset_of!(SsmStateUpdate, seqlen) - 472usize];
    ["Offset of field: SsmStateUpdate::nheads"][::core::mem::offset_of!(SsmStateUpdate, nheads) - 476usize];
    ["Offset of field: SsmStateUpdate::headdim"][::core::mem::offset_of!(SsmStateUpdate, headdim) - 480usize];
    ["Offset of field: SsmStateUpdate::dstate"][::core::mem::offset_of!(SsmStateUpdate, dstate) - 484usize];
    ["Offset of field: SsmStateUpdate::B_heads"][::core::mem::offset_of!(SsmStateUpdate, B_heads) - 488usize];
    ["Offset of field: SsmStateUpdate::C_heads"][::core::mem::offset_of!(SsmStateUpdate, C_heads) - 492usize];
    ["Offset of field: SsmStateUpdate::tiles"][::core::mem::offset_of!(SsmStateUpdate, tiles) - 496usize];
    ["Offset of field: SsmStateUpdate::lanes"][::core::mem::offset_of!(SsmStateUpdate, lanes) - 500usize];
    ["Offset of field: SsmStateUpdate::one_decay"][::core::mem::offset_of!(SsmStateUpdate, one_decay) - 504usize];
    ["Offset of field: SsmStateUpdate::A_by_four"][::core::mem::offset_of!(SsmStateUpdate, A_by_four) - 508usize];
    ["Offset of field: SsmStateUpdate::rows_by_four"][::core::mem::offset_of!(SsmStateUpdate, rows_by_four) - 512usize];
    ["Offset of field: SsmStateUpdate::states_by_four"]
        [::core::mem::offset_of!(SsmStateUpdate, states_by_four) - 516usize];
    ["Offset of field: SsmStateUpdate::step"][::core::mem::offset_of!(SsmStateUpdate, step) - 520usize];
};
