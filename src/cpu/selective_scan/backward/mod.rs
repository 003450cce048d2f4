//! Backward: one task per (sequence, part, tile of channels), which walks from window to window against scan order.
//!
//! A window is the steps between two checkpoints; only its states exist at a time. Whatever is summed over tiles, parts
//! or sequences waits in the workspace and is added up in a fixed order afterwards.

mod memory;
mod reduce;
mod walk;

use super::carry::{Order, Rows, between_parts};
use super::channel::Channel;
use super::tiling::Tiling;
use super::{Cut, Scan};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::{Error, Result};
use crate::ops::selective_scan::{
    AlignedProjectionMut, CheckedGradients, CheckedUpstream, Inputs, SelectiveScanGradients, SelectiveScanUpstream,
};
use crate::ops::{Backward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host, StridedMut};
use memory::{TILE, Task, TaskMemory};

impl<'a, T: Element> Backward<Scan<'a, T>> for Cpu {
    fn backward_plan(&self, op: &Scan<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn backward_with(
        &self,
        op: &Scan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T, Host>,
        gradients: SelectiveScanGradients<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let writers = Writers::new(gradients.check(&inputs, &upstream)?);
        let plan = plan(&inputs);
        plan.check(Scan::<T>::NAME, given, &workspace)?;
        let (dims, cut) = (inputs.dims, Cut::new(&inputs));
        // Without elements there may be sequences beyond counting.
        let nseqs = if dims.seqlen == 0 && writers.dinitial_state.is_none() { 0 } else { dims.nseqs };
        let floats = if nseqs == 0 || dims.dim == 0 { 0 } else { plan.workspace_bytes / size_of::<f32>() };
        let mut memory = as_f32(workspace, floats);
        let call = Call {
            wanted: Wanted::new(&writers, &upstream),
            tiling: Tiling::new(&inputs, TILE),
            every: inputs.checkpoint_every(),
            nseqs,
            inputs,
            upstream,
            writers,
            cut,
        };
        let carried = if cut.split > 1 && floats > 0 {
            let count = Rows::floats(cut, &call.inputs);
            let (states, rest) = memory.split_at_mut(count);
            let (adjoints, rest) = rest.split_at_mut(count);
            memory = rest;
            call.carry(*self, states, adjoints);
            Some(Carried { states, adjoints })
        } else {
            None
        };
        let mut tasks = call.tasks(memory)?;
        self.for_each_of(&mut tasks, |task| call.walk(carried.as_ref(), task));
        call.reduce(*self, &tasks);
        Ok(())
    }

    fn backward(
        &self,
        op: &Scan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T, Host>,
        gradients: SelectiveScanGradients<'_, T, Host>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        self.backward_with(op, upstream, gradients, &plan, (&mut plan.allocate()?).into())
    }
}

/// What the passes between parts need, and the memory of every task.
fn plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    let cut = Cut::new(inputs);
    let rows = if cut.split > 1 { Rows::floats(cut, inputs).saturating_mul(2) } else { 0 };
    cut.plan("bwd", inputs, Tiling::new(inputs, TILE).floats(inputs, cut).saturating_add(rows))
}

/// One call, its arguments checked.
struct Call<'i, 'u, 'o, T: Element> {
    inputs: Inputs<'i, T, Host>,
    upstream: CheckedUpstream<'u, T, Host>,
    writers: Writers<'o, T>,
    wanted: Wanted,
    cut: Cut,
    tiling: Tiling,
    every: usize,
    /// Sequences that are worked on: none where there is nothing to write for each.
    nseqs: usize,
}

/// What each part starts from, either way.
struct Carried<'w> {
    states: &'w [f32],
    adjoints: &'w [f32],
}

/// What has to be computed for the gradients that are asked for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// Recomputed states.
    states: bool,
    /// Gradients by states.
    adjoints: bool,
    /// The sum of dh B over the states.
    by_input: bool,
    /// ddt or ddt_bias.
    ddt: bool,
    /// Anything but dinitial_state, which the first part alone gives.
    all_parts: bool,
}

impl Wanted {
    fn new<T>(writers: &Writers<'_, T>, upstream: &CheckedUpstream<'_, T, Host>) -> Self {
        let ddt = writers.ddt.is_some() || writers.ddt_bias.is_some();
        let (dx, dA, dB) = (writers.dx.is_some(), writers.dA.is_some(), writers.dB.is_some());
        let of_output = writers.dC.is_some() || writers.dz.is_some();
        Self {
            states: ddt || dA || (of_output && upstream.dout.is_some()),
            adjoints: ddt || dx || dA || dB || writers.dinitial_state.is_some(),
            by_input: ddt || dx,
            ddt,
            all_parts: ddt || dx || dA || dB || of_output || writers.dD.is_some(),
        }
    }
}

/// The gradients as threads share them; those without elements are left out.
struct Writers<'o, T> {
    dx: Option<Writer<'o, T, 3>>,
    ddt: Option<Writer<'o, T, 3>>,
    dz: Option<Writer<'o, T, 3>>,
    dA: Option<Writer<'o, f32, 2>>,
    dB: Option<ProjectionWriter<'o, T>>,
    dC: Option<ProjectionWriter<'o, T>>,
    dD: Option<Writer<'o, f32, 1>>,
    ddt_bias: Option<Writer<'o, f32, 1>>,
    dinitial_state: Option<Writer<'o, f32, 3>>,
}

