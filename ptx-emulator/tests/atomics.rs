//! Atomic operations: each result is the same in any order.

#[macro_use]
mod common;
use common::*;

#[test]
fn atomics_of_32_bits() {
    let (blocks, threads) = (4usize, 96usize);
    let n = blocks * threads;
    let x = Random(40).ints(n, i64::from(i32::MIN), i64::from(i32::MAX));
    let bits = || x.iter().map(|&v| v as u32);
    let mut counted = 50;
    for _ in 0..n {
        counted = if counted == 0 || counted > 100 { 100 } else { counted - 1 };
    }
    let sum = bits().fold(0u32, u32::wrapping_add);
    let want = [
        sum.wrapping_add(3),
        0u32.wrapping_sub(sum),
        bits().min().unwrap(),
        bits().max().unwrap(),
        bits().fold(u32::MAX, |a, b| a & (b | 0xff)),
        bits().fold(0, |a, b| a | (b & 0xff_00ff)),
        bits().fold(0, |a, b| a ^ b),
        n as u32,
        counted,
        (n % 7) as u32,
        77,
    ];
    for text in [ptx!("atomics"), ptx!("atomics_sm90")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let o = device.upload(&[3u32, 0, u32::MAX, 0, u32::MAX, 0, 0, 0, 50, 0, 1]).unwrap();
            let (s, f) = (device.upload(&[i32::MAX, i32::MIN]).unwrap(), device.upload(&[0f32, -1e30]).unwrap());
            let tickets: Buffer<u32> = device.alloc(n).unwrap();
            clean!(module, "atomics32", device, mode, [4, 1, 1], [96, 1, 1], 0; input, o, s, f, tickets);
            assert_equal(&device.read(o).unwrap(), &want, "atomics32");
            assert_eq!(device.read(s).unwrap(), [*x.iter().min().unwrap(), *x.iter().max().unwrap()]);
            let sum: f32 = x.iter().map(|v| (v % 64) as f32).sum();
            assert_eq!(device.read(f).unwrap(), [sum, *x.iter().max().unwrap() as f32]);
            let mut tickets = device.read(tickets).unwrap();
            tickets.sort();
            assert_equal(&tickets, &(0..n as u32).collect::<Vec<_>>(), "tickets");
        }
    }
}

#[test]
fn atomics_of_64_bits_and_of_halves() {
    let n = 256usize;
    let mut random = Random(41);
    let x: Vec<i64> = (0..n).map(|_| random.next() as i64).collect();
    let bits = || x.iter().map(|&v| v as u64);
    let mut want = vec![
        bits().fold(0, u64::wrapping_add),
        bits().min().unwrap(),
        bits().max().unwrap(),
        bits().fold(u64::MAX, |a, b| a & (b | 0xff)),
        bits().fold(0, |a, b| a | (b & 0xff_00ff_00ff)),
        bits().fold(0, |a, b| a ^ b),
        77 << 40,
    ];
    want.extend(bits());
    let halves: [f16; 2] =
        [1, 2].map(|bit| x.iter().filter(|&v| v & bit != 0).count() as f32 / bit as f32).map(f16::from_f32);
    for text in [ptx!("atomics"), ptx!("atomics_sm90")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let mut start = vec![0u64, u64::MAX, 0, u64::MAX, 0, 0, 0];
            start.extend((0..n as u64).map(|i| i * i));
            let o = device.upload(&start).unwrap();
            let (s, d) = (device.upload(&[i64::MAX, i64::MIN]).unwrap(), device.upload(&[0f64]).unwrap());
            let h = device.upload(&[f16::ZERO; 2]).unwrap();
            clean!(module, "atomics64", device, mode, [4, 1, 1], [64, 1, 1], 0; input, o, s, d, h);
            assert_equal(&device.read(o).unwrap(), &want, "atomics64");
            assert_eq!(device.read(s).unwrap(), [*x.iter().min().unwrap(), *x.iter().max().unwrap()]);
            assert_eq!(device.read(d).unwrap(), [x.iter().map(|v| (v % 1024) as f64 * 0.25).sum::<f64>()]);
            assert_eq!(device.read(h).unwrap(), halves);
        }
    }
}

#[test]
fn atomics_in_shared_memory() {
    let threads = 160usize;
    let x = Random(42).ints(2 * threads, 0, i64::from(i32::MAX));
    let mut want = Vec::new();
    for part in x.chunks(threads) {
        let bits = || part.iter().map(|&v| v as u32);
        let slots = (0..threads as u32).fold(0, |a, b| a ^ b);
        let and = bits().fold(u32::MAX, |a, b| a & (b | 7));
        let or = bits().fold(0, |a, b| a | (b & 0xf0f0));
        want.extend([threads as u32, slots, bits().min().unwrap(), bits().max().unwrap(), and, or, threads as u32, 5]);
        let sum: u64 = bits().map(u64::from).sum();
        want.extend([sum as u32, (sum >> 32) as u32, bits().max().unwrap(), 0, threads as u32, threads as u32]);
    }
    for text in [ptx!("atomics"), ptx!("atomics_sm90")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<u32> = device.alloc(28).unwrap();
            clean!(module, "atomics_shared", device, mode, [2, 1, 1], [160, 1, 1], 0; input, out);
            assert_equal(&device.read(out).unwrap(), &want, "atomics_shared");
        }
    }
}
