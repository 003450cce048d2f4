//! The inputs of a measurement: random, from a fixed seed, the same for backend and loops.

use super::attention;
use super::inputs::Inputs;
use crate::args::Op;
use crate::error::Result;
use crate::memory::{Memory, elements, filled};
use crate::random::Random;
use crate::tensor::Io;
use ssm_baseline::{Attention, Conv, Scan, Shape, Zoh};
use ssm_kernels::prelude::*;
use ssm_kernels::{Host, Slice};

/// Which way an operator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The outputs.
    Forward,
    /// The gradients.
    Backward,
}

impl Direction {
    /// In reports.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        }
    }
}

/// Tensors of the I/O dtype, in the memory order of the layout; of a convolution only x and dout have elements, and attention
/// has no rows.
#[derive(Debug)]
pub struct Tensors<T> {
    /// x, dt, z and dout; of attention q, k, v and dout.
    pub sequences: [Vec<T>; 4],
    /// B and C.
    pub rows: [Vec<T>; 2],
}

/// The inputs of a call.
#[derive(Debug)]
pub struct Case<T> {
    /// Extents and layout. The taps of a convolution stand for states; of attention dim is heads, and dstate the elements of
    /// a head's q, k and v.
    pub shape: Shape,
    /// What the backend reads.
    pub io: Tensors<T>,
    /// The same values for the loops.
    pub plain: Tensors<f32>,
    /// A, or the weight of a convolution: (dim, dstate). Of attention log_decay, which lies like x.
    pub matrix: Vec<f32>,
    /// (dim).
    pub D: Vec<f32>,
    /// dt_bias, or the bias of a convolution: (dim).
    pub bias: Vec<f32>,
}

/// Plans what a measurement allocates.
pub fn plan<T: Io>(op: Op, direction: Direction, shape: &Shape, memory: &mut Memory) -> Result<()> {
    if op.has_heads() {
        return attention::plan::<T>(op, direction, shape, memory);
    }
    let Shape { batch, dim, seqlen, dstate, .. } = *shape;
    let (io, plain) = (size_of::<T>(), size_of::<f32>());
    let sequence = elements("x", &[batch, dim, seqlen])?;
    let rows = elements("B", &[batch, dstate, seqlen])?;
    let domain = elements("the states of all steps", &[batch, dim, seqlen, dstate])?;
    elements("A", &[dim, dstate])?;
    if op.has_taps() {
        // A width that no convolution has is refused before anything is measured.
        let (x, weight) = ([("batch", 0), ("dim", 0), ("seqlen", 0)], [("dim", 0), ("width", dstate)]);
        CausalConv1d::new(View::new(&[0.0f32; 0], x), View::new(&[0.0f32; 0], weight))?;
    }
    let inputs = if op.has_taps() { (2, 0) } else { (4, 2) };
    memory.plan(sequence.saturating_mul(inputs.0).saturating_add(rows.saturating_mul(inputs.1)), io + plain)?;
    memory.plan(shape.states().saturating_mul(2) + 4 * dim, plain)?;
    match (op, direction) {
        (Op::SelectiveScan, Direction::Forward) => memory.plan(sequence, io + plain)?,
        // Gradients, the loops' states of a channel, and what the backend's plan asks for, which is about x in f32.
        (Op::SelectiveScan, Direction::Backward) => {
            memory.plan(sequence.saturating_mul(3).saturating_add(rows.saturating_mul(2)), io + plain)?;
            memory.plan(sequence.saturating_add(shape.scratch()), plain)?;
        }
        // The state, the loops' state, and both outputs.
        (Op::StateUpdate, _) => memory.plan(sequence.saturating_add(batch * shape.states()), io + 2 * plain)?,
        // out or dx, and the sums over steps that the backend keeps for each tile of at least 128.
        (Op::CausalConv1d, _) => {
            memory.plan(sequence, io + plain)?;
            memory.plan(shape.states().saturating_mul(2).saturating_mul(shape.batch * (seqlen / 128 + 1)), plain)?;
        }
        (Op::CausalConv1dUpdate, _) => memory.plan(sequence.saturating_add(batch * shape.states()), io + plain)?,
        // Planned above.
        (Op::SquaredAttention | Op::SquaredAttentionUpdate, _) => {}
        (Op::Discretise, Direction::Forward) => memory.plan(domain, 4 * plain)?,
        (Op::Discretise, Direction::Backward) => memory.plan(domain, 3 * plain + 2 * io)?,
    }
    memory.reserve()
}

