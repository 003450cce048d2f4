//! The operators as naive loops, generic over the arithmetic. Primarily used to test the backends, and public so that
//! yours can be tested too.
//!
//! One text gives both oracle and yardstick: run on [`f64`] it is the truth, on [`f32`] and [`Noisy`] it is the error
//! that a plain implementation may make. [`accuracy`] turns the two into the rule. The text itself is held to
//! files that the original implementations produced (`tests/fixtures.rs`).

pub mod accuracy;
pub mod discretise;
mod noisy;
mod primitives;
mod real;
pub mod selective_scan;

pub use noisy::Noisy;
pub use primitives::{silu, softplus, softplus_derivative};
pub use real::Real;

/// A dense tensor in the arithmetic `R`: its contract's canonical order, last dimension fastest.
pub type Tensor<R> = Vec<R>;
