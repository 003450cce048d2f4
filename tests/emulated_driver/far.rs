//! Rows of a batch more than 2^31 elements apart, each in memory of its own: addresses are worked out in 64 bits.

use crate::cuda::Cuda;
use crate::tensors::{Case, OnHost, compare};
use crate::{act, stream};
use ssm_kernels::gpu::Driver;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Axis, Device, Result, Slice, SliceMut, Storage};

const DIM: usize = 20;
const SEQLEN: usize = 37;
const DSTATE: usize = 16;
const WIDTH: usize = 4;
const SEQUENCE: usize = 2 * DIM * SEQLEN;
const ROWS: usize = 2 * DSTATE * SEQLEN;
const STATES: usize = 2 * DIM * DSTATE;

/// All but A and the weight are rows of a batch of 2.
const CASE: Case = Case {
    tensors: &[
        ("x", SEQUENCE),
        ("dt", SEQUENCE),
        ("A", DIM * DSTATE),
        ("B", ROWS),
        ("C", ROWS),
        ("z", SEQUENCE),
        ("initial_state", STATES),
        ("dout", SEQUENCE),
        ("weight", DIM * WIDTH),
        ("step", 2 * DIM),
        ("step_B", 2 * DSTATE),
        ("out", SEQUENCE),
        ("final_state", STATES),
        ("dx", SEQUENCE),
        ("ddt", SEQUENCE),
        ("dz", SEQUENCE),
        ("dB", ROWS),
        ("dC", ROWS),
        ("dinitial_state", STATES),
        ("convolved", SEQUENCE),
        ("step_out", 2 * DIM),
    ],
    computed: 11,
};
const MATRICES: [usize; 2] = [2, 8];

/// Where the tensors are, and how.
struct At<'p, S: Storage> {
    memory: &'p dyn Fn(usize) -> Slice<'static, f32, S>,
    memory_mut: &'p dyn Fn(usize) -> SliceMut<'static, f32, S>,
    /// Elements between the rows of a batch, if they are not beside each other.
    apart: Option<i64>,
}

