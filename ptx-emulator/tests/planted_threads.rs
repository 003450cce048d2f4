//! Planted bugs: races, barriers, shuffles, order, loops without end.

#[macro_use]
mod common;
#[macro_use]
#[path = "common/planted.rs"]
mod planted;
use FindingKind::*;
use common::*;

#[test]
fn races_in_shared_memory() {
    let planted = planted!("planted_races");
    for mode in modes() {
        let device = Device::new();
        let x = device.upload(&[7i32; 256]).unwrap();
        let out: Buffer<i32> = device.alloc(256).unwrap();
        let found = |kernel: &str, threads: u32| {
            let block = [threads, 1, 1];
            let report = report!(planted.module, kernel, device, mode, [1, 1, 1], block, 0; x, out);
            planted.assert_found(&report, kernel, SharedRace);
        };
        found("within_a_warp", 32);
        let races = |report: &Report| {
            let kinds: Vec<FindingKind> = report.findings().iter().map(|finding| finding.kind).collect();
            // In some orders a reader comes before the writer: that read is uninitialised besides.
            assert!(kinds.contains(&SharedRace), "{report}");
            assert!(kinds.iter().all(|kind| [SharedRace, UninitialisedShared].contains(kind)), "{report}");
        };
        races(&report!(planted.module, "missing_barrier", device, mode, [1, 1, 1], [128, 1, 1], 0; x, out));
        races(&report!(planted.module, "tree_without_barriers", device, mode, [1, 1, 1], [128, 1, 1], 0; x, out));
        let report =
            report!(planted.module, "reused_without_barrier", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out, 4i32);
        planted.assert_only(&report, "reused_without_barrier", SharedRace);
        clean!(planted.module, "reused_without_barrier", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out, 1i32);
    }
}

#[test]
fn races_of_writes_in_shared_memory() {
    let planted = planted!("planted_races");
    for mode in modes() {
        let device = Device::new();
        let out: Buffer<i32> = device.alloc(64).unwrap();
        for kernel in ["warps_write_one_word", "lanes_write_one_word"] {
            let report = report!(planted.module, kernel, device, mode, [1, 1, 1], [64, 1, 1], 0; out);
            planted.assert_found(&report, kernel, SharedRace);
        }
        clean!(planted.module, "warps_write_one_word", device, mode, [1, 1, 1], [32, 1, 1], 0; out);
        let bytes = device.upload(&[3u8; 64]).unwrap();
        let copied: Buffer<u8> = device.alloc(64).unwrap();
        clean!(planted.module, "bytes_of_one_word", device, mode, [1, 1, 1], [64, 1, 1], 0; bytes, copied);
    }
}

#[test]
fn races_in_global_memory() {
    let planted = planted!("planted_races");
    for mode in modes() {
        let device = Device::new();
        let x = device.upload(&[7i32; 256]).unwrap();
        let out: Buffer<i32> = device.alloc(256).unwrap();
        let report = report!(planted.module, "blocks_write_one_word", device, mode, [4, 1, 1], [32, 1, 1], 0; out);
        planted.assert_found(&report, "blocks_write_one_word", GlobalRace);
        clean!(planted.module, "blocks_write_one_word", device, mode, [1, 1, 1], [32, 1, 1], 0; out);
        let report = report!(planted.module, "threads_write_one_global", device, mode, [2, 1, 1], [64, 1, 1], 0; out);
        planted.assert_found(&report, "threads_write_one_global", GlobalRace);
        let report =
            report!(planted.module, "blocks_read_what_others_write", device, mode, [3, 1, 1], [32, 1, 1], 0; x);
        planted.assert_only(&report, "blocks_read_what_others_write", GlobalRace);
        let report = report!(planted.module, "atomic_and_plain", device, mode, [2, 1, 1], [1, 1, 1], 0; x, out);
        planted.assert_only(&report, "atomic_and_plain", GlobalRace);
        clean!(planted.module, "through_a_barrier", device, mode, [3, 1, 1], [64, 1, 1], 0; x, out);
    }
}

