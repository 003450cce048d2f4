//! What accesses tell the checks and the counters.

use super::block::Common;
use super::lanes;
use super::places::{Addresses, Touch};
use super::warp::Warp;
use crate::checks::{Conflict, ConflictKind, GlobalAccess, Kind, SharedAccess, Signal, Strong};
use crate::findings::FindingKind;
use crate::program::Release;
use crate::registers::LANES;

impl Warp {
    /// For the race check between blocks and the counters.
    #[inline(always)]
    pub(super) fn note_global(
        &self,
        common: &mut Common<'_>,
        slot: u32,
        touch: Touch,
        addresses: &Addresses,
        (kind, release): (Kind, Release),
    ) {
        if touch.mask == 0 {
            return;
        }
        if common.launch.counting {
            common.tally.global(touch, addresses);
        }
        let strong = matches!(kind, Kind::StrongRead | Kind::Atomic);
        if strong {
            let (write, read) = (kind == Kind::Atomic, true);
            self.signal(common, touch, addresses, (write, read, release != Release::None));
        }
        let Some(log) = &mut common.log else { return };
        log.record(&GlobalAccess {
            slot: slot as usize,
            instruction: touch.pc,
            warp: self.index as usize,
            mask: touch.mask,
            // What memory holds may depend on which block came first: a write is one whatever it writes.
            same: 0,
            addresses,
            size: touch.bytes,
            kind,
        });
        if release == Release::Device {
            log.fence();
        }
        if strong {
            // A volatile store counts as reading, too: what is acquired too much hides a race and invents none.
            for lane in lanes::each(touch.mask) {
                let word = (addresses[lane], touch.bytes);
                log.synchronise(&mut common.sync, word, kind == Kind::Atomic, true);
            }
        }
    }

    /// For the race check within the block and the counters.
    #[inline(always)]
    pub(super) fn note_shared(
        &self,
        common: &mut Common<'_>,
        mut touch: Touch,
        addresses: &Addresses,
        strong: Option<(Strong, Release)>,
        (same, differ): (u32, impl Fn(usize, usize) -> bool),
    ) {
        if touch.mask == 0 {
            return;
        }
        if common.launch.counting {
            common.tally.shared(touch, addresses);
        }
        if !common.copies.none() {
            touch.mask &= !self.check_pending(common, touch, addresses);
        }
        let Some(shadow) = common.shadow.as_mut().filter(|_| touch.mask != 0) else { return };
        let offsets: [u32; LANES] = std::array::from_fn(|lane| addresses[lane] as u32);
        let warp = self.index as usize;
        let access =
            SharedAccess { warp, mask: touch.mask, offsets: &offsets, size: touch.bytes, instruction: touch.pc };
        let mut conflicts = Vec::new();
        match strong {
            Some((strong, _)) => shadow.atomic(&access, strong, &mut conflicts),
            None if touch.write => {
                shadow.write(&access, same, differ, &mut conflicts);
            }
            None => shadow.read(&access, &mut conflicts),
        }
        if !conflicts.is_empty() {
            self.report_conflicts(common, touch.pc, &conflicts);
        }
        if let Some((strong, release)) = strong {
            let (write, read) = (strong != Strong::Load, strong != Strong::Store);
            self.signal(common, touch, addresses, (write, read, release != Release::None));
        }
    }

    /// What passes order between the warps of the block.
    fn signal(
        &self,
        common: &mut Common<'_>,
        touch: Touch,
        addresses: &Addresses,
        (write, read, release): (bool, bool, bool),
    ) {
        if let Some(shadow) = &mut common.shadow {
            let warp = self.index as usize;
            shadow.signal(&Signal { warp, mask: touch.mask, addresses, size: touch.bytes, write, read, release });
        }
    }

    /// A fence of some lanes counts for the warp.
    pub(super) fn fence(&self, common: &mut Common<'_>, mask: u32, release: Release) {
        if mask == 0 {
            return;
        }
        if let Some(shadow) = &mut common.shadow {
            shadow.fence(self.index as usize);
        }
        if let Some(log) = common.log.as_mut().filter(|_| release == Release::Device) {
            log.fence();
        }
    }

    #[cold]
    pub(super) fn report_conflicts(&self, common: &mut Common<'_>, pc: u32, conflicts: &[Conflict]) {
        let (checks, program) = (common.launch.checks, common.launch.program);
        for conflict in conflicts {
            let (thread, address) = (self.first_thread() + conflict.lane, Some(conflict.offset.into()));
            match conflict.kind {
                ConflictKind::Uninitialised if checks.uninitialised => {
                    common.note(FindingKind::UninitialisedShared, pc, thread, address, || {
                        format!("shared memory{}", program.shared.place(conflict.offset.into()))
                    });
                }
                ConflictKind::Race { other_warp, other_lane, other_instruction, other_was_write } if checks.races => {
                    let (load, other) = if other_was_write { (pc, other_instruction) } else { (other_instruction, pc) };
                    let detail = || {
                        let who = match other_lane {
                            Some(lane) => format!("thread {}", other_warp * LANES as u32 + lane),
                            None => format!("several lanes of warp {other_warp}"),
                        };
                        let what = if other_was_write { "written" } else { "read" };
                        let info = &program.info[other_instruction as usize];
                        let source = info.location.map_or_else(String::new, |at| format!(", source line {}", at.line));
                        let place = format!("PTX line {} ({}){source}", info.line, info.text);
                        let variable = program.shared.place(conflict.offset.into());
                        format!("{what} by {who} at {place}, with no barrier between{variable}")
                    };
                    common.races_of(load, other).note(FindingKind::SharedRace, pc, thread, address, detail);
                }
                _ => {}
            }
        }
    }
}
