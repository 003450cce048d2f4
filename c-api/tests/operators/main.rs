//! Every function of the C API beside the call in Rust that it stands for: the same bits. And what they refuse.

#![allow(non_snake_case)]

mod causal_conv1d;
mod device;
mod interleaved;
mod refusals;
mod selective_scan;
mod state_update;
mod tensor;
