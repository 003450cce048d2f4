//! Zero-order hold on the CPU backend and as C loops, CPU time on one thread.
// A and B are the field's names.
#![allow(non_snake_case)]

mod common;

use common::{CpuTime, channels, criterion, pattern, sequence_dims, shapes, throughput};
use criterion::Criterion;
use ssm_baseline::{Layout, Shape, Zoh, loops};
use ssm_kernels::Result;
use ssm_kernels::prelude::*;

struct Inputs {
    shape: Shape,
    dt: Vec<f32>,
    A: Vec<f32>,
    B: Vec<f32>,
    dt_bias: Vec<f32>,
}

impl Inputs {
    fn new(shape: Shape) -> Self {
        let (dt, A) = (pattern(shape.sequence(), 1, (-2.0, 2.0)), pattern(shape.states(), 2, (-16.0, -1.0)));
        let (B, dt_bias) = (pattern(shape.rows(), 3, (-1.0, 1.0)), pattern(shape.dim, 4, (-3.0, -1.0)));
        Self { shape, dt, A, B, dt_bias }
    }

    fn op(&self) -> Result<Discretise<'_, f32>> {
        let shape = &self.shape;
        let (batch, dstate, seqlen) = (("batch", shape.batch), ("dstate", shape.dstate), ("seqlen", shape.seqlen));
        let B = match shape.layout {
            Layout::Dense => View::new(&self.B, [batch, dstate, seqlen]),
            Layout::ChannelLast => View::new(&self.B, [batch, seqlen, dstate]),
        };
        let A = View::new(&self.A, [("dim", shape.dim), dstate]);
        let op = Discretise::new(Rule::Zoh, View::new(&self.dt, sequence_dims(shape)), A, B)?;
        Ok(op.dt_bias(channels(&self.dt_bias)).dt_softplus(true))
    }

    /// The dimensions of what is written.
    fn domain(&self) -> [(&'static str, usize); 4] {
        let [first, second, third] = sequence_dims(&self.shape);
        [first, second, third, ("dstate", self.shape.dstate)]
    }
}

fn forward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in shapes() {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("discretise/forward/{name}"));
        group.throughput(throughput(&shape));
        let (op, cpu, domain) = (inputs.op()?, Cpu::single_thread(), inputs.domain());
        let plan = cpu.forward_plan(&op)?;
        let elements = shape.sequence() * shape.dstate;
        let (mut workspace, mut A_bar, mut B_bar) = (plan.allocate()?, vec![0.0; elements], vec![0.0; elements]);
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let (mut A_bar, mut B_bar) = (ViewMut::new(&mut A_bar, domain), ViewMut::new(&mut B_bar, domain));
                let outputs = DiscretiseOutputs::new().A_bar(&mut A_bar).B_bar(&mut B_bar);
                cpu.forward_with(&op, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        let Inputs { dt, A, B, dt_bias, .. } = &inputs;
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.zoh_forward(&Zoh { shape, dt, A, B, dt_bias }, &mut A_bar, &mut B_bar));
            });
        }
        group.finish();
    }
    Ok(())
}

fn backward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in shapes() {
        let inputs = Inputs::new(shape);
        let mut group = criterion.benchmark_group(format!("discretise/backward/{name}"));
        group.throughput(throughput(&shape));
        let (op, cpu, domain) = (inputs.op()?, Cpu::single_thread(), inputs.domain());
        let plan = cpu.backward_plan(&op)?;
        let elements = shape.sequence() * shape.dstate;
        let [by_A_bar, by_B_bar] = [5, 6].map(|phase| pattern(elements, phase, (-1.0, 1.0)));
        let [mut ddt, mut dA, mut dB] = std::array::from_fn(|_| vec![0.0f32; elements]);
        let mut workspace = plan.allocate()?;
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let upstream = DiscretiseUpstream::new().dA_bar(View::new(&by_A_bar, domain));
                let upstream = upstream.dB_bar(View::new(&by_B_bar, domain));
                let [mut ddt, mut dA, mut dB] = [&mut ddt, &mut dA, &mut dB].map(|data| ViewMut::new(data, domain));
                let gradients = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA).dB(&mut dB);
                let done = cpu.backward_with(&op, upstream, gradients, &plan, (&mut workspace).into());
                done.expect("the same call was planned");
            });
        });
        group.finish();
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = criterion().configure_from_args();
    forward(&mut criterion)?;
    backward(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
