//! The domain, cut into blocks of neighbours along two of its dimensions: that in which most tensors have their neighbours,
//! and, where that is short, one that goes on where it ends.

use super::rows::{ROW, Rows};
use crate::cpu::runs::{fetch, narrow, widen};
use crate::cpu::transpose::transpose;
use crate::cpu::writer::Writer;
use crate::cpu::{Cpu, LEAST_STEPS};
use crate::ops::discretise::Inputs;
use crate::tensor::{Element, Host, MAX_RANK, Strided};

/// Elements along the dimensions `axes`, those of the first side by side in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Block {
    /// Of the first element.
    pub index: [usize; MAX_RANK],
    pub axes: [usize; 2],
    pub counts: [usize; 2],
}

impl Block {
    pub fn elements(&self) -> usize {
        self.counts[0] * self.counts[1]
    }

    /// The part of it that a tensor with elements of its own along these dimensions has; blocks with an equal part have equal
    /// elements.
    pub fn part(&self, varies: [bool; MAX_RANK]) -> Self {
        let mut part = *self;
        for (index, varies) in part.index.iter_mut().zip(varies) {
            *index *= usize::from(varies);
        }
        for (count, axis) in part.counts.iter_mut().zip(self.axes) {
            *count = if varies[axis] { *count } else { 1 };
        }
        part
    }

    /// A row of `part` becomes one of this block.
    pub fn expand(&self, part: &Self, row: &mut [f32]) {
        let [columns, rows] = self.counts;
        if part.counts[0] < columns {
            // From the last on: what is yet to be read lies before what is written.
            for j in (0..part.counts[1]).rev() {
                let value = row[j];
                row[j * columns..][..columns].fill(value);
            }
        }
        if part.counts[1] < rows {
            let mut done = columns;
            while done < columns * rows {
                let more = done.min(columns * rows - done);
                row.copy_within(..more, done);
                done += more;
            }
        }
    }

    /// Its elements of a tensor.
    pub fn read<T: Element>(&self, tensor: &Strided<'_, T, Host, MAX_RANK>, row: &mut [f32]) {
        let strides = self.axes.map(|axis| tensor.layout.strides[axis] as usize);
        let mut part = *self;
        for (count, stride) in part.counts.iter_mut().zip(strides) {
            *count = if stride == 0 { 1 } else { *count };
        }
        let ([columns, rows], [along, across]) = (part.counts, strides);
        let start = tensor.memory.from(tensor.layout.offset(self.index), (columns - 1) * along + (rows - 1) * across);
        let line = |place: usize, stride: usize, to: &mut [f32]| {
            // SAFETY: no further from the first of these elements than the last one is.
            unsafe { read_line(start.add(place), stride, to) };
        };
        match Order::of(part.counts, strides) {
            Order::Line(stride) => line(0, stride, &mut row[..columns * rows]),
            Order::Turned => {
                let mut turned = [0.0; ROW];
                turned.chunks_exact_mut(rows).take(columns).enumerate().for_each(|(i, to)| line(i * along, across, to));
                transpose(&turned, rows, row, columns, [columns, rows]);
            }
            Order::Rows => {
                row.chunks_exact_mut(columns).take(rows).enumerate().for_each(|(j, to)| line(j * across, along, to));
            }
        }
        self.expand(&part, row);
    }

    /// Where its first element lies, and how far neighbours along its dimensions lie apart.
    fn place<T: Element>(&self, writer: &Writer<'_, T, MAX_RANK>) -> (*mut T, [usize; 2]) {
        let (start, _) = writer.along(self.index, self.axes[0]);
        (start, self.axes.map(|axis| writer.strides()[axis] as usize))
    }

    /// Asks for the memory that it will write: a hint.
    pub fn fetch<T: Element>(&self, writer: &Writer<'_, T, MAX_RANK>) {
        let ([columns, rows], (start, [along, across])) = (self.counts, self.place(writer));
        match Order::of(self.counts, [along, across]) {
            Order::Line(1) => fetch(start.cast_const(), columns * rows),
            Order::Turned => (0..columns).for_each(|i| fetch(start.wrapping_add(i * along), rows)),
            Order::Rows if along == 1 => (0..rows).for_each(|j| fetch(start.wrapping_add(j * across), columns)),
            Order::Line(_) | Order::Rows => {}
        }
    }

    /// Writes its elements.
    ///
    /// # Safety
    /// It lies in the tensor, and no other thread writes its elements.
    pub unsafe fn write<T: Element>(&self, writer: &Writer<'_, T, MAX_RANK>, row: &[f32]) {
        let ([columns, rows], (start, [along, across])) = (self.counts, self.place(writer));
        let line = |place: usize, stride: usize, from: &[f32]| {
            // SAFETY: the caller's promise; the contract checked that elements of the tensor lie inside its memory.
            unsafe { write_line(start.add(place), stride, from) };
        };
        match Order::of(self.counts, [along, across]) {
            Order::Line(stride) => line(0, stride, &row[..columns * rows]),
            Order::Turned => {
                let mut turned = [0.0; ROW];
                transpose(row, columns, &mut turned, rows, [rows, columns]);
                turned.chunks_exact(rows).take(columns).enumerate().for_each(|(i, from)| line(i * along, across, from));
            }
            Order::Rows => {
                row.chunks_exact(columns).take(rows).enumerate().for_each(|(j, from)| line(j * across, along, from));
            }
        }
    }
}

/// How the elements of a block lie in a tensor.
enum Order {
    /// One stride from each other.
    Line(usize),
    /// Side by side along the second dimension.
    Turned,
    /// Otherwise.
    Rows,
}

