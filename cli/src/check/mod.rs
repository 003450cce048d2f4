//! `ssm check`: backends against the reference, on random cases.

/// Runs `$run` in the dtype that the states or weights of a case have beside that of its other tensors, and tells the judge what it
/// fails with. A macro, since a backend has an operator in each of three pairs of dtypes, which no bound says of all.
macro_rules! in_own_dtype {
    ($dtype:expr, $run:ident::<$T:ty>($backend:expr, $spec:expr, $judge:expr)) => {{
        let done = match $dtype {
            ssm_kernels::Dtype::F16 => $run::<$T, half::f16>($backend, $spec, $judge),
            ssm_kernels::Dtype::BF16 => $run::<$T, half::bf16>($backend, $spec, $judge),
            _ => $run::<$T, f32>($backend, $spec, $judge),
        };
        if let Err(error) = done {
            $judge.error("a valid case", &error);
        }
    }};
}

mod causal_conv1d;
mod causal_conv1d_update;
mod discretise;
mod scan;
mod scan_backward;
mod squared_attention;
mod squared_attention_update;
mod state_update;
mod subject;
mod tally;
mod tensor;

use crate::args::CheckArgs;
use crate::error::Result;
use crate::operators::{Attends, AttendsAll, Runs, RunsAll};
use crate::progress::Progress;
use crate::random::Random;
use crate::tensor::Io;
use half::{bf16, f16};
use std::time::{SystemTime, UNIX_EPOCH};
use subject::Subject;
use tally::{Kind, Tally};

/// Checks every backend; the text, and whether every case passed. An error, before anything runs, if one of them is absent.
pub fn run(args: &CheckArgs) -> Result<(String, bool)> {
    #[cfg(feature = "cuda")]
    crate::cuda::check_device(args.device, args.backend.contains(&crate::args::Checked::Cuda))?;
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = args.seed.unwrap_or_else(clock);
    let (mut text, mut passes) = (format!("seed {seed}\n"), true);
    let subjects = args.backend.iter().map(|&backend| Ok((backend, Subject::new(backend, args)?)));
    for (backend, subject) in subjects.collect::<Result<Vec<_>>>()? {
        let tally = subject.check(seed, args.cases.map(usize::from));
        text += if subject.attends() { "" } else { "\nsquared_attention has no GPU kernels: not checked\n" };
        text += &subject.place().map(|place| format!("\n{place}\n")).unwrap_or_default();
        text += &format!("\n{}", if args.table { tally.markdown(backend) } else { tally.text(backend) });
        passes &= tally.passes();
    }
    Ok((text, passes))
}

/// A backend, and the same if it has squared attention.
struct Checks<'b, B, A> {
    backend: &'b B,
    attends: Option<&'b A>,
}

/// Runs so many cases; case i is that of seed + i.
fn check(checks: &Checks<'_, impl RunsAll, impl AttendsAll>, arguments: &str, seed: u64, cases: usize) -> Tally {
    let (mut tally, progress) = (Tally::default(), Progress::new(cases));
    progress.begin(&format!("cases, {arguments}"));
    for i in 0..cases {
        let seed = seed.wrapping_add(i as u64);
        let again = format!("ssm check {arguments} --cases 1 --seed {seed}");
        // Neighbouring seeds are the same sequence, one step on: the case begins elsewhere.
        let mut random = Random::new(Random::new(seed).bits());
        match random.below(3) {
            0 => case::<f32>(checks, &mut random, &again, &mut tally),
            1 => case::<f16>(checks, &mut random, &again, &mut tally),
            _ => case::<bf16>(checks, &mut random, &again, &mut tally),
        }
        progress.step();
    }
    tally
}

