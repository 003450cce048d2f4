//! Instructions that only compute.

use super::Lowering;
use crate::error::Result;
use crate::forms;
use crate::parse::ast::Operand;
use crate::program::Row;
use crate::types::{Type, Width};

impl Lowering<'_> {
    pub(super) fn compute(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let Some((first, rest)) = operands.split_first() else { return Err(self.unknown()) };
        let (dst, dst2) = match first {
            Operand::Pair(p, q) => (&**p, Some(&**q)),
            only => (only, None),
        };
        let form = match dst2 {
            Some(_) => forms::select_pair(opcode, modifiers, self.level),
            None if opcode == "cvt" => forms::select_conversion(modifiers, self.register_bits(dst)?, self.level),
            None => forms::select(opcode, modifiers, rest.len(), self.level),
        };
        let form = form.ok_or_else(|| self.unknown())?;
        if form.src.len() != rest.len() {
            let (expected, got) = (form.src.len(), rest.len());
            return Err(self.invalid(format!("`{}` has {got} sources, expected {expected}", self.at.text)));
        }
        let relaxed = opcode == "cvt";
        let mut rows = Vec::with_capacity(rest.len());
        for (operand, &ty) in rest.iter().zip(&form.src) {
            rows.push(if relaxed { self.relaxed_source(operand, ty)? } else { self.source(operand, ty)? });
        }
        let dst2 = match (dst2, form.dst2) {
            (Some(operand), Some(ty)) => self.destination_of(operand, ty.width().unwrap_or(Width::Word))?,
            _ => Row::NONE,
        };
        let width = form.dst.width().unwrap_or(Width::Word);
        let wanted = self.destination(dst)?;
        if relaxed && wanted.is_some() && wanted.width != width {
            let temporary = self.new_row(width);
            self.emit_form(&form, temporary, dst2, &rows);
            return self.widen(form.dst, temporary, wanted);
        }
        let dst = self.destination_of(dst, width)?;
        self.emit_form(&form, dst, dst2, &rows);
        Ok(())
    }

    /// A converted value into a wider register.
    fn widen(&mut self, ty: Type, from: Row, to: Row) -> Result<()> {
        let modifiers = match (to.width, ty.is_signed()) {
            (Width::Long, true) => ["s64", "s32"],
            (Width::Long, false) => ["u64", "u32"],
            _ => return Err(self.bad_operands()),
        };
        let form = self.form("cvt", &modifiers)?;
        self.emit_form(&form, to, Row::NONE, &[from]);
        Ok(())
    }
}
