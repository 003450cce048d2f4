//! Values that a shuffle took from a lane that took no part. Many programs make such values and never use them, so
//! they are followed through registers, and the shuffle is reported once one of them matters.

use super::block::Common;
use super::lanes;
use super::warp::Warp;
use crate::findings::FindingKind;
use crate::program::{Code, ExchangeKind, NONE, Row};
use crate::types::Width;

/// Undefined lanes of a register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taint {
    row: Row,
    lanes: u32,
    /// The shuffle that they come from.
    origin: u32,
    /// A lane of it, and the lane that it read.
    reader: (u32, u32),
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
            Some(known) => known.lanes |= taint.lanes,
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
            let reader = (lane as u32, from(lane));
            self.add_taint(Taint { row: dst, lanes: undefined, origin: pc, reader });
        }
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
        if let Some(passed) = passed {
            info.defs.iter().for_each(|&row| self.add_taint(Taint { row, ..passed }));
        }
    }

    /// Lanes in which any of the rows is undefined.
    fn united(&self, rows: &[Row], mask: u32) -> Option<Taint> {
        let each = rows.iter().filter_map(|&row| self.tainted(row));
        let all = each.reduce(|all, one| Taint { lanes: all.lanes | one.lanes, ..all });
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
        all.reduce(|all, one| Taint { lanes: all.lanes | one.lanes, ..all })
    }

    /// Reports the shuffle whose undefined value this instruction uses.
    fn matters(&mut self, common: &mut Common<'_>, row: Row, mask: u32, pc: u32) {
        let Some(taint) = self.tainted(row).filter(|taint| taint.lanes & mask != 0) else { return };
        let (reader, read) = taint.reader;
        let line = common.launch.program.info[pc as usize].line;
        common.note(FindingKind::InactiveShuffle, taint.origin, self.first_thread() + reader, None, || {
            format!("lane {reader} reads lane {read}, which takes no part; PTX line {line} uses what comes of it")
        });
        self.cleanse(row, mask);
    }
}
