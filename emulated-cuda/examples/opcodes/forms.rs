//! The forms that are compared: instructions that only compute, from the emulator's own list, and the tables of
//! `others.rs`.

use super::others;
use super::types::Type;
use ptx_emulator::{Computation, computations};

/// An instruction as a kernel executes it: alone, or with what brings its operands and takes its results.
#[derive(Debug)]
pub struct Form {
    /// No other form has it.
    pub label: String,
    /// As the emulator's list has it.
    pub instruction: String,
    pub sources: Vec<Type>,
    pub destinations: Vec<Type>,
    /// The last destination is memory, which the text itself writes: `{cell}` is its address.
    pub memory: bool,
    /// PTX: registers `a0`, `a1` .. hold the sources and `d0`, `d1` .. take the destinations.
    pub text: String,
    pub rule: Rule,
}

/// When two results agree.
#[derive(Debug)]
pub enum Rule {
    /// If their bits do.
    Bits,
    /// If their bits do, or both are NaN: of most operations the PTX ISA leaves the payload open.
    Numbers,
    /// If the device's is within the bound of an approximation.
    Within(Computation),
}

impl Form {
    /// Whether its name has a word, or its label ends with one.
    pub fn has(&self, word: &str) -> bool {
        self.instruction.split('.').any(|part| part == word) || self.label.ends_with(word)
    }

    /// Whether [`is_open`](Self::is_open) may hold at all.
    pub fn may_be_open(&self) -> bool {
        let opcode = self.instruction.split('.').next().unwrap_or_default();
        ["div", "rem", "fns", "atom", "red"].contains(&opcode)
    }

    /// Whether the PTX ISA leaves the result of these operands open.
    pub fn is_open(&self, operands: &[u64]) -> bool {
        let mut words = self.instruction.split('.');
        let opcode = words.next().unwrap_or_default();
        match (opcode, self.sources.as_slice()) {
            // "Division by zero yields an unspecified, machine-specific value."
            ("div" | "rem", [ty, ..]) if ty.format().is_none() => operands[1] == 0,
            // A base beyond the word, a distance whose magnitude wraps.
            ("fns", _) => operands[1] > 31 || operands[2] == 0x8000_0000,
            // "Current implementation" flushes subnormal numbers in global memory, and not in shared memory.
            ("atom" | "red", [ty, ..]) if ty.name == "f32" && !words.any(|word| word == "shared") => {
                let sum = f32::from_bits(operands[0] as u32) + f32::from_bits(operands[1] as u32);
                let small = |value: f32| value.is_subnormal();
                small(sum) || operands.iter().any(|&bits| small(f32::from_bits(bits as u32)))
            }
            _ => false,
        }
    }
}

/// All of them.
pub fn all() -> Vec<Form> {
    computations().flat_map(of_computation).chain(others::forms()).collect()
}

fn of_computation(computation: Computation) -> Vec<Form> {
    let instruction = computation.name.clone();
    let opcode = instruction.split('.').next().unwrap_or_default();
    let mut sources: Vec<Type> = computation.sources.iter().map(|name| Type::named(name)).collect();
    let mut destinations: Vec<Type> = computation.destinations.iter().map(|name| Type::named(name)).collect();
    if instruction.contains(".tf32.") {
        destinations = vec![Type::named("tf32")];
    }
    // From and to this format ptxas wants registers of 8 bits, elsewhere wider ones.
    if opcode == "cvt" && instruction.contains("bf16") && (instruction.contains(".u8") || instruction.contains(".s8")) {
        let to = if sources[0].bits == 8 { &mut sources[0] } else { &mut destinations[0] };
        *to = Type::named("b8");
    }
    if opcode == "lop3" {
        return lookups(&instruction, destinations[0]);
    }
    let carries = ["addc", "subc", "madc"].contains(&opcode) || instruction.contains(".cc");
    if carries {
        return carried(&instruction, opcode, destinations[0], &sources);
    }
    let pair = destinations.len() == 2;
    let extremes = matches!(opcode, "min" | "max") && sources.len() == 3;
    let suffix = if pair { ", p|q" } else { "" }.to_owned() + if extremes { ", three sources" } else { "" };
    let listed = sources.iter().enumerate().map(|(index, _)| format!(", a{index}")).collect::<String>();
    let text = format!("{instruction} {}{listed};", if pair { "d0|d1" } else { "d0" });
    let rule = if computation.allows(&vec![0; sources.len()], 0).is_some() {
        Rule::Within(computation)
    } else {
        rule(&instruction, &destinations)
    };
    let label = format!("{instruction}{suffix}");
    vec![Form { label, instruction, sources, destinations, memory: false, text, rule }]
}

/// The rule of an instruction with one right result.
pub fn rule(instruction: &str, destinations: &[Type]) -> Rule {
    let mut words = instruction.split('.');
    let moves = ["mov", "selp", "slct", "copysign"].contains(&words.next().unwrap_or_default());
    // These give the canonical NaN, whatever the operands.
    let canonical = words.any(|word| word == "NaN" || word == "relu");
    let numbers = destinations.iter().any(|ty| ty.format().is_some());
    if numbers && !moves && !canonical { Rule::Numbers } else { Rule::Bits }
}

/// `lop3`, whose table is an immediate, with each of the 256.
fn lookups(instruction: &str, ty: Type) -> Vec<Form> {
    let one = |table: u32| Form {
        label: format!("{instruction} {table:#04x}"),
        instruction: instruction.into(),
        sources: vec![ty; 3],
        destinations: vec![ty],
        memory: false,
        text: format!("{instruction} d0, a0, a1, a2, {table:#04x};"),
        rule: Rule::Bits,
    };
    (0..256).map(one).collect()
}

/// An instruction that takes the carry, which one more operand decides, or gives it: to a second destination. What
/// `sub.cc` gives is also read with `addc`, as compilers do.
fn carried(instruction: &str, opcode: &str, ty: Type, sources: &[Type]) -> Vec<Form> {
    let (takes, gives) = (opcode.ends_with('c'), instruction.contains(".cc"));
    let subtracts = opcode.starts_with("sub");
    let mut all = sources.to_vec();
    let listed = sources.iter().enumerate().map(|(index, _)| format!(", a{index}")).collect::<String>();
    let mut before = String::new();
    if takes {
        let flag = all.len();
        all.push(Type::named("u32"));
        let sets = if subtracts { "sub" } else { "add" };
        before = format!(".reg .b32 flag; {sets}.cc.u32 flag, a{flag}, 0x80000000; ");
    }
    let readers: &[&str] = match (gives, subtracts) {
        (false, _) => &[""],
        (true, false) => &["addc"],
        (true, true) => &["subc", "addc"],
    };
    let one = |reader: &&str| {
        let after = if gives { format!(" {reader}.{} d1, 0, 0;", ty.name) } else { String::new() };
        let mixed = if subtracts && *reader == "addc" { ", then addc" } else { "" };
        Form {
            label: format!("{instruction}{mixed}"),
            instruction: instruction.into(),
            sources: all.clone(),
            destinations: vec![ty; if gives { 2 } else { 1 }],
            memory: false,
            text: format!("{before}{instruction} d0{listed};{after}"),
            rule: Rule::Bits,
        }
    };
    readers.iter().map(one).collect()
}
