use crate::{Alone, PTX, code, download, function, launch, load, ok};
use emulated_cuda::copy::cuMemcpyDtoH_v2;
use emulated_cuda::edge::{In, Out};
use emulated_cuda::function::cuFuncGetModule;
use emulated_cuda::memory::cuMemFree_v2;
use emulated_cuda::module::*;
use std::ffi::{CStr, CString, c_char};

/// The code of loading a text, and what the log of errors says.
fn refused(text: &str) -> (i32, String) {
    let (text, mut module, mut log) = (CString::new(text).unwrap(), 0, [1 as c_char; 80]);
    let names = [5u32, 6];
    let mut values = [log.as_mut_ptr().expose_provenance(), log.len()];
    let code = code!(cuModuleLoadDataEx(
        (&mut module).into(),
        In::from(text.as_ptr().cast::<u8>()),
        2,
        In::from(names.as_ptr()),
        Out::from(values.as_mut_ptr())
    ));
    // SAFETY: the call ended it in NUL.
    let text = unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy().into_owned();
    assert_eq!(values[1], if text.is_empty() { 0 } else { text.len() + 1 });
    (code, text)
}

#[test]
fn texts_that_are_refused() {
    let _alone = Alone::enter();
    assert_eq!(refused(PTX), (0, String::new()));
    let (code, log) = refused(&PTX.replace("mul.wide.u32 %l2", "mul.wide.u32 %nothing"));
    assert!(code == 218 && log.contains("PTX line 22"), "{code} {log}");
    assert_eq!(refused("nothing").0, 218);
    assert_eq!(refused(&PTX.replace(".version 7.0", ".version 9.9")), (222, "PTX 9.9, expected at most 9.0".into()));
    assert_eq!(refused(&PTX.replace("sm_80", "sm_100")), (218, ".target sm_100 for a device of sm_90".into()));
    let (mut module, elf) = (0, *b"\x7fELF\x02\0");
    assert_eq!(code!(cuModuleLoadData((&mut module).into(), In::from(elf.as_ptr()))), 209);
    assert_eq!(code!(cuModuleLoadData((&mut module).into(), In::from(std::ptr::null()))), 1);
    assert_eq!(code!(cuModuleLoadFatBinary((&mut module).into(), In::from(elf.as_ptr()))), 209);
}

#[test]
fn kernels() {
    let _alone = Alone::enter();
    let (module, mut place) = (load(PTX), 0);
    let find =
        |name: &CStr, place: &mut usize| code!(cuModuleGetFunction(place.into(), module, In::from(name.as_ptr())));
    assert_eq!([find(c"add", &mut place), find(c"none", &mut place)], [0, 500]);
    assert_eq!(
        find(c"unknown", &mut place),
        801,
        "an instruction that the emulator does not know, and no other kernel's"
    );
    let mut owner = 0;
    let add = function(module, "add");
    ok!(cuFuncGetModule((&mut owner).into(), add));
    assert_eq!(owner, module);
    ok!(cuModuleUnload(module));
    assert_eq!([find(c"add", &mut place), code!(cuModuleUnload(module)), launch(add, 1, 0, 0, &[])], [400; 3]);
}

#[test]
fn variables() {
    let _alone = Alone::enter();
    let (module, mut address, mut bytes) = (load(PTX), 0, 0);
    let name = In::from(c"counter".as_ptr());
    ok!(cuModuleGetGlobal_v2((&mut address).into(), (&mut bytes).into(), module, name));
    assert_eq!((bytes, download(address, 1)), (4, vec![7]));
    assert_eq!(launch(function(module, "count"), 3, 0, 0, &[]), 0);
    assert_eq!(download(address, 1), [10]);
    assert_eq!(code!(cuMemFree_v2(address)), 1, "a variable is the module's");
    let none = In::from(c"none".as_ptr());
    assert_eq!(code!(cuModuleGetGlobal_v2((&mut address).into(), (&mut bytes).into(), module, none)), 500);
    ok!(cuModuleUnload(module));
    let mut word = 0u32;
    let host = (&raw mut word).expose_provenance();
    assert_eq!(code!(cuMemcpyDtoH_v2(host, address, 4)), 1);
}

#[test]
fn files() {
    let _alone = Alone::enter();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels.ptx");
    let (path, mut module) = (CString::new(path.to_str().unwrap()).unwrap(), 0);
    ok!(cuModuleLoad((&mut module).into(), In::from(path.as_ptr())));
    function(module, "add");
    assert_eq!(code!(cuModuleLoad((&mut module).into(), In::from(c"/no/such/file".as_ptr()))), 301);
}
