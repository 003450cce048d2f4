//! What 06_mamba_block.rs reads from a .safetensors file: weights in upstream's names, and token ids with the logits they give.

use bytemuck::AnyBitPattern;
use half::{bf16, f16};
use ndarray::{Array2, Array3, s};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

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
    pub ids: Array2<usize>,
    logits: Array3<f64>,
    logits_f32: Array3<f32>,
}

struct File<'a>(SafeTensors<'a>);

/// Reads a file; its tensors must have the shapes that they imply of each other.
pub fn read(path: &str) -> Result<(Model, Truth)> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let file = File(SafeTensors::deserialize(&bytes).map_err(|error| format!("{path}: {error}"))?);
    let vocabulary_by_model @ [vocabulary, d_model] = file.shape("backbone.embedding.weight")?;
    let exists = |i: &usize| file.0.tensor(&format!("backbone.layers.{i}.norm.weight")).is_ok();
    let model = Model {
        embedding: file.matrix("backbone.embedding.weight", vocabulary_by_model)?,
        layers: (0..).take_while(exists).map(|i| file.layer(i, d_model)).collect::<Result<_>>()?,
        norm_f: file.floats("backbone.norm_f.weight", [d_model])?,
        lm_head: file.matrix("lm_head.weight", vocabulary_by_model)?,
    };
    let [batch, seqlen] = file.shape("input_ids")?;
    let ids: Vec<i64> = file.values("input_ids", [batch, seqlen], Dtype::I64)?;
    if batch == 0 || seqlen < 2 || ids.iter().any(|&id| usize::try_from(id).map_or(true, |id| id >= vocabulary)) {
        return Err(format!("input_ids: {batch}x{seqlen}, expected 1x2 or more, each 0 to {}", vocabulary - 1).into());
    }
    let shape = [batch, seqlen, vocabulary];
    let truth = Truth {
        ids: Array2::from_shape_vec([batch, seqlen], ids.into_iter().map(|id| id as usize).collect())?,
        logits: Array3::from_shape_vec(shape, file.values("logits", shape, Dtype::F64)?)?,
        logits_f32: Array3::from_shape_vec(shape, file.values("logits_f32", shape, Dtype::F32)?)?,
    };
    Ok((model, truth))
}

impl File<'_> {
    fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.0.tensor(name).map_err(|error| format!("{name}: {error}").into())
    }

    fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = self.tensor(name)?.shape().to_vec();
        shape.try_into().map_err(|shape| format!("{name} has shape {shape:?}, expected {N} dimensions").into())
    }

    fn values<T: AnyBitPattern, const N: usize>(&self, name: &str, shape: [usize; N], dtype: Dtype) -> Result<Vec<T>> {
        let tensor = self.tensor(name)?;
        if (tensor.dtype(), tensor.shape()) != (dtype, &shape[..]) {
            let got = format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape());
            return Err(format!("{name} is {got}, expected {dtype:?} of shape {shape:?}").into());
        }
        Ok(tensor.data().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }

    /// A weight, whatever its precision.
    fn floats<const N: usize>(&self, name: &str, shape: [usize; N]) -> Result<Vec<f32>> {
        match self.tensor(name)?.dtype() {
            dtype @ Dtype::F16 => Ok(self.values(name, shape, dtype)?.into_iter().map(f16::to_f32).collect()),
            dtype @ Dtype::BF16 => Ok(self.values(name, shape, dtype)?.into_iter().map(bf16::to_f32).collect()),
            _ => self.values(name, shape, Dtype::F32),
        }
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Array2<f32>> {
        Ok(Array2::from_shape_vec(shape, self.floats(name, shape)?)?)
    }

    fn layer(&self, i: usize, d_model: usize) -> Result<Layer> {
        let layer = |name: &str| format!("backbone.layers.{i}.{name}");
        let [dim, dstate] = self.shape(&layer("mixer.A_log"))?;
        let [_, _, width] = self.shape(&layer("mixer.conv1d.weight"))?;
        let [_, dt_rank] = self.shape(&layer("mixer.dt_proj.weight"))?;
        Ok(Layer {
            sizes: [dim, dstate, dt_rank, width],
            norm: self.floats(&layer("norm.weight"), [d_model])?,
            in_proj: self.matrix(&layer("mixer.in_proj.weight"), [2 * dim, d_model])?,
            conv_weight: self.floats(&layer("mixer.conv1d.weight"), [dim, 1, width])?,
            conv_bias: self.floats(&layer("mixer.conv1d.bias"), [dim])?,
            x_proj: self.matrix(&layer("mixer.x_proj.weight"), [dt_rank + 2 * dstate, dim])?,
            dt_proj: self.matrix(&layer("mixer.dt_proj.weight"), [dim, dt_rank])?,
            dt_bias: self.floats(&layer("mixer.dt_proj.bias"), [dim])?,
            A: self.floats(&layer("mixer.A_log"), [dim, dstate])?.into_iter().map(|log| -log.exp()).collect(),
            D: self.floats(&layer("mixer.D"), [dim])?,
            out_proj: self.matrix(&layer("mixer.out_proj.weight"), [d_model, dim])?,
        })
    }
}

impl Truth {
    /// Fails if logits are off by more than twice what plain f32 loops are; the largest errors of the prompt and behind it.
    pub fn judge(&self, logits: &Array3<f32>, prompt: usize) -> Result<String> {
        // NaN counts as infinite: `max` would drop it.
        let error = |logits: &Array3<f32>, steps: std::ops::Range<usize>| {
            let pairs = logits.slice(s![.., steps.clone(), ..]).into_iter().zip(self.logits.slice(s![.., steps, ..]));
            let errors = pairs.map(|(&got, truth)| (f64::from(got) - truth).abs());
            errors.map(|error| if error.is_nan() { f64::INFINITY } else { error }).fold(0.0, f64::max)
        };
        let seqlen = self.ids.ncols();
        let (prefill, decode) = (error(logits, 0..prompt), error(logits, prompt..seqlen));
        let allowed = 2.0 * error(&self.logits_f32, 0..seqlen);
        let told = format!(
            "logits are off by {prefill:.1e} in prompts and by {decode:.1e} in decoding, of {allowed:.1e} allowed"
        );
        if prefill <= allowed && decode <= allowed { Ok(told) } else { Err(told.into()) }
    }
}
