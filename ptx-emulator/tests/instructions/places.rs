//! Addresses, variables and their first values, special registers.

use super::*;

#[test]
fn initial_values() {
    let module = "
        .const .align 8 .f32 floats[5] = {1, -2.5, 0f3E800000, 1e3, 0d3FF0000000000000};
        .const .f64 doubles[4] = {1, 0.1, 0f3F800000, -0d4008000000000000};
        .global .align 4 .s16 shorts[2][3] = {{1, -2}, {0x7fff, 077, 0b101}};
        .global .b32 empty[2];
        .const .u64 pointers[4] = {empty, generic(shorts)+2, pointers+16, 18446744073709551615};
        .global .v2 .b32 pairs[2] = {{1, 2}, {3, 4}};
        .global .b8 letters[] = {72, 105, 0};
        .const .align 8 .b8 mixed[4] = {0xff, -1, 'a', 1 << 4 | 3};"
        .replace("'a'", "97");
    let mut body = String::new();
    let mut want = Vec::new();
    let mut load = |ty: &str, at: &str, value: u64| {
        let bits = if ty.ends_with("64") {
            64
        } else if ty.ends_with("32") {
            32
        } else {
            16
        };
        let name = format!("%{}9", ["h", "w", "l"][bits as usize / 32]);
        body += &format!("ld.{ty} {name}, [{at}];\n{}", result(want.len(), &name, bits));
        want.push(value);
    };
    for (i, value) in [1f32, -2.5, 0.25, 1000.0, 1.0].into_iter().enumerate() {
        load("const.f32", &format!("floats+{}", 4 * i), value.to_bits().into());
    }
    for (i, value) in [1f64, 0.1, 1.0, -3.0].into_iter().enumerate() {
        load("const.f64", &format!("doubles+{}", 8 * i), value.to_bits());
    }
    for (i, value) in [1u64, 0xfffe, 0, 0x7fff, 63, 5].into_iter().enumerate() {
        load("global.b16", &format!("shorts+{}", 2 * i), value);
    }
    load("global.b64", "empty", 0);
    load("const.u64", "pointers+24", u64::MAX);
    load("global.b64", "pairs", 1 | 2 << 32);
    load("global.b64", "pairs+8", 3 | 4 << 32);
    load("global.u8", "letters+1", 105);
    load("const.b32", "mixed", 0x1361_ffff);
    // Through the pointers.
    body += "ld.const.u64 %l2, [pointers+8]; ld.global.s16 %w9, [%l2];\n";
    body += &result(want.len(), "%w9", 32);
    want.push(0xffff_fffe);
    body += "mov.u64 %l3, pointers; ld.const.u64 %l2, [%l3+16]; sub.s64 %l2, %l2, %l3;\n";
    body += &result(want.len(), "%l2", 64);
    want.push(16);
    body += "ld.const.u64 %l2, [pointers]; mov.u64 %l3, empty+4; sub.s64 %l2, %l3, %l2;\n";
    body += &result(want.len(), "%l2", 64);
    want.push(4);
    let out = Kernel::new(want.len(), body).module(module).block(1).run(&[0]);
    assert_eq!(out, want);
}

/// All `extern` arrays begin at one place, behind the others; its size is the launch's.
#[test]
fn dynamic_shared_memory() {
    let module = ".shared .align 2 .b8 fixed[6]; .extern .shared .align 16 .b8 all[]; .extern .shared .b32 words[];";
    let body = "mov.u32 %w2, all; mov.u32 %w3, words; sub.u32 %w4, %w2, %w3; mad.lo.u32 %w5, %w0, 4, %w3;
        setp.eq.u32 p1, %w0, 0; @p1 st.shared.u16 [fixed+4], 7; st.shared.u32 [%w5+16], %w0; bar.sync 0; ld.shared.u32 %w6, [words+24];
        ld.shared.u16 %w7, [fixed+4]; mov.u32 %w8, %dynamic_smem_size; mov.u32 %w9, %total_smem_size;
        mov.u64 %l2, all; cvta.shared.u64 %l2, %l2; ld.u32 %w10, [%l2+140];
        mov.u32 %w11, words+8; ld.shared.u32 %w12, [%w11+12];
        st.global.v4.b32 [%l0], {%w4, %w6, %w7, %w8}; st.global.v4.b32 [%l0+16], {%w9, %w10, %w12, 0};";
    let out = Kernel::new(4, body).module(module).shared(144).run(&[0]);
    for got in out.chunks(4) {
        assert_eq!(got, [2 << 32, 7 | 144 << 32, 150 | 31 << 32, 1]);
    }
    let line = "st.shared.u32 [words+144], 1;";
    let found = Kernel::new(1, line).module(module).shared(144).block(1).findings(&[0]);
    assert_eq!(found, [(FindingKind::OutOfBounds, line.to_string())]);
}

