//! The state update on the CPU: rows of states, one channel each, in blocks of a few rows; lanes along the states as they
//! lie.

mod block;

use super::along_states::MOST_ROWS;
use super::writer::Writer;
use super::{Cpu, LEAST_STEPS};
use crate::error::Result;
use crate::ops::state_update::{CheckedOutputs, Dims, Grouped, Inputs, StateUpdate, StateUpdateOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Dtype, Element, Host, Strided};
use block::{Block, States};
use std::borrow::Cow;
use std::ops::Range;

/// Tasks with memory of their own.
const MOST_WORKERS: usize = 128;
/// States of a block: what stays in the nearest cache beside A.
const BLOCK: usize = 1024;

type Update<'a, T, H> = StateUpdate<'a, T, H, Host>;

impl<'a, T: Element, H: Element> Forward<Update<'a, T, H>> for Cpu {
    fn forward_plan(&self, op: &Update<'a, T, H>) -> Result<Plan> {
        Ok(plan::<T, H>(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Update<'a, T, H>,
        outputs: StateUpdateOutputs<'_, T, H, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        plan::<T, H>(&inputs).check(Update::<T, H>::NAME, given, &workspace)?;
        // With nothing to write there may be rows beyond counting.
        if outputs.out.layout.is_empty() {
            return Ok(());
        }
        let workers = Tasks::new(inputs.dims).workers;
        run(*self, &inputs, outputs, as_f32(workspace, workers * floats(inputs.dims)));
        Ok(())
    }

    fn forward(&self, op: &Update<'a, T, H>, outputs: StateUpdateOutputs<'_, T, H, Host>) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        if outputs.out.layout.is_empty() {
            return Ok(());
        }
        let workers = Tasks::new(inputs.dims).workers.min(self.threads());
        let used = floats(inputs.dims).saturating_mul(workers);
        let mut workspace = plan::<T, H>(&inputs).allocate_floats(used)?;
        run(*self, &inputs, outputs, as_f32((&mut workspace).into(), used));
        Ok(())
    }
}

/// In the memory of one worker or more.
fn run<T: Element, H: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    outputs: CheckedOutputs<'_, T, H, Host>,
    memory: &mut [f32],
) {
    let CheckedOutputs { out, state, token_states, .. } = outputs;
    let call = Call {
        inputs,
        one_decay: inputs.one_decay(),
        out: Writer::new(out),
        state: Writer::new(state),
        token_states: token_states.map(Writer::new),
    };
    let Tasks { rows, count, workers } = Tasks::new(inputs.dims);
    let total = inputs.dims.rows();
    cpu.for_each_with(0..workers, memory, floats(inputs.dims), |worker, memory| {
        let mut memory = Memory::new(inputs.dims, memory);
        for task in (worker..count).step_by(workers) {
            call.task(cpu, task * rows..((task + 1) * rows).min(total), &mut memory);
        }
    });
}

impl Dims {
    /// Rows of states that are advanced. (Saturating: where this is beyond counting, there is nothing to do.)
    fn rows(self) -> usize {
        self.batch.saturating_mul(self.nheads).saturating_mul(self.headdim)
    }

    /// Of a block.
    fn block_rows(self) -> usize {
        (BLOCK / self.dstate.max(1)).clamp(1, MOST_ROWS)
    }
}

/// How the rows are dealt out, by the dimensions alone.
struct Tasks {
    rows: usize,
    count: usize,
    workers: usize,
}

impl Tasks {
    fn new(dims: Dims) -> Self {
        let steps = dims.dstate.saturating_mul(dims.seqlen).max(1);
        let rows = LEAST_STEPS.div_ceil(steps).next_multiple_of(dims.block_rows());
        let count = dims.rows().div_ceil(rows);
        Self { rows, count, workers: count.min(MOST_WORKERS) }
    }
}

/// f32 of a worker: B and C of a token, and a block of A, of states, and of states in their dtype.
fn floats(dims: Dims) -> usize {
    let block = dims.block_rows().saturating_mul(dims.dstate);
    dims.dstate.saturating_mul(2).saturating_add(block.saturating_mul(3))
}

