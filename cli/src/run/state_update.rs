//! The state update on a file.

use super::results::{Outline, judge, outline, plan, widened};
use super::{Contents, Finished, refuse_given};
use crate::args::{Backend, RunArgs};
use crate::error::{CliError, Result};
use crate::input::{Input, Typed};
use crate::memory::Memory;
use crate::metadata::refuse;
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, state_update as naive};
use ssm_kernels::{Axes, Axis};

const OP: &str = "state_update";

/// What a file may hold.
pub(super) const CONTENTS: Contents = Contents {
    inputs: &["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "state_indices"],
    results: &["out", "final_state", "token_states"],
    keys: &[
        "dt_softplus",
        "dt_limit",
        "batch",
        "seqlen",
        "nheads",
        "dim",
        "dstate",
        "ngroups",
        "slots",
        "indices",
        "tied",
        "state_dtype",
        "has_D",
        "has_z",
        "has_dt_bias",
        "backward",
    ],
};

/// Every input that the file has.
struct Tensors<'f, T: Clone, H: Clone> {
    /// Dimensions before the channels, and the channels.
    lead: &'static [&'static str],
    channels: &'static [&'static str],
    x: Typed<'f, T>,
    dt: Typed<'f, T>,
    A: Typed<'f, f32>,
    B: Typed<'f, T>,
    C: Typed<'f, T>,
    D: Option<Typed<'f, f32>>,
    z: Option<Typed<'f, T>>,
    dt_bias: Option<Typed<'f, f32>>,
    state: Typed<'f, H>,
    state_indices: Option<Typed<'f, i32>>,
}

/// A tensor with its dimensions named: those of `names` that its rank leaves, from the first on.
fn view<'v, E: Clone>(
    name: &str,
    tensor: &'v Typed<'_, E>,
    names: &[&'static str],
    least: usize,
) -> Result<View<'v, E>> {
    Ok(View::from_parts(&*tensor.data, axes(name, &tensor.shape, names, least)?))
}

