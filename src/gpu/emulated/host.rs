//! Host tensors on the emulator: copied there for one call, and the results copied back.

use super::{EmulatedBuffer, Emulator};
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Inputs};
use crate::ops::selective_scan::{AlignedProjection, Projection, SelectiveScan, SelectiveScanOutputs};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Axes, Axis, Device, Element, Host, Layout, Strided, StridedMut, View, ViewMut};
use bytemuck::Pod;

/// A backend for host tensors that runs the GPU backend's kernels on an emulated device. Its plans need no workspace:
/// what the kernels need lies on the device. If a kernel misbehaves, nothing is copied back.
#[derive(Debug, Clone, Copy)]
pub struct OnHost<'e>(pub(super) &'e Emulator);

/// A tensor's copy on the device.
struct Copied<'e, T: Pod> {
    memory: EmulatedBuffer<'e, T>,
    axes: Axes,
}

impl<T: Pod> Copied<'_, T> {
    fn view(&self) -> View<'_, T, Device> {
        View::from_parts(self.memory.slice(), self.axes)
    }

    fn view_mut(&mut self) -> ViewMut<'_, T, Device> {
        ViewMut::from_parts(self.memory.slice_mut(), self.axes)
    }
}

fn axes<const R: usize>(names: &[&'static str], layout: &Layout<R>) -> Result<Axes> {
    let all = names.iter().zip(layout.extents).zip(layout.strides);
    let all: Vec<Axis> = all.map(|((&name, extent), stride)| Axis { name, extent, stride }).collect();
    Axes::from_slice(&all)
}

impl<'e> OnHost<'e> {
    fn copy<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Strided<'_, T, Host, R>,
    ) -> Result<Copied<'e, T>> {
        let memory = self.0.upload(tensor.memory.as_slice())?.named(name);
        Ok(Copied { memory, axes: axes(names, &tensor.layout)? })
    }

    fn optional<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Option<Strided<'_, T, Host, R>>,
    ) -> Result<Option<Copied<'e, T>>> {
        tensor.as_ref().map(|tensor| self.copy(name, names, tensor)).transpose()
    }

    fn room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &StridedMut<'_, T, Host, R>,
    ) -> Result<Copied<'e, T>> {
        let memory = self.0.alloc(tensor.memory.elements())?.named(name);
        Ok(Copied { memory, axes: axes(names, &tensor.layout)? })
    }

    fn optional_room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Option<StridedMut<'_, T, Host, R>>,
    ) -> Result<Option<Copied<'e, T>>> {
        tensor.as_ref().map(|tensor| self.room(name, names, tensor)).transpose()
    }

    fn projection<T: Element>(
        self,
        name: &str,
        projection: &AlignedProjection<'_, T, Host>,
    ) -> Result<CopiedProjection<'e, T>> {
        Ok(match projection {
            AlignedProjection::Variable { tensor, .. } => {
                CopiedProjection::Variable(self.copy(name, &["batch", "ngroups", "dstate", "seqlen"], tensor)?)
            }
            AlignedProjection::Constant(tensor) => {
                CopiedProjection::Constant(self.copy(name, &["dim", "dstate"], tensor)?)
            }
        })
    }
}

/// B or C on the device.
enum CopiedProjection<'e, T: Pod> {
    Variable(Copied<'e, T>),
    Constant(Copied<'e, f32>),
}

impl<T: Element> CopiedProjection<'_, T> {
    fn view(&self) -> Projection<'_, T, Device> {
        match self {
            Self::Variable(tensor) => Projection::Variable(tensor.view()),
            Self::Constant(tensor) => Projection::Constant(tensor.view()),
        }
    }
}

/// The elements of the tensor, and nothing beside them, from its copy.
fn fetch<T: Pod, const R: usize>(copied: &Copied<'_, T>, tensor: StridedMut<'_, T, Host, R>) -> Result<()> {
    if tensor.layout.is_empty() {
        return Ok(());
    }
    let (got, layout) = (copied.memory.download()?, tensor.layout);
    let memory = tensor.memory.into_slice();
    let mut index = [0; R];
    loop {
        let place = layout.offset(index);
        memory[place] = got[place];
        let Some(i) = (0..R).rev().find(|&i| index[i] + 1 < layout.extents[i]) else { return Ok(()) };
        index[i] += 1;
        index[i + 1..].fill(0);
    }
}

fn fetch_optional<T: Pod, const R: usize>(
    copied: &Option<Copied<'_, T>>,
    tensor: Option<StridedMut<'_, T, Host, R>>,
) -> Result<()> {
    copied.iter().zip(tensor).try_for_each(|(copied, tensor)| fetch(copied, tensor))
}

const SEQUENCE: &[&str] = &["batch", "dim", "seqlen"];
const STATE: &[&str] = &["batch", "dim", "dstate"];

