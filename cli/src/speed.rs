//! How long a call takes, and in how many threads it runs.

use crate::error::{CliError, Result};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const ENOUGH: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(2);
const FEWEST_CALLS: usize = 3;
const MOST_CALLS: usize = 1000;

/// Wall time of repeated calls.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// How often it ran.
    pub calls: usize,
    /// Median time of one call.
    pub median: Duration,
}

/// Repeats `call` so often; without a number for 0.2 s, 3 to 1000 times, and only once if that takes more than 2 s.
pub fn repeat(calls: Option<NonZeroUsize>, mut call: impl FnMut() -> Result<()>) -> Result<Speed> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    loop {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
        let long_enough = times.len() >= FEWEST_CALLS && begin.elapsed() >= ENOUGH;
        let enough = match calls {
            Some(calls) => times.len() >= calls.get(),
            None => long_enough || times.len() >= MOST_CALLS || times[0] > LONG,
        };
        if enough {
            break;
        }
    }
    times.sort();
    Ok(Speed { calls: times.len(), median: times[times.len() / 2] })
}

/// Runs `call` once.
pub fn once<R>(call: impl FnOnce() -> Result<R>) -> Result<(R, Speed)> {
    let start = Instant::now();
    let result = call()?;
    Ok((result, Speed { calls: 1, median: start.elapsed() }))
}

/// Runs `work` in a pool of so many threads; without a number, in the one that is there.
#[cfg(feature = "rayon")]
pub fn in_pool<R: Send>(threads: Option<u16>, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let Some(threads) = threads.filter(|&threads| threads > 1) else { return work() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build();
    pool.map_err(|error| CliError::new(format!("--threads {threads}: {error}")))?.install(work)
}

/// Runs `work` on this thread.
#[cfg(not(feature = "rayon"))]
pub fn in_pool<R>(threads: Option<u16>, work: impl FnOnce() -> Result<R>) -> Result<R> {
    match threads {
        None | Some(1) => work(),
        Some(threads) => Err(CliError::new(format!("--threads {threads}: this build runs on one thread (no rayon)"))),
    }
}