#[test]
fn barriers_that_not_all_threads_reach() {
    let planted = planted!("planted_barriers");
    for mode in modes() {
        let device = Device::new();
        let x: Vec<i32> = (0..64).map(|i| i % 3).collect();
        let x = device.upload(&x).unwrap();
        let out = device.upload(&[0i32; 64]).unwrap();
        let report = report!(planted.module, "divergent_barrier", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out);
        planted.assert_found(&report, "divergent_barrier", DivergentBarrier);
        let report = report!(planted.module, "two_named_barriers", device, mode, [1, 1, 1], [64, 1, 1], 0; out);
        planted.assert_found(&report, "two_named_barriers", Deadlock);
        let report = report!(planted.module, "warp_never_comes", device, mode, [1, 1, 1], [64, 1, 1], 0; out);
        planted.assert_only(&report, "warp_never_comes", Deadlock);
    }
}

#[test]
fn shuffles_from_lanes_that_are_not_there() {
    let planted = planted!("planted_barriers");
    for mode in modes() {
        let device = Device::new();
        let x = device.upload(&[7i32; 32]).unwrap();
        let out: Buffer<i32> = device.alloc(32).unwrap();
        for (kernel, first) in [("shuffle_from_outside", 8), ("shuffle_after_exit", 20)] {
            let report = report!(planted.module, kernel, device, mode, [1, 1, 1], [32, 1, 1], 0; x, out);
            planted.assert_only(&report, kernel, InactiveShuffle);
            // The line is that of the header which holds the intrinsic.
            let finding = &report.findings()[0];
            assert_eq!(finding.thread, [first, 0, 0]);
            assert!(finding.instruction.starts_with("shfl.sync"), "{report}");
        }
        let report = report!(planted.module, "outside_its_mask", device, mode, [1, 1, 1], [32, 1, 1], 0; x, out);
        let kinds: Vec<FindingKind> = report.findings().iter().map(|finding| finding.kind).collect();
        assert!(kinds.contains(&MaskMismatch), "{report}");
        clean!(planted.module, "outside_its_mask", device, mode, [1, 1, 1], [16, 1, 1], 0; x, out);
    }
}

#[test]
fn non_coherent_reads_of_what_the_kernel_writes() {
    let planted = planted!("planted_other");
    for mode in modes() {
        let device = Device::new();
        let x = device.upload(&[1f32; 64]).unwrap();
        let report = report!(planted.module, "non_coherent", device, mode, [1, 1, 1], [32, 1, 1], 0; x, x);
        planted.assert_only(&report, "non_coherent", NonCoherentRead);
        assert!(report.findings()[0].instruction.starts_with("ld.global.nc"), "{report}");
        let other = device.upload(&[1f32; 64]).unwrap();
        clean!(planted.module, "non_coherent", device, mode, [1, 1, 1], [32, 1, 1], 0; x, other);
    }
}

#[test]
fn traps_and_loops_without_end() {
    let planted = planted!("planted_other");
    for mode in modes() {
        let device = Device::new();
        let mut values = [1i32; 64];
        let (x, out) = (device.upload(&values).unwrap(), device.alloc::<i32>(64).unwrap());
        clean!(planted.module, "trapped", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out);
        values[37] = 7;
        device.write(x, &values).unwrap();
        let report = report!(planted.module, "trapped", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out);
        let finding = planted.assert_found(&report, "trapped", Trap);
        assert_eq!(finding.thread, [37, 0, 0]);

        clean!(planted.module, "endless", device, mode, [1, 1, 1], [64, 1, 1], 0; x);
        values[40] = 0;
        device.write(x, &values).unwrap();
        let launch = planted.module.launch("endless").block([64, 1, 1]).arg(x).mode(mode);
        let report = launch.budget(100_000).run(&device).unwrap();
        planted.assert_only(&report, "endless", Budget);
    }
}

