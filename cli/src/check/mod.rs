//! `ssm check`: backends against the reference, on random cases.

mod causal_conv1d;
mod causal_conv1d_update;
mod discretise;
mod scan;
mod scan_backward;
mod state_update;
mod tally;
mod tensor;

use crate::args::{CheckArgs, Checked};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::error::Result;
use crate::operators::{Runs, RunsAll};
use crate::progress::Progress;
use crate::random::Random;
use crate::tensor::Io;
use half::{bf16, f16};
use ssm_kernels::Cpu;
#[cfg(feature = "cuda")]
use ssm_kernels::gpu::Stream;
use std::time::{SystemTime, UNIX_EPOCH};
use tally::{Kind, Tally};

/// Checks every backend; the text, and whether every case passed. An error if one of them is absent.
pub fn run(args: &CheckArgs) -> Result<(String, bool)> {
    #[cfg(feature = "cuda")]
    if args.device.is_some() && !args.backend.contains(&Checked::Cuda) {
        return Err(crate::error::CliError::new("--device is for --backend cuda only"));
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = args.seed.unwrap_or_else(clock);
    let (mut text, mut passes) = (format!("seed {seed}\n"), true);
    for &backend in &args.backend {
        let cases = args.cases.map(usize::from);
        let tally = match backend {
            Checked::Cpu => check(&Cpu::new(), backend, seed, cases.unwrap_or(MANY)),
            #[cfg(feature = "emulator")]
            Checked::Emulator => {
                check(&ssm_kernels::gpu::Emulator::new().on_host(), backend, seed, cases.unwrap_or(FEW))
            }
            #[cfg(feature = "cuda")]
            Checked::Cuda => {
                let driver = cuda::open(args.device)?;
                let info = driver.info();
                text += &format!("\ncuda: device {}, {}\n", info.ordinal, info.name);
                let usual = if cuda::is_emulated(info) { FEW } else { MANY };
                check(&driver.on(Stream::null()).on_host(), backend, seed, cases.unwrap_or(usual))
            }
        };
        text += &format!("\n{}", tally.text(backend));
        passes &= tally.passes();
    }
    Ok((text, passes))
}

/// Cases, if nobody says how many.
const MANY: usize = 2000;
/// The same on an emulated device, which takes a thousand times as long.
#[cfg(any(feature = "cuda", feature = "emulator"))]
const FEW: usize = 24;

/// Runs so many cases; case i is that of seed + i.
fn check(backend: &impl RunsAll, name: Checked, seed: u64, cases: usize) -> Tally {
    let (mut tally, progress) = (Tally::default(), Progress::new(cases));
    progress.begin(&format!("cases on {name}"));
    for i in 0..cases {
        let seed = seed.wrapping_add(i as u64);
        let again = format!("ssm check --backend {name} --cases 1 --seed {seed}");
        // Neighbouring seeds are the same sequence, one step on: the case begins elsewhere.
        let mut random = Random::new(Random::new(seed).bits());
        match random.below(3) {
            0 => case::<f32>(backend, &mut random, &again, &mut tally),
            1 => case::<f16>(backend, &mut random, &again, &mut tally),
            _ => case::<bf16>(backend, &mut random, &again, &mut tally),
        }
        progress.step();
    }
    tally
}

/// Of thirteen cases five are scans, and one is a convolution's update.
fn case<T: Io>(backend: &impl Runs<T>, random: &mut Random, again: &str, tally: &mut Tally) {
    let (kind, forward) = (random.below(13), random.chance(0.5));
    let (dtype, direction) = (T::DTYPE.name(), if forward { "forward" } else { "backward" });
    let both = |op| Kind { op, direction, dtype };
    let alone = |op| Kind { op, direction: "forward", dtype };
    match kind {
        0..5 => {
            let (mut judge, mut spec) = (tally.judge(both("selective_scan")), scan::Spec::draw(random));
            if forward {
                scan::forward::<T>(backend, &spec, &mut judge);
            } else {
                spec = spec.without_negative_steps();
                scan_backward::backward::<T>(backend, &spec, &mut judge);
            }
            judge.end(&spec, again);
        }
        5..7 => {
            let (mut judge, spec) = (tally.judge(both("discretise")), discretise::Spec::draw(random));
            let run = if forward { discretise::forward::<T> } else { discretise::backward::<T> };
            run(backend, &spec, &mut judge);
            judge.end(&spec, again);
        }
        7..9 => {
            let (mut judge, spec) = (tally.judge(alone("state_update")), state_update::Spec::draw(random));
            state_update::forward::<T>(backend, &spec, &mut judge);
            judge.end(&spec, again);
        }
        9..12 => {
            let (mut judge, spec) = (tally.judge(both("causal_conv1d")), causal_conv1d::Spec::draw(random));
            let run = if forward { causal_conv1d::forward::<T> } else { causal_conv1d::backward::<T> };
            run(backend, &spec, &mut judge);
            judge.end(&spec, again);
        }
        _ => {
            let (mut judge, spec) =
                (tally.judge(alone("causal_conv1d_update")), causal_conv1d_update::Spec::draw(random));
            causal_conv1d_update::forward::<T>(backend, &spec, &mut judge);
            judge.end(&spec, again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_kernels::ops::{Backward, Differentiable, Forward, Operator, Workspace};
    use ssm_kernels::{Plan, Result};

    /// A backend that plans like the CPU and then computes nothing.
    struct Idle;

    impl<Op: Operator> Forward<Op> for Idle
    where
        Cpu: Forward<Op>,
    {
        fn forward_plan(&self, op: &Op) -> Result<Plan> {
            Cpu::new().forward_plan(op)
        }
        fn forward_with(&self, _: &Op, _: Op::Outputs<'_>, _: &Plan, _: Workspace<'_, Op::Storage>) -> Result<()> {
            Ok(())
        }
        fn forward(&self, _: &Op, _: Op::Outputs<'_>) -> Result<()> {
            Ok(())
        }
    }

    impl<Op: Differentiable> Backward<Op> for Idle
    where
        Cpu: Backward<Op>,
    {
        fn backward_plan(&self, op: &Op) -> Result<Plan> {
            Cpu::new().backward_plan(op)
        }
        fn backward_with(
            &self,
            _: &Op,
            _: Op::Upstream<'_>,
            _: Op::Gradients<'_>,
            _: &Plan,
            _: Workspace<'_, Op::Storage>,
        ) -> Result<()> {
            Ok(())
        }
        fn backward(&self, _: &Op, _: Op::Upstream<'_>, _: Op::Gradients<'_>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_backend_that_computes_nothing_fails() {
        let tally = check(&Idle, Checked::Cpu, 1, 120);
        assert!(!tally.passes());
        let text = tally.text(Checked::Cpu);
        for kind in [
            ("selective_scan", "forward"),
            ("selective_scan", "backward"),
            ("discretise", "forward"),
            ("discretise", "backward"),
            ("state_update", "forward"),
            ("causal_conv1d", "forward"),
            ("causal_conv1d", "backward"),
            ("causal_conv1d_update", "forward"),
        ] {
            let of = |line: &&str| line.split_whitespace().take(2).eq([kind.0, kind.1]);
            let mut lines = text.lines().filter(of).peekable();
            assert!(lines.peek().is_some() && lines.all(|line| line.ends_with("FAIL")), "{kind:?}: {text}");
        }
        assert!(text.contains("FAIL") && text.contains("again: ssm check --backend cpu --cases 1 --seed "), "{text}");
    }

    #[test]
    fn a_case_is_repeated_by_its_own_seed() {
        let text = |seed, cases| check(&Idle, Checked::Cpu, seed, cases).failures();
        let (all, alone) = (text(5, 3), text(6, 1));
        assert!(!alone.is_empty() && alone.iter().all(|failure| all.contains(failure)), "{all:?} {alone:?}");
    }
}
