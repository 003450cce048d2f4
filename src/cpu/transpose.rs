//! Small matrices turned over.

/// `to[j * to_stride + i] = from[i * from_stride + j]` for i below `rows` and j below `columns`.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
pub(super) fn transpose(
    from: &[f32],
    from_stride: usize,
    to: &mut [f32],
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    if rows > 0 && columns > 0 {
        assert!((rows - 1) * from_stride + columns <= from.len());
    }
    // SAFETY: the last element lies inside, as just seen, and so do the others.
    unsafe { transpose_from(from.as_ptr(), from_stride, to, to_stride, [rows, columns]) }
}

/// The same from elements with others between them, of which no reference is made.
///
/// # Safety
/// `from + i * from_stride + j` may be read for every i below `rows` and j below `columns`.
///
/// # Panics
/// If `to` is too short.
#[inline(always)]
pub(super) unsafe fn transpose_from(
    from: *const f32,
    from_stride: usize,
    to: &mut [f32],
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    if !blocks() {
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            // SAFETY: the caller's promise.
            to[j * to_stride + i] = unsafe { from.add(i * from_stride + j).read() };
        }
        return;
    }
    for i in (0..rows).step_by(8) {
        for j in (0..columns).step_by(8) {
            let (to, size) = (&mut to[j * to_stride + i..], [(rows - i).min(8), (columns - j).min(8)]);
            assert!(to.len() >= (size[1] - 1) * to_stride + size[0]);
            // SAFETY: both blocks lie inside, as the caller promised and was just seen; `blocks` found the instructions.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                let (from, to) = (from.add(i * from_stride + j), to.as_mut_ptr());
                match size {
                    [8, 8] => block::<true>(from, from_stride, to, to_stride, size),
                    _ => block::<false>(from, from_stride, to, to_stride, size),
                }
            }
        }
    }
}

/// Whether there are blocks of eight by eight.
#[inline(always)]
fn blocks() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Up to eight by eight; `WHOLE`: just that.
///
/// # Safety
/// Both blocks are readable and writable memory, and the machine has AVX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[inline]
unsafe fn block<const WHOLE: bool>(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    use std::arch::x86_64::*;
    let numbers = _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0);
    let mask = |count| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(numbers, _mm256_set1_ps(count as f32)));
    let (of_row, of_column) = (mask(columns), mask(rows));
    let row = |i: usize| match (WHOLE, i < rows) {
        // SAFETY: the caller's promise.
        (true, _) => unsafe { _mm256_loadu_ps(from.add(i * from_stride)) },
        // SAFETY: as above; what the mask leaves out is not read.
        (false, true) => unsafe { _mm256_maskload_ps(from.add(i * from_stride), of_row) },
        (false, false) => _mm256_setzero_ps(),
    };
    // Pairs of rows, then of pairs, then halves: column j of rows 0 to 3 and column j + 4 beside it, and rows 4 to 7.
    let quad = |i: usize| {
        let low = [_mm256_unpacklo_ps(row(i), row(i + 1)), _mm256_unpacklo_ps(row(i + 2), row(i + 3))];
        let high = [_mm256_unpackhi_ps(row(i), row(i + 1)), _mm256_unpackhi_ps(row(i + 2), row(i + 3))];
        [
            _mm256_shuffle_ps::<0x44>(low[0], low[1]),
            _mm256_shuffle_ps::<0xee>(low[0], low[1]),
            _mm256_shuffle_ps::<0x44>(high[0], high[1]),
            _mm256_shuffle_ps::<0xee>(high[0], high[1]),
        ]
    };
    let (upper, lower) = (quad(0), quad(4));
    for (j, (&upper, &lower)) in upper.iter().zip(&lower).enumerate() {
        for (j, column) in
            [(j, _mm256_permute2f128_ps::<0x20>(upper, lower)), (j + 4, _mm256_permute2f128_ps::<0x31>(upper, lower))]
        {
            match (WHOLE, j < columns) {
                // SAFETY: the caller's promise.
                (true, _) => unsafe { _mm256_storeu_ps(to.add(j * to_stride), column) },
                // SAFETY: as above; what the mask leaves out is not written.
                (false, true) => unsafe { _mm256_maskstore_ps(to.add(j * to_stride), of_column, column) },
                (false, false) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_finds_its_place() {
        for (rows, columns) in [(0, 3), (1, 1), (7, 9), (8, 1), (8, 7), (8, 8), (8, 32), (9, 12), (17, 24), (33, 5)] {
            let (from_stride, to_stride) = (columns + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_stride];
            transpose(&from, from_stride, &mut to, to_stride, [rows, columns]);
            for (place, value) in to.into_iter().enumerate() {
                let (j, i) = (place / to_stride, place % to_stride);
                let expected = if i < rows { from[i * from_stride + j] } else { -1.0 };
                assert_eq!(value, expected, "{rows} by {columns}: {i}, {j}");
            }
        }
    }
}
