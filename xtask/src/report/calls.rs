//! Calls of the selective scan, with z, D, dt_bias and softplus: run on the emulator, or only planned.

use std::cell::RefCell;

use half::{bf16, f16};
use ssm_kernels::gpu::{Checks, EmulatedBuffer, Emulator, Gpu, Launch, Launcher, Report};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Dtype, Element, Error, Result, Slice, SliceMut, View, ViewMut, WorkspaceBlock};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub backward: bool,
    pub batch: usize,
    pub dim: usize,
    pub dstate: usize,
    pub seqlen: usize,
    pub dtype: Dtype,
    /// Channels of a step side by side, instead of the steps of a channel.
    pub channel_last: bool,
    /// Rows begin one element beyond where they would be aligned.
    pub misaligned: bool,
    /// A is so large that next to nothing is left of a state after a step.
    pub decayed: bool,
    /// Parts of each sequence, if not as the plan would have it.
    pub split: Option<usize>,
    /// Lanes of each channel, if not as the plan would have it.
    pub lanes: Option<usize>,
}

impl Call {
    /// (batch, dim, seqlen), N = 16, bf16, the steps of a channel side by side.
    pub fn new(backward: bool, [batch, dim, seqlen]: [usize; 3]) -> Self {
        Self {
            backward,
            batch,
            dim,
            dstate: 16,
            seqlen,
            dtype: Dtype::BF16,
            channel_last: false,
            misaligned: false,
            decayed: false,
            split: None,
            lanes: None,
        }
    }

    /// In one part and with the fewest lanes that hold the states, whatever its plan would choose.
    pub fn whole(self) -> Self {
        Self { split: Some(1), lanes: Some(1), ..self }
    }

    fn element_bytes(&self) -> f64 {
        if self.dtype == Dtype::F32 { 4.0 } else { 2.0 }
    }

    pub fn elements(&self) -> f64 {
        (self.batch * self.dim * self.seqlen) as f64
    }

    /// Elements from the beginning of one row of steps to the next, which is aligned unless all are misaligned.
    fn pitch(&self) -> usize {
        if self.misaligned { self.seqlen } else { self.seqlen.next_multiple_of(8) }
    }

    pub fn state_steps(&self) -> f64 {
        self.elements() * self.dstate as f64
    }

    pub fn direction(&self) -> &'static str {
        if self.backward { "backward" } else { "forward" }
    }

    pub fn layout(&self) -> &'static str {
        match (self.channel_last, self.misaligned) {
            (false, false) => "steps side by side",
            (true, false) => "channels side by side",
            (false, true) => "steps side by side, misaligned",
            (true, true) => "channels side by side, misaligned",
        }
    }

    /// Bytes of x, dt, z and what is made of them that any kernel moves at the least: each once.
    pub fn least_bytes(&self) -> f64 {
        let tensors = if self.backward { 7.0 } else { 4.0 };
        tensors * self.element_bytes() * self.elements()
    }

    /// Of B and C and their gradients: each once.
    pub fn least_projection_bytes(&self) -> f64 {
        let tensors = if self.backward { 4.0 } else { 2.0 };
        tensors * self.element_bytes() * (self.batch * self.dstate * self.seqlen) as f64
    }
}

/// One launch of a call.
#[derive(Debug)]
pub struct Launched {
    pub kernel: &'static str,
    pub unit: &'static str,
    pub ptx: &'static str,
    pub blocks: usize,
    pub threads: u32,
    pub shared_bytes: u32,
    /// If it ran.
    pub report: Option<Report>,
}

/// A call and what became of it.
#[derive(Debug)]
pub struct Done {
    pub call: Call,
    pub launches: Vec<Launched>,
    pub split: usize,
    pub lanes: usize,
    /// Bytes loaded and stored per tensor, over all launches, if it ran.
    pub traffic: Vec<(&'static str, u64, u64)>,
}

/// Runs the call.
pub fn run(call: Call) -> Result<Done> {
    let emulator = Emulator::new().checks(Checks::BOUNDS);
    make_in_dtype(call, Some(&emulator))
}

/// Finds out what would be launched; nothing runs, no memory is taken.
pub fn plan(call: Call) -> Result<Done> {
    make_in_dtype(call, None)
}

fn make_in_dtype(call: Call, emulator: Option<&Emulator>) -> Result<Done> {
    match call.dtype {
        Dtype::F32 => make::<f32>(call, emulator),
        Dtype::F16 => make::<f16>(call, emulator),
        Dtype::BF16 => make::<bf16>(call, emulator),
        other => Err(Error::Unsupported { op: "report", what: other.to_string(), expected: "f32, f16 or bf16".into() }),
    }
}

/// Passes launches on to an emulator, if there is one, and keeps what they were.
struct Recorder<'e> {
    emulator: Option<&'e Emulator>,
    launches: RefCell<Vec<Launched>>,
}

