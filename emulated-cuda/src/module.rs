//! Modules from PTX, their kernels and variables.

use crate::capture;
use crate::codes::{Code, Result};
use crate::edge::{Handle, In, Out, exports};
use crate::memory::{Allocation, Origin};
use crate::queue::synchronise_context;
use crate::state::{State, lock, memories};
use crate::{report, settings};
use ptx_emulator::{Error, KernelInfo, Module};
use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::Arc;

/// Images that hold machine code: ELF, a fat binary, the wrapper that nvcc puts around one.
const MACHINE_CODE: [[u8; 4]; 3] = [*b"\x7fELF", 0xBA55_ED50u32.to_le_bytes(), 0x4662_43B1u32.to_le_bytes()];

/// A module in a context.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub module: Module,
    pub device: usize,
    pub context: Handle,
    /// Ten times the version of PTX.
    pub ptx_version: i32,
    /// Each kernel, or what of it the emulator does not know.
    kernels: BTreeMap<String, std::result::Result<KernelInfo, Error>>,
}

/// A kernel of a module.
#[derive(Debug)]
pub(crate) struct Function {
    pub module: Arc<Loaded>,
    pub module_handle: Handle,
    pub name: String,
    pub info: KernelInfo,
    /// Dynamic shared memory that launches may have.
    pub dynamic_shared: usize,
}

/// The newest PTX that the driver of a version takes, times ten.
fn newest_ptx(driver: i32) -> i32 {
    let (major, minor) = (driver / 1000, driver % 1000 / 10);
    match (major, minor) {
        (..=10, _) => 65,
        (11, _) => 70 + minor,
        (12, ..=5) => 80 + minor,
        (12, _) => 79 + minor,
        _ => 90 + minor,
    }
}

/// The first word after a directive.
fn directive<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let line = text.lines().map(str::trim).find(|line| line.starts_with(name))?;
    line[name.len()..].trim().split([',', ' ', ';']).next()
}

/// Refuses PTX that is newer than the driver, or for another device. Gives ten times the version.
fn check_versions(text: &str) -> std::result::Result<i32, (Code, String)> {
    let settings = settings::get();
    let version = directive(text, ".version").and_then(|version| {
        let (major, minor) = version.split_once('.')?;
        Some(10 * major.parse::<i32>().ok()? + minor.parse::<i32>().ok()?)
    });
    let version = version.ok_or((Code::INVALID_PTX, "no .version".to_string()))?;
    let newest = newest_ptx(settings.driver_version);
    if version > newest {
        let what = format!("PTX {}.{}, expected at most {}.{}", version / 10, version % 10, newest / 10, newest % 10);
        return Err((Code::UNSUPPORTED_PTX_VERSION, what));
    }
    let target = directive(text, ".target").unwrap_or_default();
    let digits = target.trim_start_matches("sm_").trim_end_matches(['a', 'f']);
    let exact = target.ends_with(['a', 'f']);
    let here = 10 * settings.capability.0 + settings.capability.1;
    match digits.parse::<i32>() {
        Ok(wanted) if wanted == here || (wanted < here && !exact) => Ok(version),
        _ => Err((Code::INVALID_PTX, format!(".target {target} for a device of sm_{here}"))),
    }
}

/// Parses a module and looks at every kernel.
fn build(text: &str, context: Handle, device: usize) -> std::result::Result<Loaded, (Code, String)> {
    let code = |error: &Error| match error {
        Error::Unsupported { .. } => Code::NOT_SUPPORTED,
        _ => Code::INVALID_PTX,
    };
    let refuse = |error: Error| (code(&error), error.to_string());
    let ptx_version = check_versions(text)?;
    let module = Module::from_ptx(text).map_err(refuse)?;
    let names: Vec<String> = module.kernels().map(String::from).collect();
    let mut kernels = BTreeMap::new();
    for name in names {
        let info = match module.kernel(&memories()[device], &name) {
            Err(error @ Error::Unsupported { .. }) => Err(error),
            Err(error) => return Err(refuse(error)),
            Ok(info) => Ok(info),
        };
        kernels.insert(name, info);
    }
    Ok(Loaded { module, device, context, ptx_version, kernels })
}

