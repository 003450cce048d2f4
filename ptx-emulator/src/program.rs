//! A kernel lowered for execution: rows instead of names, indices instead of labels.

use crate::forms::Class;
use crate::parse::ast::{Location, Space};
use crate::registers::{Exec, Operands};
use crate::types::{Type, Width};

/// No row.
pub(crate) const NONE: u32 = u32::MAX;

/// A register, immediate or special register: which file, which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub width: Width,
    pub index: u32,
}

impl Row {
    /// Where a result that nobody wants goes, and an operand that is not there.
    pub const NONE: Self = Self { width: Width::Word, index: NONE };

    /// One of 64 bits: rows of different bits are different rows.
    pub fn bit(self) -> u64 {
        1 << (self.index.wrapping_mul(3).wrapping_add(self.width as u32) % 64)
    }

    pub fn is_some(self) -> bool {
        self.index != NONE
    }
}

/// One lowered kernel.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub name: String,
    pub code: Vec<Instruction>,
    /// Beside `code`: what reports and counters need.
    pub info: Vec<Info>,
    pub accesses: Vec<Access>,
    pub atomics: Vec<Atomic>,
    pub barriers: Vec<Barrier>,
    pub exchanges: Vec<Exchange>,
    pub copies: Vec<CopyAsync>,
    pub tables: Vec<Vec<u32>>,
    pub rows: RowCounts,
    /// Immediates and addresses: broadcast rows.
    pub constants: Vec<(Row, u64)>,
    pub specials: Vec<(Special, u32)>,
    /// Registers that some path reads before it writes them.
    pub tracked: Vec<Row>,
    pub params: Vec<Param>,
    pub param_bytes: u32,
    pub shared: SharedLayout,
    /// Bytes of local memory per thread, parameters of called functions included.
    pub local_bytes: u32,
    pub required_block: Option<[u32; 3]>,
    pub most_threads: Option<u64>,
    /// The narrowest access that may touch shared memory: 1, 2 or 4.
    pub granule: u32,
    /// Static memory instructions that may touch global memory.
    pub global_slots: u32,
    /// Plain loads that a compare-and-swap may follow.
    pub guesses: u32,
    /// Blocks may wait for one another: atomics or volatile accesses of global memory.
    pub communicates: bool,
}

/// Shared memory of a block. Variables lie apart, so that an access beyond one is not inside the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedLayout {
    pub variables: Vec<SharedVariable>,
    /// Bytes that the variables take on a device.
    pub bytes: u32,
    /// Where `extern` shared memory begins; its size is the launch's.
    pub dynamic: u32,
}

impl SharedLayout {
    /// For reports: the variable that starts last before an address, and how far before.
    pub fn place(&self, address: u64) -> String {
        let before = self.variables.iter().rev().find(|variable| u64::from(variable.offset) <= address);
        match before {
            _ if address >= u64::from(self.dynamic) => {
                format!(", {} bytes from the start of dynamic shared memory", address - u64::from(self.dynamic))
            }
            Some(SharedVariable { name, offset, bytes }) => {
                format!(", {} bytes from the start of `{name}` ({bytes} bytes)", address - u64::from(*offset))
            }
            None => String::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedVariable {
    pub name: String,
    pub offset: u32,
    pub bytes: u32,
}

/// Sizes of the three register files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowCounts {
    pub words: u32,
    pub longs: u32,
    pub predicates: u32,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    pub name: String,
    pub offset: u32,
    pub bytes: u32,
}

/// Special registers, one word row each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(usize),
    BlockSize(usize),
    Block(usize),
    GridSize(usize),
    Lane,
    Warp,
    Warps,
    LaneMaskEq,
    LaneMaskLt,
    LaneMaskLe,
    LaneMaskGt,
    LaneMaskGe,
    /// %smid, %gridid, %clock_hi.
    Zero,
    /// %nsmid.
    One,
    DynamicShared,
    TotalShared,
}

/// One lowered instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub code: Code,
    pub operands: Operands,
    /// Predicate row, or [`NONE`].
    pub guard: u32,
    pub negated: bool,
    /// Reads or writes a tracked register.
    pub tracked: bool,
    /// [`Row::bit`] of all rows that it reads or writes.
    pub touched: u64,
}

