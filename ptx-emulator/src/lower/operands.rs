//! Operands as rows.

use super::scopes::Symbol;
use super::{Dynamic, Lowering};
use crate::error::Result;
use crate::forms::{self, Form};
use crate::parse::ast::{Operand, Space};
use crate::program::{Address, Row, Special};
use crate::types::{Type, Width};

impl Lowering<'_> {
    /// A broadcast row of these bits; `dynamic`: the start of `extern` shared memory is to be added.
    fn constant_row(&mut self, width: Width, bits: u64, dynamic: bool) -> Row {
        let bits = match width {
            Width::Predicate => bits & 1,
            Width::Word => bits & u64::from(u32::MAX),
            Width::Long => bits,
        };
        if let Some(&row) = self.constants.get(&(width, bits, dynamic)) {
            return row;
        }
        let row = self.new_row(width);
        if dynamic {
            self.dynamic.push(Dynamic::Constant(self.program.constants.len()));
        }
        self.program.constants.push((row, bits));
        self.constants.insert((width, bits, dynamic), row);
        row
    }

    pub(super) fn constant(&mut self, width: Width, bits: u64) -> Row {
        self.constant_row(width, bits, false)
    }

    pub(super) fn special(&mut self, special: Special) -> Row {
        if let Some(&index) = self.specials.get(&special) {
            return Row { width: Width::Word, index };
        }
        let row = self.new_row(Width::Word);
        self.specials.insert(special, row.index);
        self.program.specials.push((special, row.index));
        row
    }

    /// The row of a source operand of this type, whatever its width: a register, a special register, an immediate,
    /// the address of a variable.
    pub(super) fn any_source(&mut self, operand: &Operand, ty: Type) -> Result<Row> {
        let width = ty.width().ok_or_else(|| self.unknown())?;
        match operand {
            Operand::Name(name) if name.starts_with('%') && special(name).is_some() => {
                let special = special(name).unwrap_or(Special::Zero);
                Ok(self.special(special))
            }
            Operand::Name(name) => match self.lookup(name)? {
                Symbol::Register(row, _) => Ok(row),
                symbol => self.symbol_row(&symbol, 0, width),
            },
            Operand::Offset(name, offset) => {
                let symbol = self.lookup(name)?;
                self.symbol_row(&symbol, *offset, width)
            }
            Operand::Not(name) if ty == Type::Pred => {
                let row = self.register_of(name, Width::Predicate)?;
                self.negated(row)
            }
            Operand::Integer(value) => Ok(self.constant(width, integer_bits(*value, ty))),
            Operand::Float32(bits) => {
                let bits = float32_bits(*bits, ty).ok_or_else(|| self.bad_operands())?;
                Ok(self.constant(width, bits))
            }
            Operand::Float64(bits) => {
                let bits = float64_bits(*bits, ty).ok_or_else(|| self.bad_operands())?;
                Ok(self.constant(width, bits))
            }
            _ => Err(self.bad_operands()),
        }
    }

    /// The row of a source operand, of exactly the width of its type.
    pub(super) fn source(&mut self, operand: &Operand, ty: Type) -> Result<Row> {
        let row = self.any_source(operand, ty)?;
        match ty.width() {
            Some(width) if width == row.width => Ok(row),
            _ => Err(self.invalid(format!("an operand of `{}` has the wrong width", self.at.text))),
        }
    }

    /// As [`Self::source`], but a wider register is cut, and a narrower one extended, to the type's width.
    pub(super) fn relaxed_source(&mut self, operand: &Operand, ty: Type) -> Result<Row> {
        let row = self.any_source(operand, ty)?;
        match (row.width, ty.width()) {
            (have, Some(want)) if have == want => Ok(row),
            (Width::Long, Some(Width::Word)) => self.converted(row, "u32", "u64", Width::Word),
            (Width::Word, Some(Width::Long)) => self.converted(row, "u64", "u32", Width::Long),
            _ => Err(self.bad_operands()),
        }
    }

    /// A temporary with the row's value in another width.
    pub(super) fn converted(&mut self, row: Row, to: &str, from: &str, width: Width) -> Result<Row> {
        let form = self.form("cvt", &[to, from])?;
        let temporary = self.new_row(width);
        self.emit_form(&form, temporary, Row::NONE, &[row]);
        Ok(temporary)
    }

    /// A temporary with the negated predicate.
    pub(super) fn negated(&mut self, row: Row) -> Result<Row> {
        let form = self.form("not", &["pred"])?;
        let temporary = self.new_row(Width::Predicate);
        self.emit_form(&form, temporary, Row::NONE, &[row]);
        Ok(temporary)
    }

    /// A form that must exist.
    pub(super) fn form(&self, opcode: &str, modifiers: &[&str]) -> Result<Form> {
        forms::select(opcode, modifiers, 0, self.level).ok_or_else(|| {
            let name = std::iter::once(opcode).chain(modifiers.iter().copied()).collect::<Vec<_>>().join(".");
            self.unsupported(format!("`{name}`"))
        })
    }

    /// The address of a variable as a row.
    fn symbol_row(&mut self, symbol: &Symbol, offset: i64, width: Width) -> Result<Row> {
        let plus = |base: u64| base.wrapping_add_signed(offset);
        match *symbol {
            Symbol::Shared(at) => Ok(self.constant(width, plus(at.into()))),
            Symbol::DynamicShared => Ok(self.constant_row(width, plus(0), true)),
            Symbol::Local(at) | Symbol::Param(at) => Ok(self.constant(width, plus(at.into()))),
            Symbol::Global(address) => Ok(self.constant(width, plus(address))),
            Symbol::Register(..) | Symbol::Targets(_) => Err(self.bad_operands()),
        }
    }

    /// A register to write; `_` is nowhere.
    pub(super) fn destination(&mut self, operand: &Operand) -> Result<Row> {
        match operand {
            Operand::Sink => Ok(Row::NONE),
            Operand::Name(name) => match self.lookup(name)? {
                Symbol::Register(row, _) => Ok(row),
                _ => Err(self.invalid(format!("`{name}` is no register, and `{}` writes it", self.at.text))),
            },
            _ => Err(self.bad_operands()),
        }
    }

    /// A register to write, of this width; `_` becomes a temporary.
    pub(super) fn destination_of(&mut self, operand: &Operand, width: Width) -> Result<Row> {
        let row = self.destination(operand)?;
        match row {
            Row::NONE => Ok(self.new_row(width)),
            row if row.width == width => Ok(row),
            _ => Err(self.invalid(format!("the destination of `{}` has the wrong width", self.at.text))),
        }
    }

    /// `[a + b]`, the space it lies in where the symbol tells, and whether `extern` shared memory is meant.
    pub(super) fn address(&mut self, operand: &Operand, space: Space) -> Result<(Address, Space, bool)> {
        let Operand::Address { base, offset } = operand else { return Err(self.bad_operands()) };
        let Some(base) = base else {
            return Ok((Address { row: Row::NONE, offset: *offset }, space, false));
        };
        let symbol = self.lookup(base)?;
        let fits = match symbol {
            Symbol::Shared(_) | Symbol::DynamicShared => space == Space::Shared,
            // Parameters of calls lie in local memory.
            Symbol::Local(_) => matches!(space, Space::Local | Space::Param),
            Symbol::Param(_) => space == Space::Param,
            Symbol::Global(_) => matches!(space, Space::Global | Space::Const),
            Symbol::Register(..) | Symbol::Targets(_) => true,
        };
        if space != Space::Generic && !fits {
            return Err(self.invalid(format!("`{base}` does not lie in the space that `{}` names", self.at.text)));
        }
        let known = |at: u64| Address { row: Row::NONE, offset: (at as i64).wrapping_add(*offset) };
        Ok(match symbol {
            Symbol::Register(row, _) if row.width != Width::Predicate => {
                // Parameters of a called function lie in local memory.
                let inlined = space == Space::Param && self.calls.len() > 1;
                let space = if inlined { Space::Local } else { space };
                (Address { row, offset: *offset }, space, false)
            }
            Symbol::Shared(at) => (known(at.into()), Space::Shared, false),
            Symbol::DynamicShared => (known(0), Space::Shared, true),
            Symbol::Local(at) => (known(at.into()), Space::Local, false),
            Symbol::Param(at) => (known(at.into()), Space::Param, false),
            Symbol::Global(address) => (known(address), Space::Global, false),
            Symbol::Register(..) | Symbol::Targets(_) => return Err(self.bad_operands()),
        })
    }
}

