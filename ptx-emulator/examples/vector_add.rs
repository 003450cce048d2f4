//! Runs a CUDA kernel that nvcc compiled (`vector_add.cu` beside this file), and asserts what it did to memory.

use ptx_emulator::{Device, Module};

fn main() -> Result<(), ptx_emulator::Error> {
    let module = Module::from_ptx(include_str!("vector_add.ptx"))?;
    let device = Device::new();
    let x = device.upload(&[1.0f32; 1000])?;
    let y = device.upload(&[2.0f32; 1000])?;
    let out = device.alloc::<f32>(1000)?;
    let report = module
        .launch("vector_add")
        .grid([4, 1, 1])
        .block([256, 1, 1])
        .arg(x)
        .arg(y)
        .arg(out)
        .arg(1000u32)
        .run(&device)?;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.bytes_loaded(x), 4 * 1000, "reads x exactly once");
    assert_eq!(device.read(out)?, [3.0; 1000]);
    println!("{report}");
    Ok(())
}
