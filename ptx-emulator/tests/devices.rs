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

#[test]
fn addresses_of_ones_own() {
    let range = |first: u64, end: u64| Device::with_addresses(first << 32..end << 32);
    let (one, two) = (range(16, 18).unwrap(), range(32, 64).unwrap());
    let (mine, other) = (one.upload(&[1u32; 8]).unwrap(), two.upload(&[2u32; 8]).unwrap());
    assert_eq!((mine.address() >> 32, other.address() >> 32), (16, 32));
    assert_eq!((one.read(mine).unwrap(), two.read(other).unwrap()), (vec![1; 8], vec![2; 8]));
    let module = Module::from_ptx(COPY).unwrap();
    let launch = |to: u64, from: u64| module.launch("copy").block([8, 1, 1]).arg(to).arg(from);
    assert!(launch(mine.address(), mine.address()).run(&one).unwrap().is_clean());
    let report = launch(mine.address(), other.address()).run(&one).unwrap();
    assert!(report.has(ptx_emulator::FindingKind::OutOfBounds), "{report}");
    // The variable of the module, and no third allocation.
    assert!(matches!(one.upload(&[1u8]), Err(Error::Memory { .. })));
    for (first, end) in [(0, 4), (4, 4), (1, (1 << 24) + 1)] {
        assert!(matches!(range(first, end), Err(Error::Memory { .. })), "{first} {end}");
    }
    assert!(Device::with_addresses(5..1 << 33).is_err());
}

#[test]
fn copies_and_views() {
    let (one, two, _, other) = two();
    let fresh = one.alloc::<u32>(8).unwrap();
    one.write(fresh.slice(0, 4).unwrap(), &[7; 4]).unwrap();
    let (near, far) = (one.upload(&[0u32; 8]).unwrap(), two.upload(&[0u32; 8]).unwrap());
    one.copy(near, &one, fresh).unwrap();
    two.copy(far, &one, fresh).unwrap();
    let module = Module::from_ptx(COPY).unwrap();
    for (device, from) in [(&one, near), (&two, far)] {
        assert_eq!(device.read(from.slice(0, 5).unwrap()).unwrap(), [7, 7, 7, 7, u32::MAX]);
        let kept = module.variable::<u32>(device, "kept").unwrap();
        let launch = |threads| module.launch("copy").block([threads, 1, 1]).arg(kept).arg(from);
        assert!(launch(4).run(device).unwrap().is_clean());
        let report = launch(5).run(device).unwrap();
        assert!(report.has(ptx_emulator::FindingKind::UninitialisedGlobal), "what nobody wrote stays unwritten");
        device.forget(from).unwrap();
        assert!(!launch(1).run(device).unwrap().is_clean());
        module.unload(device);
        assert!(device.read(kept).is_err(), "freed with the module");
    }
    assert!(one.copy(near, &one, fresh.slice(0, 4).unwrap()).is_err());
    assert!(one.copy(near, &one, other).is_err());
    let view = one.view::<u32>(near.address() + 4, 7).unwrap();
    assert_eq!((view.address(), view.len(), view.device()), (near.address() + 4, 7, one.id()));
    assert!(one.view::<u32>(near.address() + 4, 8).is_err());
}

#[test]
fn what_a_kernel_takes() {
    let device = Device::new();
    let text = COPY.replace(".entry copy(", ".entry copy(.param .b8 first, ").replace(") {", ") .maxntid 64, 1, 1 {");
    let module = Module::from_ptx(&text).unwrap();
    let info = module.kernel(&device, "copy").unwrap();
    let parameters: Vec<_> = info.parameters.iter().map(|one| (one.offset, one.bytes)).collect();
    assert_eq!((parameters, info.parameter_bytes), (vec![(0, 1), (8, 8), (16, 8)], 24));
    assert_eq!((info.shared_bytes, info.local_bytes, info.most_threads, info.required_block), (0, 0, Some(64), None));
    let launch = |threads| module.launch("copy").block([threads, 1, 1]).arg(0u8).arg(0u64).arg(0u64);
    assert_eq!(launch(64).check(&device), Ok(()));
    assert!(launch(65).check(&device).is_err());
    assert!(module.launch("copy").arg(1u64).check(&device).is_err());
    assert!(matches!(module.kernel(&device, "none"), Err(Error::NoKernel { .. })));
}
