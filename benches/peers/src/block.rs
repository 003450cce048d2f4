//! A block of mamba-rs around the scan, with as little else as it can have: its scan has no function of its own.
//! What it hands to its scan are the inputs of all the others.

use crate::Result;
use crate::measure::Subject;
use crate::tensors::{Layout, Random, Shape, Tensors};
use mamba_rs::mamba1::cpu::backward::backward_mamba_layer_batched;
use mamba_rs::mamba1::cpu::flat::MambaLayerFlat;
use mamba_rs::mamba1::cpu::forward::forward_mamba_layer_batched;
use mamba_rs::mamba1::cpu::inference::{MambaPackedLinears, MambaStepScratch, mamba_step_no_proj_packed};
use mamba_rs::mamba1::cpu::prefill::{MambaPrefillScratch, forward_mamba_backbone_prefill};
use mamba_rs::mamba1::cpu::scratch::{BackwardPhaseScratch, PhaseScratch};
use mamba_rs::mamba1::cpu::weights::{TrainMambaLayerWeights, TrainMambaWeights};
use mamba_rs::ops::dims::{MambaDims, MambaRecurrentState};
use mamba_rs::{MambaConfig, MambaLayerWeights, MambaState, MambaWeights};

/// Of the model's rows: few, as they only feed projections, but enough for steps that differ.
const MODEL: usize = 4;

/// One for all sequences of a batch.
pub struct Block {
    pub shape: Shape,
    pub dims: MambaDims,
    pub weights: MambaWeights,
    config: MambaConfig,
    training: TrainMambaLayerWeights,
    /// Inputs and gradients of outputs, (seqlen, MODEL) each.
    samples: Vec<[Vec<f32>; 2]>,
}

/// What a forward pass leaves for backward.
pub struct Tape {
    acts: MambaLayerFlat,
    scratch: PhaseScratch,
    conv: Vec<f32>,
    states: Vec<f32>,
    rows: Vec<f32>,
}

/// What a backward pass works in.
pub struct Back {
    pub gradients: TrainMambaLayerWeights,
    scratch: BackwardPhaseScratch,
    rows: Vec<f32>,
}

impl Back {
    /// Gradients of B and C, (seqlen, dstate) each, of the sequence that came last.
    pub fn drows(&self, dstate: usize) -> (Vec<f32>, Vec<f32>) {
        let rows = self.scratch.d_xdbl_flat.chunks_exact(1 + 2 * dstate).map(|row| split(row, dstate));
        let (dB, dC): (Vec<_>, Vec<_>) = rows.map(|[_, dB, dC]| (dB, dC)).unzip();
        (dB.concat(), dC.concat())
    }
}

fn layer_weights(layer: &mut MambaLayerWeights, dim: usize, random: &mut Random) {
    // Products of `dim` numbers near 1 to sums near 1.
    let narrow = (3.0 / dim as f32).sqrt();
    random.fill(&mut layer.in_proj_w, -1.0, 1.0);
    random.fill(&mut layer.conv1d_weight, 0.5, 1.5);
    random.fill(&mut layer.conv1d_bias, -0.5, 0.5);
    random.fill(&mut layer.x_proj_w, -narrow, narrow);
    random.fill(&mut layer.dt_proj_w, -1.0, 1.0);
    random.fill(&mut layer.dt_proj_b, -3.0, -1.0);
    random.fill(&mut layer.a_log, 0.0, 16f32.ln());
    random.fill(&mut layer.d_param, -1.0, 1.0);
    random.fill(&mut layer.out_proj_w, -1.0, 1.0);
    layer.compute_a_neg();
}

fn for_training(dims: &MambaDims, layer: &MambaLayerWeights) -> TrainMambaLayerWeights {
    let mut training = TrainMambaWeights::zeros_from_dims(dims).layers.remove(0);
    training.norm_weight.clone_from(&layer.norm_weight);
    training.in_proj_w.clone_from(&layer.in_proj_w);
    training.conv1d_weight.clone_from(&layer.conv1d_weight);
    training.conv1d_bias.clone_from(&layer.conv1d_bias);
    training.x_proj_w.clone_from(&layer.x_proj_w);
    training.dt_proj_w.clone_from(&layer.dt_proj_w);
    training.dt_proj_b.clone_from(&layer.dt_proj_b);
    training.a_log.clone_from(&layer.a_log);
    training.d_param.clone_from(&layer.d_param);
    training.out_proj_w.clone_from(&layer.out_proj_w);
    training
}

