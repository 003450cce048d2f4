//! Settings, from environment variables, read once.

use crate::codes::Code;
use ptx_emulator::{Checks, Mode};
use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What all variables begin with.
pub const PREFIX: &str = "EMULATED_CUDA_";
/// Device addresses have room for so many.
const MOST_DEVICES: usize = 15;

/// A code that a function is to return instead of doing anything.
#[derive(Debug)]
pub struct Fault {
    /// The function.
    pub name: String,
    /// The code.
    pub code: Code,
    /// Which of its calls, from 1; all, if none is named.
    pub call: Option<u64>,
}

/// See the table in the README.
#[derive(Debug)]
pub struct Settings {
    pub devices: usize,
    /// Of each device, instead of one that says what it is.
    pub name: Option<String>,
    pub capability: (i32, i32),
    /// Bytes, instead of those of the architecture.
    pub l2: Option<u64>,
    pub driver_version: i32,
    pub memory: u64,
    pub checks: Checks,
    pub mode: Mode,
    pub budget: Option<u64>,
    pub defer: bool,
    pub report: Option<PathBuf>,
    pub statistics: Option<PathBuf>,
    pub faults: Vec<Fault>,
}

/// The settings. What cannot be read is said and ignored.
pub fn get() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(read)
}

fn read() -> Settings {
    Settings {
        devices: value("DEVICES", 1, |text| text.parse().ok().filter(|&count| count <= MOST_DEVICES)),
        name: value("NAME", None, |text| (!text.is_empty()).then(|| Some(text.into()))),
        capability: value("CAPABILITY", (9, 0), capability),
        l2: value("L2", None, |text| bytes(text).filter(|&bytes| i32::try_from(bytes).is_ok()).map(Some)),
        driver_version: value("DRIVER_VERSION", 13_000, |text| text.parse().ok()),
        memory: value("MEMORY", 4 << 30, bytes),
        checks: value("CHECKS", Checks::ALL, |text| match text {
            "all" => Some(Checks::ALL),
            "bounds" => Some(Checks::BOUNDS),
            _ => None,
        }),
        mode: value("MODE", Mode::Nominal, mode),
        budget: value("BUDGET", None, |text| text.parse().ok().map(Some)),
        defer: value("DEFER", true, |text| match text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }),
        report: env::var_os(format!("{PREFIX}REPORT")).map(PathBuf::from),
        statistics: env::var_os(format!("{PREFIX}STATISTICS")).map(PathBuf::from),
        faults: value("FAIL", Vec::new(), |text| text.split(',').map(fault).collect()),
    }
}

fn value<T>(name: &str, otherwise: T, read: impl Fn(&str) -> Option<T>) -> T {
    let Ok(text) = env::var(format!("{PREFIX}{name}")) else { return otherwise };
    match read(text.trim()) {
        Some(value) => value,
        None if text.trim().is_empty() => otherwise,
        None => {
            eprintln!("emulated CUDA: {PREFIX}{name}={text} is not understood, and ignored");
            otherwise
        }
    }
}

/// `9.0`.
fn capability(text: &str) -> Option<(i32, i32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `1048576`, `512M`, `4G`.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `nominal`, `shuffled:1`, `adversarial:1`.
fn mode(text: &str) -> Option<Mode> {
    match text.split_once(':') {
        None if text == "nominal" => Some(Mode::Nominal),
        Some(("shuffled", seed)) => Some(Mode::Shuffled { seed: seed.parse().ok()? }),
        Some(("adversarial", seed)) => Some(Mode::Adversarial { seed: seed.parse().ok()? }),
        _ => None,
    }
}

/// `cuMemAlloc_v2:2` or `cuMemAlloc_v2:2@3`.
fn fault(text: &str) -> Option<Fault> {
    let (name, rest) = text.trim().split_once(':')?;
    let (code, call) = match rest.split_once('@') {
        Some((code, call)) => (code, Some(call.parse().ok()?)),
        None => (rest, None),
    };
    Some(Fault { name: name.into(), code: Code(code.parse().ok()?), call })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(
            ["7", "3K", "2M", "4G", "x", "G"].map(bytes),
            [Some(7), Some(3072), Some(2 << 20), Some(4 << 30), None, None]
        );
        assert_eq!([capability("8.0"), capability("10.3"), capability("9")], [Some((8, 0)), Some((10, 3)), None]);
        assert_eq!(mode("adversarial:7"), Some(Mode::Adversarial { seed: 7 }));
        assert_eq!((mode("nominal"), mode("nominal:1")), (Some(Mode::Nominal), None));
        let one = fault("cuLaunchKernel:700@3").unwrap();
        assert_eq!((one.name.as_str(), one.code, one.call), ("cuLaunchKernel", Code::ILLEGAL_ADDRESS, Some(3)));
        assert!(fault("cuLaunchKernel:700").is_some_and(|one| one.call.is_none()) && fault("cuLaunchKernel").is_none());
    }
}
