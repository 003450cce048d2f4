//! What 06_mamba_block.rs reads from a .safetensors file: weights in upstream's names, and token ids with the logits they give.

use bytemuck::AnyBitPattern;
use ndarray::{Array2, Array3, s};
use safetensors::{Dtype, Dtype::F32, SafeTensors};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub struct Model {
    pub embedding: Array2<f32>,
    pub layers: Vec<Layer>,
    pub norm_f: Vec<f32>,
    pub lm_head: Array2<f32>,
}

pub struct Layer {
    /// dim, dstate, dt_rank, width.
    pub sizes: [usize; 4],
    pub norm: Vec<f32>,
    pub in_proj: Array2<f32>,
    pub conv_weight: Vec<f32>,
    pub conv_bias: Vec<f32>,
    pub x_proj: Array2<f32>,
    pub dt_proj: Array2<f32>,
    pub dt_bias: Vec<f32>,
    pub A: Vec<f32>,
    pub D: Vec<f32>,
    pub out_proj: Array2<f32>,
}

/// Token ids, (batch, seqlen), and logits, (batch, seqlen, vocabulary), in f64 and by plain f32 loops.
pub struct Truth {
    pub ids: Array2<i64>,
    logits: Array3<f64>,
    logits_f32: Array3<f32>,
}

struct File<'a>(SafeTensors<'a>);

/// Reads a file; its tensors must have the shapes that they imply of each other.
pub fn read(path: &str) -> Result<(Model, Truth)> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let file = File(SafeTensors::deserialize(&bytes).map_err(|error| format!("{path}: {error}"))?);
    let [vocabulary, d_model] = file.shape("backbone.embedding.weight")?;
    let exists = |i: &usize| file.0.tensor(&format!("backbone.layers.{i}.norm.weight")).is_ok();
    let model = Model {
        embedding: file.matrix("backbone.embedding.weight", [vocabulary, d_model])?,
        layers: (0..).take_while(exists).map(|i| file.layer(i, d_model)).collect::<Result<_>>()?,
        norm_f: file.values("backbone.norm_f.weight", [d_model], F32)?,
        lm_head: file.matrix("lm_head.weight", [vocabulary, d_model])?,
    };
    let [batch, seqlen] = file.shape("input_ids")?;
    let shape = [batch, seqlen, vocabulary];
    let truth = Truth {
        ids: Array2::from_shape_vec([batch, seqlen], file.values("input_ids", [batch, seqlen], Dtype::I64)?)?,
        logits: Array3::from_shape_vec(shape, file.values("logits", shape, Dtype::F64)?)?,
        logits_f32: Array3::from_shape_vec(shape, file.values("logits_f32", shape, F32)?)?,
    };
    if batch == 0 || seqlen < 2 || truth.ids.iter().any(|id| !(0..vocabulary as i64).contains(id)) {
        return Err(format!("input_ids: {batch}x{seqlen}, expected 1x2 or more, all below {vocabulary}").into());
    }
    Ok((model, truth))
}

impl File<'_> {
    fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = self.0.tensor(name)?.shape().to_vec();
        shape.try_into().map_err(|shape| format!("{name} has shape {shape:?}, expected {N} dimensions").into())
    }

    fn values<T: AnyBitPattern, const N: usize>(&self, name: &str, shape: [usize; N], dtype: Dtype) -> Result<Vec<T>> {
        let (got, tensor) = (self.shape(name)?, self.0.tensor(name)?);
        if (tensor.dtype(), got) != (dtype, shape) {
            let got = format!("{:?} of shape {got:?}", tensor.dtype());
            return Err(format!("{name} is {got}, expected {dtype:?} of shape {shape:?}").into());
        }
        Ok(tensor.data().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Array2<f32>> {
        Ok(Array2::from_shape_vec(shape, self.values(name, shape, F32)?)?)
    }

    fn layer(&self, i: usize, d_model: usize) -> Result<Layer> {
        let layer = |name: &str| format!("backbone.layers.{i}.{name}");
        let [dim, dstate] = self.shape(&layer("mixer.A_log"))?;
        let (conv, dt_proj) = (layer("mixer.conv1d.weight"), layer("mixer.dt_proj.weight"));
        let ([_, _, width], [_, dt_rank]) = (self.shape(&conv)?, self.shape(&dt_proj)?);
        Ok(Layer {
            sizes: [dim, dstate, dt_rank, width],
            norm: self.values(&layer("norm.weight"), [d_model], F32)?,
            in_proj: self.matrix(&layer("mixer.in_proj.weight"), [2 * dim, d_model])?,
            conv_weight: self.values(&conv, [dim, 1, width], F32)?,
            conv_bias: self.values(&layer("mixer.conv1d.bias"), [dim], F32)?,
            x_proj: self.matrix(&layer("mixer.x_proj.weight"), [dt_rank + 2 * dstate, dim])?,
            dt_proj: self.matrix(&dt_proj, [dim, dt_rank])?,
            dt_bias: self.values(&layer("mixer.dt_proj.bias"), [dim], F32)?,
            A: self.values(&layer("mixer.A_log"), [dim, dstate], F32)?.into_iter().map(|log: f32| -log.exp()).collect(),
            D: self.values(&layer("mixer.D"), [dim], F32)?,
            out_proj: self.matrix(&layer("mixer.out_proj.weight"), [d_model, dim])?,
        })
    }
}

impl Truth {
    /// How far logits are off, in prompts and behind them: at most twice what plain f32 loops are and 4 ulp, or it fails.
    pub fn judge(&self, logits: &Array3<f32>, prompt: usize) -> Result<String> {
        let error = |logits: &Array3<f32>, steps: std::ops::Range<usize>| {
            let pairs = logits.slice(s![.., steps.clone(), ..]).into_iter().zip(self.logits.slice(s![.., steps, ..]));
            // In this order NaN is the largest.
            pairs.map(|(&got, truth)| (f64::from(got) - truth).abs()).max_by(f64::total_cmp).unwrap_or(0.0)
        };
        let [prompts, decoded] = [0..prompt, prompt..self.ids.ncols()].map(|steps| error(logits, steps));
        let largest = self.logits.iter().fold(0.0f64, |largest, truth| largest.max(truth.abs()));
        let allowed = 2.0 * error(&self.logits_f32, 0..self.ids.ncols()) + 4.0 * ssm_kernels::Dtype::F32.ulp(largest);
        let told = format!("logits off by {prompts:.1e}, in decoding by {decoded:.1e}, of {allowed:.1e} allowed");
        if prompts <= allowed && decoded <= allowed && allowed.is_finite() { Ok(told) } else { Err(told.into()) }
    }
}
