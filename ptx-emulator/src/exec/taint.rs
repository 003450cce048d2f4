//! Values that a shuffle took from a lane that took no part, or a load from local memory that nobody wrote. Many
//! programs make such values and never use them (unoptimised code copies whole structures, padding included), so they
//! are followed through registers and local memory, and their origin is reported once one of them matters.

use super::block::Common;
use super::lanes;
use super::places::Addresses;
use super::warp::Warp;
use crate::findings::FindingKind;
use crate::memory::{LOCAL_TAG, TAG_SHIFT};
use crate::parse::ast::Space;
use crate::program::{Access, Code, ExchangeKind, NONE, Row};
use crate::types::Width;

/// Undefined lanes of a register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taint {
    row: Row,
    lanes: u32,
    /// Undefined bytes of the register, in any of the lanes.
    bytes: u8,
    /// The shuffle or load that they come from.
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
}

impl Warp {
    /// Lanes of a row that hold undefined values.
    fn tainted(&self, row: Row) -> Option<Taint> {
        self.taints.iter().copied().find(|taint| taint.row == row && taint.lanes != 0)
    }

    /// The lanes now hold something else.
    fn cleanse(&mut self, row: Row, mask: u32) {
        for taint in self.taints.iter_mut().filter(|taint| taint.row == row) {
            taint.lanes &= !mask;
        }
        self.taints.retain(|taint| taint.lanes != 0);
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
            // A store to local memory passes its values on, not its address.
            let stored: &[Row] = match instruction.code {
                Code::Store(index) if self.stays_local(&program.accesses[index as usize], mask) => {
                    &program.accesses[index as usize].rows
                }
                _ => &[],
            };
            for &row in uses.iter().skip(usize::from(shuffle)).filter(|row| !stored.contains(row)) {
                self.matters(common, row, mask, pc);
            }
            if !shuffle {
                info.defs.iter().for_each(|&row| self.cleanse(row, mask));
            }
            return;
        }
        let passed =
            if info.text.starts_with("selp") { self.selected(pc, common, mask) } else { self.united(uses, mask) };
        info.defs.iter().for_each(|&row| self.cleanse(row, mask));
        if let Some(mut passed) = passed {
            if !info.moves {
                passed.bytes = 0xff;
            }
            info.defs.iter().for_each(|&row| self.add_taint(Taint { row, ..passed }));
        }
    }

    /// Whether all these lanes access local memory.
    fn stays_local(&self, access: &Access, mask: u32) -> bool {
        match access.space {
            Space::Local => true,
            Space::Generic => {
                let addresses = self.addresses(&access.address);
                lanes::each(mask).all(|lane| addresses[lane] >> TAG_SHIFT == LOCAL_TAG)
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

    /// Reports the shuffle whose undefined value this instruction uses.
    fn matters(&mut self, common: &mut Common<'_>, row: Row, mask: u32, pc: u32) {
        let Some(taint) = self.tainted(row).filter(|taint| taint.lanes & mask != 0) else { return };
        let line = common.launch.program.info[pc as usize].line;
        let (reader, thread) = (taint.reader, self.first_thread() + taint.reader);
        match taint.read {
            Read::Lane(read) => common.note(FindingKind::InactiveShuffle, taint.origin, thread, None, || {
                format!("lane {reader} reads lane {read}, which takes no part; PTX line {line} uses what comes of it")
            }),
            Read::Local(address) => {
                common.note(FindingKind::UninitialisedLocal, taint.origin, thread, Some(address), || {
                    format!("PTX line {line} uses what comes of it")
                });
            }
        }
        self.cleanse(row, mask);
    }
}
