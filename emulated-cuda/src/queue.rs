//! Streams as queues. What is enqueued runs when somebody waits for it, and not before: a program that does not wait, or
//! waits for the wrong stream, sees what a busy device would show it.

use crate::codes::{Code, Result};
use crate::edge::Handle;
use crate::state::{RAN, State, StreamKind, lock};
use crate::work::Work;
use crate::{counters, settings};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};

/// What is enqueued in a stream.
#[derive(Debug)]
pub struct Op {
    pub ticket: u64,
    /// Tickets of other streams that must have run.
    pub after: Vec<u64>,
    pub work: Work,
}

/// Enqueues work in a stream, which has been looked up. In a capture it becomes a node instead.
pub fn submit(mut state: MutexGuard<'static, State>, stream: Handle, work: Work) -> Result<()> {
    let ticket = state.enqueue(stream, work, Vec::new())?;
    if !settings::get().defer {
        drop(complete(state, ticket.unwrap_or(0)));
    }
    Ok(())
}

/// The same, and waits for it on behalf of the host; not in a capture.
pub fn submit_and_wait(mut state: MutexGuard<'static, State>, stream: Handle, work: Work) -> Result<()> {
    let context = state.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?.context;
    match state.enqueue(stream, work, Vec::new())? {
        Some(ticket) => synchronise(state, context, &[ticket]).map(drop),
        None => Ok(()),
    }
}

impl State {
    /// Enqueues work in a stream, and returns its ticket; none in a capture.
    pub fn enqueue(&mut self, stream: Handle, work: Work, mut after: Vec<u64>) -> Result<Option<u64>> {
        if self.capture_work(stream, &work)? {
            return Ok(None);
        }
        let ticket = self.ticket();
        let found = self.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
        let (kind, context) = (found.kind, found.context);
        let other = match kind {
            StreamKind::NonBlocking => None,
            StreamKind::Null => Some(StreamKind::Blocking),
            StreamKind::Blocking => Some(StreamKind::Null),
        };
        let others = self.streams.values().filter(|stream| stream.context == context && Some(stream.kind) == other);
        after.extend(others.map(|stream| stream.last));
        after.retain(|ticket| self.pending.contains_key(ticket));
        if let Some(found) = self.streams.get_mut(&stream) {
            found.queue.push_back(Op { ticket, after, work });
            found.last = ticket;
        }
        self.pending.insert(ticket, stream);
        Ok(Some(ticket))
    }

    /// The largest ticket of a context, up to this one, that has not run.
    fn newest(&self, context: Handle, last: u64) -> Option<u64> {
        let of_context = |stream: &Handle| self.streams.get(stream).is_some_and(|stream| stream.context == context);
        self.pending.range(..=last).rev().find(|(_, stream)| of_context(stream)).map(|(&ticket, _)| ticket)
    }

    fn step(&mut self, ticket: u64) -> Step {
        let mut wanted = ticket;
        loop {
            let Some(&handle) = self.pending.get(&wanted) else { return Step::Done };
            let Some(stream) = self.streams.get_mut(&handle) else { return Step::Done };
            if stream.running {
                return Step::Wait;
            }
            let Some(front) = stream.queue.front() else { return Step::Done };
            match front.after.iter().find(|ticket| self.pending.contains_key(ticket)) {
                Some(&other) => wanted = other,
                None => {
                    stream.running = true;
                    return stream.queue.pop_front().map_or(Step::Done, |op| Step::Run(handle, op));
                }
            }
        }
    }

    /// Notes that something has run.
    fn ran(&mut self, stream: Handle, ticket: u64, result: Result<()>) {
        self.pending.remove(&ticket);
        let Some(found) = self.streams.get_mut(&stream) else { return };
        found.running = false;
        let (context, over) = (found.context, found.destroyed && found.queue.is_empty());
        if let (Err(code), Some(context)) = (result, self.contexts.get_mut(&context)) {
            context.lost.get_or_insert(code);
        }
        if over {
            self.streams.remove(&stream);
        }
    }
}

/// What to do next for a ticket.
enum Step {
    Done,
    /// Another thread runs what comes first.
    Wait,
    Run(Handle, Op),
}

/// Runs what must run until this ticket has, and nothing else.
pub fn complete(mut state: MutexGuard<'static, State>, ticket: u64) -> MutexGuard<'static, State> {
    loop {
        let step = state.step(ticket);
        match step {
            Step::Done => return state,
            Step::Wait => state = RAN.wait(state).unwrap_or_else(PoisonError::into_inner),
            Step::Run(stream, op) => state = run(state, stream, op),
        }
    }
}

/// Runs one thing, without the lock.
fn run(state: MutexGuard<'static, State>, stream: Handle, op: Op) -> MutexGuard<'static, State> {
    let context = state.streams.get(&stream).map(|stream| stream.context);
    let lost = context.and_then(|context| state.context(context).err());
    drop(state);
    let result = match lost {
        // A lost context does nothing any more.
        Some(_) => Ok(()),
        // A defect must not leave the stream for ever in use.
        None => catch_unwind(AssertUnwindSafe(|| op.work.run())).unwrap_or(Err(Code::UNKNOWN)),
    };
    let mut state = lock();
    op.work.over(&mut state);
    state.ran(stream, op.ticket, result);
    if let Work::Graph(graph) = op.work {
        state.drop_graph(graph);
    }
    RAN.notify_all();
    state
}

/// Runs the first thing that stands in the way of a ticket, for those who ask again and again.
pub fn advance(mut state: MutexGuard<'static, State>, ticket: u64) -> MutexGuard<'static, State> {
    match state.step(ticket) {
        Step::Run(stream, op) => run(state, stream, op),
        _ => state,
    }
}

/// Waits for tickets on behalf of the host, which is counted, and tells whether the context is lost.
pub fn synchronise(
    state: MutexGuard<'static, State>,
    context: Handle,
    tickets: &[u64],
) -> Result<MutexGuard<'static, State>> {
    counters::lock().synchronisations += 1;
    let state = tickets.iter().fold(state, |state, &ticket| complete(state, ticket));
    state.context(context)?;
    Ok(state)
}

/// Waits for everything of a context: what was enqueued last comes first, as far as streams and events allow, so that an
/// order that nobody asked for shows.
pub fn synchronise_context(
    mut state: MutexGuard<'static, State>,
    context: Handle,
) -> Result<MutexGuard<'static, State>> {
    counters::lock().synchronisations += 1;
    // Not for what other threads enqueue meanwhile: that might never end.
    let last = state.newest_ticket();
    while let Some(newest) = state.newest(context, last) {
        state = complete(state, newest);
    }
    state.context(context)?;
    Ok(state)
}
