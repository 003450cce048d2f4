//! Timing, turn by turn.

use super::backends::Runner;
use crate::error::Result;
use ssm_baseline::cpu_time;
#[cfg(feature = "cuda")]
use ssm_kernels::gpu::{Gpu, OnStream};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const ENOUGH: Duration = Duration::from_millis(300);
const FEWEST: usize = 3;
/// Of a device.
#[cfg(feature = "cuda")]
pub const WARM_UP: Duration = Duration::from_millis(50);
/// Calls by which those of a lap are estimated, where each has a gap before it.
const ESTIMATE: u32 = 10;
const MOST: usize = 1000;
/// What is shorter runs several times between two looks at the clock.
const SHORTEST: Duration = Duration::from_micros(300);

/// Median times of one call, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// CPU time of the process; not of a call on a device, which the process only waits for.
    pub cpu: Option<f64>,
    /// Wall time.
    pub wall: f64,
    /// Time between two events on the device.
    pub device: Option<f64>,
}

/// What calls are timed with.
#[derive(Debug, Clone, Copy)]
pub enum Stopwatch {
    /// The clocks of this machine.
    Host,
    /// Events on the device's stream, and this machine's wall clock.
    #[cfg(feature = "cuda")]
    Device(Gpu<OnStream>),
}

impl Stopwatch {
    fn time(self, work: impl FnOnce() -> Result<()>) -> Result<Times> {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        let device = match self {
            Self::Host => work().map(|()| None)?,
            #[cfg(feature = "cuda")]
            Self::Device(gpu) => Some(gpu.seconds(work)?),
        };
        let cpu = cpu_time().saturating_sub(cpu_start);
        let cpu = device.is_none().then_some(cpu.as_secs_f64());
        Ok(Times { cpu, wall: start.elapsed().as_secs_f64(), device })
    }

    /// Runs to the end, untimed.
    pub fn once(self, run: &mut Runner<'_>) -> Result<()> {
        self.time(run).map(drop)
    }

    /// A device raises its clock only under load.
    fn warm_up(self, run: &mut Runner<'_>) -> Result<()> {
        match self {
            Self::Host => run(),
            #[cfg(feature = "cuda")]
            Self::Device(gpu) => {
                let start = Instant::now();
                run()?;
                while start.elapsed() < WARM_UP {
                    gpu.seconds(&mut *run)?;
                }
                Ok(())
            }
        }
    }
}

struct Contestant<'r, 'c> {
    run: &'r mut Runner<'c>,
    stopwatch: Stopwatch,
    calls: u32,
    laps: Vec<Times>,
}

impl<'r, 'c> Contestant<'r, 'c> {
    /// After calls to warm up, and another to count how many make a measurement.
    fn new(run: &'r mut Runner<'c>, stopwatch: Stopwatch) -> Result<Self> {
        let seconds = |times: Times| times.device.unwrap_or(times.wall);
        let mut time = seconds(stopwatch.time(|| stopwatch.warm_up(run))?);
        if time < SHORTEST.as_secs_f64() || !matches!(stopwatch, Stopwatch::Host) {
            let calls = if matches!(stopwatch, Stopwatch::Host) { 1 } else { ESTIMATE };
            time = seconds(stopwatch.time(|| (0..calls).try_for_each(|_| run()))?) / f64::from(calls);
        }
        let calls = (SHORTEST.as_secs_f64() / time.max(1e-9)).ceil().clamp(1.0, 10_000.0);
        Ok(Self { run, stopwatch, calls: calls as u32, laps: vec![] })
    }

    fn measure(&mut self) -> Result<Duration> {
        let Self { run, stopwatch, calls, laps } = self;
        let (start, each) = (Instant::now(), |seconds: f64| seconds / f64::from(*calls));
        let Times { cpu, wall, device } = stopwatch.time(|| (0..*calls).try_for_each(|_| run()))?;
        laps.push(Times { cpu: cpu.map(each), wall: each(wall), device: device.map(each) });
        Ok(start.elapsed())
    }

    fn medians(self) -> Times {
        let all = |of: fn(&Times) -> Option<f64>| {
            let values: Vec<f64> = self.laps.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let wall = all(|times| Some(times.wall)).unwrap_or_default();
        Times { cpu: all(|times| times.cpu), wall, device: all(|times| times.device) }
    }
}

/// Each of `runners` in turn, again and again, so that what else runs on the machine hits all of them; `reps` times, or
/// until the first has run for 0.3 s and 3 times. Returns the medians, and how often.
pub fn interleaved(
    runners: &mut [Runner<'_>],
    stopwatch: Stopwatch,
    reps: Option<NonZeroUsize>,
) -> Result<(Vec<Times>, usize)> {
    let mut contestants = runners.iter_mut().map(|run| Contestant::new(run, stopwatch)).collect::<Result<Vec<_>>>()?;
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
    Ok((contestants.into_iter().map(Contestant::medians).collect(), done))
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
        let (times, reps) = interleaved(&mut runners, Stopwatch::Host, NonZeroUsize::new(4)).unwrap();
        assert_eq!((times.len(), reps), (3, 4));
        assert!(times.iter().all(|times| times.wall >= 0.001));
        drop(runners);
        let calls = calls.map(AtomicUsize::into_inner);
        assert!(calls[0] >= 4 && calls.iter().all(|own| *own == calls[0]), "{calls:?}");
    }
}
