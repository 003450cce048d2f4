//! Operations between the lanes of a warp.

use super::Lowering;
use crate::error::Result;
use crate::parse::ast::Operand;
use crate::program::{AtomicOperation, Code, Exchange, ExchangeKind, Kind, Row};
use crate::registers::Operands;
use crate::types::{Type, Width};

impl Lowering<'_> {
    pub(super) fn warp_sync(&mut self, members: &Operand) -> Result<()> {
        let members = self.source(members, Type::U32)?;
        self.push_exchange(Exchange { members, ..blank(ExchangeKind::Sync) }, Kind::Barrier);
        Ok(())
    }

    fn push_exchange(&mut self, exchange: Exchange, class: Kind) {
        self.program.exchanges.push(exchange);
        let code = Code::Exchange(self.program.exchanges.len() as u32 - 1);
        let info = self.emit(code, Operands::default(), class);
        let sources = [exchange.members, exchange.src, exchange.lane, exchange.clamp];
        info.uses.extend(sources.into_iter().filter(|row| row.is_some()));
        info.defs.extend([exchange.dst, exchange.dst2].into_iter().filter(|row| row.is_some()));
    }

    pub(super) fn exchange(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        match opcode {
            "shfl" => self.shuffle(modifiers, operands),
            "vote" => self.vote(modifiers, operands),
            "match" => self.matching(modifiers, operands),
            "redux" => self.reduction(modifiers, operands),
            _ => {
                let (["b32"], [dst]) = (modifiers, operands) else { return Err(self.unknown()) };
                let dst = self.destination_of(dst, Width::Word)?;
                let operands = Operands { dst: dst.index, ..Default::default() };
                self.emit(Code::ActiveMask, operands, Kind::Control);
                self.program.info.last_mut().into_iter().for_each(|info| info.defs.push(dst));
                Ok(())
            }
        }
    }

    fn shuffle(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let (["sync", mode, "b32"], [dst, src, lane, clamp, members]) = (modifiers, operands) else {
            return Err(self.unknown());
        };
        let kind = match *mode {
            "up" => ExchangeKind::ShuffleUp,
            "down" => ExchangeKind::ShuffleDown,
            "bfly" => ExchangeKind::ShuffleButterfly,
            "idx" => ExchangeKind::ShuffleIndex,
            _ => return Err(self.unknown()),
        };
        let (dst, dst2) = self.pair(dst, Width::Word)?;
        let exchange = Exchange {
            src: self.source(src, Type::B32)?,
            lane: self.source(lane, Type::U32)?,
            clamp: self.source(clamp, Type::U32)?,
            members: self.source(members, Type::U32)?,
            dst,
            dst2,
            ..blank(kind)
        };
        self.push_exchange(exchange, Kind::Shuffle);
        Ok(())
    }

    /// `d` or `d|p`.
    fn pair(&mut self, operand: &Operand, width: Width) -> Result<(Row, Row)> {
        match operand {
            Operand::Pair(d, p) => Ok((self.destination_of(d, width)?, self.destination_of(p, Width::Predicate)?)),
            d => Ok((self.destination_of(d, width)?, Row::NONE)),
        }
    }

    fn vote(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let (["sync", mode, ty], [dst, src, members]) = (modifiers, operands) else { return Err(self.unknown()) };
        let (kind, width) = match (*mode, *ty) {
            ("all", "pred") => (ExchangeKind::VoteAll, Width::Predicate),
            ("any", "pred") => (ExchangeKind::VoteAny, Width::Predicate),
            ("uni", "pred") => (ExchangeKind::VoteUniform, Width::Predicate),
            ("ballot", "b32") => (ExchangeKind::VoteBallot, Width::Word),
            _ => return Err(self.unknown()),
        };
        let dst = self.destination_of(dst, width)?;
        self.of_values(kind, (dst, Row::NONE), (src, Type::Pred), members)
    }

    fn matching(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let ([mode, "sync", ty @ ("b32" | "b64")], [dst, src, members]) = (modifiers, operands) else {
            return Err(self.unknown());
        };
        let kind = match *mode {
            "any" => ExchangeKind::MatchAny,
            "all" => ExchangeKind::MatchAll,
            _ => return Err(self.unknown()),
        };
        let dst = self.pair(dst, Width::Word)?;
        self.of_values(kind, dst, (src, if *ty == "b32" { Type::B32 } else { Type::B64 }), members)
    }

    fn reduction(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let (["sync", operation, ty], [dst, src, members]) = (modifiers, operands) else { return Err(self.unknown()) };
        let (operation, ty) = match (*operation, *ty) {
            ("add", "u32" | "s32") => (AtomicOperation::Add, Type::U32),
            ("min", "u32") => (AtomicOperation::Min, Type::U32),
            ("min", "s32") => (AtomicOperation::Min, Type::S32),
            ("max", "u32") => (AtomicOperation::Max, Type::U32),
            ("max", "s32") => (AtomicOperation::Max, Type::S32),
            ("and", "b32") => (AtomicOperation::And, Type::B32),
            ("or", "b32") => (AtomicOperation::Or, Type::B32),
            ("xor", "b32") => (AtomicOperation::Xor, Type::B32),
            _ => return Err(self.unknown()),
        };
        let dst = self.destination_of(dst, Width::Word)?;
        self.of_values(ExchangeKind::Reduce(operation, ty), (dst, Row::NONE), (src, Type::B32), members)
    }

    /// An operation on a value of each lane.
    fn of_values(
        &mut self,
        kind: ExchangeKind,
        (dst, dst2): (Row, Row),
        (src, ty): (&Operand, Type),
        members: &Operand,
    ) -> Result<()> {
        let (src, members) = (self.source(src, ty)?, self.source(members, Type::U32)?);
        self.push_exchange(Exchange { src, members, dst, dst2, ..blank(kind) }, Kind::Shuffle);
        Ok(())
    }
}

fn blank(kind: ExchangeKind) -> Exchange {
    let none = Row::NONE;
    Exchange { kind, members: none, src: none, dst: none, dst2: none, lane: none, clamp: none }
}
