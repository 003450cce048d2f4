//! A progress bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of so many steps; it goes when this goes.
pub struct Progress(ProgressBar);

impl Progress {
    /// At its start.
    pub fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// What the next step does.
    pub fn begin(&self, what: &str) {
        self.0.set_message(what.to_string());
    }

    /// One step on.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
