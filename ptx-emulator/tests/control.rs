//! Correct programs on control flow: calls, local memory, constants, switches, locks.

#[macro_use]
mod common;
use common::*;

#[test]
fn switch_with_a_case_for_each_lane() {
    let mut random = Random(20);
    let n = 300usize;
    let ops: Vec<u32> = (0..n).map(|_| random.int(0, 12) as u32).collect();
    let x: Vec<f32> = (0..n).map(|_| random.int(-40, 40) as f32 * 0.25).collect();
    let value = |op: u32, v: f32| match op {
        0 => v + 1.0,
        1 => v * v - 3.0,
        2 => v.abs().sqrt(),
        3 => 1.0 / (v * v + 1.0),
        4 => (0..5).fold(v, |v, j| v * 0.5 + j as f32),
        5 | 6 => -v,
        7 => v.floor(),
        8 => 777.0,
        9 => v.max(0.5),
        10 => v.round_ties_even(),
        _ => 99.0,
    };
    let want: Vec<f32> = ops.iter().zip(&x).map(|(&op, &v)| value(op, v)).collect();
    for text in [ptx!("switch"), ptx!("switch_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (op, input) = (device.upload(&ops).unwrap(), device.upload(&x).unwrap());
            let out = device.upload(&vec![777.0f32; 2 * n]).unwrap();
            clean!(module, "switch_cases", device, mode, [3, 1, 1], [128, 1, 1], 0; op, input, out, n as u32);
            let got = device.read(out).unwrap();
            assert_equal(&got[..n], &want, "switch");
            for i in 0..n {
                assert_eq!(got[n + i], if ops[i] == 5 { x[i] } else { 777.0 }, "fall through, element {i}");
            }
        }
    }
}

#[test]
fn local_array_indexed_by_data() {
    let n = 96;
    let x = Random(21).ints(n * 16, -1000, 1000);
    let mut want = Vec::new();
    for part in x.chunks(16) {
        let mut a = part.to_vec();
        a.sort();
        let (mut at, mut sum) = (a[0] & 15, 0i32);
        for j in 0..16 {
            sum = sum.wrapping_mul(3).wrapping_add(a[at as usize]);
            at = (a[at as usize] + j) & 15;
        }
        want.extend(&a);
        want.push(sum);
    }
    for text in [ptx!("local_array"), ptx!("local_array_debug")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<i32> = device.alloc(n * 17).unwrap();
            clean!(module, "local_array", device, mode, [2, 1, 1], [48, 1, 1], 0; input, out);
            assert_equal(&device.read(out).unwrap(), &want, "local_array");
        }
    }
}

#[test]
fn calls_with_structs_and_pointers() {
    let n = 96usize;
    let x = Random(22).ints(n, -10_000, 10_000);
    let mut want = Vec::new();
    for (t, &v) in x.iter().enumerate() {
        let rounds = t as i32 % 5 + 1;
        let tag = (0..rounds).map(|i| i * 7 % 4).max().unwrap();
        want.extend([rounds, tag, v / 7, v % 7]);
    }
    let sums: Vec<f64> = x.iter().enumerate().map(|(t, &v)| f64::from(v) * 0.5 * (t % 5 + 1) as f64).collect();
    for text in [ptx!("calls"), ptx!("calls_O0")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let got_sums: Buffer<f64> = device.alloc(n).unwrap();
            let out: Buffer<i32> = device.alloc(4 * n).unwrap();
            clean!(module, "calls", device, mode, [1, 1, 1], [n as u32, 1, 1], 0; input, got_sums, out);
            assert_equal(&device.read(out).unwrap(), &want, "calls");
            assert_equal(&device.read(got_sums).unwrap(), &sums, "sums");
        }
    }
}

#[test]
fn calls_that_cannot_be_resolved_are_refused() {
    let module = module(ptx!("unresolved_calls"));
    let device = Device::new();
    let (x, out) = (device.upload(&[1i32; 32]).unwrap(), device.alloc::<i32>(32).unwrap());
    for kernel in ["indirect_call", "recursive_call"] {
        let error = module.launch(kernel).block([32, 1, 1]).arg(x).arg(out).run(&device).unwrap_err();
        assert!(matches!(error, ptx_emulator::Error::Unsupported { .. }), "{kernel}: {error}");
    }
}

