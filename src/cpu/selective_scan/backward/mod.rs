//! Backward: one task per (sequence, part, tile of channels), which walks from window to window against scan order.
//!
//! A window is a few steps; only its states exist at a time. Between two checkpoints there is a group of windows. Whatever is
//! summed over tiles, parts or sequences waits in the workspace and is added up in a fixed order afterwards.

mod memory;
mod passes;
mod reduce;
mod retreat;
mod stage;
mod vectors;
mod walk;

pub use walk::Worker;

use super::Scan;
use super::carry::{Order, Rows, between_parts};
use super::forward::{Floats, local_states};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::{Error, Result};
use crate::ops::selective_scan::{
    AlignedProjectionMut, CheckedGradients, CheckedUpstream, Inputs, SelectiveScanGradients, SelectiveScanUpstream,
};
use crate::ops::{Backward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host, Layout, StridedMut};
use memory::{Division, Kept, Scratch, Task};
use retreat::Wanted;
use walk::Job;

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
        plan(&inputs).check(Scan::<T>::NAME, given, &workspace)?;
        let call = Call::new(*self, inputs, upstream, writers);
        let sizes = call.sizes(usize::MAX);
        call.all(sizes, workspace)
    }

    fn backward(
        &self,
        op: &Scan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T, Host>,
        gradients: SelectiveScanGradients<'_, T, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let writers = Writers::new(gradients.check(&inputs, &upstream)?);
        let plan = plan(&inputs);
        let call = Call::new(*self, inputs, upstream, writers);
        let sizes = call.sizes(self.threads());
        let mut memory = plan.allocate_floats(sizes.into_iter().fold(0, usize::saturating_add))?;
        call.all(sizes, (&mut memory).into())
    }
}

fn plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    let division = Division::new(inputs);
    division.cut.plan("bwd", inputs, sizes(&division, inputs, usize::MAX).into_iter().fold(0, usize::saturating_add))
}

/// f32 of the workers that have a thread, of the rows between parts, and of what tasks keep.
fn sizes<T: Element>(division: &Division, inputs: &Inputs<'_, T, Host>, threads: usize) -> [usize; 3] {
    let (cut, kept) = (division.cut, division.floats_of_tasks(inputs));
    let workers = division.floats_of_workers(inputs, threads);
    if cut.split == 1 {
        return [workers, 0, kept];
    }
    // The parts' states are run as in the forward direction.
    [workers.max(Floats::new(inputs, cut, threads).workers), Rows::floats(cut, inputs).saturating_mul(2), kept]
}

/// One call, its arguments checked.
struct Call<'i, 'u, 'o, T: Element> {
    cpu: Cpu,
    inputs: Inputs<'i, T, Host>,
    upstream: CheckedUpstream<'u, T, Host>,
    writers: Writers<'o, T>,
    wanted: Wanted,
    /// Anything but dinitial_state, which the first part alone gives, is wanted.
    all_parts: bool,
    division: Division,
    /// Sequences that are worked on: none where there is nothing to write for each.
    nseqs: usize,
}

/// What each part starts from, either way.
struct Carried<'w> {
    states: &'w [f32],
    adjoints: &'w [f32],
}