impl Launcher for &Recorder<'_> {
    fn ordinal(&self) -> u32 {
        self.emulator.map_or(0, |emulator| emulator.ordinal())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        if let Some(emulator) = &self.emulator {
            // SAFETY: what the caller guarantees is passed on.
            unsafe { emulator.launch(launch)? };
        }
        self.launches.borrow_mut().push(Launched {
            kernel: launch.kernel,
            unit: launch.module.unit,
            ptx: launch.module.ptx,
            blocks: launch.grid.iter().map(|&blocks| blocks as usize).product(),
            threads: launch.block.iter().product(),
            shared_bytes: launch.shared_bytes,
            report: self.emulator.and_then(|emulator| emulator.take_reports().pop()),
        });
        Ok(())
    }

    fn with_workspace(
        &self,
        plan: &Plan,
        run: &mut dyn FnMut(SliceMut<'_, WorkspaceBlock, Device>) -> Result<()>,
    ) -> Result<()> {
        match &self.emulator {
            Some(emulator) => emulator.with_workspace(plan, run),
            None => {
                let blocks = plan.workspace_blocks();
                // SAFETY: no kernel will read or write it.
                run(unsafe { SliceMut::<WorkspaceBlock, Device>::from_raw_parts(1 << 60, blocks, 0) })
            }
        }
    }
}

/// A tensor's memory: on the emulator, or a place where nothing is.
struct Place<'e, T: bytemuck::Pod> {
    name: &'static str,
    buffer: Option<EmulatedBuffer<'e, T>>,
    address: u64,
    elements: usize,
    ordinal: u32,
}

impl<'e, T: bytemuck::Pod> Place<'e, T> {
    fn slice(&self) -> Slice<'_, T, Device> {
        // SAFETY: the buffer's own memory, which lives as long; or none, which no kernel touches.
        unsafe { Slice::<T, Device>::from_raw_parts(self.address, self.elements, self.ordinal) }
    }

    fn slice_mut(&mut self) -> SliceMut<'_, T, Device> {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { SliceMut::<T, Device>::from_raw_parts(self.address, self.elements, self.ordinal) }
    }

    fn traffic(&self, launches: &[Launched]) -> Option<(&'static str, u64, u64)> {
        let raw = self.buffer.as_ref()?.raw();
        let sum = |count: &dyn Fn(&Report) -> u64| launches.iter().flat_map(|one| &one.report).map(count).sum();
        Some((self.name, sum(&|report| report.bytes_loaded(raw)), sum(&|report| report.bytes_stored(raw))))
    }
}

/// A of calls in which states decay at once.
const DECAYING: &str = "large A";

/// Where tensors are placed.
struct Room<'e> {
    emulator: Option<&'e Emulator>,
    next: u64,
}

