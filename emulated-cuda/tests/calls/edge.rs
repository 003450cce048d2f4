use crate::{Alone, ok};
use emulated_cuda::context::cuCtxSetCurrent;
use emulated_cuda::edge::{In, call};
use emulated_cuda::init::cuGetProcAddress;
use emulated_cuda::{Code, names, stubs};
use std::ffi::CString;

/// As many arguments as the longest list of the driver's.
type Any = extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize) -> i32;

#[test]
fn every_function_takes_nothing_but_zeros() {
    let alone = Alone::enter();
    let mut fine = Vec::new();
    for name in names() {
        // Calls may change what is current.
        ok!(cuCtxSetCurrent(alone.context));
        let (text, mut address) = (CString::new(name).unwrap(), 0);
        ok!(cuGetProcAddress(In::from(text.as_ptr()), (&mut address).into(), 13_000, 0));
        // SAFETY: the address of an exported function, which takes at most so many arguments, all of them integers or
        // pointers, of which null ones are refused.
        let function = unsafe { std::mem::transmute::<*const (), Any>(std::ptr::with_exposed_provenance(address)) };
        let code = function(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        assert_ne!(code, 999, "{name}");
        if code == 0 {
            fine.push(name);
        }
    }
    ok!(cuCtxSetCurrent(alone.context));
    assert!(fine.len() > 10 && fine.len() < 60, "{} are content with zeros: {fine:?}", fine.len());
    assert!(!fine.iter().any(|name| name.contains("Alloc") || name.contains("Launch") || name.contains("Create")));
}

#[test]
fn a_panic_is_a_code() {
    assert_eq!(call("cuInit", || -> Result<(), Code> { panic!("as the test asks") }), 999);
    assert_eq!(stubs::cuMemAdvise(), 801);
}