/// An integer literal as an operand of a type.
fn integer_bits(value: u64, ty: Type) -> u64 {
    match ty {
        // `mov.f32 %f, 1;` is not PTX, but constants such as 0 for f32 operands are taken as values.
        Type::F32 => u64::from((value as i64 as f32).to_bits()),
        Type::F64 => (value as i64 as f64).to_bits(),
        Type::Pred => u64::from(value != 0),
        _ => value,
    }
}

/// A literal of single precision: a value, or bits for operands of 32 untyped bits.
fn float32_bits(bits: u32, ty: Type) -> Option<u64> {
    match ty {
        Type::F64 => Some(f64::from(f32::from_bits(bits)).to_bits()),
        _ if ty.bytes() == 4 => Some(bits.into()),
        _ => None,
    }
}

/// A literal of double precision, or a decimal one.
fn float64_bits(bits: u64, ty: Type) -> Option<u64> {
    let value = f64::from_bits(bits);
    match ty {
        Type::F32 => Some((value as f32).to_bits().into()),
        _ if ty.bytes() == 8 => Some(bits),
        _ => None,
    }
}

/// The special register of a name.
fn special(name: &str) -> Option<Special> {
    let axis = |name: &str| ["x", "y", "z"].iter().position(|&axis| axis == name);
    let (base, suffix) = name.split_once('.').unwrap_or((name, ""));
    Some(match base {
        "%tid" => Special::Thread(axis(suffix)?),
        "%ntid" => Special::BlockSize(axis(suffix)?),
        "%ctaid" => Special::Block(axis(suffix)?),
        "%nctaid" => Special::GridSize(axis(suffix)?),
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%lanemask_eq" => Special::LaneMaskEq,
        "%lanemask_lt" => Special::LaneMaskLt,
        "%lanemask_le" => Special::LaneMaskLe,
        "%lanemask_gt" => Special::LaneMaskGt,
        "%lanemask_ge" => Special::LaneMaskGe,
        "%smid" | "%gridid" | "%clock_hi" => Special::Zero,
        "%nsmid" => Special::One,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        _ => return None,
    })
}
