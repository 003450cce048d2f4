//! The CPU time of this process.

use std::time::Duration;

/// Whether this system has a CPU clock; elsewhere [`cpu_time`] is wall time.
pub const HAS_CPU_CLOCK: bool = cfg!(unix);

/// What all threads of this process have computed so far. Other processes on the machine lengthen wall time, not this.
#[cfg(unix)]
pub fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// Wall time since the first call.
#[cfg(not(unix))]
pub fn cpu_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let start = cpu_time();
        let mut sum = 0u64;
        while cpu_time() - start < Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}
