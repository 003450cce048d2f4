//! A PTX module: parsed once, its kernels lowered when they are first launched.

use crate::device::{Buffer, Device, buffer_at};
use crate::error::{Error, Result};
use crate::forms::Level;
use crate::launch::LaunchBuilder;
use crate::lower::{self, Globals};
use crate::memory::Memory;
use crate::parse;
use crate::parse::ast::{self, Initial, Operand, Space, Variable};
use crate::program::{Param, Program};
use crate::types::Type;
use bytemuck::Pod;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What distinguishes one lowering of a kernel from another: its name, the addresses of the module's variables, and
/// which sums are fused.
type Key = (String, Vec<(String, u64)>, Option<u64>);

/// Lowerings that are kept; adversarial seeds are many.
const KEPT: usize = 64;

/// What a kernel takes of a launch and of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelInfo {
    /// Parameters, in their order.
    pub parameters: Vec<ParameterInfo>,
    /// Bytes of all parameters together.
    pub parameter_bytes: u32,
    /// Bytes of static shared memory.
    pub shared_bytes: u32,
    /// Bytes of local memory of a thread.
    pub local_bytes: u32,
    /// Most threads of a block (`.maxntid`), if the kernel says so.
    pub most_threads: Option<u64>,
    /// The one block that the kernel takes (`.reqntid`), if it says so.
    pub required_block: Option<[u32; 3]>,
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// Bytes before it.
    pub offset: u32,
    /// Its bytes.
    pub bytes: u32,
}

/// A parsed module.
#[derive(Debug)]
pub struct Module {
    number: u64,
    tree: ast::Module,
    programs: Mutex<HashMap<Key, Arc<Program>>>,
}

impl Module {
    /// Parses PTX text.
    ///
    /// # Errors
    /// With the line, if the text is not PTX or holds what the emulator does not know.
    pub fn from_ptx(text: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tree = parse::parse(text)?;
        Ok(Self { number: NEXT.fetch_add(1, Ordering::Relaxed), tree, programs: Mutex::default() })
    }

    /// Names of the kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.tree.functions.iter().filter(|function| function.entry).map(|function| function.name.as_str())
    }

    /// Begins a launch; everything is checked when it runs.
    pub fn launch(&self, kernel: &str) -> LaunchBuilder<'_> {
        LaunchBuilder::new(self, kernel)
    }

    /// Lowers every kernel: whatever the emulator does not know is an error now, instead of at a launch.
    ///
    /// # Errors
    /// With the line of the first thing that is not supported.
    pub fn check(&self) -> Result<()> {
        let device = Device::new();
        for kernel in self.kernels() {
            self.program(kernel, &device, None)?;
        }
        Ok(())
    }

    /// A variable of the module (`__device__`, `__constant__`) on a device, as elements of `T`.
    ///
    /// # Errors
    /// If there is none of this name, if several functions have one, or if it is no whole number of elements.
    pub fn variable<T: Pod>(&self, device: &Device, name: &str) -> Result<Buffer<T>> {
        let globals = self.globals(device)?;
        let told = |what: &str| Error::Memory { what: format!("variable `{name}` {what}") };
        let address = find(&globals, name).map_err(told)?;
        let len = device.read_memory().region(address).map_or(0, |allocation| allocation.len);
        if size_of::<T>() == 0 || !len.is_multiple_of(size_of::<T>() as u64) {
            return Err(told(&format!("has {len} bytes, no multiple of {}", size_of::<T>())));
        }
        Ok(buffer_at(device, address, (len / size_of::<T>() as u64) as usize))
    }

    /// What a kernel takes, on a device, where the module's variables are placed.
    ///
    /// # Errors
    /// If there is none of this name, or it holds what the emulator does not know.
    pub fn kernel(&self, device: &Device, name: &str) -> Result<KernelInfo> {
        let program = self.program(name, device, None)?;
        let parameter = |param: &Param| ParameterInfo { offset: param.offset, bytes: param.bytes };
        Ok(KernelInfo {
            parameters: program.params.iter().map(parameter).collect(),
            parameter_bytes: program.param_bytes,
            shared_bytes: program.shared.bytes,
            local_bytes: program.local_bytes,
            most_threads: program.most_threads,
            required_block: program.required_block,
        })
    }

    /// Frees the module's variables on a device.
    pub fn unload(&self, device: &Device) {
        device.forget_globals(self.number);
    }

    pub(crate) fn files(&self) -> &[(u32, String)] {
        &self.tree.files
    }

    /// The kernel, lowered for a device.
    pub(crate) fn program(&self, kernel: &str, device: &Device, contraction: Option<u64>) -> Result<Arc<Program>> {
        let entry = self.tree.functions.iter().find(|function| function.entry && function.name == kernel);
        let Some(entry) = entry else {
            let known: Vec<String> = self.kernels().map(|name| format!("`{name}`")).collect();
            return Err(Error::NoKernel { name: kernel.to_string(), known: known.join(", ") });
        };
        let globals = self.globals(device)?;
        let mut sorted: Vec<(String, u64)> = globals.iter().map(|(name, &address)| (name.clone(), address)).collect();
        sorted.sort();
        let key = (kernel.to_string(), sorted, contraction);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&key) {
            return Ok(program.clone());
        }
        let program = Arc::new(lower::lower(&self.tree, &globals, entry, Level::detect(), contraction)?);
        if programs.len() >= KEPT {
            programs.clear();
        }
        programs.insert(key, program.clone());
        Ok(program)
    }

    fn globals(&self, device: &Device) -> Result<Globals> {
        device.globals(self.number, |memory| self.place_variables(memory))
    }

    /// Gives the module's variables their memory and first values.
    fn place_variables(&self, memory: &mut Memory) -> Result<Globals> {
        let mut globals = Globals::new();
        let mut placed: Vec<(&Variable, u64)> = Vec::new();
        let functions = self.tree.functions.iter().filter_map(|function| function.body.as_ref());
        let inner = functions.flat_map(|body| static_variables(body));
        let outer = self.tree.variables.iter().map(|variable| (variable, variable.name.clone()));
        for (variable, name) in outer.chain(inner.map(|variable| (variable, lower::inner_name(variable)))) {
            if !matches!(variable.space, Space::Global | Space::Const) {
                continue;
            }
            if globals.contains_key(&name) {
                if name == variable.name {
                    // Declared and defined.
                    continue;
                }
                let what = format!("a second variable `{}` in one line", variable.name);
                return Err(Error::Unsupported { line: variable.line, what });
            }
            if variable.external {
                return Err(Error::Unsupported {
                    line: variable.line,
                    what: format!("the variable `{}`, defined in another module", variable.name),
                });
            }
            let address = memory.allocate(variable_bytes(variable)?, true)?;
            memory.set_name(address, &variable.name);
            globals.insert(name, address);
            placed.push((variable, address));
        }
        for (variable, address) in placed {
            initialise(memory, &globals, variable, address)?;
            if variable.space == Space::Const {
                memory.set_read_only(address);
            }
        }
        Ok(globals)
    }
}