#[test]
fn sums_whose_order_is_open_change_with_the_seed_alone() {
    let planted = planted!("planted_other");
    let x = Random(130).reals(512, -1000.0, 1000.0);
    let sum = |mode: Mode, threads: usize| {
        let device = Device::new();
        let (input, out) = (device.upload(&x).unwrap(), device.upload(&[0f32]).unwrap());
        let launch = planted.module.launch("float_sum").grid([8, 1, 1]).block([64, 1, 1]).arg(input).arg(out);
        let report = launch.mode(mode).threads(threads).run(&device).unwrap();
        assert!(report.is_clean(), "{report}");
        device.read(out).unwrap()[0]
    };
    let nominal = sum(Mode::Nominal, 1);
    let truth: f64 = x.iter().map(|&v| f64::from(v)).sum();
    assert!((f64::from(nominal) - truth).abs() < 0.05, "{nominal}, not {truth}");
    for threads in [1, 2, 2, 3] {
        assert_eq!(sum(Mode::Nominal, threads).to_bits(), nominal.to_bits(), "{threads} threads");
    }
    let seeded = |seed, threads| sum(Mode::Adversarial { seed }, threads).to_bits();
    let sums: Vec<u32> = (0..8).map(|seed| seeded(seed, 1)).collect();
    assert!(sums.iter().any(|&bits| bits != nominal.to_bits()), "no seed changes the order");
    let shuffled = (0..8).map(|seed| sum(Mode::Shuffled { seed }, 1).to_bits());
    assert!(shuffled.collect::<Vec<_>>() == sums, "sums have nothing else that a seed changes");
    for seed in 0..8 {
        assert_eq!(seeded(seed, 2), sums[seed as usize], "seed {seed} on two threads");
    }
}

#[test]
fn the_findings_do_not_depend_on_the_number_of_threads() {
    let (memory, races) = (planted!("planted_memory"), planted!("planted_races"));
    let (barriers, fresh) = (planted!("planted_barriers"), planted!("planted_uninitialised"));
    for mode in modes() {
        let reports = |threads: usize| {
            let device = Device::new();
            let x = device.upload(&[7i32; 256]).unwrap();
            let out: Buffer<i32> = device.alloc(200).unwrap();
            let run = |planted: &planted::Planted, kernel: &str, threads_of_block: u32, two: bool| {
                let launch = planted.module.launch(kernel).grid([5, 1, 1]).block([threads_of_block, 1, 1]);
                let launch = if two { launch.arg(x).arg(out) } else { launch.arg(out) };
                let report = launch.mode(mode).threads(threads).run(&device).unwrap();
                assert!(!report.is_clean(), "{kernel}");
                format!("{:#?}\n{report}", report.findings())
            };
            vec![
                run(&memory, "read_before", 32, true),
                run(&races, "missing_barrier", 128, true),
                run(&races, "within_a_warp", 32, true),
                run(&races, "warps_write_one_word", 64, false),
                run(&races, "threads_write_one_global", 64, false),
                run(&races, "blocks_write_one_word", 64, false),
                run(&barriers, "two_named_barriers", 64, false),
                run(&barriers, "shuffle_from_outside", 32, true),
                run(&fresh, "shared_never_written", 64, false),
                run(&fresh, "copy_not_waited_for", 32, true),
            ]
        };
        let one = reports(1);
        for threads in [1, 2, 3] {
            for (got, one) in reports(threads).iter().zip(&one) {
                assert!(got == one, "{threads} threads, {mode:?}:\n{got}\none thread:\n{one}");
            }
        }
    }
}

