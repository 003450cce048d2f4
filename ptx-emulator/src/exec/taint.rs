//! Values that a shuffle took from a lane that took no part, that a load took from local memory that nobody wrote, or
//! that an instruction took from a register that nobody wrote. Many programs make such values and never use them
//! (compilers hoist arithmetic out of branches and select afterwards; unoptimised code copies whole structures, padding
//! included), so they are followed through registers and local memory, and their origin is reported once one matters.

use super::block::Common;
use super::lanes;
use super::places::Addresses;
use super::warp::Warp;
use crate::findings::FindingKind;
use crate::memory::{LOCAL_TAG, SHARED_TAG, TAG_SHIFT};
use crate::parse::ast::Space;
use crate::program::{Code, ExchangeKind, NONE, Program, Row};
use crate::types::Width;

/// Undefined lanes of a register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taint {
    row: Row,
    lanes: u32,
    /// Undefined bytes of the register, in any of the lanes.
    bytes: u8,
    /// The shuffle or load that they come from, or the first instruction that computed with the register (moves
    /// apart; `NONE`: no one yet).
    origin: u32,
    /// A lane of it.
    reader: u32,
    read: Read,
}

/// What that lane read.
#[derive(Clone, Copy, Debug)]
enum Read {
    Lane(u32),
    Local(u64),
    Register,
}

impl Taint {
    /// Where it comes from; this instruction, if nothing has computed with it before.
    fn origin_or(&self, pc: u32) -> u32 {
        if self.origin == NONE { pc } else { self.origin }
    }
}

impl Warp {
    /// Lanes of a row that hold undefined values.
    fn tainted(&self, row: Row) -> Option<Taint> {
        if self.tainted_bits & row.bit() == 0 {
            return None;
        }
        self.taints.iter().copied().find(|taint| taint.row == row && taint.lanes != 0)
    }

    /// The lanes now hold something else.
    fn cleanse(&mut self, row: Row, mask: u32) {
        if self.tainted_bits & row.bit() == 0 {
            return;
        }
        for taint in self.taints.iter_mut().filter(|taint| taint.row == row) {
            taint.lanes &= !mask;
        }
        self.taints.retain(|taint| taint.lanes != 0);
        self.tainted_bits = self.taints.iter().fold(0, |bits, taint| bits | taint.row.bit());
    }

    fn add_taint(&mut self, taint: Taint) {
        if taint.lanes == 0 || !taint.row.is_some() {
            return;
        }
        match self.taints.iter_mut().find(|known| known.row == taint.row) {
            Some(known) => {
                known.lanes |= taint.lanes;
                known.bytes |= taint.bytes;
            }
            None => self.taints.push(taint),
        }
        self.tainted_bits |= taint.row.bit();
    }

    /// What a shuffle read from lanes that take no part, and what it passed on from lanes whose value is undefined.
    pub(super) fn taint_shuffle(
        &mut self,
        (src, dst): (Row, Row),
        (mask, pc): (u32, u32),
        undefined: u32,
        from: impl Fn(usize) -> u32,
    ) {
        let known = self.tainted(src);
        self.cleanse(dst, mask);
        if let Some(known) = known {
            let passed = lanes::collect(mask & !undefined, |lane| known.lanes >> from(lane) & 1 != 0);
            self.add_taint(Taint { row: dst, lanes: passed, ..known });
        }
        if undefined != 0 {
            let lane = lanes::first(undefined);
            let read = Read::Lane(from(lane));
            self.add_taint(Taint { row: dst, lanes: undefined, bytes: 0xff, origin: pc, reader: lane as u32, read });
        }
    }

    /// What a load read from local memory that was not written.
    pub(super) fn taint_load(&mut self, row: Row, (undefined, bytes): (u32, u8), pc: u32, addresses: &Addresses) {
        if undefined != 0 {
            let lane = lanes::first(undefined);
            let read = Read::Local(addresses[lane]);
            self.add_taint(Taint { row, lanes: undefined, bytes, origin: pc, reader: lane as u32, read });
        }
    }

    /// Finds the registers that some path leaves unwritten, and this one did, among what the instruction reads: the
    /// guard in `group`, the rest in `mask`.
    #[cold]
    pub(super) fn taint_unwritten(&mut self, program: &Program, pc: u32, group: u32, mask: u32) {
        let (instruction, info) = (&program.code[pc as usize], &program.info[pc as usize]);
        let guards = usize::from(instruction.guard != NONE);
        let number = |row| program.tracked.iter().position(|&tracked| tracked == row);
        for (at, &row) in info.uses.iter().enumerate() {
            let Some(tracked) = number(row) else { continue };
            let unwritten = if at < guards { group } else { mask } & !self.defined[tracked];
            if unwritten != 0 {
                // From here on it is followed like the others.
                self.defined[tracked] |= unwritten;
                let reader = lanes::first(unwritten) as u32;
                let (origin, read) = (NONE, Read::Register);
                self.add_taint(Taint { row, lanes: unwritten, bytes: 0xff, origin, reader, read });
            }
        }
        for tracked in info.defs.iter().filter_map(|&row| number(row)) {
            self.defined[tracked] |= mask;
        }
    }