/// The address of a variable: of the module, or the only one of this name in the bodies of functions.
fn find(globals: &Globals, name: &str) -> std::result::Result<u64, &'static str> {
    if let Some(&address) = globals.get(name) {
        return Ok(address);
    }
    let mut inner = globals.iter().filter(|(key, _)| key.split_once('@').is_some_and(|(inner, _)| inner == name));
    match (inner.next(), inner.next()) {
        (Some((_, &address)), None) => Ok(address),
        (None, _) => Err("is not in the module"),
        _ => Err("is in several functions of the module"),
    }
}

/// Global and constant variables that stand inside functions.
fn static_variables(block: &ast::Block) -> Vec<&Variable> {
    let mut found = Vec::new();
    let mut pending = vec![block];
    while let Some(block) = pending.pop() {
        for statement in &block.statements {
            match statement {
                ast::Statement::Variable(variable) => found.push(variable),
                ast::Statement::Block(inner) => pending.push(inner),
                _ => {}
            }
        }
    }
    found
}

fn variable_bytes(variable: &Variable) -> Result<u64> {
    let element = u64::from(variable.ty.bytes()) * u64::from(variable.vector);
    let bytes = variable.dims.iter().try_fold(element, |bytes, &extent| bytes.checked_mul(extent));
    bytes.filter(|&bytes| bytes < 1 << 31).ok_or_else(|| Error::Unsupported {
        line: variable.line,
        what: format!("the size of variable `{}`", variable.name),
    })
}

fn initialise(memory: &Memory, globals: &Globals, variable: &Variable, address: u64) -> Result<()> {
    let size = variable.ty.bytes() as usize;
    let invalid = |what: String| Error::Invalid { line: variable.line, what };
    let mut bytes = Vec::with_capacity(variable.initial.len() * size);
    for value in &variable.initial {
        let bits = match value {
            Initial::Literal(Operand::Integer(value)) => match variable.ty {
                Type::F32 => u64::from((*value as i64 as f32).to_bits()),
                Type::F64 => (*value as i64 as f64).to_bits(),
                _ => *value,
            },
            Initial::Literal(Operand::Float32(bits)) => match variable.ty {
                Type::F64 => f64::from(f32::from_bits(*bits)).to_bits(),
                _ => u64::from(*bits),
            },
            Initial::Literal(Operand::Float64(bits)) => match variable.ty {
                Type::F32 => u64::from((f64::from_bits(*bits) as f32).to_bits()),
                _ => *bits,
            },
            // Generic and global addresses are the same.
            Initial::Address { symbol, offset, .. } => find(globals, symbol)
                .map(|address| address.wrapping_add_signed(*offset))
                .map_err(|why| invalid(format!("`{}` is initialised with `{symbol}`, which {why}", variable.name)))?,
            Initial::Literal(_) => return Err(invalid(format!("initialiser of `{}`", variable.name))),
        };
        bytes.extend_from_slice(&bits.to_le_bytes()[..size.min(8)]);
    }
    let (allocation, offset) = memory.host(address, bytes.len() as u64)?;
    allocation.write_bytes(offset, &bytes);
    Ok(())
}
