use crate::{Alone, PTX, add, alloc, code, download, function, kernel, launch, load, ok, upload};
use emulated_cuda::context::cuCtxCreate_v2;
use emulated_cuda::context::cuCtxDestroy_v2;
use emulated_cuda::context::cuCtxSynchronize;
use emulated_cuda::edge::{Handle, In};
use emulated_cuda::function::*;
use emulated_cuda::launch::*;
use emulated_cuda::stream::cuStreamCreate;

fn extra(function: Handle, bytes: &[u8], size: usize) -> i32 {
    let words = [1, bytes.as_ptr().expose_provenance(), 2, (&raw const size).expose_provenance(), 0];
    let none = In::from(std::ptr::null());
    code!(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, none, In::from(words.as_ptr())))
}

#[test]
fn arguments_of_several_sizes() {
    let _alone = Alone::enter();
    let (mixed, address) = (kernel("mixed"), alloc(4));
    let arguments: [&[u8]; 4] = [&[3], &address.to_ne_bytes(), &500u16.to_ne_bytes(), &70_000u32.to_ne_bytes()];
    assert_eq!(launch(mixed, 1, 0, 0, &arguments), 0);
    assert_eq!(download(address, 1), [70_503]);
    // The same in one buffer.
    let mut buffer = [0u8; 24];
    buffer[0] = 4;
    buffer[8..16].copy_from_slice(&address.to_ne_bytes());
    buffer[16..18].copy_from_slice(&600u16.to_ne_bytes());
    buffer[20..24].copy_from_slice(&80_000u32.to_ne_bytes());
    assert_eq!(extra(mixed, &buffer, 24), 0);
    assert_eq!(download(address, 1), [80_604]);
    assert_eq!(extra(mixed, &buffer, 20), 1, "too few bytes");
    let (mut offset, mut bytes) = (0, 0);
    ok!(cuFuncGetParamInfo(mixed, 2, (&mut offset).into(), (&mut bytes).into()));
    assert_eq!(
        (offset, bytes, code!(cuFuncGetParamInfo(mixed, 4, (&mut offset).into(), (&mut bytes).into()))),
        (16, 2, 1)
    );
}

#[test]
fn arguments_are_copied_at_once() {
    let _alone = Alone::enter();
    let (add_to, address) = (kernel("add"), upload(&[1; 8]));
    let mut more = 5u32.to_ne_bytes();
    let count = 8u32.to_ne_bytes();
    let address_bytes = address.to_ne_bytes();
    assert_eq!(launch(add_to, 32, 0, 0, &[&address_bytes, &address_bytes, &more, &count]), 0);
    more.fill(0xee);
    assert_eq!(download(address, 8), [6; 8]);
    assert_ne!(more[0], 5);
}

#[test]
fn what_is_refused() {
    let _alone = Alone::enter();
    let (limited, mut stream) = (kernel("limited"), 0);
    assert_eq!(
        [launch(limited, 64, 0, 0, &[]), launch(limited, 65, 0, 0, &[]), launch(limited, 0, 0, 0, &[])],
        [0, 1, 1]
    );
    assert_eq!([launch(5, 64, 0, 0, &[]), launch(limited, 64, 0, 77, &[])], [400, 400]);
    let none = || In::from(std::ptr::null());
    assert_eq!(code!(cuLaunchKernel(kernel("stop"), 1, 65_536, 1, 1, 1, 1, 0, 0, none(), none())), 1);
    assert_eq!(code!(cuLaunchKernel(kernel("mixed"), 1, 1, 1, 1, 1, 1, 0, 0, none(), none())), 1, "no arguments");
    assert_eq!(code!(cuLaunchCooperativeKernel(limited, 64, 1, 1, 64, 1, 1, 0, 0, none())), 0);
    assert_eq!(code!(cuLaunchCooperativeKernel(limited, 65, 1, 1, 64, 1, 1, 0, 0, none())), 720);
    // A stream of another context.
    let mut other = 0;
    ok!(cuCtxCreate_v2((&mut other).into(), 0, 0));
    ok!(cuStreamCreate((&mut stream).into(), 0));
    assert_eq!(launch(limited, 64, 0, stream, &[]), 400);
    ok!(cuCtxDestroy_v2(other));
}

