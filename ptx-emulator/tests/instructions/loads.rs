//! Loads: every type, vector and register width, from every space, by its own and by generic addresses.

use super::*;

/// Bytes of each thread's part of the memory that is loaded from.
const PART: usize = 32;

/// Fills the thread's part of shared or local memory byte by byte from the input.
fn fill(space: &str, base: &str) -> String {
    let byte = |i: usize| format!("ld.global.u8 %h1, [%l2+{i}];\nst.{space}.u8 [{base}+{i}], %h1;\n");
    (0..PART).map(byte).collect()
}

/// Loads of all types and vectors at `address`, with their results, and what each is of the thread's bytes.
fn loads(space: &str, address: &str) -> (String, Vec<(usize, usize, bool, u32)>) {
    let (mut body, mut wanted) = (String::new(), Vec::new());
    for (ty, bytes, signed) in TYPES {
        for register in [16, 32, 64].into_iter().filter(|&bits| bits >= 8 * bytes as u32) {
            for count in [1, 2, 4].into_iter().filter(|count| count * bytes <= 16) {
                let names: Vec<String> =
                    (0..count).map(|i| format!("%{}{}", ["h", "w", "l"][register as usize / 32], 40 + i)).collect();
                // Vectors skip an element, which must not shift the others.
                let offset = if count * bytes <= 8 { 24 } else { 16 };
                let (vector, operand) = match count {
                    1 => (String::new(), names[0].clone()),
                    _ => (format!(".v{count}"), format!("{{{}}}", names.join(", "))),
                };
                body += &format!("ld{space}{vector}.{ty} {operand}, [{address}+{offset}];\n");
                for (i, name) in names.iter().enumerate() {
                    body += &result(wanted.len(), name, register);
                    wanted.push((offset + i * bytes, bytes, signed, register));
                }
            }
        }
    }
    (body, wanted)
}

/// Runs the loads; `part` gives the bytes that a thread sees.
fn check(prologue: &str, module: &str, (space, address): (&str, &str), part: impl Fn(usize) -> Vec<u8>) {
    let (body, wanted) = loads(space, address);
    let kernel = Kernel::new(wanted.len(), format!("{prologue}\n{body}")).module(module);
    let input = input();
    let out = kernel.run(&input);
    for (thread, got) in out.chunks(wanted.len()).enumerate() {
        let bytes = part(thread);
        for (&(offset, size, signed, register), &got) in wanted.iter().zip(got) {
            let want = extended(&bytes[offset..offset + size], signed, register);
            assert_eq!(got, want, "{space} {address}: thread {thread}, {size} bytes at {offset} into {register} bits");
        }
    }
}

fn input() -> Vec<u64> {
    noise(32 * PART / 8, 7)
}

fn of_thread(thread: usize) -> Vec<u8> {
    input().iter().flat_map(|word| word.to_le_bytes()).skip(PART * thread).take(PART).collect()
}

/// `%l2` is the address of the thread's part of the input.
const OWN: &str = "mad.wide.u32 %l2, %w0, 32, %l1;";

#[test]
fn global_memory() {
    check(OWN, "", (".global", "%l2"), of_thread);
    check(OWN, "", ("", "%l2"), of_thread);
    check(OWN, "", (".global.nc", "%l2"), of_thread);
    check(OWN, "", (".volatile.global", "%l2"), of_thread);
    check(OWN, "", (".acquire.gpu.global", "%l2"), of_thread);
    let there_and_back = format!("{OWN}\ncvta.to.global.u64 %l3, %l2;\ncvta.global.u64 %l4, %l3;");
    check(&there_and_back, "", (".global", "%l3"), of_thread);
    check(&there_and_back, "", ("", "%l4"), of_thread);
}

#[test]
fn shared_memory() {
    let module = ".shared .align 1 .b8 before[3];\n.shared .align 16 .b8 buffer[1024];";
    let prologue = format!(
        "{OWN}\nmov.u32 %w2, buffer;\nmad.lo.u32 %w2, %w0, 32, %w2;\ncvt.u64.u32 %l3, %w2;\ncvta.shared.u64 %l4, %l3;\n{}",
        fill("shared", "%w2")
    );
    check(&prologue, module, (".shared", "%w2"), of_thread);
    check(&prologue, module, (".shared::cta", "%l3"), of_thread);
    check(&prologue, module, ("", "%l4"), of_thread);
    check(&prologue, module, (".volatile", "%l4"), of_thread);
    // All threads see the first part, by the variable's name.
    let prologue = format!("{prologue}\nbar.sync 0;");
    check(&prologue, module, (".shared", "buffer"), |_| of_thread(0));
}

#[test]
fn local_memory() {
    let declared = ".local .align 4 .b8 first[12];\n.local .align 16 .b8 depot[32];";
    let prologue = format!(
        "{OWN}\n{declared}\nst.local.b32 [first+8], -1;\nmov.u64 %l3, depot;\ncvta.local.u64 %l4, %l3;\n{}",
        fill("local", "%l3")
    );
    check(&prologue, "", (".local", "%l3"), of_thread);
    check(&prologue, "", (".local", "depot"), of_thread);
    check(&prologue, "", ("", "%l4"), of_thread);
}

#[test]
fn parameters() {
    let bytes = |from: usize| move |_| structure()[from..from + PART].to_vec();
    check("", "", (".param", "structure+16"), bytes(16));
    check("mov.b64 %l3, structure;\nadd.s64 %l3, %l3, 32;", "", (".param", "%l3"), bytes(32));
    check("mov.b64 %l3, structure;\ncvta.param.u64 %l4, %l3;", "", ("", "%l4"), bytes(0));
    check("mov.b64 %l3, structure+16;", "", (".param::entry", "%l3"), bytes(16));
}

