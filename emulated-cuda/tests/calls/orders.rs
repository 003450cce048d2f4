use crate::{Alone, add, code, download, kernel, ok, upload};
use emulated_cuda::context::cuCtxSynchronize;
use emulated_cuda::copy::cuMemcpyDtoDAsync_v2;
use emulated_cuda::edge::Handle;
use emulated_cuda::event::*;
use emulated_cuda::stream::*;

const STREAMS: usize = 4;
const BUFFERS: usize = 5;

/// Numbers that look drawn.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Runs steps in several streams that read one buffer and write another, each ordered by events after whoever wrote or read
/// what it touches, but for one in `dropped` steps, which waits for nobody. Says whether the result is that of the order in
/// which they were enqueued.
fn run(seed: u64, dropped: Option<usize>, blocking: bool) -> bool {
    let _alone = Alone::enter();
    let (add_to, mut drawn) = (kernel("add"), Drawn(seed));
    let mut expected: Vec<u32> = (0..BUFFERS as u32).collect();
    let buffers: Vec<u64> = expected.iter().map(|&value| upload(&[value; 8])).collect();
    let streams: Vec<Handle> = (0..STREAMS)
        .map(|number| {
            let mut stream = 0;
            // The default stream is one of them, where they are blocking.
            if !blocking || number > 0 {
                ok!(cuStreamCreate((&mut stream).into(), u32::from(!blocking)));
            }
            stream
        })
        .collect();
    // Of each buffer: the event of its last writer, and those of its readers since.
    let mut used: Vec<Vec<Handle>> = vec![Vec::new(); BUFFERS];
    for _ in 0..60 {
        let (stream, from, to) = (streams[drawn.below(STREAMS)], drawn.below(BUFFERS), drawn.below(BUFFERS));
        let more = drawn.below(9) as u32;
        let waits = dropped.is_none_or(|one_in| drawn.below(one_in) > 0);
        for &event in used[from].iter().chain(&used[to]).filter(|_| waits) {
            ok!(cuStreamWaitEvent(stream, event, 0));
        }
        if more == 0 && from != to {
            ok!(cuMemcpyDtoDAsync_v2(buffers[to], buffers[from], 32, stream));
        } else {
            add(add_to, buffers[to], buffers[from], more, stream);
        }
        expected[to] = expected[from] + more;
        let mut event = 0;
        ok!(cuEventCreate((&mut event).into(), 2));
        ok!(cuEventRecord(event, stream));
        used[from].push(event);
        used[to] = vec![event];
        match drawn.below(12) {
            0 => ok!(cuStreamSynchronize(streams[drawn.below(STREAMS)])),
            1 => assert!(matches!(code!(cuEventQuery(event)), 0 | 600)),
            _ => {}
        }
    }
    ok!(cuCtxSynchronize());
    buffers.iter().zip(expected).all(|(&buffer, expected)| download(buffer, 8) == [expected; 8])
}

#[test]
fn what_is_ordered_comes_in_order() {
    for seed in 0..25 {
        assert!(run(seed, None, false) && run(seed, None, true), "seed {seed}");
    }
}

#[test]
fn what_is_not_ordered_shows() {
    let wrong = (0..25).filter(|&seed| !run(seed, Some(4), false)).count();
    assert!(wrong >= 20, "a step in four that waits for nobody changed {wrong} of 25 results");
}
