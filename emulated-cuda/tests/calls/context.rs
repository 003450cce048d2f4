use crate::{Alone, alloc, code, ok};
use emulated_cuda::context::*;
use emulated_cuda::device::*;
use emulated_cuda::edge::{In, Out};
use emulated_cuda::init::*;
use emulated_cuda::memory::cuMemAlloc_v2;
use emulated_cuda::stubs;
use std::ffi::{CStr, c_char};

#[test]
fn the_stack_of_a_thread() {
    let alone = Alone::enter();
    let (mut current, mut other, mut popped, mut device) = (0, 0, 0, 9);
    ok!(cuCtxCreate_v3((&mut other).into(), 0, 0, 8, 0));
    ok!(cuCtxGetCurrent((&mut current).into()));
    assert_eq!(current, other);
    ok!(cuCtxPopCurrent_v2((&mut popped).into()));
    ok!(cuCtxGetCurrent((&mut current).into()));
    assert_eq!((popped, current), (other, alone.context));
    ok!(cuCtxPushCurrent_v2(other));
    ok!(cuCtxGetDevice((&mut device).into()));
    let mut flags = 0;
    ok!(cuCtxGetFlags((&mut flags).into()));
    assert_eq!((device, flags), (0, 8));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut address = 0;
            assert_eq!(code!(cuMemAlloc_v2((&mut address).into(), 4)), 201, "no context is current on a new thread");
            ok!(cuCtxSetCurrent(other));
            ok!(cuMemAlloc_v2((&mut address).into(), 4));
        });
    });
    ok!(cuCtxDestroy_v2(other));
    assert_eq!(
        [code!(cuCtxDestroy_v2(other)), code!(cuCtxPushCurrent_v2(other)), code!(cuCtxSetCurrent(other))],
        [201; 3]
    );
    ok!(cuCtxGetCurrent((&mut current).into()));
    assert_eq!(current, alone.context);
    ok!(cuCtxSetCurrent(0));
    assert_eq!([code!(cuCtxSynchronize()), code!(cuCtxPopCurrent_v2((&mut popped).into()))], [201; 2]);
    ok!(cuCtxPushCurrent_v2(alone.context));
}

