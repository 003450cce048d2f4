//! The selective scan on host tensors.

use super::{Board, BoardBuffer, Copied, OnHost, Results};
use crate::error::Result;
use crate::ops::selective_scan::{
    AlignedProjection, AlignedProjectionMut, Inputs, Projection, ProjectionMut, SelectiveScan, SelectiveScanCarry,
    SelectiveScanCarryOutputs, SelectiveScanGradients, SelectiveScanOutputs, SelectiveScanUpstream,
};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element, Host};
use bytemuck::Pod;

const SEQUENCE: &[&str] = &["batch", "dim", "seqlen"];
const STATE: &[&str] = &["batch", "dim", "dstate"];
const CHUNKS: &[&str] = &["nchunks", "dim", "dstate"];
const VARIABLE: &[&str] = &["batch", "ngroups", "dstate", "seqlen"];
const CONSTANT: &[&str] = &["dim", "dstate"];
const CARRIED: &[&str] = &["batch", "nchunks", "dim", "dstate"];
const CARRIED_SUMS: &[&str] = &["batch", "nchunks", "dim"];

/// B or C, or a gradient of one, on the device.
enum CopiedProjection<M: Board, T: Pod> {
    Variable(Copied<M, T>),
    Constant(Copied<M, f32>),
}

impl<M: Board, T: Element> CopiedProjection<M, T> {
    fn view(&self) -> Projection<'_, T, Device> {
        match self {
            Self::Variable(tensor) => Projection::Variable(tensor.view()),
            Self::Constant(tensor) => Projection::Constant(tensor.view()),
        }
    }

    fn view_mut(&mut self) -> ProjectionMut<'_, T, Device> {
        match self {
            Self::Variable(tensor) => ProjectionMut::Variable(tensor.view_mut()),
            Self::Constant(tensor) => ProjectionMut::Constant(tensor.view_mut()),
        }
    }

    fn fetch<'o>(&self, gradient: AlignedProjectionMut<'o, T, Host>, results: &mut Results<'o>) -> Result<()> {
        match (self, gradient) {
            (Self::Variable(copied), AlignedProjectionMut::Variable { tensor, .. }) => results.fetch(copied, tensor),
            (Self::Constant(copied), AlignedProjectionMut::Constant(tensor)) => results.fetch(copied, tensor),
            _ => unreachable!("the place was made for this gradient"),
        }
    }
}

impl<M: Board> OnHost<M> {
    fn projection<T: Element>(
        self,
        name: &str,
        projection: &AlignedProjection<'_, T, Host>,
    ) -> Result<CopiedProjection<M, T>> {
        Ok(match projection {
            AlignedProjection::Variable { tensor, .. } => {
                CopiedProjection::Variable(self.copy(name, VARIABLE, tensor)?)
            }
            AlignedProjection::Constant(tensor) => CopiedProjection::Constant(self.copy(name, CONSTANT, tensor)?),
        })
    }

    fn projection_room<T: Element>(
        self,
        name: &str,
        gradient: &Option<AlignedProjectionMut<'_, T, Host>>,
    ) -> Result<Option<CopiedProjection<M, T>>> {
        Ok(match gradient {
            None => None,
            Some(AlignedProjectionMut::Variable { tensor, .. }) => {
                Some(CopiedProjection::Variable(self.room(name, VARIABLE, tensor)?))
            }
            Some(AlignedProjectionMut::Constant(tensor)) => {
                Some(CopiedProjection::Constant(self.room(name, CONSTANT, tensor)?))
            }
        })
    }
}

/// What a scan reads, on the device.
struct CopiedInputs<M: Board, T: Pod> {
    x: Copied<M, T>,
    dt: Copied<M, T>,
    A: Copied<M, f32>,
    B: CopiedProjection<M, T>,
    C: CopiedProjection<M, T>,
    D: Option<Copied<M, f32>>,
    z: Option<Copied<M, T>>,
    dt_bias: Option<Copied<M, f32>>,
    initial_state: Option<Copied<M, f32>>,
    table: Option<M::Buffer<i32>>,
}

impl<M: Board, T: Element> CopiedInputs<M, T> {
    fn new(host: OnHost<M>, inputs: &Inputs<'_, T, Host>) -> Result<Self> {
        let table = inputs.segments.map(|segments| host.0.copy("cu_seqlens", segments.cu_seqlens())).transpose()?;
        Ok(Self {
            x: host.copy("x", SEQUENCE, &inputs.x)?,
            dt: host.copy("dt", SEQUENCE, &inputs.dt)?,
            A: host.copy("A", CONSTANT, &inputs.A)?,
            B: host.projection("B", &inputs.B)?,
            C: host.projection("C", &inputs.C)?,
            D: host.optional("D", &["dim"], &inputs.D)?,
            z: host.optional("z", SEQUENCE, &inputs.z)?,
            dt_bias: host.optional("dt_bias", &["dim"], &inputs.dt_bias)?,
            initial_state: host.optional("initial_state", STATE, &inputs.initial_state)?,
            table,
        })
    }

