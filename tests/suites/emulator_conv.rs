//! The causal convolution on the emulated device: what its kernels move, and what they do with an index beyond the slots.

use half::bf16;
use ssm_kernels::gpu::{Emulator, Report};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Element};

const BATCH: usize = 2;
/// One of each kernel.
const WIDTHS: [usize; 4] = [2, 3, 4, 16];

/// Memory order of x and out, dim and seqlen.
#[derive(Debug, Clone, Copy)]
struct Shape {
    channel_last: bool,
    dim: usize,
    seqlen: usize,
}

impl Shape {
    fn axes(self) -> Axes {
        match self.channel_last {
            true => Axes::dense([("batch", BATCH), ("seqlen", self.seqlen), ("dim", self.dim)]),
            false => Axes::dense([("batch", BATCH), ("dim", self.dim), ("seqlen", self.seqlen)]),
        }
    }

    fn elements(self) -> usize {
        BATCH * self.dim * self.seqlen
    }

    /// Elements that are read again because taps reach over the borders of tiles: before them, and behind them.
    fn halos(self, width: usize) -> [usize; 2] {
        let steps = if self.channel_last { 64 } else { 512 };
        let borders = (1..self.seqlen.div_ceil(steps)).map(|tile| tile * steps);
        let behind: usize = borders.clone().map(|border| (self.seqlen - border).min(width - 1)).sum();
        [borders.count() * (width - 1), behind].map(|steps| BATCH * self.dim * steps)
    }

    /// Sectors that the elements cover, row by row where steps are neighbours.
    fn sectors(self, size: usize) -> u64 {
        let (rows, len) = if self.channel_last { (1, self.elements()) } else { (BATCH * self.dim, self.seqlen) };
        let covered = |row: usize| ((row + 1) * len * size).div_ceil(32) - row * len * size / 32;
        (0..rows).map(covered).sum::<usize>() as u64
    }
}

/// Both orders; with rows that begin anywhere in a sector, and channels that fill theirs.
const SHAPES: [Shape; 4] = [
    Shape { channel_last: true, dim: 256, seqlen: 130 },
    Shape { channel_last: true, dim: 48, seqlen: 64 },
    Shape { channel_last: false, dim: 5, seqlen: 1031 },
    Shape { channel_last: false, dim: 8, seqlen: 512 },
];

fn view<'v, T: Element>(memory: &'v ssm_kernels::gpu::EmulatedBuffer<'_, T>, shape: Shape) -> View<'v, T, Device> {
    View::from_parts(memory.slice(), shape.axes())
}

