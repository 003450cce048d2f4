//! Events.

use crate::capture;
use crate::codes::{Code, Result};
use crate::edge::{Handle, Out, exports};
use crate::queue::{advance, complete, synchronise};
use crate::settings;
use crate::state::{Event, State, lock};
use crate::work::Work;
use std::time::Instant;

/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: u32 = 2;

fn create(place: Out<Handle>, flags: u32) -> Result<()> {
    let mut state = lock();
    let context = state.current()?;
    if place.is_null() || flags > 7 || flags & 4 != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let handle = state.handle();
    state.events.insert(handle, Event { context, flags, ticket: None, time: None, captured: None });
    place.put(handle)
}

fn record(event: Handle, stream: Handle) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    let owner = state.event(event)?.context;
    let found = state.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
    if found.context != owner {
        return Err(Code::INVALID_HANDLE);
    }
    let captured = found.capture.clone();
    if captured.is_some() {
        return capture::record(&mut state, event, captured);
    }
    let ticket = state.enqueue(stream, Work::Record(event), Vec::new())?;
    if let Some(found) = state.events.get_mut(&event) {
        (found.ticket, found.time, found.captured) = (ticket, None, None);
    }
    if !settings::get().defer {
        drop(complete(state, ticket.unwrap_or(0)));
    }
    Ok(())
}

fn wait(stream: Handle, event: Handle) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    let ticket = state.event(event)?.ticket;
    if capture::wait(&mut state, stream, event)? {
        return Ok(());
    }
    match ticket.filter(|ticket| state.pending.contains_key(ticket)) {
        // Never recorded, or over.
        None => Ok(()),
        Some(ticket) => {
            let own = state.enqueue(stream, Work::Nothing, vec![ticket])?;
            if !settings::get().defer {
                drop(complete(state, own.unwrap_or(0)));
            }
            Ok(())
        }
    }
}

/// The ticket of an event that the host may wait for, with its context.
fn ticket(state: &mut State, event: Handle) -> Result<(Handle, u64)> {
    capture::refuse_captured(state, event)?;
    let found = state.event(event)?;
    Ok((found.context, found.ticket.unwrap_or(0)))
}

/// When an event came, if it has.
fn time(state: &mut State, event: Handle) -> Result<Instant> {
    capture::refuse_captured(state, event)?;
    let found = state.event(event)?;
    if found.flags & NO_TIMING != 0 || found.ticket.is_none() {
        return Err(Code::INVALID_HANDLE);
    }
    found.time.ok_or(Code::NOT_READY)
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Result<()> {
    let mut state = lock();
    let (start, end) = (time(&mut state, start)?, time(&mut state, end)?);
    let negative = if end < start { -1.0 } else { 1.0 };
    let between = if end < start { start - end } else { end - start };
    milliseconds.put(negative * between.as_secs_f32() * 1e3)
}

exports! {
    /// An event.
    fn cuEventCreate(event: Out<Handle>, flags: u32) { create(event, flags) }

    /// Destroys an event; who waits for it still does.
    fn cuEventDestroy_v2(event: Handle) {
        let mut state = lock();
        state.event(event)?;
        state.events.remove(&event);
        Ok(())
    }

    /// Records what a stream has to do.
    fn cuEventRecord(event: Handle, stream: Handle) { record(event, stream) }

    /// The same; flags that make it a node of a graph are not supported.
    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) {
        if flags == 0 { record(event, stream) } else { Err(Code::NOT_SUPPORTED) }
    }

    /// Makes a stream wait for what an event recorded.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: u32) { wait(stream, event) }

    /// Waits for what an event recorded.
    fn cuEventSynchronize(event: Handle) {
        let mut state = lock();
        let (context, ticket) = ticket(&mut state, event)?;
        synchronise(state, context, &[ticket]).map(drop)
    }

    /// Whether it is over. Each time something of it runs.
    fn cuEventQuery(event: Handle) {
        let mut state = lock();
        let (context, ticket) = ticket(&mut state, event)?;
        if !state.pending.contains_key(&ticket) {
            return Ok(());
        }
        advance(state, ticket).context(context)?;
        Err(Code::NOT_READY)
    }

    /// The time of the host between two events, which says nothing of a device.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) { elapsed(milliseconds, start, end) }

    /// The same.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) { elapsed(milliseconds, start, end) }
}
