//! Time on a device, between events.

use super::{Current, Gpu, OnStream, Opened};
use crate::error::{Error, Result};
use crate::gpu::sys::{Code, Handle};

/// An event of the driver, destroyed when dropped.
struct Event {
    opened: &'static Opened,
    handle: Handle,
}

impl Event {
    /// Records what the stream has enqueued.
    fn record(on: &OnStream) -> Result<Self> {
        let opened = on.driver.0;
        let _current = Current::push(opened)?;
        let refused = |code: Code| code.into_error(opened.api);
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is written.
        unsafe { opened.api.cuEventCreate(&mut handle, 0) }.map_err(refused)?;
        let event = Self { opened, handle };
        // SAFETY: event and stream are of this context.
        unsafe { opened.api.cuEventRecord(handle, on.stream.0) }.map_err(refused)?;
        Ok(event)
    }

    /// Seconds on the device since `start`, once both are there.
    fn seconds_since(&self, start: &Self) -> Result<f64> {
        let (api, mut milliseconds) = (self.opened.api, 0.0f32);
        let _current = Current::push(self.opened)?;
        // SAFETY: both events were recorded, and live; `milliseconds` is written.
        let asked = unsafe {
            api.cuEventSynchronize(self.handle)
                .and_then(|()| api.cuEventElapsedTime(&mut milliseconds, start.handle, self.handle))
        };
        asked.map_err(|code| code.into_error(api))?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_current) = Current::push(self.opened) {
            // SAFETY: created for this, and destroyed once. An error has no one to hear it.
            let _ = unsafe { self.opened.api.cuEventDestroy_v2(self.handle) };
        }
    }
}

impl Gpu<OnStream> {
    /// The seconds that the device takes for what `work` enqueues on the stream, gaps included in which it waits for the
    /// host. Returns when all of it is done.
    pub fn seconds<E: From<Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<f64, E> {
        let start = Event::record(&self.launcher)?;
        work()?;
        Ok(Event::record(&self.launcher)?.seconds_since(&start)?)
    }
}