/// Of sixteen cases five are scans, two are squared attention, and one is the update of each of the operators that have one.
/// A backend without squared attention has another operator's case instead; all others are those of every backend.
fn case<T: Io>(
    checks: &Checks<'_, impl Runs<T>, impl Attends<T>>,
    random: &mut Random,
    again: &str,
    tally: &mut Tally,
) {
    match (random.below(16), checks.attends) {
        (kind @ 13.., Some(backend)) => attention_case::<T>(backend, kind == 15, random, again, tally),
        (13.., None) => {
            let kind = random.below(13);
            usual_case::<T>(checks.backend, kind, random, again, tally);
        }
        (kind, _) => usual_case::<T>(checks.backend, kind, random, again, tally),
    }
}

fn attention_case<T: Io>(backend: &impl Attends<T>, update: bool, random: &mut Random, again: &str, tally: &mut Tally) {
    let (dtype, forward) = (T::DTYPE.name(), random.chance(0.5));
    if update {
        let kind = Kind { op: "squared_attention_update", direction: "forward", dtype };
        let (mut judge, spec) = (tally.judge(kind), squared_attention_update::Spec::draw(random));
        squared_attention_update::forward::<T>(backend, &spec, &mut judge);
        return judge.end(&spec, again);
    }
    let direction = if forward { "forward" } else { "backward" };
    let kind = Kind { op: "squared_attention", direction, dtype };
    let (mut judge, spec) = (tally.judge(kind), squared_attention::Spec::draw(random));
    let run = if forward { squared_attention::forward::<T> } else { squared_attention::backward::<T> };
    run(backend, &spec, &mut judge);
    judge.end(&spec, again);
}

fn usual_case<T: Io>(backend: &impl Runs<T>, kind: usize, random: &mut Random, again: &str, tally: &mut Tally) {
    let (forward, dtype) = (random.chance(0.5), T::DTYPE.name());
    let direction = if forward { "forward" } else { "backward" };
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
    use crate::args::Checked;
    use ssm_kernels::Cpu;
    use ssm_kernels::ops::{Backward, Differentiable, Forward, Operator, Workspace};
    use ssm_kernels::{Plan, Result};

    /// A backend that plans like the CPU and then computes nothing.
    struct Idle;

    const IDLE: Checks<'static, Idle, Idle> = Checks { backend: &Idle, attends: Some(&Idle) };

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
        let tally = check(&IDLE, "--backend cpu", 1, 160);
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
            ("squared_attention", "forward"),
            ("squared_attention", "backward"),
            ("squared_attention_update", "forward"),
        ] {
            let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
            let rows: Vec<_> = rows.iter().filter(|row| row.len() > 4 && (row[0], row[1]) == kind).collect();
            // In some dtype: a state of few digits may be the same after a small step.
            let fails = |tensor| rows.iter().any(|row| row[3] == tensor && row.ends_with(&["FAIL"]));
            assert!(!rows.is_empty() && rows.iter().all(|row| fails(row[3])), "{kind:?}: {text}");
        }
        assert!(text.contains("FAIL") && text.contains("again: ssm check --backend cpu --cases 1 --seed "), "{text}");
    }

    /// What a backend without squared attention runs instead is what another draw gives.
    #[test]
    fn a_backend_may_be_without_attention() {
        let without = Checks { backend: &Idle, attends: None::<&Idle> };
        let (all, some) = (check(&IDLE, "--backend cpu", 1, 60), check(&without, "--backend cpu", 1, 60));
        let [all, some] = [all, some].map(|tally| tally.text(Checked::Cpu));
        assert!(all.contains("squared_attention") && !some.contains("squared_attention"), "{all}{some}");
        assert!(some.contains("backend cpu: 60 cases"), "{some}");
    }

    #[test]
    fn a_case_is_repeated_by_its_own_seed() {
        let text = |seed, cases| check(&IDLE, "--backend cpu", seed, cases).failures();
        let (all, alone) = (text(5, 3), text(6, 1));
        assert!(!alone.is_empty() && alone.iter().all(|failure| all.contains(failure)), "{all:?} {alone:?}");
    }
}
