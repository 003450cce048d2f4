use super::*;
use crate::doctor::errors::{self, Compared};
use crate::run::selective_scan::{Gradient, Options, Projected, Shaped, Tensors, Upstream};
use ssm_kernels::Dtype;

fn shaped<const R: usize>(extents: [usize; R], low: f32, high: f32) -> Shaped<'static, f32, R> {
    let value = |i: usize| low + (high - low) * ((i * 37 % 101) as f32 / 100.0);
    Shaped { extents, data: (0..extents.iter().product()).map(value).collect() }
}

fn tensors(dim: usize, seqlen: usize) -> Tensors<'static, f32> {
    Tensors {
        layout: Default::default(),
        x: shaped([2, dim, seqlen], -1.0, 1.0),
        dt: shaped([2, dim, seqlen], 0.0, 1.0),
        A: shaped([dim, 3], -2.0, -0.1),
        B: Projected::Variable(shaped([2, 2, 3, seqlen], -1.0, 1.0)),
        C: Projected::Constant(shaped([dim, 3], -1.0, 1.0)),
        D: None,
        z: None,
        dt_bias: None,
        initial_state: None,
        segments: None,
    }
}

fn upstream(dim: usize, seqlen: usize) -> Upstream<'static, f32> {
    Upstream { dout: Some(shaped([2, dim, seqlen], -1.0, 1.0)), dfinal_state: None, layout: Default::default() }
}

/// Forward without an upstream gradient.
fn case<'c>(tensors: &'c Tensors<'c, f32>, options: &'c Options, upstream: Option<&'c Upstream<'c, f32>>) -> Case<'c> {
    let dims = tensors.scan(options).unwrap().dims().unwrap();
    let gradients = tensors.gradients(&dims, false);
    let results = match upstream {
        Some(_) => gradients.iter().map(Kind::of_gradient).collect(),
        None => Kind::forward(&dims),
    };
    let gradients: Vec<Gradient> = gradients.into_iter().map(|(gradient, _)| gradient).collect();
    Case { tensors, upstream, gradients, results, options, dtype: Dtype::F32, dims }
}

/// The results that break the rule.
fn broken(case: &Case<'_>, computed: &Computed) -> (Vec<usize>, Judged) {
    let all: Vec<usize> = (0..case.dims.dim).collect();
    let computed = std::slice::from_ref(computed);
    let mut compared = Compared::new(case, 1).unwrap();
    for channels in all.chunks(3) {
        let part = case.part(channels).unwrap();
        compared.merge(case, channels, errors::compare(case, &part, channels, computed).unwrap());
    }
    compared.finish(case, computed);
    let judged = judge(case, &computed[0], &compared.errors[0], Some(1), &mut Memory::new(64)).unwrap();
    ((0..case.results.len()).filter(|&i| judged.verdicts[i].failure.is_some()).collect(), judged)
}

#[test]
fn a_wrong_element_of_any_channel_breaks_the_rule() {
    let (tensors, options, upstream) = (tensors(4, 10), Options::default().once(), upstream(4, 10));
    let forward = [(0, 37), (1, 20)];
    let backward = [(0, 37), (1, 79), (2, 5), (3, 119), (4, 0)];
    for (upstream, elements) in [(None, &forward[..]), (Some(&upstream), &backward)] {
        let case = case(&tensors, &options, upstream);
        for &(which, index) in elements {
            let mut computed = compute::compute(&case, Dtype::F32, Some(1), &mut Memory::new(64)).unwrap();
            for wrong in [0.0, 0.05] {
                computed.results[which][index] += wrong;
                let (broken, judged) = broken(&case, &computed);
                assert_eq!(broken, if wrong == 0.0 { vec![] } else { vec![which] });
                assert_eq!(judged.channels, [0, 1, 2, 3]);
            }
        }
    }
}

#[test]
fn of_a_large_call_the_worst_channels_are_judged() {
    let (tensors, options) = (tensors(18, 2), Options::default());
    let mut case = case(&tensors, &options, None);
    (case.dims.batch, case.dims.nseqs, case.dims.seqlen) = (64, 64, 1 << 13);
    let channel = |kernel: f64, truth: f64, lost: u64| UnitError { kernel, truth, lost, ..UnitError::default() };
    let mut channels = vec![channel(1e-6, 1.0, 0); 18];
    (channels[7], channels[2]) = (channel(1e-3, 1e6, 0), channel(1e-5, 1e-2, 0));
    let choose = |channels: &[UnitError]| choose(&case, &[channels.to_vec(), vec![UnitError::default(); 18]]);
    assert_eq!(choose(&channels), [2, 7], "two, by the error and by its share");
    channels[5] = channel(0.0, 1.0, 3);
    assert!(choose(&channels).contains(&5), "something lost is worse");
}

#[test]
fn gradients_of_a_large_call_keep_the_rule() {
    let (tensors, options, upstream) = (tensors(6, 10), Options::default().once(), upstream(6, 10));
    let mut case = case(&tensors, &options, Some(&upstream));
    let mut computed = compute::compute(&case, Dtype::F32, Some(1), &mut Memory::new(64)).unwrap();
    (case.dims.batch, case.dims.seqlen) = (64, 1 << 14);
    let mut errors = vec![vec![UnitError::default(); 6]; case.results.len()];
    (errors[0][4].kernel, errors[2][1].lost) = (1.0, 1);
    for wrong in [0.0, 0.05] {
        computed.results[1][4 * 10 + 3] += wrong;
        let judged = judge(&case, &computed, &errors, Some(1), &mut Memory::new(64)).unwrap();
        assert_eq!(judged.channels, [1, 4]);
        let broken: Vec<usize> = (0..5).filter(|&i| judged.verdicts[i].failure.is_some()).collect();
        assert_eq!(broken, if wrong == 0.0 { vec![] } else { vec![1] }, "sums over channels are those of these alone");
    }
}
