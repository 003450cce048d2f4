//! The causal convolution of host tensors.

use super::{Board, BoardBuffer, Copied, OnHost, Results};
use crate::error::Result;
use crate::ops::causal_conv1d::{
    CausalConv1d, CausalConv1dGradients, CausalConv1dOutputs, CausalConv1dUpdate, CausalConv1dUpdateOutputs,
    CausalConv1dUpstream, CheckedUpdate, Inputs, UpdateInputs, Weights,
};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element, Host, Slice};

const SEQUENCE: &[&str] = &["batch", "dim", "seqlen"];
const STATE: &[&str] = &["batch", "dim", "state_len"];
const CACHE: &[&str] = &["slots", "dim", "state_len"];

/// Weight and bias on the device.
struct CopiedWeights<M: Board, W: Element> {
    weight: Copied<M, W>,
    bias: Option<Copied<M, W>>,
    silu: bool,
}

impl<M: Board, W: Element> CopiedWeights<M, W> {
    fn new(on: OnHost<M>, weights: &Weights<'_, W, Host>) -> Result<Self> {
        let weight = on.copy("weight", &["dim", "width"], &weights.weight)?;
        Ok(Self { weight, bias: on.optional("bias", &["dim"], &weights.bias)?, silu: weights.silu })
    }
}

/// What a convolution reads, on the device.
struct CopiedInputs<M: Board, T: Element, W: Element> {
    x: Copied<M, T>,
    weights: CopiedWeights<M, W>,
    initial_state: Option<Copied<M, T>>,
    table: Option<M::Buffer<i32>>,
}

impl<M: Board, T: Element, W: Element> CopiedInputs<M, T, W> {
    fn new(on: OnHost<M>, inputs: &Inputs<'_, T, W, Host>) -> Result<Self> {
        let table = inputs.segments.map(|segments| on.0.copy("cu_seqlens", segments.cu_seqlens())).transpose()?;
        Ok(Self {
            x: on.copy("x", SEQUENCE, &inputs.x)?,
            weights: CopiedWeights::new(on, &inputs.weights)?,
            initial_state: on.optional("initial_state", STATE, &inputs.initial_state)?,
            table,
        })
    }

    fn op<'v>(&'v self, inputs: &Inputs<'v, T, W, Host>) -> Result<CausalConv1d<'v, T, W, Device>> {
        let mut op = CausalConv1d::new(self.x.view(), self.weights.weight.view())?.silu(self.weights.silu);
        op = self.weights.bias.iter().fold(op, |op, bias| op.bias(bias.view()));
        op = self.initial_state.iter().fold(op, |op, state| op.initial_state(state.view()));
        if let (Some(segments), Some(table)) = (inputs.segments, &self.table) {
            // SAFETY: the table was made from these segments, and nobody writes it.
            op = unsafe { op.segments_on(segments, table.slice()) };
        }
        Ok(op)
    }
}

impl<'a, M: Board, T: Element, W: Element> Forward<CausalConv1d<'a, T, W>> for OnHost<M> {
    fn forward_plan(&self, op: &CausalConv1d<'a, T, W>) -> Result<Plan> {
        Ok(Plan::new(format!("causal_conv1d_fwd_{}", T::DTYPE), op.inputs()?.dims.named(), 0))
    }

    fn forward_with(
        &self,
        op: &CausalConv1d<'a, T, W>,
        outputs: CausalConv1dOutputs<'_, T>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        self.forward_plan(op)?.check(CausalConv1d::<T, W>::NAME, plan, &workspace)?;
        let copied = CopiedInputs::new(*self, &inputs)?;
        let mut out = self.room("out", SEQUENCE, &outputs.out)?;
        let mut final_state = self.optional_room("final_state", STATE, &outputs.final_state)?;
        let (mut view, mut state) = (out.view_mut(), final_state.as_mut().map(Copied::view_mut));
        let wanted = state.iter_mut().fold(CausalConv1dOutputs::new(&mut view), CausalConv1dOutputs::final_state);
        self.0.gpu().forward(&copied.op(&inputs)?, wanted)?;
        let mut results = Results::default();
        results.fetch(&out, outputs.out)?;
        results.optional(&final_state, outputs.final_state)?;
        results.write();
        Ok(())
    }

    fn forward(&self, op: &CausalConv1d<'a, T, W>, outputs: CausalConv1dOutputs<'_, T>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}

impl<'a, M: Board, T: Element, W: Element> Backward<CausalConv1d<'a, T, W>> for OnHost<M> {
    fn backward_plan(&self, op: &CausalConv1d<'a, T, W>) -> Result<Plan> {
        Ok(Plan::new(format!("causal_conv1d_bwd_{}", T::DTYPE), op.inputs()?.dims.named(), 0))
    }

