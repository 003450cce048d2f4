//! The C loops compute what the reference does.
#![allow(non_snake_case)]

use ssm_baseline::{Attention, Conv, ConvGradients, Layout, Loops, Scan, ScanGradients, Shape, Zoh, loops};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::{causal_conv1d, discretise, selective_scan, squared_attention};

/// A fixed pattern from `low` to `high`.
fn pattern(count: usize, phase: usize, (low, high): (f32, f32)) -> Vec<f32> {
    (0..count).map(|i| low + (high - low) * ((i * 37 + phase * 11) % 101) as f32 / 100.0).collect()
}

struct Case {
    shape: Shape,
    sequences: [Vec<f32>; 4],
    A: Vec<f32>,
    rows: [Vec<f32>; 2],
    channels: [Vec<f32>; 2],
}

impl Case {
    fn new(batch: usize, dim: usize, seqlen: usize, dstate: usize, layout: Layout) -> Self {
        let shape = Shape { batch, dim, seqlen, dstate, layout };
        Self {
            shape,
            sequences: std::array::from_fn(|i| pattern(shape.sequence(), i, (-1.5, 1.5))),
            A: pattern(shape.states(), 5, (-3.0, 0.0)),
            rows: std::array::from_fn(|i| pattern(shape.rows(), 6 + i, (-1.0, 1.0))),
            channels: std::array::from_fn(|i| pattern(dim, 8 + i, (-1.0, 1.0))),
        }
    }

    fn scan(&self) -> Scan<'_> {
        let ([x, dt, z, _], [B, C], [D, dt_bias]) = (&self.sequences, &self.rows, &self.channels);
        Scan { shape: self.shape, x, dt, A: &self.A, B, C, D, z, dt_bias }
    }

    fn sequence<'a>(&self, data: &'a [f32]) -> View<'a, f32> {
        let Shape { batch, dim, seqlen, layout, .. } = self.shape;
        match layout {
            Layout::Dense => View::new(data, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]),
            Layout::ChannelLast => View::new(data, [("batch", batch), ("seqlen", seqlen), ("dim", dim)]),
        }
    }

    fn row<'a>(&self, data: &'a [f32]) -> View<'a, f32> {
        let Shape { batch, seqlen, dstate, layout, .. } = self.shape;
        let (b, g, n, t) = (("batch", batch), ("ngroups", 1), ("dstate", dstate), ("seqlen", seqlen));
        match layout {
            Layout::Dense => View::new(data, [b, g, n, t]),
            Layout::ChannelLast => View::new(data, [b, t, g, n]),
        }
    }

    fn op(&self) -> SelectiveScan<'_, f32> {
        let Shape { dim, dstate, .. } = self.shape;
        let [x, dt, z, _] = &self.sequences;
        let A = View::new(&self.A, [("dim", dim), ("dstate", dstate)]);
        let [B, C] = [&self.rows[0], &self.rows[1]].map(|rows| self.row(rows));
        let scan = SelectiveScan::new(self.sequence(x), self.sequence(dt), A, B, C).unwrap().dt_softplus(true);
        let [D, dt_bias] = [&self.channels[0], &self.channels[1]].map(|data| View::new(data, [("dim", dim)]));
        scan.D(D).z(self.sequence(z)).dt_bias(dt_bias)
    }

    /// A tensor of this layout, (batch, inner, seqlen), as the reference has it.
    fn canonical(&self, data: &[f32], inner: usize) -> Vec<f32> {
        let Shape { batch, seqlen, layout, .. } = self.shape;
        if layout == Layout::Dense {
            return data.to_vec();
        }
        let place = |i: usize| (i / (inner * seqlen) * seqlen + i % seqlen) * inner + i / seqlen % inner;
        (0..batch * inner * seqlen).map(|i| data[place(i)]).collect()
    }
}

fn close(what: &str, got: &[f32], truth: &[f64]) {
    assert_eq!(got.len(), truth.len(), "{what}");
    let scale = truth.iter().fold(0.0f64, |max, truth| max.max(truth.abs()));
    for (i, (&got, truth)) in got.iter().zip(truth).enumerate() {
        assert!((f64::from(got) - truth).abs() <= 1e-4 * scale, "{what}[{i}] is {got}, expected {truth}");
    }
}

fn each(check: impl Fn(&Loops, &Case, &str)) {
    for shape in [(1, 1, 1, 1), (2, 3, 17, 16), (1, 5, 33, 4), (3, 2, 1, 16), (1, 4, 64, 7)] {
        for layout in [Layout::Dense, Layout::ChannelLast] {
            let (batch, dim, seqlen, dstate) = shape;
            let case = Case::new(batch, dim, seqlen, dstate, layout);
            loops().iter().for_each(|loops| check(loops, &case, &format!("{shape:?} {layout:?} {}", loops.name())));
        }
    }
}

