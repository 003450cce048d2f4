//! Squared attention, its backward and its update on the CPU backend and as C loops, CPU time on one thread.
// A, B, C and D are the field's names.
#![allow(non_snake_case)]

mod common;

use common::{CpuTime, criterion, pattern, throughput, with_layouts};
use criterion::Criterion;
use ssm_baseline::{Attention, Layout, Shape, loops};
use ssm_kernels::Result;
use ssm_kernels::prelude::*;

/// (batch, nheads, seqlen, dim), values as wide as keys: what pairs of steps are computed for, and what has states between.
const SHAPES: [(usize, usize, usize, usize); 2] = [(1, 4, 512, 64), (1, 4, 2048, 16)];

/// Times are per element of out.
struct Inputs {
    shape: Shape,
    /// q, k, v, dout.
    rows: [Vec<f32>; 4],
    log_decay: Vec<f32>,
}

impl Inputs {
    fn new(shape: Shape) -> Self {
        let elements = shape.sequence() * shape.dstate;
        let rows = std::array::from_fn(|i| pattern(elements, i, (-1.7, 1.7)));
        Self { shape, rows, log_decay: pattern(shape.sequence(), 4, (-0.02, 0.0)) }
    }

    fn plain(&self) -> Attention<'_> {
        let [q, k, v, _] = &self.rows;
        Attention { shape: self.shape, q, k, v, log_decay: &self.log_decay }
    }

    /// Of q and k with dim as the last dimension, of v and out with vdim.
    fn dims(&self, inner: &'static str) -> [(&'static str, usize); 4] {
        let [first, second, third] = self.steps();
        [first, second, third, (inner, self.shape.dstate)]
    }

    /// The dimensions of log_decay.
    fn steps(&self) -> [(&'static str, usize); 3] {
        let Shape { batch, dim: nheads, seqlen, layout, .. } = self.shape;
        match layout {
            Layout::Dense => [("batch", batch), ("nheads", nheads), ("seqlen", seqlen)],
            Layout::ChannelLast => [("batch", batch), ("seqlen", seqlen), ("nheads", nheads)],
        }
    }

    fn row(&self, i: usize, inner: &'static str) -> View<'_, f32> {
        View::new(&self.rows[i], self.dims(inner))
    }

    fn attention(&self) -> Result<SquaredAttention<'_, f32>> {
        let log_decay = View::new(&self.log_decay, self.steps());
        SquaredAttention::new(self.row(0, "dim"), self.row(1, "dim"), self.row(2, "vdim"), log_decay)
    }

    fn update(&self) -> Result<SquaredAttentionUpdate<'_, f32>> {
        let log_decay = View::new(&self.log_decay, self.steps());
        SquaredAttentionUpdate::new(self.row(0, "dim"), self.row(1, "dim"), self.row(2, "vdim"), log_decay)
    }
}

fn forward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&SHAPES) {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("squared_attention/forward/{name}"));
        group.throughput(throughput(&shape));
        let (op, cpu, plain) = (inputs.attention()?, Cpu::single_thread(), inputs.plain());
        let plan = cpu.forward_plan(&op)?;
        let (mut workspace, mut out) = (plan.allocate()?, vec![0.0; plain.elements()]);
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let mut out = ViewMut::new(&mut out, inputs.dims("vdim"));
                let outputs = SquaredAttentionOutputs::new(&mut out);
                cpu.forward_with(&op, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        let mut scratch = vec![0.0; plain.scratch()];
        for loops in loops() {
            group.bench_function(format!("C pairs {}", loops.name()), |bencher| {
                bencher.iter(|| loops.attention_pairs(&plain, &mut out));
            });
            group.bench_function(format!("C states {}", loops.name()), |bencher| {
                bencher.iter(|| loops.attention_states(&plain, &mut out, &mut scratch));
            });
        }
        group.finish();
    }
    Ok(())
}

/// There are no loops beside it.
fn backward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&SHAPES) {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("squared_attention/backward/{name}"));
        group.throughput(throughput(&shape));
        let (op, cpu, elements) = (inputs.attention()?, Cpu::single_thread(), inputs.plain().elements());
        let plan = cpu.backward_plan(&op)?;
        let mut workspace = plan.allocate()?;
        let [mut dq, mut dk, mut dv]: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0.0; elements]);
        let mut dlog_decay = vec![0.0f32; shape.sequence()];
        let upstream = SquaredAttentionUpstream::new().dout(inputs.row(3, "vdim"));
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let (keys, values) = (inputs.dims("dim"), inputs.dims("vdim"));
                let (mut dq, mut dk) = (ViewMut::new(&mut dq, keys), ViewMut::new(&mut dk, keys));
                let (mut dv, mut decay) =
                    (ViewMut::new(&mut dv, values), ViewMut::new(&mut dlog_decay, inputs.steps()));
                let gradients = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv);
                let gradients = gradients.dlog_decay(&mut decay);
                let done = cpu.backward_with(&op, upstream, gradients, &plan, (&mut workspace).into());
                done.expect("the same call was planned");
            });
        });
        group.finish();
    }
    Ok(())
}

/// One token.
fn update(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&[(1, 8, 1, 64), (8, 8, 1, 64)]) {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("squared_attention_update/forward/{name}"));
        group.throughput(throughput(&shape));
        let (update, cpu, plain) = (inputs.update()?, Cpu::single_thread(), inputs.plain());
        let plan = cpu.forward_plan(&update)?;
        let (mut workspace, mut out) = (plan.allocate()?, vec![0.0; plain.elements()]);
        let norm = [("slots", shape.batch), ("nheads", shape.dim), ("features", plain.features())];
        let state = [norm[0], norm[1], norm[2], ("vdim", shape.dstate)];
        let mut norms = vec![0.0f32; shape.batch * shape.dim * plain.features()];
        let mut states = vec![0.0f32; norms.len() * shape.dstate];
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let (mut states, mut norms) = (ViewMut::new(&mut states, state), ViewMut::new(&mut norms, norm));
                let mut out = ViewMut::new(&mut out, inputs.dims("vdim"));
                let outputs = SquaredAttentionUpdateOutputs::new(&mut states, &mut norms, &mut out);
                cpu.forward_with(&update, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.attention_update(&plain, &mut out, &mut states, &mut norms));
            });
        }
        group.finish();
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = criterion().configure_from_args();
    forward(&mut criterion)?;
    backward(&mut criterion)?;
    update(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
