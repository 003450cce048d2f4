//! Streams.

use crate::capture;
use crate::codes::{Code, Result};
use crate::edge::{Handle, Out, exports};
use crate::queue::{advance, synchronise};
use crate::state::{State, Stream, StreamKind, lock};

fn create(place: Out<Handle>, flags: u32, priority: i32) -> Result<()> {
    let mut state = lock();
    let current = state.current()?;
    let kind = match flags {
        0 => StreamKind::Blocking,
        1 => StreamKind::NonBlocking,
        _ => return Err(Code::INVALID_VALUE),
    };
    if place.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    place.put(state.new_stream(current, kind, flags, priority.clamp(-5, 0)))
}

/// The stream of a handle.
fn with<T>(stream: Handle, look: impl FnOnce(&Stream) -> T) -> Result<T> {
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    state.streams.get(&stream).map(look).ok_or(Code::INVALID_HANDLE)
}

impl State {
    /// The context of a stream, and the tickets that whoever waits for it waits for: that of what was enqueued last, and
    /// for the default stream those of all blocking streams.
    fn awaited(&self, stream: Handle) -> Result<(Handle, Vec<u64>)> {
        let found = self.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
        let context = found.context;
        if found.kind != StreamKind::Null {
            return Ok((context, vec![found.last]));
        }
        let all = self.streams.values().filter(|stream| stream.context == context);
        Ok((context, all.filter(|stream| stream.kind != StreamKind::NonBlocking).map(|stream| stream.last).collect()))
    }
}

fn destroy(stream: Handle) -> Result<()> {
    let mut state = lock();
    if stream <= 2 {
        return Err(Code::INVALID_HANDLE);
    }
    let stream = state.stream_of(stream)?;
    capture::abandon(&mut state, stream);
    let idle = state.streams.get(&stream).is_some_and(|stream| stream.queue.is_empty() && !stream.running);
    if idle {
        state.streams.remove(&stream);
    } else if let Some(found) = state.streams.get_mut(&stream) {
        // What is enqueued runs with the rest of the context.
        found.destroyed = true;
    }
    Ok(())
}

exports! {
    /// A stream.
    fn cuStreamCreate(stream: Out<Handle>, flags: u32) { create(stream, flags, 0) }

    /// A stream with a priority, which changes nothing.
    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) { create(stream, flags, priority) }

    /// Destroys a stream; what is enqueued there still runs.
    fn cuStreamDestroy_v2(stream: Handle) { destroy(stream) }

    /// Waits for a stream.
    fn cuStreamSynchronize(stream: Handle) {
        let mut state = lock();
        let stream = state.stream_of(stream)?;
        capture::refuse_waiting(&mut state, stream)?;
        let (context, tickets) = state.awaited(stream)?;
        synchronise(state, context, &tickets).map(drop)
    }

    /// Whether a stream has nothing left to do. Each time something of it runs, so that whoever asks again and again gets an
    /// end.
    fn cuStreamQuery(stream: Handle) {
        let mut state = lock();
        let stream = state.stream_of(stream)?;
        capture::refuse_waiting(&mut state, stream)?;
        let (context, tickets) = state.awaited(stream)?;
        let Some(&left) = tickets.iter().find(|ticket| state.pending.contains_key(ticket)) else { return Ok(()) };
        advance(state, left).context(context)?;
        Err(Code::NOT_READY)
    }

    /// The flags of a stream.
    fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) { flags.put(with(stream, |stream| stream.flags)?) }

    /// The priority of a stream.
    fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) { priority.put(with(stream, |stream| stream.priority)?) }

    /// The context of a stream.
    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) { context.put(with(stream, |stream| stream.context)?) }

    /// A number of a stream.
    fn cuStreamGetId(stream: Handle, id: Out<u64>) {
        let mut state = lock();
        id.put(state.stream_of(stream)? as u64)
    }
}