#[test]
fn scan_forward() {
    each(|loops, case, text| {
        let shape = case.shape;
        let (mut out, mut scratch) = (vec![f32::NAN; shape.sequence()], vec![f32::NAN; shape.scratch()]);
        loops.scan_forward(&case.scan(), &mut out, &mut scratch);
        let truth = selective_scan::forward::<f64, f32>(&case.op(), None).unwrap();
        close(&format!("out, {text}"), &case.canonical(&out, shape.dim), &truth.out);
    });
}

#[test]
fn scan_backward() {
    each(|loops, case, text| {
        let shape = case.shape;
        let Shape { dim, dstate, .. } = shape;
        let mut sequences: [Vec<f32>; 3] = std::array::from_fn(|_| vec![f32::NAN; shape.sequence()]);
        let mut rows: [Vec<f32>; 2] = std::array::from_fn(|_| vec![f32::NAN; shape.rows()]);
        let mut channels: [Vec<f32>; 2] = std::array::from_fn(|_| vec![f32::NAN; dim]);
        let (mut dA, mut scratch) = (vec![f32::NAN; shape.states()], vec![f32::NAN; shape.scratch()]);
        let dout = &case.sequences[3];
        let ([dx, ddt, dz], [dB, dC], [dD, ddt_bias]) = (&mut sequences, &mut rows, &mut channels);
        let mut gradients = ScanGradients { dx, ddt, dA: &mut dA, dB, dC, dD, dz, ddt_bias };
        loops.scan_backward(&case.scan(), dout, &mut gradients, &mut scratch);
        let upstream = SelectiveScanUpstream::new().dout(case.sequence(dout));
        let truth = selective_scan::backward::<f64, f32>(&case.op(), upstream).unwrap();
        for (name, got, truth) in [
            ("dx", case.canonical(dx, dim), &truth.dx),
            ("ddt", case.canonical(ddt, dim), &truth.ddt),
            ("dz", case.canonical(dz, dim), &truth.dz),
            ("dA", dA.clone(), &truth.dA),
            ("dB", case.canonical(dB, dstate), &truth.dB),
            ("dC", case.canonical(dC, dstate), &truth.dC),
            ("dD", dD.clone(), &truth.dD),
            ("ddt_bias", ddt_bias.clone(), &truth.ddt_bias),
        ] {
            close(&format!("{name}, {text}"), &got, truth);
        }
    });
}

#[test]
fn zoh_forward() {
    each(|loops, case, text| {
        let Shape { batch, dim, seqlen, dstate, layout } = case.shape;
        let [_, dt, ..] = &case.sequences;
        let (B, dt_bias) = (&case.rows[0], &case.channels[1]);
        let elements = case.shape.sequence() * dstate;
        let (mut A_bar, mut B_bar) = (vec![f32::NAN; elements], vec![f32::NAN; elements]);
        let zoh = Zoh { shape: case.shape, dt, A: &case.A, B, dt_bias };
        loops.zoh_forward(&zoh, &mut A_bar, &mut B_bar);
        let A = View::new(&case.A, [("dim", dim), ("dstate", dstate)]);
        let B = match layout {
            Layout::Dense => View::new(B, [("batch", batch), ("dstate", dstate), ("seqlen", seqlen)]),
            Layout::ChannelLast => View::new(B, [("batch", batch), ("seqlen", seqlen), ("dstate", dstate)]),
        };
        // The domain takes the order of dt's dimensions, as the loops' outputs do.
        let op = Discretise::new(Rule::Zoh, case.sequence(dt), A, B).unwrap();
        let op = op.dt_softplus(true).dt_bias(View::new(dt_bias, [("dim", dim)]));
        let truth = discretise::forward::<f64, f32>(&op).unwrap();
        close(&format!("A_bar, {text}"), &A_bar, &truth.A_bar);
        close(&format!("B_bar, {text}"), &B_bar, &truth.B_bar);
    });
}

/// From the state before, in two calls; against the reference's last state and outputs.
#[test]
fn state_update_is_the_scan() {
    for layout in [Layout::Dense, Layout::ChannelLast] {
        let case = Case::new(2, 5, 7, 3, layout);
        let truth = selective_scan::forward::<f64, f32>(&case.op(), None).unwrap();
        for loops in loops() {
            let (mut out, mut states) = (vec![f32::NAN; case.shape.sequence()], vec![0.0; 2 * case.shape.states()]);
            loops.state_update(&case.scan(), &mut out, &mut states);
            close("out", &case.canonical(&out, 5), &truth.out);
            close("states", &states, &truth.final_state);
            let before = states.clone();
            loops.state_update(&case.scan(), &mut out, &mut states);
            assert_ne!(states, before, "the second call goes on");
        }
    }
}

/// The convolution of a case's x with `width` taps, whose weight and bias are given; and the same as an operator.
fn conv<'c>(case: &'c Case, width: usize, weight: &'c [f32]) -> (Conv<'c>, CausalConv1d<'c, f32>) {
    let (x, bias, dim) = (&case.sequences[0], &case.channels[0], ("dim", case.shape.dim));
    let view = View::new(weight, [dim, ("width", width)]);
    let op = CausalConv1d::new(case.sequence(x), view).unwrap().bias(View::new(bias, [dim])).silu(true);
    (Conv { shape: case.shape, width, x, weight, bias }, op)
}