/// dB or dC.
enum ProjectionWriter<'o, T> {
    Variable { writer: Writer<'o, T, 4>, channels: usize, ngroups: usize },
    Constant(Writer<'o, f32, 2>),
}

impl<'o, T> Writers<'o, T> {
    fn new(gradients: CheckedGradients<'o, T, Host>) -> Self {
        Self {
            dx: writer(gradients.dx),
            ddt: writer(gradients.ddt),
            dz: writer(gradients.dz),
            dA: writer(gradients.dA),
            dB: gradients.dB.and_then(ProjectionWriter::new),
            dC: gradients.dC.and_then(ProjectionWriter::new),
            dD: writer(gradients.dD),
            ddt_bias: writer(gradients.ddt_bias),
            dinitial_state: writer(gradients.dinitial_state),
        }
    }
}

fn writer<T, const R: usize>(tensor: Option<StridedMut<'_, T, Host, R>>) -> Option<Writer<'_, T, R>> {
    tensor.filter(|tensor| !tensor.layout.is_empty()).map(Writer::new)
}

impl<'o, T> ProjectionWriter<'o, T> {
    fn new(gradient: AlignedProjectionMut<'o, T, Host>) -> Option<Self> {
        match gradient {
            AlignedProjectionMut::Variable { tensor, channels } => {
                let ngroups = tensor.layout.extents[1];
                writer(Some(tensor)).map(|writer| Self::Variable { writer, channels, ngroups })
            }
            AlignedProjectionMut::Constant(tensor) => writer(Some(tensor)).map(Self::Constant),
        }
    }
}

impl<T: Element> Call<'_, '_, '_, T> {
    /// The passes that connect the parts, as far as they are needed.
    fn carry(&self, cpu: Cpu, states: &mut [f32], adjoints: &mut [f32]) {
        if self.wanted.states && self.upstream.checkpoints.is_none() {
            self.local_states(cpu, states);
            between_parts(cpu, &self.inputs, self.cut, Order::Scan, self.inputs.initial_state, states);
        }
        if self.wanted.adjoints {
            self.local_adjoints(cpu, adjoints);
            between_parts(cpu, &self.inputs, self.cut, Order::Against, self.upstream.dfinal_state, adjoints);
        }
    }

    /// What every part but the last makes of the state 0.
    fn local_states(&self, cpu: Cpu, rows: &mut [f32]) {
        let (dims, cut) = (self.inputs.dims, self.cut);
        cpu.for_each(dims.nseqs * cut.split * dims.dim, rows, Rows::width(dims.dstate), |i, row| {
            let (seq, part, d) = (i / (cut.split * dims.dim), i / dims.dim % cut.split, i % dims.dim);
            row.fill(0.0);
            if part + 1 < cut.split {
                let channel = Channel::new(&self.inputs, seq, d);
                let (state, sum) = row.split_at_mut(dims.dstate);
                sum[0] = channel.run(cut.steps(channel.span.len, part), state);
            }
        });
    }

    /// The gradient by what every part but the first starts from, if nothing comes from later parts.
    fn local_adjoints(&self, cpu: Cpu, rows: &mut [f32]) {
        let (dims, cut) = (self.inputs.dims, self.cut);
        cpu.for_each(dims.nseqs * cut.split * dims.dim, rows, Rows::width(dims.dstate), |i, row| {
            let (seq, part, d) = (i / (cut.split * dims.dim), i / dims.dim % cut.split, i % dims.dim);
            row.fill(0.0);
            if part > 0 {
                let channel = Channel::new(&self.inputs, seq, d);
                let (adjoint, sum) = row.split_at_mut(dims.dstate);
                sum[0] = channel.run_back(&self.upstream, cut.steps(channel.span.len, part), adjoint);
            }
        });
    }

    /// Every task with its share of the memory, in the order (sequence, part, tile).
    fn tasks<'w>(&self, mut memory: &'w mut [f32]) -> Result<Vec<Task<'w>>> {
        // Without channels there may be sequences beyond counting.
        let count = if self.tiling.count == 0 { 0 } else { self.nseqs * self.cut.split * self.tiling.count };
        let refused = |_| Error::OutOfMemory {
            what: "tasks of selective_scan".into(),
            bytes: Some(count.saturating_mul(size_of::<Task<'_>>())),
        };
        let mut tasks = Vec::new();
        tasks.try_reserve_exact(count).map_err(refused)?;
        for i in 0..count {
            let (seq, part, tile) = (
                i / (self.cut.split * self.tiling.count),
                i / self.tiling.count % self.cut.split,
                i % self.tiling.count,
            );
            let steps = self.cut.steps(self.inputs.span(seq).len, part);
            let sizes = self.tiling.sizes(&self.inputs, steps.len(), self.tiling.channels(tile).len());
            let (own, rest) = memory.split_at_mut(sizes.floats());
            memory = rest;
            tasks.push(Task { seq, part, tile, steps, memory: TaskMemory::new(&sizes, own) });
        }
        Ok(tasks)
    }
}
