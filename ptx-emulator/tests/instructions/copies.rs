//! `cp.async`: sizes, parts that are zeros, groups.

use super::*;

/// Copies, a wait and the 16 bytes at the thread's place as results.
fn kernel(copy: &str) -> Kernel {
    let body = format!(
        ".shared .align 16 .b8 tile[512]; mov.u32 %w2, tile; mad.lo.u32 %w2, %w0, 16, %w2;
        st.shared.v2.b64 [%w2], {{-1, -1}};
        mad.wide.u32 %l2, %w0, 16, %l1; rem.u32 %w3, %w0, 17; and.b32 %w4, %w0, 1; setp.eq.u32 p1, %w4, 0;
        {copy}
        cp.async.wait_all;
        ld.shared.v2.b64 {{%l3, %l4}}, [%w2]; st.global.v2.b64 [%l0], {{%l3, %l4}};"
    );
    Kernel::new(2, body)
}

#[test]
fn sizes_and_zeros() {
    let input = noise(64, 31);
    let ones = [0xffu8; 16];
    // Bytes of the copy, and of its source, by thread.
    type Size = fn(usize) -> usize;
    let cases: [(&str, Size, Size); 9] = [
        ("cp.async.cg.shared.global [%w2], [%l2], 16;", |_| 16, |_| 16),
        ("cp.async.ca.shared::cta.global.L2::128B [%w2], [%l2], 16;", |_| 16, |_| 16),
        ("cp.async.ca.shared.global [%w2], [%l2], 8;", |_| 8, |_| 8),
        ("cp.async.ca.shared.global [%w2], [%l2], 4;", |_| 4, |_| 4),
        ("cp.async.cg.shared.global [%w2], [%l2], 16, %w3;", |_| 16, |i| i % 17),
        ("cp.async.ca.shared.global [%w2], [%l2], 8, 3;", |_| 8, |_| 3),
        ("cp.async.ca.shared.global [%w2], [%l2], 4, 0;", |_| 4, |_| 0),
        ("cp.async.cg.shared.global [%w2], [%l2], 16, p1;", |_| 16, |i| if i % 2 == 0 { 0 } else { 16 }),
        ("@p1 cp.async.cg.shared.global [%w2], [%l2], 16;", |i| if i % 2 == 0 { 16 } else { 0 }, |_| 16),
    ];
    for (copy, size, source) in cases {
        let out = kernel(copy).run(&input);
        for thread in 0..32 {
            let bytes: Vec<u8> = input[2 * thread..][..2].iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut want = ones;
            let (size, source) = (size(thread), source(thread));
            want[..size].fill(0);
            let read = source.min(size);
            want[..read].copy_from_slice(&bytes[..read]);
            let got: Vec<u8> = out[2 * thread..][..2].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(got, want, "{copy}, thread {thread}");
        }
    }
}

/// What is not read need not exist.
#[test]
fn sources_that_are_not_read() {
    let out = kernel("cp.async.cg.shared.global [%w2], [%l2+4096], 16, 0;").run(&[0; 64]);
    assert!(out.into_iter().all(|word| word == 0));
    let line = "cp.async.cg.shared.global [%w2], [%l2+16], 16;";
    assert_eq!(kernel(line).findings(&[0; 64]), [(FindingKind::OutOfBounds, line.to_string())]);
}

#[test]
fn groups_arrive_in_order() {
    let body = |most: u32| {
        format!(
            ".shared .align 16 .b8 tile[64]; cp.async.ca.shared.global [tile], [%l1], 8; cp.async.commit_group;
            cp.async.commit_group;
            cp.async.ca.shared.global [tile+8], [%l1+8], 8; cp.async.commit_group;
            cp.async.wait_group {most};
            ld.shared.b64 %l2, [tile]; st.global.b64 [%l0], %l2;
            cp.async.wait_group 0; ld.shared.b64 %l2, [tile+8]; st.global.b64 [%l0+8], %l2;"
        )
    };
    for most in [0, 1, 2] {
        assert_eq!(Kernel::new(2, body(most)).block(1).run(&[5, 6]), [5, 6]);
    }
    let (_, report) = Kernel::new(2, body(3)).block(1).report(&[5, 6], Mode::Nominal);
    assert!(report.has(FindingKind::PendingCopy), "{report}");
}

/// A loop that never waits ends.
#[test]
fn endless_copies() {
    let body = ".shared .align 16 .b8 tile[64]; again: cp.async.ca.shared.global [tile], [%l1], 8; bra again;";
    let (_, report) = Kernel::new(1, body).report(&[0], Mode::Nominal);
    assert!(report.has(FindingKind::Budget), "{report}");
}

