//! What the suites share: backends, cases, comparison, files.
#![allow(non_snake_case)]

pub mod host_tensors;

pub mod backends;
pub mod backward_case;
pub mod buffer;
pub mod compare;
pub mod conv;
pub mod conv_update;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "cust")]
pub mod cust;
pub mod device;
pub mod differences;
pub mod discretise;
#[cfg(feature = "emulator")]
pub mod emulator;
#[cfg(feature = "emulator")]
pub mod emulator_conv;
#[cfg(feature = "emulator")]
pub mod emulator_scan;
#[cfg(feature = "emulator")]
pub mod emulator_update;
pub mod fixtures;
pub mod parts;
pub mod random;
pub mod scan;
pub mod scan_backward;
pub mod squared_attention;
pub mod squared_attention_backward;
pub mod squared_attention_update;
pub mod state_update;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestError, TestRunner};
use std::io::Write;
use std::sync::OnceLock;

/// Prints past the capture of the test harness: what ran, and what was skipped, is to be seen.
pub fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Seed of this run: `PROPTEST_RNG_SEED`, or the clock.
fn run_seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let given = || std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    *SEED.get_or_init(|| given().unwrap_or_else(clock))
}

/// Runs a property on `cases` draws (or `PROPTEST_CASES`); a failure is shrunk and its seed kept beside `source`.
pub fn property<S: Strategy>(source: &'static str, label: &str, cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Clone,
{
    shared_property(source, label, cases, 1, strategy, test);
}

/// As [`property`], on the `share`-th part of the draws.
pub fn shared_property<S: Strategy>(
    source: &'static str,
    label: &str,
    cases: u32,
    share: u32,
    strategy: S,
    test: impl Fn(S::Value),
) where
    S::Value: Clone,
{
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let cases = cases.div_ceil(share);
    let seed = run_seed();
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        source_file: Some(source),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    match result {
        Ok(()) => say(format_args!("{label}: {cases} cases, PROPTEST_RNG_SEED={seed}")),
        Err(TestError::Fail(reason, value)) => {
            panic!("{label}, PROPTEST_RNG_SEED={seed}: {reason}\nsmallest failing case: {value:#?}")
        }
        Err(abort) => panic!("{label}, PROPTEST_RNG_SEED={seed}: {abort}"),
    }
}