#[test]
fn shared_memory_beyond_what_is_free() {
    let _alone = Alone::enter();
    let (shared, address) = (kernel("shared"), alloc(4));
    let argument: [&[u8]; 1] = [&address.to_ne_bytes()];
    let get = |which| {
        let mut value = -9;
        ok!(cuFuncGetAttribute((&mut value).into(), which, shared));
        value
    };
    // 1 KiB of the 48 that are free is static.
    assert_eq!([get(1), get(8), get(0), get(5), get(6)], [1024, 47 << 10, 1024, 70, 90]);
    assert_eq!([launch(shared, 1, 47 << 10, 0, &argument), launch(shared, 1, (47 << 10) + 1, 0, &argument)], [0, 1]);
    ok!(cuFuncSetAttribute(shared, 8, 100 << 10));
    assert_eq!(launch(shared, 1, 100 << 10, 0, &argument), 0);
    assert_eq!(code!(cuFuncSetAttribute(shared, 8, 227 << 10)), 1, "1 KiB is static");
    assert_eq!([code!(cuFuncSetAttribute(shared, 8, -1)), code!(cuFuncSetAttribute(shared, 1, 0))], [1, 1]);
    assert_eq!(download(address, 1), [5]);
}

#[test]
fn attributes_of_a_launch() {
    let _alone = Alone::enter();
    let limited = kernel("limited");
    // CUlaunchConfig in words of eight bytes, and attributes of nine.
    let launch = |id: u64, value: u64, blocks: u64| {
        let attribute = [id, value, 1 << 32 | 1, 0, 0, 0, 0, 0, 0];
        let place = attribute.as_ptr().expose_provenance() as u64;
        let config = [blocks | 1 << 32, 1 | 32 << 32, 1 | 1 << 32, 0, 0, place, 1];
        let none = In::from(std::ptr::null());
        let config = In::from(config.as_ptr().cast::<Config>());
        code!(cuLaunchKernelEx(config, limited, none, In::from(std::ptr::null())))
    };
    assert_eq!([launch(0, 0, 65), launch(2, 1, 64), launch(2, 1, 65), launch(2, 0, 65)], [0, 0, 720, 0]);
    assert_eq!([launch(4, 2, 64), launch(7, 0, 1)], [801, 801], "clusters and programmatic events");
    ok!(cuCtxSynchronize());
}

#[test]
fn occupancy() {
    let _alone = Alone::enter();
    let (module, mut blocks, mut block, mut bytes) = (load(PTX), 0, 0, 0);
    let (plain, limited, shared) = (function(module, "add"), function(module, "limited"), function(module, "shared"));
    ok!(cuOccupancyMaxActiveBlocksPerMultiprocessor((&mut blocks).into(), plain, 256, 0));
    assert_eq!(blocks, 8);
    ok!(cuOccupancyMaxActiveBlocksPerMultiprocessor((&mut blocks).into(), shared, 32, 44 << 10));
    assert_eq!(blocks, 4, "228 KiB over 46");
    ok!(cuOccupancyMaxPotentialBlockSize((&mut blocks).into(), (&mut block).into(), plain, 0, 0, 0));
    assert_eq!((blocks, block), (2 * 132, 1024));
    ok!(cuOccupancyMaxPotentialBlockSize((&mut blocks).into(), (&mut block).into(), limited, 0, 0, 0));
    assert_eq!((blocks, block), (32 * 132, 64));
    extern "C" fn by_threads(threads: i32) -> usize {
        if threads > 128 { 1 << 30 } else { 0 }
    }
    let callback = (by_threads as extern "C" fn(i32) -> usize) as *const () as usize;
    ok!(cuOccupancyMaxPotentialBlockSize((&mut blocks).into(), (&mut block).into(), plain, callback, 0, 0));
    assert_eq!(block, 128);
    ok!(cuOccupancyAvailableDynamicSMemPerBlock((&mut bytes).into(), shared, 4, 32));
    assert_eq!(bytes, (57 - 1 - 1) << 10);
    assert_eq!(code!(cuOccupancyMaxActiveBlocksPerMultiprocessor((&mut blocks).into(), plain, 0, 0)), 1);
}

#[test]
fn a_module_used_twice() {
    let _alone = Alone::enter();
    let (one, two, address) = (load(PTX), load(PTX), upload(&[1; 8]));
    assert_ne!(function(one, "add"), function(two, "add"));
    assert_eq!(function(one, "add"), function(one, "add"));
    add(function(one, "add"), address, address, 1, 0);
    add(function(two, "add"), address, address, 1, 0);
    assert_eq!(download(address, 8), [3; 8]);
}
