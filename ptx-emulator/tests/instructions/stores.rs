//! Stores: every type and vector from registers of every width, to every space.

use super::*;

/// Bytes that each thread stores to.
const PART: usize = 32;

/// Stores of one type and vector from registers that hold the input, at offset 16 of 32 bytes; then the bytes as results.
fn stores(space: &str, address: &str, (ty, bytes, count, register): (&str, usize, usize, u32)) -> String {
    let letter = ["h", "w", "l"][register as usize / 32];
    let names: Vec<String> = (0..count).map(|i| format!("%{letter}{}", 40 + i)).collect();
    let mut body = String::new();
    for (i, name) in names.iter().enumerate() {
        body += &format!("ld.global.b{register} {name}, [%l2+{}];\n", 8 * i);
    }
    let (vector, operand) = match count {
        1 => (String::new(), names[0].clone()),
        _ => (format!(".v{count}"), format!("{{{}}}", names.join(", "))),
    };
    // The bytes around it are there before.
    body += &format!("st{space}.v4.b32 [{address}+16], {{0x11111111, 0x11111111, 0x11111111, 0x11111111}};\n");
    body += &format!("st{space}{vector}.{ty} [{address}+16], {operand};\n");
    let load = space.replace(".release.sys", "").replace(".wt", "");
    for word in 0..2 {
        body += &format!("ld{load}.b64 %l9, [{address}+{}];\n{}", 16 + 8 * word, result(word, "%l9", 64));
    }
    assert!(bytes * count <= 16);
    body
}

fn check(prologue: &str, module: &str, space: &str, address: &str) {
    let input = noise(4 * 32, 11);
    for (ty, bytes, _) in TYPES {
        for register in [16, 32, 64].into_iter().filter(|&bits| bits >= 8 * bytes as u32) {
            for count in [1, 2, 4].into_iter().filter(|count| count * bytes <= 16) {
                let body = stores(space, address, (ty, bytes, count, register));
                let out = Kernel::new(2, format!("{prologue}\n{body}")).module(module).run(&input);
                for (thread, got) in out.chunks(2).enumerate() {
                    let mut want = [0x11u8; 16];
                    for i in 0..count {
                        let value = input[4 * thread + i].to_le_bytes();
                        want[i * bytes..][..bytes].copy_from_slice(&value[..bytes]);
                    }
                    let got: Vec<u8> = got.iter().flat_map(|word| word.to_le_bytes()).collect();
                    assert_eq!(got, want, "st{space}.v{count}.{ty} of {register} bits, thread {thread}");
                }
            }
        }
    }
}

const OWN: &str = "mad.wide.u32 %l2, %w0, 32, %l1;";

#[test]
fn to_global_memory() {
    let module = format!(".global .align 16 .b8 target[{}];", 32 * PART);
    let prologue = format!("{OWN}\nmov.u64 %l3, target;\nmad.wide.u32 %l3, %w0, 32, %l3;");
    for space in [".global", "", ".release.sys.global", ".global.wt"] {
        check(&prologue, &module, space, "%l3");
    }
}

#[test]
fn to_shared_memory() {
    let prologue = format!(
        "{OWN}\nmov.u32 %w2, target;\nmad.lo.u32 %w2, %w0, 32, %w2;\ncvt.u64.u32 %l3, %w2;\ncvta.shared.u64 %l4, %l3;"
    );
    let module = ".shared .align 16 .b8 target[1024];";
    check(&prologue, module, ".shared", "%w2");
    check(&prologue, module, ".volatile.shared", "%l3");
    check(&prologue, module, "", "%l4");
}

#[test]
fn to_local_memory() {
    let prologue = format!("{OWN}\n.local .align 16 .b8 target[32];\nmov.u64 %l3, target;\ncvta.local.u64 %l4, %l3;");
    check(&prologue, "", ".local", "%l3");
    check(&prologue, "", ".local", "target");
    check(&prologue, "", "", "%l4");
}

#[test]
fn immediates() {
    let body = "st.global.b8 [%l0], 255; st.global.u8 [%l0+1], -2; st.global.b16 [%l0+2], 0x1234;
        st.global.f32 [%l0+4], 0fBF800000; st.global.f64 [%l0+8], 1.5; st.global.f32 [%l0+16], 0.25;
        st.global.b32 [%l0+20], 0f3F800000; st.global.s64 [%l0+24], -3; st.global.v2.b64 [%l0+32], {7, 0xFFFFFFFFFFFFFFFF};";
    let out = Kernel::new(6, body).block(1).run(&[0]);
    let first = 0xff | 0xfe << 8 | 0x1234 << 16 | 0xbf80_0000u64 << 32;
    let third = u64::from(0.25f32.to_bits()) | u64::from(1f32.to_bits()) << 32;
    assert_eq!(out, [first, 1.5f64.to_bits(), third, -3i64 as u64, 7, u64::MAX]);
}

#[test]
fn bad_stores_are_findings() {
    use FindingKind::*;
    let module = ".shared .align 4 .b32 tile[4];\n.const .align 4 .b32 fixed[4] = {1, 2, 3, 4};";
    for (body, kind) in [
        ("st.global.b32 [%l1+64], 1;", OutOfBounds),
        ("st.global.v2.b32 [%l1+60], {1, 2};", Misaligned),
        ("st.global.v2.b32 [%l1+64], {1, 2};", OutOfBounds),
        ("st.shared.b32 [tile+16], 1;", OutOfBounds),
        ("st.shared.b32 [tile+-4], 1;", OutOfBounds),
        ("mov.u64 %l3, fixed; cvta.const.u64 %l3, %l3; st.b32 [%l3], 1;", ReadOnlyWrite),
        ("mov.u64 %l3, structure; cvta.param.u64 %l3, %l3; st.b32 [%l3], 1;", ReadOnlyWrite),
        ("add.u32 %w3, %w2, 1; st.global.b32 [%l0], %w3;", UninitialisedRegister),
    ] {
        let found = Kernel::new(1, body).module(module).block(1).findings(&[0; 8]);
        assert_eq!(found, [(kind, body.to_string())]);
    }
}

/// Lanes of one store that agree race with nobody, whatever was there before; those that do not, race.
#[test]
fn one_value_of_all_lanes() {
    let module = ".shared .align 4 .b32 tile[4];";
    let body = "st.shared.b32 [tile], 7; bar.sync 0; ld.shared.b32 %w2, [tile]; cvt.u64.u32 %l2, %w2; st.global.b64 [%l0], %l2;";
    assert_eq!(Kernel::new(1, body).module(module).run(&[0]), [7; 32]);
    let line = "st.shared.b32 [tile], %w2;";
    let found = Kernel::new(1, format!("shr.u32 %w2, %w0, 4;\n{line}")).module(module).findings(&[0]);
    assert_eq!(found, [(FindingKind::SharedRace, line.to_string())]);
}