#[test]
fn the_primary_context() {
    let alone = Alone::enter();
    let (mut one, mut two, mut flags, mut active) = (0, 0, 0, 9);
    ok!(cuDevicePrimaryCtxGetState(0, (&mut flags).into(), (&mut active).into()));
    assert_eq!(active, 0);
    ok!(cuDevicePrimaryCtxRetain((&mut one).into(), 0));
    ok!(cuDevicePrimaryCtxRetain((&mut two).into(), 0));
    assert_eq!((one, code!(cuCtxDestroy_v2(one))), (two, 201));
    ok!(cuCtxPushCurrent_v2(one));
    alloc(4);
    ok!(cuDevicePrimaryCtxRelease_v2(0));
    ok!(cuDevicePrimaryCtxGetState(0, (&mut flags).into(), (&mut active).into()));
    assert_eq!((active, crate::counter("bytes_in_use")), (1, 4));
    ok!(cuDevicePrimaryCtxReset_v2(0));
    assert_eq!(crate::counter("bytes_in_use"), 0);
    // The handle is still good.
    alloc(4);
    ok!(cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!(code!(cuDevicePrimaryCtxRelease_v2(0)), 201);
    assert_eq!(code!(cuCtxSynchronize()), 709, "destroyed");
    ok!(cuCtxSetCurrent(alone.context));
    assert_eq!(code!(cuDevicePrimaryCtxRetain((&mut one).into(), 1)), 101);
}

#[test]
fn what_a_device_says() {
    let _alone = Alone::enter();
    let (mut count, mut device, mut bytes) = (0, 9, 0);
    ok!(cuDeviceGetCount((&mut count).into()));
    ok!(cuDeviceGet((&mut device).into(), 0));
    ok!(cuDeviceTotalMem_v2((&mut bytes).into(), 0));
    assert_eq!((count, device, bytes, code!(cuDeviceGet((&mut device).into(), 1))), (1, 0, 4 << 30, 101));
    let mut name = [1 as c_char; 64];
    ok!(cuDeviceGetName(name.as_mut_ptr().into(), 64, 0));
    // SAFETY: the call ended it in NUL.
    let text = |name: &[c_char]| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    assert_eq!(text(&name), "Emulated CUDA device (sm_90)");
    ok!(cuDeviceGetName(name.as_mut_ptr().into(), 9, 0));
    assert_eq!(text(&name), "Emulated");
    ok!(cuDeviceGetPCIBusId(name.as_mut_ptr().into(), 64, 0));
    ok!(cuDeviceGetByPCIBusId((&mut device).into(), In::from(name.as_ptr())));
    assert_eq!(device, 0);
    let get = |which| {
        let mut value = -9;
        (code!(cuDeviceGetAttribute((&mut value).into(), which, 0)), value)
    };
    assert_eq!(
        [get(75), get(76), get(10), get(97), get(115), get(83)],
        [(0, 9), (0, 0), (0, 32), (0, 227 << 10), (0, 1), (0, 0)]
    );
    assert_eq!([get(0).0, get(-1).0, get(1000).0], [1; 3]);
    let mut uuid = [0u8; 16];
    ok!(cuDeviceGetUuid_v2(uuid.as_mut_ptr().into(), 0));
    assert!(uuid.starts_with(b"emulated-cuda"));
    assert_eq!(code!(cuCtxEnablePeerAccess(0, 0)), 217);
}

#[test]
fn limits_and_preferences() {
    let alone = Alone::enter();
    let (mut value, mut least, mut greatest, mut version) = (0, 9, 9, 0);
    ok!(cuCtxSetLimit(0, 4096));
    ok!(cuCtxGetLimit((&mut value).into(), 0));
    assert_eq!((value, code!(cuCtxGetLimit((&mut value).into(), 99)), code!(cuCtxSetLimit(99, 1))), (4096, 215, 215));
    ok!(cuCtxGetStreamPriorityRange((&mut least).into(), (&mut greatest).into()));
    ok!(cuCtxGetApiVersion(alone.context, (&mut version).into()));
    assert_eq!((least, greatest, version), (0, -5, 3020));
    let mut config = 9;
    ok!(cuCtxSetCacheConfig(2));
    ok!(cuCtxGetCacheConfig((&mut config).into()));
    assert_eq!(config, 2);
}

#[test]
fn names_of_codes() {
    let name = |code| {
        let mut name = std::ptr::null::<c_char>();
        let found = code!(cuGetErrorName(code, (&mut name).into()));
        // SAFETY: null or a text that ends in NUL.
        (found, (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap()))
    };
    assert_eq!(name(700), (0, Some("CUDA_ERROR_ILLEGAL_ADDRESS")));
    assert_eq!(name(0), (0, Some("CUDA_SUCCESS")));
    assert_eq!(name(12345), (1, None));
}

#[test]
fn addresses_of_functions() {
    let find = |symbol: &CStr, version| {
        let (mut address, mut status) = (1, 9);
        let symbol = In::from(symbol.as_ptr());
        ok!(cuGetProcAddress_v2(symbol, (&mut address).into(), version, 0, (&mut status).into()));
        (address, status)
    };
    assert_eq!(find(c"cuMemAlloc", 12000), (cuMemAlloc_v2 as *const () as usize, 0));
    assert_eq!(find(c"cuMemAlloc_v2", 12000), (cuMemAlloc_v2 as *const () as usize, 0));
    assert_eq!(find(c"cuCtxCreate", 12000), (cuCtxCreate_v2 as *const () as usize, 0));
    assert_eq!(find(c"cuCtxCreate", 13000), (cuCtxCreate_v4 as *const () as usize, 0));
    assert_eq!(find(c"cuTexObjectCreate", 12000), (stubs::cuTexObjectCreate as *const () as usize, 0));
    assert_eq!(find(c"cuNothing", 12000), (0, 1));
    let mut address = 1;
    assert_eq!(code!(cuGetProcAddress(In::from(c"cuNothing".as_ptr()), (&mut address).into(), 12000, 0)), 500);
    let nowhere = Out::from(std::ptr::null_mut());
    assert_eq!(code!(cuGetProcAddress(In::from(c"cuInit".as_ptr()), nowhere, 12000, 0)), 1);
}

#[test]
fn what_is_not_emulated() {
    let _alone = Alone::enter();
    let before = crate::counter("cuTexObjectCreate");
    assert_eq!([stubs::cuTexObjectCreate(), stubs::cuMemAllocManaged()], [801; 2]);
    assert_eq!(crate::counter("cuTexObjectCreate"), before + 1);
}
