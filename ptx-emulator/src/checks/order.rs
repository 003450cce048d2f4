//! Order between blocks: what fences, atomics and flags pass from one block to another.
//!
//! A block counts epochs, one for each fence. What it did before a fence is released by the synchronising writes after
//! the fence, and acquired by whoever reads the word that was written, together with all that the releasing block knew.

use std::collections::HashMap;
use std::sync::Arc;

const CHUNK: usize = 64;

/// For each block the epoch up to which its accesses are known; 0 for none. Copies share what they have in common:
/// where blocks wait for their predecessors, each knows all those before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Knowledge {
    chunks: Vec<Option<Arc<[u32; CHUNK]>>>,
}

impl Knowledge {
    pub fn of(&self, block: u32) -> u32 {
        let chunk = self.chunks.get(block as usize / CHUNK).and_then(Option::as_ref);
        chunk.map_or(0, |chunk| chunk[block as usize % CHUNK])
    }

    fn raise(&mut self, block: u32, epoch: u32) {
        let index = block as usize / CHUNK;
        if self.chunks.len() <= index {
            self.chunks.resize(index + 1, None);
        }
        let chunk = Arc::make_mut(self.chunks[index].get_or_insert_with(|| Arc::new([0; CHUNK])));
        let known = &mut chunk[block as usize % CHUNK];
        *known = (*known).max(epoch);
    }

    /// Adds what another knows; false if that is nothing new.
    fn join(&mut self, other: &Self) -> bool {
        if self.chunks.len() < other.chunks.len() {
            self.chunks.resize(other.chunks.len(), None);
        }
        let mut new = false;
        for (mine, theirs) in self.chunks.iter_mut().zip(&other.chunks) {
            let Some(theirs) = theirs else { continue };
            match mine {
                Some(mine) if Arc::ptr_eq(mine, theirs) || covers(mine, theirs) => continue,
                Some(mine) if !covers(theirs, mine) => {
                    for (mine, theirs) in Arc::make_mut(mine).iter_mut().zip(theirs.iter()) {
                        *mine = (*mine).max(*theirs);
                    }
                }
                _ => *mine = Some(Arc::clone(theirs)),
            }
            new = true;
        }
        new
    }
}

fn covers(more: &[u32; CHUNK], less: &[u32; CHUNK]) -> bool {
    more.iter().zip(less).all(|(more, less)| more >= less)
}

/// What the words of global memory pass on. One for a launch whose blocks run in a known order.
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncState {
    /// By address of 4 bytes.
    words: HashMap<u64, Knowledge>,
}

/// When accesses happened: in which epoch of their block, and knowing what of others.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub epoch: u32,
    pub known: Knowledge,
}

impl Stamp {
    fn first() -> Self {
        Self { epoch: 1, known: Knowledge::default() }
    }
}

/// Where a block stands.
#[derive(Clone, Debug)]
pub(super) struct BlockOrder {
    block: u32,
    /// The last is the present.
    stamps: Vec<Stamp>,
    /// What the last fence released.
    fenced: Option<Knowledge>,
    /// Something was recorded under the present stamp.
    recorded: bool,
    /// Something was recorded in the present epoch.
    unfenced: bool,
}

impl BlockOrder {
    pub fn new(block: u32) -> Self {
        Self { block, stamps: vec![Stamp::first()], fenced: None, recorded: false, unfenced: false }
    }

    /// The index of the stamp of an access made now.
    #[inline]
    pub fn stamp(&mut self) -> u32 {
        self.recorded = true;
        self.unfenced = true;
        (self.stamps.len() - 1) as u32
    }

    /// All stamps of the block, which starts anew as another.
    pub fn finish(&mut self) -> (u32, Vec<Stamp>) {
        let done = std::mem::replace(self, Self::new(self.block));
        (done.block, done.stamps)
    }

    /// The stamp to change: the present one as long as nothing has it.
    fn next(&mut self) -> &mut Stamp {
        if std::mem::take(&mut self.recorded) {
            let copy = self.present().clone();
            self.stamps.push(copy);
        }
        self.present()
    }

    fn present(&mut self) -> &mut Stamp {
        let last = self.stamps.len() - 1;
        &mut self.stamps[last]
    }

    pub fn fence(&mut self) {
        let block = self.block;
        let advance = u32::from(std::mem::take(&mut self.unfenced));
        let stamp = if advance == 0 { self.present() } else { self.next() };
        stamp.epoch = stamp.epoch.saturating_add(advance);
        let mut released = stamp.known.clone();
        released.raise(block, stamp.epoch - 1);
        self.fenced = Some(released);
    }

    pub fn synchronise(&mut self, state: &mut SyncState, (address, size): (u64, u32), write: bool, read: bool) {
        if self.fenced.is_none() && state.words.is_empty() {
            return;
        }
        let last = address.saturating_add(u64::from(size.max(1) - 1));
        for word in address >> 2..=last >> 2 {
            if read && let Some(released) = state.words.get(&word) {
                self.acquire(released);
            }
            match (&self.fenced, write, read) {
                // A plain store ends what was released into the word before; an update passes it on.
                (None, true, false) => drop(state.words.remove(&word)),
                (Some(fenced), true, false) => drop(state.words.insert(word, fenced.clone())),
                (Some(fenced), true, true) => {
                    state.words.entry(word).or_default().join(fenced);
                }
                _ => (),
            }
        }
    }

    fn acquire(&mut self, released: &Knowledge) {
        let mut known = self.present().known.clone();
        if known.join(released) {
            self.next().known = known;
        }
    }
}