/// What an instruction does; numbers are indices into the tables of [`Program`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    /// Computes, lane by lane.
    Compute(Exec),
    Load(u32),
    Store(u32),
    Atomic(u32),
    Branch(u32),
    /// Jump through a table by the word in src[0].
    Table(u32),
    Exit,
    Trap,
    Barrier(u32),
    /// Waits for the lanes of its mask: `bar.warp.sync`, shuffles, votes, matches, reductions.
    Exchange(u32),
    /// The mask of lanes that are here, into dst.
    ActiveMask,
    CopyAsync(u32),
    CopyCommit,
    /// Until at most this many groups are unfinished.
    CopyWait(u32),
    Fence(Release),
    /// Instructions executed so far, into dst: a word, or a long.
    Clock(Width),
    /// Hints: prefetches, nanosleep.
    Nothing,
}

/// Beside each instruction, off the hot path.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub line: u32,
    pub location: Option<Location>,
    /// Opcode with its modifiers.
    pub text: String,
    pub class: Kind,
    pub flops: u32,
    pub exponential: bool,
    pub contractable: bool,
    /// Declared registers read and written.
    pub uses: Vec<Row>,
    pub defs: Vec<Row>,
    /// A plain move, which carries undefined values along without using them.
    pub moves: bool,
}

/// Classes of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Compute(Class),
    Memory,
    Shuffle,
    Barrier,
    Control,
}

/// A load or store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub space: Space,
    pub address: Address,
    /// Bytes of an element: 1, 2, 4, 8.
    pub size: u32,
    /// Elements: 1, 2, 4, 8.
    pub count: u32,
    /// Where elements go to or come from.
    pub rows: [Row; 8],
    /// Sign extension of a narrow load.
    pub signed: bool,
    pub volatile: bool,
    pub release: Release,
    /// `ld.global.nc`.
    pub noncoherent: bool,
    /// Number among the static accesses of global memory.
    pub slot: u32,
    /// Number among the plain loads that a compare-and-swap may follow, or [`NONE`].
    pub guess: u32,
}

/// For whom an access or a fence releases what came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Release {
    #[default]
    None,
    /// For the threads of its block.
    Block,
    Device,
}

/// `[row + offset]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// [`Row::NONE`] for an address that is known.
    pub row: Row,
    pub offset: i64,
}

/// An atomic operation; without a destination a reduction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atomic {
    pub space: Space,
    pub address: Address,
    pub operation: AtomicOperation,
    pub ty: Type,
    pub dst: Row,
    pub operand: Row,
    /// The new value of `cas`.
    pub swap: Row,
    pub release: Release,
    pub slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOperation {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

/// A barrier of the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    pub kind: BarrierKind,
    /// All lanes of the warp must come together.
    pub aligned: bool,
    pub id: Row,
    /// Threads that take part; absent: all.
    pub count: Row,
    /// `bar.red`: its predicate and destination.
    pub predicate: Row,
    pub dst: Row,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    Count,
    And,
    Or,
}

/// An operation between lanes of a warp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub kind: ExchangeKind,
    /// Lanes that take part.
    pub members: Row,
    pub src: Row,
    pub dst: Row,
    /// `p` of `d|p`.
    pub dst2: Row,
    /// Shuffles: lane or offset, and clamp.
    pub lane: Row,
    pub clamp: Row,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    Sync,
    ShuffleUp,
    ShuffleDown,
    ShuffleButterfly,
    ShuffleIndex,
    VoteAll,
    VoteAny,
    VoteUniform,
    VoteBallot,
    MatchAny,
    MatchAll,
    Reduce(AtomicOperation, Type),
}

/// `cp.async`: global to shared, done when waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyAsync {
    pub dst: Address,
    pub src: Address,
    pub bytes: u32,
    /// Bytes to read, the rest is zero; absent: all.
    pub src_bytes: Row,
    /// A predicate that makes it all zero.
    pub ignore: Row,
    pub slot: u32,
}
