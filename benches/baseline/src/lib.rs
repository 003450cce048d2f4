//! What the benches of ssm-kernels measure beside: plain C loops, the implementation that people write, and the clock.
//!
//! The loops are compiled twice, with `-O3` and with `-O3 -ffast-math -march=native`. Without a C compiler the crate builds
//! all the same, and [`loops`] is empty.

// A, B, C and D are the field's names.
#![allow(non_snake_case)]

mod attention;
mod clock;
mod ffi;

pub use attention::Attention;
pub use clock::{HAS_CPU_CLOCK, cpu_time};

/// How (batch, dim, seqlen) tensors lie, and with them B and C, (batch, dstate, seqlen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// batch, dim, seqlen; B and C batch, dstate, seqlen.
    Dense,
    /// batch, seqlen, dim; B and C batch, seqlen, dstate.
    ChannelLast,
}

/// Extents and layout of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the batch.
    pub batch: usize,
    /// Channels.
    pub dim: usize,
    /// Steps.
    pub seqlen: usize,
    /// States per channel.
    pub dstate: usize,
    /// Order of memory.
    pub layout: Layout,
}

impl Shape {
    /// Elements of x, dt, z, out.
    pub fn sequence(&self) -> usize {
        self.batch * self.dim * self.seqlen
    }

    /// Elements of B, and of C.
    pub fn rows(&self) -> usize {
        self.batch * self.dstate * self.seqlen
    }

    /// Elements of A.
    pub fn states(&self) -> usize {
        self.dim * self.dstate
    }

    /// What [`Loops::scan_backward`] needs as scratch: the states of a channel, two rows more than it has steps.
    pub fn scratch(&self) -> usize {
        (self.seqlen + 2) * self.dstate
    }

    fn strides(&self, inner: usize) -> [usize; 3] {
        match self.layout {
            Layout::Dense => [inner * self.seqlen, self.seqlen, 1],
            Layout::ChannelLast => [inner * self.seqlen, 1, inner],
        }
    }
}

/// The inputs of a selective scan with every option on: softplus, dt_bias, D and z.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Extents and layout.
    pub shape: Shape,
    /// Input.
    pub x: &'a [f32],
    /// Raw step.
    pub dt: &'a [f32],
    /// (dim, dstate).
    pub A: &'a [f32],
    /// Input projection, one group.
    pub B: &'a [f32],
    /// Output projection, one group.
    pub C: &'a [f32],
    /// (dim).
    pub D: &'a [f32],
    /// Gate.
    pub z: &'a [f32],
    /// (dim).
    pub dt_bias: &'a [f32],
}

/// The gradients of a selective scan, each like its input.
#[derive(Debug)]
pub struct ScanGradients<'o> {
    /// By x.
    pub dx: &'o mut [f32],
    /// By dt.
    pub ddt: &'o mut [f32],
    /// By A.
    pub dA: &'o mut [f32],
    /// By B.
    pub dB: &'o mut [f32],
    /// By C.
    pub dC: &'o mut [f32],
    /// By D.
    pub dD: &'o mut [f32],
    /// By z.
    pub dz: &'o mut [f32],
    /// By dt_bias.
    pub ddt_bias: &'o mut [f32],
}

/// The inputs of a discretisation with zero-order hold, softplus and dt_bias.
#[derive(Debug, Clone, Copy)]
pub struct Zoh<'a> {
    /// Extents and layout. Outputs have dstate as their last dimension, and lie like dt in the others.
    pub shape: Shape,
    /// Raw step.
    pub dt: &'a [f32],
    /// (dim, dstate).
    pub A: &'a [f32],
    /// Input projection, one group.
    pub B: &'a [f32],
    /// (dim).
    pub dt_bias: &'a [f32],
}

/// The inputs of a causal convolution with bias and silu.
#[derive(Debug, Clone, Copy)]
pub struct Conv<'a> {
    /// Extents and layout. There are no states: dstate is not looked at.
    pub shape: Shape,
    /// Taps.
    pub width: usize,
    /// Input.
    pub x: &'a [f32],
    /// (dim, width).
    pub weight: &'a [f32],
    /// (dim).
    pub bias: &'a [f32],
}

/// The gradients of a causal convolution, each like its input.
#[derive(Debug)]
pub struct ConvGradients<'o> {
    /// By x.
    pub dx: &'o mut [f32],
    /// By the weight.
    pub dweight: &'o mut [f32],
    /// By the bias.
    pub dbias: &'o mut [f32],
}

/// The loops as one compiler made them.
#[derive(Debug, Clone, Copy)]
pub struct Loops {
    name: &'static str,
    functions: &'static ffi::Functions,
}

/// The loops by `-O3` and by `-O3 -ffast-math -march=native`, in this order; none where no C compiler was found, and the second
/// only where the CPU has what that of the machine had which compiled them (of the extensions in features.c).
pub fn loops() -> &'static [Loops] {
    let here = ffi::LOOPS.iter().take_while(|loops| loops.run_here()).count();
    &ffi::LOOPS[..here]
}