impl<'e> Room<'e> {
    /// Numbers that no kernel finds extraordinary, some elements more than asked for.
    fn take<T: Element>(&mut self, name: &'static str, elements: usize, skip: usize) -> Result<Place<'e, T>> {
        // A is negative, as every model has it: the kernels have a shorter loop for that.
        let value = |i: usize| match ((i * 37 + 11) % 101) as f32 / 101.0 - 0.75 {
            value if name == "A" => T::from_f32(-value.abs()),
            value if name == DECAYING => T::from_f32(-64.0 * value.abs()),
            value => T::from_f32(value),
        };
        let buffer = match self.emulator {
            Some(emulator) => Some(emulator.upload(&(0..elements + skip).map(value).collect::<Vec<T>>())?),
            None => None,
        };
        self.next += 1 << 44;
        let start = buffer.as_ref().map_or(self.next, |buffer| buffer.raw().address());
        let address = start + (skip * size_of::<T>()) as u64;
        Ok(Place { name, buffer, address, elements, ordinal: self.emulator.map_or(0, |emulator| emulator.ordinal()) })
    }

    fn floats(&mut self, name: &'static str, elements: usize) -> Result<Place<'e, f32>> {
        self.take(name, elements, 0)
    }

    fn elements<T: Element>(&mut self, name: &'static str, call: &Call, elements: usize) -> Result<Place<'e, T>> {
        self.take(name, elements, usize::from(call.misaligned))
    }
}

fn sequence(call: &Call) -> Axes {
    let Call { batch, dim, seqlen, .. } = *call;
    match call.channel_last {
        true => Axes::dense([("batch", batch), ("seqlen", seqlen), ("dim", dim)]),
        false => {
            let pitch = call.pitch() as i64;
            Axes::strided([("batch", batch, dim as i64 * pitch), ("dim", dim, pitch), ("seqlen", seqlen, 1)])
        }
    }
}

fn projection(call: &Call) -> Axes {
    let Call { batch, dstate, seqlen, .. } = *call;
    match call.channel_last {
        true => Axes::dense([("batch", batch), ("seqlen", seqlen), ("ngroups", 1), ("dstate", dstate)]),
        false => {
            let pitch = call.pitch() as i64;
            let group = dstate as i64 * pitch;
            let groups = [("batch", batch, group), ("ngroups", 1, group)];
            Axes::strided([groups[0], groups[1], ("dstate", dstate, pitch), ("seqlen", seqlen, 1)])
        }
    }
}

fn make<T: Element>(call: Call, emulator: Option<&Emulator>) -> Result<Done> {
    let mut room = Room { emulator, next: 0 };
    let elements = call.batch * call.dim * call.pitch();
    let rows = call.batch * call.dstate * call.pitch();
    let [x, dt, z, dout] = ["x", "dt", "z", "dout"].map(|name| room.elements(name, &call, elements));
    let [B, C] = ["B", "C"].map(|name| room.elements(name, &call, rows));
    let (x, dt, z, dout, B, C) = (x?, dt?, z?, dout?, B?, C?);
    let A = room.floats(if call.decayed { DECAYING } else { "A" }, call.dim * call.dstate)?;
    let (D, dt_bias) = (room.floats("D", call.dim)?, room.floats("dt_bias", call.dim)?);
    let view = |place| View::from_parts(Place::<T>::slice(place), sequence(&call));
    let row = |place| View::from_parts(Place::<T>::slice(place), projection(&call));
    let channels = [("dim", call.dim)];
    let scan = SelectiveScan::new(
        view(&x),
        view(&dt),
        View::from_parts(A.slice(), Axes::dense([("dim", call.dim), ("dstate", call.dstate)])),
        row(&B),
        row(&C),
    )?
    .D(View::from_parts(D.slice(), Axes::dense(channels)))
    .z(view(&z))
    .dt_bias(View::from_parts(dt_bias.slice(), Axes::dense(channels)))
    .dt_softplus(true);
    let scan = match call.split {
        Some(parts) => scan.split(parts),
        None => scan,
    };
    let recorder = Recorder { emulator, launches: RefCell::default() };
    let gpu = Gpu::new(&recorder);
    let gpu = call.lanes.map_or(gpu, |lanes| gpu.lanes(lanes));
    let (plan, outputs) = match call.backward {
        false => (gpu.forward_plan(&scan)?, forward(&call, &mut room, &gpu, &scan)?),
        true => (gpu.backward_plan(&scan)?, backward(&call, &mut room, &gpu, &scan, view(&dout))?),
    };
    let launches = recorder.launches.into_inner();
    let inputs = [&x, &dt, &z, &dout, &B, &C].into_iter().chain(&outputs);
    let traffic = inputs.filter_map(|place| place.traffic(&launches)).collect();
    Ok(Done { call, launches, split: plan.split, lanes: plan.lanes, traffic })
}

type Outputs<'e, T> = Vec<Place<'e, T>>;
type Recorded<'r, 'e> = Gpu<&'r Recorder<'e>>;

fn forward<'e, T: Element>(
    call: &Call,
    room: &mut Room<'e>,
    gpu: &Recorded<'_, 'e>,
    scan: &SelectiveScan<'_, T, Device>,
) -> Result<Outputs<'e, T>> {
    let mut out = room.elements("out", call, call.batch * call.dim * call.pitch())?;
    gpu.forward(scan, SelectiveScanOutputs::new(&mut ViewMut::from_parts(out.slice_mut(), sequence(call))))?;
    Ok(vec![out])
}

/// With the checkpoints that forward saves, and all gradients but the initial state's.
fn backward<'e, T: Element>(
    call: &Call,
    room: &mut Room<'e>,
    gpu: &Recorded<'_, 'e>,
    scan: &SelectiveScan<'_, T, Device>,
    dout: View<'_, T, Device>,
) -> Result<Outputs<'e, T>> {
    let elements = call.batch * call.dim * call.pitch();
    let every = scan.checkpoint_every()?;
    let chunks = *scan.chunk_offsets(every)?.last().unwrap_or(&0);
    let (dim, dstate) = (("dim", call.dim), ("dstate", call.dstate));
    let checkpoints = room.floats("checkpoints", chunks * call.dim * call.dstate)?;
    let checkpoints = View::from_parts(checkpoints.slice(), Axes::dense([("nchunks", chunks), dim, dstate]));
    let upstream = SelectiveScanUpstream::new().dout(dout).checkpoints(every, checkpoints);
    let [dx, ddt, dz] = ["dx", "ddt", "dz"].map(|name| room.elements(name, call, elements));
    let [dB, dC] = ["dB", "dC"].map(|name| room.elements(name, call, call.batch * call.dstate * call.pitch()));
    let (mut dx, mut ddt, mut dz, mut dB, mut dC) = (dx?, ddt?, dz?, dB?, dC?);
    let mut dA = room.floats("dA", call.dim * call.dstate)?;
    let (mut dD, mut ddt_bias) = (room.floats("dD", call.dim)?, room.floats("ddt_bias", call.dim)?);
    let mut dA_view = ViewMut::from_parts(dA.slice_mut(), Axes::dense([dim, dstate]));
    let [mut dx_view, mut ddt_view, mut dz_view] =
        [&mut dx, &mut ddt, &mut dz].map(|place| ViewMut::from_parts(place.slice_mut(), sequence(call)));
    let mut dD_view = ViewMut::from_parts(dD.slice_mut(), Axes::dense([dim]));
    let mut ddt_bias_view = ViewMut::from_parts(ddt_bias.slice_mut(), Axes::dense([dim]));
    let wanted = SelectiveScanGradients::new()
        .dx(&mut dx_view)
        .ddt(&mut ddt_view)
        .dz(&mut dz_view)
        .dA(&mut dA_view)
        .dB(ViewMut::from_parts(dB.slice_mut(), projection(call)))
        .dC(ViewMut::from_parts(dC.slice_mut(), projection(call)))
        .dD(&mut dD_view)
        .ddt_bias(&mut ddt_bias_view);
    gpu.backward(scan, upstream, wanted)?;
    Ok(vec![dx, ddt, dz, dB, dC])
}