impl<S: Storage> At<'_, S> {
    fn axes<const N: usize>(&self, dims: [(&'static str, usize); N]) -> Axes {
        let mut stride = 1;
        let mut axes = dims.map(|(name, extent)| Axis { name, extent, stride: 0 });
        for axis in axes.iter_mut().rev() {
            let far = self.apart.filter(|_| axis.name == "batch");
            axis.stride = far.unwrap_or(stride);
            stride *= axis.extent as i64;
        }
        Axes::from_slice(&axes).expect("at most four dimensions")
    }

    fn view<const N: usize>(&self, tensor: usize, dims: [(&'static str, usize); N]) -> View<'static, f32, S> {
        View::from_parts((self.memory)(tensor), self.axes(dims))
    }

    fn view_mut<const N: usize>(&self, tensor: usize, dims: [(&'static str, usize); N]) -> ViewMut<'static, f32, S> {
        ViewMut::from_parts((self.memory_mut)(tensor), self.axes(dims))
    }
}

/// A scan both ways, a convolution, and a step from the scan's last states.
fn layer<S, B>(backend: &B, at: &At<'_, S>) -> Result<()>
where
    S: Storage,
    B: Forward<SelectiveScan<'static, f32, S>>
        + Backward<SelectiveScan<'static, f32, S>>
        + Forward<CausalConv1d<'static, f32, f32, S>>
        + Forward<StateUpdate<'static, f32, f32, S>>,
{
    let sequence = [("batch", 2), ("dim", DIM), ("seqlen", SEQLEN)];
    let rows = [("batch", 2), ("ngroups", 1), ("dstate", DSTATE), ("seqlen", SEQLEN)];
    let states = [("batch", 2), ("dim", DIM), ("dstate", DSTATE)];
    let A = at.view(2, [("dim", DIM), ("dstate", DSTATE)]);
    let scan = SelectiveScan::new(at.view(0, sequence), at.view(1, sequence), A, at.view(3, rows), at.view(4, rows))?;
    let scan = scan.z(at.view(5, sequence)).initial_state(at.view(6, states)).dt_softplus(true);
    let (mut out, mut last) = (at.view_mut(11, sequence), at.view_mut(12, states));
    backend.forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut last))?;

    let [mut dx, mut ddt, mut dz] = [13, 14, 15].map(|tensor| at.view_mut(tensor, sequence));
    let ([dB, dC], mut dinitial) = ([16, 17].map(|tensor| at.view_mut(tensor, rows)), at.view_mut(18, states));
    let wanted = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dB(dB).dC(dC);
    let upstream = SelectiveScanUpstream::new().dout(at.view(7, sequence));
    backend.backward(&scan, upstream, wanted.dinitial_state(&mut dinitial))?;

    let conv = CausalConv1d::new(at.view(0, sequence), at.view(8, [("dim", DIM), ("width", WIDTH)]))?;
    backend.forward(&conv, CausalConv1dOutputs::new(&mut at.view_mut(19, sequence)))?;

    let (step, row) = ([("batch", 2), ("dim", DIM)], [("batch", 2), ("dstate", DSTATE)]);
    let B = at.view(10, row);
    let update = StateUpdate::new(at.view(9, step), at.view(9, step), A, B, B)?.dt_softplus(true);
    backend.forward(&update, StateUpdateOutputs::new(&mut last, &mut at.view_mut(20, step)))
}

/// The tensors on a device: halves are the rows of the batch.
struct Far<'c> {
    cuda: &'c Cuda,
    halves: [Vec<u64>; 2],
}

impl<'c> Far<'c> {
    fn new(cuda: &'c Cuda) -> Self {
        let count = |tensor: usize| CASE.tensors[tensor].1 / if MATRICES.contains(&tensor) { 1 } else { 2 };
        // Whatever is allocated lies 4 GiB behind what was allocated before.
        let halves = [0, 1].map(|half| {
            let allocated = (0..CASE.tensors.len()).map(|tensor| {
                let (address, count) = (cuda.alloc(4 * count(tensor)), count(tensor));
                let values = CASE.values(tensor, 0.0);
                let from = if MATRICES.contains(&tensor) { 0 } else { half * count };
                if tensor < CASE.computed {
                    cuda.write(address, &values[from..from + count]);
                }
                address
            });
            allocated.collect()
        });
        Self { cuda, halves }
    }

    /// Elements from one half to the other, the same for all tensors.
    fn apart(&self) -> u64 {
        (self.halves[1][0] - self.halves[0][0]) / 4
    }

    /// Elements from the first to the last.
    fn reach(&self, tensor: usize) -> usize {
        let count = CASE.tensors[tensor].1;
        if MATRICES.contains(&tensor) { count } else { self.apart() as usize + count / 2 }
    }

    fn check(&self, expected: &OnHost) {
        for tensor in CASE.computed..CASE.tensors.len() {
            let (name, count) = CASE.tensors[tensor];
            let got = self.halves.each_ref().map(|half| self.cuda.read(half[tensor], count / 2)).concat();
            compare(name, &got, expected.values(tensor));
        }
    }
}

#[test]
fn rows_far_apart() {
    let Some(printed) = act("far::scene_far", &[]) else { return };
    let apart = printed.lines().find_map(|line| line.strip_prefix("apart "));
    let apart: u64 = apart.and_then(|elements| elements.parse().ok()).expect("a number");
    assert!(apart > 1 << 32, "rows are {apart} elements apart");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_far() {
    let cuda = Cuda::load(0);
    let driver = Driver::open(0).expect("a device");
    let (raw, stream) = stream(&cuda);
    let far = Far::new(&cuda);
    println!("\napart {}", far.apart());
    // SAFETY: the elements that views reach are allocated, on device 0, and freed with the process; a call never gets one
    // tensor both as input and as output.
    let memory =
        |tensor: usize| unsafe { Slice::<f32, Device>::from_raw_parts(far.halves[0][tensor], far.reach(tensor), 0) };
    // SAFETY: as above.
    let memory_mut =
        |tensor: usize| unsafe { SliceMut::<f32, Device>::from_raw_parts(far.halves[0][tensor], far.reach(tensor), 0) };
    let at = At { memory: &memory, memory_mut: &memory_mut, apart: Some(far.apart() as i64) };
    layer(&driver.on(stream), &at).expect("enqueued");
    cuda.synchronise(raw);

    let host = OnHost::new(CASE, 0.0);
    let at = At { memory: &|tensor| host.at(tensor), memory_mut: &|tensor| host.at_mut(tensor), apart: None };
    layer(&Cpu::new(), &at).expect("computed");
    far.check(&host);
}
