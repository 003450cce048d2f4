//! Floating point where IEEE 754 leaves no choice: all widths, directed rounding, conversions.

#[macro_use]
mod common;
use common::*;

#[derive(Clone, Copy, Debug)]
enum Rounding {
    Nearest,
    Zero,
    Up,
    Down,
}
use Rounding::*;

/// The f32 on the side of `nearest` that the rounding wants; `above` compares `nearest` with the exact value.
fn directed(nearest: f32, above: std::cmp::Ordering, rounding: Rounding) -> f32 {
    use std::cmp::Ordering::*;
    match (rounding, above) {
        (Nearest, _) | (_, Equal) => nearest,
        (Up, Less) => nearest.next_up(),
        (Down, Greater) => nearest.next_down(),
        (Zero, Greater) if nearest > 0.0 => nearest.next_down(),
        (Zero, Less) if nearest < 0.0 => nearest.next_up(),
        _ => nearest,
    }
}

/// Of an f64 that is the exact value.
fn rounded(exact: f64, rounding: Rounding) -> f32 {
    let nearest = exact as f32;
    directed(nearest, f64::from(nearest).partial_cmp(&exact).unwrap(), rounding)
}

fn quotient(a: f32, b: f32, rounding: Rounding) -> f32 {
    let nearest = a / b;
    // The product of two f32 is exact in f64.
    let above = (f64::from(nearest) * f64::from(b)).partial_cmp(&f64::from(a)).unwrap();
    directed(nearest, if b < 0.0 { above.reverse() } else { above }, rounding)
}

fn expected_rounding(a: f32, b: f32, c: f32) -> [f32; 20] {
    let (x, y, z) = (f64::from(a), f64::from(b), f64::from(c));
    let root = a.abs().sqrt();
    let root_above = (f64::from(root) * f64::from(root)).partial_cmp(&x.abs()).unwrap();
    let four = |exact: f64| [Nearest, Zero, Up, Down].map(|mode| rounded(exact, mode));
    let mut want = [0.0; 20];
    want[..4].copy_from_slice(&four(x + y));
    want[4..8].copy_from_slice(&four(x * y));
    want[8..12].copy_from_slice(&four(x * y + z));
    want[12..16].copy_from_slice(&[Nearest, Zero, Up, Down].map(|mode| quotient(a, b, mode)));
    want[16..].copy_from_slice(&[root, directed(root, root_above, Down), 1.0 / a, quotient(1.0, a, Up)]);
    want
}

#[test]
fn directed_rounding() {
    let module = module(ptx!("float_ops"));
    let mut random = Random(60);
    // Of few binades, so that sums and fused sums are exact in f64.
    let mut value = || random.real(1.0, 4.0) as f32 * if random.next() & 1 == 0 { 1.0 } else { -1.0 };
    let [x, y, z]: [Vec<f32>; 3] = std::array::from_fn(|_| (0..512).map(|_| value()).collect());
    for mode in modes() {
        let device = Device::new();
        let [a, b, c] = [&x, &y, &z].map(|values| device.upload(values).unwrap());
        let out: Buffer<f32> = device.alloc(20 * 512).unwrap();
        clean!(module, "rounding", device, mode, [4, 1, 1], [128, 1, 1], 0; a, b, c, out);
        for (i, got) in device.read(out).unwrap().chunks(20).enumerate() {
            let want = expected_rounding(x[i], y[i], z[i]);
            assert_equal(got, &want, &format!("of {:e}, {:e}, {:e}", x[i], y[i], z[i]));
        }
    }
}

fn specials() -> Vec<f32> {
    let mut values = vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.5, 0.49999997, 1e-40, 8388607.5, 16777216.0, 2147483500.0];
    values.extend([2147483600.0, 4294967000.0, 4294967300.0, 9.2e18, 9.3e18, 1.9e19, 3e38, f32::INFINITY, 1e-3]);
    values.extend(values.clone().iter().map(|v| -v));
    values.push(f32::NAN);
    let mut random = Random(61);
    while values.len() < 256 {
        values.push((random.real(-1.0, 1.0) * 10f64.powi(random.int(-3, 12) as i32)) as f32);
    }
    values
}

#[test]
fn conversions_to_integers() {
    let module = module(ptx!("float_ops"));
    let x = specials();
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<f32> = device.alloc(12 * 256).unwrap();
        let (ints, longs): (Buffer<i32>, Buffer<u64>) = (device.alloc(2560).unwrap(), device.alloc(1024).unwrap());
        clean!(module, "to_integers", device, mode, [2, 1, 1], [128, 1, 1], 0; input, out, ints, longs);
        let (out, ints, longs) = (device.read(out).unwrap(), device.read(ints).unwrap(), device.read(longs).unwrap());
        for (i, &a) in x.iter().enumerate() {
            let class = if a.is_nan() {
                3.0
            } else if a.is_infinite() {
                2.0
            } else {
                f32::from(a.is_sign_negative())
            };
            let saturated = if a.is_nan() { 0.0 } else { a.clamp(0.0, 1.0) };
            let want = [a.floor(), a.ceil(), a.trunc(), a.round_ties_even(), a.round(), saturated, a.min(1.5)];
            let more = [a.max(-1.5), 2f32.copysign(a), a.abs(), -a, class];
            for (j, want) in want.into_iter().chain(more).enumerate() {
                let got = out[12 * i + j];
                assert!(same(got, want), "value {j} of {a:e}: {got:e}, not {want:e}");
            }
            let even = a.round_ties_even();
            let want = [even as i32, a as i32, a.ceil() as i32, a.floor() as i32, even as u32 as i32, a as u32 as i32];
            let order = [i32::from(if a < 1.0 { a <= -1.0 } else { a != 2.0 })];
            let unordered =
                [i32::from(!matches!(a.partial_cmp(&1.0), Some(std::cmp::Ordering::Greater))) * 2
                    + i32::from(a != 1.0)];
            let more = [a.ceil() as u32 as i32, a.to_bits() as i32 >> 23, order[0], unordered[0]];
            assert_equal(&ints[10 * i..][..10], &[&want[..], &more].concat(), &format!("integers of {a:e}"));
            // NaN becomes the top bit where the result has 64.
            let long = |v: u64| if a.is_nan() { 1 << 63 } else { v };
            let want = [even as i64 as u64, a as u64, a.floor() as i64 as u64, a as i64 as u64].map(long);
            assert_equal(&longs[4 * i..][..4], &want, &format!("64-bit integers of {a:e}"));
        }
    }
}