    /// Lanes of a row that hold undefined values, and which of its bytes are.
    pub(super) fn undefined_bytes(&self, row: Row) -> (u32, u8) {
        self.tainted(row).map_or((0, 0), |taint| (taint.lanes, taint.bytes))
    }

    /// Called before an instruction while there are undefined values: passes them on, or reports that they matter.
    #[cold]
    pub(super) fn follow_taints(&mut self, common: &mut Common<'_>, pc: u32, group: u32, mask: u32) {
        let program = common.launch.program;
        let (instruction, info) = (&program.code[pc as usize], &program.info[pc as usize]);
        if instruction.guard != NONE {
            self.matters(common, Row { width: Width::Predicate, index: instruction.guard }, group, pc);
        }
        let uses = &info.uses[usize::from(instruction.guard != NONE)..];
        let shuffle = matches!(instruction.code, Code::Exchange(index) if matches!(
            program.exchanges[index as usize].kind,
            ExchangeKind::ShuffleUp | ExchangeKind::ShuffleDown | ExchangeKind::ShuffleButterfly | ExchangeKind::ShuffleIndex
        ));
        if !matches!(instruction.code, Code::Compute(_)) {
            for &row in uses.iter().skip(usize::from(shuffle)) {
                if !self.kept_private(program, instruction.code, row, mask) {
                    self.matters(common, row, mask, pc);
                }
            }
            if !shuffle {
                info.defs.iter().for_each(|&row| self.cleanse(row, mask));
            }
            return;
        }
        let passed = match info.text.get(..3) {
            Some("sel") => self.selected(pc, common, mask),
            Some("and" | "or.") => self.united(uses, mask).map(|all| self.absorbed(all, uses, &info.text)),
            _ => self.united(uses, mask),
        };
        let passed = passed.map(|all| match info.moves {
            true => all,
            false => Taint { bytes: self.passed_bytes(pc, program, all), origin: all.origin_or(pc), ..all },
        });
        info.defs.iter().for_each(|&row| self.cleanse(row, mask));
        if let Some(passed) = passed.filter(|all| all.bytes != 0) {
            info.defs.iter().for_each(|&row| self.add_taint(Taint { row, ..passed }));
        }
    }

    /// Whether an instruction only stores the row where it may stay unused: to local memory, from where it is followed
    /// further, or, a plain copy of a register that nobody wrote, to shared memory (structures are copied whole, empty
    /// ones too).
    fn kept_private(&self, program: &Program, code: Code, row: Row, mask: u32) -> bool {
        let Code::Store(index) = code else { return false };
        let access = &program.accesses[index as usize];
        if !access.rows.contains(&row) {
            return false;
        }
        let unwritten = matches!(self.tainted(row), Some(Taint { read: Read::Register, origin: NONE, .. }));
        match access.space {
            Space::Local => true,
            Space::Shared => unwritten,
            Space::Generic => {
                let addresses = self.addresses(&access.address);
                lanes::each(mask).all(|lane| match addresses[lane] >> TAG_SHIFT {
                    LOCAL_TAG => true,
                    SHARED_TAG => unwritten,
                    _ => false,
                })
            }
            _ => false,
        }
    }

    /// Lanes in which any of the rows is undefined.
    fn united(&self, rows: &[Row], mask: u32) -> Option<Taint> {
        let each = rows.iter().filter_map(|&row| self.tainted(row));
        let all = each.reduce(|all, one| Taint { lanes: all.lanes | one.lanes, bytes: all.bytes | one.bytes, ..all });
        all.map(|all| Taint { lanes: all.lanes & mask, ..all }).filter(|all| all.lanes != 0)
    }

    /// `selp` takes one of two values: only that one counts.
    fn selected(&self, pc: u32, common: &Common<'_>, mask: u32) -> Option<Taint> {
        let [a, b, predicate, _] = common.launch.program.code[pc as usize].operands.src;
        let width = common.launch.program.info[pc as usize].defs.first()?.width;
        let chosen = self.registers.predicates[predicate as usize];
        let of = |index, lanes: u32| {
            self.tainted(Row { width, index }).map(|taint| Taint { lanes: taint.lanes & lanes & mask, ..taint })
        };
        let by_predicate = self.united(&[Row { width: Width::Predicate, index: predicate }], mask);
        let all = [of(a, chosen), of(b, !chosen), by_predicate].into_iter().flatten();
        all.reduce(|all, one| Taint { lanes: all.lanes | one.lanes, bytes: all.bytes | one.bytes, ..all })
    }

