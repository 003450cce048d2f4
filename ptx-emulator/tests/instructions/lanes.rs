//! Operations between the lanes of a warp, all lanes of all modes.

use super::*;

/// The lane that a shuffle reads, and whether it lies in the segment: bit by bit, as the PTX ISA tells it.
fn model(mode: &str, lane: u32, by: u32, control: u32) -> (u32, bool) {
    let bit = |value: u32, i: u32| value >> i & 1;
    let pick = |inside: &dyn Fn(u32) -> u32| {
        (0..5).map(|i| if bit(control, 8 + i) == 1 { bit(lane, i) } else { inside(i) } << i).sum::<u32>() as i32
    };
    let (most, least) = (pick(&|i| bit(control, i)), pick(&|_| 0));
    let by = (by % 32) as i32;
    let (from, within) = match mode {
        "up" => (lane as i32 - by, lane as i32 - by >= most),
        "down" => (lane as i32 + by, lane as i32 + by <= most),
        "bfly" => (lane as i32 ^ by, lane as i32 ^ by <= most),
        _ => (pick(&|i| bit(by as u32, i)).max(least), pick(&|i| bit(by as u32, i)) <= most),
    };
    (if within { from as u32 } else { lane }, within)
}

const SEGMENTS: [u32; 8] = [0, 0x10, 0x18, 0x1c, 0x1e, 0x1f, 0x0f, 0x15];
const CLAMPS: [u32; 8] = [0, 1, 7, 15, 16, 21, 30, 31];

/// Every offset, in every lane, under segments and clamps of all kinds; bits that do not count are set.
#[test]
fn shuffles() {
    for mode in ["up", "down", "bfly", "idx"] {
        // Input: control words. Each block takes one; the offset differs from lane to lane.
        let body = format!(
            "cvt.u64.u32 %l5, %block; shl.b64 %l5, %l5, 3; add.s64 %l2, %l1, %l5; ld.global.b32 %w2, [%l2];
            mov.u32 %w9, %laneid; mad.lo.u32 %w3, %w9, 77, 1000; mov.u32 %w4, 0;
            again: mad.lo.u32 %w5, %w9, 39, %w4;
            shfl.sync.{mode}.b32 %w6|p1, %w3, %w5, %w2, -1;
            selp.b32 %w7, 1, 0, p1; st.global.v2.b32 [%l0], {{%w6, %w7}};
            add.s64 %l0, %l0, 8; add.u32 %w4, %w4, 1; setp.lt.u32 p2, %w4, 32; @p2 bra again;"
        );
        let controls: Vec<u64> = SEGMENTS
            .iter()
            .flat_map(|segment| CLAMPS.iter().map(move |clamp| u64::from(segment << 8 | clamp) | 0xffff_e0e0))
            .collect();
        let out = Kernel::new(32, body).grid(64).run(&controls);
        for (i, &got) in out.iter().enumerate() {
            let (block, lane, by) = (i / 1024, (i / 32 % 32) as u32, (i % 32) as u32);
            let (from, within) = model(mode, lane, by + 39 * lane, controls[block] as u32);
            let want = u64::from(1000 + 77 * from) | u64::from(within) << 32;
            assert_eq!(got, want, "{mode}, lane {lane}, by {by}, control {:#x}", controls[block]);
        }
    }
}

/// Numbers with every kind of bits, some of them equal.
fn values() -> Vec<u64> {
    let mut values = noise(64, 21);
    values.iter_mut().step_by(3).for_each(|value| *value = 0x8000_0001_8000_0001);
    (5..9).for_each(|i| values[i] = 0x7fff_ffff_0000_0003);
    values
}