    fn scan<'v>(&'v self, inputs: &Inputs<'v, T, Host>) -> Result<SelectiveScan<'v, T, Device>> {
        let (B, C) = (self.B.view(), self.C.view());
        let mut scan = SelectiveScan::new(self.x.view(), self.dt.view(), self.A.view(), B, C)?;
        scan = scan.dt_softplus(inputs.step.softplus).reverse(inputs.reverse);
        scan = self.D.iter().fold(scan, |scan, D| scan.D(D.view()));
        scan = self.dt_bias.iter().fold(scan, |scan, bias| scan.dt_bias(bias.view()));
        scan = self.z.iter().fold(scan, |scan, z| scan.z(z.view()));
        scan = self.initial_state.iter().fold(scan, |scan, state| scan.initial_state(state.view()));
        scan = inputs.step.limit.into_iter().fold(scan, SelectiveScan::dt_limit);
        scan = inputs.split.into_iter().fold(scan, SelectiveScan::split);
        if let (Some(segments), Some(table)) = (inputs.segments, &self.table) {
            // SAFETY: the table was made from these segments, and nobody writes it.
            scan = unsafe { scan.segments_on(segments, table.slice()) };
        }
        Ok(scan)
    }
}

impl<'a, M: Board, T: Element> Forward<SelectiveScan<'a, T>> for OnHost<M> {
    fn forward_plan(&self, op: &SelectiveScan<'a, T>) -> Result<Plan> {
        Ok(Plan::new(format!("selective_scan_fwd_{}", T::DTYPE), op.inputs()?.dims.named(), 0))
    }

    fn forward_with(
        &self,
        op: &SelectiveScan<'a, T>,
        outputs: SelectiveScanOutputs<'_, T>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        self.forward_plan(op)?.check(SelectiveScan::<T>::NAME, plan, &workspace)?;
        let copied = CopiedInputs::new(*self, &inputs)?;
        let mut out = self.optional_room("out", SEQUENCE, &outputs.out)?;
        let mut final_state = self.optional_room("final_state", STATE, &outputs.final_state)?;
        let (every, chunks) = outputs.chunk_states.map(|chunks| (chunks.every, chunks.states)).unzip();
        let mut chunk_states = self.optional_room("chunk_states", CHUNKS, &chunks)?;
        let mut delta_sum = self.optional_room("delta_sum", &["batch", "dim"], &outputs.delta_sum)?;
        let (mut out_view, mut sum_view) =
            (out.as_mut().map(Copied::view_mut), delta_sum.as_mut().map(Copied::view_mut));
        let (mut final_view, mut chunk_view) =
            (final_state.as_mut().map(Copied::view_mut), chunk_states.as_mut().map(Copied::view_mut));
        let mut wanted = match &mut out_view {
            Some(view) => SelectiveScanOutputs::new(view),
            None => SelectiveScanOutputs::states_only(),
        };
        wanted = sum_view.iter_mut().fold(wanted, SelectiveScanOutputs::delta_sum);
        if let Some(view) = &mut final_view {
            wanted = wanted.final_state(view);
        }
        if let (Some(every), Some(view)) = (every, &mut chunk_view) {
            wanted = wanted.chunk_states(every, view);
        }
        self.0.gpu().forward(&copied.scan(&inputs)?, wanted)?;
        let mut results = Results::default();
        results.optional(&out, outputs.out)?;
        results.optional(&delta_sum, outputs.delta_sum)?;
        results.optional(&final_state, outputs.final_state)?;
        results.optional(&chunk_states, chunks)?;
        results.write();
        Ok(())
    }

    fn forward(&self, op: &SelectiveScan<'a, T>, outputs: SelectiveScanOutputs<'_, T>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}

impl<'a, M: Board, T: Element> Backward<SelectiveScan<'a, T>> for OnHost<M> {
    fn backward_plan(&self, op: &SelectiveScan<'a, T>) -> Result<Plan> {
        Ok(Plan::new(format!("selective_scan_bwd_{}", T::DTYPE), op.inputs()?.dims.named(), 0))
    }

