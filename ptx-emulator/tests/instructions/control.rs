//! Branches, guards, scopes, exits.

use super::*;

#[test]
fn branches_through_tables() {
    let module = "";
    let body = "rem.u32 %w2, %w0, 5; mov.u32 %w3, 0;
        table: .branchtargets zero, one, two, one, four;
        setp.lt.u32 p1, %w0, 20; @p1 brx.idx %w2, table;
        mov.u32 %w3, 99; bra over;
        zero: mov.u32 %w3, 10; bra over; one: add.u32 %w3, %w3, 11; two: add.u32 %w3, %w3, 100; bra.uni over;
        four: mov.u32 %w3, 14;
        over: cvt.u64.u32 %l2, %w3; st.global.u64 [%l0], %l2;";
    let out = Kernel::new(1, body).module(module).run(&[0]);
    for (i, got) in out.into_iter().enumerate() {
        assert_eq!(got, if i < 20 { [10, 111, 100, 111, 14][i % 5] } else { 99 }, "thread {i}");
    }
    let body = "table: .branchtargets over, over;\nbrx.idx %w0, table;\nover: st.global.u64 [%l0], 1;";
    let (out, report) = Kernel::new(1, body).block(3).report(&[0], Mode::Nominal);
    assert_eq!(out, [1, 1, u64::MAX]);
    assert!(report.findings().len() == 1 && report.findings()[0].kind == FindingKind::OutOfBounds, "{report}");
    assert_eq!(report.findings()[0].detail, "index 2 in a branch table of 2");
}

/// Every kind of instruction under a guard, plain and negated: lanes without it keep all.
#[test]
fn guards() {
    let module = ".shared .align 4 .b32 tile[64]; .func (.reg .b32 r) f(.reg .b32 x) { add.u32 r, x, 500; }";
    let guarded = [
        "mov.u32 %w5, 1;",
        "add.u32 %w5, %w0, 2;",
        "ld.global.u32 %w5, [%l1];",
        "ld.shared.u32 %w5, [tile+128];",
        "atom.shared.add.u32 %w5, [%w3], 3;",
        "shfl.sync.idx.b32 %w5, %w0, %w4, 31, %w6;",
        "vote.sync.ballot.b32 %w5, p9, %w6;",
        "redux.sync.max.u32 %w5, %w0, %w6;",
        "match.any.sync.b32 %w5, %w7, %w6;",
        "call (%w5), f, (%w0);",
        "mov.b32 %w5, {%h5, %h6};",
        "activemask.b32 %w5;",
        "bar.warp.sync %w6;\nmov.u32 %w5, 6;",
    ];
    let mut body = String::from(
        "mov.u32 %w2, tile; mad.lo.u32 %w3, %w0, 4, %w2; st.shared.u32 [%w3], %w0;
        setp.eq.u32 p8, %w0, 0; @p8 st.shared.u32 [tile+128], 44; bar.sync 0;
        and.b32 %w8, %w0, 2; setp.ne.u32 p1, %w8, 0; setp.ge.u32 p9, %w0, 0; setp.ge.u32 p9, %w0, 16;
        selp.b32 %w6, 0xcccccccc, 0x33333333, p1; selp.b32 %w4, 2, 1, p1; mov.b16 %h5, 3; mov.b16 %h6, 4; mov.u32 %w7, 1;\n",
    );
    for (i, line) in guarded.iter().enumerate() {
        body += "mov.u32 %w5, 7777;\n";
        body += &line.lines().map(|line| format!("@p1 {line}\n")).collect::<String>();
        body += &result(2 * i, "%w5", 32);
        body += "mov.u32 %w5, 8888;\n";
        body += &line.lines().map(|line| format!("@!p1 {line}\n")).collect::<String>();
        body += &result(2 * i + 1, "%w5", 32);
    }
    let words = 2 * guarded.len();
    let out = Kernel::new(words, body).module(module).run(&[123]);
    for (thread, got) in out.chunks(words).enumerate() {
        let set = thread & 2 != 0;
        let t = thread as u64;
        let mask = if set { 0xcccc_ccccu64 } else { 0x3333_3333 };
        let source = if set { 2 } else { 1 };
        let most = if set { 31 } else { 29 };
        let value = [1, t + 2, 123, 44, t, source, mask & 0xffff_0000, most, mask, t + 500, 4 << 16 | 3, mask, 6];
        for (i, line) in guarded.iter().enumerate() {
            let pair = if set { [value[i], 8888] } else { [7777, value[i]] };
            assert_eq!(got[2 * i..2 * i + 2], pair, "thread {thread}: {line}");
        }
    }
}

/// Stores, reductions and copies under a guard touch nothing for other lanes, not even a bad address.
#[test]
fn guarded_stores() {
    let body =
        ".shared .align 16 .b8 tile[16]; setp.eq.u32 p1, %w0, 5; selp.b64 %l2, %l1, 3, p1; selp.b32 %w2, 0, 77, p1;
        mov.u32 %w3, tile; add.u32 %w2, %w2, %w3;
        st.global.u64 [%l0], 0;
        @p1 st.global.u64 [%l2], 41; @p1 red.global.add.u64 [%l2], 1; @!p1 bra over;
        over: @p1 cp.async.ca.shared.global [%w2], [%l2], 8; cp.async.wait_all;
        @p1 ld.shared.u64 %l3, [%w2]; @p1 st.global.u64 [%l0], %l3;";
    let out = Kernel::new(1, body).run(&[7]);
    assert!(out.into_iter().eq((0..32).map(|i| if i == 5 { 42 } else { 0 })));
}

