//! What programs did: calls by name, those that synchronise, launches, memory.

use crate::settings;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All counts of the process.
#[derive(Debug, Default)]
pub struct Counters {
    calls: BTreeMap<&'static str, u64>,
    /// Calls that made the host wait for a device.
    pub synchronisations: u64,
    /// Kernels that ran.
    pub launches: u64,
    /// Bytes of device memory that were ever asked for.
    pub bytes_allocated: u64,
    /// Bytes of device memory that programs have not freed.
    pub bytes_in_use: u64,
    /// The most that `bytes_in_use` ever was.
    pub bytes_peak: u64,
}

static COUNTERS: Mutex<Counters> = Mutex::new(Counters {
    calls: BTreeMap::new(),
    synchronisations: 0,
    launches: 0,
    bytes_allocated: 0,
    bytes_in_use: 0,
    bytes_peak: 0,
});

/// The counters.
pub fn lock() -> MutexGuard<'static, Counters> {
    COUNTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    /// Counts a call, and says which of its name it is, from 1.
    pub fn call(&mut self, name: &'static str) -> u64 {
        let count = self.calls.entry(name).or_default();
        *count += 1;
        *count
    }

    /// Counts memory that was allocated.
    pub fn allocated(&mut self, bytes: u64) {
        self.bytes_allocated += bytes;
        self.bytes_in_use += bytes;
        self.bytes_peak = self.bytes_peak.max(self.bytes_in_use);
    }

    /// The counter of this name, or the calls of the function of this name.
    pub fn get(&self, name: &str) -> u64 {
        match name {
            "calls" => self.calls.values().sum(),
            "synchronisations" => self.synchronisations,
            "launches" => self.launches,
            "bytes_allocated" => self.bytes_allocated,
            "bytes_in_use" => self.bytes_in_use,
            "bytes_peak" => self.bytes_peak,
            _ => self.calls.get(name).copied().unwrap_or(0),
        }
    }

    /// A line each: a name and its count.
    fn table(&self) -> String {
        let totals = ["calls", "synchronisations", "launches", "bytes_allocated", "bytes_in_use", "bytes_peak"];
        let all = totals.into_iter().chain(self.calls.keys().copied());
        all.fold(String::new(), |mut table, name| {
            // Writing to a string does not fail.
            let _ = writeln!(table, "{name} {}", self.get(name));
            table
        })
    }
}

/// Arranges that the counts are written when the process ends, if a file for them is named.
pub fn write_at_exit() {
    // From the C library that the standard library links.
    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> i32;
    }
    extern "C" fn write() {
        if let Some(path) = &settings::get().statistics
            && let Err(why) = std::fs::write(path, lock().table())
        {
            eprintln!("emulated CUDA: {} cannot be written: {why}", path.display());
        }
    }
    if settings::get().statistics.is_some() {
        // SAFETY: the function takes nothing, returns nothing and does not unwind.
        unsafe { atexit(write) };
    }
}
