//! The C side: structs as in `baseline.h`, and the functions of each compilation.

use super::{Attention, Conv, ConvGradients, Loops, Scan, ScanGradients, Shape, Zoh, expect};

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

/// `struct conv`.
#[repr(C)]
#[derive(Debug)]
pub struct RawConv {
    /// batch, dim, seqlen, width.
    extents: [usize; 4],
    strides: [usize; 3],
    /// x, weight, bias.
    inputs: [*const f32; 3],
}

/// `struct conv_gradients`.
#[repr(C)]
#[derive(Debug)]
pub struct RawConvGradients {
    /// dx, dweight, dbias.
    tensors: [*mut f32; 3],
}

/// `struct attention`.
#[repr(C)]
#[derive(Debug)]
pub struct RawAttention {
    /// batch, nheads, seqlen, dim.
    extents: [usize; 4],
    strides: [usize; 3],
    /// q, k, v, log_decay.
    inputs: [*const f32; 4],
    scale_squared: f32,
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

impl Conv<'_> {
    pub(super) fn raw(&self) -> RawConv {
        let Shape { batch, dim, seqlen, .. } = self.shape;
        let inputs = [self.x, self.weight, self.bias].map(<[f32]>::as_ptr);
        RawConv { extents: [batch, dim, seqlen, self.width], strides: self.shape.strides(dim), inputs }
    }
}

impl ConvGradients<'_> {
    pub(super) fn raw(&mut self, conv: &Conv<'_>) -> RawConvGradients {
        let dim = conv.shape.dim;
        expect("dx", self.dx, conv.shape.sequence());
        expect("dweight", self.dweight, dim * conv.width);
        expect("dbias", self.dbias, dim);
        RawConvGradients { tensors: [&mut *self.dx, self.dweight, self.dbias].map(<[f32]>::as_mut_ptr) }
    }
}

impl Attention<'_> {
    pub(super) fn raw(&self) -> RawAttention {
        let Shape { batch, dim: nheads, seqlen, dstate: dim, .. } = self.shape;
        RawAttention {
            extents: [batch, nheads, seqlen, dim],
            strides: self.shape.strides(nheads),
            inputs: [self.q, self.k, self.v, self.log_decay].map(<[f32]>::as_ptr),
            scale_squared: 1.0 / dim as f32,
        }
    }
}

/// Declares the functions, and the table of them for each compilation.
macro_rules! compilations {
    ($($field:ident($($name:ident: $type:ty),*) $(-> $returned:ty)?: $o3:ident, $fast_math:ident;)+) => {
        /// One compilation.
        #[derive(Debug)]
        pub struct Functions {
            $(pub $field: unsafe extern "C" fn($($type),*) $(-> $returned)?,)+
        }
        #[cfg(c_loops)]
        unsafe extern "C" {
            $(fn $o3($($name: $type),*) $(-> $returned)?; fn $fast_math($($name: $type),*) $(-> $returned)?;)+
        }
        #[cfg(c_loops)]
        static O3: Functions = Functions { $($field: $o3),+ };
        #[cfg(c_loops)]
        static FAST_MATH: Functions = Functions { $($field: $fast_math),+ };
    };
}
compilations! {
    scan_forward(scan: *const RawScan, out: *mut f32, state: *mut f32):
        ssm_baseline_scan_forward_o3, ssm_baseline_scan_forward_fast_math;
    scan_backward(scan: *const RawScan, dout: *const f32, gradients: *const RawGradients, scratch: *mut f32):
        ssm_baseline_scan_backward_o3, ssm_baseline_scan_backward_fast_math;
    zoh_forward(zoh: *const RawZoh, A_bar: *mut f32, B_bar: *mut f32):
        ssm_baseline_zoh_forward_o3, ssm_baseline_zoh_forward_fast_math;
    state_update(scan: *const RawScan, out: *mut f32, states: *mut f32):
        ssm_baseline_state_update_o3, ssm_baseline_state_update_fast_math;
    conv_forward(conv: *const RawConv, out: *mut f32):
        ssm_baseline_conv_forward_o3, ssm_baseline_conv_forward_fast_math;
    conv_backward(conv: *const RawConv, dout: *const f32, gradients: *const RawConvGradients):
        ssm_baseline_conv_backward_o3, ssm_baseline_conv_backward_fast_math;
    conv_update(conv: *const RawConv, out: *mut f32, states: *mut f32):
        ssm_baseline_conv_update_o3, ssm_baseline_conv_update_fast_math;
    attention_pairs(attention: *const RawAttention, out: *mut f32):
        ssm_baseline_attention_pairs_o3, ssm_baseline_attention_pairs_fast_math;
    attention_states(attention: *const RawAttention, out: *mut f32, state: *mut f32):
        ssm_baseline_attention_states_o3, ssm_baseline_attention_states_fast_math;
    attention_update(attention: *const RawAttention, out: *mut f32, states: *mut f32, norms: *mut f32):
        ssm_baseline_attention_update_o3, ssm_baseline_attention_update_fast_math;
    features() -> u32:
        ssm_baseline_features_o3, ssm_baseline_features_fast_math;
}

/// Whether this CPU has the extensions of these bits, which features.c sets.
pub fn has(features: u32) -> bool {
    #[cfg(target_arch = "x86_64")]
    let known = [
        std::is_x86_feature_detected!("avx"),
        std::is_x86_feature_detected!("avx2"),
        std::is_x86_feature_detected!("fma"),
        std::is_x86_feature_detected!("bmi1"),
        std::is_x86_feature_detected!("bmi2"),
        std::is_x86_feature_detected!("lzcnt"),
        std::is_x86_feature_detected!("avx512f"),
        std::is_x86_feature_detected!("avx512bw"),
        std::is_x86_feature_detected!("avx512dq"),
        std::is_x86_feature_detected!("avx512vl"),
        false,
        false,
    ];
    #[cfg(target_arch = "aarch64")]
    let known = {
        let mut known = [false; 12];
        known[10] = std::arch::is_aarch64_feature_detected!("sve");
        known[11] = std::arch::is_aarch64_feature_detected!("sve2");
        known
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known = [false; 12];
    let here = known.iter().enumerate().filter(|(_, has)| **has).fold(0, |all, (bit, _)| all | 1 << bit);
    features & !here == 0
}

/// Every compilation.
#[cfg(c_loops)]
pub static LOOPS: &[Loops] =
    &[Loops { name: "-O3", functions: &O3 }, Loops { name: "-O3 -ffast-math -march=native", functions: &FAST_MATH }];
/// No compiler was found.
#[cfg(not(c_loops))]
pub static LOOPS: &[Loops] = &[];

#[cfg(test)]
mod tests {
    use super::has;

    #[test]
    fn what_is_not_there_is_missed() {
        assert!(has(0) && !has(1 << 12) && !has(u32::MAX));
    }
}
