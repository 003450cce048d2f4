//! Correct programs on shuffles, votes, matches and reductions of warps.

#[macro_use]
mod common;
use common::*;

#[test]
fn shuffles_reduce() {
    let module = module(ptx!("shuffle"));
    let x = Random(30).ints(256, -10_000, 10_000);
    let sums: Vec<i32> = x.chunks(32).map(|warp| warp.iter().sum()).collect();
    let all: Vec<i32> = (0..256).map(|i| sums[i / 32]).collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let (down, every): (Buffer<i32>, Buffer<i32>) = (device.alloc(8).unwrap(), device.alloc(256).unwrap());
        clean!(module, "shuffle_reduce", device, mode, [2, 1, 1], [128, 1, 1], 0; input, down, every);
        assert_equal(&device.read(down).unwrap(), &sums, "down");
        assert_equal(&device.read(every).unwrap(), &all, "all");
    }
}

#[test]
fn shuffles_scan_rotate_and_stay_in_segments() {
    let module = module(ptx!("shuffle"));
    let mut random = Random(31);
    let x: Vec<f64> = (0..128).map(|_| random.int(-1 << 40, 1 << 40) as f64).collect();
    let y: Vec<i64> = (0..128).map(|_| random.next() as i64).collect();
    let scan: Vec<f64> = (0..128).map(|i| x[i / 32 * 32..=i].iter().sum()).collect();
    let rotated: Vec<i64> = (0..128).map(|i| y[i / 32 * 32 + (i + 5) % 32]).collect();
    let segment = |lane: i32| {
        let (first, at) = (lane / 8 * 8, lane % 8);
        let (down, up) = (if at + 3 < 8 { lane + 3 } else { lane }, if at >= 3 { lane - 3 } else { lane });
        (first + 2) * 3 * 10_000 + down * 100 + up
    };
    let segments: Vec<i32> = (0..128).map(|i| segment(i % 32)).collect();
    for mode in modes() {
        let device = Device::new();
        let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
        let got_scan: Buffer<f64> = device.alloc(128).unwrap();
        let got_rotated: Buffer<i64> = device.alloc(128).unwrap();
        let got_segments: Buffer<i32> = device.alloc(128).unwrap();
        clean!(module, "shuffle_scan", device, mode, [1, 1, 1], [128, 1, 1], 0;
            a, got_scan, b, got_rotated, got_segments);
        assert_equal(&device.read(got_scan).unwrap(), &scan, "scan");
        assert_equal(&device.read(got_rotated).unwrap(), &rotated, "rotated");
        assert_equal(&device.read(got_segments).unwrap(), &segments, "segments");
    }
}

#[test]
fn compaction_by_ballots() {
    let module = module(ptx!("compact"));
    let x = Random(32).ints(777, -50, 50);
    let mut want: Vec<i32> = x.iter().copied().filter(|&v| v > 0).collect();
    want.sort();
    for mode in modes() {
        let device = Device::new();
        let (input, count) = (device.upload(&x).unwrap(), device.upload(&[0u32]).unwrap());
        let out = device.upload(&vec![0i32; 777]).unwrap();
        clean!(module, "compact", device, mode, [7, 1, 1], [128, 1, 1], 0; input, 777u32, out, count);
        assert_eq!(device.read(count).unwrap(), [want.len() as u32]);
        let mut got = device.read(out).unwrap();
        assert!(got.drain(want.len()..).all(|v| v == 0));
        got.sort();
        assert_equal(&got, &want, "compact");
    }
}

fn lanes_where(values: &[u32], lanes: std::ops::Range<usize>, holds: impl Fn(u32) -> bool) -> u32 {
    lanes.filter(|&lane| holds(values[lane])).map(|lane| 1u32 << lane).sum()
}

#[test]
fn votes_and_matches() {
    let module = module(ptx!("votes"));
    let mut x: Vec<u32> = Random(33).ints(96, 0, 7).into_iter().map(|v| v as u32).collect();
    // The second warp agrees; the third has no 7.
    x[32..64].fill(3);
    x[64..].iter_mut().for_each(|v| *v = (*v).min(5));
    let mut want = Vec::new();
    for warp in x.chunks(32) {
        for lane in 0..32 {
            let same = lanes_where(warp, 0..32, |v| v == warp[lane]);
            let all = u32::from(same == u32::MAX);
            let small = lanes_where(warp, 0..32, |v| v < 6) == u32::MAX;
            let votes = u32::from(small) * 2 + u32::from(warp.contains(&7));
            want.extend([same, same, if all == 1 { u32::MAX.wrapping_mul(2).wrapping_add(1) } else { 0 }, votes]);
            want.extend(if lane < 12 {
                [lanes_where(warp, 0..12, |v| v & 1 != 0), 0xfff, 0, 0]
            } else {
                let matches = lanes_where(warp, 12..32, |v| v & 3 == warp[lane] & 3);
                [lanes_where(warp, 12..32, |v| v & 2 != 0), 0, matches, 0]
            });
        }
    }
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<u32> = device.alloc(want.len()).unwrap();
        clean!(module, "votes", device, mode, [3, 1, 1], [32, 1, 1], 0; input, out);
        let mut got = device.read(out).unwrap();
        for (i, value) in got.iter_mut().enumerate() {
            // activemask may be any part of the branch that holds the lane itself.
            if i % 8 == 5 && i / 8 % 32 < 12 {
                let lane = i / 8 % 32;
                assert!(*value >> lane & 1 == 1 && *value & !0xfff == 0, "activemask of lane {lane}: {value:#x}");
                *value = 0xfff;
            }
        }
        assert_equal(&got, &want, "votes");
    }
}