fn axes(name: &str, shape: &[usize], names: &[&'static str], least: usize) -> Result<Axes> {
    if !(least..=names.len()).contains(&shape.len()) {
        let without = if least < names.len() { format!(", or the first {least}") } else { String::new() };
        let expected = format!("{} dimensions ({}){without}", names.len(), names.join(", "));
        return Err(CliError::value(OP, name, format!("has shape {shape:?}"), expected));
    }
    let (mut stride, mut list) = (1i64, vec![]);
    for (&name, &extent) in names.iter().zip(shape).rev() {
        list.push(Axis { name, extent, stride });
        stride *= extent.max(1) as i64;
    }
    list.reverse();
    Ok(Axes::from_slice(&list)?)
}

impl<'f, T: Io, H: Io> Tensors<'f, T, H> {
    /// From a file. `seqlen` in the metadata says that there is a dimension of tokens.
    fn load(input: &Input<'f>) -> Result<Self> {
        let x = input.typed::<T>("x")?;
        let tokens = input.metadata.text("seqlen").is_some();
        let lead: &[&str] = if tokens { &["batch", "seqlen"] } else { &["batch"] };
        let channels: &[&str] = match x.shape.len().checked_sub(lead.len()) {
            Some(1) => &["dim"],
            Some(2) => &["nheads", "headdim"],
            _ => {
                let expected = format!("{} dimensions of channels, or two of heads, behind ({})", 1, lead.join(", "));
                return Err(CliError::value(OP, "x", format!("has shape {:?}", x.shape), expected));
            }
        };
        Ok(Self {
            lead,
            channels,
            x,
            dt: input.typed("dt")?,
            A: input.typed("A")?,
            B: input.typed("B")?,
            C: input.typed("C")?,
            D: input.optional("D")?,
            z: input.optional("z")?,
            dt_bias: input.optional("dt_bias")?,
            state: input.typed("initial_state")?,
            state_indices: input.optional("state_indices")?,
        })
    }

    fn headed(&self) -> bool {
        self.channels.len() == 2
    }

    /// The name of the state's rows.
    fn rows(&self) -> &'static str {
        if self.state_indices.is_some() { "slots" } else { "batch" }
    }

    fn op(&self, input: &Input<'f>) -> Result<StateUpdate<'_, T, H>> {
        let sequence = [self.lead, self.channels].concat();
        let matrix = [self.channels, &["dstate"]].concat();
        let rows = |name: &str, tensor: &Typed<'f, T>| {
            let grouped = [self.lead, &["ngroups", "dstate"]].concat();
            let plain = [self.lead, &["dstate"]].concat();
            let names = if tensor.shape.len() == plain.len() { plain } else { grouped };
            axes(name, &tensor.shape, &names, names.len())
        };
        let B = View::from_parts(&*self.B.data, rows("B", &self.B)?);
        let C = View::from_parts(&*self.C.data, rows("C", &self.C)?);
        // One number for a head.
        let (of_head, of_dt) = (if self.headed() { 1 } else { matrix.len() }, sequence.len() - self.channels.len() + 1);
        let x = view("x", &self.x, &sequence, sequence.len())?;
        let dt = view("dt", &self.dt, &sequence, of_dt)?;
        let mut op = StateUpdate::new(x, dt, view("A", &self.A, &matrix, of_head)?, B, C)?
            .dt_softplus(input.metadata.flag("dt_softplus")?.unwrap_or(false));
        if let Some(D) = &self.D {
            op = op.D(view("D", D, self.channels, 1)?);
        }
        if let Some(z) = &self.z {
            op = op.z(view("z", z, &sequence, sequence.len())?);
        }
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(view("dt_bias", dt_bias, self.channels, 1)?);
        }
        if let Some(rows) = &self.state_indices {
            op = op.state_indices(view("state_indices", rows, &["batch"], 1)?);
        }
        Ok(match input.metadata.dt_limit()? {
            Some(dt_limit) => op.dt_limit(dt_limit),
            None => op,
        })
    }

    fn state_axes(&self, name: &str, rows: &'static str, shape: &[usize]) -> Result<Axes> {
        let names = [&[rows], self.channels, &["dstate"]].concat();
        axes(name, shape, &names, names.len())
    }

    /// The extent of x along `name`.
    fn extent(&self, name: &str) -> usize {
        let names = self.lead.iter().chain(self.channels).zip(&self.x.shape);
        names.filter(|(own, _)| **own == name).map(|(_, &extent)| extent).next().unwrap_or(1)
    }

    fn tokens(&self) -> usize {
        self.extent("batch") * self.extent("seqlen")
    }

    /// What the metadata say of dimensions and optional tensors is so.
    fn check_metadata(&self, input: &Input<'f>) -> Result<()> {
        let metadata = &input.metadata;
        let slots = self.state.shape.first().copied().unwrap_or(0);
        metadata.flag("backward")?;
        metadata.check_number("batch", self.extent("batch"))?;
        metadata.check_number("seqlen", self.extent("seqlen"))?;
        metadata.check_number("nheads", if self.headed() { self.extent("nheads") } else { 0 })?;
        metadata.check_number("dim", self.x.shape.last().copied().unwrap_or(0))?;
        metadata.check_number("dstate", self.B.shape.last().copied().unwrap_or(0))?;
        let grouped = self.B.shape.len() > self.lead.len() + 1;
        metadata.check_number("ngroups", if grouped { self.B.shape[self.lead.len()] } else { 1 })?;
        metadata.check_number("slots", if self.state_indices.is_some() { slots } else { 0 })?;
        metadata.check_text("state_dtype", H::DTYPE.name(), "like `initial_state`")?;
        metadata.check_flag("tied", self.headed() && self.A.shape.len() == 1, "an `A` of one number per head is")?;
        metadata.check_flag("has_D", self.D.is_some(), "`D` is")?;
        metadata.check_flag("has_z", self.z.is_some(), "`z` is")?;
        metadata.check_flag("has_dt_bias", self.dt_bias.is_some(), "`dt_bias` is")?;
        let said = || metadata.text("indices").unwrap_or_default();
        match (metadata.list::<i32>("indices")?, &self.state_indices) {
            (Some(_), None) => Err(refuse("indices", said(), "none because `state_indices` is not in the file")),
            (Some(listed), Some(tensor)) if listed != *tensor.data => {
                Err(refuse("indices", said(), "the values of the tensor `state_indices`"))
            }
            _ => Ok(()),
        }
    }
}

