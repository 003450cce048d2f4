//! Planted bugs: accesses outside memory, and reads of what nobody wrote.

#[macro_use]
mod common;
#[macro_use]
#[path = "common/planted.rs"]
mod planted;
use FindingKind::*;
use common::*;

#[test]
fn reads_and_writes_one_past_the_end() {
    let planted = planted!("planted_memory");
    for mode in modes() {
        let device = Device::new();
        let x = device.upload(&[1f32; 64]).unwrap();
        let out: Buffer<f32> = device.alloc(64).unwrap();
        let report = report!(planted.module, "read_past_end", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out, 64u32);
        let finding = planted.assert_found(&report, "read_past_end", OutOfBounds);
        assert_eq!((finding.block, finding.thread), ([0, 0, 0], [63, 0, 0]));
        assert_eq!(finding.address, Some(x.address() + 256));
        let report = report!(planted.module, "read_past_end", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out, 63u32);
        assert!(report.is_clean(), "{report}");

        let report = report!(planted.module, "write_past_end", device, mode, [2, 1, 1], [48, 1, 1], 0; out, 64u32);
        let finding = planted.assert_found(&report, "write_past_end", OutOfBounds);
        assert_eq!((finding.block, finding.thread), ([1, 0, 0], [16, 0, 0]));
        let report = report!(planted.module, "write_past_end", device, mode, [2, 1, 1], [48, 1, 1], 0; out, 63u32);
        assert!(report.is_clean(), "{report}");
        assert_equal(&device.read(out).unwrap(), &[1.0; 64], "what lies inside");
        assert_equal(&device.read(x).unwrap(), &[1.0; 64], "another buffer");
    }
}

#[test]
fn writes_past_the_end_never_reach_a_neighbour() {
    let planted = planted!("planted_memory");
    for len in [1usize, 60, 64, 1000] {
        let device = Device::new();
        let before = device.upload(&vec![-1f32; len]).unwrap();
        let out: Buffer<f32> = device.alloc(len).unwrap();
        let after = device.upload(&vec![-2f32; len]).unwrap();
        let n = len as u32 + 1;
        let report =
            report!(planted.module, "write_into_neighbour", device, Mode::Nominal, [1, 1, 1], [32, 1, 1], 0; out, n);
        planted.assert_found(&report, "write_into_neighbour", OutOfBounds);
        assert_equal(&device.read(before).unwrap(), &vec![-1.0; len], "the buffer before");
        assert_equal(&device.read(after).unwrap(), &vec![-2.0; len], "the buffer after");
    }
}

#[test]
fn writes_past_a_view_into_the_next_are_found_where_the_space_between_is_forbidden() {
    let planted = planted!("planted_memory");
    for mode in modes() {
        let device = Device::new();
        let arena = device.upload(&[-1f32; 160]).unwrap();
        let (view, next) = (arena.slice(0, 64).unwrap(), arena.slice(96, 64).unwrap());
        let run =
            |n: u32| report!(planted.module, "write_into_neighbour", device, mode, [1, 1, 1], [32, 1, 1], 0; view, n);
        assert!(run(160).is_clean(), "one allocation without bounds inside");
        device.write(arena, &[-1.0; 160]).unwrap();
        device.forbid(arena.slice(64, 32).unwrap(), true).unwrap();
        planted.assert_found(&run(65), "write_into_neighbour", OutOfBounds);
        assert!(run(64).is_clean());
        // Writing by the host allows nothing.
        device.write(arena, &[-1.0; 160]).unwrap();
        planted.assert_found(&run(65), "write_into_neighbour", OutOfBounds);
        assert_eq!(device.read(next).unwrap(), [-1.0; 64]);
        assert!(arena.slice(100, 61).is_err());
        device.forbid(arena.slice(64, 32).unwrap(), false).unwrap();
        assert!(run(65).is_clean());
    }
}

#[test]
fn reads_before_the_start_and_through_null() {
    let planted = planted!("planted_memory");
    let device = Device::new();
    let x = device.upload(&[5i32; 32]).unwrap();
    let out = device.upload(&[5i32; 32]).unwrap();
    let mode = Mode::Nominal;
    let report = report!(planted.module, "read_before", device, mode, [1, 1, 1], [32, 1, 1], 0; x, out);
    assert_eq!(planted.assert_found(&report, "read_before", OutOfBounds).thread, [0, 0, 0]);
    let report = report!(planted.module, "null_pointer", device, mode, [1, 1, 1], [1, 1, 1], 0; 0u64);
    assert_eq!(planted.assert_found(&report, "null_pointer", OutOfBounds).address, Some(0));
    assert_eq!(device.read(x).unwrap(), [5; 32]);
}