/// Whether there are loops that this CPU cannot run.
pub fn has_foreign_loops() -> bool {
    loops().len() < ffi::LOOPS.len()
}

fn expect(name: &str, tensor: &[f32], elements: usize) {
    assert_eq!(tensor.len(), elements, "elements of {name}");
}

impl Loops {
    fn run_here(&self) -> bool {
        // SAFETY: it returns a constant.
        ffi::has(unsafe { (self.functions.features)() })
    }

    /// The flags that made them.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The recurrence, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn scan_forward(&self, scan: &Scan<'_>, out: &mut [f32], scratch: &mut [f32]) {
        scan.check();
        expect("out", out, scan.shape.sequence());
        expect("scratch", scratch, scan.shape.scratch());
        // SAFETY: every tensor has the elements that the shape says, and scratch has more than dstate.
        unsafe { (self.functions.scan_forward)(&scan.raw(), out.as_mut_ptr(), scratch.as_mut_ptr()) }
    }

    /// The steps of a scan as tokens of a state update, in place in `states`, (batch, dim, dstate); in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn state_update(&self, scan: &Scan<'_>, out: &mut [f32], states: &mut [f32]) {
        scan.check();
        expect("out", out, scan.shape.sequence());
        expect("states", states, scan.shape.batch * scan.shape.states());
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.state_update)(&scan.raw(), out.as_mut_ptr(), states.as_mut_ptr()) }
    }

    /// All gradients, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn scan_backward(&self, scan: &Scan<'_>, dout: &[f32], gradients: &mut ScanGradients<'_>, scratch: &mut [f32]) {
        scan.check();
        expect("dout", dout, scan.shape.sequence());
        expect("scratch", scratch, scan.shape.scratch());
        let raw = gradients.raw(&scan.shape);
        // SAFETY: every tensor has the elements that the shape says, and scratch the states of a channel and a row more.
        unsafe { (self.functions.scan_backward)(&scan.raw(), dout.as_ptr(), &raw, scratch.as_mut_ptr()) }
    }

    /// A_bar and B_bar, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn zoh_forward(&self, zoh: &Zoh<'_>, A_bar: &mut [f32], B_bar: &mut [f32]) {
        let shape = &zoh.shape;
        expect("dt", zoh.dt, shape.sequence());
        expect("A", zoh.A, shape.states());
        expect("B", zoh.B, shape.rows());
        expect("dt_bias", zoh.dt_bias, shape.dim);
        expect("A_bar", A_bar, shape.sequence() * shape.dstate);
        expect("B_bar", B_bar, shape.sequence() * shape.dstate);
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.zoh_forward)(&zoh.raw(), A_bar.as_mut_ptr(), B_bar.as_mut_ptr()) }
    }
}

impl Loops {
    /// The convolution, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than shape and width say.
    pub fn conv_forward(&self, conv: &Conv<'_>, out: &mut [f32]) {
        conv.check();
        expect("out", out, conv.shape.sequence());
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.conv_forward)(&conv.raw(), out.as_mut_ptr()) }
    }

    /// All gradients of the convolution, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than shape and width say.
    pub fn conv_backward(&self, conv: &Conv<'_>, dout: &[f32], gradients: &mut ConvGradients<'_>) {
        conv.check();
        expect("dout", dout, conv.shape.sequence());
        let raw = gradients.raw(conv);
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.conv_backward)(&conv.raw(), dout.as_ptr(), &raw) }
    }

    /// The steps of x as tokens behind those that `states`, (batch, dim, width - 1), remember; in place, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than shape and width say.
    pub fn conv_update(&self, conv: &Conv<'_>, out: &mut [f32], states: &mut [f32]) {
        conv.check();
        expect("out", out, conv.shape.sequence());
        expect("states", states, conv.shape.batch * conv.shape.dim * (conv.width - 1));
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.conv_update)(&conv.raw(), out.as_mut_ptr(), states.as_mut_ptr()) }
    }
}

impl Conv<'_> {
    fn check(&self) {
        assert!(self.width > 0, "a convolution has a tap at least");
        expect("x", self.x, self.shape.sequence());
        expect("weight", self.weight, self.shape.dim * self.width);
        expect("bias", self.bias, self.shape.dim);
    }
}

impl Scan<'_> {
    fn check(&self) {
        let shape = &self.shape;
        [("x", self.x), ("dt", self.dt), ("z", self.z)].iter().for_each(|(name, t)| expect(name, t, shape.sequence()));
        [("B", self.B), ("C", self.C)].iter().for_each(|(name, t)| expect(name, t, shape.rows()));
        [("D", self.D), ("dt_bias", self.dt_bias)].iter().for_each(|(name, t)| expect(name, t, shape.dim));
        expect("A", self.A, shape.states());
    }
}