/// Loads, runs, judges.
pub(super) fn run<T: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let scan = [(args.layout.is_some(), "--layout"), (args.split.is_some(), "--split"), (args.backward, "--backward")];
    refuse_given(OP, scan)?;
    if let Some(every) = args.states_every.filter(|every| every.get() != 1) {
        return Err(CliError::new(format!("{OP}: --states-every is {every}, expected 1: the state after each token")));
    }
    match input.required("initial_state")?.dtype {
        safetensors::Dtype::F32 => of_states::<T, f32>(args, input, memory),
        safetensors::Dtype::F16 => of_states::<T, f16>(args, input, memory),
        safetensors::Dtype::BF16 => of_states::<T, bf16>(args, input, memory),
        other => Err(CliError::value(OP, "initial_state", format!("has dtype {other}"), "F32, F16 or BF16")),
    }
}

fn of_states<T: Io, H: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let tensors = Tensors::<T, H>::load(input)?;
    let op = tensors.op(input)?;
    tensors.check_metadata(input)?;
    tensors.state_axes("initial_state", tensors.rows(), &tensors.state.shape)?;
    let mut outlines =
        vec![outline::<T>("out", tensors.x.shape.clone()), outline::<H>("final_state", tensors.state.shape.clone())];
    let mut kept = tensors.state.shape.clone();
    kept[0] = tensors.tokens();
    let keeps = args.states_every.is_some() || input.asks_for("token_states");
    outlines.extend(keeps.then(|| outline::<H>("token_states", kept.clone())));
    // The loops have all three, and the state once more in what runs for its time.
    memory.plan(kept.iter().fold(1, |n: usize, &extent| n.saturating_mul(extent)), 2 * size_of::<f64>())?;
    memory.plan(tensors.state.data.len(), 2 * size_of::<H>())?;
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    memory.reserve()?;
    let (results, speed) = match args.backend {
        Backend::Cpu if args.threads == Some(1) => timed(&Cpu::single_thread(), &op, &tensors, args, &outlines)?,
        Backend::Cpu => timed(&Cpu::new(), &op, &tensors, args, &outlines)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => timed(&super::emulator::device(args).on_host(), &op, &tensors, args, &outlines)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => timed(&crate::cuda::on_stream(args.device)?.on_host(), &op, &tensors, args, &outlines)?,
        Backend::Reference => {
            let state = || state_view(&tensors);
            let (run, speed) = speed::once(|| Ok(naive::forward::<f64, T, H>(&op, state()?)?))?;
            let data = [run.out, run.final_state, run.token_states];
            (outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let naive = Naive { op: &op, tensors: &tensors, count: outlines.len() };
    let rows = judge(&outlines, &results, input, &naive)?;
    let steps = tensors.x.data.len() as f64 * tensors.B.shape.last().copied().unwrap_or(0) as f64;
    Ok(Finished { facts: facts(&tensors, input, args), results, rows, speed, work: (steps, "state step") })
}

fn facts<T: Io, H: Io>(tensors: &Tensors<'_, T, H>, input: &Input<'_>, args: &RunArgs) -> Vec<(&'static str, String)> {
    let mut facts: Vec<(&'static str, String)> = vec![("batch", tensors.extent("batch").to_string())];
    if tensors.lead.len() == 2 {
        facts.push(("seqlen", tensors.extent("seqlen").to_string()));
    }
    facts.push(("nheads", if tensors.headed() { tensors.extent("nheads") } else { 0 }.to_string()));
    facts.push(("dim", tensors.x.shape.last().map_or_else(String::new, usize::to_string)));
    facts.push(("dstate", tensors.B.shape.last().map_or_else(String::new, usize::to_string)));
    facts.push(("state_dtype", H::DTYPE.name().to_string()));
    facts.extend(["dt_softplus", "dt_limit"].map(|key| (key, input.metadata.text(key).unwrap_or("none").to_string())));
    facts.extend(args.threads.map(|threads| ("threads", threads.to_string())));
    facts
}

fn state_view<'v, T: Io, H: Io>(tensors: &'v Tensors<'_, T, H>) -> Result<View<'v, H>> {
    let axes = tensors.state_axes("initial_state", tensors.rows(), &tensors.state.shape)?;
    Ok(View::from_parts(&*tensors.state.data, axes))
}

/// The first call gives the results; those whose time is taken go on from there.
fn timed<'a, T: Io, H: Io>(
    backend: &(impl Forward<StateUpdate<'a, T, H>> + Sync),
    op: &StateUpdate<'a, T, H>,
    tensors: &Tensors<'_, T, H>,
    args: &RunArgs,
    outlines: &[Outline],
) -> Result<(Vec<Tensor>, Speed)> {
    let (mut out, mut state) = (outlines[0].nan::<T>()?, tensors.state.data.to_vec());
    let mut kept = outlines.get(2).map(Outline::nan::<H>).transpose()?;
    let x_axes = axes("x", &tensors.x.shape, &[tensors.lead, tensors.channels].concat(), tensors.x.shape.len())?;
    let plan = backend.forward_plan(op)?;
    let mut workspace = plan.allocate()?;
    let mut call = |state: &mut Vec<H>, out: &mut Vec<T>, kept: &mut Option<Vec<H>>| -> Result<()> {
        let state_axes = tensors.state_axes("initial_state", tensors.rows(), &tensors.state.shape)?;
        let (mut state, mut out) = (ViewMut::from_parts(state, state_axes), ViewMut::from_parts(out, x_axes));
        let kept_axes = |outline: &Outline| tensors.state_axes("token_states", "tokens", &outline.shape);
        let kept_axes = outlines.get(2).map(kept_axes).transpose()?;
        let mut kept = kept.as_mut().zip(kept_axes).map(|(kept, axes)| ViewMut::from_parts(kept, axes));
        let outputs = StateUpdateOutputs::new(&mut state, &mut out);
        let outputs = kept.iter_mut().fold(outputs, StateUpdateOutputs::token_states);
        Ok(backend.forward_with(op, outputs, &plan, (&mut workspace).into())?)
    };
    speed::in_pool(args.threads, || call(&mut state, &mut out, &mut kept))?;
    let (mut later, mut later_out, mut later_kept) = (state.clone(), out.clone(), kept.clone());
    let again = || call(&mut later, &mut later_out, &mut later_kept);
    let speed = speed::in_pool(args.threads, || speed::repeat(args.repeat, again))?;
    let data = [Some(T::into_data(out)), Some(H::into_data(state)), kept.map(H::into_data)];
    let results = outlines.iter().zip(data.into_iter().flatten()).map(|(outline, data)| outline.tensor(data));
    Ok((results.collect(), speed))
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, 'f, T: Io, H: Io> {
    op: &'r StateUpdate<'a, T, H>,
    tensors: &'r Tensors<'f, T, H>,
    count: usize,
}

impl<T: Io, H: Io> Loop for Naive<'_, '_, '_, T, H> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let state = state_view(self.tensors).expect("checked before");
        let run = naive::forward::<R, T, H>(self.op, state).expect("the backend accepted the same arguments");
        [run.out, run.final_state, run.token_states].into_iter().take(self.count).map(widened).collect()
    }
}