#[test]
fn use_after_free() {
    let module = module(ptx!("vector_add"));
    let device = Device::new();
    let (x, y) = (device.upload(&[1f32; 100]).unwrap(), device.upload(&[2f32; 100]).unwrap());
    let out: Buffer<f32> = device.alloc(100).unwrap();
    device.free(y).unwrap();
    // Memory that is given out again is not the freed buffer.
    let again = device.upload(&[3f32; 100]).unwrap();
    let report = report!(module, "vector_add", device, Mode::Nominal, [1, 1, 1], [128, 1, 1], 0; x, y, out, 100u32);
    assert!(!report.is_clean());
    for finding in report.findings() {
        assert_eq!(finding.kind, UseAfterFree, "{report}");
        assert_eq!(finding.source, Some(("tests/cuda/vector_add.cu".into(), 4)));
    }
    assert!(device.read(y).is_err() && device.free(y).is_err());
    assert_eq!(device.read(again).unwrap(), [3.0; 100]);
}

#[test]
fn misaligned_and_straddling_accesses() {
    let planted = planted!("planted_memory");
    let device = Device::new();
    let x = device.upload(&[1f32; 256]).unwrap();
    let out: Buffer<[f32; 4]> = device.alloc(32).unwrap();
    let mode = Mode::Nominal;
    let report = report!(planted.module, "misaligned", device, mode, [1, 1, 1], [32, 1, 1], 0; x, out);
    planted.assert_found(&report, "misaligned", Misaligned);
    let (two, one) = (device.upload(&[1u8, 2]).unwrap(), device.alloc::<i32>(1).unwrap());
    let report = report!(planted.module, "straddling", device, mode, [1, 1, 1], [1, 1, 1], 0; two, one);
    planted.assert_found(&report, "straddling", OutOfBounds);
    let report = report!(planted.module, "straddling", device, mode, [1, 1, 1], [1, 1, 1], 0; x, one);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn shared_memory_has_an_end() {
    let planted = planted!("planted_memory");
    for mode in modes() {
        let device = Device::new();
        let out: Buffer<i32> = device.alloc(32).unwrap();
        clean!(planted.module, "shared_past_end", device, mode, [1, 1, 1], [32, 1, 1], 0; out, 0u32);
        let report = report!(planted.module, "shared_past_end", device, mode, [1, 1, 1], [32, 1, 1], 0; out, 1u32);
        let finding = planted.assert_found(&report, "shared_past_end", OutOfBounds);
        assert_eq!(finding.thread, [31, 0, 0]);
    }
}

#[test]
fn bounds_alone_when_only_they_are_asked_for() {
    let planted = planted!("planted_uninitialised");
    let memory = planted!("planted_memory");
    let device = Device::new();
    let out: Buffer<i32> = device.alloc(64).unwrap();
    let launch = planted.module.launch("shared_never_written").grid([1, 1, 1]).block([64, 1, 1]).arg(out);
    let report = launch.checks(Checks::BOUNDS).run(&device).unwrap();
    assert!(report.is_clean(), "{report}");
    let out: Buffer<f32> = device.alloc(64).unwrap();
    let launch = memory.module.launch("write_past_end").grid([1, 1, 1]).block([128, 1, 1]).arg(out).arg(64u32);
    memory.assert_found(&launch.checks(Checks::BOUNDS).run(&device).unwrap(), "write_past_end", OutOfBounds);
}

#[test]
fn memory_that_nobody_wrote() {
    let planted = planted!("planted_uninitialised");
    for mode in modes() {
        let device = Device::new();
        let fresh: Buffer<i32> = device.alloc(64).unwrap();
        let out: Buffer<i32> = device.alloc(64).unwrap();
        let report = report!(planted.module, "shared_never_written", device, mode, [1, 1, 1], [64, 1, 1], 0; out);
        let finding = planted.assert_found(&report, "shared_never_written", UninitialisedShared);
        assert_eq!(finding.thread, [63, 0, 0]);
        let report =
            report!(planted.module, "global_never_written", device, mode, [1, 1, 1], [64, 1, 1], 0; fresh, out);
        planted.assert_found(&report, "global_never_written", UninitialisedGlobal);
        // Forbidding and allowing writes nothing.
        device.forbid(fresh, true).unwrap();
        device.forbid(fresh, false).unwrap();
        let report =
            report!(planted.module, "global_never_written", device, mode, [1, 1, 1], [64, 1, 1], 0; fresh, out);
        planted.assert_found(&report, "global_never_written", UninitialisedGlobal);
        device.write(fresh, &[1; 64]).unwrap();
        clean!(planted.module, "global_never_written", device, mode, [1, 1, 1], [64, 1, 1], 0; fresh, out);

        // Elements 3 and 5 are written; thread 2 reads element 4.
        let x = device.upload(&[3i32, 5, 3, 5, 4]).unwrap();
        clean!(planted.module, "local_never_written", device, mode, [1, 1, 1], [2, 1, 1], 0; x, out);
        assert_eq!(device.read(out).unwrap()[..2], [5, 6]);
        let report = report!(planted.module, "local_never_written", device, mode, [1, 1, 1], [3, 1, 1], 0; x, out);
        let finding = planted.assert_found(&report, "local_never_written", UninitialisedLocal);
        assert_eq!(finding.thread, [2, 0, 0]);

        let (half, whole): (Buffer<u16>, Buffer<u32>) = (device.alloc(2).unwrap(), device.alloc(1).unwrap());
        let report = report!(planted.module, "half_a_word", device, mode, [1, 1, 1], [1, 1, 1], 0; half, whole);
        planted.assert_found(&report, "half_a_word", UninitialisedGlobal);
    }
}

#[test]
fn registers_that_nobody_wrote() {
    let text = ptx!("planted_registers");
    let module = module(text);
    let line = |what: &str| text.lines().position(|line| line.contains(what)).unwrap() as u32 + 1;
    for mode in modes() {
        let device = Device::new();
        let out: Buffer<u32> = device.alloc(32).unwrap();
        let cases = [("uninitialised", "add.u32 %r2, %r0, %r1", 0), ("predicate", "@%p0 st.global.u32 [%rd0], 1", 0)];
        for (kernel, instruction, thread) in cases.into_iter().chain([
            ("in_some_lanes", "[%rd0], %r1", 5),
            ("through_shared", "add.u32 %r3, %r1, 3", 0),
            ("used_by_some", "add.u32 %r3, %r1, 4", 10),
        ]) {
            let report = report!(module, kernel, device, mode, [1, 1, 1], [32, 1, 1], 0; out);
            let found: Vec<_> = report.findings().iter().filter(|f| f.kind == UninitialisedRegister).collect();
            assert!(!found.is_empty(), "{kernel}:\n{report}");
            assert_eq!((found[0].ptx_line, found[0].thread), (line(instruction), [thread, 0, 0]), "{report}");
            assert_eq!(found[0].source, None);
        }
        let report = report!(module, "kept", device, mode, [1, 1, 1], [32, 1, 1], 0; out);
        let finding = report.findings().iter().find(|f| f.kind == UninitialisedRegister).unwrap();
        assert_eq!((finding.ptx_line, finding.thread), (line("sub.u32 %r2, %r1, %r0"), [5, 0, 0]), "{report}");
        assert!(finding.to_string().contains("uses what comes of it"), "{report}");
        clean!(module, "discarded", device, mode, [1, 1, 1], [32, 1, 1], 0; out);
        let want: Vec<u32> = (0..32).map(|i| if i < 5 { 7 + i + 100 * u32::from(7 + i > 9) } else { 1 }).collect();
        assert_equal(&device.read(out).unwrap(), &want, "discarded");
        clean!(module, "guarded", device, mode, [1, 1, 1], [32, 1, 1], 0; out);
        clean!(module, "in_some_lanes", device, mode, [1, 1, 1], [5, 1, 1], 0; out);
    }
}

#[test]
fn asynchronous_copies_that_are_not_waited_for() {
    let planted = planted!("planted_uninitialised");
    for mode in modes() {
        let device = Device::new();
        let x = device.upload(&(0..64).collect::<Vec<i32>>()).unwrap();
        let out: Buffer<i32> = device.alloc(64).unwrap();
        for kernel in ["copy_not_waited_for", "wrong_group_waited_for"] {
            let report = report!(planted.module, kernel, device, mode, [1, 1, 1], [32, 1, 1], 0; x, out);
            planted.assert_line(&report, kernel, PendingCopy);
            // Nothing has been copied yet, so that the same read is uninitialised too.
            let kinds: Vec<FindingKind> = report.findings().iter().map(|finding| finding.kind).collect();
            assert!(kinds.iter().all(|kind| [PendingCopy, UninitialisedShared].contains(kind)), "{report}");
        }
        let report = report!(planted.module, "copy_without_barrier", device, mode, [1, 1, 1], [64, 1, 1], 0; x, out);
        // A warp that has not copied yet leaves the other's reads uninitialised too, in some orders.
        let kinds: Vec<FindingKind> = report.findings().iter().map(|finding| finding.kind).collect();
        assert!(kinds.iter().all(|kind| [SharedRace, UninitialisedShared, PendingCopy].contains(kind)), "{report}");
        assert!(kinds.contains(&SharedRace), "{report}");
    }
}
