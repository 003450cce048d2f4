//! What compilers emit that looks like a mistake and is none, and instructions behind intrinsics.

#[macro_use]
mod common;
use common::*;

fn halves(values: &[u128]) -> Vec<u64> {
    values.iter().flat_map(|&v| [v as u64, (v >> 64) as u64]).collect()
}

#[test]
fn division_of_128_bits() {
    let module = module(ptx!("division_128"));
    let mut random = Random(200);
    let mut wide = |least: u128| {
        let bits = u128::from(random.next()) << 64 | u128::from(random.next());
        bits >> (random.next() % 128) as u32 | least
    };
    let (mut x, mut y): (Vec<u128>, Vec<u128>) = (0..128).map(|_| (wide(0), wide(1))).unzip();
    (x[0], y[0], x[1], y[1], x[2], y[2]) = (u128::MAX, 1, u128::MAX, u128::MAX, 0, u128::MAX);
    let quotients: Vec<u128> = x.iter().zip(&y).map(|(x, y)| x / y).collect();
    let rests: Vec<u128> = x.iter().zip(&y).map(|(x, y)| x % y).collect();
    for mode in modes() {
        let device = Device::new();
        let (a, b) = (device.upload(&halves(&x)).unwrap(), device.upload(&halves(&y)).unwrap());
        let (q, r): (Buffer<u64>, Buffer<u64>) = (device.alloc(256).unwrap(), device.alloc(256).unwrap());
        clean!(module, "division_128", device, mode, [2, 1, 1], [64, 1, 1], 0; a, b, q, r);
        assert_equal(&device.read(q).unwrap(), &halves(&quotients), "quotients");
        assert_equal(&device.read(r).unwrap(), &halves(&rests), "rests");
    }
}

#[test]
fn several_integers_in_a_register() {
    let module = module(ptx!("bytes"));
    let mut random = Random(201);
    let mut words = || (0..64).map(|_| random.next() as u32 >> (random.next() % 24) as u32).collect::<Vec<u32>>();
    let (x, y) = (words(), words());
    let expected = |a: u32, b: u32| {
        let (p, q) = (a.to_le_bytes(), b.to_le_bytes());
        let unsigned: [u8; 4] = std::array::from_fn(|i| p[i].abs_diff(q[i]));
        let signed: [u8; 4] = std::array::from_fn(|i| (p[i] as i8).abs_diff(q[i] as i8));
        let sum = |bytes: [u8; 4]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let short = |v: u32| (v as i32).clamp(-32768, 32767) as u16;
        let byte = |v: u32| (v as i32 >> 22).clamp(0, 255) as u32;
        [
            u32::from_le_bytes(unsigned),
            sum(unsigned),
            u32::from_le_bytes(signed),
            sum(signed),
            u32::from(short(a)) << 16 | u32::from(short(b)),
            a << 16 | byte(a) << 8 | byte(b),
        ]
    };
    let want: Vec<u32> = x.iter().zip(&y).flat_map(|(&a, &b)| expected(a, b)).collect();
    let device = Device::new();
    let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
    let out: Buffer<u32> = device.alloc(6 * 64).unwrap();
    clean!(module, "bytes", device, Mode::Nominal, [2, 1, 1], [32, 1, 1], 0; a, b, out);
    assert_equal(&device.read(out).unwrap(), &want, "bytes");
}

#[test]
fn structures_written_in_part_and_copied_whole() {
    let x = Random(202).ints(64, -1000, 1000);
    let want: Vec<i32> = (0..64).map(|i| x[i / 16 * 16..][..16].iter().sum::<i32>() + 1).collect();
    for text in [ptx!("copied_structures"), ptx!("copied_structures_debug")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (input, out): (_, Buffer<i32>) = (device.upload(&x).unwrap(), device.alloc(64).unwrap());
            clean!(module, "copied_structures", device, mode, [1, 1, 1], [64, 1, 1], 0; input, out);
            assert_equal(&device.read(out).unwrap(), &want, "copied_structures");
        }
    }
}

#[test]
fn a_copied_field_that_nobody_wrote_is_found_where_it_is_used() {
    let module = module(ptx!("copied_structures_debug"));
    let device = Device::new();
    let (input, out): (_, Buffer<i32>) = (device.upload(&[1; 32]).unwrap(), device.alloc(32).unwrap());
    let report = report!(module, "field_of_nobody", device, Mode::Nominal, [1, 1, 1], [32, 1, 1], 0; input, out);
    let kinds: Vec<FindingKind> = report.findings().iter().map(|finding| finding.kind).collect();
    assert!(kinds.contains(&FindingKind::UninitialisedLocal), "{report}");
}

#[test]
fn half_of_a_register_packed_with_nothing() {
    let module = module(ptx!("copied_structures"));
    let x: Vec<u32> = (0..32).map(|i| i * 0x0123_4567).collect();
    let want: Vec<u32> = x.iter().map(|x| (x & 0xffff) | (x >> 16).wrapping_add(5) << 16).collect();
    for mode in modes() {
        let device = Device::new();
        let (input, out): (_, Buffer<u32>) = (device.upload(&x).unwrap(), device.alloc(32).unwrap());
        clean!(module, "upper_half", device, mode, [1, 1, 1], [32, 1, 1], 0; input, out);
        assert_equal(&device.read(out).unwrap(), &want, "upper_half");
    }
}
