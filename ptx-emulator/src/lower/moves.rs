//! `mov` with its packing forms, and conversions between address spaces.

use super::Lowering;
use crate::error::Result;
use crate::forms::moves;
use crate::memory::{LOCAL_TAG, PARAM_TAG, SHARED_TAG, TAG_SHIFT};
use crate::parse::ast::Operand;
use crate::program::{Code, Kind, Row};
use crate::registers::Operands;
use crate::types::{Type, Width};

impl Lowering<'_> {
    pub(super) fn mov(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let [name] = modifiers else { return Err(self.unknown()) };
        let ty = Type::from_name(name).ok_or_else(|| self.unknown())?;
        match operands {
            [Operand::Vector(parts), whole] => self.unpack(parts, whole, ty),
            [whole, Operand::Vector(parts)] => self.pack(whole, parts, ty),
            [dst, Operand::Name(name)] if matches!(name.as_str(), "%clock" | "%clock64" | "%globaltimer") => {
                let width = ty.width().ok_or_else(|| self.unknown())?;
                let dst = self.destination_of(dst, width)?;
                let operands = Operands { dst: dst.index, ..Default::default() };
                self.emit(Code::Clock(width), operands, Kind::Control).defs.push(dst);
                Ok(())
            }
            [dst, src] => {
                let form = self.form("mov", modifiers)?;
                let src = self.source(src, ty)?;
                let dst = self.destination_of(dst, src.width)?;
                self.emit_form(&form, dst, Row::NONE, &[src]);
                self.program.info.last_mut().into_iter().for_each(|info| info.moves = true);
                Ok(())
            }
            _ => Err(self.bad_operands()),
        }
    }

    fn part_type(&self, parts: usize, whole: Type) -> Result<Type> {
        match (whole.bytes(), parts) {
            (4, 2) | (8, 4) => Ok(Type::B16),
            (8, 2) => Ok(Type::B32),
            (2, 2) | (4, 4) => Ok(Type::B8),
            _ => Err(self.bad_operands()),
        }
    }

    fn pack(&mut self, dst: &Operand, parts: &[Operand], whole: Type) -> Result<()> {
        let part = self.part_type(parts.len(), whole)?;
        let form = moves::pack(part, whole, self.level).ok_or_else(|| self.unknown())?;
        let rows = parts.iter().map(|operand| self.source(operand, part)).collect::<Result<Vec<_>>>()?;
        let dst = self.destination_of(dst, whole.width().unwrap_or(Width::Word))?;
        self.emit_form(&form, dst, Row::NONE, &rows);
        Ok(())
    }

    fn unpack(&mut self, parts: &[Operand], src: &Operand, whole: Type) -> Result<()> {
        let part = self.part_type(parts.len(), whole)?;
        let mut src = self.source(src, whole)?;
        let rows = parts.iter().map(|operand| self.destination(operand)).collect::<Result<Vec<_>>>()?;
        if rows.contains(&src) {
            // A part that is the whole would change it under the next parts.
            let form = self.form("mov", &[if src.width == Width::Long { "b64" } else { "b32" }])?;
            let copy = self.new_row(src.width);
            self.emit_form(&form, copy, Row::NONE, &[src]);
            src = copy;
        }
        for (index, row) in rows.into_iter().enumerate().filter(|(_, row)| row.is_some()) {
            if part.width() != Some(row.width) {
                return Err(self.bad_operands());
            }
            let form = moves::unpack(part, index as u32, whole, self.level).ok_or_else(|| self.unknown())?;
            self.emit_form(&form, row, Row::NONE, &[src]);
        }
        Ok(())
    }

    /// `cvta` and `isspacep`: generic addresses carry the space in their highest byte.
    pub(super) fn address_conversion(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        if opcode == "isspacep" {
            return self.is_space(modifiers, operands);
        }
        let (to, rest) = match modifiers {
            ["to", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let ([space, "u64"], [dst, src]) = (rest, operands) else { return Err(self.unknown()) };
        let tag = self.tag(space)?;
        let src = self.source(src, Type::U64)?;
        let dst = self.destination_of(dst, Width::Long)?;
        if tag == 0 {
            let form = self.form("mov", &["b64"])?;
            self.emit_form(&form, dst, Row::NONE, &[src]);
            self.program.info.last_mut().into_iter().for_each(|info| info.moves = true);
        } else {
            let form = self.form(if to { "sub" } else { "add" }, &["s64"])?;
            let window = self.constant(Width::Long, tag << TAG_SHIFT);
            self.emit_form(&form, dst, Row::NONE, &[src, window]);
        }
        Ok(())
    }

    fn tag(&self, space: &str) -> Result<u64> {
        Ok(match space {
            "global" | "const" => 0,
            "shared" | "shared::cta" => SHARED_TAG,
            "local" => LOCAL_TAG,
            "param" | "param::entry" => PARAM_TAG,
            _ => return Err(self.unknown()),
        })
    }

    fn is_space(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        // Constant memory is not told from global memory by the address.
        let ([space], [dst, src]) = (modifiers, operands) else { return Err(self.unknown()) };
        let tag = if *space == "const" { return Err(self.unknown()) } else { self.tag(space)? };
        let src = self.source(src, Type::U64)?;
        let dst = self.destination_of(dst, Width::Predicate)?;
        let (shift, compare) = (self.form("shr", &["u64"])?, self.form("setp", &["eq", "u64"])?);
        let (amount, tag) = (self.constant(Width::Word, TAG_SHIFT.into()), self.constant(Width::Long, tag));
        let high = self.new_row(Width::Long);
        self.emit_form(&shift, high, Row::NONE, &[src, amount]);
        self.emit_form(&compare, dst, Row::NONE, &[high, tag]);
        Ok(())
    }
}
