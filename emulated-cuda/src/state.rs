//! All that the driver knows, behind one lock: tables of what handles name. Nothing runs while the lock is held.

use crate::codes::{Code, Result};
use crate::edge::Handle;
use crate::graph::{Capture, Graph, GraphExec, Tail};
use crate::memory::{Allocation, HostBlock};
use crate::module::{Function, Loaded};
use crate::pool::Pool;
use crate::queue::Op;
use crate::settings;
use ptx_emulator::Device;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

/// Addresses of a device begin at a multiple of this: above all that the host uses, so that no pointer is both.
pub const DEVICE_SHIFT: u32 = 52;

/// What a process may hold of one kind, by handle.
pub type Table<T> = BTreeMap<Handle, T>;

/// One emulated device, as far as contexts share it.
#[derive(Debug, Default)]
pub struct DeviceState {
    pub primary: Option<Handle>,
    pub retained: u32,
    pub primary_flags: u32,
    /// Bytes of device memory in use.
    pub in_use: u64,
    pub default_pool: Option<Handle>,
    pub pool: Option<Handle>,
}

/// A context.
#[derive(Debug)]
pub struct Context {
    pub device: usize,
    pub flags: u32,
    pub primary: bool,
    pub api_version: u32,
    /// Why it takes no work any more.
    pub lost: Option<Code>,
    /// The legacy default stream.
    pub null_stream: Handle,
    pub per_thread: HashMap<ThreadId, Handle>,
    pub limits: BTreeMap<u32, usize>,
    pub cache_config: u32,
    pub shared_config: u32,
}

/// Which other streams a stream waits for by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// The legacy default stream: waits for all blocking streams, and they for it.
    Null,
    Blocking,
    NonBlocking,
}

/// A stream and what is enqueued there.
#[derive(Debug)]
pub struct Stream {
    pub context: Handle,
    pub kind: StreamKind,
    pub flags: u32,
    pub priority: i32,
    pub queue: VecDeque<Op>,
    /// The first of the queue has been taken out and runs.
    pub running: bool,
    /// Ticket of what was enqueued last.
    pub last: u64,
    pub capture: Option<Tail>,
    /// Its handle is no longer valid; what is enqueued still runs.
    pub destroyed: bool,
}

/// An event.
#[derive(Debug)]
pub struct Event {
    pub context: Handle,
    pub flags: u32,
    /// Ticket of its last record.
    pub ticket: Option<u64>,
    /// When the last record that ran did.
    pub time: Option<Instant>,
    /// Last recorded in a capture.
    pub captured: Option<Tail>,
}

/// All tables.
#[derive(Debug, Default)]
pub struct State {
    last_handle: Handle,
    last_ticket: u64,
    pub devices: Vec<DeviceState>,
    pub contexts: Table<Context>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub modules: Table<Arc<Loaded>>,
    pub functions: Table<Function>,
    pub pools: Table<Pool>,
    pub captures: BTreeMap<u64, Capture>,
    pub graphs: Table<Arc<Graph>>,
    pub execs: Table<GraphExec>,
    pub allocations: BTreeMap<u64, Allocation>,
    pub host: BTreeMap<usize, HostBlock>,
    /// Tickets that have not run, with their streams.
    pub pending: BTreeMap<u64, Handle>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    let devices = (0..settings::get().devices).map(|_| DeviceState::default()).collect();
    Mutex::new(State { devices, ..State::default() })
});
/// Told whenever something that was enqueued has run.
pub static RAN: Condvar = Condvar::new();
static INITIALISED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Contexts of this thread, the current one last.
    static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// The tables.
pub fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The devices' memories.
pub fn memories() -> &'static [Arc<Device>] {
    static MEMORIES: LazyLock<Vec<Arc<Device>>> = LazyLock::new(|| {
        let range = |number: u64| number << DEVICE_SHIFT..(number + 1) << DEVICE_SHIFT;
        let device = |number| Device::with_addresses(range(number)).unwrap_or_default();
        (1..=settings::get().devices as u64).map(|number| Arc::new(device(number))).collect()
    });
    &MEMORIES
}

