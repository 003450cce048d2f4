//! Atomic operations and reductions: values against arithmetic on integers and floats of Rust.

use super::*;
use half::{bf16, f16};

/// Sums of f32 and f64 that are exact, so that their order does not matter.
fn updated(operation: &str, ty: &str, before: u64, operand: u64) -> u64 {
    let halves = |sum: &dyn Fn(u16, u16) -> u16| {
        let low = sum(before as u16, operand as u16);
        let high = sum((before >> 16) as u16, (operand >> 16) as u16);
        u64::from(low) | u64::from(high) << 16
    };
    let f16_sum = |a: u16, b: u16| (f16::from_bits(a) + f16::from_bits(b)).to_bits();
    let bf16_sum = |a: u16, b: u16| (bf16::from_bits(a) + bf16::from_bits(b)).to_bits();
    let (small, other) = (before as u32, operand as u32);
    let float = |bits: u32| f32::from_bits(bits);
    match (operation, ty) {
        ("add", "u32" | "s32") => small.wrapping_add(other).into(),
        ("add", "u64" | "s64") => before.wrapping_add(operand),
        ("add", "f32") => (float(small) + float(other)).to_bits().into(),
        ("add", "f64") => (f64::from_bits(before) + f64::from_bits(operand)).to_bits(),
        ("add.noftz", "f16") => f16_sum(before as u16, operand as u16).into(),
        ("add.noftz", "bf16") => bf16_sum(before as u16, operand as u16).into(),
        ("add.noftz", "f16x2") => halves(&f16_sum),
        ("add.noftz", "bf16x2") => halves(&bf16_sum),
        ("min", "u32") => small.min(other).into(),
        ("max", "u32") => small.max(other).into(),
        ("min", "s32") => ((small as i32).min(other as i32) as u32).into(),
        ("max", "s32") => ((small as i32).max(other as i32) as u32).into(),
        ("min", "u64") => before.min(operand),
        ("max", "u64") => before.max(operand),
        ("min", "s64") => (before as i64).min(operand as i64) as u64,
        ("max", "s64") => (before as i64).max(operand as i64) as u64,
        ("and", _) => before & operand,
        ("or", _) => before | operand,
        ("xor", _) => before ^ operand,
        ("exch", _) => operand,
        ("inc", _) => {
            if small >= other {
                0
            } else {
                u64::from(small) + 1
            }
        }
        ("dec", _) => {
            if small == 0 || small > other {
                operand
            } else {
                u64::from(small) - 1
            }
        }
        _ => panic!("{operation}.{ty}"),
    }
}

const OPERATIONS: [(&str, &[&str]); 10] = [
    ("add", &["u32", "s32", "u64", "s64", "f32", "f64"]),
    ("add.noftz", &["f16", "bf16", "f16x2", "bf16x2"]),
    ("min", &["u32", "s32", "u64", "s64"]),
    ("max", &["u32", "s32", "u64", "s64"]),
    ("and", &["b32", "b64"]),
    ("or", &["b32", "b64"]),
    ("xor", &["b32", "b64"]),
    ("exch", &["b32", "b64"]),
    ("inc", &["u32"]),
    ("dec", &["u32"]),
];

fn bits(ty: &str) -> u32 {
    match ty {
        "f16" | "bf16" => 16,
        _ if ty.ends_with("64") => 64,
        _ => 32,
    }
}

/// What memory holds first, and operands: whole numbers for floats, edges for integers.
fn values(operation: &str, ty: &str) -> Vec<u64> {
    let numbers = [0i32, 1, -1, 3, 100, -128, 7, 2];
    match ty {
        "f32" => numbers.iter().map(|&v| (v as f32).to_bits().into()).collect(),
        "f64" => numbers.iter().map(|&v| f64::from(v).to_bits()).collect(),
        "f16" | "f16x2" => numbers.iter().map(|&v| u64::from(f16::from_f32(v as f32).to_bits()) * 0x1_0001).collect(),
        "bf16" | "bf16x2" => numbers
            .iter()
            .map(|&v| u64::from(bf16::from_f32(v as f32).to_bits()) | u64::from(bf16::from_f32(1.5).to_bits()) << 16)
            .collect(),
        _ if matches!(operation, "inc" | "dec") => vec![0, 1, 2, 3, 7, 8, 0xffff_ffff, 0x8000_0000],
        _ => vec![0, 1, u64::MAX, 0x7fff_ffff, 0x8000_0000, i64::MIN as u64, 0x5555_aaaa_1234_8765, 77],
    }
}

