//! The C side: structs as in `baseline.h`, and the functions of each compilation.

use super::{Loops, Scan, ScanGradients, Shape, Zoh, expect};

#[repr(C)]
#[derive(Debug)]
struct RawShape {
    batch: usize,
    dim: usize,
    seqlen: usize,
    dstate: usize,
    strides: [usize; 3],
    rows_strides: [usize; 3],
}

impl RawShape {
    fn new(shape: &Shape) -> Self {
        let Shape { batch, dim, seqlen, dstate, .. } = *shape;
        Self { batch, dim, seqlen, dstate, strides: shape.strides(dim), rows_strides: shape.strides(dstate) }
    }
}

/// `struct scan`.
#[repr(C)]
#[derive(Debug)]
pub struct RawScan {
    shape: RawShape,
    /// x, dt, A, B, C, D, z, dt_bias.
    inputs: [*const f32; 8],
}

/// `struct scan_gradients`.
#[repr(C)]
#[derive(Debug)]
pub struct RawGradients {
    /// dx, ddt, dA, dB, dC, dD, dz, ddt_bias.
    tensors: [*mut f32; 8],
}

/// `struct zoh`.
#[repr(C)]
#[derive(Debug)]
pub struct RawZoh {
    shape: RawShape,
    /// dt, A, B, dt_bias.
    inputs: [*const f32; 4],
}

impl Scan<'_> {
    pub(super) fn raw(&self) -> RawScan {
        let inputs = [self.x, self.dt, self.A, self.B, self.C, self.D, self.z, self.dt_bias].map(<[f32]>::as_ptr);
        RawScan { shape: RawShape::new(&self.shape), inputs }
    }
}

impl ScanGradients<'_> {
    pub(super) fn raw(&mut self, shape: &Shape) -> RawGradients {
        let (sequence, rows, states, dim) = (shape.sequence(), shape.rows(), shape.states(), shape.dim);
        let tensors = [
            ("dx", &mut *self.dx, sequence),
            ("ddt", self.ddt, sequence),
            ("dA", self.dA, states),
            ("dB", self.dB, rows),
            ("dC", self.dC, rows),
            ("dD", self.dD, dim),
            ("dz", self.dz, sequence),
            ("ddt_bias", self.ddt_bias, dim),
        ];
        let pointer = |(name, tensor, elements): (&str, &mut [f32], usize)| {
            expect(name, tensor, elements);
            tensor.as_mut_ptr()
        };
        RawGradients { tensors: tensors.map(pointer) }
    }
}

impl Zoh<'_> {
    pub(super) fn raw(&self) -> RawZoh {
        let inputs = [self.dt, self.A, self.B, self.dt_bias].map(<[f32]>::as_ptr);
        RawZoh { shape: RawShape::new(&self.shape), inputs }
    }
}

/// One compilation.
#[derive(Debug)]
pub struct Functions {
    pub scan_forward: unsafe extern "C" fn(*const RawScan, *mut f32, *mut f32),
    pub scan_backward: unsafe extern "C" fn(*const RawScan, *const f32, *const RawGradients, *mut f32),
    pub zoh_forward: unsafe extern "C" fn(*const RawZoh, *mut f32, *mut f32),
    pub state_update: unsafe extern "C" fn(*const RawScan, *mut f32, *mut f32),
}

#[cfg(c_loops)]
macro_rules! compilation {
    ($functions:ident: $forward:ident, $backward:ident, $zoh:ident, $update:ident) => {
        unsafe extern "C" {
            fn $forward(scan: *const RawScan, out: *mut f32, state: *mut f32);
            fn $backward(scan: *const RawScan, dout: *const f32, gradients: *const RawGradients, scratch: *mut f32);
            fn $zoh(zoh: *const RawZoh, A_bar: *mut f32, B_bar: *mut f32);
            fn $update(scan: *const RawScan, out: *mut f32, states: *mut f32);
        }
        static $functions: Functions =
            Functions { scan_forward: $forward, scan_backward: $backward, zoh_forward: $zoh, state_update: $update };
    };
}
#[cfg(c_loops)]
compilation!(O3: ssm_baseline_scan_forward_o3, ssm_baseline_scan_backward_o3, ssm_baseline_zoh_forward_o3, ssm_baseline_state_update_o3);
#[cfg(c_loops)]
compilation!(FAST_MATH: ssm_baseline_scan_forward_fast_math, ssm_baseline_scan_backward_fast_math, ssm_baseline_zoh_forward_fast_math, ssm_baseline_state_update_fast_math);

/// Every compilation.
#[cfg(c_loops)]
pub static LOOPS: &[Loops] =
    &[Loops { name: "-O3", functions: &O3 }, Loops { name: "-O3 -ffast-math -march=native", functions: &FAST_MATH }];
/// No compiler was found.
#[cfg(not(c_loops))]
pub static LOOPS: &[Loops] = &[];