/// Two parts of the warp, each with its mask, on one side of a branch.
#[test]
fn votes_matches_and_reductions_of_parts() {
    const PART: u32 = 0x0ff0_3301;
    let operations = [
        "vote.sync.all.pred p5, p4, %w3; selp.b32 %w10, 1, 0, p5;",
        "vote.sync.any.pred p5, p4, %w3; selp.b32 %w10, 1, 0, p5;",
        "vote.sync.uni.pred p5, !p4, %w3; selp.b32 %w10, 1, 0, p5;",
        "vote.sync.ballot.b32 %w10, !p4, %w3;",
        "match.any.sync.b32 %w10, %w4, %w3;",
        "match.any.sync.b64 %w10, %l4, %w3;",
        "match.all.sync.b32 %w10|p5, %w5, %w3; selp.b32 %w11, 0x100, 0, p5; xor.b32 %w10, %w10, %w11;",
        "redux.sync.add.u32 %w10, %w4, %w3;",
        "redux.sync.min.s32 %w10, %w4, %w3;",
        "redux.sync.max.s32 %w10, %w4, %w3;",
        "redux.sync.min.u32 %w10, %w4, %w3;",
        "redux.sync.max.u32 %w10, %w4, %w3;",
        "redux.sync.and.b32 %w10, %w4, %w3;",
        "redux.sync.or.b32 %w10, %w4, %w3;",
        "redux.sync.xor.b32 %w10, %w4, %w3;",
    ];
    let work: String =
        operations.iter().enumerate().map(|(i, line)| format!("{line}\n{}", result(i, "%w10", 32))).collect();
    // %w5 is one value in each part of the first warp, and not in the second.
    let body = format!(
        "mad.wide.u32 %l2, %w0, 8, %l1; ld.global.b64 %l4, [%l2]; cvt.u32.u64 %w4, %l4; setp.gt.s32 p4, %w4, 0;
        mov.u32 %w9, %laneid; shr.u32 %w6, {PART}, %w9; and.b32 %w6, %w6, 1; setp.ne.u32 p3, %w6, 0;
        setp.lt.u32 p6, %w0, 32; selp.b32 %w5, %w6, %w4, p6;
        @p3 bra part;\n mov.u32 %w3, {};\n{work}bra.uni over;\npart: mov.u32 %w3, {PART};\n{work}over:",
        !PART
    );
    let input = values();
    let out = Kernel::new(operations.len(), body).block(64).run(&input);
    for (thread, got) in out.chunks(operations.len()).enumerate() {
        let (first, lane) = (thread / 32 * 32, thread % 32);
        let mask = if PART >> lane & 1 != 0 { PART } else { !PART };
        let lanes: Vec<usize> = (0..32).filter(|&lane| mask >> lane & 1 != 0).collect();
        let all: Vec<u32> = lanes.iter().map(|&lane| input[first + lane] as u32).collect();
        let those = |holds: &dyn Fn(u64) -> bool| {
            lanes.iter().filter(|&&lane| holds(input[first + lane])).map(|lane| 1u64 << lane).sum::<u64>()
        };
        let positive: Vec<bool> = all.iter().map(|&value| value as i32 > 0).collect();
        let own = input[thread];
        let agreed = thread < 32 || all.iter().all(|&value| value == all[0]);
        let signed = || all.iter().map(|&value| value as i32);
        let want = [
            u64::from(positive.iter().all(|&p| p)),
            u64::from(positive.iter().any(|&p| p)),
            u64::from(positive.iter().all(|&p| p == positive[0])),
            those(&|value| value as i32 <= 0),
            those(&|value| value as u32 == own as u32),
            those(&|value| value == own),
            if agreed { u64::from(mask ^ 0x100) } else { 0 },
            all.iter().fold(0u32, |a, &b| a.wrapping_add(b)).into(),
            (signed().min().unwrap() as u32).into(),
            (signed().max().unwrap() as u32).into(),
            (*all.iter().min().unwrap()).into(),
            (*all.iter().max().unwrap()).into(),
            all.iter().fold(u32::MAX, |a, b| a & b).into(),
            all.iter().fold(0, |a, b| a | b).into(),
            all.iter().fold(0, |a, b| a ^ b).into(),
        ];
        for (i, operation) in operations.iter().enumerate() {
            assert_eq!(got[i], want[i], "thread {thread}: {operation}");
        }
    }
}

#[test]
fn lanes_that_are_not_there() {
    use FindingKind::*;
    let sum = |lane: &str| format!("shfl.sync.idx.b32 %w3, %w0, {lane}, 31, 0xffff;");
    for (shuffle, kind) in [(sum("20"), Some(InactiveShuffle)), (sum("15"), None)] {
        let body = format!(
            "setp.ge.u32 p1, %w0, 16; @p1 bra over;\n{shuffle}\nadd.u32 %w3, %w3, 1; cvt.u64.u32 %l2, %w3; st.global.u64 [%l0], %l2;\nover:"
        );
        let found = Kernel::new(1, body).findings(&[0]);
        assert_eq!(found, kind.map(|kind| (kind, shuffle)).into_iter().collect::<Vec<_>>());
    }
    let outside = "vote.sync.any.pred p1, p2, 0xfffffffe;";
    let found = Kernel::new(1, format!("setp.eq.u32 p2, %w0, 0;\n{outside}")).findings(&[0]);
    assert_eq!(found, [(MaskMismatch, outside.to_string())]);
    let missing = "vote.sync.any.pred p1, p2, -1;";
    let body = format!("setp.eq.u32 p2, %w0, 0;\n@p2 bra other;\n{missing}\nother: bar.sync 0;");
    let found = Kernel::new(1, body).findings(&[0]);
    assert!(found.iter().any(|(kind, _)| *kind == Deadlock), "{found:?}");
}

/// Lanes of one warp meet at different `bar.warp.sync`, which orders what they did in shared memory.
#[test]
fn warp_barriers_at_two_places() {
    let body = |first: &str, second: &str| {
        format!(
            ".shared .align 4 .b32 tile[32]; mov.u32 %w2, tile; mad.lo.u32 %w3, %w0, 4, %w2;
            xor.b32 %w4, %w0, 31; mad.lo.u32 %w4, %w4, 4, %w2; st.shared.u32 [%w3], %w0;
            setp.lt.u32 p1, %w0, 11; @p1 bra other;
            {first}
            ld.shared.u32 %w5, [%w4]; bra.uni over;
            other: mov.u32 %w6, -1; {second}
            ld.shared.u32 %w5, [%w4]; over: cvt.u64.u32 %l2, %w5; st.global.u64 [%l0], %l2;"
        )
    };
    let out = Kernel::new(1, body("bar.warp.sync -1;", "bar.warp.sync %w6;")).run(&[0]);
    assert!(out.into_iter().eq((0..32).rev()));
    let (_, report) = Kernel::new(1, body("", "")).report(&[0], Mode::Nominal);
    assert!(report.has(FindingKind::SharedRace), "{report}");
}
