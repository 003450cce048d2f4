//! Contexts: those of devices, and others; which is current for a thread.

use crate::capture;
use crate::codes::{Code, Result};
use crate::edge::{Handle, Out, exports};
use crate::queue::{complete, synchronise_context};
use crate::state::{Context, State, StreamKind, lock, memories, with_current};
use std::collections::{BTreeMap, HashMap};
use std::sync::MutexGuard;

/// Limits (`CUlimit`) and what they are at first.
const LIMITS: [(u32, usize); 7] = [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

impl State {
    pub(crate) fn new_context(&mut self, device: i32, flags: u32, primary: bool) -> Result<Handle> {
        self.device(device)?;
        let handle = self.handle();
        let null_stream = self.new_stream(handle, StreamKind::Null, 0, 0);
        let context = Context {
            device: device as usize,
            flags,
            primary,
            api_version: 3020,
            lost: None,
            null_stream,
            per_thread: HashMap::new(),
            limits: BTreeMap::from(LIMITS),
            cache_config: 0,
            shared_config: 1,
        };
        self.contexts.insert(handle, context);
        Ok(handle)
    }

    /// Removes all that a context owns.
    fn drop_context(&mut self, context: Handle) {
        let Some(found) = self.contexts.remove(&context) else { return };
        let device = &mut self.devices[found.device];
        if device.primary == Some(context) {
            (device.primary, device.retained) = (None, 0);
        }
        let streams = &mut self.streams;
        self.pending.retain(|_, stream| streams.get(stream).is_some_and(|stream| stream.context != context));
        self.streams.retain(|_, stream| stream.context != context);
        self.captures.retain(|_, capture| self.streams.contains_key(&capture.origin));
        self.events.retain(|_, event| event.context != context);
        self.functions.retain(|_, function| function.module.context != context);
        for module in self.modules.values().filter(|module| module.context == context) {
            module.module.unload(&memories()[found.device]);
        }
        self.modules.retain(|_, module| module.context != context);
        self.execs.retain(|_, exec| exec.context != context);
        let owned = self.allocations.iter().filter(|one| one.1.context == context);
        for address in owned.map(|one| *one.0).collect::<Vec<_>>() {
            self.release(address);
        }
    }
}

/// Waits for all that is enqueued, whether or not the context is lost, and removes the context.
fn finish(mut state: MutexGuard<'static, State>, context: Handle) {
    let pending = |state: &State| {
        let here = |stream: &Handle| state.streams.get(stream).is_some_and(|stream| stream.context == context);
        state.pending.iter().find(|(_, stream)| here(stream)).map(|(&ticket, _)| ticket)
    };
    while let Some(ticket) = pending(&state) {
        state = complete(state, ticket);
    }
    state.drop_context(context);
}

fn create(place: Out<Handle>, flags: u32, device: i32) -> Result<()> {
    if place.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let made = lock().new_context(device, flags, false)?;
    with_current(|stack| stack.push(made));
    place.put(made)
}

fn release(device: i32) -> Result<()> {
    let mut state = lock();
    let found = state.device(device)?;
    let primary = found.primary.ok_or(Code::INVALID_CONTEXT)?;
    found.retained = found.retained.saturating_sub(1);
    if found.retained == 0 {
        finish(state, primary);
    }
    Ok(())
}

fn reset(device: i32) -> Result<()> {
    let mut state = lock();
    let found = state.device(device)?;
    let retained = found.retained;
    if let Some(primary) = found.primary {
        // Those who retained the context keep its handle, and a new context under it.
        finish(state, primary);
        let mut state = lock();
        let made = state.new_context(device, 0, true)?;
        if let Some(context) = state.contexts.remove(&made) {
            state
                .streams
                .values_mut()
                .filter(|stream| stream.context == made)
                .for_each(|stream| stream.context = primary);
            state.contexts.insert(primary, context);
        }
        let found = state.device(device)?;
        (found.primary, found.retained) = (Some(primary), retained);
    }
    Ok(())
}

/// A context by its handle, or the current one for null.
fn named(state: &State, context: Handle) -> Result<Handle> {
    if context == 0 { state.current() } else { state.context(context).map(|_| context) }
}

fn with<T>(look: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
    let mut state = lock();
    let current = state.current()?;
    look(state.contexts.get_mut(&current).ok_or(Code::INVALID_CONTEXT)?)
}

exports! {
    /// The context that all of a process share on a device.
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) {
        let mut state = lock();
        if context.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let flags = state.device(device)?.primary_flags;
        let primary = match state.device(device)?.primary {
            Some(primary) => primary,
            None => state.new_context(device, flags, true)?,
        };
        context.put(primary)?;
        let found = state.device(device)?;
        found.primary = Some(primary);
        found.retained += 1;
        Ok(())
    }

    /// Gives it back.
    fn cuDevicePrimaryCtxRelease(device: i32) { release(device) }

    /// Gives it back.
    fn cuDevicePrimaryCtxRelease_v2(device: i32) { release(device) }

    /// Destroys what is in it; a lost one takes work again.
    fn cuDevicePrimaryCtxReset(device: i32) { reset(device) }

    /// Destroys what is in it; a lost one takes work again.
    fn cuDevicePrimaryCtxReset_v2(device: i32) { reset(device) }

    /// Its flags, for when it is made.
    fn cuDevicePrimaryCtxSetFlags(device: i32, flags: u32) {
        lock().device(device)?.primary_flags = flags;
        Ok(())
    }

    /// Its flags, for when it is made.
    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) {
        lock().device(device)?.primary_flags = flags;
        Ok(())
    }

    /// Its flags, and whether there is one.
    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let mut state = lock();
        let found = state.device(device)?;
        flags.put(found.primary_flags)?;
        active.put(i32::from(found.primary.is_some()))
    }

    /// A context of one's own, current at once.
    fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) { create(context, flags, device) }

    /// The same; affinities mean nothing here.
    fn cuCtxCreate_v3(context: Out<Handle>, _affinities: usize, _count: i32, flags: u32, device: i32) {
        create(context, flags, device)
    }

    /// The same.
    fn cuCtxCreate_v4(context: Out<Handle>, _parameters: usize, flags: u32, device: i32) { create(context, flags, device) }

    /// Destroys a context with all that is in it, after what is enqueued.
    fn cuCtxDestroy_v2(context: Handle) {
        let state = lock();
        match state.contexts.get(&context) {
            None => return Err(Code::INVALID_CONTEXT),
            Some(found) if found.primary => return Err(Code::INVALID_CONTEXT),
            Some(_) => finish(state, context),
        }
        with_current(|stack| if stack.last() == Some(&context) { stack.pop(); });
        Ok(())
    }

    /// Makes a context current.
    fn cuCtxPushCurrent_v2(context: Handle) {
        if !lock().contexts.contains_key(&context) {
            return Err(Code::INVALID_CONTEXT);
        }
        with_current(|stack| stack.push(context));
        Ok(())
    }

    /// Makes the one before current.
    fn cuCtxPopCurrent_v2(context: Out<Handle>) {
        let popped = with_current(Vec::pop).ok_or(Code::INVALID_CONTEXT)?;
        context.put_if_wanted(popped);
        Ok(())
    }

    /// Replaces the current context.
    fn cuCtxSetCurrent(context: Handle) {
        if context != 0 && !lock().contexts.contains_key(&context) {
            return Err(Code::INVALID_CONTEXT);
        }
        with_current(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    }

    /// The current context, or null.
    fn cuCtxGetCurrent(context: Out<Handle>) {
        context.put(with_current(|stack| stack.last().copied()).unwrap_or(0))
    }

    /// The device of the current context.
    fn cuCtxGetDevice(device: Out<i32>) {
        device.put(lock().current_device()? as i32)
    }

    /// Flags of the current context.
    fn cuCtxGetFlags(flags: Out<u32>) {
        flags.put(with(|context| Ok(context.flags))?)
    }

    /// Flags of the current context.
    fn cuCtxSetFlags(flags: u32) {
        with(|context| { context.flags = flags; Ok(()) })
    }

    /// A number of a context.
    fn cuCtxGetId(context: Handle, id: Out<u64>) {
        id.put(named(&lock(), context)? as u64)
    }

    /// The version of the interface.
    fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) {
        let state = lock();
        let context = named(&state, context)?;
        version.put(state.context(context)?.api_version)
    }

    /// Waits for all that is enqueued in the current context.
    fn cuCtxSynchronize() {
        let mut state = lock();
        let current = state.current()?;
        capture::refuse_synchronisation(&mut state, current)?;
        synchronise_context(state, current).map(drop)
    }

    /// A limit, which limits nothing here.
    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        value.put(with(|context| context.limits.get(&limit).copied().ok_or(Code::UNSUPPORTED_LIMIT))?)
    }

    /// A limit, which limits nothing here.
    fn cuCtxSetLimit(limit: u32, value: usize) {
        with(|context| context.limits.get_mut(&limit).map(|known| *known = value).ok_or(Code::UNSUPPORTED_LIMIT))
    }

    /// A preference without effect.
    fn cuCtxGetCacheConfig(config: Out<u32>) {
        config.put(with(|context| Ok(context.cache_config))?)
    }

    /// A preference without effect.
    fn cuCtxSetCacheConfig(config: u32) {
        with(|context| { context.cache_config = config; Ok(()) })
    }

    /// A preference without effect.
    fn cuCtxGetSharedMemConfig(config: Out<u32>) {
        config.put(with(|context| Ok(context.shared_config))?)
    }

    /// A preference without effect.
    fn cuCtxSetSharedMemConfig(config: u32) {
        with(|context| { context.shared_config = config; Ok(()) })
    }

    /// Nothing persists.
    fn cuCtxResetPersistingL2Cache() {
        lock().current().map(drop)
    }

    /// Priorities of streams, which change nothing.
    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        lock().current()?;
        least.put_if_wanted(0);
        greatest.put_if_wanted(-5);
        Ok(())
    }
}