impl Order {
    fn of([columns, rows]: [usize; 2], [along, across]: [usize; 2]) -> Self {
        if rows == 1 || across == columns * along {
            Self::Line(along)
        } else if columns == 1 {
            Self::Line(across)
        } else if along != 1 && across == 1 {
            Self::Turned
        } else {
            Self::Rows
        }
    }
}

/// # Safety
/// As many elements as `to` has, a stride from each other, may be read.
#[inline(always)]
unsafe fn read_line<T: Element>(start: *const T, stride: usize, to: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match stride {
            1 => widen(std::slice::from_raw_parts(start, to.len()), to),
            _ => to.iter_mut().enumerate().for_each(|(i, to)| *to = start.add(i * stride).read().to_f32()),
        }
    }
}

/// # Safety
/// As many elements as `from` has, a stride from each other, may be written.
#[inline(always)]
unsafe fn write_line<T: Element>(start: *mut T, stride: usize, from: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match stride {
            1 => narrow(from, std::slice::from_raw_parts_mut(start, from.len())),
            _ => from.iter().enumerate().for_each(|(i, &value)| start.add(i * stride).write(T::from_f32(value))),
        }
    }
}

/// How the domain is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    extents: [usize; MAX_RANK],
    axes: [usize; 2],
    /// Of a whole block.
    counts: [usize; 2],
    /// The same for each dimension.
    widths: [usize; MAX_RANK],
    /// The dimensions in the order of blocks, the slowest first.
    order: [usize; MAX_RANK],
    blocks: usize,
    /// Dimensions along which delta varies.
    steps: [bool; MAX_RANK],
}

impl Blocks {
    /// `outputs`: strides of what is written.
    pub fn new<T: Element>(
        inputs: &Inputs<'_, T, Host>,
        outputs: impl Iterator<Item = [i64; MAX_RANK]> + Clone,
    ) -> Self {
        let extents = inputs.extents();
        let (dt, bias) = (inputs.dt.layout.strides, inputs.dt_bias.map_or([0; MAX_RANK], |bias| bias.layout.strides));
        let of_inputs = [dt, inputs.A.layout.strides, inputs.B.layout.strides].into_iter();
        let of_inputs = of_inputs.chain(inputs.lambda.map(|lambda| lambda.layout.strides));
        let tensors = outputs.chain(of_inputs);
        let with = |axis: usize, wanted: i64| tensors.clone().filter(|strides| strides[axis] == wanted).count();
        // The last of the best.
        let first =
            (0..MAX_RANK).max_by_key(|&axis| if extents[axis] > 1 { with(axis, 1) } else { 0 }).expect("an axis");
        let columns = extents[first].div_ceil(extents[first].div_ceil(ROW).max(1)).max(1);
        let most = ROW / columns;
        // That fills most of a row, and then, in which most tensors go on where the first ends.
        let fills = |axis: usize| extents[axis].min(most).next_power_of_two();
        let others = (0..MAX_RANK).filter(|&axis| axis != first);
        let second = others.max_by_key(|&axis| (fills(axis), with(axis, columns as i64))).expect("another axis");
        let counts = [columns, extents[second].clamp(1, most)];
        let steps = std::array::from_fn(|axis| dt[axis] != 0 || bias[axis] != 0);
        let mut order = std::array::from_fn(|axis| axis);
        // One delta for as many blocks in a row as there are.
        order.sort_by_key(|&axis: &usize| !steps[axis]);
        let mut widths = [1; MAX_RANK];
        (widths[first], widths[second]) = (counts[0], counts[1]);
        let mut blocks = Self { extents, axes: [first, second], counts, widths, order, blocks: 0, steps };
        // Without elements the other extents may be beyond counting.
        if !extents.contains(&0) {
            blocks.blocks = (0..MAX_RANK).map(|axis| blocks.along(axis)).product();
        }
        blocks
    }

    /// Blocks along a dimension.
    fn along(&self, axis: usize) -> usize {
        self.extents[axis].div_ceil(self.widths[axis])
    }

    /// Calls `task` for all blocks, in any order.
    pub fn for_each(&self, cpu: Cpu, task: impl Fn(&mut Rows, &Block) + Sync + Send) {
        let blocks_per_task = LEAST_STEPS.div_ceil(self.counts[0] * self.counts[1]);
        cpu.for_each_plain(self.blocks.div_ceil(blocks_per_task), |i| {
            let first = i * blocks_per_task;
            let (mut rows, mut index) = (Rows::new(), self.index(first));
            for _ in first..self.blocks.min(first + blocks_per_task) {
                let counts = self.axes.map(|axis| self.widths[axis].min(self.extents[axis] - index[axis]));
                task(&mut rows, &Block { index, axes: self.axes, counts });
                self.advance(&mut index);
            }
        });
    }

    /// Of the first element of a block.
    fn index(&self, mut place: usize) -> [usize; MAX_RANK] {
        let mut index = [0; MAX_RANK];
        for &axis in self.order.iter().rev() {
            index[axis] = place % self.along(axis) * self.widths[axis];
            place /= self.along(axis);
        }
        index
    }

    /// To the next block's.
    fn advance(&self, index: &mut [usize; MAX_RANK]) {
        for &axis in self.order.iter().rev() {
            index[axis] += self.widths[axis];
            if index[axis] < self.extents[axis] {
                return;
            }
            index[axis] = 0;
        }
    }

    /// The part of a block that has a delta of its own.
    pub fn steps(&self, block: &Block) -> Block {
        block.part(self.steps)
    }
}
