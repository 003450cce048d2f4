//! Atomic operations: lane after lane, in an order that the adversarial mode draws.

use super::block::Common;
use super::elements::{element, put};
use super::lanes;
use super::places::{Addresses, Touch, offset_in, same_space};
use super::warp::Warp;
use crate::checks::{Kind, Strong};
use crate::findings::FindingKind;
use crate::parse::ast::Space;
use crate::program::{Atomic, AtomicOperation};
use crate::types::Type;
use half::{bf16, f16};

impl Warp {
    pub(super) fn atomic(&mut self, common: &mut Common<'_>, atomic: &Atomic, mask: u32, pc: u32) {
        let mut addresses = self.addresses(&atomic.address);
        let mut left = mask;
        while left != 0 {
            let (space, part) = same_space(atomic.space, left, &mut addresses);
            left &= !part;
            let touch = Touch { pc, mask: part, bytes: atomic.ty.bytes(), write: true };
            match space {
                Space::Shared => self.atomic_shared(common, atomic, touch, &addresses),
                Space::Global => self.atomic_global(common, atomic, touch, &addresses),
                _ => {
                    let (thread, address) = (self.thread(part), addresses[lanes::first(part)]);
                    common.note(FindingKind::OutOfBounds, pc, thread, Some(address), || {
                        "an atomic on local or parameter memory".into()
                    });
                }
            }
        }
    }

    /// The lanes in the order in which they have their turn.
    fn order(common: &mut Common<'_>, mask: u32) -> Vec<usize> {
        let mut order: Vec<usize> = lanes::each(mask).collect();
        if common.random.is_some() {
            for i in (1..order.len()).rev() {
                let j = common.random_below(i as u64 + 1) as usize;
                order.swap(i, j);
            }
        }
        order
    }

    fn atomic_global(&mut self, common: &mut Common<'_>, atomic: &Atomic, touch: Touch, addresses: &Addresses) {
        let (good, _) = self.check_global(common, touch, addresses);
        let memory = common.launch.memory;
        self.note_swap(common, atomic, good, addresses);
        for lane in Self::order(common, good) {
            let Some(allocation) = memory.region(addresses[lane]) else { continue };
            let (offset, size) = (addresses[lane] - allocation.base, touch.bytes);
            let unwritten = common.launch.checks.uninitialised && allocation.is_unwritten(offset, size.into());
            if unwritten && atomic.operation != AtomicOperation::Exchange {
                let thread = self.first_thread() + lane as u32;
                common.note(FindingKind::UninitialisedGlobal, touch.pc, thread, Some(addresses[lane]), || {
                    format!("{size} bytes{}", offset_in(memory, addresses[lane]))
                });
            }
            let before = element(allocation, offset, size);
            put(allocation, offset, size, self.updated(atomic, lane, before));
            allocation.mark_written(offset, size.into(), true);
            self.give_back(atomic, lane, before);
            common.tally.traffic(addresses[lane], size.into(), true);
        }
        let kind = (Kind::Atomic, atomic.release);
        self.note_global(common, atomic.slot, Touch { mask: good, ..touch }, addresses, kind);
    }

    fn atomic_shared(&mut self, common: &mut Common<'_>, atomic: &Atomic, touch: Touch, addresses: &Addresses) {
        let good = self.check_shared(common, touch, addresses);
        let size = touch.bytes as usize;
        self.note_swap(common, atomic, good, addresses);
        for lane in Self::order(common, good) {
            let start = addresses[lane] as usize;
            let mut whole = [0; 8];
            whole[..size].copy_from_slice(&common.shared[start..start + size]);
            let before = u64::from_le_bytes(whole);
            let after = self.updated(atomic, lane, before).to_le_bytes();
            common.shared[start..start + size].copy_from_slice(&after[..size]);
            self.give_back(atomic, lane, before);
        }
        use AtomicOperation::{And, Or, Xor};
        let bits = !atomic.dst.is_some() && matches!(atomic.operation, And | Or | Xor);
        let strong = if bits { Strong::Bits } else { Strong::Update };
        let strong = Some((strong, atomic.release));
        self.note_shared(common, Touch { mask: good, ..touch }, addresses, strong, (0, |_, _| true));
    }

    fn give_back(&mut self, atomic: &Atomic, lane: usize, before: u64) {
        if atomic.dst.is_some() {
            self.registers.set_lane(atomic.dst.width, atomic.dst.index, lane, before);
        }
    }

    fn updated(&self, atomic: &Atomic, lane: usize, before: u64) -> u64 {
        let operand = self.registers.lane(atomic.operand.width, atomic.operand.index, lane);
        match atomic.operation {
            AtomicOperation::CompareAndSwap => {
                let cut =
                    |bits: u64| if atomic.ty.bytes() == 8 { bits } else { bits & ((1 << (8 * atomic.ty.bytes())) - 1) };
                if cut(before) == cut(operand) {
                    self.registers.lane(atomic.swap.width, atomic.swap.index, lane)
                } else {
                    before
                }
            }
            AtomicOperation::Exchange => operand,
            AtomicOperation::And => before & operand,
            AtomicOperation::Or => before | operand,
            AtomicOperation::Xor => before ^ operand,
            AtomicOperation::Increment => {
                if before >= operand {
                    0
                } else {
                    before + 1
                }
            }
            AtomicOperation::Decrement => {
                if before == 0 || before > operand {
                    operand
                } else {
                    before - 1
                }
            }
            AtomicOperation::Add => sum(atomic.ty, before, operand),
            AtomicOperation::Min => {
                if less(atomic.ty, operand, before) {
                    operand
                } else {
                    before
                }
            }
            AtomicOperation::Max => {
                if less(atomic.ty, before, operand) {
                    operand
                } else {
                    before
                }
            }
        }
    }
}

/// Float sums round to nearest even. Those of f32 in global memory flush subnormals on some devices: here they do not.
fn sum(ty: Type, a: u64, b: u64) -> u64 {
    let float = |bits: u64| f32::from_bits(bits as u32);
    let halves = |bits: u64| [bits as u16, (bits >> 16) as u16];
    let f16_sum = |a: u16, b: u16| f16::from_f32(f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32()).to_bits();
    let bf16_sum = |a: u16, b: u16| {
        // Exact in f64, so that one rounding remains.
        bf16::from_f64(f64::from(bf16::from_bits(a).to_f32()) + f64::from(bf16::from_bits(b).to_f32())).to_bits()
    };
    let both = |sum: &dyn Fn(u16, u16) -> u16| {
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        u64::from(sum(a0, b0)) | u64::from(sum(a1, b1)) << 16
    };
    match ty {
        Type::F32 => (float(a) + float(b)).to_bits().into(),
        Type::F64 => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        Type::F16 => f16_sum(a as u16, b as u16).into(),
        Type::BF16 => bf16_sum(a as u16, b as u16).into(),
        Type::F16x2 => both(&f16_sum),
        Type::BF16x2 => both(&bf16_sum),
        _ => a.wrapping_add(b),
    }
}

fn less(ty: Type, a: u64, b: u64) -> bool {
    match ty {
        Type::S32 => (a as i32) < b as i32,
        Type::U32 => (a as u32) < b as u32,
        Type::S64 => (a as i64) < b as i64,
        _ => a < b,
    }
}
