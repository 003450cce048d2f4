//! Two devices: each takes its own buffers alone, and both have the same addresses.

#![allow(missing_docs)]

use ptx_emulator::{Buffer, Device, Error, Module};

const COPY: &str = "
.version 8.0
.target sm_80
.address_size 64
.global .align 4 .b32 kept[8];
.entry copy(.param .u64 to, .param .u64 from) {
    .reg .b64 %l<4>; .reg .b32 %w<4>;
    ld.param.u64 %l0, [to]; ld.param.u64 %l1, [from]; mov.u32 %w0, %tid.x;
    mad.wide.u32 %l0, %w0, 4, %l0; mad.wide.u32 %l1, %w0, 4, %l1;
    ld.global.b32 %w1, [%l1]; st.global.b32 [%l0], %w1;
    ret;
}";

/// Two devices with a buffer of eight elements at the same address of each.
fn two() -> (Device, Device, Buffer<u32>, Buffer<u32>) {
    let (one, two) = (Device::new(), Device::new());
    let (mine, other) = (one.upload(&[1u32; 8]).unwrap(), two.upload(&[2u32; 8]).unwrap());
    assert_eq!(mine.address(), other.address(), "findings are the same, however many devices there were before");
    assert_eq!((mine.device(), other.device()), (one.id(), two.id()));
    assert_ne!(one.id(), two.id());
    (one, two, mine, other)
}

#[test]
fn memory_of_another_device() {
    let (one, two, mine, other) = two();
    let want = Error::Memory { what: format!("a buffer of {}, expected one of {}", two.id(), one.id()) };
    assert_eq!(one.read(other), Err(want.clone()));
    assert_eq!(one.write(other, &[3; 8]), Err(want.clone()));
    assert_eq!(one.name(other, "other"), Err(want.clone()));
    assert_eq!(one.forbid(other.slice(2, 3).unwrap(), true), Err(want.clone()));
    assert_eq!(one.free(other), Err(want));
    assert_eq!((one.read(mine).unwrap(), two.read(other).unwrap()), (vec![1; 8], vec![2; 8]));
}

#[test]
fn arguments_of_another_device() {
    let (one, two, mine, other) = two();
    let module = Module::from_ptx(COPY).unwrap();
    let launch = |to: Buffer<u32>, from: Buffer<u32>| module.launch("copy").block([4, 1, 1]).arg(to).arg(from);
    let told = |number: u32, name: &str| Error::Arguments {
        kernel: "copy".into(),
        what: format!("argument {number} (`{name}`) is a buffer of {}, expected one of {}", two.id(), one.id()),
    };
    assert_eq!(launch(mine, other).run(&one).unwrap_err(), told(1, "from"));
    assert_eq!(launch(other.slice(4, 4).unwrap(), mine).run(&one).unwrap_err(), told(0, "to"));
    // Variables of a module are memory of the device that they were asked for on.
    let kept = [&one, &two].map(|device| module.variable::<u32>(device, "kept").unwrap());
    assert_eq!(launch(kept[1], mine).run(&one).unwrap_err(), told(0, "to"));
    assert!(launch(kept[0], mine).run(&one).unwrap().is_clean());
    assert_eq!((one.read(kept[0]).unwrap()[3], two.read(kept[1]).unwrap()[3]), (1, 0));
}

#[test]
fn traffic_of_another_device() {
    let (one, _, mine, other) = two();
    let module = Module::from_ptx(COPY).unwrap();
    let to = one.alloc::<u32>(8).unwrap();
    let report = module.launch("copy").block([8, 1, 1]).arg(to).arg(mine).run(&one).unwrap();
    assert_eq!((report.bytes_loaded(mine), report.bytes_loaded(other), report.bytes_stored(to)), (32, 0, 32));
}
