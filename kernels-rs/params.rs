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
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct SsmSelectiveScanFwd {
    pub x: SsmSequence,
    pub dt: SsmSequence,
    pub z: SsmSequence,
    pub out: SsmSequence,
    pub A: SsmMatrix,
    pub B: SsmProjection,
    pub C: SsmProjection,
    pub D: SsmVector,
    pub dt_bias: SsmVector,
    pub initial_state: SsmState,
    pub final_state: SsmState,
    pub chunk_states: SsmState,
    #[doc = " Workspace (nseqs, dim, dstate), if dstate needs more than one slab."]
    pub slab_states: SsmState,
    #[doc = " i32 (nseqs + 1): where packed sequences begin. Absent: every row of the batch is a sequence."]
    pub cu_seqlens: u64,
    pub seqlen: i64,
    #[doc = " Steps from one chunk state to the next."]
    pub every: i64,
    pub nseqs: u32,
    pub dim: u32,
    pub dstate: u32,
    #[doc = " Channels that share their rows of B and C; blocks do not reach over the end of such a run."]
    pub run: u32,
    pub reverse: u32,
    pub reserved: u32,
    pub step: SsmStep,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SsmSelectiveScanFwd"][::core::mem::size_of::<SsmSelectiveScanFwd>() - 488usize];
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
    ["Offset of field: SsmSelectiveScanFwd::cu_seqlens"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, cu_seqlens) - 424usize];
    ["Offset of field: SsmSelectiveScanFwd::seqlen"][::core::mem::offset_of!(SsmSelectiveScanFwd, seqlen) - 432usize];
    ["Offset of field: SsmSelectiveScanFwd::every"][::core::mem::offset_of!(SsmSelectiveScanFwd, every) - 440usize];
    ["Offset of field: SsmSelectiveScanFwd::nseqs"][::core::mem::offset_of!(SsmSelectiveScanFwd, nseqs) - 448usize];
    ["Offset of field: SsmSelectiveScanFwd::dim"][::core::mem::offset_of!(SsmSelectiveScanFwd, dim) - 452usize];
    ["Offset of field: SsmSelectiveScanFwd::dstate"][::core::mem::offset_of!(SsmSelectiveScanFwd, dstate) - 456usize];
    ["Offset of field: SsmSelectiveScanFwd::run"][::core::mem::offset_of!(SsmSelectiveScanFwd, run) - 460usize];
    ["Offset of field: SsmSelectiveScanFwd::reverse"][::core::mem::offset_of!(SsmSelectiveScanFwd, reverse) - 464usize];
    ["Offset of field: SsmSelectiveScanFwd::reserved"]
        [::core::mem::offset_of!(SsmSelectiveScanFwd, reserved) - 468usize];
    ["Offset of field: SsmSelectiveScanFwd::step"][::core::mem::offset_of!(SsmSelectiveScanFwd, step) - 472usize];
};
#[doc = " A tensor of discretise over its domain: a stride of 0 where it is broadcast."]
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
