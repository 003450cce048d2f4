use crate::{Alone, add, alloc, code, download, kernel, launch, ok, upload};
use emulated_cuda::context::*;
use emulated_cuda::copy::*;
use emulated_cuda::event::*;
use emulated_cuda::memory::*;
use emulated_cuda::stream::*;

/// The code that a context gives once a kernel has run.
fn after(name: &str, arguments: &[&[u8]]) -> i32 {
    assert_eq!(launch(kernel(name), 32, 0, 0, arguments), 0, "the launch itself succeeds");
    code!(cuCtxSynchronize())
}

#[test]
fn an_error_stays_with_its_context() {
    let alone = Alone::enter();
    let (add_to, address, mut one, mut event) = (kernel("add"), upload(&[1; 8]), 0, 0);
    let beyond = alloc(16);
    ok!(cuStreamCreate((&mut one).into(), 1));
    ok!(cuEventCreate((&mut event).into(), 0));
    add(add_to, beyond, address, 1, one);
    ok!(cuMemsetD32Async(address, 9, 8, one));
    // Not yet: nobody has waited.
    assert_eq!(download(address, 8), [1; 8]);
    assert_eq!(code!(cuStreamSynchronize(one)), 700);
    let mut more = 0;
    assert_eq!(code!(cuMemAlloc_v2((&mut more).into(), 4)), 700);
    assert_eq!(code!(cuMemFree_v2(address)), 700);
    assert_eq!([code!(cuStreamQuery(one)), code!(cuEventRecord(event, one)), code!(cuCtxSynchronize())], [700; 3]);
    assert_eq!(code!(cuMemsetD32Async(address, 9, 8, 0)), 700);
    // Another context goes on.
    let mut other = 0;
    ok!(cuCtxCreate_v2((&mut other).into(), 0, 0));
    alloc(4);
    ok!(cuCtxSynchronize());
    ok!(cuCtxDestroy_v2(other));
    assert_eq!(code!(cuCtxSynchronize()), 700);
    ok!(cuCtxDestroy_v2(alone.context));
    assert_eq!(code!(cuCtxSynchronize()), 201);
}

#[test]
fn a_reset_device_works_again() {
    let alone = Alone::enter();
    let mut primary = 0;
    ok!(cuDevicePrimaryCtxRetain((&mut primary).into(), 0));
    ok!(cuCtxPushCurrent_v2(primary));
    assert_eq!(after("stop", &[]), 719);
    assert_eq!(code!(cuCtxSynchronize()), 719);
    ok!(cuDevicePrimaryCtxReset_v2(0));
    ok!(cuCtxSynchronize());
    ok!(cuDevicePrimaryCtxRelease_v2(0));
    ok!(cuCtxSetCurrent(alone.context));
}

#[test]
fn nobody_wrote_it() {
    let _alone = Alone::enter();
    let (fresh, address) = (alloc(32), alloc(32));
    add(kernel("add"), address, fresh, 1, 0);
    assert_eq!(code!(cuCtxSynchronize()), 700);
}

#[test]
fn what_kernels_do_wrong() {
    for (name, expected) in [("stop", 719), ("spin", 702)] {
        let _alone = Alone::enter();
        assert_eq!(after(name, &[]), expected, "{name}");
    }
    let _alone = Alone::enter();
    let address = alloc(32);
    assert_eq!(after("misaligned", &[&address.to_ne_bytes()]), 716);
}

#[test]
fn memory_of_the_host_is_out_of_reach() {
    let _alone = Alone::enter();
    let mut place = 0;
    ok!(cuMemHostAlloc((&mut place).into(), 32, 0));
    add(kernel("add"), place as u64, place as u64, 1, 0);
    assert_eq!(code!(cuCtxSynchronize()), 700);
    // What is pinned can be freed by another context alone.
    let mut other = 0;
    ok!(cuCtxCreate_v2((&mut other).into(), 0, 0));
    ok!(cuMemFreeHost(place));
    ok!(cuCtxDestroy_v2(other));
}
