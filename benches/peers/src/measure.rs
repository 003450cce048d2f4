//! CPU time of calls that take turns.

use crate::Result;
use rustix::time::{ClockId, clock_gettime};

/// Between two looks at the clock, in seconds: what is shorter runs several times.
const LAP: f64 = 3e-3;
const MOST_CALLS: f64 = 1e5;

/// One of those that take turns.
pub struct Subject<'a> {
    pub name: String,
    run: Box<dyn FnMut() -> Result<()> + 'a>,
}

impl<'a> Subject<'a> {
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Result<()> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Of the laps of a subject, in seconds a call.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub median: f64,
    pub least: f64,
}

/// CPU time of the process: what else runs on the machine lengthens it little, threads of its own count.
fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn lap(subject: &mut Subject<'_>, calls: usize) -> Result<f64> {
    let start = cpu_seconds();
    for _ in 0..calls {
        (subject.run)()?;
    }
    Ok((cpu_seconds() - start) / calls as f64)
}

/// Each in turn, again and again, so that noise hits all of them. Two calls of each before are not counted.
pub fn in_turns(subjects: &mut [Subject<'_>], turns: usize) -> Result<Vec<Times>> {
    let mut calls = Vec::new();
    for subject in &mut *subjects {
        lap(subject, 1)?;
        let one = lap(subject, 1)?;
        calls.push((LAP / one.max(1e-9)).ceil().clamp(1.0, MOST_CALLS) as usize);
    }
    let mut laps = vec![Vec::with_capacity(turns); subjects.len()];
    for _ in 0..turns {
        for ((subject, &calls), laps) in subjects.iter_mut().zip(&calls).zip(&mut laps) {
            laps.push(lap(subject, calls)?);
        }
    }
    Ok(laps.into_iter().map(times).collect())
}

fn times(mut laps: Vec<f64>) -> Times {
    laps.sort_by(f64::total_cmp);
    let middle = laps.len() / 2;
    let median = if laps.len() % 2 == 1 { laps[middle] } else { (laps[middle - 1] + laps[middle]) / 2.0 };
    Times { median, least: laps[0] }
}
