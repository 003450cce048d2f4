//! CUB's collectives, whose warp-synchronous code must give no false finding.

#[macro_use]
mod common;
use common::*;

#[test]
fn block_scan_of_four_items_a_thread() {
    let x = Random(110).ints(2048, -1000, 1000);
    let want: Vec<i32> = (0..2048).map(|i| x[i / 512 * 512..i].iter().sum()).collect();
    let totals: Vec<i32> = x.chunks(512).map(|block| block.iter().sum()).collect();
    for text in [ptx!("cub_scan"), ptx!("cub_scan_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let (out, total): (Buffer<i32>, Buffer<i32>) = (device.alloc(2048).unwrap(), device.alloc(4).unwrap());
            clean!(module, "cub_block_scan", device, mode, [4, 1, 1], [128, 1, 1], 0; input, out, total);
            assert_equal(&device.read(out).unwrap(), &want, "scan");
            assert_equal(&device.read(total).unwrap(), &totals, "totals");
        }
    }
}

#[test]
fn block_scan_by_raking() {
    let x = Random(111).reals(288, -9.0, 9.0);
    let want: Vec<f32> =
        (0..288).map(|i| x[i / 96 * 96..=i].iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
    for text in [ptx!("cub_scan"), ptx!("cub_scan_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<f32> = device.alloc(288).unwrap();
            clean!(module, "cub_block_scan_raking", device, mode, [3, 1, 1], [96, 1, 1], 0; input, out);
            assert_equal(&device.read(out).unwrap(), &want, "scan");
        }
    }
}

#[test]
fn warp_scan() {
    let x = Random(112).ints(64, -1000, 1000);
    let sum = |from: usize, to: usize| -> i32 { x[from..to].iter().sum() };
    let want: Vec<i32> =
        (0..64).flat_map(|i| [sum(i / 32 * 32, i + 1), sum(i / 32 * 32, i), sum(i / 8 * 8, i + 1)]).collect();
    for text in [ptx!("cub_scan"), ptx!("cub_scan_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<i32> = device.alloc(192).unwrap();
            clean!(module, "cub_warp_scan", device, mode, [1, 1, 1], [64, 1, 1], 0; input, out);
            assert_equal(&device.read(out).unwrap(), &want, "scan");
        }
    }
}

#[test]
fn block_reduce() {
    let x = Random(113).whole(700, -99, 99);
    let want: Vec<f32> = x
        .chunks(128)
        .flat_map(|part| [part.iter().sum(), part.iter().copied().fold(f32::NEG_INFINITY, f32::max)])
        .collect();
    for text in [ptx!("cub_reduce"), ptx!("cub_reduce_O0")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<f32> = device.alloc(12).unwrap();
            clean!(module, "cub_reduce", device, mode, [6, 1, 1], [128, 1, 1], 0; input, out, 700u32);
            assert_equal(&device.read(out).unwrap(), &want, "reduce");
        }
    }
}

#[test]
fn block_load_and_store() {
    let module = module(ptx!("cub_load_store"));
    for n in [512usize, 600, 257, 3] {
        let x: Vec<i16> = Random(114).ints(n, -5000, 5000).into_iter().map(|v| v as i16).collect();
        let want: Vec<i16> = x.iter().enumerate().map(|(i, &v)| v * 4 + i as i16 % 4).collect();
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<i16> = device.alloc(n).unwrap();
            let blocks = n.div_ceil(256) as u32;
            clean!(module, "cub_load_store", device, mode, [blocks, 1, 1], [64, 1, 1], 0; input, out, n as i32);
            assert_equal(&device.read(out).unwrap(), &want, "load and store");
        }
    }
}

#[test]
fn block_radix_sort() {
    let module = module(ptx!("cub_sort"));
    let mut random = Random(115);
    let keys: Vec<i32> = (0..256).map(|_| random.next() as i32 >> random.int(0, 28)).collect();
    let values: Vec<u16> = (0..256).collect();
    let mut pairs: Vec<(i32, u16)> = keys.iter().copied().zip(values.iter().copied()).collect();
    // Stable, as CUB's is.
    pairs.chunks_mut(128).for_each(|block| block.sort_by_key(|pair| pair.0));
    for mode in modes() {
        let device = Device::new();
        let (k, v) = (device.upload(&keys).unwrap(), device.upload(&values).unwrap());
        clean!(module, "cub_sort", device, mode, [2, 1, 1], [64, 1, 1], 0; k, v);
        assert_equal(&device.read(k).unwrap(), &pairs.iter().map(|p| p.0).collect::<Vec<_>>(), "keys");
        assert_equal(&device.read(v).unwrap(), &pairs.iter().map(|p| p.1).collect::<Vec<_>>(), "values");
    }
}
