//! The selective scan on the CPU backend and as C loops, CPU time on one thread.
// A, B, C and D are the field's names.
#![allow(non_snake_case)]

mod common;

use common::{CpuTime, ScanInputs, criterion, rows_dims, sequence_dims, shapes, throughput};
use criterion::Criterion;
use ssm_baseline::{ScanGradients, Shape, loops};
use ssm_kernels::Result;
use ssm_kernels::prelude::*;

fn forward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in shapes() {
        let inputs = ScanInputs::new(shape);
        let mut group = criterion.benchmark_group(format!("selective_scan/forward/{name}"));
        group.throughput(throughput(&shape));
        let (scan, cpu, mut out) = (inputs.scan()?, Cpu::single_thread(), vec![0.0; shape.sequence()]);
        let plan = cpu.forward_plan(&scan)?;
        let mut workspace = plan.allocate()?;
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let mut out = ViewMut::new(&mut out, sequence_dims(&shape));
                let outputs = SelectiveScanOutputs::new(&mut out);
                cpu.forward_with(&scan, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        let mut scratch = vec![0.0; shape.scratch()];
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.scan_forward(&inputs.plain(), &mut out, &mut scratch));
            });
        }
        group.finish();
    }
    Ok(())
}

/// The gradients that are written.
struct Outputs {
    sequences: [Vec<f32>; 3],
    rows: [Vec<f32>; 2],
    channels: [Vec<f32>; 2],
    dA: Vec<f32>,
}

impl Outputs {
    fn new(shape: &Shape) -> Self {
        Self {
            sequences: std::array::from_fn(|_| vec![0.0; shape.sequence()]),
            rows: std::array::from_fn(|_| vec![0.0; shape.rows()]),
            channels: std::array::from_fn(|_| vec![0.0; shape.dim]),
            dA: vec![0.0; shape.states()],
        }
    }

    fn plain(&mut self) -> ScanGradients<'_> {
        let ([dx, ddt, dz], [dB, dC], [dD, ddt_bias]) = (&mut self.sequences, &mut self.rows, &mut self.channels);
        ScanGradients { dx, ddt, dA: &mut self.dA, dB, dC, dD, dz, ddt_bias }
    }

    fn with_views(&mut self, shape: &Shape, run: impl FnOnce(SelectiveScanGradients<'_, f32>) -> Result<()>) {
        let [mut dx, mut ddt, mut dz] =
            self.sequences.each_mut().map(|tensor| ViewMut::new(tensor, sequence_dims(shape)));
        let [dB, dC] = self.rows.each_mut().map(|tensor| ViewMut::new(tensor, rows_dims(shape)));
        let [mut dD, mut ddt_bias] = self.channels.each_mut().map(|tensor| ViewMut::new(tensor, [("dim", shape.dim)]));
        let mut dA = ViewMut::new(&mut self.dA, [("dim", shape.dim), ("dstate", shape.dstate)]);
        let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA);
        run(gradients.dB(dB).dC(dC).dD(&mut dD).ddt_bias(&mut ddt_bias)).expect("the same call was planned");
    }
}

fn backward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in shapes() {
        let (inputs, mut outputs) = (ScanInputs::new(shape), Outputs::new(&shape));
        let mut group = criterion.benchmark_group(format!("selective_scan/backward/{name}"));
        group.throughput(throughput(&shape));
        let (scan, cpu) = (inputs.scan()?, Cpu::single_thread());
        let plan = cpu.backward_plan(&scan)?;
        let mut workspace = plan.allocate()?;
        let dout = &inputs.sequences[3];
        let upstream = SelectiveScanUpstream::new().dout(View::new(dout, sequence_dims(&shape)));
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                outputs.with_views(&shape, |gradients| {
                    cpu.backward_with(&scan, upstream, gradients, &plan, (&mut workspace).into())
                });
            });
        });
        let mut scratch = vec![0.0; shape.scratch()];
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.scan_backward(&inputs.plain(), dout, &mut outputs.plain(), &mut scratch));
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
    criterion.final_summary();
    Ok(())
}
