use crate::{Alone, add, alloc, code, counter, download, kernel, ok, upload};
use emulated_cuda::context::{cuCtxCreate_v2, cuCtxDestroy_v2, cuCtxSetCurrent, cuCtxSynchronize};
use emulated_cuda::copy::*;
use emulated_cuda::edge::Handle;
use emulated_cuda::event::*;
use emulated_cuda::launch::cuLaunchHostFunc;
use emulated_cuda::memory::*;
use emulated_cuda::stream::*;
use std::sync::atomic::{AtomicU32, Ordering};

fn stream(flags: u32) -> Handle {
    let mut stream = 0;
    ok!(cuStreamCreate((&mut stream).into(), flags));
    stream
}

fn event(flags: u32) -> Handle {
    let mut event = 0;
    ok!(cuEventCreate((&mut event).into(), flags));
    event
}

/// Words of pinned memory, which copies write when they run.
struct Pinned(usize);

impl Pinned {
    fn new() -> Self {
        let mut place = 0;
        ok!(cuMemHostAlloc((&mut place).into(), 32, 0));
        Self(place)
    }

    fn first(&self) -> u32 {
        // SAFETY: pinned for as long as this lives; nothing else writes it meanwhile.
        unsafe { std::ptr::with_exposed_provenance::<u32>(self.0).read_volatile() }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        ok!(cuMemFreeHost(self.0));
    }
}

#[test]
fn nothing_runs_before_somebody_waits() {
    let _alone = Alone::enter();
    let (add_to, address, pinned) = (kernel("add"), upload(&[1; 8]), Pinned::new());
    let (one, launches, synchronisations) = (stream(1), counter("launches"), counter("synchronisations"));
    add(add_to, address, address, 1, one);
    ok!(cuMemcpyDtoHAsync_v2(pinned.0, address, 32, one));
    add(add_to, address, address, 1, one);
    // A blocking copy on the default stream does not wait for a stream that is not blocking.
    assert_eq!(download(address, 8), [1; 8]);
    assert_eq!((counter("launches"), counter("synchronisations")), (launches, synchronisations + 1));
    assert_eq!(pinned.first(), 0);
    ok!(cuStreamSynchronize(one));
    assert_eq!((pinned.first(), download(address, 8)), (2, vec![3; 8]));
    assert_eq!(counter("launches"), launches + 2);
}

#[test]
fn the_default_stream_waits_for_blocking_ones_and_they_for_it() {
    let _alone = Alone::enter();
    let (add_to, address) = (kernel("add"), upload(&[1; 8]));
    let (one, two) = (stream(0), stream(0));
    add(add_to, address, address, 1, one);
    assert_eq!(download(address, 8), [2; 8], "the copy waits for the blocking stream");
    ok!(cuMemsetD32_v2(address, 10, 8));
    add(add_to, address, address, 1, two);
    ok!(cuStreamSynchronize(two));
    assert_eq!(download(address, 8), [11; 8], "the fill came first");
    // Handles 1 and 2 are the default stream and that of the thread, which is blocking.
    ok!(cuMemsetD32Async(address, 20, 8, 2));
    ok!(cuMemsetD32Async(address, 30, 4, 1));
    ok!(cuStreamSynchronize(0));
    assert_eq!(download(address, 8), [30, 30, 30, 30, 20, 20, 20, 20]);
}

#[test]
fn an_order_that_nobody_asked_for() {
    let _alone = Alone::enter();
    let (address, other) = (upload(&[1; 8]), upload(&[0; 8]));
    let (one, two) = (stream(1), stream(1));
    // The copy in `two` should wait for the fill in `one`.
    ok!(cuMemsetD32Async(address, 5, 8, one));
    ok!(cuMemcpyDtoDAsync_v2(other, address, 32, two));
    ok!(cuCtxSynchronize());
    assert_eq!(download(other, 8), [1; 8], "the later one ran first");
    let event = event(2);
    ok!(cuMemsetD32Async(address, 6, 8, one));
    ok!(cuEventRecord(event, one));
    ok!(cuMemsetD32Async(address, 7, 8, one));
    ok!(cuStreamWaitEvent(two, event, 0));
    ok!(cuMemcpyDtoDAsync_v2(other, address, 32, two));
    ok!(cuEventDestroy_v2(event));
    ok!(cuStreamSynchronize(two));
    assert_eq!(download(other, 8), [6; 8], "what was recorded, and nothing after");
    assert_eq!(download(address, 8), [6; 8]);
    ok!(cuStreamSynchronize(one));
    assert_eq!(download(address, 8), [7; 8]);
}