impl<'a, T: Element> Forward<SelectiveScan<'a, T>> for OnHost<'_> {
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
        let (x, dt) = (self.copy("x", SEQUENCE, &inputs.x)?, self.copy("dt", SEQUENCE, &inputs.dt)?);
        let A = self.copy("A", &["dim", "dstate"], &inputs.A)?;
        let (B, C) = (self.projection("B", &inputs.B)?, self.projection("C", &inputs.C)?);
        let (D, bias) =
            (self.optional("D", &["dim"], &inputs.D)?, self.optional("dt_bias", &["dim"], &inputs.dt_bias)?);
        let z = self.optional("z", SEQUENCE, &inputs.z)?;
        let initial_state = self.optional("initial_state", STATE, &inputs.initial_state)?;
        let table = inputs.segments.map(|segments| self.0.upload(segments.cu_seqlens())).transpose()?;
        let table = table.map(|table| table.named("cu_seqlens"));
        let mut scan = SelectiveScan::new(x.view(), dt.view(), A.view(), B.view(), C.view())?;
        scan = scan.dt_softplus(inputs.step.softplus).reverse(inputs.reverse);
        scan = D.iter().fold(scan, |scan, D| scan.D(D.view()));
        scan = bias.iter().fold(scan, |scan, bias| scan.dt_bias(bias.view()));
        scan = z.iter().fold(scan, |scan, z| scan.z(z.view()));
        scan = initial_state.iter().fold(scan, |scan, state| scan.initial_state(state.view()));
        scan = inputs.step.limit.into_iter().fold(scan, SelectiveScan::dt_limit);
        scan = inputs.split.into_iter().fold(scan, SelectiveScan::split);
        if let (Some(segments), Some(table)) = (inputs.segments, &table) {
            // SAFETY: the table was made from these segments above, and nobody writes it.
            scan = unsafe { scan.segments_on(segments, table.slice()) };
        }
        let mut out = self.optional_room("out", SEQUENCE, &outputs.out)?;
        let mut final_state = self.optional_room("final_state", STATE, &outputs.final_state)?;
        let (every, chunks) = outputs.chunk_states.map(|chunks| (chunks.every, chunks.states)).unzip();
        let mut chunk_states = self.optional_room("chunk_states", &["nchunks", "dim", "dstate"], &chunks)?;
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
        self.0.gpu().forward(&scan, wanted)?;
        fetch_optional(&out, outputs.out)?;
        fetch_optional(&delta_sum, outputs.delta_sum)?;
        fetch_optional(&final_state, outputs.final_state)?;
        fetch_optional(&chunk_states, chunks)
    }

    fn forward(&self, op: &SelectiveScan<'a, T>, outputs: SelectiveScanOutputs<'_, T>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}

/// The inputs of discretise on the device, over the whole domain.
struct CopiedInputs<'e, T: Pod> {
    dt: Copied<'e, T>,
    A: Copied<'e, f32>,
    B: Copied<'e, T>,
    dt_bias: Option<Copied<'e, f32>>,
    lambda: Option<Copied<'e, T>>,
}

impl<'e, T: Element> CopiedInputs<'e, T> {
    fn new(host: OnHost<'e>, names: &[&'static str], inputs: &Inputs<'_, T, Host>) -> Result<Self> {
        Ok(Self {
            dt: host.copy("dt", names, &inputs.dt)?,
            A: host.copy("A", names, &inputs.A)?,
            B: host.copy("B", names, &inputs.B)?,
            dt_bias: host.optional("dt_bias", names, &inputs.dt_bias)?,
            lambda: host.optional("lambda", names, &inputs.lambda)?,
        })
    }

    fn op(&self, inputs: &Inputs<'_, T, Host>) -> Result<Discretise<'_, T, Device>> {
        let mut op = Discretise::new(inputs.rule, self.dt.view(), self.A.view(), self.B.view())?;
        op = op.dt_softplus(inputs.step.softplus);
        op = self.dt_bias.iter().fold(op, |op, bias| op.dt_bias(bias.view()));
        op = self.lambda.iter().fold(op, |op, lambda| op.lambda(lambda.view()));
        Ok(inputs.step.limit.into_iter().fold(op, Discretise::dt_limit))
    }
}

