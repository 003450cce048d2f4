//! Memory that is asked for while something else is computed: rows of a few elements each, too short and too far apart for
//! the hardware to foresee.

use crate::cpu::runs::fetch;
use crate::cpu::writer::Writer;
use crate::tensor::{Element, Host, Strided};

/// Rows of several tensors.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    tensors: [Option<Rows>; 8],
    count: usize,
}

/// Rows of one tensor.
#[derive(Debug, Clone, Copy)]
struct Rows {
    start: *const u8,
    /// Bytes from one to the next, and of each.
    distance: isize,
    bytes: usize,
    count: usize,
}

impl Ahead {
    /// Of an input, `rows` along dimension `axis` (1 or 2) of `length` elements along the other, if these lie side by side.
    #[inline(always)]
    pub fn read<T: Element>(
        &mut self,
        tensor: Option<&Strided<'_, T, Host, 3>>,
        index: [usize; 3],
        axis: usize,
        [rows, length]: [usize; 2],
    ) {
        let Some(tensor) = tensor.filter(|tensor| tensor.layout.strides[3 - axis] == 1) else { return };
        let start = tensor.memory.hint(tensor.layout.offset(index));
        self.add(start, tensor.layout.strides[axis], [rows, length]);
    }

    /// Of an output, otherwise the same.
    #[inline(always)]
    pub fn write<T: Element>(
        &mut self,
        tensor: Option<&Writer<'_, T, 3>>,
        index: [usize; 3],
        axis: usize,
        extents: [usize; 2],
    ) {
        if let Some((tensor, start)) = tensor.and_then(|tensor| Some((tensor, tensor.contiguous(index, 3 - axis)?))) {
            self.add(start.cast_const(), tensor.stride(axis), extents);
        }
    }

    fn add<T>(&mut self, start: *const T, stride: i64, [count, length]: [usize; 2]) {
        let size = size_of::<T>();
        let rows = Rows {
            start: start.cast(),
            distance: (stride as isize).wrapping_mul(size as isize),
            bytes: length * size,
            count,
        };
        self.tensors[self.count] = Some(rows);
        self.count += 1;
    }

    /// Asks for parts `from` up to `to` of `parts`.
    #[inline(always)]
    pub fn fetch(&self, [from, to]: [usize; 2], parts: usize) {
        for rows in self.tensors.iter().flatten() {
            for row in rows.count * from / parts..rows.count * to / parts {
                fetch(rows.start.wrapping_offset(rows.distance.wrapping_mul(row as isize)), rows.bytes);
            }
        }
    }
}
