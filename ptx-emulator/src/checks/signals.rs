//! Order within a block that passes through words of memory: a warp that releases into a word orders what it did before
//! whatever a warp does that reads the word later.
//!
//! Releases and acquisitions count for the whole warp, as its `bar.warp.sync` and shuffles carry them from lane to lane.
//! That can hide a race but not invent one.

use super::clocks::{Clocks, Snapshot, WARPS};
use super::lanes;
use std::collections::HashMap;

/// A volatile or atomic access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal<'a> {
    pub warp: usize,
    /// Lanes that take part.
    pub mask: u32,
    /// Addresses, of whatever space: those of two spaces must differ.
    pub addresses: &'a [u64; 32],
    /// Bytes of each lane.
    pub size: u32,
    pub write: bool,
    pub read: bool,
    /// Releases what came before it; others do so for what came before the last fence.
    pub release: bool,
}

impl Signal<'_> {
    /// Words of 4 bytes.
    fn words(&self) -> impl Iterator<Item = u64> + use<'_> {
        lanes(self.mask).flat_map(|lane| {
            let start = self.addresses[lane];
            start >> 2..=start.saturating_add(u64::from(self.size.max(1) - 1)) >> 2
        })
    }
}

/// What words hold, and what each warp released at its last fence.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    words: HashMap<u64, Snapshot>,
    fenced: [Option<Snapshot>; WARPS],
    /// There was a release since the block started.
    used: bool,
}

impl Signals {
    pub fn start_block(&mut self) {
        if self.used {
            *self = Self::default();
        }
    }

    pub fn fence(&mut self, clocks: &mut Clocks, warp: usize) {
        self.used = true;
        self.fenced[warp] = Some(clocks.release(warp));
    }

    pub fn signal(&mut self, clocks: &mut Clocks, signal: &Signal<'_>) {
        self.used |= signal.release;
        if !self.used {
            return;
        }
        if signal.read {
            signal.words().for_each(|word| self.acquire(clocks, signal.warp, word));
        }
        if !signal.write {
            return;
        }
        let released = if signal.release { Some(clocks.release(signal.warp)) } else { self.fenced[signal.warp] };
        for word in signal.words() {
            // Lanes of one update come one after the other.
            if signal.read && signal.mask.count_ones() > 1 {
                self.acquire(clocks, signal.warp, word);
            }
            match released {
                // An update passes on what was released into the word before, a store ends it.
                Some(released) if signal.read => {
                    self.words.entry(word).and_modify(|before| before.join(&released)).or_insert(released);
                }
                Some(released) => drop(self.words.insert(word, released)),
                None if !signal.read => drop(self.words.remove(&word)),
                None => {}
            }
        }
    }

    fn acquire(&self, clocks: &mut Clocks, warp: usize, word: u64) {
        if let Some(released) = self.words.get(&word) {
            clocks.acquire(warp, released);
        }
    }
}