impl Block {
    pub fn new(shape: Shape) -> Result<Self> {
        if !shape.dim.is_multiple_of(MODEL) {
            return Err(format!("channels have to be a multiple of {MODEL}").into());
        }
        let config = MambaConfig {
            d_model: MODEL,
            d_state: shape.dstate,
            d_conv: 1,
            expand: shape.dim / MODEL,
            n_layers: 1,
            dt_rank: Some(1),
            final_norm: false,
            ..MambaConfig::default()
        };
        config.validate()?;
        let mut random = Random::new(1);
        let mut weights = MambaWeights::zeros(&config, MODEL);
        weights.input_proj_w = vec![];
        weights.input_proj_b = vec![];
        layer_weights(&mut weights.layers[0], shape.dim, &mut random);
        let dims = MambaDims::from_config(&config, shape.seqlen, MODEL);
        let training = for_training(&dims, &weights.layers[0]);
        let mut rows = || random.vec(shape.seqlen * MODEL, -1.0, 1.0);
        let samples = (0..shape.batch).map(|_| [rows(), rows()]).collect();
        Ok(Self { shape, dims, weights, config, training, samples })
    }

    pub fn layer(&self) -> &MambaLayerWeights {
        &self.weights.layers[0]
    }

    fn tape(&self) -> Tape {
        Tape {
            acts: MambaLayerFlat::zeros(self.dims),
            scratch: PhaseScratch::zeros(&self.dims),
            conv: vec![0.0; self.shape.dim * self.dims.d_conv],
            states: vec![0.0; self.shape.states()],
            rows: vec![0.0; self.shape.seqlen * MODEL],
        }
    }

    pub fn tapes(&self) -> Vec<Tape> {
        (0..self.shape.batch).map(|_| self.tape()).collect()
    }

    /// Forward as for training, all sequences.
    fn record(&self, tapes: &mut [Tape]) {
        for (tape, [rows, _]) in tapes.iter_mut().zip(&self.samples) {
            tape.rows.copy_from_slice(rows);
            tape.states.fill(0.0);
            tape.conv.fill(0.0);
            let (conv, ssm, a_neg) = (&mut tape.conv[..], &mut tape.states[..], &self.layer().a_neg[..]);
            let mut state = MambaRecurrentState { conv, ssm, a_neg };
            let (rows, acts, scratch) = (&mut tape.rows, &mut tape.acts, &mut tape.scratch);
            forward_mamba_layer_batched(rows, acts, &self.training, &mut state, scratch, &self.dims);
        }
    }

    /// The scan's inputs, with the gradient of its output.
    pub fn tensors(&self, tapes: &mut [Tape]) -> Tensors {
        self.record(tapes);
        let (layer, Shape { dim, seqlen, dstate, .. }) = (self.layer(), self.shape);
        let mut tensors = Tensors {
            shape: self.shape,
            layout: Layout::ChannelLast,
            x: vec![],
            dt: vec![],
            z: vec![],
            dout: vec![],
            B: vec![],
            C: vec![],
            A: layer.a_neg.clone(),
            D: layer.d_param.clone(),
            dt_bias: layer.dt_proj_b.clone(),
        };
        for (tape, [_, drows]) in tapes.iter().zip(&self.samples) {
            for (t, drow) in (0..seqlen).zip(drows.as_chunks::<MODEL>().0) {
                let [dt, B, C] = split(tape.acts.xdbl(t), dstate);
                tensors.x.extend_from_slice(tape.acts.u(t));
                tensors.dt.extend(layer.dt_proj_w.iter().map(|weight| dt[0] * weight));
                tensors.z.extend_from_slice(tape.acts.gate_pre_silu(t));
                tensors.B.extend_from_slice(B);
                tensors.C.extend_from_slice(C);
                let weights = layer.out_proj_w.as_chunks::<MODEL>().0.iter().take(dim);
                tensors.dout.extend(weights.map(|row| row.iter().zip(drow).map(|(w, d)| w * d).sum::<f32>()));
            }
        }
        tensors
    }

    /// The scan's output, gate included, (batch, seqlen, dim).
    pub fn gated(&self, tapes: &[Tape]) -> Vec<f32> {
        let steps = tapes.iter().flat_map(|tape| (0..self.shape.seqlen).map(|t| tape.acts.gated(t)));
        steps.flatten().copied().collect()
    }

    /// The block's output.
    pub fn recorded_rows(tapes: &[Tape]) -> Vec<f32> {
        tapes.iter().flat_map(|tape| tape.rows.iter().copied()).collect()
    }

