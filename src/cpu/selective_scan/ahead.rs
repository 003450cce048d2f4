//! Memory that is asked for while something else is computed: rows of a few elements each, too short and too far apart for
//! the hardware to foresee.

use crate::cpu::runs::{LINE, fetch};
use crate::cpu::writer::Writer;
use crate::tensor::{Element, Host, Strided};

/// Steps from one turn of asking to the next.
pub(super) const SOME: usize = 4;

/// Rows of several tensors, from the next line of cache on that has not been asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    tensors: [Option<Rows>; 8],
    count: usize,
    /// Of all rows.
    lines: usize,
    tensor: usize,
    row: usize,
    line: usize,
}

/// Rows of one tensor.
#[derive(Debug, Clone, Copy)]
struct Rows {
    start: *const u8,
    /// Bytes from one to the next, and lines of each.
    distance: isize,
    lines: usize,
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
            lines: (length * size).div_ceil(LINE),
            count,
        };
        if rows.count * rows.lines > 0 {
            self.tensors[self.count] = Some(rows);
            self.count += 1;
            self.lines += rows.count * rows.lines;
        }
    }

    /// How many lines to ask for in each of so many turns. All at once would hold up what is computed meanwhile: a core waits
    /// for few lines at a time, 16 say, and asks for the next when one has come.
    pub fn share(&self, turns: usize) -> usize {
        self.lines.div_ceil(turns.max(1))
    }

    /// Asks for the next `lines`.
    #[inline(always)]
    pub fn ask(&mut self, lines: usize) {
        for _ in 0..lines {
            let Some(Some(rows)) = self.tensors.get(self.tensor) else { return };
            let row = rows.start.wrapping_offset(rows.distance.wrapping_mul(self.row as isize));
            fetch(row.wrapping_add(self.line * LINE), 1);
            self.line += 1;
            if self.line == rows.lines {
                (self.line, self.row) = (0, self.row + 1);
                if self.row == rows.count {
                    (self.row, self.tensor) = (0, self.tensor + 1);
                }
            }
        }
    }

    /// Asks for all of it.
    pub fn ask_all(mut self) {
        self.ask(self.lines);
    }
}
