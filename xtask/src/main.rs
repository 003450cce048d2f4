//! Developers' tasks: `cargo xtask <task>`.
fn main() {}