/// Two warps and a tile that all have written. The first copies into it; `second` is what the second does between that
/// and the wait, `third` what it does after the wait.
fn two_warps(before: &str, second: &str, third: &str) -> Kernel {
    let body = format!(
        ".shared .align 16 .b8 tile[512]; mov.u32 %w2, tile; mov.u32 %w4, %tid.x;
        mad.lo.u32 %w2, %w4, 8, %w2; mad.wide.u32 %l2, %w4, 8, %l1; setp.lt.u32 p0, %w4, 32; mov.b64 %l3, 7;
        st.shared.b64 [%w2], %l3; bar.sync 0;
        {before}
        @p0 cp.async.ca.shared.global [%w2], [%l2], 8;
        @p0 cp.async.commit_group;
        bar.sync 0;
        {second}
        bar.sync 0;
        @p0 cp.async.wait_group 0;
        bar.sync 0;
        {third}
        st.global.b64 [%l0], %l3;"
    );
    Kernel::new(1, body).block(64)
}

/// The same findings, word for word, in every order of the warps and on any number of host threads.
fn in_every_order(mut kernel: Kernel) -> Report {
    let input = noise(64, 5);
    kernel = kernel.grid(4).threads(1);
    let (_, first) = kernel.report(&input, Mode::Nominal);
    for seed in 0..8 {
        kernel = kernel.threads(1 + seed as usize % 3);
        for mode in [Mode::Nominal, Mode::Shuffled { seed }, Mode::Adversarial { seed }] {
            let (_, report) = kernel.report(&input, mode);
            assert_eq!(report.findings(), first.findings(), "{mode:?}");
        }
    }
    first
}

#[test]
fn copies_of_another_warp_that_barriers_part_from_the_wait() {
    let touches = [
        "@!p0 ld.shared.b64 %l3, [%w2+-256];",
        "@!p0 ld.shared.b8 %h1, [%w2+-249];",
        "@!p0 st.shared.b64 [%w2+-256], %l3;",
        "@!p0 atom.shared.add.u32 %w3, [%w2+-252], 1;",
        "@!p0 ld.volatile.shared.b32 %w3, [%w2+-256];",
        "@!p0 cp.async.ca.shared.global [%w2+-256], [%l2], 8;",
    ];
    for touch in touches {
        let kernel = two_warps("", touch, "@!p0 cp.async.wait_all;");
        assert_eq!(kernel.findings(&noise(64, 5)), [(FindingKind::PendingCopy, touch.to_string())]);
        let report = in_every_order(kernel);
        let [finding] = report.findings() else { panic!("{report}") };
        assert_eq!((finding.thread, finding.occurrences), ([32, 0, 0], 4 * 32), "{report}");
        let told = "by thread 0 has not been waited for, ";
        assert!(finding.detail.contains(told) && finding.detail.ends_with("from the start of `tile` (512 bytes)"));
    }
}

#[test]
fn copies_of_another_warp_that_has_waited() {
    let out = two_warps("", "", "@!p0 ld.shared.b64 %l3, [%w2+-256];").run(&noise(64, 5));
    assert_eq!((&out[..32], &out[32..]), (&[7; 32][..], &noise(64, 5)[..32]));
    // What it copies is not what the other touches, or what is there anyway.
    two_warps("", "@!p0 ld.shared.b64 %l3, [%w2];", "").run(&noise(64, 5));
    let again = "@!p0 cp.async.ca.shared.global [%w2+-256], [%l2+-256], 8;";
    two_warps("", again, "@!p0 cp.async.wait_all;").run(&noise(64, 5));
}

/// The copy may write as soon as it has begun, which no barrier keeps behind the read.
#[test]
fn copies_that_begin_before_others_have_read() {
    let kernel = two_warps("@!p0 ld.shared.b64 %l3, [%w2+-256];", "", "");
    for mode in [Mode::Nominal].into_iter().chain((0..16).map(|seed| Mode::Shuffled { seed })) {
        let (_, report) = kernel.report(&noise(64, 5), mode);
        let [finding] = report.findings() else { panic!("{mode:?}: {report}") };
        assert!([FindingKind::PendingCopy, FindingKind::SharedRace].contains(&finding.kind), "{mode:?}: {report}");
    }
    two_warps("@!p0 ld.shared.b64 %l3, [%w2+-256]; bar.sync 0;", "", "").run(&noise(64, 5));
}

/// What one block leaves unfinished is nothing to the next on the same host thread.
#[test]
fn copies_that_are_never_waited_for_end_with_their_block() {
    let body = ".shared .align 16 .b8 tile[512]; mov.u32 %w2, tile; mad.lo.u32 %w2, %w0, 8, %w2;
        and.b32 %w2, %w2, 255; st.shared.b64 [%w2], 1; mad.wide.u32 %l2, %w0, 8, %l1;
        cp.async.ca.shared.global [%w2+256], [%l2], 8; cp.async.commit_group; st.global.b64 [%l0], 1;";
    Kernel::new(1, body).grid(8).run(&noise(256, 5));
}
