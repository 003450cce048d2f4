//! Timing, turn by turn.

use super::backends::Runner;
use crate::error::Result;
use ssm_baseline::cpu_time;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const ENOUGH: Duration = Duration::from_millis(300);
const FEWEST: usize = 3;
const MOST: usize = 1000;
/// What is shorter runs several times between two looks at the clock.
const SHORTEST: Duration = Duration::from_micros(300);

/// Median times of one call, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// CPU time of the process.
    pub cpu: f64,
    /// Wall time.
    pub wall: f64,
}

struct Contestant<'r, 'c> {
    run: &'r mut Runner<'c>,
    calls: u32,
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

impl<'r, 'c> Contestant<'r, 'c> {
    /// After one call to warm up and, if calls are short, another to count how many make a measurement.
    fn new(run: &'r mut Runner<'c>) -> Result<Self> {
        let mut timed = || -> Result<Duration> {
            let start = Instant::now();
            run()?;
            Ok(start.elapsed())
        };
        let mut time = timed()?;
        if time < SHORTEST {
            time = timed()?;
        }
        let calls = SHORTEST.as_nanos().div_ceil(time.as_nanos().max(1)).clamp(1, 10_000);
        Ok(Self { run, calls: calls as u32, cpu: vec![], wall: vec![] })
    }

    fn measure(&mut self) -> Result<Duration> {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        for _ in 0..self.calls {
            (self.run)()?;
        }
        let (cpu, wall) = (cpu_time().saturating_sub(cpu_start), start.elapsed());
        self.cpu.push(cpu.as_secs_f64() / f64::from(self.calls));
        self.wall.push(wall.as_secs_f64() / f64::from(self.calls));
        Ok(wall)
    }
}

/// Each of `runners` in turn, again and again, so that what else runs on the machine hits all of them; `reps` times, or
/// until the first has run for 0.3 s and 3 times. Returns the medians, and how often.
pub fn interleaved(runners: &mut [Runner<'_>], reps: Option<NonZeroUsize>) -> Result<(Vec<Times>, usize)> {
    let mut contestants = runners.iter_mut().map(Contestant::new).collect::<Result<Vec<_>>>()?;
    let (mut done, mut spent) = (0, Duration::ZERO);
    loop {
        let enough = match reps {
            Some(reps) => done >= reps.get(),
            None => (done >= FEWEST && spent >= ENOUGH) || done >= MOST,
        };
        if enough {
            break;
        }
        for (i, contestant) in contestants.iter_mut().enumerate() {
            let took = contestant.measure()?;
            spent += if i == 0 { took } else { Duration::ZERO };
        }
        done += 1;
    }
    Ok((contestants.into_iter().map(|c| Times { cpu: median(c.cpu), wall: median(c.wall) }).collect(), done))
}

/// Of at least one value; the mean of the two in the middle of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn all_run_equally_often() {
        let calls: [AtomicUsize; 3] = Default::default();
        let mut runners: Vec<Runner<'_>> = calls
            .iter()
            .map(|calls| {
                Box::new(|| {
                    calls.fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                    Ok(())
                }) as Runner<'_>
            })
            .collect();
        let (times, reps) = interleaved(&mut runners, NonZeroUsize::new(4)).unwrap();
        assert_eq!((times.len(), reps), (3, 4));
        assert!(times.iter().all(|times| times.wall >= 0.001));
        drop(runners);
        let calls = calls.map(AtomicUsize::into_inner);
        assert!(calls[0] >= 4 && calls.iter().all(|own| *own == calls[0]), "{calls:?}");
    }
}