fn only(device: &Emulator) -> Report {
    let mut reports = device.take_reports();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

/// Forward: x once per tile, and before each tile but the first as many steps as taps reach; out once, in whole sectors.
fn forward<T: Element>(shape: Shape, width: usize) {
    let (device, size) = (Emulator::new(), size_of::<T>());
    let x = device.upload(&vec![T::from_f32(0.5); shape.elements()]).expect("room");
    let weight = device.upload(&vec![0.25f32; shape.dim * width]).expect("room");
    let mut out = device.alloc::<T>(shape.elements()).expect("room");
    let op = CausalConv1d::new(view(&x, shape), weight.view([("dim", shape.dim), ("width", width)])).expect("valid");
    {
        let mut out = ViewMut::from_parts(out.slice_mut(), shape.axes());
        device.gpu().forward(&op.silu(true), CausalConv1dOutputs::new(&mut out)).expect("clean");
    }
    let report = only(&device);
    let [before, _] = shape.halos(width);
    assert_eq!(report.bytes_loaded(x.raw()), ((shape.elements() + before) * size) as u64, "{shape:?}, {width} taps");
    assert_eq!(report.bytes_loaded(out.raw()), 0, "{shape:?}, {width} taps");
    assert_eq!(report.bytes_stored(out.raw()), (shape.elements() * size) as u64, "{shape:?}, {width} taps");
    assert_eq!(report.sectors_stored(), shape.sectors(size), "{shape:?}, {width} taps");
}

/// Backward: x likewise, and x and dout behind each tile but the last as far as its inputs reach; dx once.
fn backward<T: Element>(shape: Shape, width: usize) {
    let (device, size) = (Emulator::new(), size_of::<T>());
    let [x, dout] = [0.5, 0.25].map(|value| device.upload(&vec![T::from_f32(value); shape.elements()]).expect("room"));
    let weight = device.upload(&vec![0.25f32; shape.dim * width]).expect("room");
    let mut dx = device.alloc::<T>(shape.elements()).expect("room");
    let op = CausalConv1d::new(view(&x, shape), weight.view([("dim", shape.dim), ("width", width)])).expect("valid");
    {
        let mut dx = ViewMut::from_parts(dx.slice_mut(), shape.axes());
        let upstream = CausalConv1dUpstream::new().dout(view(&dout, shape));
        let gradients = CausalConv1dGradients::new().dx(&mut dx);
        device.gpu().backward(&op.silu(true), upstream, gradients).expect("clean");
    }
    let report = only(&device);
    let [before, behind] = shape.halos(width);
    assert_eq!(
        report.bytes_loaded(x.raw()),
        ((shape.elements() + before + behind) * size) as u64,
        "{shape:?}, {width} taps"
    );
    assert_eq!(report.bytes_loaded(dout.raw()), ((shape.elements() + behind) * size) as u64, "{shape:?}, {width} taps");
    assert_eq!(report.bytes_stored(dx.raw()), (shape.elements() * size) as u64, "{shape:?}, {width} taps");
    // The sums do not move with the memory: where rows begin inside sectors, so do chunks.
    if shape.channel_last || (shape.seqlen * size).is_multiple_of(32) {
        assert_eq!(report.sectors_stored(), shape.sectors(size), "{shape:?}, {width} taps");
    }
}

#[test]
fn x_is_read_once_and_whole_sectors_are_stored() {
    for (shape, width) in SHAPES.into_iter().flat_map(|shape| WIDTHS.map(|width| (shape, width))) {
        forward::<f32>(shape, width);
        forward::<bf16>(shape, width);
        backward::<f32>(shape, width);
        backward::<bf16>(shape, width);
    }
}

/// Packed sequences: a tile reads nothing of another sequence, and each stores whole sectors wherever it begins.
fn packed<T: Element>(channel_last: bool, width: usize) {
    let (lengths, size) = ([513usize, 1, 0, 1100, 7, 64, 129], size_of::<T>());
    let ends = lengths.iter().scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    let starts: Vec<usize> = std::iter::once(0).chain(ends).collect();
    let segments = Segments::new(&starts.iter().map(|&start| start as i32).collect::<Vec<_>>()).expect("valid");
    // Channels that fill their sectors, or rows that begin anywhere in one.
    let (dim, seqlen, steps) = if channel_last { (48, starts[7], 64) } else { (5, starts[7], 512) };
    let axes = match channel_last {
        true => Axes::dense([("batch", 1), ("seqlen", seqlen), ("dim", dim)]),
        false => Axes::dense([("batch", 1), ("dim", dim), ("seqlen", seqlen)]),
    };
    let device = Emulator::new();
    let x = device.upload(&vec![T::from_f32(0.5); dim * seqlen]).expect("room");
    let weight = device.upload(&vec![0.25f32; dim * width]).expect("room");
    let table = device.upload(segments.cu_seqlens()).expect("room");
    let mut out = device.alloc::<T>(dim * seqlen).expect("room");
    {
        let weight = weight.view([("dim", dim), ("width", width)]);
        let op = CausalConv1d::new(View::from_parts(x.slice(), axes), weight).expect("valid");
        // SAFETY: the table is the boundaries.
        let op = unsafe { op.segments_on(&segments, table.slice()) };
        let mut out = ViewMut::from_parts(out.slice_mut(), axes);
        device.gpu().forward(&op, CausalConv1dOutputs::new(&mut out)).expect("clean");
    }
    let report = only(&device);
    let borders: usize = lengths.iter().map(|len| len.div_ceil(steps).saturating_sub(1)).sum();
    let read = dim * (seqlen + borders * (width - 1)) * size;
    assert_eq!(report.bytes_loaded(x.raw()), read as u64, "channel-last {channel_last}, {width} taps");
    assert_eq!(report.bytes_stored(out.raw()), (dim * seqlen * size) as u64);
    let (rows, len) = if channel_last { (1, dim) } else { (dim, 1) };
    let row = |row: usize, seq: usize| {
        let [from, to] = [starts[seq], starts[seq + 1]].map(|t| (row * seqlen + t) * len * size);
        if from == to { 0 } else { to.div_ceil(32) - from / 32 }
    };
    let sectors = (0..rows).flat_map(|d| (0..lengths.len()).map(move |seq| (d, seq))).map(|(d, seq)| row(d, seq));
    assert_eq!(report.sectors_stored(), sectors.sum::<usize>() as u64, "channel-last {channel_last}, {width} taps");
}

#[test]
fn packed_sequences_read_their_own_and_store_whole_sectors() {
    for (channel_last, width) in [false, true].into_iter().flat_map(|order| WIDTHS.map(|width| (order, width))) {
        packed::<f32>(channel_last, width);
        packed::<bf16>(channel_last, width);
    }
}

/// An index that nobody has checked: its row is padding, no slot changes, and the word says so.
#[test]
fn an_index_beyond_the_slots_is_flagged() {
    let device = Emulator::new();
    for (indices, flagged) in [([1, -1, 0], 0), ([1, 3, 0], 1), ([i32::MAX, 2, i32::MIN], 1)] {
        let x = device.upload(&[5.0f32, 6.0, 7.0]).expect("room");
        let weight = device.upload(&[1.0f32, 10.0]).expect("room");
        let list = device.upload(&indices).expect("room");
        let mut state = device.upload(&[1.0f32, 2.0, 3.0]).expect("room");
        let (mut out, mut word) = (device.alloc::<f32>(3).expect("room"), device.upload(&[0u32]).expect("room"));
        let sequence = [("batch", 3), ("dim", 1), ("seqlen", 1)];
        {
            let op = CausalConv1dUpdate::new(x.view(sequence), weight.view([("dim", 1), ("width", 2)])).expect("valid");
            // SAFETY: no slot is there twice.
            let op = unsafe { op.state_indices_on(list.slice()) };
            let (mut out, mut word) = (out.view_mut(sequence), word.view_mut([("flag", 1)]));
            let mut state = state.view_mut([("slots", 3), ("dim", 1), ("state_len", 1)]);
            let outputs = CausalConv1dUpdateOutputs::new(&mut out, &mut state).out_of_range(&mut word);
            device.gpu().forward(&op, outputs).expect("clean");
        }
        let (mut expected_out, mut expected_state) = ([0.0; 3], [1.0, 2.0, 3.0]);
        for (b, &slot) in indices.iter().enumerate().filter(|(_, slot)| (0..3).contains(*slot)) {
            let x = 5.0 + b as f32;
            expected_out[b] = expected_state[slot as usize] + 10.0 * x;
            expected_state[slot as usize] = x;
        }
        assert_eq!(out.download().expect("its memory"), expected_out, "{indices:?}");
        assert_eq!(state.download().expect("its memory"), expected_state, "{indices:?}");
        assert_eq!(word.download().expect("its memory"), [flagged], "{indices:?}");
    }
}
