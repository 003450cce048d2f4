//! Correct programs on memory and shared memory: right results and no finding, in every mode.

#[macro_use]
mod common;
use common::*;

#[test]
fn vector_add() {
    let module = module(ptx!("vector_add"));
    let mut random = Random(1);
    let (x, y) = (random.reals(1000, -4.0, 4.0), random.reals(1000, -4.0, 4.0));
    for mode in modes() {
        let device = Device::new();
        let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
        let out: Buffer<f32> = device.alloc(1000).unwrap();
        clean!(module, "vector_add", device, mode, [8, 1, 1], [128, 1, 1], 0; a, b, out, 1000u32);
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        assert_equal(&device.read(out).unwrap(), &want, "vector_add");
    }
}

#[test]
fn saxpy_in_vectors_of_four_with_a_tail() {
    let module = module(ptx!("saxpy"));
    let mut random = Random(2);
    let (x, y) = (random.whole(1003, -99, 99), random.whole(1003, -99, 99));
    for mode in modes() {
        let device = Device::new();
        let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
        clean!(module, "saxpy", device, mode, [3, 1, 1], [50, 1, 1], 0; 2.5f32, a, b, 1003u32);
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 2.5 * x + y).collect();
        assert_equal(&device.read(b).unwrap(), &want, "saxpy");
    }
}

#[test]
fn the_block_that_finishes_last_adds_the_parts() {
    let mut random = Random(3);
    let (x, y) = (random.whole(5000, -9, 9), random.whole(5000, -9, 9));
    let want: f32 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    for text in [ptx!("dot"), ptx!("dot_sm90")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
            let (parts, out): (Buffer<f32>, Buffer<f32>) = (device.alloc(7).unwrap(), device.alloc(1).unwrap());
            let done = device.upload(&[0u32]).unwrap();
            for _ in 0..2 {
                clean!(module, "dot", device, mode, [7, 1, 1], [256, 1, 1], 0; a, b, 5000u32, parts, done, out);
                assert_eq!(device.read(out).unwrap(), [want]);
                assert_eq!(device.read(done).unwrap(), [0]);
            }
        }
    }
}

#[test]
fn transpose_through_padded_tiles() {
    let mut random = Random(4);
    let (rows, columns) = (70usize, 45usize);
    let x = random.reals(rows * columns, -1.0, 1.0);
    let want: Vec<f32> = (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect();
    for text in [ptx!("transpose"), ptx!("transpose_plain")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<f32> = device.alloc(rows * columns).unwrap();
            clean!(module, "transpose", device, mode, [2, 3, 1], [32, 8, 1], 0;
                input, out, rows as u32, columns as u32);
            assert_equal(&device.read(out).unwrap(), &want, "transpose");
        }
    }
}

#[test]
fn histogram_by_atomics() {
    let module = module(ptx!("histogram"));
    let mut random = Random(5);
    let x: Vec<u8> = (0..3001).map(|_| (random.next() % 256 * (random.next() % 256) / 256) as u8).collect();
    let mut want = vec![0u32; 256];
    x.iter().for_each(|&v| want[usize::from(v)] += 1);
    for mode in modes() {
        let device = Device::new();
        let (input, bins) = (device.upload(&x).unwrap(), device.upload(&[0u32; 256]).unwrap());
        clean!(module, "histogram", device, mode, [5, 1, 1], [160, 1, 1], 0; input, 3001u32, bins);
        assert_equal(&device.read(bins).unwrap(), &want, "histogram");
    }
}

#[test]
fn matmul_in_tiles() {
    let mut random = Random(6);
    let (m, n, k) = (64, 96, 64);
    let (a, b) = (random.whole(m * k, -9, 9), random.whole(k * n, -9, 9));
    let want: Vec<f32> = (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum()).collect();
    for text in [ptx!("matmul"), ptx!("matmul_debug")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (a, b) = (device.upload(&a).unwrap(), device.upload(&b).unwrap());
            let c: Buffer<f32> = device.alloc(m * n).unwrap();
            clean!(module, "matmul", device, mode, [3, 2, 1], [8, 32, 1], 0; a, b, c, n as u32, k as u32);
            assert_equal(&device.read(c).unwrap(), &want, "matmul");
        }
    }
}

