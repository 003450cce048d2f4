use crate::{Alone, add, alloc, code, counter, download, kernel, ok, upload};
use emulated_cuda::capture::*;
use emulated_cuda::context::cuCtxSynchronize;
use emulated_cuda::copy::*;
use emulated_cuda::edge::{Handle, Out};
use emulated_cuda::event::*;
use emulated_cuda::graph::*;
use emulated_cuda::memory::*;
use emulated_cuda::pool::*;
use emulated_cuda::stream::*;

fn stream(flags: u32) -> Handle {
    let mut stream = 0;
    ok!(cuStreamCreate((&mut stream).into(), flags));
    stream
}

fn event() -> Handle {
    let mut event = 0;
    ok!(cuEventCreate((&mut event).into(), 2));
    event
}

fn end(stream: Handle) -> Handle {
    let mut graph = 0;
    ok!(cuStreamEndCapture(stream, (&mut graph).into()));
    graph
}

fn instantiate(graph: Handle) -> Handle {
    let mut exec = 0;
    ok!(cuGraphInstantiateWithFlags((&mut exec).into(), graph, 0));
    exec
}

/// The code of an end that is to fail.
fn end_code(stream: Handle) -> i32 {
    let mut graph = 0;
    let code = code!(cuStreamEndCapture(stream, (&mut graph).into()));
    assert!(code != 0 && graph == 0, "{code} {graph}");
    code
}

#[test]
fn a_step_is_captured_and_replayed() {
    let _alone = Alone::enter();
    let (add_to, address, other, one) = (kernel("add"), upload(&[1; 8]), alloc(32), stream(1));
    let (mut state, launches) = (9, counter("launches"));
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuStreamIsCapturing(one, (&mut state).into()));
    assert_eq!(state, 1);
    add(add_to, address, address, 1, one);
    ok!(cuMemsetD32Async(other, 0, 8, one));
    ok!(cuMemcpyDtoDAsync_v2(other, address, 16, one));
    let graph = end(one);
    ok!(cuStreamIsCapturing(one, (&mut state).into()));
    ok!(cuCtxSynchronize());
    assert_eq!((state, counter("launches")), (0, launches), "nothing has run");
    let (mut count, mut nodes, mut kind) = (0, [0; 4], 9);
    ok!(cuGraphGetNodes(graph, Out::from(std::ptr::null_mut()), (&mut count).into()));
    assert_eq!(count, 3);
    count = 4;
    ok!(cuGraphGetNodes(graph, nodes.as_mut_ptr().into(), (&mut count).into()));
    let kinds = nodes[..3].iter().map(|&node| {
        ok!(cuGraphNodeGetType(node, (&mut kind).into()));
        kind
    });
    assert_eq!((kinds.collect::<Vec<_>>(), nodes[3], count), (vec![0, 2, 1], 0, 3));
    ok!(cuGraphGetEdges(graph, Out::from(std::ptr::null_mut()), Out::from(std::ptr::null_mut()), (&mut count).into()));
    assert_eq!(count, 2);
    let mut clone = 0;
    ok!(cuGraphClone((&mut clone).into(), graph));
    ok!(cuGraphDestroy(graph));
    let exec = instantiate(clone);
    ok!(cuGraphDestroy(clone));
    for _ in 0..3 {
        ok!(cuGraphLaunch(exec, one));
    }
    ok!(cuStreamSynchronize(one));
    assert_eq!(download(other, 8), [4, 4, 4, 4, 0, 0, 0, 0]);
    ok!(cuGraphExecDestroy(exec));
    assert_eq!(
        [code!(cuGraphExecDestroy(exec)), code!(cuGraphLaunch(exec, one)), code!(cuGraphDestroy(graph))],
        [1; 3]
    );
}

