//! One token through the state update on the CPU backend and as C loops, CPU time on one thread.
// A, B, C and D are the field's names.
#![allow(non_snake_case)]

mod common;

use common::{CpuTime, ScanInputs, criterion, sequence_dims, throughput, with_layouts};
use criterion::Criterion;
use ssm_baseline::loops;
use ssm_kernels::Result;
use ssm_kernels::prelude::*;

fn forward(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    for (name, shape) in with_layouts(&[(1, 1536, 1, 16), (32, 1536, 1, 16)]) {
        let inputs = ScanInputs::new(shape);
        let mut group = criterion.benchmark_group(format!("state_update/forward/{name}"));
        group.throughput(throughput(&shape));
        let (update, cpu) = (inputs.update()?, Cpu::single_thread());
        let plan = cpu.forward_plan(&update)?;
        let (mut workspace, mut out) = (plan.allocate()?, vec![0.0; shape.sequence()]);
        let mut states = vec![0.0; shape.batch * shape.states()];
        group.bench_function("cpu", |bencher| {
            bencher.iter(|| {
                let dims = [("batch", shape.batch), ("dim", shape.dim), ("dstate", shape.dstate)];
                let (mut states, mut out) =
                    (ViewMut::new(&mut states, dims), ViewMut::new(&mut out, sequence_dims(&shape)));
                let outputs = StateUpdateOutputs::new(&mut states, &mut out);
                cpu.forward_with(&update, outputs, &plan, (&mut workspace).into()).expect("the same call was planned");
            });
        });
        for loops in loops() {
            group.bench_function(format!("C {}", loops.name()), |bencher| {
                bencher.iter(|| loops.state_update(&inputs.plain(), &mut out, &mut states));
            });
        }
        group.finish();
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = criterion().configure_from_args();
    forward(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