fn plan<T: Element, H: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    let floats = floats(inputs.dims).saturating_mul(Tasks::new(inputs.dims).workers);
    let kernel = format!("state_update_fwd_{}_state_{}", T::DTYPE, H::DTYPE);
    Plan::new(kernel, inputs.dims.named(), floats.saturating_mul(size_of::<f32>()))
}

/// The memory of a worker.
struct Memory<'m> {
    B: &'m mut [f32],
    C: &'m mut [f32],
    A: &'m mut [f32],
    /// As f32, and as stored.
    states: &'m mut [f32],
    stored: &'m mut [f32],
    /// Of the rows of a block; what lies beyond them is of another block, and is not used.
    rows: [[f32; MOST_ROWS]; 6],
}

impl<'m> Memory<'m> {
    fn new(dims: Dims, memory: &'m mut [f32]) -> Self {
        let block = dims.block_rows() * dims.dstate;
        let (B, rest) = memory.split_at_mut(dims.dstate);
        let (C, rest) = rest.split_at_mut(dims.dstate);
        let (A, rest) = rest.split_at_mut(block);
        let (states, rest) = rest.split_at_mut(block);
        Self { B, C, A, states, stored: &mut rest[..block], rows: [[0.0; MOST_ROWS]; 6] }
    }
}

/// One call.
struct Call<'c, 'a, T, H> {
    inputs: &'c Inputs<'a, T, Host>,
    one_decay: bool,
    out: Writer<'c, T, 4>,
    state: Writer<'c, H, 4>,
    token_states: Option<Writer<'c, H, 4>>,
}

/// Some rows of one head, in one row of the cache.
#[derive(Clone, Copy)]
struct Place {
    b: usize,
    slot: usize,
    h: usize,
    p: usize,
    rows: usize,
}

impl<T: Element, H: Element> Call<'_, '_, T, H> {
    fn task(&self, cpu: Cpu, rows: Range<usize>, memory: &mut Memory<'_>) {
        let dims = self.inputs.dims;
        let mut row = rows.start;
        while row < rows.end {
            let (b, h, p) = (row / dims.headdim / dims.nheads, row / dims.headdim % dims.nheads, row % dims.headdim);
            let count = dims.block_rows().min(dims.headdim - p).min(rows.end - row);
            match self.inputs.row(b) {
                Some(slot) => self.block(cpu, Place { b, slot, h, p, rows: count }, memory),
                None => {
                    for t in 0..dims.seqlen {
                        // SAFETY: these rows are this task's.
                        unsafe { self.out.run([b, t, h, p], 3, &[0.0; MOST_ROWS][..count]) };
                    }
                }
            }
            row += count;
        }
    }

    /// All tokens of a block.
    fn block(&self, cpu: Cpu, place: Place, memory: &mut Memory<'_>) {
        let (inputs, Place { b, slot, h, p, rows }) = (self.inputs, place);
        let dstate = inputs.dims.dstate;
        let Memory { B, C, A, states, stored, rows: [raw, bias, x, z, D, y] } = memory;
        let A = match self.one_decay {
            true => Cow::Owned(Vec::new()),
            false => Cow::Borrowed(matrix(&inputs.A, [h, p, 0], rows, A)),
        };
        let decay = if self.one_decay && dstate > 0 { Some(inputs.A.at([h, p, 0])) } else { None };
        load_rows(inputs.dt_bias.as_ref(), [h, p], 1, &mut bias[..rows]);
        load_rows(inputs.D.as_ref(), [h, p], 1, &mut D[..rows]);
        let own = dense_rows(&self.state, [slot, h, p, 0], rows, dstate);
        let (first, stored) = ([slot, h, p, 0], &mut bytemuck::cast_slice_mut::<f32, H>(stored)[..rows * dstate]);
        let current: &mut [H] = match own {
            // SAFETY: the rows lie side by side, and are this task's: no two rows of the batch have one of the cache.
            Some(start) => unsafe { std::slice::from_raw_parts_mut(start, rows * dstate) },
            None => {
                // SAFETY: as above.
                each_state(first, rows, dstate, |i, index| stored[i] = unsafe { self.state.read(index) });
                stored
            }
        };
        for t in 0..inputs.dims.seqlen {
            inputs.dt.run([b, t, h, p], 3, &mut raw[..rows]);
            inputs.x.run([b, t, h, p], 3, &mut x[..rows]);
            load_rows(inputs.z.as_ref(), [b, t, h, p], 3, &mut z[..rows]);
            Block {
                rows,
                dstate,
                step: inputs.step,
                A: &A,
                one_decay: decay,
                B: group(&inputs.B, [b, t, h], B),
                C: group(&inputs.C, [b, t, h], C),
                raw,
                bias,
                x,
                D: inputs.D.is_some().then_some(&*D),
                z: inputs.z.is_some().then_some(&*z),
                y,
                states: States::new(current, states),
            }
            .run(cpu);
            // SAFETY: these rows are this task's.
            unsafe { self.out.run([b, t, h, p], 3, &y[..rows]) };
            if let Some(token_states) = &self.token_states {
                store(token_states, [b * inputs.dims.seqlen + t, h, p, 0], rows, dstate, current);
            }
        }
        if own.is_none() {
            store(&self.state, first, rows, dstate, current);
        }
    }
}

