//! The causal convolution of 4 taps, its backward and its update on the CPU backend and as C loops, CPU time on one thread.
// A, B, C and D are the field's names.
#![allow(non_snake_case)]

mod common;

use common::{CpuTime, channels, criterion, pattern, sequence_dims, throughput, with_layouts};
use criterion::Criterion;
use ssm_baseline::{Conv, ConvGradients, Shape, loops};
use ssm_kernels::Result;
use ssm_kernels::prelude::*;

const WIDTH: usize = 4;
/// There are no states: times are per step of a channel.
const NO_STATES: usize = 1;

struct Inputs {
    shape: Shape,
    x: Vec<f32>,
    dout: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Inputs {
    fn new(shape: Shape) -> Self {
        let [x, dout] = [0, 1].map(|phase| pattern(shape.sequence(), phase, (-2.0, 2.0)));
        let (weight, bias) = (pattern(shape.dim * WIDTH, 2, (-1.0, 1.0)), pattern(shape.dim, 3, (-1.0, 1.0)));
        Self { shape, x, dout, weight, bias }
    }

    fn plain(&self) -> Conv<'_> {
        Conv { shape: self.shape, width: WIDTH, x: &self.x, weight: &self.weight, bias: &self.bias }
    }

    /// x and the weight.
    fn views(&self) -> [View<'_, f32>; 2] {
        let weight = View::new(&self.weight, [("dim", self.shape.dim), ("width", WIDTH)]);
        [View::new(&self.x, sequence_dims(&self.shape)), weight]
    }

    fn conv(&self) -> Result<CausalConv1d<'_, f32>> {
        let [x, weight] = self.views();
        Ok(CausalConv1d::new(x, weight)?.bias(channels(&self.bias)).silu(true))
    }

    fn update(&self) -> Result<CausalConv1dUpdate<'_, f32>> {
        let [x, weight] = self.views();
        Ok(CausalConv1dUpdate::new(x, weight)?.bias(channels(&self.bias)).silu(true))
    }
}

fn forward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&[(1, 256, 512, NO_STATES)]) {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("causal_conv1d/forward/{name}"));
        group.throughput(throughput(&shape));
        let (conv, cpu, mut out) = (inputs.conv()?, Cpu::single_thread(), vec![0.0; shape.sequence()]);
        let plan = cpu.forward_plan(&conv)?;
        let mut workspace = plan.allocate()?;
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let mut out = ViewMut::new(&mut out, sequence_dims(&shape));
                let outputs = CausalConv1dOutputs::new(&mut out);
                cpu.forward_with(&conv, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.conv_forward(&inputs.plain(), &mut out));
            });
        }
        group.finish();
    }
    Ok(())
}

fn backward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&[(1, 256, 512, NO_STATES)]) {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("causal_conv1d/backward/{name}"));
        group.throughput(throughput(&shape));
        let (conv, cpu) = (inputs.conv()?, Cpu::single_thread());
        let plan = cpu.backward_plan(&conv)?;
        let (mut workspace, mut dx) = (plan.allocate()?, vec![0.0f32; shape.sequence()]);
        let (mut dweight, mut dbias) = (vec![0.0f32; shape.dim * WIDTH], vec![0.0f32; shape.dim]);
        let upstream = CausalConv1dUpstream::new().dout(View::new(&inputs.dout, sequence_dims(&shape)));
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let (mut dx, dim) = (ViewMut::new(&mut dx, sequence_dims(&shape)), ("dim", shape.dim));
                let mut dweight = ViewMut::new(&mut dweight, [dim, ("width", WIDTH)]);
                let mut dbias = ViewMut::new(&mut dbias, [dim]);
                let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight).dbias(&mut dbias);
                let done = cpu.backward_with(&conv, upstream, gradients, &plan, (&mut workspace).into());
                done.expect("the same call was planned");
            });
        });
        for loops in loops() {
            let mut gradients = ConvGradients { dx: &mut dx, dweight: &mut dweight, dbias: &mut dbias };
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.conv_backward(&inputs.plain(), &inputs.dout, &mut gradients));
            });
        }
        group.finish();
    }
    Ok(())
}

/// One token.
fn update(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&[(1, 1536, 1, NO_STATES), (32, 1536, 1, NO_STATES)]) {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("causal_conv1d_update/forward/{name}"));
        group.throughput(throughput(&shape));
        let (update, cpu) = (inputs.update()?, Cpu::single_thread());
        let plan = cpu.forward_plan(&update)?;
        let (mut workspace, mut out) = (plan.allocate()?, vec![0.0; shape.sequence()]);
        let mut states = vec![0.0; shape.sequence() * (WIDTH - 1)];
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let dims = [("slots", shape.batch), ("dim", shape.dim), ("state_len", WIDTH - 1)];
                let (mut states, mut out) =
                    (ViewMut::new(&mut states, dims), ViewMut::new(&mut out, sequence_dims(&shape)));
                let outputs = CausalConv1dUpdateOutputs::new(&mut out, &mut states);
                cpu.forward_with(&update, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.conv_update(&inputs.plain(), &mut out, &mut states));
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
