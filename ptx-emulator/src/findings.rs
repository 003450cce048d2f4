//! What a kernel did wrong, as the interpreter notes it, and as the caller reads it.

use crate::program::Program;
use std::collections::HashMap;
use std::fmt;

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// An access outside every allocation, or outside the variable of shared, local or parameter memory.
    OutOfBounds,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// An access to memory that has been freed.
    UseAfterFree,
    /// A write to constant memory or to a parameter.
    ReadOnlyWrite,
    /// A register read before any instruction wrote it.
    UninitialisedRegister,
    /// Shared memory read before the block wrote it.
    UninitialisedShared,
    /// Global memory read before anyone wrote it.
    UninitialisedGlobal,
    /// Local memory read before the thread wrote it.
    UninitialisedLocal,
    /// Two threads of a block touched the same shared bytes without order, one of them writing.
    SharedRace,
    /// Two blocks touched the same global bytes without order, one of them writing.
    GlobalRace,
    /// `ld.global.nc` of memory that the launch writes.
    NonCoherentRead,
    /// A barrier that some lanes of a warp reached without the others, or that names an impossible number of threads, or
    /// another than those who wait there.
    DivergentBarrier,
    /// Threads wait for each other for ever.
    Deadlock,
    /// A shuffle that read a lane which did not take part.
    InactiveShuffle,
    /// A `.sync` operation executed by a lane that its mask leaves out.
    MaskMismatch,
    /// Shared memory touched while an unfinished `cp.async` of the block writes it.
    PendingCopy,
    /// `trap`, or a failed assertion.
    Trap,
    /// The instruction budget ran out: an endless loop, or a budget too small.
    Budget,
}

/// One finding: the first occurrence, in order of blocks, of what one instruction did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was wrong.
    pub kind: FindingKind,
    /// Name of the kernel.
    pub kernel: String,
    /// The instruction: opcode and modifiers.
    pub instruction: String,
    /// Its line in the PTX text, from 1.
    pub ptx_line: u32,
    /// File and line of the source, where the PTX has line information.
    pub source: Option<(String, u32)>,
    /// Where the function of `source` was inlined, if it was.
    pub inlined_at: Option<(String, u32)>,
    /// Index of the block.
    pub block: [u32; 3],
    /// Index of the thread in its block.
    pub thread: [u32; 3],
    /// Address, in its state space; generic for global memory.
    pub address: Option<u64>,
    /// What else is known: the allocation concerned, the other access of a race.
    pub detail: String,
    /// How often the instruction did this in the whole launch.
    pub occurrences: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, kernel, instruction, ptx_line, block: [bx, by, bz], thread: [x, y, z], .. } = self;
        write!(f, "{kind:?} in {kernel}, PTX line {ptx_line} ({instruction})")?;
        if let Some((file, line)) = &self.source {
            write!(f, ", {file}:{line}")?;
        }
        if let Some((file, line)) = &self.inlined_at {
            write!(f, " inlined at {file}:{line}")?;
        }
        write!(f, ", block ({bx}, {by}, {bz}), thread ({x}, {y}, {z})")?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        match self.occurrences {
            1 => Ok(()),
            times => write!(f, " ({times} times)"),
        }
    }
}

/// A finding before its names are looked up.
#[derive(Clone, Debug)]
pub(crate) struct RawFinding {
    pub kind: FindingKind,
    pub instruction: u32,
    pub block: u32,
    pub thread: u32,
    pub address: Option<u64>,
    pub detail: String,
    pub occurrences: u64,
}

/// The findings of one block: one per kind and instruction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub list: Vec<RawFinding>,
    places: HashMap<(FindingKind, u32), usize>,
}

impl Findings {
    /// Notes an occurrence; `detail` is made for the first alone.
    pub fn note(
        &mut self,
        kind: FindingKind,
        instruction: u32,
        thread: u32,
        address: Option<u64>,
        detail: impl FnOnce() -> String,
    ) {
        match self.places.get(&(kind, instruction)) {
            Some(&place) => self.list[place].occurrences += 1,
            None => {
                self.places.insert((kind, instruction), self.list.len());
                let detail = detail();
                self.list.push(RawFinding { kind, instruction, block: 0, thread, address, detail, occurrences: 1 });
            }
        }
    }

    /// Adds others of the same block.
    pub fn add(&mut self, others: Self) {
        for other in others.list {
            match self.places.get(&(other.kind, other.instruction)) {
                Some(&place) => self.list[place].occurrences += other.occurrences,
                None => {
                    self.places.insert((other.kind, other.instruction), self.list.len());
                    self.list.push(other);
                }
            }
        }
    }

    /// The findings so far, for a block of this number.
    pub fn take(&mut self, block: u32) -> Vec<RawFinding> {
        self.places.clear();
        let mut list = std::mem::take(&mut self.list);
        list.iter_mut().for_each(|finding| finding.block = block);
        list
    }
}

/// Findings of all blocks, the first of each kind and instruction kept, with names.
pub(crate) fn resolve(
    mut raw: Vec<RawFinding>,
    program: &Program,
    files: &[(u32, String)],
    grid: [u32; 3],
    block: [u32; 3],
) -> Vec<Finding> {
    raw.sort_by_key(|finding| finding.block);
    let mut places: HashMap<(FindingKind, u32), usize> = HashMap::new();
    let mut findings: Vec<Finding> = Vec::new();
    for one in raw {
        if let Some(&place) = places.get(&(one.kind, one.instruction)) {
            findings[place].occurrences += one.occurrences;
            continue;
        }
        places.insert((one.kind, one.instruction), findings.len());
        let info = program.info.get(one.instruction as usize);
        let location = info.and_then(|info| info.location);
        let file = |index: u32| files.iter().find(|file| file.0 == index).map(|file| file.1.clone());
        findings.push(Finding {
            kind: one.kind,
            kernel: program.name.clone(),
            instruction: info.map_or_else(String::new, |info| info.text.clone()),
            ptx_line: info.map_or(0, |info| info.line),
            source: location.and_then(|location| file(location.file).map(|file| (file, location.line))),
            inlined_at: location
                .and_then(|location| location.inlined_at)
                .and_then(|(index, line)| file(index).map(|file| (file, line))),
            block: unflatten(one.block, grid),
            thread: unflatten(one.thread, block),
            address: one.address,
            detail: one.detail,
            occurrences: one.occurrences,
        });
    }
    findings
}

/// A linear index as x, y, z.
pub(crate) fn unflatten(index: u32, extents: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = extents.map(|extent| extent.max(1));
    [index % x, index / x % y, index / x / y]
}