#[test]
fn constants() {
    let bytes: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37) ^ 0xc3).collect();
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let module = format!(".const .align 16 .b8 table[64] = {{{list}}};");
    let from = |from: usize| {
        let part = bytes[from..from + PART].to_vec();
        move |_| part.clone()
    };
    check("", &module, (".const", "table+16"), from(16));
    check("mov.u64 %l3, table;", &module, (".const", "%l3"), from(0));
    check("mov.u64 %l3, table;\ncvta.const.u64 %l4, %l3;", &module, ("", "%l4"), from(0));
    let odd = "mov.u64 %l3, table;\nand.b32 %w2, %w0, 1;\nmad.wide.u32 %l3, %w2, 32, %l3;";
    let each = |thread: usize| bytes[32 * (thread % 2)..][..PART].to_vec();
    check(odd, &module, (".const", "%l3"), each);
}

#[test]
fn wide_vectors_of_global_memory() {
    let body = "mad.wide.u32 %l2, %w0, 64, %l1;
        ld.global.v8.b32 {%w10, %w11, %w12, %w13, %w14, %w15, %w16, _}, [%l2];
        ld.global.v4.b64 {%l10, %l11, _, %l13}, [%l2+32];
        st.global.v8.b32 [%l0], {%w16, %w15, %w14, %w13, %w12, %w11, %w10, 9};
        st.global.v4.b64 [%l0+32], {%l13, 5, %l11, %l10};";
    let input = noise(8 * 32, 3);
    let out = Kernel::new(8, body).run(&input);
    for (got, words) in out.chunks(8).zip(input.chunks(8)) {
        let half = |i: usize| words[i / 2] >> (32 * (i % 2)) & 0xffff_ffff;
        let reversed: Vec<u64> =
            (0..4).map(|i| half(6 - 2 * i) | if i == 3 { 9 } else { half(5 - 2 * i) } << 32).collect();
        assert_eq!(got[..4], reversed);
        assert_eq!(got[4..], [words[7], 5, words[5], words[4]]);
    }
}

/// One instruction may address several spaces.
#[test]
fn generic_addresses_of_several_spaces_at_once() {
    let module = ".shared .align 4 .b32 tile[32];";
    let body = ".local .align 4 .b32 own;
        mov.u32 %w2, tile; mad.lo.u32 %w2, %w0, 4, %w2; cvt.u64.u32 %l2, %w2; cvta.shared.u64 %l2, %l2;
        mov.u64 %l3, own; cvta.local.u64 %l3, %l3;
        mad.wide.u32 %l4, %w0, 8, %l1;
        mov.u64 %l5, structure; cvta.param.u64 %l5, %l5;
        add.u32 %w3, %w0, 1000; st.u32 [%l2], %w3;
        add.u32 %w4, %w0, 2000; st.u32 [%l3], %w4;
        and.b32 %w5, %w0, 3;
        setp.eq.u32 p1, %w5, 0; setp.eq.u32 p2, %w5, 1; setp.eq.u32 p3, %w5, 2;
        selp.b64 %l6, %l2, %l4, p1; selp.b64 %l6, %l3, %l6, p2; selp.b64 %l6, %l5, %l6, p3;
        ld.u32 %w6, [%l6];
        cvt.u64.u32 %l7, %w6; st.global.u64 [%l0], %l7;";
    let input = noise(32, 9);
    let out = Kernel::new(1, body).module(module).run(&input);
    let first = extended(&structure()[..4], false, 32);
    for (i, &got) in out.iter().enumerate() {
        let want = [1000 + i as u64, 2000 + i as u64, first, input[i] & 0xffff_ffff][i % 4];
        assert_eq!(got, want, "thread {i}");
    }
}

/// Outside, misaligned, written by nobody: findings, and poison instead of a value.
#[test]
fn bad_loads_are_findings() {
    use FindingKind::*;
    let module = ".shared .align 4 .b32 tile[4];";
    for (body, kind) in [
        ("ld.global.b32 %w2, [%l1+64];", OutOfBounds),
        ("ld.global.b32 %w2, [%l1+-4];", OutOfBounds),
        ("ld.global.b32 %w2, [16];", OutOfBounds),
        ("ld.b32 %w2, [%l1+61];", Misaligned),
        ("ld.global.v4.b32 {%w2, _, _, _}, [%l1+8];", Misaligned),
        ("ld.shared.b32 %w2, [tile];", UninitialisedShared),
        ("ld.shared.b32 %w2, [tile+16];", OutOfBounds),
        (".local .b32 own; ld.local.b32 %w2, [own]; st.global.b32 [%l0], %w2;", UninitialisedLocal),
        (".local .b32 own; ld.local.b32 %w2, [own+4];", OutOfBounds),
        ("ld.param.b32 %w2, [structure+64];", OutOfBounds),
        ("ld.global.b32 %w2, [%l0];", UninitialisedGlobal),
        ("mov.b32 %w3, %w2; add.u32 %w2, %w3, 1; st.global.b32 [%l0], %w2;", UninitialisedRegister),
    ] {
        let found = Kernel::new(1, body).module(module).block(1).findings(&[0; 8]);
        assert_eq!(found, [(kind, body.to_string())]);
    }
}