#[test]
fn asynchronous_copies_into_two_buffers() {
    let module = module(ptx!("pipeline"));
    let (blocks, tiles) = (3, 5);
    let x = Random(7).whole(blocks * tiles * 256, -50, 50);
    let sum = |block: usize, t: usize| -> f32 {
        let at = |tile: usize, part: usize| x[((block * tiles + tile) * 64 + 63 - t) * 4 + part];
        (0..tiles).flat_map(|tile| (0..4).map(move |part| (tile, part))).map(|(i, p)| (p + 1) as f32 * at(i, p)).sum()
    };
    let want: Vec<f32> = (0..blocks * 64).map(|i| sum(i / 64, i % 64)).collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<f32> = device.alloc(blocks * 64).unwrap();
        clean!(module, "pipeline", device, mode, [blocks as u32, 1, 1], [64, 1, 1], 0; input, out, tiles as u32);
        assert_equal(&device.read(out).unwrap(), &want, "pipeline");
    }
}

#[test]
fn cp_async_of_all_sizes_and_cut_short() {
    let module = module(ptx!("cp_async"));
    let x: Vec<u32> = Random(8).ints(128, 0, 999).into_iter().map(|v| v as u32).collect();
    for mode in modes() {
        for valid in [77u32, 128, 0] {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<u32> = device.alloc(256).unwrap();
            clean!(module, "cp_async", device, mode, [1, 1, 1], [32, 1, 1], 0; input, out, valid);
            let mut want: Vec<u32> = (0..128).map(|i| x[127 - i] + 1000 * x[4 * (31 - i / 4) + i % 4]).collect();
            want.extend((0..128).rev().map(|i| if i < valid as usize { x[i] } else { 0 }));
            assert_equal(&device.read(out).unwrap(), &want, "cp_async");
        }
    }
}

#[test]
fn producers_and_consumers_meet_at_named_barriers() {
    let module = module(ptx!("producer_consumer"));
    let rounds = 7;
    let x = Random(9).ints(rounds * 96, -1000, 1000);
    let want: Vec<i32> = (0..96)
        .map(|t| (0..rounds).fold(0i32, |sum, i| sum.wrapping_mul(3).wrapping_add(2 * x[i * 96 + 95 - t])))
        .collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<i32> = device.alloc(96).unwrap();
        clean!(module, "producer_consumer", device, mode, [1, 1, 1], [128, 1, 1], 0; input, out, rounds as i32);
        assert_equal(&device.read(out).unwrap(), &want, "producer_consumer");
    }
}

#[test]
fn stencil_with_a_halo() {
    let module = module(ptx!("stencil"));
    let x = Random(10).whole(500, -64, 64);
    let at = |i: i32| if (0..500).contains(&i) { x[i as usize] } else { 0.0 };
    let want: Vec<f32> = (0..500).map(|i| 0.25 * at(i - 1) + 0.5 * at(i) + 0.25 * at(i + 1)).collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<f32> = device.alloc(500).unwrap();
        clean!(module, "stencil", device, mode, [4, 1, 1], [128, 1, 1], 0; input, out, 500i32);
        assert_equal(&device.read(out).unwrap(), &want, "stencil");
    }
}