#[test]
fn streams_fork_and_join() {
    let _alone = Alone::enter();
    let (add_to, address, other) = (kernel("add"), upload(&[1; 8]), upload(&[0; 8]));
    let (one, two, forked, joined) = (stream(1), stream(1), event(), event());
    ok!(cuStreamBeginCapture_v2(one, 2));
    add(add_to, address, address, 1, one);
    ok!(cuEventRecord(forked, one));
    ok!(cuStreamWaitEvent(two, forked, 0));
    add(add_to, other, address, 10, two);
    ok!(cuEventRecord(joined, two));
    ok!(cuStreamWaitEvent(one, joined, 0));
    add(add_to, address, other, 100, one);
    assert_eq!(code!(cuEventQuery(joined)), 907, "asks the host");
    assert_eq!(end_code(one), 901);
    // Once more, without the question.
    ok!(cuStreamBeginCapture_v2(one, 2));
    add(add_to, address, address, 1, one);
    ok!(cuEventRecord(forked, one));
    ok!(cuStreamWaitEvent(two, forked, 0));
    add(add_to, other, address, 10, two);
    assert_eq!(end_code(two), 903, "not where it began");
    ok!(cuEventRecord(joined, two));
    ok!(cuStreamWaitEvent(one, joined, 0));
    add(add_to, address, other, 100, one);
    let exec = instantiate(end(one));
    ok!(cuGraphLaunch(exec, two));
    ok!(cuStreamSynchronize(two));
    assert_eq!((download(other, 1), download(address, 1)), (vec![12], vec![112]));
}

#[test]
fn captures_that_come_to_nothing() {
    let _alone = Alone::enter();
    let (address, one, two, event) = (alloc(32), stream(1), stream(1), event());
    assert_eq!(end_code(one), 401, "none is under way");
    assert_eq!(code!(cuStreamBeginCapture_v2(0, 0)), 900);
    // Work in another stream that nobody joins.
    ok!(cuStreamBeginCapture_v2(one, 2));
    ok!(cuEventRecord(event, one));
    ok!(cuStreamWaitEvent(two, event, 0));
    ok!(cuMemsetD32Async(address, 1, 8, two));
    assert_eq!([code!(cuStreamBeginCapture_v2(one, 2)), end_code(one)], [401, 904]);
    // An event that was recorded outside.
    ok!(cuEventRecord(event, two));
    ok!(cuStreamBeginCapture_v2(one, 2));
    assert_eq!([code!(cuStreamWaitEvent(one, event, 0)), end_code(one)], [905, 901]);
    // Two captures meet.
    ok!(cuStreamBeginCapture_v2(one, 2));
    ok!(cuStreamBeginCapture_v2(two, 2));
    ok!(cuEventRecord(event, one));
    assert_eq!([code!(cuStreamWaitEvent(two, event, 0)), end_code(one), end_code(two)], [902, 901, 901]);
}

#[test]
fn no_waiting_inside() {
    let _alone = Alone::enter();
    let (address, one, blocking, mut more) = (alloc(32), stream(1), stream(0), 0);
    type Call<'c> = &'c mut dyn FnMut() -> i32;
    let calls: [(Call<'_>, i32); 6] = [
        (&mut || code!(cuStreamSynchronize(one)), 900),
        (&mut || code!(cuStreamQuery(one)), 900),
        (&mut || code!(cuCtxSynchronize()), 900),
        (&mut || code!(cuMemAlloc_v2((&mut more).into(), 4)), 900),
        (&mut || code!(cuMemFree_v2(address)), 900),
        (&mut || code!(cuMemsetD32_v2(address, 0, 8)), 900),
    ];
    for (number, (call, expected)) in calls.into_iter().enumerate() {
        ok!(cuStreamBeginCapture_v2(one, 0));
        assert_eq!((call(), end_code(one)), (expected, 901), "{number}");
    }
    // The default stream would have to wait for the blocking one.
    ok!(cuStreamBeginCapture_v2(blocking, 2));
    assert_eq!([code!(cuMemsetD32Async(address, 0, 8, 0)), end_code(blocking)], [906, 901]);
    // A thread, or a capture, may be relaxed.
    ok!(cuStreamBeginCapture_v2(one, 2));
    let free = alloc(4);
    ok!(cuGraphDestroy(end(one)));
    let mut mode = 2;
    ok!(cuThreadExchangeStreamCaptureMode((&mut mode).into()));
    assert_eq!(mode, 0);
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuMemFree_v2(free));
    ok!(cuThreadExchangeStreamCaptureMode((&mut mode).into()));
    ok!(cuGraphDestroy(end(one)));
    assert_eq!(mode, 2);
}

