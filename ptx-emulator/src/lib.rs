//! Runs the PTX of CUDA kernels on any machine.

mod arith;
mod error;
mod forms;
mod parse;
mod registers;
mod types;

pub use error::{Error, Result};
