//! A Mamba-1 model from a .safetensors file in upstream's names: prompts through in_proj, convolution, x_proj, scan, gate and
//! out_proj of each layer, then a token at a time. `cargo run --release --example 06_mamba_block [-- FILE]`
//!
//! Logits are held to the file's own: upstream's definition in f64, by 06_mamba_block/model.py.

#![allow(non_snake_case)]

#[path = "06_mamba_block/weights.rs"]
mod weights;

use ndarray::{Array2, Array3, ArrayView2, Axis, linalg::general_mat_mul, s};
use ssm_kernels::prelude::*;
use weights::{Layer, Model, Result};

/// A small model of two layers.
pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/06_mamba_block/model.safetensors");

/// What a layer remembers of a batch: the last inputs of its convolution, and the state of its scan. None before prompts.
type State = Option<[Vec<f32>; 2]>;

fn linear(x: ArrayView2<'_, f32>, weight: &Array2<f32>) -> Array2<f32> {
    let mut out = Array2::zeros((x.nrows(), weight.nrows()));
    general_mat_mul(1.0, &x, &weight.t(), 0.0, &mut out);
    out
}

fn rms_norm(mut x: Array2<f32>, weight: &[f32]) -> Array2<f32> {
    for mut row in x.rows_mut() {
        let scale = (row.dot(&row) / row.len() as f32 + 1e-5).sqrt().recip();
        row.iter_mut().zip(weight).for_each(|(x, weight)| *x *= scale * weight);
    }
    x
}

/// The elements of rows from a column of the first row on, where a view begins.
fn from(column: usize, rows: &Array2<f32>) -> &[f32] {
    &rows.as_slice().expect("rows one after another")[column..]
}

impl Layer {
    /// The mixer on rows of tokens, (batch seqlen, d_model).
    fn mixer(&self, hidden: Array2<f32>, batch: usize, state: &mut State) -> Result<Array2<f32>> {
        let [dim, dstate, dt_rank, width] = self.sizes;
        let (rows, seqlen, state_len) = (hidden.nrows(), hidden.nrows() / batch, width.saturating_sub(1));
        // Where tokens are `row` elements apart, which may be more than a view takes of them.
        let tokens = |row: usize| [("batch", batch, (seqlen * row) as i64), ("seqlen", seqlen, row as i64)];
        let channels = |row| {
            let [batch, seqlen] = tokens(row);
            [batch, seqlen, ("dim", dim, 1)]
        };
        let prompt = state.is_none();
        let [conv_state, scan_state] =
            state.get_or_insert_with(|| [dim * state_len, dim * dstate].map(|size| vec![0.0; batch * size]));

        let xz = linear(hidden.view(), &self.in_proj); // rows of x, z
        let (x, z) = (View::strided(from(0, &xz), channels(2 * dim)), View::strided(from(dim, &xz), channels(2 * dim)));
        let weight = View::new(&self.conv_weight, [("dim", dim), ("width", width)]);
        let bias = View::new(&self.conv_bias, [("dim", dim)]);
        let remembered = |rows| [(rows, batch), ("dim", dim), ("state_len", state_len)];
        let mut u = vec![0.0; rows * dim];
        let mut out = ViewMut::strided(&mut u, channels(dim));
        if prompt {
            let conv = CausalConv1d::new(x, weight)?.bias(bias).silu(true);
            let mut last = ViewMut::new(conv_state, remembered("batch"));
            Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut out).final_state(&mut last))?;
        } else {
            let conv = CausalConv1dUpdate::new(x, weight)?.bias(bias).silu(true);
            let mut last = ViewMut::new(conv_state, remembered("slots"));
            Cpu::new().forward(&conv, CausalConv1dUpdateOutputs::new(&mut out, &mut last))?;
        }

        let x_dbl = linear(ArrayView2::from_shape((rows, dim), &u)?, &self.x_proj); // rows of dt, B, C
        let dt = linear(x_dbl.slice(s![.., ..dt_rank]), &self.dt_proj);
        let (x, dt) = (View::strided(&u, channels(dim)), View::strided(from(0, &dt), channels(dim)));
        let [batch_axis, seqlen_axis] = tokens(x_dbl.ncols());
        let group = [batch_axis, seqlen_axis, ("ngroups", 1, 0), ("dstate", dstate, 1)];
        let [B, C] = [dt_rank, dt_rank + dstate].map(|column| View::strided(from(column, &x_dbl), group));
        let A = View::new(&self.A, [("dim", dim), ("dstate", dstate)]);
        let [D, dt_bias] = [&self.D, &self.dt_bias].map(|data| View::new(data, [("dim", dim)]));
        let mut y = vec![0.0; rows * dim];
        let mut out = ViewMut::strided(&mut y, channels(dim));
        let mut last = ViewMut::new(scan_state, [("batch", batch), ("dim", dim), ("dstate", dstate)]);
        if prompt {
            let scan = SelectiveScan::new(x, dt, A, B, C)?.D(D).z(z).dt_bias(dt_bias).dt_softplus(true);
            Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut last))?;
        } else {
            let update = StateUpdate::new(x, dt, A, B, C)?.D(D).z(z).dt_bias(dt_bias).dt_softplus(true);
            Cpu::new().forward(&update, StateUpdateOutputs::new(&mut last, &mut out))?;
        }
        Ok(linear(ArrayView2::from_shape((rows, dim), &y)?, &self.out_proj))
    }
}

/// Logits, (batch, seqlen, vocabulary), of tokens behind those that the states remember.
fn logits(model: &Model, tokens: ArrayView2<'_, i64>, states: &mut [State]) -> Result<Array3<f32>> {
    let mut hidden = model.embedding.select(Axis(0), &tokens.iter().map(|&id| id as usize).collect::<Vec<_>>());
    for (layer, state) in model.layers.iter().zip(states) {
        hidden += &layer.mixer(rms_norm(hidden.clone(), &layer.norm), tokens.nrows(), state)?;
    }
    let logits = linear(rms_norm(hidden, &model.norm_f).view(), &model.lm_head);
    Ok(logits.into_shape_with_order((tokens.nrows(), tokens.ncols(), model.lm_head.nrows()))?)
}

/// Two thirds of the file's tokens as prompts, then the others; fails if logits are not the file's.
pub fn run(path: &str) -> Result<String> {
    let (model, truth) = weights::read(path)?;
    let (mut states, prompt) = (vec![None; model.layers.len()], truth.ids.ncols() * 2 / 3);
    let mut all = logits(&model, truth.ids.slice(s![.., ..prompt]), &mut states)?;
    for t in prompt..truth.ids.ncols() {
        all.append(Axis(1), logits(&model, truth.ids.slice(s![.., t..=t]), &mut states)?.view())?;
    }
    truth.judge(&all, prompt)
}

/// With the file that the command line names, or the small model.
pub fn main() -> Result<()> {
    println!("{}", run(&std::env::args().nth(1).unwrap_or(MODEL.into()))?);
    Ok(())
}