#[test]
fn memory_of_a_graph() {
    let _alone = Alone::enter();
    let (add_to, address, one, mut scratch) = (kernel("add"), upload(&[1; 8]), stream(1), 0);
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuMemAllocAsync((&mut scratch).into(), 32, one));
    add(add_to, scratch, address, 1, one);
    add(add_to, address, scratch, 1, one);
    ok!(cuMemFreeAsync(scratch, one));
    let graph = end(one);
    let exec = instantiate(graph);
    ok!(cuGraphDestroy(graph));
    ok!(cuGraphLaunch(exec, one));
    ok!(cuGraphLaunch(exec, one));
    ok!(cuStreamSynchronize(one));
    assert_eq!((download(address, 8), counter("bytes_in_use")), (vec![5; 8], 64));
    assert_eq!(code!(cuMemFree_v2(scratch)), 1);
    // Nobody may use it between two launches.
    ok!(cuGraphLaunch(exec, one));
    ok!(cuGraphExecDestroy(exec));
    ok!(cuStreamSynchronize(one));
    assert_eq!(counter("bytes_in_use"), 32, "given back once the last launch has run");
}

#[test]
fn scratch_beyond_its_life() {
    let _alone = Alone::enter();
    let (add_to, address, one, mut scratch) = (kernel("add"), upload(&[1; 8]), stream(1), 0);
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuMemAllocAsync((&mut scratch).into(), 32, one));
    add(add_to, scratch, address, 1, one);
    ok!(cuMemFreeAsync(scratch, one));
    add(add_to, address, scratch, 1, one);
    let exec = instantiate(end(one));
    ok!(cuGraphLaunch(exec, one));
    assert_eq!(code!(cuStreamSynchronize(one)), 700);
}

#[test]
fn scratch_is_new_in_each_launch() {
    let _alone = Alone::enter();
    let (add_to, address, one, mut scratch) = (kernel("add"), upload(&[1; 8]), stream(1), 0);
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuMemAllocAsync((&mut scratch).into(), 32, one));
    // Reads what nobody has written, or only the launch before.
    add(add_to, address, scratch, 1, one);
    ok!(cuMemsetD32Async(scratch, 1, 8, one));
    ok!(cuMemFreeAsync(scratch, one));
    let exec = instantiate(end(one));
    ok!(cuGraphLaunch(exec, one));
    assert_eq!(code!(cuStreamSynchronize(one)), 700);
}

#[test]
fn scratch_keeps_nothing_between_launches() {
    let _alone = Alone::enter();
    let (add_to, address, one, mut scratch) = (kernel("add"), upload(&[0; 8]), stream(1), 0);
    // The first launch ends before it reads: the words are those of the flag.
    let flag = upload(&[0; 8]);
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuMemAllocAsync((&mut scratch).into(), 32, one));
    ok!(cuMemcpyDtoDAsync_v2(address, scratch, 32, one));
    ok!(cuMemsetD32Async(scratch, 1, 8, one));
    ok!(cuMemFreeAsync(scratch, one));
    let exec = instantiate(end(one));
    ok!(cuGraphLaunch(exec, one));
    ok!(cuGraphLaunch(exec, one));
    ok!(cuStreamSynchronize(one));
    // Copied as unwritten, although the first launch wrote it: the kernel that reads it is told of.
    add(add_to, flag, address, 1, one);
    assert_eq!(code!(cuStreamSynchronize(one)), 700);
}

#[test]
fn branches_of_a_graph_run_in_an_order_that_nobody_asked_for() {
    let _alone = Alone::enter();
    let (address, other) = (upload(&[1; 8]), upload(&[0; 8]));
    let (one, two, forked, joined) = (stream(1), stream(1), event(), event());
    ok!(cuStreamBeginCapture_v2(one, 0));
    ok!(cuEventRecord(forked, one));
    ok!(cuStreamWaitEvent(two, forked, 0));
    ok!(cuMemsetD32Async(address, 5, 8, one));
    // Should wait for the fill.
    ok!(cuMemcpyDtoDAsync_v2(other, address, 32, two));
    ok!(cuEventRecord(joined, two));
    ok!(cuStreamWaitEvent(one, joined, 0));
    ok!(cuGraphLaunch(instantiate(end(one)), one));
    ok!(cuStreamSynchronize(one));
    assert_eq!((download(address, 8), download(other, 8)), (vec![5; 8], vec![1; 8]));
}