#[test]
fn events() {
    let _alone = Alone::enter();
    let (address, one, start, end) = (alloc(32), stream(1), event(0), event(0));
    assert_eq!(
        [code!(cuEventQuery(start)), code!(cuEventSynchronize(start)), code!(cuStreamWaitEvent(one, start, 0))],
        [0; 3]
    );
    let mut time = -1.0;
    assert_eq!(code!(cuEventElapsedTime((&mut time).into(), start, end)), 400, "never recorded");
    ok!(cuEventRecord(start, one));
    ok!(cuMemsetD32Async(address, 1, 8, one));
    ok!(cuEventRecordWithFlags(end, one, 0));
    assert_eq!(code!(cuEventElapsedTime((&mut time).into(), start, end)), 600);
    // Whoever asks often enough gets an end.
    let answers: Vec<i32> = (0..4).map(|_| code!(cuEventQuery(end))).collect();
    assert_eq!(answers, [600, 600, 600, 0]);
    ok!(cuEventElapsedTime((&mut time).into(), start, end));
    assert!(time >= 0.0);
    assert_eq!(code!(cuEventElapsedTime((&mut time).into(), event(2), end)), 400);
    ok!(cuEventDestroy_v2(start));
    assert_eq!([code!(cuEventDestroy_v2(start)), code!(cuEventRecord(start, one)), code!(cuEventQuery(0))], [400; 3]);
}

#[test]
fn queries_and_attributes() {
    let alone = Alone::enter();
    let (address, mut one, mut flags, mut priority, mut context) = (alloc(32), 0, 9, 9, 0);
    ok!(cuStreamCreateWithPriority((&mut one).into(), 1, -99));
    ok!(cuStreamGetFlags(one, (&mut flags).into()));
    ok!(cuStreamGetPriority(one, (&mut priority).into()));
    ok!(cuStreamGetCtx(one, (&mut context).into()));
    assert_eq!((flags, priority, context), (1, -5, alone.context));
    assert_eq!(code!(cuStreamQuery(one)), 0);
    ok!(cuMemsetD32Async(address, 1, 8, one));
    assert_eq!([code!(cuStreamQuery(one)), code!(cuStreamQuery(one))], [600, 0]);
    assert_eq!(
        [code!(cuStreamCreate((&mut one).into(), 2)), code!(cuStreamSynchronize(5)), code!(cuStreamDestroy_v2(0))],
        [1, 400, 400]
    );
}

#[test]
fn a_destroyed_stream_still_works() {
    let _alone = Alone::enter();
    let (address, one) = (upload(&[0; 8]), stream(1));
    ok!(cuMemsetD32Async(address, 4, 8, one));
    ok!(cuStreamDestroy_v2(one));
    assert_eq!(
        [code!(cuStreamSynchronize(one)), code!(cuStreamDestroy_v2(one)), code!(cuMemsetD32Async(address, 4, 8, one))],
        [400; 3]
    );
    ok!(cuCtxSynchronize());
    assert_eq!(download(address, 8), [4; 8]);
}

#[test]
fn functions_of_the_host() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    static INSIDE: AtomicU32 = AtomicU32::new(0);
    extern "C" fn call(data: usize) {
        CALLED.fetch_add(data as u32, Ordering::SeqCst);
        INSIDE.store(code!(cuCtxSynchronize()) as u32, Ordering::SeqCst);
    }
    let _alone = Alone::enter();
    let one = stream(1);
    ok!(cuLaunchHostFunc(one, (call as extern "C" fn(usize)) as *const () as usize, 7));
    assert_eq!((CALLED.load(Ordering::SeqCst), code!(cuLaunchHostFunc(one, 0, 7))), (0, 1));
    ok!(cuStreamSynchronize(one));
    assert_eq!((CALLED.load(Ordering::SeqCst), INSIDE.load(Ordering::SeqCst)), (7, 800), "it may not call the driver");
}

