use crate::{Alone, alloc, code, counter, download, ok, upload};
use emulated_cuda::context::cuCtxSynchronize;
use emulated_cuda::copy::*;
use emulated_cuda::edge::{In, Out};
use emulated_cuda::memory::*;
use emulated_cuda::pool::*;
use emulated_cuda::stream::*;

#[test]
fn allocations() {
    let _alone = Alone::enter();
    let (one, two) = (alloc(4), alloc(4));
    assert!(one != two && one >> 52 == 1, "{one:#x} {two:#x}");
    assert_eq!(counter("bytes_in_use"), 8);
    let (mut start, mut bytes) = (0, 0);
    ok!(cuMemGetAddressRange_v2((&mut start).into(), (&mut bytes).into(), two + 3));
    assert_eq!((start, bytes), (two, 4));
    assert_eq!(code!(cuMemGetAddressRange_v2((&mut start).into(), (&mut bytes).into(), two + 4)), 500);
    assert_eq!(code!(cuMemAlloc_v2((&mut start).into(), 0)), 1);
    assert_eq!(code!(cuMemAlloc_v2(std::ptr::null_mut::<u64>().into(), 4)), 1);
    assert_eq!(code!(cuMemAlloc_v2((&mut start).into(), 5 << 30)), 2);
    let (mut left, mut all) = (0, 0);
    ok!(cuMemGetInfo_v2((&mut left).into(), (&mut all).into()));
    assert_eq!((left, all), ((4 << 30) - 8, 4 << 30));
    ok!(cuMemFree_v2(one));
    assert_eq!([code!(cuMemFree_v2(one)), code!(cuMemFree_v2(two + 1)), code!(cuMemFree_v2(0))], [1, 1, 0]);
    let mut pitch = 0;
    ok!(cuMemAllocPitch_v2((&mut start).into(), (&mut pitch).into(), 700, 3, 4));
    assert_eq!((pitch, counter("bytes_in_use")), (1024, 3 * 1024 + 4));
}

#[test]
fn in_stream_order() {
    let _alone = Alone::enter();
    let (mut stream, mut address) = (0, 0);
    ok!(cuStreamCreate((&mut stream).into(), 1));
    let before = counter("synchronisations");
    ok!(cuMemAllocAsync((&mut address).into(), 32, stream));
    ok!(cuMemsetD32Async(address, 5, 8, stream));
    ok!(cuMemFreeAsync(address, stream));
    assert_eq!(code!(cuMemFreeAsync(address, stream)), 1, "twice");
    assert_eq!(code!(cuMemFree_v2(address)), 1, "twice");
    assert_eq!(counter("bytes_in_use"), 32, "it has not run");
    assert_eq!(counter("synchronisations"), before);
    ok!(cuStreamSynchronize(stream));
    assert_eq!((counter("bytes_in_use"), counter("synchronisations")), (0, before + 1));
    assert_eq!(code!(cuMemsetD32Async(address, 5, 8, stream)), 1, "no longer there");
}

#[test]
fn use_after_a_free_in_stream_order() {
    let _alone = Alone::enter();
    let address = upload(&[1; 8]);
    ok!(cuMemFreeAsync(address, 0));
    ok!(cuMemsetD32Async(address, 5, 8, 0));
    assert_eq!(code!(cuCtxSynchronize()), 700);
}

/// Of memory from `cuMemAllocAsync`, by a function that waits for other memory.
#[test]
fn use_after_a_free_that_does_not_wait() {
    let _alone = Alone::enter();
    let mut address = 0;
    ok!(cuMemAllocAsync((&mut address).into(), 32, 0));
    ok!(cuMemsetD32Async(address, 5, 8, 0));
    let before = counter("synchronisations");
    ok!(cuMemFree_v2(address));
    assert_eq!(counter("synchronisations"), before);
    assert_eq!(code!(cuCtxSynchronize()), 700);
}

