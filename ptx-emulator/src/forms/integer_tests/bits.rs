use super::super::bits;
use super::super::testing::{AMOUNTS, EDGES, bits_of, pairs, triples};
use super::{Checker, bit, from_bits, named};

#[test]
fn counts_and_fields() {
    let mut checker = Checker::default();
    let one = EDGES.map(|a| [a]);
    for name in ["b32", "b64"] {
        let count: u64 = bits_of(named(name)).into();
        checker.check(&format!("popc.{name}"), &one, |[a]| (0..count).map(|i| bit(a, i)).sum());
        checker.check(&format!("clz.{name}"), &one, |[a]| {
            (0..count).rev().position(|i| bit(a, i) == 1).map_or(count, |zeros| zeros as u64)
        });
        checker.check(&format!("brev.{name}"), &one, |[a]| from_bits(count, |i| bit(a, count - 1 - i)));
        insertions(&mut checker, name, count);
    }
    for name in ["u32", "s32", "u64", "s64"] {
        let ty = named(name);
        let count: u64 = bits_of(ty).into();
        let found = |a| {
            let sign = if ty.is_signed() { bit(a, count - 1) } else { 0 };
            (0..count).rev().find(|&i| bit(a, i) != sign)
        };
        checker.check(&format!("bfind.{name}"), &one, |[a]| found(a).unwrap_or(0xFFFF_FFFF));
        checker.check(&format!("bfind.shiftamt.{name}"), &one, |[a]| found(a).map_or(0xFFFF_FFFF, |i| count - 1 - i));
        checker.check(&format!("bfe.{name}"), &triples(&EDGES, &AMOUNTS, &AMOUNTS), |[a, position, length]| {
            let (position, length) = (position % 256, length % 256);
            let signed = ty.is_signed() && length > 0;
            let sign = if signed { bit(a, (position + length).min(count) - 1) } else { 0 };
            let sign = if signed && position + length > count { bit(a, count - 1) } else { sign };
            from_bits(count, |i| if i < length && position + i < count { bit(a, position + i) } else { sign })
        });
    }
    masks(&mut checker);
    set_bits(&mut checker);
    permutations(&mut checker);
    checker.finish(&[bits::KNOWN]);
}

fn insertions(checker: &mut Checker, name: &str, count: u64) {
    let values = [0, 0xFFFF_FFFF_FFFF_FFFF, 0x0123_4567_89AB_CDEF];
    let four: Vec<[u64; 4]> = pairs(&values, &values)
        .into_iter()
        .flat_map(|[a, b]| pairs(&AMOUNTS, &AMOUNTS).into_iter().map(move |[c, d]| [a, b, c, d]))
        .collect();
    checker.check(&format!("bfi.{name}"), &four, |[a, b, position, length]| {
        let (position, length) = (position % 256, length % 256);
        from_bits(count, |i| if i >= position && i < position + length { bit(a, i - position) } else { bit(b, i) })
    });
}

fn masks(checker: &mut Checker) {
    let two = pairs(&AMOUNTS, &AMOUNTS);
    checker.check("bmsk.clamp.b32", &two, |[a, b]| from_bits(32, |i| u64::from(i >= a && i < a + b)));
    checker.check("bmsk.wrap.b32", &two, |[a, b]| from_bits(32, |i| u64::from(i >= a % 32 && i < a % 32 + b % 32)));
    let two = pairs(&EDGES, &AMOUNTS);
    for (name, signed) in [("u32", false), ("s32", true)] {
        for (mode, width) in [("clamp", (|n| if n > 32 { 32 } else { n }) as fn(u64) -> u64), ("wrap", |n| n % 32)] {
            checker.check(&format!("szext.{mode}.{name}"), &two, |[a, n]| {
                let n = width(n);
                let sign = if signed && n > 0 { bit(a, n - 1) } else { 0 };
                from_bits(32, |i| if i < n { bit(a, i) } else { sign })
            });
        }
    }
}

fn set_bits(checker: &mut Checker) {
    let masks = [0, 1, 0xAAAA_AAAA, 0x8000_0001, 0xFFFF_FFFF, 0x0010_0400];
    let bases = [0, 1, 2, 3, 15, 30, 31, 32, 0xFFFF_FFFF];
    let offsets = [0, 1, 2, 3, 16, 17, 32, 33, 0x7FFF_FFFF, -1, -2, -3, -16, -32, -33, -0x8000_0000];
    let offsets = offsets.map(|offset: i64| offset as u64);
    checker.check("fns.b32", &triples(&masks, &bases, &offsets), |[mask, base, offset]| {
        let offset = i64::from(offset as i32);
        if base > 31 {
            return 0xFFFF_FFFF;
        }
        if offset == 0 {
            return if bit(mask, base) == 1 { base } else { 0xFFFF_FFFF };
        }
        let (mut place, mut left) = (base as i64, offset.abs());
        while (0..32).contains(&place) {
            left -= bit(mask, place as u64) as i64;
            if left == 0 {
                return place as u64;
            }
            place += offset.signum();
        }
        0xFFFF_FFFF
    });
}

fn permutations(checker: &mut Checker) {
    let values = [0x7F80_01FF, 0x0123_4567, 0x89AB_CDEF];
    let selectors =
        [0, 0x3210, 0x7654, 0x0246, 0x8888, 0xFEDC, 0xBA98, 0x1357, 0xFFFF, 0x8F70_9A5B, 1, 2, 3, 0xFFFF_FFFC];
    let three = triples(&values, &values, &selectors);
    let byte = |a: u64, b: u64, i: u64| if i < 4 { a >> (8 * i) & 0xFF } else { b >> (8 * (i - 4)) & 0xFF };
    checker.check("prmt.b32", &three, |[a, b, selector]| {
        (0..4)
            .map(|i| {
                let nibble = selector >> (4 * i) & 15;
                let byte = byte(a, b, nibble % 8);
                let byte = if nibble < 8 { byte } else { 0xFF * (byte >> 7) };
                byte << (8 * i)
            })
            .sum()
    });
    // The bytes from the highest to the lowest, for the selectors from 0 on, as the ISA lists them.
    let modes = [
        ("f4e", [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
        ("b4e", [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
        ("rc8", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecl", [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
        ("rc16", [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
    ];
    for (mode, table) in modes {
        checker.check(&format!("prmt.b32.{mode}"), &three, |[a, b, c]| {
            table[(c % 4) as usize].iter().fold(0, |all, &i| all << 8 | byte(a, b, i))
        });
    }
}