#[test]
fn spaces_of_addresses() {
    let module = ".shared .b32 tile[4]; .const .b32 fixed = 1; .global .b32 open = 1;";
    let spaces = ["global", "shared", "local", "param"];
    let addresses = [
        ("mov.u64 %l2, open; cvta.global.u64 %l2, %l2;", 0),
        ("mov.u64 %l2, fixed; cvta.const.u64 %l2, %l2;", 0),
        ("mov.u64 %l2, tile+4; cvta.shared.u64 %l2, %l2;", 1),
        ("mov.u64 %l2, own; cvta.local.u64 %l2, %l2;", 2),
        ("mov.u64 %l2, structure; cvta.param.u64 %l2, %l2;", 3),
    ];
    let mut body = String::from(".local .b64 own;\n");
    for (i, (address, _)) in addresses.iter().enumerate() {
        body += &format!("{address}\n");
        for (j, space) in spaces.iter().enumerate() {
            body += &format!(
                "isspacep.{space} p1, %l2; selp.b64 %l3, 1, 0, p1; st.global.u64 [%l0+{}], %l3;\n",
                8 * (4 * i + j)
            );
        }
    }
    let out = Kernel::new(20, body).module(module).block(1).run(&[0]);
    for (got, (address, space)) in out.chunks(4).zip(addresses) {
        assert!((0..4).all(|i| got[i] == u64::from(i == space)), "{address} {got:?}");
    }
}

#[test]
fn special_registers() {
    let names = [
        "%tid.x",
        "%tid.y",
        "%tid.z",
        "%ntid.x",
        "%ntid.y",
        "%ntid.z",
        "%ctaid.x",
        "%ctaid.y",
        "%ctaid.z",
        "%nctaid.x",
        "%nctaid.y",
        "%nctaid.z",
        "%laneid",
        "%warpid",
        "%nwarpid",
        "%lanemask_eq",
        "%lanemask_lt",
        "%lanemask_le",
        "%lanemask_gt",
        "%lanemask_ge",
    ];
    let stores: String = names
        .iter()
        .enumerate()
        .map(|(i, name)| format!("mov.u32 r, {name}; st.global.u32 [out+{}], r;\n", 4 * i))
        .collect();
    let text = format!(
        "{HEADER}.entry k(.param .b64 p) {{ .reg .b32 r, t, n; .reg .b64 out, o; ld.param.b64 out, [p];
        mov.u32 t, %ctaid.z; mov.u32 n, %nctaid.y; mad.lo.u32 t, t, n, %ctaid.y; mov.u32 n, %nctaid.x; mad.lo.u32 t, t, n, %ctaid.x;
        mad.lo.u32 t, t, %ntid.z, %tid.z; mad.lo.u32 t, t, %ntid.y, %tid.y; mad.lo.u32 t, t, %ntid.x, %tid.x;
        mad.wide.u32 out, t, 80, out;\n{stores} }}"
    );
    let (grid, block) = ([2u32, 3, 2], [5u32, 3, 4]);
    let device = Device::new();
    let out = device.alloc::<u32>(12 * 60 * 20).unwrap();
    let report = Module::from_ptx(&text).unwrap().launch("k").grid(grid).block(block).arg(out).run(&device).unwrap();
    assert!(report.is_clean(), "{report}");
    for (number, got) in device.read(out).unwrap().chunks(20).enumerate() {
        let (b, t) = (number as u32 / 60, number as u32 % 60);
        let (lane, last) = (t % 32, u32::MAX);
        let below = (1u64 << lane) as u32 - 1;
        let mut want = vec![t % 5, t / 5 % 3, t / 15, 5, 3, 4, b % 2, b / 2 % 3, b / 6, 2, 3, 2];
        want.extend([lane, t / 32, 2, 1 << lane, below, below << 1 | 1, last ^ (below << 1 | 1), last ^ below]);
        assert_eq!(got, want, "block {b}, thread {t}");
    }
}