    fn backward_with(
        &self,
        op: &CausalConv1d<'a, T, W>,
        upstream: CausalConv1dUpstream<'_, T>,
        gradients: CausalConv1dGradients<'_, T, W>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        self.backward_plan(op)?.check(CausalConv1d::<T, W>::NAME, plan, &workspace)?;
        let copied = CopiedInputs::new(*self, &inputs)?;
        let dout = self.optional("dout", SEQUENCE, &upstream.dout)?;
        let dfinal_state = self.optional("dfinal_state", STATE, &upstream.dfinal_state)?;
        let mut by = CausalConv1dUpstream::new();
        by = dout.iter().fold(by, |by, dout| by.dout(dout.view()));
        by = dfinal_state.iter().fold(by, |by, state| by.dfinal_state(state.view()));
        let mut dx = self.optional_room("dx", SEQUENCE, &gradients.dx)?;
        let mut dweight = self.optional_room("dweight", &["dim", "width"], &gradients.dweight)?;
        let mut dbias = self.optional_room("dbias", &["dim"], &gradients.dbias)?;
        let mut dinitial_state = self.optional_room("dinitial_state", STATE, &gradients.dinitial_state)?;
        let mut io = [&mut dx, &mut dinitial_state].map(|room| room.as_mut().map(Copied::view_mut));
        let mut of_weights = [&mut dweight, &mut dbias].map(|room| room.as_mut().map(Copied::view_mut));
        let ([a, b], [c, d]) = (&mut io, &mut of_weights);
        let mut wanted = CausalConv1dGradients::new();
        wanted = a.iter_mut().fold(wanted, CausalConv1dGradients::dx);
        wanted = b.iter_mut().fold(wanted, CausalConv1dGradients::dinitial_state);
        wanted = c.iter_mut().fold(wanted, CausalConv1dGradients::dweight);
        wanted = d.iter_mut().fold(wanted, CausalConv1dGradients::dbias);
        self.0.gpu().backward(&copied.op(&inputs)?, by, wanted)?;
        let mut results = Results::default();
        results.optional(&dx, gradients.dx)?;
        results.optional(&dweight, gradients.dweight)?;
        results.optional(&dbias, gradients.dbias)?;
        results.optional(&dinitial_state, gradients.dinitial_state)?;
        results.write();
        Ok(())
    }

    fn backward(
        &self,
        op: &CausalConv1d<'a, T, W>,
        upstream: CausalConv1dUpstream<'_, T>,
        gradients: CausalConv1dGradients<'_, T, W>,
    ) -> Result<()> {
        self.backward_with(op, upstream, gradients, &self.backward_plan(op)?, (&mut Vec::new()).into())
    }
}

/// What an update reads, on the device.
struct CopiedUpdate<M: Board, T: Element, W: Element> {
    x: Copied<M, T>,
    weights: CopiedWeights<M, W>,
    lengths: Option<M::Buffer<i32>>,
    indices: Option<M::Buffer<i32>>,
}

impl<M: Board, T: Element, W: Element> CopiedUpdate<M, T, W> {
    fn new(on: OnHost<M>, inputs: &UpdateInputs<'_, T, W, Host>) -> Result<Self> {
        let copy =
            |name, list: Option<Slice<'_, i32, Host>>| list.map(|list| on.0.copy(name, list.as_slice())).transpose();
        Ok(Self {
            x: on.copy("x", SEQUENCE, &inputs.x)?,
            weights: CopiedWeights::new(on, &inputs.weights)?,
            lengths: copy("cache_seqlens", inputs.cache_seqlens)?,
            indices: copy("state_indices", inputs.state_indices)?,
        })
    }

    fn op(&self) -> Result<CausalConv1dUpdate<'_, T, W, Device>> {
        let mut op = CausalConv1dUpdate::new(self.x.view(), self.weights.weight.view())?.silu(self.weights.silu);
        op = self.weights.bias.iter().fold(op, |op, bias| op.bias(bias.view()));
        op = self.lengths.iter().fold(op, |op, lengths| op.cache_seqlens_on(lengths.slice()));
        if let Some(indices) = &self.indices {
            // SAFETY: the contract checked those on the host, of which these are a copy.
            op = unsafe { op.state_indices_on(indices.slice()) };
        }
        Ok(op)
    }
}

impl<'a, M: Board, T: Element, W: Element> Forward<CausalConv1dUpdate<'a, T, W>> for OnHost<M> {
    fn forward_plan(&self, op: &CausalConv1dUpdate<'a, T, W>) -> Result<Plan> {
        Ok(Plan::new(format!("causal_conv1d_update_{}", T::DTYPE), op.inputs()?.named(), 0))
    }

    fn forward_with(
        &self,
        op: &CausalConv1dUpdate<'a, T, W>,
        outputs: CausalConv1dUpdateOutputs<'_, T>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let CheckedUpdate { out, conv_state, .. } = outputs.check(&inputs)?;
        self.forward_plan(op)?.check(CausalConv1dUpdate::<T, W>::NAME, plan, &workspace)?;
        let copied = CopiedUpdate::new(*self, &inputs)?;
        let mut out_room = self.room("out", SEQUENCE, &out)?;
        let mut state_room = self.filled_room("conv_state", CACHE, &conv_state)?;
        let (mut view, mut state) = (out_room.view_mut(), state_room.view_mut());
        self.0.gpu().forward(&copied.op()?, CausalConv1dUpdateOutputs::new(&mut view, &mut state))?;
        let mut results = Results::default();
        results.fetch(&out_room, out)?;
        results.fetch(&state_room, conv_state)?;
        results.write();
        Ok(())
    }

    fn forward(&self, op: &CausalConv1dUpdate<'a, T, W>, outputs: CausalConv1dUpdateOutputs<'_, T>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}
