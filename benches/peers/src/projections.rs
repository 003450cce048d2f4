//! The matrix products of a block of mamba-rs, alone: what its time has to be less by.

use crate::block::Block;
use crate::measure::Subject;
use crate::tensors::Random;
use mamba_rs::ops::blas::{sgemm_backward, sgemm_forward};
use mamba_rs::ops::packed::PackedLinear;

pub const NAME: &str = "mamba-rs, its projections alone";

/// One of them.
struct Projection<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    inputs: usize,
    outputs: usize,
    /// Rows of inputs and of outputs.
    x: Vec<f32>,
    y: Vec<f32>,
}

/// in_proj, x_proj, dt_proj and out_proj.
fn projections(block: &Block, steps: usize) -> Vec<Projection<'_>> {
    let (dims, layer, mut random) = (&block.dims, block.layer(), Random::new(2));
    let all = [
        (&layer.in_proj_w, None, dims.d_model, 2 * dims.d_inner),
        (&layer.x_proj_w, None, dims.d_inner, dims.xdbl_dim),
        (&layer.dt_proj_w, Some(&layer.dt_proj_b[..]), dims.dt_rank, dims.d_inner),
        (&layer.out_proj_w, None, dims.d_inner, dims.d_model),
    ];
    let mut projection = |(weight, bias, inputs, outputs)| {
        let (x, y) = (random.vec(steps * inputs, -1.0, 1.0), random.vec(steps * outputs, -1.0, 1.0));
        Projection { weight, bias, inputs, outputs, x, y }
    };
    all.map(|(weight, bias, inputs, outputs)| projection((weight, bias, inputs, outputs))).into()
}

pub fn forward(block: &Block) -> Subject<'_> {
    let mut all = projections(block, block.shape.seqlen);
    Subject::new(NAME, move || {
        for _ in 0..block.shape.batch {
            for Projection { weight, bias, inputs, outputs, x, y } in &mut all {
                sgemm_forward(y, x, weight, *bias, block.shape.seqlen, *inputs, *outputs);
            }
        }
        Ok(())
    })
}

pub fn backward(block: &Block) -> Subject<'_> {
    let all = projections(block, block.shape.seqlen);
    let zeros = |of: &dyn Fn(&Projection<'_>) -> usize| all.iter().map(|it| vec![0.0; of(it)]).collect::<Vec<_>>();
    let (mut dx, mut dw) = (zeros(&|it| it.x.len()), zeros(&|it| it.weight.len()));
    let mut db = zeros(&|it| it.outputs);
    Subject::new(NAME, move || {
        for _ in 0..block.shape.batch {
            for (((it, dx), dw), db) in all.iter().zip(&mut dx).zip(&mut dw).zip(&mut db) {
                let db = it.bias.is_some().then_some(&mut db[..]);
                sgemm_backward(dx, dw, db, &it.y, &it.x, it.weight, (block.shape.seqlen, it.inputs, it.outputs));
            }
        }
        Ok(())
    })
}

pub fn decode(block: &Block) -> Subject<'_> {
    let mut all = projections(block, 1);
    let packed: Vec<_> = all.iter().map(|it| PackedLinear::pack(it.weight, it.inputs, it.outputs)).collect();
    Subject::new(NAME, move || {
        for _ in 0..block.shape.batch {
            for (it, packed) in all.iter_mut().zip(&packed) {
                packed.forward(&mut it.y, &it.x, it.bias, 1);
            }
        }
        Ok(())
    })
}