#[test]
fn order_that_flags_and_atomics_pass_on() {
    let planted = planted!("signals");
    let x: Vec<i32> = (0..192).map(|i| i * i % 101).collect();
    for mode in modes() {
        let device = Device::new();
        let (input, out) = (device.upload(&x).unwrap(), device.alloc::<i32>(192).unwrap());
        let flag = device.upload(&[0i32]).unwrap();
        clean!(planted.module, "tiles_of_64", device, mode, [1, 1, 1], [192, 1, 1], 0; input, out);
        let sum = |i: usize| x[i / 64 * 64..][..64].iter().sum::<i32>();
        let want: Vec<i32> = (0..192).map(|i| 100 * sum(i) + 10 * x[i ^ 33] + x[i / 64 * 64 + 3]).collect();
        assert_equal(&device.read(out).unwrap(), &want, "tiles_of_64");
        clean!(planted.module, "flag_of_a_warp", device, mode, [1, 1, 1], [64, 1, 1], 0; input, out);
        assert_equal(&device.read(out).unwrap()[32..64], &x[..32], "flag_of_a_warp");
        clean!(planted.module, "flag_in_global", device, mode, [1, 1, 1], [64, 1, 1], 0; input, out, flag);
        clean!(planted.module, "lock_in_shared", device, mode, [1, 1, 1], [96, 1, 1], 0; out);
        assert_eq!(device.read(out).unwrap()[0], 96);
        for kernel in ["flag_without_fence", "data_after_the_flag"] {
            let report = report!(planted.module, kernel, device, mode, [1, 1, 1], [64, 1, 1], 0; input, out);
            let races = |finding: &Finding| [SharedRace, UninitialisedShared].contains(&finding.kind);
            assert!(report.findings().iter().all(races), "{kernel}:\n{report}");
            assert!(report.findings().iter().any(|finding| finding.kind == SharedRace), "{kernel}:\n{report}");
        }
    }
}

#[test]
fn order_that_one_block_releases_for_others() {
    let planted = planted!("signals");
    for mode in modes() {
        let device = Device::new();
        let (x, out) = (device.alloc::<i32>(64).unwrap(), device.alloc::<i32>(64).unwrap());
        let flag = device.upload(&[0i32]).unwrap();
        let report =
            report!(planted.module, "released_to_the_block", device, mode, [2, 1, 1], [64, 1, 1], 0; x, out, flag);
        planted.assert_found(&report, "released_to_the_block", GlobalRace);
        device.write(flag, &[0]).unwrap();
        clean!(planted.module, "released_to_the_device", device, mode, [2, 1, 1], [64, 1, 1], 0; x, out, flag);
        assert_equal(&device.read(out).unwrap(), &(0..64).collect::<Vec<i32>>(), "released_to_the_device");
    }
}

#[test]
fn loops_of_swaps_that_start_from_a_plain_load() {
    let planted = planted!("swaps");
    let x: Vec<i32> = (0..96).map(|i| i * 37 % 97).collect();
    for mode in modes() {
        let device = Device::new();
        let zeros = vec![0u32; 5];
        let (ones, sums) = (device.upload(&[2f32; 64]).unwrap(), device.upload(&zeros).unwrap());
        clean!(planted.module, "sums_of_pairs", device, mode, [2, 1, 1], [64, 1, 1], 0; ones, sums);
        let pair =
            |a: f32, b: f32| u32::from(bf16::from_f32(a).to_bits()) | u32::from(bf16::from_f32(b).to_bits()) << 16;
        let (block, leaders) = (pair(128.0, 64.0), pair(4.0, 2.0));
        assert_equal(&device.read(sums).unwrap(), &[pair(256.0, 128.0), block, leaders, block, leaders], "sums");
        let (input, out) = (device.upload(&x).unwrap(), device.alloc::<i32>(192).unwrap());
        for kernel in ["read_before_the_end", "raised_if_need_be"] {
            let report = report!(planted.module, kernel, device, mode, [1, 1, 1], [96, 1, 1], 0; input, out);
            planted.assert_only(&report, kernel, SharedRace);
        }
        let most = device.upload(&[0i32]).unwrap();
        let kernel = "raised_between_blocks";
        let report = report!(planted.module, kernel, device, mode, [2, 1, 1], [96, 1, 1], 0; input, most, out);
        planted.assert_only(&report, kernel, GlobalRace);
    }
}