#[test]
fn pools() {
    let _alone = Alone::enter();
    let (mut pool, mut same, mut mine, mut address) = (0, 0, 0, 0);
    ok!(cuDeviceGetDefaultMemPool((&mut pool).into(), 0));
    ok!(cuDeviceGetMemPool((&mut same).into(), 0));
    assert_eq!(pool, same);
    assert_eq!(code!(cuMemPoolDestroy(pool)), 1, "a device keeps its own");
    let mut properties = [0i32; 22];
    properties[..4].copy_from_slice(&[1, 0, 1, 0]);
    ok!(cuMemPoolCreate((&mut mine).into(), In::from(properties.as_ptr())));
    ok!(cuMemAllocFromPoolAsync((&mut address).into(), 40, mine, 0));
    let mut used = 0u64;
    ok!(cuMemPoolGetAttribute(mine, 7, Out::from((&raw mut used).cast::<u8>())));
    assert_eq!(used, 40);
    let threshold = 1u64 << 40;
    ok!(cuMemPoolSetAttribute(mine, 4, In::from((&raw const threshold).cast::<u8>())));
    ok!(cuMemPoolGetAttribute(mine, 4, Out::from((&raw mut used).cast::<u8>())));
    assert_eq!(used, threshold);
    ok!(cuMemPoolTrimTo(mine, 0));
    let mut named = 0usize;
    ok!(cuPointerGetAttribute(Out::from((&raw mut named).cast::<u8>()), 17, address));
    assert_eq!(named, mine);
    ok!(cuMemPoolDestroy(mine));
    assert_eq!(code!(cuMemPoolTrimTo(mine, 0)), 1);
    ok!(cuMemFreeAsync(address, 0));
}

#[test]
fn pinned_memory_is_read_late() {
    let _alone = Alone::enter();
    let (address, mut stream, mut place, mut flags) = (upload(&[0; 8]), 0, 0, 9);
    ok!(cuStreamCreate((&mut stream).into(), 1));
    ok!(cuMemHostAlloc((&mut place).into(), 32, 2));
    ok!(cuMemHostGetFlags((&mut flags).into(), place + 31));
    assert_eq!((flags, code!(cuMemHostGetFlags((&mut flags).into(), place + 32))), (2, 1));
    let words = std::ptr::with_exposed_provenance_mut::<u32>(place);
    // SAFETY: eight words, allocated above.
    let set = |value| (0..8).for_each(|at| unsafe { words.add(at).write(value) });
    set(3);
    ok!(cuMemcpyHtoDAsync_v2(address, place, 32, stream));
    // Too early: the copy has not run.
    set(4);
    ok!(cuStreamSynchronize(stream));
    assert_eq!(download(address, 8), [4; 8]);
    // Pageable memory is staged.
    let mut pageable = [5u32; 8];
    ok!(cuMemcpyHtoDAsync_v2(address, pageable.as_ptr().expose_provenance(), 32, stream));
    pageable.fill(6);
    ok!(cuMemcpyDtoHAsync_v2(place, address, 32, stream));
    // SAFETY: as above.
    assert_eq!(unsafe { words.read() }, 4, "the result is not there yet");
    ok!(cuMemFreeHost(place));
    assert_eq!([code!(cuMemFreeHost(place)), code!(cuMemHostUnregister(place))], [1, 713]);
    assert_eq!((download(address, 8), pageable), (vec![5; 8], [6; 8]));
}

#[test]
fn registered_memory() {
    let _alone = Alone::enter();
    let mut words = [1u32; 8];
    let place = words.as_mut_ptr().expose_provenance();
    let address = upload(&[7; 8]);
    let before = counter("synchronisations");
    ok!(cuMemHostRegister_v2(place, 32, 0));
    assert_eq!([code!(cuMemHostRegister_v2(place + 4, 4, 0)), code!(cuMemFreeHost(place))], [712, 1]);
    ok!(cuMemcpyDtoHAsync_v2(place, address, 32, 0));
    assert_eq!(counter("synchronisations"), before, "the host does not wait for pinned memory");
    ok!(cuMemHostUnregister(place));
    assert_eq!(words, [7; 8]);
    // Results in pageable memory are there when the call returns.
    ok!(cuMemsetD32Async(address, 8, 8, 0));
    ok!(cuMemcpyDtoHAsync_v2(place, address, 32, 0));
    assert_eq!(words, [8; 8]);
}

#[test]
fn attributes_of_addresses() {
    let alone = Alone::enter();
    let address = alloc(64);
    let get = |which, address| {
        let mut value = [0u8; 8];
        let code = code!(cuPointerGetAttribute(Out::from(value.as_mut_ptr()), which, address));
        (code, u64::from_ne_bytes(value))
    };
    assert_eq!(get(1, address + 5), (0, alone.context as u64));
    assert_eq!(
        [get(2, address), get(9, address), get(11, address + 9), get(12, address)],
        [(0, 2), (0, 0), (0, address), (0, 64)]
    );
    assert_eq!([get(4, address).0, get(2, address + 64).0, get(2, 4096).0, get(5, address).0], [1, 1, 1, 801]);
}