/// What `cuModuleLoadDataEx` was given beside the image.
#[derive(Clone, Copy)]
struct Options {
    count: usize,
    names: In<u32>,
    values: Out<usize>,
}

impl Options {
    fn none() -> Self {
        Self { count: 0, names: In::from(std::ptr::null()), values: Out::from(std::ptr::null_mut()) }
    }

    /// The place of an option's value.
    fn place(self, option: u32) -> Option<Out<usize>> {
        let at = (0..self.count).find(|&at| self.names.get(at) == Ok(option))?;
        Some(self.values.at(at))
    }

    /// Writes a text into a log: its buffer is one option, its size another, which then tells how much was written.
    fn log(self, buffer: u32, text: &str) {
        let (Some(buffer), Some(size)) = (self.place(buffer), self.place(buffer + 1)) else { return };
        let (Ok(address), Ok(room)) = (buffer.get(), size.get()) else { return };
        // The upper half of an option of 32 bits may be anything.
        let room = room as u32 as usize;
        let log = Out::from(std::ptr::with_exposed_provenance_mut::<c_char>(address));
        if log.put_text(text, room).is_ok() {
            size.put_if_wanted(if text.is_empty() { 0 } else { (text.len() + 1).min(room) });
        }
    }
}

/// Loads PTX text into the current context.
fn load(place: Out<Handle>, text: &str, options: Options) -> Result<()> {
    let mut state = lock();
    let current = state.current()?;
    if place.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    capture::refuse_unsafe_call(&mut state)?;
    let device = state.context(current)?.device;
    drop(state);
    let loaded = match build(text, current, device) {
        Ok(loaded) => loaded,
        Err((code, what)) => {
            options.log(5, &what);
            report::say(&format!("a module was refused: {what}"));
            return Err(code);
        }
    };
    options.log(3, "");
    options.log(5, "");
    let mut state = lock();
    let handle = state.handle();
    state.modules.insert(handle, Arc::new(loaded));
    place.put(handle)
}

/// The text of an image, which must be PTX.
fn text_of(image: In<u8>) -> Result<String> {
    let mut start = [0; 4];
    for (at, byte) in start.iter_mut().enumerate() {
        *byte = image.get(at)?;
        if *byte == 0 {
            break;
        }
    }
    if MACHINE_CODE.contains(&start) {
        report::say("a module of machine code was refused: an emulated device takes PTX");
        return Err(Code::NO_BINARY_FOR_GPU);
    }
    image.as_text().text()
}

impl State {
    /// A module of a context that takes work.
    fn module(&self, module: Handle) -> Result<&Arc<Loaded>> {
        let found = self.modules.get(&module).ok_or(Code::INVALID_HANDLE)?;
        self.context(found.context)?;
        Ok(found)
    }
}

fn function(place: Out<Handle>, module_handle: Handle, name: &str) -> Result<()> {
    let mut state = lock();
    let module = state.module(module_handle)?.clone();
    let known = |(_, function): &(&Handle, &Function)| function.module_handle == module_handle && function.name == name;
    if let Some((&handle, _)) = state.functions.iter().find(known) {
        return place.put(handle);
    }
    let info = match module.kernels.get(name) {
        None => return Err(Code::NOT_FOUND),
        Some(Ok(info)) => info.clone(),
        Some(Err(error)) => {
            report::say(&format!("kernel `{name}` cannot be emulated: {error}"));
            return Err(Code::NOT_SUPPORTED);
        }
    };
    let dynamic_shared = crate::device::FREE_SHARED.saturating_sub(info.shared_bytes as usize);
    let handle = state.handle();
    place.put(handle)?;
    state.functions.insert(handle, Function { module, module_handle, name: name.into(), info, dynamic_shared });
    Ok(())
}