impl Done {
    /// Global memory that instructions touched: bytes lane by lane, and 32 for each sector warp by warp.
    pub fn moved(&self) -> Moved {
        let mut moved = Moved::default();
        for report in self.launches.iter().flat_map(|one| &one.report) {
            moved.bytes += (report.global_bytes_loaded() + report.global_bytes_stored()) as f64;
            moved.sector_bytes += 32.0 * (report.sectors_loaded() + report.sectors_stored()) as f64;
            moved.bank_conflicts += report.bank_conflicts();
            moved.instructions += report.warp_instructions();
        }
        let is_projection = |name: &str| ["B", "C", "dB", "dC"].contains(&name);
        for (name, loaded, stored) in &self.traffic {
            let place = if is_projection(name) { &mut moved.projections } else { &mut moved.sequences };
            *place += (loaded + stored) as f64;
        }
        moved
    }
}

/// Traffic of a call.
#[derive(Debug, Default, Clone, Copy)]
pub struct Moved {
    /// Of x, dt, z, dout and what is written in their shape.
    pub sequences: f64,
    /// Of B, C and their gradients.
    pub projections: f64,
    /// Of everything, workspace included.
    pub bytes: f64,
    pub sector_bytes: f64,
    pub bank_conflicts: u64,
    /// Of PTX, by warps.
    pub instructions: u64,
}
