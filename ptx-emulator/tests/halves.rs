//! Half precision and bfloat16 against arithmetic in f64 that is rounded once.

#[macro_use]
mod common;
use common::*;

/// Pairs of values whose products and sums are exact in f64; no zero results of either sign.
fn values(seed: u64) -> Vec<f64> {
    let mut random = Random(seed);
    (0..512)
        .map(|_| {
            random.real(0.5, 2.0)
                * 2f64.powi(random.int(-5, 5) as i32)
                * if random.next() & 1 == 0 { 1.0 } else { -1.0 }
        })
        .collect()
}

/// Results by number: sum, difference, product, fused, minimum, maximum, negated, absolute.
fn basic(a: f64, b: f64, c: f64) -> [f64; 8] {
    [a + b, a - b, a * b, a * b + c, a.min(b), a.max(b), -a, a.abs()]
}

#[test]
fn pairs_of_halves() {
    let [x, y, z] = [70, 71, 72].map(|seed| values(seed).into_iter().map(to_f16).collect::<Vec<_>>());
    for text in [ptx!("halves"), ptx!("halves_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let [p, q, r] = [&x, &y, &z].map(|values| device.upload(values).unwrap());
            let out: Buffer<f16> = device.alloc(24 * 256).unwrap();
            clean!(module, "halves", device, mode, [2, 1, 1], [128, 1, 1], 0; p, q, r, out);
            for (i, got) in device.read(out).unwrap().chunks(24).enumerate() {
                for part in 0..2 {
                    let [a, b, c] = [&x, &y, &z].map(|values| values[2 * i + part].to_f64());
                    let mut want = basic(a, b, c).to_vec();
                    want.extend([f64::from(u8::from(a < b)), (a + b).clamp(0.0, 1.0), (a * b + c).max(0.0)]);
                    // Low plus high, high times low.
                    let (first, second) =
                        ([&x, &y].map(|v| v[2 * i].to_f64()), [&x, &y].map(|v| v[2 * i + 1].to_f64()));
                    want.push(if part == 0 { first[0] + second[1] } else { second[0] * first[1] });
                    for (j, want) in want.into_iter().enumerate() {
                        assert_eq!(got[2 * j + part], to_f16(want), "result {j} of {a}, {b}, {c}");
                    }
                }
            }
        }
    }
}

/// The neighbour of the nearest half in the direction wanted: -1 down, 1 up, 0 to zero.
fn directed(v: f32, direction: i32) -> f16 {
    let nearest = to_f16(v.into());
    let step = |up: bool| {
        let bits = nearest.to_bits();
        // Zeros have neighbours of both signs.
        f16::from_bits(match (bits & 0x7fff, up) {
            (0, true) => 1,
            (0, false) => 0x8001,
            (_, up) if up == (bits & 0x8000 == 0) => bits + 1,
            _ => bits - 1,
        })
    };
    let (near, exact) = (nearest.to_f64(), f64::from(v));
    let up = direction > 0 || direction == 0 && v < 0.0;
    match up {
        true if near < exact => step(true),
        false if near > exact => step(false),
        _ => nearest,
    }
}

#[test]
fn conversions_of_halves() {
    let mut x =
        vec![0.0f32, 1.0, 0.1, 65504.0, 65519.0, 65520.0, 1e6, 6e-8, 2e-8, 6.1e-5, 1e-30, f32::INFINITY, 2049.0, 2.5];
    x.extend(x.clone().iter().map(|v| -v));
    let mut random = Random(73);
    x.extend(
        (x.len()..256)
            .map(|_| (random.real(-1.0, 1.0) * 10f64.powi(random.int(-8, 5) as i32)) as f32)
            .collect::<Vec<_>>(),
    );
    for text in [ptx!("halves"), ptx!("halves_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let halves: Buffer<f16> = device.alloc(8 * 256).unwrap();
            let (floats, ints): (Buffer<f32>, Buffer<i32>) = (device.alloc(256).unwrap(), device.alloc(512).unwrap());
            clean!(module, "half_conversions", device, mode, [2, 1, 1], [128, 1, 1], 0; input, halves, floats, ints);
            let (halves, floats, ints) =
                (device.read(halves).unwrap(), device.read(floats).unwrap(), device.read(ints).unwrap());
            for (i, &a) in x.iter().enumerate() {
                let nearest = to_f16(a.into());
                let of_int = to_f16(f64::from((a * 16.0) as i32));
                let double = to_f16(f64::from(a) * 1.0000000001);
                let want = [
                    nearest,
                    directed(a, 0),
                    directed(a, 1),
                    directed(a, -1),
                    of_int,
                    double,
                    nearest,
                    to_f16((-a).into()),
                ];
                assert_equal(&halves[8 * i..][..8], &want, &format!("halves of {a:e}"));
                let back = nearest.to_f32();
                assert_eq!(floats[i], back, "f32 of the half of {a:e}");
                assert_equal(
                    &ints[2 * i..][..2],
                    &[back.round_ties_even() as i32, i32::from(back.floor() as i16)],
                    &format!("integers of {a:e}"),
                );
            }
        }
    }
}