    pub fn forward_for_training<'a>(&'a self, tapes: &'a mut [Tape]) -> Subject<'a> {
        Subject::new("mamba-rs, block for training", move || {
            self.record(tapes);
            Ok(())
        })
    }

    pub fn back(&self) -> Back {
        let mut gradients = self.training.clone();
        for tensor in [&mut gradients.a_log, &mut gradients.d_param, &mut gradients.dt_proj_b] {
            tensor.fill(0.0);
        }
        let (scratch, rows) = (BackwardPhaseScratch::zeros(&self.dims), vec![0.0; self.shape.seqlen * MODEL]);
        Back { gradients, scratch, rows }
    }

    /// Adds to what is in `back`, all sequences.
    pub fn run_back(&self, tapes: &[Tape], back: &mut Back) {
        for (tape, [_, drows]) in tapes.iter().zip(&self.samples) {
            back.rows.copy_from_slice(drows);
            let (rows, gradients, scratch) = (&mut back.rows, &mut back.gradients, &mut back.scratch);
            let (weights, a_neg) = (&self.training, &self.layer().a_neg);
            backward_mamba_layer_batched(rows, gradients, &tape.acts, weights, a_neg, scratch, &self.dims);
        }
    }

    /// From the tape, whose forward pass is not counted.
    pub fn backward<'a>(&'a self, tapes: &'a [Tape]) -> Subject<'a> {
        let mut back = self.back();
        Subject::new("mamba-rs, block", move || {
            self.run_back(tapes, &mut back);
            Ok(())
        })
    }

    /// Forward as for a prompt, all sequences, the states of one after the other.
    pub fn run_prefill(&self, out: &mut [f32], state: &mut MambaState, scratch: &mut MambaPrefillScratch) {
        for (out, [rows, _]) in out.chunks_exact_mut(self.shape.seqlen * MODEL).zip(&self.samples) {
            state.reset();
            forward_mamba_backbone_prefill(out, rows, &self.weights, state, scratch, &self.dims);
        }
    }

    /// Buffers of `run_prefill`.
    pub fn for_prefill(&self) -> (Vec<f32>, MambaState, MambaPrefillScratch) {
        let out = vec![0.0; self.shape.batch * self.shape.seqlen * MODEL];
        (out, MambaState::zeros(&self.config), MambaPrefillScratch::new(&self.dims))
    }

    pub fn prefill(&self) -> Subject<'_> {
        let (mut out, mut state, mut scratch) = self.for_prefill();
        Subject::new("mamba-rs, block for a prompt", move || {
            self.run_prefill(&mut out, &mut state, &mut scratch);
            Ok(())
        })
    }

    /// Gated outputs of the first steps, from nothing, of all sequences.
    pub fn first_tokens(&self) -> Vec<f32> {
        let (packed, mut scratch) = self.for_tokens();
        let (mut out, mut gated) = (vec![0.0; MODEL], vec![]);
        for [rows, _] in &self.samples {
            let (weights, mut state) = ((&self.weights, &packed), MambaState::zeros(&self.config));
            let config = &self.config;
            mamba_step_no_proj_packed(&rows[..MODEL], &mut out, weights, &mut state.layers, &mut scratch, config);
            gated.extend_from_slice(&scratch.layer.y);
        }
        gated
    }

    fn for_tokens(&self) -> (MambaPackedLinears, MambaStepScratch) {
        let packed = MambaPackedLinears::pack(&self.weights, &self.config, MODEL);
        (packed, MambaStepScratch::new(&self.config))
    }

    /// A token of each sequence.
    pub fn decode(&self) -> Subject<'_> {
        let (packed, mut scratch) = self.for_tokens();
        let mut states: Vec<_> = self.samples.iter().map(|_| MambaState::zeros(&self.config)).collect();
        let mut out = vec![0.0; MODEL];
        Subject::new("mamba-rs, block for a token", move || {
            for ([rows, _], state) in self.samples.iter().zip(&mut states) {
                let (input, weights) = (&rows[..MODEL], (&self.weights, &packed));
                let (state, config) = (&mut state.layers, &self.config);
                mamba_step_no_proj_packed(input, &mut out, weights, state, &mut scratch, config);
            }
            Ok(())
        })
    }
}

/// dt's input, B and C of a step.
fn split(row: &[f32], dstate: usize) -> [&[f32]; 3] {
    let rank = row.len() - 2 * dstate;
    [&row[..rank], &row[rank..rank + dstate], &row[rank + dstate..]]
}
