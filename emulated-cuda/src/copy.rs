//! Copies and fills.

use crate::capture;
use crate::codes::{Code, Result};
use crate::edge::{Handle, In, exports};
use crate::queue::{submit, submit_and_wait};
use crate::state::{State, device_of, lock};
use crate::work::{Source, Work, host_in};

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Device(u64),
    Host(usize),
}

impl End {
    /// By what the address is.
    fn of(address: u64) -> Self {
        if device_of(address).is_some() { Self::Device(address) } else { Self::Host(address as usize) }
    }

    fn at(self, offset: usize) -> Self {
        match self {
            Self::Device(address) => Self::Device(address.wrapping_add(offset as u64)),
            Self::Host(address) => Self::Host(address.wrapping_add(offset)),
        }
    }

    fn check(self, state: &State, len: usize) -> Result<()> {
        match self {
            Self::Device(address) => state.inside(address, len).map(drop),
            Self::Host(0) => Err(Code::INVALID_VALUE),
            Self::Host(_) => Ok(()),
        }
    }

    fn is_pageable(self, state: &State, len: usize) -> bool {
        matches!(self, Self::Host(address) if !state.pinned(address, len))
    }
}

/// The bytes of the host: pageable ones are staged at once, pinned ones are read when the copy runs, and so are those that
/// a graph will read.
fn source(state: &State, address: usize, len: usize, capturing: bool) -> Result<Source> {
    if capturing || state.pinned(address, len) {
        return Ok(Source::Pinned(address, len));
    }
    Ok(Source::Copied(host_in(address).bytes(len)?.into()))
}

/// A copy as work, checked.
fn work(state: &State, to: End, from: End, len: usize, capturing: bool) -> Result<Work> {
    to.check(state, len)?;
    from.check(state, len)?;
    Ok(match (to, from) {
        (End::Device(to), End::Device(from)) => Work::Copy { to, from, len },
        (End::Device(to), End::Host(from)) => Work::Write { to, from: source(state, from, len, capturing)? },
        (End::Host(host), End::Device(from)) => Work::Read { host, from, len },
        (End::Host(to), End::Host(from)) => Work::HostCopy { to, from: Source::Pinned(from, len) },
    })
}

/// A copy on the default stream: the host waits, unless it has nothing to do with it.
fn copy(to: End, from: End, len: usize) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(0)?;
    capture::refuse_unsafe_call(&mut state)?;
    if len == 0 {
        return Ok(());
    }
    let work = work(&state, to, from, len, false)?;
    let both = matches!((to, from), (End::Device(_), End::Device(_)));
    if both { submit(state, stream, work) } else { submit_and_wait(state, stream, work) }
}

/// A copy in stream order. The host waits where it would: for results in pageable memory.
fn copy_async(to: End, from: End, len: usize, stream: Handle) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    if len == 0 {
        return Ok(());
    }
    let capturing = state.streams.get(&stream).is_some_and(|stream| stream.capture.is_some());
    let work = work(&state, to, from, len, capturing)?;
    let waits = matches!(from, End::Host(_)) && matches!(to, End::Host(_)) || to.is_pageable(&state, len);
    if waits { submit_and_wait(state, stream, work) } else { submit(state, stream, work) }
}

/// `CUDA_MEMCPY2D`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Copy2D {
    source_x: usize,
    source_y: usize,
    source_kind: u32,
    source_host: usize,
    source_device: u64,
    source_array: Handle,
    source_pitch: usize,
    to_x: usize,
    to_y: usize,
    to_kind: u32,
    to_host: usize,
    to_device: u64,
    to_array: Handle,
    to_pitch: usize,
    width: usize,
    height: usize,
}

/// The first byte of a rectangle.
fn corner(kind: u32, host: usize, device: u64, offset: (usize, usize, usize)) -> Result<End> {
    let (x, y, pitch) = offset;
    let start = match kind {
        1 => End::Host(host),
        2 => End::Device(device),
        4 => End::of(device),
        _ => return Err(Code::NOT_SUPPORTED),
    };
    Ok(start.at(y.wrapping_mul(pitch).wrapping_add(x)))
}

fn copy_2d(given: In<Copy2D>, stream: Option<Handle>) -> Result<()> {
    let all = given.get(0)?;
    let mut state = lock();
    let resolved = state.stream_of(stream.unwrap_or(0))?;
    if stream.is_none() {
        capture::refuse_unsafe_call(&mut state)?;
    }
    if all.width == 0 || all.height == 0 {
        return Ok(());
    }
    let tall = all.height > 1;
    if tall && (all.source_pitch < all.width || all.to_pitch < all.width) {
        return Err(Code::INVALID_VALUE);
    }
    let from =
        corner(all.source_kind, all.source_host, all.source_device, (all.source_x, all.source_y, all.source_pitch))?;
    let to = corner(all.to_kind, all.to_host, all.to_device, (all.to_x, all.to_y, all.to_pitch))?;
    let capturing = state.streams.get(&resolved).is_some_and(|stream| stream.capture.is_some());
    let row = |row: usize| {
        let (to, from) = (to.at(row.wrapping_mul(all.to_pitch)), from.at(row.wrapping_mul(all.source_pitch)));
        work(&state, to, from, all.width, capturing)
    };
    let rows = (0..all.height).map(row).collect::<Result<Vec<_>>>()?;
    let waits = match stream {
        None => matches!(from, End::Host(_)) || matches!(to, End::Host(_)),
        Some(_) => to.is_pageable(&state, all.width),
    };
    let work = Work::Many(rows);
    if waits { submit_and_wait(state, resolved, work) } else { submit(state, resolved, work) }
}