#[test]
fn running_sum_by_looking_back_over_blocks() {
    let module = module(ptx!("look_back"));
    let x: Vec<u32> = Random(11).ints(1250, 0, 1 << 24).into_iter().map(|v| v as u32).collect();
    let sum = |total: &mut u32, &v: &u32| {
        *total = total.wrapping_add(v);
        Some(*total)
    };
    let want: Vec<u32> = x.iter().scan(0u32, sum).collect();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let (states, ticket) = (device.upload(&[0u32; 10]).unwrap(), device.upload(&[0u32]).unwrap());
        let out: Buffer<u32> = device.alloc(1250).unwrap();
        let (sums, totals): (Buffer<u32>, Buffer<u32>) = (device.alloc(10).unwrap(), device.alloc(10).unwrap());
        clean!(module, "look_back", device, mode, [10, 1, 1], [128, 1, 1], 0;
            input, out, 1250u32, states, sums, totals, ticket);
        assert_equal(&device.read(out).unwrap(), &want, "look_back");
    }
}

#[test]
fn bitonic_sort() {
    let mut random = Random(12);
    // Distinct keys: the sort is not stable.
    let x: Vec<i32> = (0..1024).map(|i| (random.int(-1_000_000, 1_000_000) * 1024 + i) as i32).collect();
    let values: Vec<u32> = (0..1024).collect();
    let mut pairs: Vec<(i32, u32)> = x.iter().copied().zip(values.iter().copied()).collect();
    pairs[..512].sort();
    pairs[512..].sort();
    for text in [ptx!("bitonic"), ptx!("bitonic_plain")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (k, v) = (device.upload(&x).unwrap(), device.upload(&values).unwrap());
            clean!(module, "bitonic", device, mode, [2, 1, 1], [256, 1, 1], 0; k, v);
            assert_equal(&device.read(k).unwrap(), &pairs.iter().map(|p| p.0).collect::<Vec<_>>(), "keys");
            assert_equal(&device.read(v).unwrap(), &pairs.iter().map(|p| p.1).collect::<Vec<_>>(), "values");
        }
    }
}

#[test]
fn several_arrays_in_dynamic_shared_memory() {
    let module = module(ptx!("dynamic_shared"));
    let n = 75usize;
    let x = Random(13).ints(n, -500, 500);
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let doubles: Buffer<f64> = device.alloc(n).unwrap();
        let ints: Buffer<i32> = device.alloc(n).unwrap();
        let bytes: Buffer<u8> = device.alloc(n).unwrap();
        clean!(module, "dynamic_shared", device, mode, [1, 1, 1], [96, 1, 1], (13 * n) as u32;
            input, doubles, ints, bytes, n as i32);
        let reversed = || x.iter().rev().copied();
        assert_equal(
            &device.read(doubles).unwrap(),
            &reversed().map(|v| f64::from(v) * 0.5).collect::<Vec<_>>(),
            "f64",
        );
        let want: Vec<i32> = reversed().enumerate().map(|(i, v)| v + 100 * (i as i32 % 4)).collect();
        assert_equal(&device.read(ints).unwrap(), &want, "i32");
        assert_equal(&device.read(bytes).unwrap(), &reversed().map(|v| v as u8).collect::<Vec<_>>(), "u8");
    }
}

#[test]
fn grids_and_blocks_of_three_dimensions() {
    let module = module(ptx!("grid_3d"));
    let ([gx, gy, gz], [bx, by, bz]) = ([3u32, 2, 2], [5u32, 4, 3]);
    let threads = bx * by * bz;
    let want: Vec<u32> = (0..gx * gy * gz * threads)
        .flat_map(|i| {
            let (block, t) = (i / threads, i % threads);
            let thread = (t % bx) | ((t / bx % by) << 8) | ((t / bx / by) << 16);
            let block = (block % gx) | ((block / gx % gy) << 8) | ((block / gx / gy) << 16);
            [thread, block, t % 32, (1 << (t % 32)) - 1]
        })
        .collect();
    for mode in modes() {
        let device = Device::new();
        let out: Buffer<u32> = device.alloc(want.len()).unwrap();
        clean!(module, "grid_3d", device, mode, [gx, gy, gz], [bx, by, bz], 0; out);
        assert_equal(&device.read(out).unwrap(), &want, "grid_3d");
    }
}