fn wanted<T: Element>(writers: &Writers<'_, T>, upstream: &CheckedUpstream<'_, T, Host>) -> Wanted {
    let output = upstream.dout.is_some();
    let ddt = writers.ddt.is_some() || writers.ddt_bias.is_some();
    let (dx, dA, dB) = (writers.dx.is_some(), writers.dA.is_some(), writers.dB.is_some());
    let (dC, y) = (writers.dC.is_some(), writers.dz.is_some() && output);
    Wanted {
        output,
        states: ddt || dA || y || (dC && output),
        adjoints: ddt || dx || dA || dB || writers.dinitial_state.is_some(),
        y,
        by_input: ddt || dx,
        ddt,
        dA,
        projections: [dB, dC],
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

    /// dA, and dB and dC if constant.
    fn matrices(&self) -> [Option<&Writer<'o, f32, 2>>; 3] {
        let [dB, dC] = [&self.dB, &self.dC].map(|of| of.as_ref().and_then(ProjectionWriter::constant));
        [self.dA.as_ref(), dB, dC]
    }

    fn all_parts(&self) -> bool {
        let of_channels = self.dA.is_some() || self.dD.is_some() || self.ddt_bias.is_some();
        let of_steps = self.dx.is_some() || self.ddt.is_some() || self.dz.is_some();
        of_channels || of_steps || self.dB.is_some() || self.dC.is_some()
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

    fn constant(&self) -> Option<&Writer<'o, f32, 2>> {
        match self {
            Self::Constant(writer) => Some(writer),
            Self::Variable { .. } => None,
        }
    }
}

impl<'i, 'u, 'o, T: Element> Call<'i, 'u, 'o, T> {
    fn new(
        cpu: Cpu,
        inputs: Inputs<'i, T, Host>,
        upstream: CheckedUpstream<'u, T, Host>,
        writers: Writers<'o, T>,
    ) -> Self {
        let dims = inputs.dims;
        // Without elements there may be sequences beyond counting.
        let nseqs = if dims.seqlen == 0 && writers.dinitial_state.is_none() { 0 } else { dims.nseqs };
        Self {
            cpu,
            wanted: wanted(&writers, &upstream),
            all_parts: writers.all_parts(),
            division: Division::new(&inputs),
            nseqs,
            inputs,
            upstream,
            writers,
        }
    }

    /// Of what has the form of A nothing is to be added up: each channel has one task.
    fn alone(&self) -> bool {
        self.nseqs * self.division.cut.split == 1
    }

    /// As the function of this name; nothing where there is nothing to do.
    fn sizes(&self, threads: usize) -> [usize; 3] {
        if self.nseqs == 0 || self.inputs.dims.dim == 0 {
            return [0; 3];
        }
        sizes(&self.division, &self.inputs, threads)
    }

    /// The gradients, in a workspace of these [`sizes`](Self::sizes).
    fn all(&self, sizes: [usize; 3], workspace: Workspace<'_, Host>) -> Result<()> {
        let (scratch, memory) = as_f32(workspace, sizes.iter().sum()).split_at_mut(sizes[0]);
        let (rows, kept) = memory.split_at_mut(sizes[1]);
        let mut tasks = self.tasks(kept)?;
        let carried = if rows.is_empty() { None } else { Some(self.carry(rows, &mut tasks, scratch)) };
        self.run(&Job::Gradients(carried), &mut tasks, scratch);
        self.reduce(&tasks);
        Ok(())
    }

    /// The passes that connect the parts, as far as they are needed.
    fn carry<'w>(&self, rows: &'w mut [f32], tasks: &mut [Task<'_>], scratch: &mut [f32]) -> Carried<'w> {
        let (cpu, inputs, cut) = (self.cpu, &self.inputs, self.division.cut);
        let (states, adjoints) = rows.split_at_mut(Rows::floats(cut, inputs));
        if self.wanted.states && self.upstream.checkpoints.is_none() {
            local_states(cpu, inputs, cut, states, scratch, false);
            between_parts(cpu, inputs, cut, Order::Scan, inputs.initial_state, states);
        }
        if self.wanted.adjoints {
            let layout = Rows::layout(cut, inputs);
            let [parts, dim, dstate] = layout.extents;
            let sums = Layout { extents: [parts, dim], strides: [layout.strides[0], layout.strides[1]] };
            let states = Writer::new(StridedMut { memory: (&mut *adjoints).into(), layout });
            let sums = states.beside(dstate, sums);
            self.run(&Job::Adjoints { states, sums }, tasks, scratch);
            between_parts(cpu, inputs, cut, Order::Against, self.upstream.dfinal_state, adjoints);
        }
        Carried { states, adjoints }
    }

    fn run(&self, job: &Job<'_>, tasks: &mut [Task<'_>], scratch: &mut [f32]) {
        let size = self.division.scratch();
        let shares = tasks.chunks_mut(Division::share(tasks.len()));
        self.cpu.for_each_with(shares, scratch, size, |tasks, memory| {
            let scratch = Scratch::new(&self.division, memory);
            T::selective_scan_backward(self.cpu, Worker { call: self, job, tasks, scratch });
        });
    }

    /// Every task with its share of the memory, in the order (sequence, part, tile).
    fn tasks<'w>(&self, mut memory: &'w mut [f32]) -> Result<Vec<Task<'w>>> {
        let Division { cut, tiling, .. } = self.division;
        // Without channels there may be sequences beyond counting.
        let count = if tiling.count == 0 { 0 } else { self.nseqs * cut.split * tiling.count };
        let refused = |_| Error::OutOfMemory {
            what: "tasks of selective_scan".into(),
            bytes: Some(count.saturating_mul(size_of::<Task<'_>>())),
        };
        let mut tasks = Vec::new();
        tasks.try_reserve_exact(count).map_err(refused)?;
        for i in 0..count {
            let (seq, part, tile) = (i / (cut.split * tiling.count), i / tiling.count % cut.split, i % tiling.count);
            let steps = cut.steps(self.inputs.span(seq).len, part);
            let sizes = self.division.kept(&self.inputs, steps.len(), tiling.channels(tile).len());
            let (own, rest) = memory.split_at_mut(sizes.iter().sum());
            memory = rest;
            tasks.push(Task { seq, part, tile, steps, kept: Kept::new(sizes, own) });
        }
        Ok(tasks)
    }
}
