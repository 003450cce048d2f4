//! Adds two vectors with cudarc: a program for a GPU, which knows nothing of an emulator.

use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

/// `vector_add.cu` beside it, compiled by nvcc.
const PTX: &str = include_str!("../../ptx-emulator/examples/vector_add.ptx");

/// Adds two vectors.
pub fn main() -> Result<(), DriverError> {
    let context = CudaContext::new(0)?;
    let stream = context.default_stream();
    let kernel = context.load_module(Ptx::from_src(PTX))?.load_function("vector_add")?;

    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let y = vec![0.5f32; 1000];
    let (x_device, y_device) = (stream.clone_htod(&x)?, stream.clone_htod(&y)?);
    let mut sum_device = stream.alloc_zeros::<f32>(1000)?;

    let count = 1000u32;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&x_device).arg(&y_device).arg(&mut sum_device).arg(&count);
    // SAFETY: these are the parameters of the kernel, and it touches `count` elements of each vector.
    unsafe { launch.launch(LaunchConfig::for_num_elems(count)) }?;

    let sum = stream.clone_dtoh(&sum_device)?;
    assert!(sum.iter().zip(&x).all(|(sum, x)| *sum == x + 0.5));
    println!("{}: {} + {} = {}", context.name()?, x[999], y[999], sum[999]);
    Ok(())
}