    /// The bytes that undefined operands leave undefined: all, apart from what accesses to bit fields mask or shift out.
    fn passed_bytes(&self, pc: u32, program: &Program, passed: Taint) -> u8 {
        match program.info[pc as usize].text.get(..3) {
            Some("shr") => self.shifted_bytes(pc, program, passed),
            Some("and" | "or.") => self.masked_bytes(pc, program, passed),
            _ => 0xff,
        }
    }

    /// Without the bytes that a defined operand decides in every lane.
    fn masked_bytes(&self, pc: u32, program: &Program, passed: Taint) -> u8 {
        let (instruction, info) = (&program.code[pc as usize], &program.info[pc as usize]);
        let Some(width) = info.defs.first().map(|dst| dst.width).filter(|&width| width != Width::Predicate) else {
            return 0xff;
        };
        let decisive = if info.text.starts_with("and") { 0 } else { 0xff };
        let rows = [0, 1].map(|place| Row { width, index: instruction.operands.src[place] });
        let decides = |row: &Row, lane: usize, byte: usize| {
            let defined = self.tainted(*row).is_none_or(|taint| taint.lanes >> lane & 1 == 0);
            defined && self.bits(*row, lane).to_le_bytes()[byte] == decisive
        };
        let undecided =
            |byte: usize| lanes::each(passed.lanes).any(|lane| !rows.iter().any(|row| decides(row, lane, byte)));
        (0..8).filter(|&byte| undecided(byte)).fold(0, |bytes, byte| bytes | 1 << byte) & passed.bytes
    }

    /// What an unsigned shift to the right keeps.
    fn shifted_bytes(&self, pc: u32, program: &Program, passed: Taint) -> u8 {
        let (instruction, info) = (&program.code[pc as usize], &program.info[pc as usize]);
        let [value, amount, ..] = instruction.operands.src;
        let by_itself = |row: &Row| row.index == value && info.defs.first().is_some_and(|dst| dst.width == row.width);
        let unsigned = ["shr.u32", "shr.b32", "shr.u64", "shr.b64"].iter().any(|name| info.text.starts_with(name));
        let mut tainted = info.uses.iter().filter(|&&row| self.tainted(row).is_some());
        if !unsigned || !tainted.all(by_itself) {
            return 0xff;
        }
        let amounts = &self.registers.words[amount as usize].0;
        lanes::each(passed.lanes).fold(0, |bytes, lane| {
            let shift = |by: u32| passed.bytes.checked_shr(by).unwrap_or(0);
            let (whole, part) = (amounts[lane] / 8, amounts[lane] % 8);
            bytes | shift(whole) | if part == 0 { 0 } else { shift(whole + 1) }
        })
    }

    /// Without the lanes in which a defined operand decides alone: `and` with zero, `or` with ones.
    fn absorbed(&self, all: Taint, uses: &[Row], text: &str) -> Taint {
        let decisive = if text.starts_with("and") { 0 } else { u64::MAX };
        let decided = lanes::collect(all.lanes, |lane| {
            let defined = |row: &Row| self.tainted(*row).is_none_or(|taint| taint.lanes >> lane & 1 == 0);
            uses.iter().any(|row| defined(row) && self.bits(*row, lane) == decisive)
        });
        Taint { lanes: all.lanes & !decided, ..all }
    }

    /// Sign-extended.
    fn bits(&self, row: Row, lane: usize) -> u64 {
        match row.width {
            Width::Predicate => 0u64.wrapping_sub((self.registers.predicates[row.index as usize] >> lane & 1).into()),
            Width::Word => i64::from(self.registers.words[row.index as usize].0[lane] as i32) as u64,
            Width::Long => self.registers.longs[row.index as usize].0[lane],
        }
    }

    /// Reports what made the undefined value that this instruction uses.
    fn matters(&mut self, common: &mut Common<'_>, row: Row, mask: u32, pc: u32) {
        let Some(taint) = self.tainted(row).filter(|taint| taint.lanes & mask != 0) else { return };
        let line = common.launch.program.info[pc as usize].line;
        let origin = taint.origin_or(pc);
        let using = taint.lanes & mask;
        // The recorded lane may use its value elsewhere or nowhere.
        let known = using >> taint.reader & 1 != 0;
        let thread = self.first_thread() + if known { taint.reader } else { lanes::first(using) as u32 };
        let reader = taint.reader;
        match taint.read {
            Read::Register => common.note(FindingKind::UninitialisedRegister, origin, thread, None, || {
                if origin == pc { String::new() } else { format!("PTX line {line} uses what comes of it") }
            }),
            Read::Lane(read) => common.note(FindingKind::InactiveShuffle, origin, thread, None, || {
                format!("lane {reader} reads lane {read}, which takes no part; PTX line {line} uses what comes of it")
            }),
            Read::Local(address) => {
                common.note(FindingKind::UninitialisedLocal, origin, thread, known.then_some(address), || {
                    format!("PTX line {line} uses what comes of it")
                });
            }
        }
        self.cleanse(row, mask);
    }
}