#[test]
fn reductions_of_a_warp() {
    let module = module(ptx!("votes"));
    let mut random = Random(34);
    let x: Vec<u32> = (0..32).map(|_| random.next() as u32).collect();
    let signed = || x.iter().map(|&v| v as i32);
    let mut want = Vec::new();
    for lane in 0..32 {
        let part = if lane < 10 { &x[..10] } else { &x[10..] };
        want.extend([
            x.iter().fold(0u32, |a, &b| a.wrapping_add(b)),
            *x.iter().min().unwrap(),
            *x.iter().max().unwrap(),
            signed().min().unwrap() as u32,
            signed().max().unwrap() as u32,
            part.iter().fold(0, |a, b| a ^ b),
            part.iter().fold(u32::MAX, |a, b| a & b),
            part.iter().fold(0, |a, b| a | b),
        ]);
    }
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<u32> = device.alloc(256).unwrap();
        clean!(module, "redux", device, mode, [1, 1, 1], [32, 1, 1], 0; input, out);
        assert_equal(&device.read(out).unwrap(), &want, "redux");
    }
}

#[test]
fn cooperative_groups() {
    let module = module(ptx!("cooperative"));
    let x = Random(35).ints(192, -99, 99);
    let sums: Vec<i32> = (0..192).map(|i| x[i / 8 * 8..][..8].iter().sum()).collect();
    let maxima: Vec<i32> = (0..192).map(|i| *x[i / 32 * 32..][..32].iter().max().unwrap()).collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let [s, m, r]: [Buffer<i32>; 3] = std::array::from_fn(|_| device.alloc(192).unwrap());
        clean!(module, "cooperative", device, mode, [2, 1, 1], [96, 1, 1], 0; input, s, m, r);
        assert_equal(&device.read(s).unwrap(), &sums, "sums of tiles");
        assert_equal(&device.read(m).unwrap(), &maxima, "maxima of warps");
        for (i, rank) in device.read(r).unwrap().into_iter().enumerate() {
            let base = x[i / 8 * 8 + 2] * 64 + (i % 96) as i32;
            if x[i] & 1 == 0 {
                assert_eq!(rank, base, "thread {i}");
            } else {
                // The threads found together may be fewer than all odd ones of the warp.
                let before = x[i / 32 * 32..i].iter().filter(|&v| v & 1 != 0).count() as i32;
                let among = (rank - base) / 1_000_000;
                assert!((rank - base) % 1_000_000 == 0 && (0..=before).contains(&among), "thread {i}: {rank}");
            }
        }
    }
}

#[test]
fn softmax_of_rows() {
    let (rows, columns) = (9usize, 75usize);
    let x = Random(36).reals(rows * columns, -9.0, 9.0);
    for text in [ptx!("softmax"), ptx!("softmax_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<f32> = device.alloc(x.len()).unwrap();
            clean!(module, "softmax", device, mode, [3, 1, 1], [128, 1, 1], 0; input, out, rows as u32, columns as u32);
            for (got, row) in device.read(out).unwrap().chunks(columns).zip(x.chunks(columns)) {
                let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
                for (got, &v) in got.iter().zip(row) {
                    let ulps = ulps32(*got, f64::from(v).exp() / sum);
                    assert!(ulps < 24.0, "{ulps} ulp");
                }
            }
        }
    }
}

#[test]
fn rms_norm_of_rows_in_bfloat16() {
    let module = module(ptx!("rms_norm"));
    let (rows, n) = (4usize, 300usize);
    let mut random = Random(37);
    let x: Vec<bf16> = random.reals(rows * n, -3.0, 3.0).into_iter().map(bf16::from_f32).collect();
    let weight = random.reals(n, 0.5, 1.5);
    for mode in modes() {
        let device = Device::new();
        let (input, weights) = (device.upload(&x).unwrap(), device.upload(&weight).unwrap());
        let out: Buffer<bf16> = device.alloc(x.len()).unwrap();
        clean!(module, "rms_norm", device, mode, [rows as u32, 1, 1], [256, 1, 1], 0;
            input, weights, out, n as u32, 1e-5f32);
        for (got, row) in device.read(out).unwrap().chunks(n).zip(x.chunks(n)) {
            let mean = row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>() / n as f64;
            for i in 0..n {
                let want = row[i].to_f64() * f64::from(weight[i]) / (mean + 1e-5).sqrt();
                // Half a unit of bfloat16, and a little from before the rounding.
                assert!((got[i].to_f64() - want).abs() <= want.abs() * (1.0 / 256.0 + 1e-5), "{} not {want}", got[i]);
            }
        }
    }
}