/// Every pair of values, a thread each, on memory of the thread's own.
#[test]
fn every_operation_and_type() {
    for (space, module) in [
        ("global", ".global .b64 own[64];"),
        ("shared", ".shared .b64 own[64];"),
        ("", ".global .b64 own[64];"),
        ("", ".shared .b64 own[64];"),
    ] {
        for (operation, types) in OPERATIONS {
            for ty in types {
                check(space, module, operation, ty);
            }
        }
    }
}

fn check(space: &str, module: &str, operation: &str, ty: &str) {
    let bits = bits(ty);
    let letter = ["h", "w", "l"][bits as usize / 32];
    let dot = if space.is_empty() { String::new() } else { format!(".{space}") };
    let generic = if module.starts_with(".shared") && space.is_empty() { "cvta.shared.u64 %l3, %l3;" } else { "" };
    let red = if operation == "exch" { "atom.exch" } else { "red" };
    let (middle, dst) = if operation == "exch" { (String::new(), "_, ") } else { (format!(".{operation}"), "") };
    let body = format!(
        "mad.wide.u32 %l2, %w0, 16, %l1; mov.u64 %l3, own; mad.wide.u32 %l3, %w0, 8, %l3; {generic}
        ld.global.b{bits} %{letter}40, [%l2]; ld.global.b{bits} %{letter}41, [%l2+8];
        st{dot}.b{bits} [%l3], %{letter}40;
        atom{dot}.{operation}.{ty} %{letter}42, [%l3], %{letter}41;
        {}ld{dot}.b{bits} %{letter}43, [%l3];
        {}{red}{dot}{middle}.{ty} {dst}[%l3], %{letter}41;
        ld{dot}.b{bits} %{letter}43, [%l3];
        {}",
        result(0, &format!("%{letter}42"), bits),
        result(1, &format!("%{letter}43"), bits),
        result(2, &format!("%{letter}43"), bits)
    );
    let body = if operation == "exch" {
        body.replace(&format!("atom.exch{dot}.{ty} _"), &format!("atom{dot}.exch.{ty} _"))
    } else {
        body
    };
    let values = values(operation, ty);
    let pairs: Vec<[u64; 2]> = values.iter().flat_map(|&a| values.iter().map(move |&b| [a, b])).collect();
    let out = Kernel::new(3, body).module(module).block(64).run(pairs.as_flattened());
    let cut = |value: u64| if bits == 64 { value } else { value & ((1 << bits) - 1) };
    for (&[before, operand], got) in pairs.iter().zip(out.chunks(3)) {
        let once = cut(updated(operation, ty, cut(before), cut(operand)));
        let twice = cut(updated(operation, ty, once, cut(operand)));
        assert_eq!(got, [cut(before), once, twice], "{space} {operation}.{ty} of {before:#x} and {operand:#x}");
    }
}

#[test]
fn compare_and_swap() {
    for (ty, bits) in [("b16", 16u32), ("b32", 32), ("b64", 64)] {
        for (space, module) in [("global", ".global .b64 own[32];"), ("shared", ".shared .b64 own[32];")] {
            let letter = ["h", "w", "l"][bits as usize / 32];
            let body = format!(
                "mad.wide.u32 %l2, %w0, 24, %l1; mov.u64 %l3, own; mad.wide.u32 %l3, %w0, 8, %l3;
                ld.global.b{bits} %{letter}40, [%l2]; ld.global.b{bits} %{letter}41, [%l2+8]; ld.global.b{bits} %{letter}44, [%l2+16];
                st.{space}.b{bits} [%l3], %{letter}40;
                atom.{space}.cas.{ty} %{letter}42, [%l3], %{letter}41, %{letter}44;
                ld.{space}.b{bits} %{letter}43, [%l3];\n{}{}",
                result(0, &format!("%{letter}42"), bits),
                result(1, &format!("%{letter}43"), bits)
            );
            let triples: Vec<[u64; 3]> = (0..32)
                .map(|i| {
                    let value = 0x1234_5678_9abc_def0 + i;
                    // Half of them agree; others differ in one bit, the lowest or the highest.
                    let other = [value, value ^ 1, value, value ^ 1 << (bits - 1)][i as usize % 4];
                    [value, other, 1000 + i]
                })
                .collect();
            let out = Kernel::new(2, body).module(module).run(triples.as_flattened());
            let cut = |value: u64| value & (u64::MAX >> (64 - bits));
            for (i, (&[value, other, swap], got)) in triples.iter().zip(out.chunks(2)).enumerate() {
                let after = if value == other { swap } else { value };
                assert_eq!(got, [cut(value), cut(after)], "{space} cas.{ty}, thread {i}");
            }
        }
    }
}