    fn backward_with(
        &self,
        op: &SelectiveScan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T>,
        gradients: SelectiveScanGradients<'_, T>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        self.backward_plan(op)?.check(SelectiveScan::<T>::NAME, plan, &workspace)?;
        let copied = CopiedInputs::new(*self, &inputs)?;
        let dout = self.optional("dout", SEQUENCE, &upstream.dout)?;
        let dfinal_state = self.optional("dfinal_state", STATE, &upstream.dfinal_state)?;
        let (every, states) = upstream.checkpoints.map(|(every, states, _)| (every, states)).unzip();
        let checkpoints = self.optional("checkpoints", CHUNKS, &states)?;
        let mut by = SelectiveScanUpstream::new();
        by = dout.iter().fold(by, |by, dout| by.dout(dout.view()));
        by = dfinal_state.iter().fold(by, |by, state| by.dfinal_state(state.view()));
        by = every.iter().zip(&checkpoints).fold(by, |by, (every, states)| by.checkpoints(*every, states.view()));
        let mut dx = self.optional_room("dx", SEQUENCE, &gradients.dx)?;
        let mut ddt = self.optional_room("ddt", SEQUENCE, &gradients.ddt)?;
        let mut dz = self.optional_room("dz", SEQUENCE, &gradients.dz)?;
        let mut dA = self.optional_room("dA", CONSTANT, &gradients.dA)?;
        let mut dB = self.projection_room("dB", &gradients.dB)?;
        let mut dC = self.projection_room("dC", &gradients.dC)?;
        let mut dD = self.optional_room("dD", &["dim"], &gradients.dD)?;
        let mut ddt_bias = self.optional_room("ddt_bias", &["dim"], &gradients.ddt_bias)?;
        let mut dinitial_state = self.optional_room("dinitial_state", STATE, &gradients.dinitial_state)?;
        let mut io = [&mut dx, &mut ddt, &mut dz].map(|room| room.as_mut().map(Copied::view_mut));
        let mut wide =
            [&mut dA, &mut dD, &mut ddt_bias, &mut dinitial_state].map(|room| room.as_mut().map(Copied::view_mut));
        let ([a, b, c], [d, e, f, g]) = (&mut io, &mut wide);
        let mut wanted = SelectiveScanGradients::new();
        wanted = a.iter_mut().fold(wanted, SelectiveScanGradients::dx);
        wanted = b.iter_mut().fold(wanted, SelectiveScanGradients::ddt);
        wanted = c.iter_mut().fold(wanted, SelectiveScanGradients::dz);
        wanted = d.iter_mut().fold(wanted, SelectiveScanGradients::dA);
        wanted = e.iter_mut().fold(wanted, SelectiveScanGradients::dD);
        wanted = f.iter_mut().fold(wanted, SelectiveScanGradients::ddt_bias);
        wanted = g.iter_mut().fold(wanted, SelectiveScanGradients::dinitial_state);
        wanted = dB.iter_mut().fold(wanted, |wanted, dB| wanted.dB(dB.view_mut()));
        wanted = dC.iter_mut().fold(wanted, |wanted, dC| wanted.dC(dC.view_mut()));
        self.0.gpu().backward(&copied.scan(&inputs)?, by, wanted)?;
        let mut results = Results::default();
        results.optional(&dx, gradients.dx)?;
        results.optional(&ddt, gradients.ddt)?;
        results.optional(&dz, gradients.dz)?;
        results.optional(&dA, gradients.dA)?;
        dB.iter().zip(gradients.dB).try_for_each(|(copied, dB)| copied.fetch(dB, &mut results))?;
        dC.iter().zip(gradients.dC).try_for_each(|(copied, dC)| copied.fetch(dC, &mut results))?;
        results.optional(&dD, gradients.dD)?;
        results.optional(&ddt_bias, gradients.ddt_bias)?;
        results.optional(&dinitial_state, gradients.dinitial_state)?;
        results.write();
        Ok(())
    }

    fn backward(
        &self,
        op: &SelectiveScan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T>,
        gradients: SelectiveScanGradients<'_, T>,
    ) -> Result<()> {
        self.backward_with(op, upstream, gradients, &self.backward_plan(op)?, (&mut Vec::new()).into())
    }
}

impl<'a, M: Board> Forward<SelectiveScanCarry<'a>> for OnHost<M> {
    fn forward_plan(&self, op: &SelectiveScanCarry<'a>) -> Result<Plan> {
        Ok(Plan::new("selective_scan_carry_f32".into(), op.inputs()?.named(), 0))
    }

    fn forward_with(
        &self,
        op: &SelectiveScanCarry<'a>,
        outputs: SelectiveScanCarryOutputs<'_>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let carried = outputs.check(&inputs)?;
        self.forward_plan(op)?.check(SelectiveScanCarry::<Host>::NAME, plan, &workspace)?;
        let A = self.copy("A", CONSTANT, &inputs.A)?;
        let delta_sum = self.copy("delta_sum", CARRIED_SUMS, &inputs.delta_sum)?;
        let states = self.copy("states", CARRIED, &inputs.states)?;
        let initial = self.optional("initial", STATE, &inputs.initial)?;
        let mut room = self.room("carried", CARRIED, &carried)?;
        let on_device = SelectiveScanCarry::new(A.view(), delta_sum.view(), states.view())?.reverse(inputs.reverse);
        let on_device = initial.iter().fold(on_device, |op, state| op.initial(state.view()));
        self.0.gpu().forward(&on_device, SelectiveScanCarryOutputs::new(&mut room.view_mut()))?;
        let mut results = Results::default();
        results.fetch(&room, carried)?;
        results.write();
        Ok(())
    }

    fn forward(&self, op: &SelectiveScanCarry<'a>, outputs: SelectiveScanCarryOutputs<'_>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}
