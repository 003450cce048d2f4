//! Integer arithmetic against Rust's.

#[macro_use]
mod common;
use common::*;

/// Random bits, then every pair of the values at which things change.
fn operands(seed: u64, bits: u32) -> (Vec<u64>, Vec<u64>) {
    let mut random = Random(seed);
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let top = 1u64 << (bits - 1);
    let edges = [0, 1, 2, 7, 31, 32, 33, 63, 0xff, 0x8000, top - 1, top, top + 1, mask, mask - 1, mask - 6];
    let mut pairs: Vec<(u64, u64)> = edges.iter().flat_map(|&a| edges.map(|b| (a, b))).collect();
    while pairs.len() < 512 {
        // Of all lengths.
        let mut value = || (random.next() & mask) >> (random.next() % u64::from(bits));
        pairs.push((value(), value()));
    }
    pairs.into_iter().unzip()
}

fn permuted(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).map(|i| ((bytes >> (8 * (selectors >> (4 * i) & 7))) as u32 & 0xff) << (8 * i)).sum()
}

fn dot(a: u32, b: u32, start: i64, signed: bool) -> u32 {
    let byte = |v: u8| if signed { i64::from(v as i8) } else { i64::from(v) };
    let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(|(a, b)| byte(a) * byte(b));
    (start + products.sum::<i64>()) as u32
}

fn expected32(a: u32, b: u32) -> [u32; 24] {
    let (s, t) = (a as i32, b as i32);
    let (wide, pair) = (i64::from(s) * i64::from(t), u64::from(b) << 32 | u64::from(a));
    let divides = t != 0 && t != -1;
    [
        ((u64::from(a) * u64::from(b)) >> 32) as u32,
        (wide >> 32) as u32,
        a.reverse_bits(),
        a.leading_zeros(),
        if a == 0 { 0 } else { a.trailing_zeros() + 1 },
        a.count_ones(),
        (pair << (b & 31) >> 32) as u32,
        (pair >> (b & 63).min(32)) as u32,
        permuted(a, b, b),
        dot(a, b, 7, false),
        dot(a, b, -7, true),
        s.abs_diff(t).wrapping_add(3),
        a.abs_diff(b).wrapping_add(3),
        a.checked_div(b).unwrap_or(0),
        a.checked_rem(b).unwrap_or(0),
        if divides { (s / t) as u32 } else { 0 },
        if divides { (s % t) as u32 } else { 0 },
        ((i64::from(s) + i64::from(t)) >> 1) as u32,
        ((u64::from(a) + u64::from(b) + 1) >> 1) as u32,
        (a / 10).wrapping_add(b % 1000),
        (s >> (b & 31)) as u32,
        a << (b & 31),
        a >> 5 & 0x3ff | (a as i16 as u32) << 16,
        (s.unsigned_abs()).wrapping_add((s.max(t) as u32).wrapping_mul(a.min(b))).wrapping_add(a as i8 as u32),
    ]
}

#[test]
fn operations_of_32_bits() {
    let (x, y) = operands(50, 32);
    let [x, y] = [x, y].map(|values| values.into_iter().map(|v| v as u32).collect::<Vec<_>>());
    for text in [ptx!("integers"), ptx!("integers_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
            let out: Buffer<u32> = device.alloc(24 * x.len()).unwrap();
            clean!(module, "integers32", device, mode, [4, 1, 1], [128, 1, 1], 0; a, b, out);
            for (i, got) in device.read(out).unwrap().chunks(24).enumerate() {
                assert_equal(got, &expected32(x[i], y[i]), &format!("of {:#x} and {:#x}", x[i], y[i]));
            }
        }
    }
}

fn expected64(a: u64, b: u64) -> [u64; 20] {
    let (s, t) = (a as i64, b as i64);
    let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
    let sum = wide(a, b).wrapping_add(wide(b, a));
    let difference = (u128::from(a) * u128::from(b)).wrapping_sub(u128::from(b) << 32);
    let shifted = wide(a, b) >> (b & 127);
    let divides = t != 0 && t != -1;
    [
        ((u128::from(a) * u128::from(b)) >> 64) as u64,
        ((i128::from(s) * i128::from(t)) >> 64) as u64,
        a.reverse_bits(),
        a.leading_zeros().into(),
        if a == 0 { 0 } else { u64::from(a.trailing_zeros()) + 1 },
        a.count_ones().into(),
        a.checked_div(b).unwrap_or(0),
        a.checked_rem(b).unwrap_or(0),
        if divides { (s / t) as u64 } else { 0 },
        if divides { (s % t) as u64 } else { 0 },
        sum as u64,
        (sum >> 64) as u64,
        difference as u64,
        (difference >> 64) as u64,
        shifted as u64,
        (shifted >> 64) as u64,
        a.wrapping_mul(b),
        (s >> (b & 63)) as u64,
        if s < t { a << (b & 63) } else { b },
        s.unsigned_abs().wrapping_add(a.max(b)),
    ]
}

#[test]
fn operations_of_64_and_128_bits() {
    let (x, y) = operands(51, 64);
    for text in [ptx!("integers"), ptx!("integers_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
            let out: Buffer<u64> = device.alloc(20 * x.len()).unwrap();
            clean!(module, "integers64", device, mode, [4, 1, 1], [128, 1, 1], 0; a, b, out);
            for (i, got) in device.read(out).unwrap().chunks(20).enumerate() {
                assert_equal(got, &expected64(x[i], y[i]), &format!("of {:#x} and {:#x}", x[i], y[i]));
            }
        }
    }
}

#[test]
fn chains_of_carries() {
    let mut random = Random(52);
    // Many words of ones and zeros, so that carries run through.
    let mut word = || match random.next() % 4 {
        0 => u32::MAX,
        1 => 0,
        _ => random.next() as u32,
    };
    let [x, y]: [Vec<u32>; 2] = std::array::from_fn(|_| (0..3 * 256).map(|_| word()).collect());
    let whole = |words: &[u32]| words.iter().rev().fold(0u128, |all, &word| all << 32 | u128::from(word));
    let words = |v: u128| (0..4).map(move |i| (v >> (32 * i)) as u32);
    let mut want = Vec::new();
    for (a, b) in x.chunks(3).zip(y.chunks(3)) {
        want.extend(words(whole(a) + whole(b)));
        want.extend(words(whole(a).wrapping_sub(whole(b))));
        want.extend(words(whole(&a[..2]) * whole(&b[..2])));
    }
    for text in [ptx!("integers"), ptx!("integers_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
            let out: Buffer<u32> = device.alloc(12 * 256).unwrap();
            clean!(module, "carries", device, mode, [2, 1, 1], [128, 1, 1], 0; a, b, out);
            assert_equal(&device.read(out).unwrap(), &want, "carries");
        }
    }
}
