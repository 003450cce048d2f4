//! The operators as naive loops, generic over the arithmetic. Primarily used to test the backends, and public so that
//! yours can be tested too.
//!
//! One text gives both oracle and yardstick: run on [`f64`] it is the truth, on [`f32`] and [`Noisy`] it is the error
//! that a plain implementation may make. [`accuracy`] turns the two into the rule. The text itself is held to
//! files that the original implementations produced (`tests/suites/fixtures.rs`).
//!
//! ```
//! use ssm_kernels::prelude::*;
//! use ssm_kernels::reference::causal_conv1d;
//! let (x, weight) = ([1.0f32, 2.0, 3.0], [0.1f32, 1.0]);
//! let sequence = [("batch", 1), ("dim", 1), ("seqlen", 3)];
//! let conv = CausalConv1d::new(View::new(&x, sequence), View::new(&weight, [("dim", 1), ("width", 2)]))?;
//! let truth = causal_conv1d::forward::<f64, _, _>(&conv)?;
//! assert_eq!(truth.out[2], 3.0 + 2.0 * f64::from(0.1f32)); // what the inputs say, exactly
//! let plain = causal_conv1d::forward::<f32, _, _>(&conv)?;
//! assert!((f64::from(plain.out[2]) - truth.out[2]).abs() < 1e-6);
//! # Ok::<(), ssm_kernels::Error>(())
//! ```

use crate::error::{Error, Result};
use crate::tensor::{Dtype, Element};

pub mod accuracy;
pub mod causal_conv1d;
pub mod discretise;
mod noisy;
mod primitives;
mod real;
pub mod selective_scan;
pub mod squared_attention;
pub mod state_update;

pub use noisy::Noisy;
pub use primitives::{silu, silu_derivative, softplus, softplus_derivative};
pub use real::Real;

/// Zeros for a tensor of these extents, or the error that there is no memory for it.
fn zeros<R: Real>(op: &'static str, extents: &[usize]) -> Result<Tensor<R>> {
    let elements =
        if extents.contains(&0) { Some(0) } else { extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e)) };
    let elements = elements.unwrap_or(usize::MAX);
    let mut tensor = Vec::new();
    let refused = |_| Error::OutOfMemory {
        what: format!("{op} of the reference"),
        bytes: Some(elements.saturating_mul(size_of::<R>())),
    };
    tensor.try_reserve_exact(elements).map_err(refused)?;
    tensor.resize(elements, R::of(0.0));
    Ok(tensor)
}

/// A dense tensor in the arithmetic `R`: its contract's canonical order, last dimension fastest.
pub type Tensor<R> = Vec<R>;

/// What the next token finds in the cache. An f32 state is what the yardstick is about: the truth does not round it.
fn stored<R: Real, H: Element>(value: R) -> R {
    match H::DTYPE {
        Dtype::F32 => value,
        _ => R::of(H::from_f32(value.to_f64() as f32).to_f32()),
    }
}
