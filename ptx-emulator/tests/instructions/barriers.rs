//! Barriers of the block.

use super::*;

#[test]
fn reductions_over_the_block() {
    // 70 threads: the last warp is not whole.
    for (count, block) in [("", 70u32), (", 96", 70), (", 64", 64)] {
        for (name, holds) in [
            ("all", "setp.lt.u32 p1, %w0, 1000;"),
            ("none", "setp.gt.u32 p1, %w0, 1000;"),
            ("one", "setp.eq.u32 p1, %w0, 63;"),
            ("but one", "setp.ne.u32 p1, %w0, 63;"),
            ("thirds", "rem.u32 %w2, %w0, 3; setp.eq.u32 p1, %w2, 1;"),
        ] {
            let body = format!(
                "{holds}
                bar.red.popc.u32 %w3, 0{count}, p1; barrier.red.popc.aligned.u32 %w4, 1{count}, !p1;
                bar.red.and.pred p2, 2{count}, p1; bar.red.or.pred p3, 2{count}, p1;
                barrier.cta.red.and.aligned.pred p4, 15{count}, !p1; bar.red.or.pred p5, 0{count}, !p1;
                selp.b32 %w5, 1, 0, p2; selp.b32 %w6, 2, 0, p3; selp.b32 %w7, 4, 0, p4; selp.b32 %w8, 8, 0, p5;
                or.b32 %w5, %w5, %w6; or.b32 %w7, %w7, %w8; or.b32 %w5, %w5, %w7;
                {}{}{}",
                result(0, "%w3", 32),
                result(1, "%w4", 32),
                result(2, "%w5", 32)
            );
            let out = Kernel::new(3, body).block(block).run(&[0]);
            let held = |thread: &u32| match name {
                "all" => true,
                "none" => false,
                "one" => *thread == 63,
                "but one" => *thread != 63,
                _ => thread % 3 == 1,
            };
            let holding = (0..block).filter(held).count() as u64;
            let failing = u64::from(block) - holding;
            let flags = u64::from(failing == 0)
                + 2 * u64::from(holding > 0)
                + 4 * u64::from(holding == 0)
                + 8 * u64::from(failing > 0);
            assert!(out.chunks(3).all(|got| got == [holding, failing, flags]), "{name}{count}: {:?}", &out[..3]);
        }
    }
}

/// Two pairs of warps, each with a barrier and a count of its own, one number from a register.
#[test]
fn barriers_with_counts() {
    let body = "
        .shared .align 4 .b32 tile[128]; mov.u32 %w2, tile; mad.lo.u32 %w3, %w0, 4, %w2; st.shared.u32 [%w3], %w0;
        shr.u32 %w4, %w0, 6; add.u32 %w5, %w4, 3; setp.eq.u32 p1, %w4, 0; mov.u32 %w7, 64;
        @p1 bar.sync %w5, 64; @!p1 barrier.sync %w5, %w7;
        xor.b32 %w6, %w0, 32; mad.lo.u32 %w6, %w6, 4, %w2; ld.shared.u32 %w8, [%w6];
        cvt.u64.u32 %l2, %w8; st.global.u64 [%l0], %l2;";
    let out = Kernel::new(1, body).block(128).run(&[0]);
    assert!(out.into_iter().eq((0..128).map(|i| i ^ 32)));
}

/// A warp that arrives does not wait, and what it wrote before is ordered.
#[test]
fn arrivals() {
    let body = |consume: &str| {
        format!(
            ".shared .align 4 .b32 tile[32]; mov.u32 %w2, tile; and.b32 %w4, %w0, 31; mad.lo.u32 %w3, %w4, 4, %w2;
            setp.ge.u32 p1, %w0, 32; @p1 bra consumer;
            st.shared.u32 [%w3], %w0; bar.arrive 5, 64; mov.u64 %l2, 9; bra.uni over;
            consumer: {consume} ld.shared.u32 %w5, [%w3]; cvt.u64.u32 %l2, %w5;
            over: st.global.u64 [%l0], %l2;"
        )
    };
    let out = Kernel::new(1, body("bar.sync 5, 64;")).block(64).run(&[0]);
    assert!(out.into_iter().eq(std::iter::repeat_n(9, 32).chain(0..32)));
    let (_, report) = Kernel::new(1, body("")).block(64).report(&[0], Mode::Nominal);
    assert!(report.has(FindingKind::SharedRace) || report.has(FindingKind::UninitialisedShared), "{report}");
}

#[test]
fn bad_barriers_are_findings() {
    use FindingKind::*;
    for (body, kind, text) in [
        ("@p1 bar.sync 0; bar.sync 0;", DivergentBarrier, "lanes 0x00000001 of 0xffffffff of the warp are here"),
        ("bar.sync 16;", DivergentBarrier, "barrier 16, expected one below 16"),
        ("bar.sync 0, 33;", DivergentBarrier, "33 threads, expected a multiple of 32 up to 64"),
        ("bar.sync 0, 96;", DivergentBarrier, "96 threads, expected a multiple of 32 up to 64"),
        ("setp.lt.u32 p2, %w0, 32; @p2 bar.sync 1, 64;", Deadlock, "line"),
        // The barrier is complete with the second arrival: nobody comes for the third.
        ("setp.lt.u32 p2, %w0, 32; @p2 bar.arrive 1, 64; @p2 bar.arrive 1, 64; @!p2 bar.sync 1, 64;", Deadlock, "line"),
    ] {
        let kernel = Kernel::new(1, format!("setp.eq.u32 p1, %w0, 0;\n{body}")).block(64);
        let (_, report) = kernel.report(&[0], Mode::Nominal);
        let found = report.findings().iter().find(|finding| finding.kind == kind && finding.detail.contains(text));
        assert!(found.is_some(), "{body}:\n{report}");
    }
}

/// Four warps, and what they say of one barrier.
#[test]
fn barriers_whose_counts_disagree() {
    let warps = "shr.u32 %w2, %w0, 5; setp.eq.u32 p2, %w2, 0; setp.eq.u32 p3, %w2, 1;";
    for (body, text) in [
        ("@p2 bar.sync 3, 64; @p3 bar.sync 3, 96;", "barrier 3 for 96 threads, expected 64 as thread 0 in PTX line 10"),
        (
            "@p2 bar.arrive 4, 64; @p2 bra end; bar.sync 4; end:",
            "barrier 4 for 128 threads, expected 64 as thread 0 in PTX line 10",
        ),
    ] {
        let (_, report) = Kernel::new(1, format!("{warps}\n{body}")).block(128).report(&[0], Mode::Nominal);
        let kind = FindingKind::DivergentBarrier;
        let found = report.findings().iter().find(|finding| finding.kind == kind && finding.detail == text);
        assert!(found.is_some_and(|finding| finding.thread == [32, 0, 0]), "{body}:\n{report}");
    }
    // Without a count all are meant; the next time it may be another.
    let agreed =
        "@p2 bar.sync 3, 128; @!p2 bar.sync 3; @p2 bar.sync 3, 64; @p3 bar.arrive 3, 64; st.global.b64 [%l0], 1;";
    Kernel::new(1, format!("{warps}\n{agreed}")).block(128).run(&[0]);
}