/// Calls `visit` with the place of each state of `rows` rows, and its index.
#[inline(always)]
fn each_state(first: [usize; 4], rows: usize, dstate: usize, mut visit: impl FnMut(usize, [usize; 4])) {
    let [slot, h, p, _] = first;
    for row in 0..rows {
        for n in 0..dstate {
            visit(row * dstate + n, [slot, h, p + row, n]);
        }
    }
}

/// Where `rows` rows begin, if they lie side by side.
fn dense_rows<H>(tensor: &Writer<'_, H, 4>, first: [usize; 4], rows: usize, dstate: usize) -> Option<*mut H> {
    let together = rows == 1 || tensor.stride(2) == dstate as i64;
    if together && dstate > 0 { tensor.contiguous(first, 3) } else { None }
}

/// Writes a block of states, which are this task's.
fn store<H: Element>(to: &Writer<'_, H, 4>, first: [usize; 4], rows: usize, dstate: usize, from: &[H]) {
    match dense_rows(to, first, rows, dstate) {
        // SAFETY: the rows lie side by side, and are this task's.
        Some(start) => unsafe { std::slice::from_raw_parts_mut(start, rows * dstate) }.copy_from_slice(from),
        // SAFETY: as above.
        None => each_state(first, rows, dstate, |i, index| unsafe { to.write(index, from[i]) }),
    }
}

/// Rows of a tensor that may be absent, for which nothing is read later.
fn load_rows<T: Element, const R: usize>(
    tensor: Option<&Strided<'_, T, Host, R>>,
    index: [usize; R],
    axis: usize,
    to: &mut [f32],
) {
    match tensor {
        Some(tensor) => tensor.run(index, axis, to),
        None => to.fill(0.0),
    }
}

/// The group's row of B or C, in `room` if it does not lie there as f32 already.
#[inline(always)]
fn group<'r, T: Element>(grouped: &'r Grouped<'_, T, Host>, [b, t, h]: [usize; 3], room: &'r mut [f32]) -> &'r [f32] {
    let (tensor, index) = (&grouped.tensor, [b, t, h / grouped.heads, 0]);
    if T::DTYPE == Dtype::F32 && tensor.layout.strides[3] == 1 && !room.is_empty() {
        let from = tensor.line(index, 3, room.len());
        // SAFETY: elements of this tensor, side by side, and f32.
        return unsafe { std::slice::from_raw_parts(from.cast(), room.len()) };
    }
    tensor.run(index, 3, room);
    room
}

/// Rows of A, in `room` if they do not lie side by side.
#[inline(always)]
fn matrix<'r>(A: &'r Strided<'_, f32, Host, 3>, first: [usize; 3], rows: usize, room: &'r mut [f32]) -> &'r [f32] {
    let dstate = A.layout.extents[2];
    if dstate == 0 {
        return &[];
    }
    let [h, p, _] = first;
    if A.layout.strides[2] == 1 && (rows == 1 || A.layout.strides[1] == dstate as i64) {
        // SAFETY: the rows lie one after the other.
        return unsafe { std::slice::from_raw_parts(A.line(first, 1, rows), rows * dstate) };
    }
    for (row, to) in room.chunks_exact_mut(dstate).take(rows).enumerate() {
        A.run([h, p + row, 0], 2, to);
    }
    &room[..rows * dstate]
}
