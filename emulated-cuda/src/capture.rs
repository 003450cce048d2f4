//! Capture of streams into graphs, and what is not allowed meanwhile.

use crate::codes::{Code, Result};
use crate::edge::{Handle, Out, exports};
use crate::graph::{Capture, Graph, Node, Tail};
use crate::state::{State, StreamKind, lock};
use crate::work::Work;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Modes of captures and of threads (`CUstreamCaptureMode`).
const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;

thread_local! {
    /// What this thread's unsafe calls are held against.
    static MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

impl State {
    /// Ends the life of captures, but not the captures.
    fn invalidate(&mut self, which: impl Fn(&Capture) -> bool) -> bool {
        let found = self.captures.values_mut().filter(|capture| which(capture));
        found.fold(false, |_, capture| {
            capture.invalid = true;
            true
        })
    }

    /// The captures that streams of a context take part in.
    fn captures_of(&self, context: Handle, kind: Option<StreamKind>) -> BTreeSet<u64> {
        let streams = self.streams.values().filter(|stream| stream.context == context);
        let streams = streams.filter(|stream| kind.is_none_or(|kind| stream.kind == kind));
        streams.filter_map(|stream| Some(stream.capture.as_ref()?.capture)).collect()
    }

    /// Adds work to the capture of a stream, if it has one.
    pub fn capture_work(&mut self, stream: Handle, work: &Work) -> Result<bool> {
        let found = self.streams.get_mut(&stream).ok_or(Code::INVALID_HANDLE)?;
        let (kind, context) = (found.kind, found.context);
        let Some(tail) = &mut found.capture else {
            let disturbed = if kind == StreamKind::Null {
                self.captures_of(context, Some(StreamKind::Blocking))
            } else {
                BTreeSet::new()
            };
            // The legacy stream would have to wait for what is only captured.
            let disturbs = self.invalidate(|capture| disturbed.contains(&capture.number));
            return if disturbs { Err(Code::STREAM_CAPTURE_IMPLICIT) } else { Ok(false) };
        };
        let capture = self.captures.get_mut(&tail.capture).ok_or(Code::STREAM_CAPTURE_INVALIDATED)?;
        if capture.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        let after = std::mem::replace(&mut tail.after, vec![capture.nodes.len()]);
        capture.nodes.push(Node { work: work.clone(), after });
        Ok(true)
    }
}

/// Refuses calls that may wait inside (allocations, module loading), where a capture forbids them.
pub(crate) fn refuse_unsafe_call(state: &mut State) -> Result<()> {
    let (mode, thread) = (MODE.get(), std::thread::current().id());
    if mode == RELAXED {
        return Ok(());
    }
    let forbids = |capture: &Capture| match capture.mode {
        GLOBAL => mode == GLOBAL || capture.thread == thread,
        THREAD_LOCAL => capture.thread == thread,
        _ => false,
    };
    if state.invalidate(forbids) { Err(Code::STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
}

/// Refuses to wait for a context of which a stream is captured.
pub(crate) fn refuse_synchronisation(state: &mut State, context: Handle) -> Result<()> {
    let captures = state.captures_of(context, None);
    let any = state.invalidate(|capture| captures.contains(&capture.number));
    if any { Err(Code::STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
}

/// Refuses to wait for a stream that is captured, or that would have to wait for one.
pub(crate) fn refuse_waiting(state: &mut State, stream: Handle) -> Result<()> {
    let found = state.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
    let (context, own) = (found.context, found.capture.as_ref().map(|tail| tail.capture));
    if found.kind == StreamKind::Null {
        let disturbed = state.captures_of(context, Some(StreamKind::Blocking));
        let disturbs = state.invalidate(|capture| disturbed.contains(&capture.number));
        return if disturbs { Err(Code::STREAM_CAPTURE_IMPLICIT) } else { Ok(()) };
    }
    let any = state.invalidate(|capture| Some(capture.number) == own);
    if any { Err(Code::STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
}

/// Refuses to ask the host about an event that a capture recorded.
pub(crate) fn refuse_captured(state: &mut State, event: Handle) -> Result<()> {
    let Some(tail) = state.event(event)?.captured.clone() else { return Ok(()) };
    state.invalidate(|capture| capture.number == tail.capture);
    Err(Code::CAPTURED_EVENT)
}

/// Notes in an event where a captured stream is.
pub(crate) fn record(state: &mut State, event: Handle, tail: Option<Tail>) -> Result<()> {
    if let Some(event) = state.events.get_mut(&event) {
        event.captured = tail;
    }
    Ok(())
}

/// Makes a stream wait for an event in a capture, which it joins if need be. False if there is no capture.
pub(crate) fn wait(state: &mut State, stream: Handle, event: Handle) -> Result<bool> {
    let event = state.event(event)?.captured.clone();
    let event = event.filter(|tail| state.captures.contains_key(&tail.capture));
    let found = state.streams.get_mut(&stream).ok_or(Code::INVALID_HANDLE)?;
    match (&mut found.capture, event) {
        (None, None) => Ok(false),
        (None, Some(_)) if found.kind == StreamKind::Null => Err(Code::STREAM_CAPTURE_IMPLICIT),
        (None, Some(event)) => {
            found.capture = Some(event);
            Ok(true)
        }
        (Some(own), None) => {
            let own = own.capture;
            state.invalidate(|capture| capture.number == own);
            Err(Code::STREAM_CAPTURE_ISOLATION)
        }
        (Some(own), Some(event)) if own.capture != event.capture => {
            let both = [own.capture, event.capture];
            state.invalidate(|capture| both.contains(&capture.number));
            Err(Code::STREAM_CAPTURE_MERGE)
        }
        (Some(own), Some(event)) => {
            own.after.extend(event.after.iter().filter(|node| !own.after.contains(node)).copied().collect::<Vec<_>>());
            Ok(true)
        }
    }
}

/// A stream goes away: its capture ends without a graph, or can only end so.
pub(crate) fn abandon(state: &mut State, stream: Handle) {
    let Some(tail) = state.streams.get_mut(&stream).and_then(|stream| stream.capture.take()) else { return };
    let origin = state.captures.get(&tail.capture).map(|capture| capture.origin);
    if origin == Some(stream) {
        let gone = finish(state, tail.capture);
        drop(gone);
    } else {
        state.invalidate(|capture| capture.number == tail.capture);
    }
}

/// Takes a capture away from all its streams.
fn finish(state: &mut State, number: u64) -> Option<Capture> {
    let mine = |tail: &Option<Tail>| tail.as_ref().is_some_and(|tail| tail.capture == number);
    state.streams.values_mut().filter(|stream| mine(&stream.capture)).for_each(|stream| stream.capture = None);
    state.captures.remove(&number)
}

fn begin(stream: Handle, mode: u32) -> Result<()> {
    let mut state = lock();
    let resolved = state.stream_of(stream)?;
    if mode > RELAXED {
        return Err(Code::INVALID_VALUE);
    }
    let number = state.ticket();
    let found = state.streams.get_mut(&resolved).ok_or(Code::INVALID_HANDLE)?;
    if found.kind == StreamKind::Null {
        return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
    }
    if found.capture.is_some() {
        return Err(Code::ILLEGAL_STATE);
    }
    found.capture = Some(Tail { capture: number, after: Vec::new() });
    let thread = std::thread::current().id();
    let capture = Capture { number, origin: resolved, mode, thread, nodes: Vec::new(), invalid: false };
    state.captures.insert(number, capture);
    Ok(())
}

fn end(stream: Handle, place: Out<Handle>) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    let tail = state.streams.get(&stream).and_then(|stream| stream.capture.clone());
    let tail = tail.ok_or(Code::ILLEGAL_STATE)?;
    let capture = state.captures.get(&tail.capture).ok_or(Code::STREAM_CAPTURE_INVALIDATED)?;
    if capture.origin != stream {
        return Err(Code::STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != RELAXED && capture.thread != std::thread::current().id() {
        return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
    }
    place.put(0)?;
    let Some(capture) = finish(&mut state, tail.capture) else { return Err(Code::STREAM_CAPTURE_INVALIDATED) };
    let joined = reachable(&capture.nodes, tail.after);
    let whole = joined.len() == capture.nodes.len();
    let graph = Graph::new(&mut state, capture.nodes);
    if capture.invalid || !whole {
        state.release_graph(graph);
        return Err(if capture.invalid { Code::STREAM_CAPTURE_INVALIDATED } else { Code::STREAM_CAPTURE_UNJOINED });
    }
    let handle = state.handle();
    state.graphs.insert(handle, Arc::new(graph));
    place.put(handle)
}

/// The nodes that these wait for, directly or not, with themselves.
fn reachable(nodes: &[Node], from: Vec<usize>) -> BTreeSet<usize> {
    let (mut found, mut pending) = (BTreeSet::new(), from);
    while let Some(node) = pending.pop() {
        if found.insert(node) {
            pending.extend(&nodes[node].after);
        }
    }
    found
}

fn status(stream: Handle) -> Result<(u32, u64)> {
    let mut state = lock();
    let resolved = state.stream_of(stream)?;
    let tail = state.streams.get(&resolved).and_then(|stream| stream.capture.as_ref());
    let capture = tail.and_then(|tail| state.captures.get(&tail.capture));
    Ok(capture.map_or((0, 0), |capture| (1 + u32::from(capture.invalid), capture.number)))
}

exports! {
    /// From now on work becomes nodes of a graph.
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) { begin(stream, mode) }

    /// The graph.
    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) { end(stream, graph) }

    /// Whether a stream is captured: 0 no, 1 yes, 2 yes, but nothing can come of it.
    fn cuStreamIsCapturing(stream: Handle, state: Out<u32>) { state.put(status(stream)?.0) }

    /// The same, with a number for the capture.
    fn cuStreamGetCaptureInfo(stream: Handle, state: Out<u32>, number: Out<u64>) {
        let found = status(stream)?;
        number.put_if_wanted(found.1);
        state.put(found.0)
    }

    /// The same; graph and dependencies of a capture that is under way are not told.
    fn cuStreamGetCaptureInfo_v2(
        stream: Handle, state: Out<u32>, number: Out<u64>, graph: Out<Handle>, after: Out<usize>, count: Out<usize>
    ) {
        if !(graph.is_null() && after.is_null() && count.is_null()) {
            return Err(Code::NOT_SUPPORTED);
        }
        let found = status(stream)?;
        number.put_if_wanted(found.1);
        state.put(found.0)
    }

    /// Changes what this thread's calls are held against, and tells what it was.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        let wanted = mode.get()?;
        if wanted > RELAXED {
            return Err(Code::INVALID_VALUE);
        }
        mode.put(MODE.replace(wanted))
    }
}
