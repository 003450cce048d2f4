//! Loads, stores, atomics and asynchronous copies.

use super::words::{Owner, Words, words};
use super::{Dynamic, Lowering};
use crate::error::Result;
use crate::parse::ast::{Operand, Space};
use crate::program::{Access, Atomic, AtomicOperation, Code, CopyAsync, Kind, NONE, Release, Row};
use crate::registers::Operands;
use crate::types::{Type, Width};

impl Lowering<'_> {
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
        let load = opcode != "st";
        let words = words(if load { Owner::Load } else { Owner::Store }, rest).ok_or_else(|| self.unknown())?;
        let ty = Type::from_name(name).filter(|&ty| in_memory(ty, words.vector.unwrap_or(1), words.space));
        let ty = ty.ok_or_else(|| self.unknown())?;
        if opcode == "ldu" && words != (Words { space: words.space, vector: words.vector, ..Default::default() }) {
            return Err(self.unknown());
        }
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
            release: words.release,
            noncoherent: words.noncoherent || space == Space::Const,
            slot,
            guess: NONE,
        };
        let index = self.program.accesses.len();
        self.program.accesses.push(access);
        if dynamic {
            self.dynamic.push(Dynamic::Access(index));
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
        let mut left = Vec::new();
        for &modifier in rest {
            match atomic_operation(modifier) {
                Some(found) if operation.is_none() => operation = Some(found),
                _ if modifier == "noftz" && matches!(ty, Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2) => {}
                _ => left.push(modifier),
            }
        }
        let words = words(Owner::Atomic, &left).filter(|words| !words.cache_hint).ok_or_else(|| self.unknown())?;
        let operation = operation.filter(|&operation| atomic_allowed(opcode, operation, ty));
        let operation = operation.ok_or_else(|| self.unknown())?;
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
        if !matches!(space, Space::Global | Space::Shared | Space::Generic) {
            return Err(self.unsupported(format!("`{}` on this address", self.at.text)));
        }
        let operand = self.source(operand, ty)?;
        let swap = swap.map_or(Ok(Row::NONE), |swap| self.source(swap, ty))?;
        if dst.is_some() && Some(dst.width) != ty.width() {
            return Err(self.bad_operands());
        }
        let slot = self.global_slot(space);
        self.note(space, ty.bytes(), true);
        if dynamic {
            self.dynamic.push(Dynamic::Atomic(self.program.atomics.len()));
        }
        let release = words.release;
        self.program.atomics.push(Atomic { space, address, operation, ty, dst, operand, swap, release, slot });
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
        if dynamic {
            self.dynamic.push(Dynamic::Copy(self.program.copies.len()));
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
        let scope = match modifiers {
            [scope] | ["sc" | "acq_rel" | "acquire" | "release", scope] => *scope,
            _ => return Err(self.unknown()),
        };
        let release = match scope {
            "cta" => Release::Block,
            "gpu" | "sys" | "cluster" => Release::Device,
            "gl" if modifiers.len() == 1 => Release::Device,
            _ => return Err(self.unknown()),
        };
        if !operands.is_empty() {
            return Err(self.unknown());
        }
        self.emit(Code::Fence(release), Operands::default(), Kind::Memory);
        Ok(())
    }

    /// Instructions that tell the device something and compute nothing.
    pub(super) fn hint(&mut self, opcode: &str, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        let row = match (opcode, modifiers, operands) {
            ("nanosleep", ["u32"], [time]) => self.source(time, Type::U32)?,
            ("prefetch", ["L1" | "L2"], [address])
            | ("prefetch", ["global" | "local", "L1" | "L2"], [address])
            | ("prefetch", ["global", "L2::evict_last" | "L2::evict_normal"], [address])
            | ("prefetchu", ["L1"], [address]) => self.address(address, Space::Generic)?.0.row,
            ("pmevent", [], [Operand::Integer(0..=15)]) | ("pmevent", ["mask"], [Operand::Integer(0..=0xffff)]) => {
                Row::NONE
            }
            _ => return Err(self.unknown()),
        };
        self.emit(Code::Nothing, Operands::default(), Kind::Control).uses.extend(Some(row).filter(|row| row.is_some()));
        Ok(())
    }
}

/// Types that memory has, and vectors that one access moves: 16 bytes, or 32 of global memory.
fn in_memory(ty: Type, count: u32, space: Option<Space>) -> bool {
    let known = match ty {
        Type::Pred | Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2 | Type::B128 => false,
        _ => count < 8 || ty.bytes() == 4,
    };
    let most = if matches!(space, None | Some(Space::Global)) { 32 } else { 16 };
    known && ty.bytes() * count <= most
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

fn atomic_allowed(opcode: &str, operation: AtomicOperation, ty: Type) -> bool {
    use AtomicOperation::*;
    match operation {
        Exchange | CompareAndSwap if opcode == "red" => false,
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
        And | Or | Xor => matches!(ty, Type::B32 | Type::B64),
        Exchange => matches!(ty, Type::B32 | Type::B64),
        CompareAndSwap => matches!(ty, Type::B16 | Type::B32 | Type::B64),
        Increment | Decrement => ty == Type::U32,
    }
}
