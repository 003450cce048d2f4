//! Kernels that rustc compiled, among them the one whose barrier its jump threading doubles.

#[macro_use]
mod common;
use common::*;

#[test]
fn axpy_with_a_struct_by_value() {
    let module = module(ptx!("rust_axpy"));
    let mut random = Random(120);
    let n = 403usize;
    let x: Vec<f16> = random.whole(n, -100, 100).into_iter().map(f16::from_f32).collect();
    let y = random.whole(n, -999, 999);
    for mode in modes() {
        for negate in [0u32, 1] {
            let device = Device::new();
            let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
            let out: Buffer<f32> = device.alloc(n).unwrap();
            let mut params = Vec::new();
            for word in [a.address(), b.address(), out.address(), n as u64] {
                params.extend(word.to_le_bytes());
            }
            params.extend(1.5f32.to_le_bytes());
            params.extend(negate.to_le_bytes());
            let launch = module.launch("axpy").grid([2, 1, 1]).block([32, 1, 1]).bytes(&params);
            let report = launch.mode(mode).run(&device).unwrap();
            assert!(report.is_clean(), "{report}");
            let sign = if negate == 1 { -1.0 } else { 1.0 };
            let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| sign * (1.5 * x.to_f32() + y)).collect();
            assert_equal(&device.read(out).unwrap(), &want, "axpy");
        }
    }
}

#[test]
fn sums_of_blocks_through_symbols_of_shared_memory() {
    let module = module(ptx!("rust_block_sum"));
    for threads in [32usize, 160, 1024] {
        let x = Random(121).ints(3 * threads, -1000, 1000);
        let sums: Vec<i32> = x.chunks(threads).map(|block| block.iter().sum()).collect();
        let reversed: Vec<i32> = x.chunks(threads).flat_map(|block| block.iter().rev().copied()).collect();
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let (out, back): (Buffer<i32>, Buffer<i32>) = (device.alloc(3).unwrap(), device.alloc(x.len()).unwrap());
            let block = [threads as u32, 1, 1];
            clean!(module, "block_sum", device, mode, [3, 1, 1], block, 4 * threads as u32; input, out, back);
            assert_equal(&device.read(out).unwrap(), &sums, "sums");
            assert_equal(&device.read(back).unwrap(), &reversed, "reversed");
        }
    }
}

/// What rust_machine.rs says.
fn machine(thread: u32, program: &[u8]) -> u32 {
    let (mut a, mut b, mut at) = (1u32, thread, 0usize);
    while let Some(op) = program.get(at) {
        match op {
            0 => a = a.wrapping_add(b),
            1 => b = b.wrapping_mul(3) ^ a,
            2 => (a, b) = (b, a),
            3 => a = a << (b & 31) | (u64::from(a) >> (32 - (b & 31))) as u32,
            4 => a /= b % 16 + 1,
            5 => a = a.wrapping_mul(a.wrapping_sub(b)),
            6 => at += a as usize % 2,
            7 => return a,
            8 => a ^= u32::MAX,
            9 => b = (0..32).map(|i| a >> i & 1).sum::<u32>() + (32 - (u64::from(b) + 1).next_power_of_two().ilog2()),
            _ => a = a.wrapping_add(at as u32),
        }
        at += 1;
    }
    a
}

#[test]
fn a_machine_with_a_jump_table() {
    let module = module(ptx!("rust_machine"));
    let mut random = Random(122);
    let (threads, length) = (96usize, 60usize);
    // The instruction that stops is rare.
    let mut op = || match random.int(0, 11) {
        7 if random.int(0, 9) > 0 => 8,
        op => op as u8,
    };
    let programs: Vec<u8> = (0..threads * length).map(|_| op()).collect();
    let want: Vec<u32> = programs.chunks(length).enumerate().map(|(i, program)| machine(i as u32, program)).collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&programs).unwrap();
        let out: Buffer<u32> = device.alloc(threads).unwrap();
        clean!(module, "machine", device, mode, [2, 1, 1], [48, 1, 1], 0; input, length as u32, out);
        assert_equal(&device.read(out).unwrap(), &want, "machine");
    }
}

#[test]
fn a_doubled_barrier_is_found_and_a_single_one_is_clean() {
    let bound = 40usize;
    for mode in modes() {
        for (text, doubled) in [(ptx!("single_barrier"), false), (ptx!("doubled_barrier"), true)] {
            let device = Device::new();
            let (scratch, out): (Buffer<f32>, Buffer<f32>) =
                (device.alloc(bound).unwrap(), device.alloc(bound).unwrap());
            let module = module(text);
            let report = report!(module, "barrier", device, mode, [1, 1, 1], [64, 1, 1], 0; scratch, out, bound as u32);
            if doubled {
                let found: Vec<&Finding> =
                    report.findings().iter().filter(|f| f.kind == FindingKind::DivergentBarrier).collect();
                assert!(!found.is_empty(), "{mode:?}: {report}");
                continue;
            }
            assert!(report.is_clean(), "{report}");
            let want: Vec<f32> = (0..bound).map(|i| (bound - 1 - i) as f32 + 0.5).collect();
            assert_equal(&device.read(out).unwrap(), &want, "barrier");
        }
    }
}