/// Clocks never go back, and go on in loops.
#[test]
fn clocks() {
    let body = "mov.u64 %l2, %clock64; mov.u32 %w2, %clock; mov.u32 %w4, %clock_hi; mov.u64 %l5, %globaltimer;
        again: mov.u64 %l3, %clock64; sub.u64 %l4, %l3, %l2; setp.lt.u64 p1, %l4, 100; nanosleep.u32 20; @p1 bra again;
        mov.u32 %w3, %clock; setp.gt.u32 p2, %w3, %w2; selp.b64 %l4, 1, 0, p2; st.global.u64 [%l0], %l4;
        cvt.u64.u32 %l4, %w4; st.global.u64 [%l0+8], %l4;";
    let out = Kernel::new(2, body).run(&[0]);
    assert!(out.chunks(2).all(|got| got == [1, 0]));
}

/// Parts that memory has of a word, in moves.
#[test]
fn packing() {
    let input = noise(32, 5);
    let body = "mad.wide.u32 %l2, %w0, 8, %l1; ld.global.b64 %l3, [%l2];
        mov.b64 {%w2, %w3}, %l3; mov.b64 %l4, {%w3, %w2}; st.global.b64 [%l0], %l4;
        mov.b64 {%h2, %h3, %h4, %h5}, %l3; mov.b64 %l4, {%h5, %h4, %h3, %h2}; st.global.b64 [%l0+8], %l4;
        mov.b32 {%h6, _}, %w2; mov.b32 {_, %h7}, %w2; mov.b32 %w4, {%h7, %h6}; mov.b32 {%h8, %h8}, %w3; mov.b32 %w5, {%h8, 1};
        st.global.v2.b32 [%l0+16], {%w4, %w5};
        .reg .b8 %b<8>; mov.b32 {%b0, %b1, %b2, %b3}, %w2; mov.b32 %w6, {%b3, %b2, %b1, %b0};
        mov.b16 {%b4, %b5}, %h2; mov.b16 %h9, {%b5, %b4}; mov.b32 %w7, {%h9, 0}; st.global.v2.b32 [%l0+24], {%w6, %w7};";
    let out = Kernel::new(4, body).run(&input);
    for (got, &value) in out.chunks(4).zip(&input) {
        let half = |i: u32| value >> (16 * i) & 0xffff;
        let reversed = half(3) | half(2) << 16 | half(1) << 32 | half(0) << 48;
        let swapped = u64::from((value as u32).rotate_left(16)) | (half(3) | 1 << 16) << 32;
        let bytes = u64::from((value as u32).swap_bytes()) | u64::from((value as u16).swap_bytes()) << 32;
        assert_eq!(got, [value.rotate_left(32), reversed, swapped, bytes]);
    }
}

/// Unoptimised code reads a bit field with its neighbours, which nobody may have written.
#[test]
fn a_shift_drops_the_bytes_that_nobody_wrote() {
    let kernel = |shift: &str| {
        let body = ".local .align 8 .b8 field[8]; st.local.u8 [field+1], 5; st.local.v2.u8 [field+2], {6, 7};
            st.local.u32 [field+4], 8; mov.u32 %w4, 12;
            ld.local.u32 %w2, [field]; ld.local.u64 %l2, [field];\n";
        Kernel::new(1, format!("{body}{shift}\nst.global.u64 [%l0], %l3;"))
    };
    for shift in [
        "shr.u32 %w3, %w2, 8; cvt.u64.u32 %l3, %w3;",
        "shr.b32 %w3, %w2, %w4; cvt.u64.u32 %l3, %w3;",
        "shr.u64 %l3, %l2, 8;",
    ] {
        kernel(shift).run(&[0]);
    }
    for shift in ["shr.u32 %w3, %w2, 7; cvt.u64.u32 %l3, %w3;", "shl.b64 %l3, %l2, 8;"] {
        let found = kernel(shift).findings(&[0]);
        assert!(found.len() == 1 && found[0].0 == FindingKind::UninitialisedLocal, "{shift}: {found:?}");
    }
}