/// Threads of several blocks add to one word: every ticket is given once, and loops of `cas` lose nothing.
#[test]
fn tickets_and_cas_loops() {
    let module = ".global .b32 counter; .global .b32 sum; .extern .shared .align 8 .b8 dynamic[];";
    let body = "atom.global.add.u32 %w2, [counter], 1;
        cvt.u64.u32 %l2, %w2; st.global.u64 [%l0], %l2;
        ld.relaxed.gpu.global.u32 %w3, [sum];
        again: mad.lo.u32 %w4, %w0, 3, %w3;
        atom.relaxed.gpu.global.cas.b32 %w5, [sum], %w3, %w4;
        setp.ne.u32 p1, %w5, %w3; mov.u32 %w3, %w5;
        @p1 bra again;
        setp.ne.u32 p2, %w0, 0; mov.u32 %w7, %tid.x; setp.ne.u32 p3, %w7, 0;
        @!p3 st.shared.b32 [dynamic+4], 5; bar.sync 0;
        atom.shared.add.u32 %w6, [dynamic+4], 2; red.shared.inc.u32 [dynamic+4], 0xffff; bar.sync 0;
        ld.shared.u32 %w6, [dynamic+4]; cvt.u64.u32 %l3, %w6; st.global.u64 [%l0+8], %l3;
        @p2 bra over; bra over; over:";
    let kernel = Kernel::new(2, body).module(module).block(96).grid(3).shared(8);
    for mode in [Mode::Nominal, Mode::Adversarial { seed: 1 }, Mode::Adversarial { seed: 2 }] {
        let (out, report) = kernel.report(&[0], mode);
        assert!(report.is_clean(), "{report}");
        let mut tickets: Vec<u64> = out.iter().step_by(2).copied().collect();
        tickets.sort();
        assert!(tickets.into_iter().eq(0..288));
        assert!(out.iter().skip(1).step_by(2).all(|&sum| sum == 5 + 3 * 96), "{mode:?}");
    }
    let module = Module::from_ptx(&kernel.text()).unwrap();
    let device = Device::new();
    let (out, input) = (device.alloc::<u64>(2 * 288).unwrap(), device.upload(&[0u64]).unwrap());
    let launch = module.launch("k").grid([3, 1, 1]).block([96, 1, 1]).shared_bytes(8).arg(out).arg(input);
    assert!(launch.bytes(&structure()).run(&device).unwrap().is_clean());
    let sum = module.variable::<u32>(&device, "sum").unwrap();
    assert_eq!(device.read(sum).unwrap(), [(0..288).map(|i| 3 * i).sum::<u32>()]);
}

#[test]
fn bad_atomics_are_findings() {
    use FindingKind::*;
    let module = ".shared .align 4 .b32 tile[4];\n.const .align 4 .b32 fixed[4] = {1, 2, 3, 4};";
    for (body, kind) in [
        ("red.global.add.u32 [%l1+64], 1;", OutOfBounds),
        ("red.global.add.u64 [%l1+4], 1;", Misaligned),
        ("red.global.add.u32 [%l0], 1;", UninitialisedGlobal),
        ("red.shared.add.u32 [tile], 1;", UninitialisedShared),
        ("atom.shared.add.u32 %w2, [tile+16], 1;", OutOfBounds),
        ("mov.u64 %l3, fixed; cvta.const.u64 %l3, %l3; red.add.u32 [%l3], 1;", ReadOnlyWrite),
        (".local .b32 own; mov.u64 %l3, own; cvta.local.u64 %l3, %l3; red.add.u32 [%l3], 1;", OutOfBounds),
    ] {
        let found = Kernel::new(1, body).module(module).block(1).findings(&[0; 8]);
        assert_eq!(found, [(kind, body.to_string())]);
    }
}
