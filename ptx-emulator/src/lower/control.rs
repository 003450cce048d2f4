//! Branches, exits and barriers.

use super::Lowering;
use super::scopes::Symbol;
use crate::error::Result;
use crate::parse::ast::Operand;
use crate::program::{Barrier, BarrierKind, Code, Kind, Row};
use crate::registers::Operands;
use crate::types::{Type, Width};

impl Lowering<'_> {
    pub(super) fn control(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        match (opcode, modifiers, operands) {
            ("bra", [] | ["uni"], [Operand::Name(label)]) => {
                let label = self.label(label)?;
                self.emit(Code::Branch(label), Operands::default(), Kind::Control);
            }
            ("brx", ["idx"] | ["idx", "uni"], [index, Operand::Name(targets)]) => {
                let Symbol::Targets(targets) = self.lookup(targets)? else { return Err(self.bad_operands()) };
                let labels = targets.iter().map(|target| self.label(target)).collect::<Result<Vec<_>>>()?;
                let index = self.source(index, Type::U32)?;
                self.program.tables.push(labels);
                let operands = Operands { src: [index.index, 0, 0, 0], ..Default::default() };
                let table = self.program.tables.len() as u32 - 1;
                self.emit(Code::Table(table), operands, Kind::Control).uses.push(index);
            }
            ("ret", [] | ["uni"], []) => match self.calls.last().and_then(|call| call.end) {
                Some(end) => {
                    self.emit(Code::Branch(end), Operands::default(), Kind::Control);
                }
                None => {
                    self.emit(Code::Exit, Operands::default(), Kind::Control);
                }
            },
            ("exit", [], []) => {
                self.emit(Code::Exit, Operands::default(), Kind::Control);
            }
            ("trap", [], []) => {
                self.emit(Code::Trap, Operands::default(), Kind::Control);
            }
            _ => return Err(self.unknown()),
        }
        Ok(())
    }

    /// `bar` and `barrier`, of the block and of the warp.
    pub(super) fn barrier(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        if let (["warp", "sync"], [members]) = (modifiers, operands) {
            return self.warp_sync(members);
        }
        let mut words = modifiers.to_vec();
        if words.first() == Some(&"cta") {
            words.remove(0);
        }
        // `bar` is the aligned form of `barrier`, where the word stands before the type.
        let mut aligned = self.at.text.starts_with("bar.");
        let place = if words.first() == Some(&"red") { 2 } else { 1 };
        if !aligned && words.get(place) == Some(&"aligned") {
            words.remove(place);
            aligned = true;
        }
        let mut barrier = Barrier {
            kind: BarrierKind::Sync,
            aligned,
            id: Row::NONE,
            count: Row::NONE,
            predicate: Row::NONE,
            dst: Row::NONE,
        };
        let rest = match (&words[..], operands) {
            (["sync"], rest) => rest,
            (["arrive"], rest) => {
                barrier.kind = BarrierKind::Arrive;
                rest
            }
            (["red", operation, ty], [dst, rest @ .., predicate]) => {
                barrier.kind = match (*operation, *ty) {
                    ("popc", "u32") => BarrierKind::Count,
                    ("and", "pred") => BarrierKind::And,
                    ("or", "pred") => BarrierKind::Or,
                    _ => return Err(self.unknown()),
                };
                let width = if *ty == "u32" { Width::Word } else { Width::Predicate };
                barrier.dst = self.destination_of(dst, width)?;
                barrier.predicate = self.source(predicate, Type::Pred)?;
                rest
            }
            _ => return Err(self.unknown()),
        };
        match rest {
            [id] if barrier.kind != BarrierKind::Arrive => barrier.id = self.source(id, Type::U32)?,
            [id, count] => (barrier.id, barrier.count) = (self.source(id, Type::U32)?, self.source(count, Type::U32)?),
            _ => return Err(self.bad_operands()),
        }
        self.program.barriers.push(barrier);
        let code = Code::Barrier(self.program.barriers.len() as u32 - 1);
        let info = self.emit(code, Operands::default(), Kind::Barrier);
        info.uses.extend([barrier.id, barrier.count, barrier.predicate].into_iter().filter(|row| row.is_some()));
        info.defs.extend(Some(barrier.dst).filter(|row| row.is_some()));
        Ok(())
    }
}