fn global(address: Out<u64>, bytes: Out<usize>, module_handle: Handle, name: &str) -> Result<()> {
    let mut state = lock();
    let module = state.module(module_handle)?.clone();
    let found = module.module.variable::<u8>(&memories()[module.device], name).map_err(|_| Code::NOT_FOUND)?;
    address.put_if_wanted(found.address());
    bytes.put_if_wanted(found.len());
    let (len, context, device) = (found.len() as u64, module.context, module.device);
    let origin = Origin::Variable(module_handle);
    state.allocations.insert(found.address(), Allocation { len, context, device, origin, freeing: false });
    Ok(())
}

fn unload(module_handle: Handle) -> Result<()> {
    let mut state = lock();
    let module = state.module(module_handle)?.clone();
    capture::refuse_unsafe_call(&mut state)?;
    // What is enqueued may still use its variables.
    let mut state = synchronise_context(state, module.context)?;
    state.modules.remove(&module_handle);
    state.functions.retain(|_, function| function.module_handle != module_handle);
    state.allocations.retain(|_, one| one.origin != Origin::Variable(module_handle));
    module.module.unload(&memories()[module.device]);
    Ok(())
}

exports! {
    /// A module from a file of PTX.
    fn cuModuleLoad(module: Out<Handle>, file: In<c_char>) {
        lock().current()?;
        let mut bytes = std::fs::read(file.text()?).map_err(|_| Code::FILE_NOT_FOUND)?;
        // As an image in memory: at least a word, with an end.
        bytes.extend([0; 4]);
        load(module, &text_of(In::from(bytes.as_ptr()))?, Options::none())
    }

    /// A module from PTX in memory.
    fn cuModuleLoadData(module: Out<Handle>, image: In<u8>) {
        lock().current()?;
        load(module, &text_of(image)?, Options::none())
    }

    /// The same, with logs; other options mean nothing here.
    fn cuModuleLoadDataEx(module: Out<Handle>, image: In<u8>, count: u32, names: In<u32>, values: Out<usize>) {
        lock().current()?;
        let options = Options { count: count as usize, names, values };
        load(module, &text_of(image)?, options)
    }

    /// Machine code, which is refused.
    fn cuModuleLoadFatBinary(_module: Out<Handle>, _image: In<u8>) {
        lock().current()?;
        Err(Code::NO_BINARY_FOR_GPU)
    }

    /// Unloads a module, after what is enqueued in its context.
    fn cuModuleUnload(module: Handle) { unload(module) }

    /// Modules are loaded at once.
    fn cuModuleGetLoadingMode(mode: Out<u32>) { mode.put(1) }

    /// A kernel.
    fn cuModuleGetFunction(place: Out<Handle>, module: Handle, name: In<c_char>) {
        function(place, module, &name.text()?)
    }

    /// A variable.
    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: Handle, name: In<c_char>) {
        global(address, bytes, module, &name.text()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let newest = [11_080, 12_000, 12_050, 12_060, 12_080, 12_090, 13_000].map(newest_ptx);
        assert_eq!(newest, [78, 80, 85, 85, 87, 88, 90]);
        let text = "// comment\n.version 7.1\n  .target sm_80, debug\n";
        assert_eq!((directive(text, ".version"), directive(text, ".target")), (Some("7.1"), Some("sm_80")));
        assert_eq!(check_versions(text), Ok(71));
        let refused = |text: &str| check_versions(text).map_err(|refused| refused.0);
        assert_eq!(refused(".version 9.1\n.target sm_80"), Err(Code::UNSUPPORTED_PTX_VERSION));
        assert_eq!(refused(".version 8.0\n.target sm_100"), Err(Code::INVALID_PTX));
        assert_eq!(refused(".version 8.0\n.target sm_80a"), Err(Code::INVALID_PTX));
        assert_eq!(refused(".version 8.0\n.target sm_90a"), Ok(80));
        assert_eq!(refused("no"), Err(Code::INVALID_PTX));
    }
}