/// The device whose address this is, if it is one.
pub fn device_of(address: u64) -> Option<usize> {
    let number = (address >> DEVICE_SHIFT) as usize;
    (1..=settings::get().devices).contains(&number).then(|| number - 1)
}

/// `cuInit` has succeeded.
pub fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Acquire)
}

/// Notes that it has; true for the first time.
pub fn initialise() -> bool {
    !INITIALISED.swap(true, Ordering::AcqRel)
}

/// The thread runs a function that was enqueued: it may not call the driver.
pub fn in_host_function() -> bool {
    IN_HOST_FUNCTION.get()
}

/// Runs a function that was enqueued.
pub fn as_host_function(run: impl FnOnce()) {
    IN_HOST_FUNCTION.set(true);
    run();
    IN_HOST_FUNCTION.set(false);
}

/// Looks at or changes the contexts of this thread.
pub fn with_current<T>(look: impl FnOnce(&mut Vec<Handle>) -> T) -> T {
    CURRENT.with_borrow_mut(look)
}

impl State {
    /// A handle that no one has had.
    pub fn handle(&mut self) -> Handle {
        self.last_handle += 1;
        // Far from the special streams 1 and 2, and aligned as pointers are.
        0x1000 + 16 * self.last_handle
    }

    /// A ticket that no one has had, larger than all before.
    pub fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// A context that takes work.
    pub fn context(&self, context: Handle) -> Result<&Context> {
        let found = self.contexts.get(&context).ok_or(Code::CONTEXT_IS_DESTROYED)?;
        found.lost.map_or(Ok(found), Err)
    }

    /// The thread's current context, if it takes work.
    pub fn current(&self) -> Result<Handle> {
        let context = with_current(|stack| stack.last().copied()).filter(|&context| context != 0);
        let context = context.ok_or(Code::INVALID_CONTEXT)?;
        self.context(context).map(|_| context)
    }

    /// The device of the current context.
    pub fn current_device(&self) -> Result<usize> {
        let current = self.current()?;
        Ok(self.context(current)?.device)
    }

    /// From now on the current context gives this code.
    pub fn lose_current(&mut self, code: Code) {
        let Ok(current) = self.current() else { return };
        if let Some(context) = self.contexts.get_mut(&current) {
            context.lost = Some(code);
        }
    }

    /// The largest ticket so far.
    pub fn newest_ticket(&self) -> u64 {
        self.last_ticket
    }

    /// A device by its ordinal.
    pub fn device(&mut self, device: i32) -> Result<&mut DeviceState> {
        let found = usize::try_from(device).ok().and_then(|device| self.devices.get_mut(device));
        found.ok_or(Code::INVALID_DEVICE)
    }

    /// An event whose context takes work.
    pub fn event(&self, event: Handle) -> Result<&Event> {
        let found = self.events.get(&event).ok_or(Code::INVALID_HANDLE)?;
        self.context(found.context)?;
        Ok(found)
    }

    /// The stream that a handle means: the legacy default stream, that of the thread, or one that was created.
    pub fn stream_of(&mut self, stream: Handle) -> Result<Handle> {
        match stream {
            0 | 1 => {
                let current = self.current()?;
                Ok(self.context(current)?.null_stream)
            }
            2 => {
                let (current, thread) = (self.current()?, std::thread::current().id());
                if let Some(&known) = self.context(current)?.per_thread.get(&thread) {
                    return Ok(known);
                }
                let made = self.new_stream(current, StreamKind::Blocking, 0, 0);
                if let Some(context) = self.contexts.get_mut(&current) {
                    context.per_thread.insert(thread, made);
                }
                Ok(made)
            }
            _ => {
                let found = self.streams.get(&stream).filter(|stream| !stream.destroyed);
                let context = found.ok_or(Code::INVALID_HANDLE)?.context;
                self.context(context).map(|_| stream)
            }
        }
    }

    /// A stream of a context.
    pub fn new_stream(&mut self, context: Handle, kind: StreamKind, flags: u32, priority: i32) -> Handle {
        let handle = self.handle();
        let stream = Stream {
            context,
            kind,
            flags,
            priority,
            queue: VecDeque::new(),
            running: false,
            last: 0,
            capture: None,
            destroyed: false,
        };
        self.streams.insert(handle, stream);
        handle
    }
}
