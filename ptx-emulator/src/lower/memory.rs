//! Loads, stores, atomics and asynchronous copies.

use super::Lowering;
use crate::error::Result;
use crate::parse::ast::{Operand, Space};
use crate::program::{Access, Address, Atomic, AtomicOperation, Code, CopyAsync, Kind, Row};
use crate::registers::Operands;
use crate::types::{Type, Width};

/// Words between opcode and type.
#[derive(Default)]
struct Words {
    space: Option<Space>,
    vector: Option<u32>,
    volatile: bool,
    noncoherent: bool,
    cache_hint: bool,
}

impl Lowering<'_> {
    /// Everything but the type. What steers caches alone has no effect here.
    fn words(&self, modifiers: &[&str]) -> Result<Words> {
        let mut words = Words::default();
        for &modifier in modifiers {
            match modifier {
                "global" => words.space = Some(Space::Global),
                "shared" | "shared::cta" => words.space = Some(Space::Shared),
                "local" => words.space = Some(Space::Local),
                "const" => words.space = Some(Space::Const),
                "param" | "param::entry" | "param::func" => words.space = Some(Space::Param),
                "v2" => words.vector = Some(2),
                "v4" => words.vector = Some(4),
                "v8" => words.vector = Some(8),
                "volatile" | "relaxed" | "acquire" | "release" | "cv" | "wt" | "mmio" => words.volatile = true,
                "nc" => words.noncoherent = true,
                "L2::cache_hint" => words.cache_hint = true,
                "weak" | "cta" | "cluster" | "gpu" | "sys" | "ca" | "cg" | "cs" | "lu" | "wb" | "unified" => {}
                hint if hint.starts_with("L1::") || hint.starts_with("L2::") => {}
                _ => return Err(self.unknown()),
            }
        }
        Ok(words)
    }

    fn global_slot(&mut self, space: Space) -> u32 {
        match space {
            Space::Global | Space::Generic | Space::Const => {
                self.program.global_slots += 1;
                self.program.global_slots - 1
            }
            _ => u32::MAX,
        }
    }

    /// Notes what kind of access a kernel has.
    fn note(&mut self, space: Space, size: u32, synchronising: bool) {
        if matches!(space, Space::Shared | Space::Generic) {
            self.program.granule = self.program.granule.min(size);
        }
        if synchronising && matches!(space, Space::Global | Space::Generic) {
            self.program.communicates = true;
        }
    }

    pub(super) fn load_or_store(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let Some((name, rest)) = modifiers.split_last() else { return Err(self.unknown()) };
        let ty = Type::from_name(name).filter(|ty| ty.width().is_some_and(|width| width != Width::Predicate));
        let ty = ty.ok_or_else(|| self.unknown())?;
        let words = self.words(rest)?;
        let load = opcode != "st";
        let operands = match operands {
            [a, b, _hint] if words.cache_hint => [a, b],
            [a, b] if !words.cache_hint => [a, b],
            _ => return Err(self.bad_operands()),
        };
        let (value, address) = if load { (operands[0], operands[1]) } else { (operands[1], operands[0]) };
        let (address, space, dynamic) = self.address(address, words.space.unwrap_or(Space::Generic))?;
        let values = match (value, words.vector) {
            (Operand::Vector(values), Some(count)) if values.len() == count as usize => &values[..],
            (value, None) if !matches!(value, Operand::Vector(_)) => std::slice::from_ref(value),
            _ => return Err(self.bad_operands()),
        };
        let mut rows = [Row::NONE; 8];
        for (row, value) in rows.iter_mut().zip(values) {
            *row = if load { self.destination(value)? } else { self.any_source(value, ty)? };
            if row.is_some() && (row.width == Width::Predicate || (row.width == Width::Word && ty.bytes() == 8)) {
                return Err(self.bad_operands());
            }
        }
        let slot = self.global_slot(space);
        self.note(space, ty.bytes(), words.volatile);
        let access = Access {
            space,
            address,
            size: ty.bytes(),
            count: values.len() as u32,
            rows,
            signed: ty.is_signed(),
            volatile: words.volatile,
            noncoherent: words.noncoherent || space == Space::Const,
            slot,
        };
        let index = self.program.accesses.len();
        self.program.accesses.push(access);
        if dynamic {
            self.dynamic_accesses.push(index);
        }
        let index = index as u32;
        let code = if load { Code::Load(index) } else { Code::Store(index) };
        let info = self.emit(code, Operands::default(), Kind::Memory);
        let touched = rows.iter().copied().filter(|row| row.is_some());
        if load {
            info.defs.extend(touched)
        } else {
            info.uses.extend(touched)
        }
        info.uses.extend(Some(access.address.row).filter(|row| row.is_some()));
        Ok(())
    }

    pub(super) fn atomic(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let Some((name, rest)) = modifiers.split_last() else { return Err(self.unknown()) };
        let ty = Type::from_name(name).ok_or_else(|| self.unknown())?;
        let mut operation = None;
        let mut words = Vec::new();
        for &modifier in rest {
            match atomic_operation(modifier) {
                Some(found) if operation.is_none() => operation = Some(found),
                _ if modifier == "noftz" || modifier == "acq_rel" => {}
                _ => words.push(modifier),
            }
        }
        let words = self.words(&words)?;
        let operation = operation.filter(|&operation| atomic_allowed(operation, ty)).ok_or_else(|| self.unknown())?;
        if words.vector.is_some() || words.cache_hint {
            return Err(self.unknown());
        }
        let (dst, rest) = match (opcode, operands) {
            ("atom", [dst, rest @ ..]) => (self.destination(dst)?, rest),
            (_, rest) => (Row::NONE, rest),
        };
        let (address, operand, swap) = match (rest, operation) {
            ([address, operand, swap], AtomicOperation::CompareAndSwap) => (address, operand, Some(swap)),
            ([address, operand], operation) if operation != AtomicOperation::CompareAndSwap => (address, operand, None),
            _ => return Err(self.bad_operands()),
        };
        let (address, space, dynamic) = self.address(address, words.space.unwrap_or(Space::Generic))?;
        if !matches!(space, Space::Global | Space::Shared | Space::Generic) || dynamic_without_row(dynamic, &address) {
            return Err(self.unsupported(format!("`{}` on this address", self.at.text)));
        }
        let operand = self.source(operand, ty)?;
        let swap = swap.map_or(Ok(Row::NONE), |swap| self.source(swap, ty))?;
        if dst.is_some() && Some(dst.width) != ty.width() {
            return Err(self.bad_operands());
        }
        let slot = self.global_slot(space);
        self.note(space, ty.bytes(), true);
        self.program.atomics.push(Atomic { space, address, operation, ty, dst, operand, swap, slot });
        let code = Code::Atomic(self.program.atomics.len() as u32 - 1);
        let info = self.emit(code, Operands::default(), Kind::Memory);
        info.uses.extend([address.row, operand, swap].into_iter().filter(|row| row.is_some()));
        info.defs.extend(Some(dst).filter(|row| row.is_some()));
        Ok(())
    }

    /// `cp.async`, its groups and waits.
    pub(super) fn copy_async(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        match (modifiers, operands) {
            (["async", "commit_group"], []) => {
                self.emit(Code::CopyCommit, Operands::default(), Kind::Memory);
            }
            (["async", "wait_group"], [Operand::Integer(groups)]) => {
                let most = u32::try_from(*groups).map_err(|_| self.bad_operands())?;
                self.emit(Code::CopyWait(most), Operands::default(), Kind::Memory);
            }
            // Waits for copies that no commit has gathered, too.
            (["async", "wait_all"], []) => {
                self.emit(Code::CopyCommit, Operands::default(), Kind::Memory);
                self.emit(Code::CopyWait(0), Operands::default(), Kind::Memory);
            }
            (["async", "ca" | "cg", "shared" | "shared::cta", "global", hints @ ..], [dst, src, size, rest @ ..])
                if hints.iter().all(|hint| hint.starts_with("L2::") && *hint != "L2::cache_hint") =>
            {
                return self.copy(dst, src, size, rest);
            }
            _ => return Err(self.unknown()),
        }
        Ok(())
    }

    fn copy(&mut self, dst: &Operand, src: &Operand, size: &Operand, rest: &[Operand]) -> Result<()> {
        let bytes = match (size, self.at.text.contains(".cg.")) {
            (Operand::Integer(16), _) => 16,
            (Operand::Integer(bytes @ (4 | 8)), false) => *bytes as u32,
            _ => return Err(self.bad_operands()),
        };
        let (dst, _, dynamic) = self.address(dst, Space::Shared)?;
        let (src, _, _) = self.address(src, Space::Global)?;
        if dynamic_without_row(dynamic, &dst) {
            return Err(self.unsupported(format!("`{}` on this address", self.at.text)));
        }
        let (mut src_bytes, mut ignore) = (Row::NONE, Row::NONE);
        match rest {
            [] => {}
            [Operand::Name(name)] if self.register_of(name, Width::Predicate).is_ok() => {
                ignore = self.register_of(name, Width::Predicate)?;
            }
            [size] => src_bytes = self.source(size, Type::U32)?,
            _ => return Err(self.bad_operands()),
        }
        let slot = self.global_slot(Space::Global);
        self.program.copies.push(CopyAsync { dst, src, bytes, src_bytes, ignore, slot });
        let code = Code::CopyAsync(self.program.copies.len() as u32 - 1);
        let info = self.emit(code, Operands::default(), Kind::Memory);
        info.uses.extend([dst.row, src.row, src_bytes, ignore].into_iter().filter(|row| row.is_some()));
        Ok(())
    }

    pub(super) fn fence(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let known = match modifiers {
            ["cta" | "gl" | "sys" | "gpu" | "cluster"] => true,
            [order, scope] => {
                matches!(*order, "sc" | "acq_rel" | "acquire" | "release")
                    && matches!(*scope, "cta" | "gpu" | "sys" | "cluster")
            }
            _ => false,
        };
        if !known || !operands.is_empty() {
            return Err(self.unknown());
        }
        self.emit(Code::Fence, Operands::default(), Kind::Memory);
        Ok(())
    }

    /// Instructions that tell the device something and compute nothing.
    pub(super) fn hint(&mut self, opcode: &str, modifiers: &[&str]) -> Result<()> {
        let known = match opcode {
            "nanosleep" => modifiers == ["u32"],
            "pmevent" => modifiers.is_empty() || modifiers == ["mask"],
            _ => modifiers
                .iter()
                .all(|word| matches!(*word, "global" | "local" | "L1" | "L2") || word.starts_with("L2::")),
        };
        if !known {
            return Err(self.unknown());
        }
        self.emit(Code::Nothing, Operands::default(), Kind::Control);
        Ok(())
    }
}