/// Unoptimised code writes a bit field by changing the word around it, which nobody may have written.
#[test]
fn masks_keep_apart_the_bytes_that_nobody_wrote() {
    let kernel = |mask: &str, shift: u32| {
        let body = ".local .align 4 .b32 field; ld.local.u32 %w2, [field]; shl.b32 %w3, %w0, 8;";
        let change = format!("and.b32 %w4, %w2, {mask}; or.b32 %w4, %w4, %w3; st.local.u32 [field], %w4;");
        let read = format!("ld.local.u32 %w5, [field]; shr.u32 %w5, %w5, {shift};");
        Kernel::new(1, format!("{body} {change} {read}\nst.global.v2.u32 [%l0], {{%w5, 0}};"))
    };
    assert_eq!(kernel("255", 8).run(&[0]), (0..32).collect::<Vec<u64>>());
    for (mask, shift) in [("255", 4), ("256", 8), ("-1", 8)] {
        let found = kernel(mask, shift).findings(&[0]);
        assert!(found.len() == 1 && found[0].0 == FindingKind::UninitialisedLocal, "{mask}, {shift}: {found:?}");
    }
}

/// Findings of memory say which: the buffer, the variable of shared memory, or whose memory it is.
#[test]
fn findings_name_what_they_concern() {
    use FindingKind::*;
    let tile = ".shared .align 16 .b8 tile[64]; .local .align 16 .b8 own[32];";
    let mut missing = Vec::new();
    for (body, kind, want) in [
        ("atom.global.add.u32 %w2, [%l0+4], 1;", UninitialisedGlobal, "4 bytes, at offset 4 of `out` (256 bytes)"),
        ("red.global.min.u64 [%l0], %l1;", UninitialisedGlobal, "8 bytes, at offset 0 of `out` (256 bytes)"),
        (
            "cp.async.ca.shared.global [tile], [%l1+4], 8, 3;",
            Misaligned,
            "source, expected a multiple of 8, at offset 4 of the 16 bytes at 0x200000000",
        ),
        (
            "cp.async.ca.shared.global [tile], [%l1+4], 8;",
            Misaligned,
            "8 bytes, expected a multiple of 8, at offset 4 of the 16 bytes at 0x200000000",
        ),
        (
            "cp.async.ca.shared.global [tile+4], [%l1], 8;",
            Misaligned,
            "8 bytes, expected a multiple of 8, 4 bytes from the start of `tile` (64 bytes)",
        ),
        (
            "ld.shared.b32 %w2, [tile+6];",
            Misaligned,
            "4 bytes, expected a multiple of 4, 6 bytes from the start of `tile` (64 bytes)",
        ),
        (
            "atom.shared.add.u32 %w2, [tile+2], 1;",
            Misaligned,
            "4 bytes, expected a multiple of 4, 2 bytes from the start of `tile` (64 bytes)",
        ),
        ("st.local.b32 [own+2], %w0;", Misaligned, "4 bytes, expected a multiple of 4, in local memory (32 bytes)"),
        (
            "ld.global.b32 %w2, [%l1+2];",
            Misaligned,
            "4 bytes, expected a multiple of 4, at offset 2 of the 16 bytes at",
        ),
    ] {
        let kernel = Kernel::new(1, format!("{tile}\n{body}"));
        let (_, report) = kernel.report(&[1, 2], Mode::Nominal);
        let found = report.findings().iter().find(|finding| finding.kind == kind);
        if !found.is_some_and(|finding| finding.detail.starts_with(want)) {
            missing.push(format!("{body}:\n{report}\n"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.concat());
}
