//! Parts of a case, and results of parts put together.

use super::buffer::{Buffer, Order};
use super::scan::{ProjectionBuffer, ScanCase};
use super::scan_backward::{ScanGradients, ScanUpstream};
use ssm_kernels::Element;

/// The part of a case in `range` of `name` ("batch" or "seqlen"), from state `initial` on.
pub fn part<T: Element>(
    case: &ScanCase<T>,
    name: &str,
    range: std::ops::Range<usize>,
    initial: Option<Buffer<f32>>,
) -> ScanCase<T> {
    ScanCase {
        x: case.x.slice(name, range.clone()),
        dt: case.dt.slice(name, range.clone()),
        B: case.B.slice(name, range.clone()),
        C: case.C.slice(name, range.clone()),
        z: case.z.as_ref().map(|z| z.slice(name, range)),
        initial_state: initial,
        segments: None,
        ..case.clone()
    }
}

/// Parts joined along dimension `name`, in the shape of `like`.
pub fn joined<T: Element>(parts: &[Buffer<T>], name: &str, like: &Buffer<T>) -> Buffer<T> {
    let at = like.dims().iter().position(|dim| dim.0 == name).expect("a dimension");
    let outer: usize = like.dims()[..at].iter().map(|dim| dim.1).product();
    let dense: Vec<Vec<f64>> = parts.iter().map(Buffer::dense).collect();
    let rows = (0..outer).flat_map(|row| {
        dense.iter().flat_map(move |part| {
            let len = part.len() / outer.max(1);
            part[row * len..(row + 1) * len].iter().copied()
        })
    });
    let values: Vec<f64> = rows.collect();
    let mut values = values.into_iter();
    Buffer::filled(&like.dims(), Order::Dense, || values.next().expect("as many as the whole") as f32)
}

pub fn expect_same_bits<T: Element>(law: &str, a: &Buffer<T>, b: &Buffer<T>) {
    assert_eq!(a.dims(), b.dims(), "{law}");
    assert!(a.bits() == b.bits(), "{law}: bits differ");
}

/// The part of the upstream gradients that belongs to [`part`].
pub fn upstream_part<T: Element>(
    upstream: &ScanUpstream<T>,
    name: &str,
    range: std::ops::Range<usize>,
    dfinal_state: Option<Buffer<f32>>,
) -> ScanUpstream<T> {
    let dout = upstream.dout.as_ref().map(|dout| dout.slice(name, range));
    ScanUpstream { dout, dfinal_state, checkpoints: None }
}

/// Gradients of parts along `name` as gradients of the whole: joined where they have that dimension, else added up in
/// f32 in the order of `parts`; `states`, the dimension along which dinitial_state is joined.
pub fn gathered<T: Element>(
    parts: &[ScanGradients<T>],
    name: &str,
    states: &str,
    like: &ScanGradients<T>,
) -> ScanGradients<T> {
    let io = |pick: &dyn Fn(&ScanGradients<T>) -> &Option<Buffer<T>>| gather(parts, name, like, pick);
    let wide = |pick: &dyn Fn(&ScanGradients<T>) -> &Option<Buffer<f32>>| gather(parts, name, like, pick);
    let projection = |pick: &dyn Fn(&ScanGradients<T>) -> &Option<ProjectionBuffer<T>>| {
        let each = parts.iter().map(|part| pick(part).as_ref().expect("asked for"));
        Some(match pick(like).as_ref()? {
            ProjectionBuffer::Variable(like) => {
                let each = each.map(|part| match part {
                    ProjectionBuffer::Variable(buffer) => buffer.clone(),
                    ProjectionBuffer::Constant(_) => unreachable!("of the same kind"),
                });
                ProjectionBuffer::Variable(join_or_add(&each.collect::<Vec<_>>(), name, like))
            }
            ProjectionBuffer::Constant(like) => {
                let each = each.map(|part| match part {
                    ProjectionBuffer::Constant(buffer) => buffer.clone(),
                    ProjectionBuffer::Variable(_) => unreachable!("of the same kind"),
                });
                ProjectionBuffer::Constant(join_or_add(&each.collect::<Vec<_>>(), name, like))
            }
        })
    };
    ScanGradients {
        dx: io(&|gradients| &gradients.dx),
        ddt: io(&|gradients| &gradients.ddt),
        dz: io(&|gradients| &gradients.dz),
        dA: wide(&|gradients| &gradients.dA),
        dB: projection(&|gradients| &gradients.dB),
        dC: projection(&|gradients| &gradients.dC),
        dD: wide(&|gradients| &gradients.dD),
        ddt_bias: wide(&|gradients| &gradients.ddt_bias),
        dinitial_state: gather(parts, states, like, &|gradients| &gradients.dinitial_state),
    }
}

fn gather<T: Element, E: Element>(
    parts: &[ScanGradients<T>],
    name: &str,
    like: &ScanGradients<T>,
    pick: &dyn Fn(&ScanGradients<T>) -> &Option<Buffer<E>>,
) -> Option<Buffer<E>> {
    let each: Vec<Buffer<E>> = parts.iter().filter_map(|part| pick(part).clone()).collect();
    pick(like).as_ref().map(|like| join_or_add(&each, name, like))
}

fn join_or_add<T: Element>(parts: &[Buffer<T>], name: &str, like: &Buffer<T>) -> Buffer<T> {
    if like.dims().iter().any(|dim| dim.0 == name) {
        return joined(parts, name, like);
    }
    let add = |sum: Vec<f64>, part: Vec<f64>| {
        sum.iter().zip(part).map(|(&a, b)| f64::from(a as f32 + b as f32)).collect::<Vec<f64>>()
    };
    let zeros = || vec![0.0; like.dense().len()];
    let mut sums = parts.iter().map(Buffer::dense).reduce(add).unwrap_or_else(zeros).into_iter();
    Buffer::filled(&like.dims(), Order::Dense, || sums.next().expect("as many as the whole") as f32)
}