/// Atomics patch no static address of `extern` shared memory: it always comes through a register.
fn dynamic_without_row(dynamic: bool, address: &Address) -> bool {
    dynamic && !address.row.is_some()
}

fn atomic_operation(name: &str) -> Option<AtomicOperation> {
    Some(match name {
        "add" => AtomicOperation::Add,
        "min" => AtomicOperation::Min,
        "max" => AtomicOperation::Max,
        "and" => AtomicOperation::And,
        "or" => AtomicOperation::Or,
        "xor" => AtomicOperation::Xor,
        "exch" => AtomicOperation::Exchange,
        "cas" => AtomicOperation::CompareAndSwap,
        "inc" => AtomicOperation::Increment,
        "dec" => AtomicOperation::Decrement,
        _ => return None,
    })
}

fn atomic_allowed(operation: AtomicOperation, ty: Type) -> bool {
    use AtomicOperation::*;
    match operation {
        Add => matches!(
            ty,
            Type::U32
                | Type::S32
                | Type::U64
                | Type::S64
                | Type::F32
                | Type::F64
                | Type::F16
                | Type::BF16
                | Type::F16x2
                | Type::BF16x2
        ),
        Min | Max => matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64),
        And | Or | Xor => matches!(ty, Type::B32 | Type::B64 | Type::U32 | Type::S32 | Type::U64),
        Exchange => matches!(ty, Type::B32 | Type::B64 | Type::U32 | Type::S32 | Type::U64 | Type::F32),
        CompareAndSwap => matches!(ty, Type::B16 | Type::B32 | Type::B64 | Type::U32 | Type::S32 | Type::U64),
        Increment | Decrement => ty == Type::U32,
    }
}
