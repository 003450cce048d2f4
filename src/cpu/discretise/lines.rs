//! The domain, cut into pieces of lines along the dimension in which most tensors have their neighbours.

use super::rows::{ROW, Rows};
use crate::cpu::{Cpu, LEAST_STEPS};
use crate::ops::discretise::Inputs;
use crate::tensor::{Element, Host, MAX_RANK};

/// Neighbours along the lines' axis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Piece {
    /// Of the first element.
    pub index: [usize; MAX_RANK],
    pub count: usize,
}

/// How the domain is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    extents: [usize; MAX_RANK],
    pub axis: usize,
    pieces_per_line: usize,
    pieces: usize,
}

impl Lines {
    /// `outputs`: strides of what is written.
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Host>, outputs: impl Iterator<Item = [i64; MAX_RANK]>) -> Self {
        let extents = inputs.extents();
        let of_inputs = [Some(inputs.dt.layout.strides), inputs.lambda.map(|lambda| lambda.layout.strides)];
        let of_inputs = of_inputs.into_iter().flatten().chain([inputs.A.layout.strides, inputs.B.layout.strides]);
        let mut neighbours = [0; MAX_RANK];
        for strides in outputs.chain(of_inputs) {
            for (count, (stride, extent)) in neighbours.iter_mut().zip(strides.into_iter().zip(extents)) {
                *count += usize::from(stride == 1 && extent > 1);
            }
        }
        // The last of the best.
        let axis = (0..MAX_RANK).max_by_key(|&axis| neighbours[axis]).expect("an axis");
        let pieces_per_line = extents[axis].div_ceil(ROW);
        // Without elements the other extents may be beyond counting.
        let others = (0..MAX_RANK).filter(|&other| other != axis).map(|other| extents[other]);
        let pieces = if extents.contains(&0) { 0 } else { others.product::<usize>() * pieces_per_line };
        Self { extents, axis, pieces_per_line, pieces }
    }

    /// Calls `task` for all pieces, in any order, as many at a time as fill a row.
    pub fn for_each(&self, cpu: Cpu, task: impl Fn(&mut Rows, &[Piece]) + Sync + Send) {
        let length = self.extents[self.axis].clamp(1, ROW);
        let together = ROW / length;
        let pieces_per_task = (LEAST_STEPS / length).next_multiple_of(together);
        cpu.for_each_plain(self.pieces.div_ceil(pieces_per_task), |i| {
            let (mut rows, mut pieces) = (Rows::new(), [Piece::default(); ROW]);
            let end = ((i + 1) * pieces_per_task).min(self.pieces);
            for first in (i * pieces_per_task..end).step_by(together) {
                let pieces = &mut pieces[..together.min(end - first)];
                pieces.iter_mut().zip(first..).for_each(|(piece, place)| *piece = self.piece(place));
                rows.count = pieces.iter().map(|piece| piece.count).sum();
                task(&mut rows, pieces);
            }
        });
    }

    fn piece(&self, place: usize) -> Piece {
        let mut index = [0; MAX_RANK];
        index[self.axis] = place % self.pieces_per_line * ROW;
        let mut line = place / self.pieces_per_line;
        for axis in (0..MAX_RANK).rev().filter(|&axis| axis != self.axis) {
            index[axis] = line % self.extents[axis];
            line /= self.extents[axis];
        }
        Piece { index, count: ROW.min(self.extents[self.axis] - index[self.axis]) }
    }
}