#[test]
fn exits_in_divergent_code() {
    let body = "setp.lt.u32 p1, %w0, 8; @p1 bra low; setp.gt.u32 p2, %w0, 23; @p2 exit; mov.u32 %w2, 1; bra.uni over;
        low: mov.u32 %w2, 2; @!p1 exit; and.b32 %w3, %w0, 1; setp.eq.u32 p3, %w3, 1; @p3 ret;
        over: bar.sync 0; activemask.b32 %w4; st.global.v2.b32 [%l0], {%w2, %w4};";
    let (out, report) = Kernel::new(1, body).block(64).report(&[0], Mode::Nominal);
    assert!(report.is_clean(), "{report}");
    for (i, got) in out.into_iter().enumerate() {
        let value = match i {
            32.. => None,
            0..8 => (i % 2 == 0).then_some(2),
            _ => (i <= 23).then_some(1),
        };
        assert_eq!(got, value.map_or(u64::MAX, |value| value | 0x00ff_ff55 << 32), "thread {i}");
    }
}

/// A guarded last instruction guards not the end of the kernel.
#[test]
fn the_last_instruction_may_be_guarded() {
    let text =
        format!("{HEADER}.entry k() {{ .reg .b32 a; .reg .pred p; mov.u32 a, %tid.x; setp.lt.u32 p, a, 3; @p ret; }}");
    let report = Module::from_ptx(&text).unwrap().launch("k").block([33, 1, 1]).run(&Device::new()).unwrap();
    assert!(report.is_clean(), "{report}");
    let text = format!(
        "{HEADER}.entry k() {{ .reg .b32 a; .reg .pred p; mov.u32 a, %tid.x; setp.lt.u32 p, a, 3; @p bra end; mov.u32 a, 1; end: }}"
    );
    assert!(Module::from_ptx(&text).unwrap().launch("k").run(&Device::new()).unwrap().is_clean());
    let text = format!("{HEADER}.entry k() {{ }}");
    assert!(Module::from_ptx(&text).unwrap().launch("k").run(&Device::new()).unwrap().is_clean());
}

#[test]
fn scopes_and_names() {
    let body = "mov.u32 %w2, 1;
        { .reg .b32 %w<3>, x; .reg .b32 y1; .reg .b32 y<4>; mov.u32 %w2, 50; mov.u32 x, 7; mov.u32 y1, 1; mov.u32 y3, 3;
          { .reg .b64 x; cvt.u64.u32 x, %w2; mov.u64 %l2, x; bra same; same: }
          bra same; mov.u32 x, 99; same: add.u32 %w3, x, y1; add.u32 %w3, %w3, y3; add.u32 %w3, %w3, %w2;
          st.global.v2.b32 [%l0+8], {%w3, 0}; }
        same: add.u32 %w2, %w2, %w2; cvt.u64.u32 %l3, %w2; st.global.v2.u64 [%l0+16], {%l2, %l3};
        .reg .b32 %loop<2>, %tid_x; mov.u32 %loop0, 0; mov.u32 %tid_x, 8;
        again: { .reg .b32 %loop1; add.u32 %loop1, %loop0, 1; mov.u32 %loop0, %loop1; }
        setp.lt.u32 p1, %loop0, %tid_x; @p1 bra again; cvt.u64.u32 %l3, %loop0; st.global.u64 [%l0], %l3;";
    assert_eq!(Kernel::new(4, body).block(1).run(&[0]), [8, 61, 50, 2]);
}

#[test]
fn endless_loops_end() {
    let text = Kernel::new(1, "again: bra again;").text();
    let module = Module::from_ptx(&text).unwrap();
    let device = Device::new();
    let (out, input) = (device.alloc::<u64>(32).unwrap(), device.upload(&[0u64]).unwrap());
    let launch = module.launch("k").block([32, 1, 1]).arg(out).arg(input).bytes(&structure()).budget(5000);
    let report = launch.run(&device).unwrap();
    assert!(report.has(FindingKind::Budget) && report.warp_instructions() < 20_000, "{report}");
    let (_, report) = Kernel::new(1, "setp.eq.u32 p1, %w0, 3; @p1 trap; bar.sync 0;").report(&[0], Mode::Nominal);
    assert_eq!(report.findings().len(), 1);
    assert!(report.has(FindingKind::Trap) && report.findings()[0].thread == [3, 0, 0], "{report}");
}

/// The others of its warp do not go on to miss the lane that trapped.
#[test]
fn a_trap_ends_the_warp() {
    let body = "mov.u32 %w2, %tid.x; setp.eq.u32 p1, %w2, 5; @p1 trap;
        shfl.sync.idx.b32 %w3, %w2, 5, 31, -1; st.global.v2.b32 [%l0], {%w3, 0};";
    let found = Kernel::new(1, body).findings(&[0]);
    assert!(found.len() == 1 && found[0].0 == FindingKind::Trap, "{found:?}");
}