#[test]
fn constant_memory_and_a_struct_by_value() {
    let module = module(ptx!("constants"));
    let n = 50usize;
    let x = Random(23).whole(n + 4, -32, 32);
    let (weights, shifts) = ([0.5f32, -1.25, 3.0, 0.125, 7.0], [0u8, 3, 1, 7]);
    let primes = [2u32, 3, 5, 7, 11, 13, 17, 19];
    let want: Vec<f64> = (0..n)
        .map(|i| {
            let v: f32 = (0..5).map(|j| weights[j] * x[i + j]).sum();
            // The compiler may add these in one order only: that of the source.
            f64::from(v * 2.0) + 0.1 + 40000.0 + f64::from([1, 200, 3][i % 3])
        })
        .collect();
    let mut odd: Vec<u32> = (0..n).map(|i| primes[i * 5 % 8] << shifts[i % 4]).collect();
    odd.push(42);
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<f64> = device.alloc(n).unwrap();
        let odd_out: Buffer<u32> = device.alloc(n + 1).unwrap();
        let mut params = 2f32.to_le_bytes().to_vec();
        params.extend(shifts);
        params.extend(input.address().to_le_bytes());
        params.extend((n as i64).to_le_bytes());
        let report = module.launch("constants").grid([1, 1, 1]).block([64, 1, 1]).bytes(&params).arg(out).arg(odd_out);
        let report = report.mode(mode).run(&device).unwrap();
        assert!(report.is_clean(), "{report}");
        for (i, (got, want)) in device.read(out).unwrap().iter().zip(&want).enumerate() {
            assert!((got - want).abs() < 1e-9, "element {i}: {got}, not {want}");
        }
        assert_equal(&device.read(odd_out).unwrap(), &odd, "integers");
    }
}

#[test]
fn a_lock_keeps_blocks_apart() {
    let module = module(ptx!("spin_lock"));
    for mode in modes() {
        let device = Device::new();
        let (lock, values) = (device.upload(&[0u32]).unwrap(), device.upload(&[0u32, 0]).unwrap());
        clean!(module, "spin_lock", device, mode, [6, 1, 1], [32, 1, 1], 0; lock, values, 10u32);
        assert_eq!(device.read(values).unwrap(), [60, 59 * 60 / 2]);
        assert_eq!(device.read(lock).unwrap(), [0]);
    }
}

#[test]
fn barriers_with_votes() {
    let module = module(ptx!("barriers"));
    for (seed, low, threads) in [(24, -49, 100u32), (25, -60, 64), (26, 18, 33)] {
        let x = Random(seed).ints(3 * threads as usize, low, 60);
        let block = |values: &[i32]| {
            let count = values.iter().filter(|&&v| v > 0).count() as i32;
            count * 4 + i32::from(values.iter().all(|&v| v > -50)) * 2 + i32::from(values.contains(&17))
        };
        let want: Vec<i32> = x.chunks(threads as usize).flat_map(|part| vec![block(part); threads as usize]).collect();
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<i32> = device.alloc(x.len()).unwrap();
            clean!(module, "barrier_votes", device, mode, [3, 1, 1], [threads, 1, 1], 0; input, out);
            assert_equal(&device.read(out).unwrap(), &want, "barrier_votes");
        }
    }
}

#[test]
fn threads_that_have_left_are_not_waited_for() {
    let module = module(ptx!("barriers"));
    let x = Random(27).ints(128, -99, 99);
    for n in [1usize, 31, 32, 64, 77, 128] {
        let want: Vec<i32> = (0..n).map(|i| x[n - 1 - i]).collect();
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x[..n]).unwrap();
            let out: Buffer<i32> = device.alloc(n).unwrap();
            clean!(module, "early_return", device, mode, [1, 1, 1], [128, 1, 1], 0; input, out, n as i32);
            assert_equal(&device.read(out).unwrap(), &want, "early_return");
        }
    }
}

#[test]
fn lanes_of_a_mask_synchronise_in_divergent_code() {
    let module = module(ptx!("barriers"));
    let x = Random(28).ints(64, -99, 99);
    let stored = |t: usize| if t % 32 < 10 { x[t] } else { 2 * x[t] };
    let mut want = Vec::new();
    for t in 0..64 {
        let (warp, lane) = (t / 32 * 32, t % 32);
        want.push(if lane < 10 {
            stored(warp + 9 - lane) + x[warp + 3]
        } else {
            stored(warp + 41 - lane) + x[warp + 20]
        });
    }
    want.extend((0..64).map(|t| stored(t ^ 31)));
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<i32> = device.alloc(128).unwrap();
        clean!(module, "divergent_warp", device, mode, [1, 1, 1], [64, 1, 1], 0; input, out);
        assert_equal(&device.read(out).unwrap(), &want, "divergent_warp");
    }
}
