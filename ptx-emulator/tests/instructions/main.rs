//! Instructions one by one: PTX written by hand, results against arithmetic written here.

#![allow(missing_docs)]

mod atomics;
mod barriers;
mod calls;
mod control;
mod copies;
mod errors;
mod lanes;
mod loads;
mod places;
mod stores;

pub use ptx_emulator::{Device, Error, FindingKind, Mode, Module, Report};

/// What stands before the first definition of a module.
pub const HEADER: &str = ".version 9.0\n.target sm_100\n.address_size 64\n";

/// A kernel with registers of all widths: `p0..`, `%h` of 16 bits, `%w` of 32, `%l` of 64.
///
/// `%w0` is the number of the thread in the grid, `%l0` the address of its `words` results, `%l1` that of the input.
pub struct Kernel {
    pub module: String,
    pub body: String,
    pub words: usize,
    pub block: u32,
    pub grid: u32,
    pub shared: u32,
    /// Of the host; 0: as many as it likes.
    pub threads: usize,
}

impl Kernel {
    pub fn new(words: usize, body: impl Into<String>) -> Self {
        Self { module: String::new(), body: body.into(), words, block: 32, grid: 1, shared: 0, threads: 0 }
    }

    /// Definitions before the kernel.
    pub fn module(mut self, text: impl Into<String>) -> Self {
        self.module = text.into();
        self
    }

    pub fn block(mut self, block: u32) -> Self {
        self.block = block;
        self
    }

    pub fn grid(mut self, grid: u32) -> Self {
        self.grid = grid;
        self
    }

    pub fn shared(mut self, shared: u32) -> Self {
        self.shared = shared;
        self
    }

    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    pub fn text(&self) -> String {
        let (head, body, bytes) = (&self.module, &self.body, 8 * self.words);
        format!(
            "{HEADER}{head}
.entry k(.param .b64 out, .param .b64 in, .param .align 16 .b8 structure[64]) {{
.reg .pred p<32>; .reg .b16 %h<64>; .reg .b32 %w<64>, %block; .reg .b64 %l<64>;
mov.u32 %block, %ctaid.x; mov.u32 %w1, %ntid.x; mov.u32 %w0, %tid.x; mad.lo.u32 %w0, %block, %w1, %w0;
ld.param.b64 %l0, [out]; ld.param.b64 %l1, [in]; mad.wide.u32 %l0, %w0, {bytes}, %l0;
{body}
ret;
}}\n"
        )
    }

    /// The results of all threads, and the report.
    pub fn report(&self, input: &[u64], mode: Mode) -> (Vec<u64>, Report) {
        let module = Module::from_ptx(&self.text()).unwrap_or_else(|error| panic!("{error}\n{}", self.text()));
        let device = Device::new();
        let out = device.alloc::<u64>(self.words * (self.block * self.grid) as usize).unwrap();
        device.name(out, "out").unwrap();
        let input = device.upload(input).unwrap();
        let launch = module.launch("k").grid([self.grid, 1, 1]).block([self.block, 1, 1]).shared_bytes(self.shared);
        let launch = if self.threads > 0 { launch.threads(self.threads) } else { launch };
        let report = launch.arg(out).arg(input).bytes(&structure()).mode(mode).run(&device);
        let report = report.unwrap_or_else(|error| panic!("{error}\n{}", self.text()));
        (device.read(out).unwrap(), report)
    }

    /// The results, the same in several modes and without findings.
    pub fn run(&self, input: &[u64]) -> Vec<u64> {
        let (out, report) = self.report(input, Mode::Nominal);
        assert!(report.is_clean(), "{report}\n{}", self.text());
        for seed in 0..2 {
            let (other, report) = self.report(input, Mode::Adversarial { seed });
            assert!(report.is_clean(), "{report}\n{}", self.text());
            assert_eq!(out, other, "seed {seed}");
        }
        out
    }

    /// Findings by kind, with the lines of the body's text that they name.
    pub fn findings(&self, input: &[u64]) -> Vec<(FindingKind, String)> {
        let text = self.text();
        let (_, report) = self.report(input, Mode::Nominal);
        let line = |line: u32| text.lines().nth(line as usize - 1).unwrap().trim().to_string();
        report.findings().iter().map(|finding| (finding.kind, line(finding.ptx_line))).collect()
    }
}

/// The bytes of the parameter `structure`.
pub fn structure() -> Vec<u8> {
    (0..64u8).map(|i| i.wrapping_mul(151).wrapping_add(0x80)).collect()
}

/// Bytes without a pattern.
pub fn noise(count: usize, seed: u64) -> Vec<u64> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = state ^ state >> 29;
        bits.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ bits >> 32
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Scalar types of memory: name, bytes, sign.
pub const TYPES: [(&str, usize, bool); 14] = [
    ("b8", 1, false),
    ("u8", 1, false),
    ("s8", 1, true),
    ("b16", 2, false),
    ("u16", 2, false),
    ("s16", 2, true),
    ("b32", 4, false),
    ("u32", 4, false),
    ("s32", 4, true),
    ("f32", 4, false),
    ("b64", 8, false),
    ("u64", 8, false),
    ("s64", 8, true),
    ("f64", 8, false),
];

/// A number of so many bytes, extended to a register of so many bits, the rest 0.
pub fn extended(bytes: &[u8], signed: bool, register: u32) -> u64 {
    let value = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let bits = 8 * bytes.len() as u32;
    let negative = signed && value >> (bits - 1) & 1 != 0;
    let whole = if negative && bits < 64 { value | u64::MAX << bits } else { value };
    if register == 64 { whole } else { whole & ((1 << register) - 1) }
}

/// Stores the register `name` of so many bits, zero-extended, as result `word`.
pub fn result(word: usize, name: &str, register: u32) -> String {
    let at = 8 * word;
    match register {
        64 => format!("st.global.b64 [%l0+{at}], {name};\n"),
        32 => format!("st.global.v2.b32 [%l0+{at}], {{{name}, 0}};\n"),
        _ => format!("st.global.v4.b16 [%l0+{at}], {{{name}, 0, 0, 0}};\n"),
    }
}