impl<T: Io> Case<T> {
    /// Draws the inputs.
    pub fn new(op: Op, shape: Shape) -> Result<Self> {
        let mut random = Random::new(1);
        let ranges = [(-1.7, 1.7), (-4.0, 0.0), (-3.0, 3.0), (-1.7, 1.7)];
        let (mut io, mut plain) = (Vec::new(), Vec::new());
        let (sequence, rows) = (shape.sequence(), shape.rows());
        let lengths = match op {
            _ if op.has_taps() => [sequence, 0, 0, sequence, 0, 0],
            _ if op.has_heads() => {
                let elements = sequence * shape.dstate;
                [elements, elements, elements, elements, 0, 0]
            }
            _ => [sequence, sequence, sequence, sequence, rows, rows],
        };
        for (length, (low, high)) in lengths.into_iter().zip(ranges.into_iter().chain([(-1.7, 1.7); 2])) {
            let (mut given, mut rounded) = (filled(length, T::from_f32(0.0))?, filled(length, 0.0f32)?);
            for (given, rounded) in given.iter_mut().zip(&mut rounded) {
                *given = T::from_f32(random.uniform(low, high));
                *rounded = given.to_f32();
            }
            io.push(given);
            plain.push(rounded);
        }
        let mut channel = |low, high| -> Result<Vec<f32>> {
            let mut values = filled(shape.dim, 0.0)?;
            values.iter_mut().for_each(|value| *value = random.uniform(low, high));
            Ok(values)
        };
        let (D, bias) = (channel(-1.0, 1.0)?, channel(-1.0, 0.0)?);
        let mut matrix = filled(if op.has_heads() { sequence } else { shape.states() }, 0.0)?;
        matrix.iter_mut().enumerate().for_each(|(i, value)| {
            // A as Mamba begins its training; the weight as models do; decays that leave some hundred steps.
            *value = match op {
                _ if op.has_taps() => random.uniform(-0.5, 0.5),
                _ if op.has_heads() => random.uniform(-0.02, 0.0),
                _ => -((i % shape.dstate + 1) as f32),
            };
        });
        Ok(Self { shape, io: Tensors::of(io), plain: Tensors::of(plain), matrix, D, bias })
    }

    /// What the CPU reads.
    pub fn inputs(&self) -> Inputs<'_, T, Host> {
        let Self { shape, io, matrix, D, bias, .. } = self;
        let sequences = io.sequences.each_ref().map(|tensor| Slice::from(tensor.as_slice()));
        let rows = io.rows.each_ref().map(|tensor| Slice::from(tensor.as_slice()));
        let [matrix, D, bias] = [matrix, D, bias].map(|tensor| Slice::from(tensor.as_slice()));
        Inputs { shape: *shape, sequences, rows, matrix, D, bias }
    }

    /// The scan for the loops.
    pub fn plain_scan(&self) -> Scan<'_> {
        let ([x, dt, z, _], [B, C]) = (&self.plain.sequences, &self.plain.rows);
        Scan { shape: self.shape, x, dt, A: &self.matrix, B, C, D: &self.D, z, dt_bias: &self.bias }
    }

    /// The convolution for the loops.
    pub fn plain_conv(&self) -> Conv<'_> {
        let (x, weight, bias) = (&self.plain.sequences[0], &self.matrix, &self.bias);
        Conv { shape: self.shape, width: self.shape.dstate, x, weight, bias }
    }

    /// The attention for the loops.
    pub fn plain_attention(&self) -> Attention<'_> {
        let [q, k, v, _] = &self.plain.sequences;
        Attention { shape: self.shape, q, k, v, log_decay: &self.matrix }
    }

    /// The discretisation for the loops.
    pub fn plain_zoh(&self) -> Zoh<'_> {
        let ([_, dt, ..], [B, _]) = (&self.plain.sequences, &self.plain.rows);
        Zoh { shape: self.shape, dt, A: &self.matrix, B, dt_bias: &self.bias }
    }
}

impl<T> Tensors<T> {
    /// Four sequences, then two sets of rows.
    fn of(list: Vec<Vec<T>>) -> Self {
        let mut list = list.into_iter();
        let mut next = || list.next().unwrap_or_default();
        Self { sequences: std::array::from_fn(|_| next()), rows: std::array::from_fn(|_| next()) }
    }
}