/// A fill: of the default stream, if none is given. The host waits in neither case.
fn fill(to: u64, unit: &[u8], count: usize, stream: Option<Handle>) -> Result<()> {
    fill_rows(to, unit, (count, 1, 0), stream)
}

/// A fill of rows: elements of a row, rows, bytes from row to row.
fn fill_rows(to: u64, unit: &[u8], rows: (usize, usize, usize), stream: Option<Handle>) -> Result<()> {
    let (width, height, pitch) = rows;
    let mut state = lock();
    let resolved = state.stream_of(stream.unwrap_or(0))?;
    if stream.is_none() {
        capture::refuse_unsafe_call(&mut state)?;
    }
    let bytes = width.checked_mul(unit.len()).ok_or(Code::INVALID_VALUE)?;
    if !to.is_multiple_of(unit.len() as u64) || (height > 1 && pitch < bytes) {
        return Err(Code::INVALID_VALUE);
    }
    if bytes == 0 || height == 0 {
        return Ok(());
    }
    let row = |row: usize| {
        let to = to.wrapping_add(row.wrapping_mul(pitch) as u64);
        state.inside(to, bytes).map(|_| Work::Fill { to, unit: unit.to_vec(), count: width })
    };
    let mut all = (0..height).map(row).collect::<Result<Vec<_>>>()?;
    let work = if all.len() == 1 { all.remove(0) } else { Work::Many(all) };
    submit(state, resolved, work)
}

exports! {
    /// Host to device.
    fn cuMemcpyHtoD_v2(to: u64, from: usize, bytes: usize) { copy(End::Device(to), End::Host(from), bytes) }
    /// Device to host.
    fn cuMemcpyDtoH_v2(to: usize, from: u64, bytes: usize) { copy(End::Host(to), End::Device(from), bytes) }
    /// Device to device.
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) { copy(End::Device(to), End::Device(from), bytes) }
    /// By what the addresses are.
    fn cuMemcpy(to: u64, from: u64, bytes: usize) { copy(End::of(to), End::of(from), bytes) }
    /// Device to device, whichever contexts they belong to.
    fn cuMemcpyPeer(to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize) {
        copy(End::Device(to), End::Device(from), bytes)
    }
    /// Host to device, in stream order.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: usize, bytes: usize, stream: Handle) {
        copy_async(End::Device(to), End::Host(from), bytes, stream)
    }
    /// Device to host, in stream order.
    fn cuMemcpyDtoHAsync_v2(to: usize, from: u64, bytes: usize, stream: Handle) {
        copy_async(End::Host(to), End::Device(from), bytes, stream)
    }
    /// Device to device, in stream order.
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_async(End::Device(to), End::Device(from), bytes, stream)
    }
    /// By what the addresses are, in stream order.
    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_async(End::of(to), End::of(from), bytes, stream)
    }
    /// Device to device, whichever contexts they belong to, in stream order.
    fn cuMemcpyPeerAsync(to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize, stream: Handle) {
        copy_async(End::Device(to), End::Device(from), bytes, stream)
    }
    /// A rectangle of linear memory; arrays are not supported.
    fn cuMemcpy2D_v2(given: In<Copy2D>) { copy_2d(given, None) }
    /// The same; the pitches may be any.
    fn cuMemcpy2DUnaligned_v2(given: In<Copy2D>) { copy_2d(given, None) }
    /// The same in stream order.
    fn cuMemcpy2DAsync_v2(given: In<Copy2D>, stream: Handle) { copy_2d(given, Some(stream)) }

    /// Fills bytes.
    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) { fill(to, &[value], count, None) }
    /// Fills pairs of bytes.
    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) { fill(to, &value.to_ne_bytes(), count, None) }
    /// Fills words.
    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) { fill(to, &value.to_ne_bytes(), count, None) }
    /// Fills bytes, in stream order.
    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) { fill(to, &[value], count, Some(stream)) }
    /// Fills pairs of bytes, in stream order.
    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: Handle) {
        fill(to, &value.to_ne_bytes(), count, Some(stream))
    }
    /// Fills words, in stream order.
    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: Handle) {
        fill(to, &value.to_ne_bytes(), count, Some(stream))
    }
    /// Fills the bytes of rows.
    fn cuMemsetD2D8_v2(to: u64, pitch: usize, value: u8, width: usize, height: usize) {
        fill_rows(to, &[value], (width, height, pitch), None)
    }
    /// Fills the pairs of bytes of rows.
    fn cuMemsetD2D16_v2(to: u64, pitch: usize, value: u16, width: usize, height: usize) {
        fill_rows(to, &value.to_ne_bytes(), (width, height, pitch), None)
    }
    /// Fills the words of rows.
    fn cuMemsetD2D32_v2(to: u64, pitch: usize, value: u32, width: usize, height: usize) {
        fill_rows(to, &value.to_ne_bytes(), (width, height, pitch), None)
    }
    /// Fills the bytes of rows, in stream order.
    fn cuMemsetD2D8Async(to: u64, pitch: usize, value: u8, width: usize, height: usize, stream: Handle) {
        fill_rows(to, &[value], (width, height, pitch), Some(stream))
    }
    /// Fills the words of rows, in stream order.
    fn cuMemsetD2D32Async(to: u64, pitch: usize, value: u32, width: usize, height: usize, stream: Handle) {
        fill_rows(to, &value.to_ne_bytes(), (width, height, pitch), Some(stream))
    }
}
