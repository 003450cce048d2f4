//! The carry pass: between the chunks of a caller, and between the parts of a sequence that a plan cuts.

use super::Cut;
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::selective_scan::{CarryInputs, Dims, Inputs, SelectiveScanCarry, SelectiveScanCarryOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Element, Host, Layout, Strided};

type Carry<'a> = SelectiveScanCarry<'a, Host>;

impl<'a> Forward<Carry<'a>> for Cpu {
    fn forward_plan(&self, op: &Carry<'a>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Carry<'a>,
        outputs: SelectiveScanCarryOutputs<'_, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let carried = outputs.check(&inputs)?;
        plan(&inputs).check(Carry::NAME, given, &workspace)?;
        let [batch, nchunks, dim, dstate] = inputs.states.layout.extents;
        if carried.layout.is_empty() {
            return Ok(());
        }
        let carried = Writer::new(carried);
        self.for_each_plain(batch * dim, |row| {
            let (b, d) = (row / dim, row % dim);
            for n in 0..dstate {
                let mut state = inputs.initial.map_or(0.0, |initial| initial.at([b, d, n]));
                for i in 0..nchunks {
                    let chunk = if inputs.reverse { nchunks - 1 - i } else { i };
                    // SAFETY: the index is below the extents, and only this task writes channel d of row b.
                    unsafe { carried.write([b, chunk, d, n], state) };
                    let (sum, own) = (inputs.delta_sum.at([b, chunk, d]), inputs.states.at([b, chunk, d, n]));
                    state = next(inputs.A.at([d, n]), sum, state, own);
                }
            }
        });
        Ok(())
    }

    fn forward(&self, op: &Carry<'a>, outputs: SelectiveScanCarryOutputs<'_, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

/// No workspace.
fn plan(inputs: &CarryInputs<'_, Host>) -> Plan {
    Plan::new("selective_scan_carry_f32".into(), inputs.named(), 0)
}

/// What a chunk hands on. The exponent is large where the sum is: rounded to f32 its error would be that many times an
/// ulp.
fn next(A: f32, delta_sum: f32, carried: f32, own: f32) -> f32 {
    // Nothing stays nothing, even under a decay beyond the range.
    if carried == 0.0 { own } else { (f64::from(A) * f64::from(delta_sum)).exp() as f32 * carried + own }
}

/// Which way the parts of a sequence hand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// States, in scan order.
    Scan,
    /// Gradients by states, against it.
    Against,
}

/// One state for each part of each channel, with the part's sum of delta behind it.
pub(super) struct Rows;

impl Rows {
    pub fn width(dstate: usize) -> usize {
        dstate + 1
    }

    /// Number of f32.
    pub fn floats<T: Element>(cut: Cut, inputs: &Inputs<'_, T, Host>) -> usize {
        let dims = inputs.dims;
        dims.nseqs.saturating_mul(cut.split).saturating_mul(dims.dim).saturating_mul(Self::width(dims.dstate))
    }

    /// The states: (nseqs split, dim, dstate).
    pub fn layout<T: Element>(cut: Cut, inputs: &Inputs<'_, T, Host>) -> Layout<3> {
        let Dims { nseqs, dim, dstate, .. } = inputs.dims;
        let width = Self::width(dstate);
        Layout { extents: [nseqs * cut.split, dim, dstate], strides: [(dim * width) as i64, width as i64, 1] }
    }
}

/// From what each part makes of nothing to what it starts from; `first` is what the first part in that order starts from.
pub(super) fn between_parts<T: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    cut: Cut,
    order: Order,
    first: Option<Strided<'_, f32, Host, 3>>,
    rows: &mut [f32],
) {
    let (dims, width) = (inputs.dims, Rows::width(inputs.dims.dstate));
    cpu.for_each(dims.nseqs, rows, cut.split * dims.dim * width, |seq, rows| {
        let len = inputs.span(seq).len;
        for d in 0..dims.dim {
            for n in 0..dims.dstate {
                let mut carried = first.map_or(0.0, |first| first.at([seq, d, n]));
                for i in 0..cut.split {
                    let part = if order == Order::Scan { i } else { cut.split - 1 - i };
                    let row = &mut rows[(part * dims.dim + d) * width..][..width];
                    let own = std::mem::replace(&mut row[n], carried);
                    if !cut.steps(len, part).is_empty() {
                        carried = next(inputs.A.at([d, n]), row[dims.dstate], carried, own);
                    }
                }
            }
        }
    });
}
