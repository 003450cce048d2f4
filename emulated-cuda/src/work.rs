//! What can be enqueued, and how it runs.

use crate::codes::{Code, Result};
use crate::edge::{Handle, In, Out};
use crate::graph::Graph;
use crate::module::Loaded;
use crate::state::{State, as_host_function, device_of, memories};
use crate::{counters, report, settings};
use ptx_emulator::{Buffer, Device};
use std::sync::Arc;
use std::time::Instant;

/// A kernel with its arguments, copied when it was enqueued.
#[derive(Debug)]
pub struct Kernel {
    pub module: Arc<Loaded>,
    pub name: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub arguments: Vec<Vec<u8>>,
}

/// Bytes of the host.
#[derive(Clone, Debug)]
pub enum Source {
    /// Pageable memory is copied when the call is made.
    Copied(Arc<[u8]>),
    /// Pinned memory is read when the copy runs.
    Pinned(usize, usize),
}

/// A piece of work. Addresses are of devices, except where it says host.
#[derive(Clone, Debug)]
pub enum Work {
    Kernel(Arc<Kernel>),
    Write {
        to: u64,
        from: Source,
    },
    Read {
        host: usize,
        from: u64,
        len: usize,
    },
    Copy {
        to: u64,
        from: u64,
        len: usize,
    },
    HostCopy {
        to: usize,
        from: Source,
    },
    /// `count` times these bytes.
    Fill {
        to: u64,
        unit: Vec<u8>,
        count: usize,
    },
    Many(Vec<Work>),
    Free(u64),
    /// An allocation of a graph begins, and ends.
    Enter(u64),
    Leave(u64),
    Host {
        function: usize,
        data: usize,
    },
    Record(Handle),
    Nothing,
    Graph(Arc<Graph>),
}

impl Kernel {
    /// The launch, on a device.
    pub fn builder(&self) -> ptx_emulator::LaunchBuilder<'_> {
        let settings = settings::get();
        let launch = self.module.module.launch(&self.name).grid(self.grid).block(self.block);
        let launch = launch.shared_bytes(self.shared_bytes).checks(settings.checks).mode(settings.mode).counters(false);
        let launch = self.arguments.iter().fold(launch, |launch, argument| launch.bytes(argument));
        settings.budget.into_iter().fold(launch, ptx_emulator::LaunchBuilder::budget)
    }

    fn run(&self) -> Result<()> {
        counters::lock().launches += 1;
        let told = |what: &dyn std::fmt::Display, code: Code| {
            report::say(&format!("{what}\nthe context of {} is lost with code {}", self.name, code.0));
            code
        };
        let device = &memories()[self.module.device];
        let report = self.builder().run(device).map_err(|error| told(&error, Code::LAUNCH_FAILED))?;
        report::code(&report).map_or(Ok(()), |code| Err(told(&report, code)))
    }
}

impl Source {
    fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Copied(bytes) => Ok(bytes.to_vec()),
            Self::Pinned(address, len) => host_in(*address).bytes(*len),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Pinned(_, len) => *len,
        }
    }
}

/// Memory of the host by its address.
pub fn host_in(address: usize) -> In<u8> {
    In::from(std::ptr::with_exposed_provenance::<u8>(address))
}

fn host_out(address: usize) -> Out<u8> {
    Out::from(std::ptr::with_exposed_provenance_mut::<u8>(address))
}

/// The bytes at an address, if they are in one allocation now.
fn view(address: u64, len: usize) -> Result<(&'static Device, Buffer<u8>)> {
    let device = &memories()[device_of(address).ok_or(Code::ILLEGAL_ADDRESS)?];
    match device.view(address, len) {
        Ok(buffer) => Ok((device, buffer)),
        Err(error) => {
            report::say(&format!("a copy or fill that was enqueued: {error}"));
            Err(Code::ILLEGAL_ADDRESS)
        }
    }
}

impl Work {
    /// Runs it; the lock is not held.
    pub fn run(&self) -> Result<()> {
        let failed = |error: ptx_emulator::Error| {
            report::say(&error.to_string());
            Code::ILLEGAL_ADDRESS
        };
        match self {
            Self::Kernel(kernel) => kernel.run(),
            Self::Write { to, from } => {
                let (device, buffer) = view(*to, from.len())?;
                device.write(buffer, &from.bytes()?).map_err(failed)
            }
            Self::Read { host, from, len } => {
                let (device, buffer) = view(*from, *len)?;
                host_out(*host).fill(&device.read(buffer).map_err(failed)?)
            }
            Self::Copy { to, from, len } => {
                let (source, from) = view(*from, *len)?;
                let (device, to) = view(*to, *len)?;
                device.copy(to, source, from).map_err(failed)
            }
            Self::HostCopy { to, from } => host_out(*to).fill(&from.bytes()?),
            Self::Fill { to, unit, count } => {
                let (device, buffer) = view(*to, unit.len() * count)?;
                device.write(buffer, &unit.repeat(*count)).map_err(failed)
            }
            Self::Many(all) => all.iter().try_for_each(Self::run),
            Self::Enter(address) | Self::Leave(address) => self.border(*address).map_err(failed),
            Self::Host { function, data } => {
                as_host_function(|| call_back(*function, *data));
                Ok(())
            }
            Self::Graph(graph) => graph.run(),
            Self::Free(_) | Self::Record(_) | Self::Nothing => Ok(()),
        }
    }

    /// What is left of an allocation of a graph between its end and its next beginning is forbidden.
    fn border(&self, address: u64) -> ptx_emulator::Result<()> {
        let Some(device) = device_of(address) else { return Ok(()) };
        let device = &memories()[device];
        let len = crate::state::lock().allocations.get(&address).map_or(0, |allocation| allocation.len);
        let buffer = device.view::<u8>(address, len as usize)?;
        let leaves = matches!(self, Self::Leave(_));
        device.forbid(buffer, leaves)?;
        if leaves { Ok(()) } else { device.forget(buffer) }
    }

    /// What changes in the tables once it has run, or would have run in a context that is lost.
    pub fn over(&self, state: &mut State) {
        match self {
            Self::Free(address) => state.release(*address),
            Self::Record(event) => {
                if let Some(event) = state.events.get_mut(event) {
                    event.time = Some(Instant::now());
                }
            }
            Self::Many(all) => all.iter().for_each(|work| work.over(state)),
            _ => {}
        }
    }
}

fn call_back(function: usize, data: usize) {
    let function = std::ptr::with_exposed_provenance::<()>(function);
    // SAFETY: the caller of cuLaunchHostFunc gave a function of this type, and null was refused there.
    let function = unsafe { std::mem::transmute::<*const (), extern "C" fn(usize)>(function) };
    function(data);
}
