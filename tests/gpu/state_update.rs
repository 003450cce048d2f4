//! The state update.

use super::params::SsmStateUpdate;
use super::{Recorder, at, view, view_mut};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Slice, SliceMut};

/// Heads of a cache, with indices and a flag: three rows of the batch, two tokens.
#[test]
fn update_parameters() {
    let recorder = Recorder::default();
    let (x, rows) =
        ([("batch", 3), ("seqlen", 2), ("nheads", 8), ("headdim", 10)], ["batch", "seqlen", "ngroups", "dstate"]);
    let rows = |address, ngroups| view(address, [(rows[0], 3), (rows[1], 2), (rows[2], ngroups), (rows[3], 64)]);
    let dt = view(at(2), [("batch", 3), ("nheads", 8), ("seqlen", 2)]);
    let op = StateUpdate::<'_, f32, half::bf16, Device>::new(
        view(at(1), x),
        dt,
        view(at(3), [("nheads", 8)]),
        rows(at(4), 4),
        rows(at(5), 2),
    );
    let op = op.expect("valid").D(view(0x6_0000, [("nheads", 8), ("headdim", 10)]));
    // SAFETY: nothing is read.
    let op = unsafe {
        // Every other one of a table.
        let table = Slice::<i32, Device>::from_raw_parts(0x7_0000, 6, 3);
        op.state_indices_from_device(View::from_parts(table, Axes::strided([("batch", 3, 2)])))
    };
    let states = |name, rows| [(name, rows), ("nheads", 8), ("headdim", 10), ("dstate", 64)];
    let (mut out, mut state) = (view_mut(at(8), x), view_mut(at(9), states("slots", 7)));
    let mut kept = view_mut(at(10), states("tokens", 6));
    // SAFETY: as above.
    let mut flag = unsafe { SliceMut::<u32, Device>::from_raw_parts(0xb_0000, 1, 3) };
    let outputs = StateUpdateOutputs::new(&mut state, &mut out).token_states(&mut kept).index_flag(&mut flag);
    recorder.gpu().forward(&op, outputs).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmStateUpdate>();
    // 16 lanes of four states: 8 channels in a block.
    assert_eq!((kernel.as_str(), grid, block), ("state_update_fwd_f32_state_bf16", [30, 1, 1], [128, 1, 1]));
    assert_eq!((p.lanes, p.tiles, p.one_decay, p.slots), (16, 10, 1, 7));
    assert_eq!((p.seqlen, p.nheads, p.headdim, p.dstate, p.B_heads, p.C_heads), (2, 8, 10, 64, 2, 4));
    assert_eq!((p.x.strides, p.dt.strides, p.z.address), ([160, 80, 10, 1], [16, 1, 2, 0], 0));
    assert_eq!((p.A.strides, p.D.strides, p.dt_bias.address), ([0, 1, 0, 0], [0, 0, 10, 1], 0));
    assert_eq!((p.B.strides, p.C.strides), ([512, 256, 64, 1], [256, 128, 64, 1]));
    assert_eq!((p.state.address, p.state.strides, p.token_states.address), (at(9), [5120, 640, 64, 1], at(10)));
    assert_eq!((p.state_indices, p.state_indices_stride, p.index_flag), (0x7_0000, 2, 0xb_0000));
    assert_eq!((p.rows_by_four, p.states_by_four), (1, 1));
}

/// Four neighbours are moved at once where rows are whole fours and begin at multiples of four.
#[test]
fn update_moves_fours_where_it_may() {
    let fours = |dstate: usize, [B, state]: [u64; 2], stride: usize| {
        let recorder = Recorder::default();
        let (x, dims) = ([("batch", 2), ("dim", 6)], [("batch", 2), ("dstate", dstate)]);
        let op = StateUpdate::<'_, half::f16, f32, Device>::new(
            view(at(1), x),
            view(at(2), x),
            view(at(3), [("dim", 6), ("dstate", dstate)]),
            view(B, dims),
            view(at(5), dims),
        );
        let mut out = view_mut(at(6), x);
        let axes = Axes::strided([("batch", 2, 6 * stride as i64), ("dim", 6, stride as i64), ("dstate", dstate, 1)]);
        // SAFETY: nothing is read or written.
        let memory = unsafe { SliceMut::<f32, Device>::from_raw_parts(state, 12 * stride, 3) };
        let mut state = ViewMut::from_parts(memory, axes);
        recorder.gpu().forward(&op.expect("valid"), StateUpdateOutputs::new(&mut state, &mut out)).expect("launched");
        let (.., p) = recorder.only::<SsmStateUpdate>();
        [p.A_by_four, p.rows_by_four, p.states_by_four]
    };
    assert_eq!(fours(16, [at(4), at(7)], 16), [1, 1, 1]);
    assert_eq!(fours(18, [at(4), at(7)], 20), [0, 0, 0]);
    assert_eq!(fours(16, [at(4) + 4, at(7)], 16), [1, 0, 1]);
    assert_eq!(fours(16, [at(4) + 8, at(7) + 8], 16), [1, 1, 0]);
    assert_eq!(fours(16, [at(4), at(7)], 18), [1, 1, 0]);
    assert_eq!(fours(16, [at(4), at(7)], 20), [1, 1, 1]);
}

#[test]
fn update_refusals() {
    let recorder = Recorder::default();
    let x = |batch| View::from_parts(shared(1 << 40), Axes::strided([("batch", batch, 0), ("dim", 1 << 20, 0)]));
    fn shared(address: u64) -> Slice<'static, f32, Device> {
        // SAFETY: nothing is read or written.
        unsafe { Slice::from_raw_parts(address, 1, 3) }
    }
    let rows = |batch| View::from_parts(shared(2 << 40), Axes::strided([("batch", batch, 0), ("dstate", 1, 1)]));
    let A = View::from_parts(shared(3 << 40), Axes::strided([("dim", 1 << 20, 0), ("dstate", 1, 1)]));
    let batch = 1usize << 20;
    let op = StateUpdate::<'_, f32, f32, Device>::new(x(batch), x(batch), A, rows(batch), rows(batch)).expect("valid");
    let mut out = view_mut(4 << 50, [("batch", batch), ("dim", 1 << 20)]);
    let mut state = view_mut(4 << 51, [("batch", batch), ("dim", 1 << 20), ("dstate", 1)]);
    let error = recorder.gpu().forward(&op, StateUpdateOutputs::new(&mut state, &mut out)).expect_err("too large");
    assert!(error.to_string().starts_with("state_update: number of blocks 8589934592"), "{error}");
}