#[test]
fn functions_of_halves() {
    let mut random = Random(74);
    let x: Vec<f16> = (0..256).map(|_| to_f16(random.real(0.01, 9.0))).collect();
    for text in [ptx!("halves"), ptx!("halves_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let input = device.upload(&x).unwrap();
            let out: Buffer<f16> = device.alloc(6 * 256).unwrap();
            clean!(module, "half_functions", device, mode, [2, 1, 1], [128, 1, 1], 0; input, out);
            for (a, got) in x.iter().map(|a| a.to_f64()).zip(device.read(out).unwrap().chunks(6)) {
                let want = [a.exp2(), a.log2(), 1.0 / a.sqrt(), a.sqrt(), 1.0 / a, a.exp()];
                for (j, (got, want)) in got.iter().zip(want).enumerate() {
                    // A unit of the last place, and a little near a root.
                    let bound = want.abs() * 2f64.powi(-10) + 2e-6;
                    assert!((got.to_f64() - want).abs() <= bound, "function {j} of {a}: {got}, not {want}");
                }
            }
        }
    }
}

#[test]
fn pairs_of_bfloat16() {
    let module = module(ptx!("bfloat16"));
    let [x, y, z] = [75, 76, 77].map(|seed| values(seed).into_iter().map(to_bf16).collect::<Vec<_>>());
    for mode in modes() {
        let device = Device::new();
        let [p, q, r] = [&x, &y, &z].map(|values| device.upload(values).unwrap());
        let out: Buffer<bf16> = device.alloc(16 * 256).unwrap();
        clean!(module, "bfloat16", device, mode, [2, 1, 1], [128, 1, 1], 0; p, q, r, out);
        for (i, got) in device.read(out).unwrap().chunks(16).enumerate() {
            for part in 0..2 {
                let [a, b, c] = [&x, &y, &z].map(|values| values[2 * i + part].to_f64());
                for (j, want) in basic(a, b, c).into_iter().enumerate() {
                    assert_eq!(got[2 * j + part], to_bf16(want), "result {j} of {a}, {b}, {c}");
                }
            }
        }
    }
}

#[test]
fn conversions_of_bfloat16() {
    let module = module(ptx!("bfloat16"));
    let mut x = vec![
        0.0f32,
        -0.0,
        1.0,
        3.4e38,
        -3.4e38,
        f32::INFINITY,
        f32::from_bits(0x3f80_8000),
        f32::from_bits(0x3f81_8000),
        1e-40,
    ];
    x.extend(Random(78).reals(256 - 9, -1e5, 1e5));
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let halves: Buffer<bf16> = device.alloc(1024).unwrap();
        let floats: Buffer<f32> = device.alloc(256).unwrap();
        clean!(module, "bfloat16_conversions", device, mode, [2, 1, 1], [128, 1, 1], 0; input, halves, floats);
        let floats = device.read(floats).unwrap();
        for (i, got) in device.read(halves).unwrap().chunks(4).enumerate() {
            let a = x[i];
            let truncated = bf16::from_bits((a.to_bits() >> 16) as u16);
            let nearest = to_bf16(a.into());
            assert_equal(got, &[nearest, truncated, nearest, to_bf16((a * 3.0).into())], &format!("of {a:e}"));
            assert_eq!(floats[i], nearest.to_f32());
        }
    }
}
