//! What words of memory pass on from warp to warp.

use super::shared_tests::{Bench, row};
use super::signals::Signal;

impl Bench {
    /// A lane of a warp stores to a word, or reads it, or both.
    fn signal(&mut self, warp: usize, word: u64, (write, read): (bool, bool), release: bool) {
        let addresses = [4 * word; 32];
        self.shadow.signal(&Signal { warp, mask: 1, addresses: &addresses, size: 4, write, read, release });
    }
}

const LOAD: (bool, bool) = (false, true);
const STORE: (bool, bool) = (true, false);
const UPDATE: (bool, bool) = (true, true);

#[test]
fn a_word_passes_on_what_was_released_into_it() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, u32::MAX, row, 4), []);
    bench.signal(0, 7, STORE, false);
    bench.signal(1, 7, LOAD, false);
    assert_eq!(bench.read(1, 1, row, 4).len(), 1, "nothing was released");
    bench.shadow.fence(0);
    assert_eq!(bench.write(0, 2, row, 4), []);
    bench.signal(0, 7, STORE, false);
    bench.signal(2, 8, LOAD, false);
    assert_eq!(bench.read(2, 1, row, 4).len(), 1, "another word");
    bench.signal(2, 7, UPDATE, false);
    assert_eq!(bench.read(2, 1, row, 4), []);
    assert_eq!(bench.read(2, 2, row, 4).len(), 1, "after the fence");
    // An update leaves what the word passes on, a store does not.
    bench.signal(3, 7, LOAD, false);
    assert_eq!(bench.read(3, 4, row, 4), []);
    bench.signal(2, 7, STORE, false);
    bench.signal(1, 7, LOAD, false);
    assert_eq!(bench.read(1, 8, row, 4).len(), 1);
}

#[test]
fn a_release_passes_on_what_its_warp_has_acquired_and_ends_with_the_block() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, u32::MAX, row, 4), []);
    bench.signal(0, 7, UPDATE, true);
    bench.signal(1, 7, UPDATE, true);
    bench.signal(1, 9, STORE, true);
    bench.signal(2, 9, LOAD, false);
    assert_eq!(bench.read(2, u32::MAX, row, 4), []);
    bench.shadow.start_block();
    assert_eq!(bench.write(0, u32::MAX, row, 4), []);
    bench.signal(2, 9, LOAD, false);
    assert_eq!(bench.read(2, 1, row, 4).len(), 1);
}