#[test]
fn threads() {
    let alone = Alone::enter();
    let add_to = kernel("add");
    std::thread::scope(|scope| {
        for number in 0..6u32 {
            scope.spawn(move || {
                ok!(cuCtxSetCurrent(alone.context));
                let (one, address) = (stream(1), upload(&[number; 8]));
                for _ in 0..20 {
                    add(add_to, address, address, 1, one);
                }
                ok!(cuStreamSynchronize(one));
                assert_eq!(download(address, 8), [number + 20; 8]);
                ok!(cuMemFree_v2(address));
            });
        }
    });
}

#[test]
fn freeing_waits_for_what_is_enqueued() {
    let _alone = Alone::enter();
    let (address, other, one) = (upload(&[3; 8]), upload(&[0; 8]), stream(1));
    ok!(cuMemcpyDtoDAsync_v2(other, address, 32, one));
    let before = counter("synchronisations");
    ok!(cuMemFree_v2(address));
    assert_eq!((counter("synchronisations"), download(other, 8)), (before + 1, vec![3; 8]));
    let from = [1u32; 8];
    assert_eq!(code!(cuMemcpyHtoD_v2(address, from.as_ptr().expose_provenance(), 32)), 1);
}

#[test]
fn waiting_for_the_default_stream_is_waiting_for_blocking_ones() {
    let _alone = Alone::enter();
    let (address, one, two, pinned) = (upload(&[0; 8]), stream(0), stream(1), Pinned::new());
    ok!(cuMemsetD32Async(address, 4, 8, one));
    ok!(cuMemcpyDtoHAsync_v2(pinned.0, address, 32, one));
    assert_eq!([code!(cuStreamQuery(0)), code!(cuStreamQuery(0)), code!(cuStreamQuery(0))], [600, 600, 0]);
    assert_eq!(pinned.first(), 4);
    ok!(cuMemsetD32Async(address, 5, 8, one));
    ok!(cuMemcpyDtoHAsync_v2(pinned.0, address, 32, one));
    ok!(cuStreamSynchronize(0));
    assert_eq!(pinned.first(), 5);
    ok!(cuMemsetD32Async(address, 6, 8, two));
    ok!(cuMemcpyDtoHAsync_v2(pinned.0, address, 32, two));
    ok!(cuStreamSynchronize(0));
    assert_eq!(pinned.first(), 5, "not for one that is not blocking");
}

#[test]
fn events_and_streams_of_two_contexts() {
    let alone = Alone::enter();
    let (address, one, event) = (upload(&[1; 8]), stream(1), event(0));
    let mut other = 0;
    ok!(cuCtxCreate_v2((&mut other).into(), 0, 0));
    let (two, copy) = (stream(1), upload(&[0; 8]));
    assert_eq!(code!(cuEventRecord(event, two)), 400, "an event is recorded in its own context");
    ok!(cuCtxSetCurrent(alone.context));
    ok!(cuMemsetD32Async(address, 3, 8, one));
    ok!(cuEventRecord(event, one));
    ok!(cuCtxSetCurrent(other));
    ok!(cuStreamWaitEvent(two, event, 0));
    ok!(cuMemcpyDtoDAsync_v2(copy, address, 32, two));
    ok!(cuStreamSynchronize(two));
    assert_eq!(download(copy, 8), [3; 8], "and waited for in any");
    ok!(cuCtxDestroy_v2(other));
    ok!(cuCtxSetCurrent(alone.context));
}

#[test]
fn two_threads_wait_for_one_stream() {
    static WAITS: AtomicU32 = AtomicU32::new(0);
    static DONE: AtomicU32 = AtomicU32::new(0);
    extern "C" fn slow(_data: usize) {
        // Until both threads wait, or nearly.
        while WAITS.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(30));
        DONE.store(1, Ordering::SeqCst);
    }
    let alone = Alone::enter();
    let one = stream(1);
    ok!(cuLaunchHostFunc(one, (slow as extern "C" fn(usize)) as *const () as usize, 0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                ok!(cuCtxSetCurrent(alone.context));
                WAITS.fetch_add(1, Ordering::SeqCst);
                ok!(cuStreamSynchronize(one));
                assert_eq!(DONE.load(Ordering::SeqCst), 1, "both wait to the end");
            });
        }
        // Others are not held up by what runs.
        let (two, address) = (stream(1), upload(&[2; 8]));
        ok!(cuMemsetD32Async(address, 3, 8, two));
        ok!(cuStreamSynchronize(two));
        assert_eq!(download(address, 8), [3; 8]);
    });
}