fn names<T>(inputs: &Inputs<'_, T, Host>) -> Vec<&'static str> {
    inputs.domain.as_slice().iter().map(|axis| axis.name).collect()
}

fn discretise_plan<T: Element>(direction: &str, inputs: &Inputs<'_, T, Host>) -> Plan {
    Plan::new(format!("discretise_{direction}_{}", T::DTYPE), inputs.named(), 0)
}

impl<'a, T: Element> Forward<Discretise<'a, T>> for OnHost<'_> {
    fn forward_plan(&self, op: &Discretise<'a, T>) -> Result<Plan> {
        Ok(discretise_plan("fwd", &op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Discretise<'a, T>,
        outputs: DiscretiseOutputs<'_>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        discretise_plan("fwd", &inputs).check(Discretise::<T>::NAME, plan, &workspace)?;
        let names = names(&inputs);
        let copied = CopiedInputs::new(*self, &names, &inputs)?;
        let mut delta = self.optional_room("delta", &names, &outputs.delta)?;
        let mut A_bar = self.optional_room("A_bar", &names, &outputs.A_bar)?;
        let mut B_bar = self.optional_room("B_bar", &names, &outputs.B_bar)?;
        let mut B_prev_bar = self.optional_room("B_prev_bar", &names, &outputs.B_prev_bar)?;
        let mut views =
            [&mut delta, &mut A_bar, &mut B_bar, &mut B_prev_bar].map(|room| room.as_mut().map(Copied::view_mut));
        let [a, b, c, d] = &mut views;
        let mut wanted = DiscretiseOutputs::new();
        wanted = a.iter_mut().fold(wanted, DiscretiseOutputs::delta);
        wanted = b.iter_mut().fold(wanted, DiscretiseOutputs::A_bar);
        wanted = c.iter_mut().fold(wanted, DiscretiseOutputs::B_bar);
        wanted = d.iter_mut().fold(wanted, DiscretiseOutputs::B_prev_bar);
        self.0.gpu().forward(&copied.op(&inputs)?, wanted)?;
        fetch_optional(&delta, outputs.delta)?;
        fetch_optional(&A_bar, outputs.A_bar)?;
        fetch_optional(&B_bar, outputs.B_bar)?;
        fetch_optional(&B_prev_bar, outputs.B_prev_bar)
    }

    fn forward(&self, op: &Discretise<'a, T>, outputs: DiscretiseOutputs<'_>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}

impl<'a, T: Element> Backward<Discretise<'a, T>> for OnHost<'_> {
    fn backward_plan(&self, op: &Discretise<'a, T>) -> Result<Plan> {
        Ok(discretise_plan("bwd", &op.inputs()?))
    }

    fn backward_with(
        &self,
        op: &Discretise<'a, T>,
        upstream: DiscretiseUpstream<'_>,
        gradients: DiscretiseGradients<'_, T>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        discretise_plan("bwd", &inputs).check(Discretise::<T>::NAME, plan, &workspace)?;
        let names = names(&inputs);
        let copied = CopiedInputs::new(*self, &names, &inputs)?;
        let ddelta = self.optional("ddelta", &names, &upstream.ddelta)?;
        let dA_bar = self.optional("dA_bar", &names, &upstream.dA_bar)?;
        let dB_bar = self.optional("dB_bar", &names, &upstream.dB_bar)?;
        let dB_prev_bar = self.optional("dB_prev_bar", &names, &upstream.dB_prev_bar)?;
        let mut by = DiscretiseUpstream::new();
        by = ddelta.iter().fold(by, |by, gradient| by.ddelta(gradient.view()));
        by = dA_bar.iter().fold(by, |by, gradient| by.dA_bar(gradient.view()));
        by = dB_bar.iter().fold(by, |by, gradient| by.dB_bar(gradient.view()));
        by = dB_prev_bar.iter().fold(by, |by, gradient| by.dB_prev_bar(gradient.view()));
        let mut ddt = self.optional_room("ddt", &names, &gradients.ddt)?;
        let mut ddt_bias = self.optional_room("ddt_bias", &names, &gradients.ddt_bias)?;
        let mut dA = self.optional_room("dA", &names, &gradients.dA)?;
        let mut dB = self.optional_room("dB", &names, &gradients.dB)?;
        let mut dlambda = self.optional_room("dlambda", &names, &gradients.dlambda)?;
        let mut io = [&mut ddt, &mut dB, &mut dlambda].map(|room| room.as_mut().map(Copied::view_mut));
        let mut wide = [&mut ddt_bias, &mut dA].map(|room| room.as_mut().map(Copied::view_mut));
        let ([a, b, c], [d, e]) = (&mut io, &mut wide);
        let mut wanted = DiscretiseGradients::new();
        wanted = a.iter_mut().fold(wanted, DiscretiseGradients::ddt);
        wanted = b.iter_mut().fold(wanted, DiscretiseGradients::dB);
        wanted = c.iter_mut().fold(wanted, DiscretiseGradients::dlambda);
        wanted = d.iter_mut().fold(wanted, DiscretiseGradients::ddt_bias);
        wanted = e.iter_mut().fold(wanted, DiscretiseGradients::dA);
        self.0.gpu().backward(&copied.op(&inputs)?, by, wanted)?;
        fetch_optional(&ddt, gradients.ddt)?;
        fetch_optional(&ddt_bias, gradients.ddt_bias)?;
        fetch_optional(&dA, gradients.dA)?;
        fetch_optional(&dB, gradients.dB)?;
        fetch_optional(&dlambda, gradients.dlambda)
    }

    fn backward(
        &self,
        op: &Discretise<'a, T>,
        upstream: DiscretiseUpstream<'_>,
        gradients: DiscretiseGradients<'_, T>,
    ) -> Result<()> {
        self.backward_with(op, upstream, gradients, &self.backward_plan(op)?, (&mut Vec::new()).into())
    }
}