/// An integer's f32, by integer comparison.
fn of_integer(v: i128, rounding: Rounding) -> f32 {
    let nearest = v as f32;
    directed(nearest, (nearest as i128).cmp(&v), rounding)
}

#[test]
fn conversions_from_integers() {
    let module = module(ptx!("float_ops"));
    let mut random = Random(62);
    let mut x = vec![0i64, 1, -1, i64::MAX, i64::MIN, i64::MAX - 1, 16_777_217, -16_777_219, 1 << 62, 0x7fff_ffff];
    x.extend((x.len()..256).map(|_| random.next() as i64 >> (random.next() % 64)).collect::<Vec<_>>());
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let out: Buffer<f32> = device.alloc(2560).unwrap();
        clean!(module, "from_integers", device, mode, [2, 1, 1], [128, 1, 1], 0; input, out);
        for (&a, got) in x.iter().zip(device.read(out).unwrap().chunks(10)) {
            let (s, u) = (i128::from(a as i32), i128::from(a as u32));
            let want = [
                of_integer(s, Nearest),
                of_integer(s, Zero),
                of_integer(s, Up),
                of_integer(u, Nearest),
                of_integer(u, Down),
                of_integer(a.into(), Nearest),
                of_integer((a as u64).into(), Nearest),
                of_integer(a.into(), Zero),
                f32::from(a as i16),
                f32::from(a as u8),
            ];
            assert_equal(got, &want, &format!("floats of {a}"));
        }
    }
}

/// The exact error of the rounded sum (Knuth): its sign tells on which side the rounded one lies.
fn sum_error(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let part = sum - a;
    (a - (sum - part)) + (b - part)
}

#[test]
fn double_precision() {
    let module = module(ptx!("doubles"));
    let mut random = Random(63);
    let mut value = || random.real(-1.0, 1.0) * 2f64.powi(random.int(-20, 40) as i32);
    let [mut x, mut y, z]: [Vec<f64>; 3] = std::array::from_fn(|_| (0..256).map(|_| value()).collect());
    x[..6].copy_from_slice(&[2.5, -3.5, 1e18, -1e300, 0.5, 1e-310]);
    y[..6].copy_from_slice(&[0.1, 3.0, 7.0, 1e300, -1e-320, 3.0]);
    for mode in modes() {
        let device = Device::new();
        let [a, b, c] = [&x, &y, &z].map(|values| device.upload(values).unwrap());
        let out: Buffer<f64> = device.alloc(18 * 256).unwrap();
        let (longs, floats): (Buffer<i64>, Buffer<f32>) = (device.alloc(1024).unwrap(), device.alloc(768).unwrap());
        clean!(module, "doubles", device, mode, [2, 1, 1], [128, 1, 1], 0; a, b, c, out, longs, floats);
        let (out, longs, floats) =
            (device.read(out).unwrap(), device.read(longs).unwrap(), device.read(floats).unwrap());
        for i in 0..256 {
            let (a, b, c) = (x[i], y[i], z[i]);
            let (sum, error) = (a + b, sum_error(a, b));
            let zero = if sum > 0.0 && error < 0.0 {
                sum.next_down()
            } else if sum < 0.0 && error > 0.0 {
                sum.next_up()
            } else {
                sum
            };
            let up = if error > 0.0 { sum.next_up() } else { sum };
            let mut want =
                vec![sum, a - b, a * b, a.mul_add(b, c), a / b, a.abs().sqrt(), 1.0 / a, a.floor(), a.ceil()];
            want.extend([a.trunc(), a.round_ties_even(), a.min(b), a.max(b), a.copysign(b), zero, up]);
            want.extend([f64::from(a as f32), c as i64 as f64]);
            assert_equal(&out[18 * i..][..18], &want, &format!("of {a:e}, {b:e}, {c:e}"));
            let want = [a as i64, a.round_ties_even() as i64, (a.floor() as i32).into(), (a.ceil() as u32).into()];
            assert_equal(&longs[4 * i..][..4], &want, &format!("integers of {a:e}"));
            assert_equal(
                &floats[3 * i..][..3],
                &[Nearest, Zero, Up].map(|mode| rounded(a, mode)),
                &format!("f32 of {a:e}"),
            );
        }
    }
}