#[test]
fn conv_both_ways() {
    for width in [1, 2, 4, 7] {
        each(|loops, case, text| {
            let (shape, text) = (case.shape, format!("width {width}, {text}"));
            let weight = pattern(shape.dim * width, 9, (-1.0, 1.0));
            let (conv, op) = conv(case, width, &weight);
            let mut out = vec![f32::NAN; shape.sequence()];
            loops.conv_forward(&conv, &mut out);
            let truth = causal_conv1d::forward::<f64, f32, f32>(&op).unwrap();
            close(&format!("out, {text}"), &case.canonical(&out, shape.dim), &truth.out);

            let dout = &case.sequences[3];
            let (mut dx, mut dweight, mut dbias) = (out, vec![f32::NAN; weight.len()], vec![f32::NAN; shape.dim]);
            let mut gradients = ConvGradients { dx: &mut dx, dweight: &mut dweight, dbias: &mut dbias };
            loops.conv_backward(&conv, dout, &mut gradients);
            let upstream = CausalConv1dUpstream::new().dout(case.sequence(dout));
            let truth = causal_conv1d::backward::<f64, f32, f32>(&op, upstream).unwrap();
            close(&format!("dx, {text}"), &case.canonical(&dx, shape.dim), &truth.dx);
            close(&format!("dweight, {text}"), &dweight, &truth.dweight);
            close(&format!("dbias, {text}"), &dbias, &truth.dbias);
        });
    }
}

/// From zeros, against the whole convolution's outputs and last inputs.
#[test]
fn conv_update_is_the_convolution() {
    for (layout, width) in [(Layout::Dense, 4), (Layout::ChannelLast, 3), (Layout::Dense, 1)] {
        let case = Case::new(2, 5, 7, 1, layout);
        let weight = pattern(5 * width, 9, (-1.0, 1.0));
        let (conv, op) = conv(&case, width, &weight);
        let truth = causal_conv1d::forward::<f64, f32, f32>(&op).unwrap();
        for loops in loops() {
            let (mut out, mut states) = (vec![f32::NAN; case.shape.sequence()], vec![0.0; 2 * 5 * (width - 1)]);
            loops.conv_update(&conv, &mut out, &mut states);
            close("out", &case.canonical(&out, 5), &truth.out);
            close("states", &states, &truth.final_state);
        }
    }
}

/// Both ways against the reference; the update from zeros in two calls.
#[test]
fn attention_every_way() {
    each(|loops, case, text| {
        let Shape { batch, dim: nheads, seqlen, dstate: dim, layout } = case.shape;
        let elements = case.shape.sequence() * dim;
        let [q, k, v]: [Vec<f32>; 3] = std::array::from_fn(|i| pattern(elements, i, (-1.0, 1.2)));
        let log_decay = pattern(case.shape.sequence(), 3, (-0.5, 0.0));
        let attention = Attention { shape: case.shape, q: &q, k: &k, v: &v, log_decay: &log_decay };
        let steps = match layout {
            Layout::Dense => [("batch", batch), ("nheads", nheads), ("seqlen", seqlen)],
            Layout::ChannelLast => [("batch", batch), ("seqlen", seqlen), ("nheads", nheads)],
        };
        let view = |data, inner| View::new(data, [steps[0], steps[1], steps[2], (inner, dim)]);
        let op =
            SquaredAttention::new(view(&q, "dim"), view(&k, "dim"), view(&v, "vdim"), View::new(&log_decay, steps));
        let truth = squared_attention::forward::<f64, f32>(&op.unwrap()).unwrap();
        let canonical = |out: &[f32]| -> Vec<f32> {
            if layout == Layout::Dense {
                return out.to_vec();
            }
            let place = |i: usize| (i / (nheads * seqlen) * seqlen + i % seqlen) * nheads + i / seqlen % nheads;
            (0..elements).map(|i| out[place(i / dim) * dim + i % dim]).collect()
        };
        let (mut out, mut scratch) = (vec![f32::NAN; elements], vec![f32::NAN; attention.scratch()]);
        loops.attention_pairs(&attention, &mut out);
        close(&format!("out by pairs, {text}"), &canonical(&out), &truth.out);
        out.fill(f32::NAN);
        loops.attention_states(&attention, &mut out, &mut scratch);
        close(&format!("out by states, {text}"), &canonical(&out), &truth.out);
        out.fill(f32::NAN);
        let (mut states, mut norms) = (vec![0.0; truth.final_state.len()], vec![0.0; truth.final_norm.len()]);
        loops.attention_update(&attention, &mut out, &mut states, &mut norms);
        close(&format!("out of the update, {text}"), &canonical(&out), &truth.out);
        close(&format!("states, {text}"), &states, &truth.final_state);
        close(&format!("norms, {text}"), &norms, &truth.final_norm);
        let before = states.clone();
        loops.attention_update(&attention, &mut out, &mut states, &mut norms);
        assert_ne!(states, before, "the second call goes on");
    });
}
