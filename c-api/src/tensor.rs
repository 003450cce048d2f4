//! Tensors as C hands them over, and as views.

use crate::lend::{Lend, Packed};
use crate::status::refuse;
use half::{bf16, f16};
use ssm_kernels::{Axes, Axis, Dtype, Element, Error, Host, MAX_RANK, Segments, Slice, SliceMut, View, ViewMut};
use std::ffi::c_void;

/// Where memory lies: DLPack's `DLDevice`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmDevice {
    /// 1: host; 2: CUDA device; 3: host, pinned.
    pub device_type: i32,
    /// Ordinal of a CUDA device.
    pub device_id: i32,
}

/// The type of elements: DLPack's `DLDataType`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsmDtype {
    /// 0: signed integer; 1: unsigned integer; 2: IEEE float; 4: bfloat.
    pub code: u8,
    /// Bits of an element.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// A tensor: DLPack's `DLTensor` (of all versions so far), so that a pointer to one of these may be cast.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmTensor {
    /// Start of the memory, on its device.
    pub data: *mut c_void,
    /// Where it lies.
    pub device: SsmDevice,
    /// Number of dimensions.
    pub ndim: i32,
    /// Of the elements.
    pub dtype: SsmDtype,
    /// Extents, `ndim` of them.
    pub shape: *mut i64,
    /// Distances between neighbours along each dimension, in elements, not negative; null: dense, last dimension fastest.
    pub strides: *mut i64,
    /// From `data` to the first element.
    pub byte_offset: u64,
}

/// Where the tensors of a call lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    Cuda(u32),
}

/// Elements that C can name.
pub(crate) trait Typed: Copy {
    const KIND: SsmDtype;
    const NAME: &'static str;
}

macro_rules! typed {
    ($($type:ty: $code:literal, $bits:literal;)*) => {
        $(impl Typed for $type {
            const KIND: SsmDtype = SsmDtype { code: $code, bits: $bits, lanes: 1 };
            const NAME: &'static str = stringify!($type);
        })*
    };
}
typed! { f32: 2, 32; f16: 2, 16; bf16: 4, 16; i32: 0, 32; u32: 1, 32; }

/// Elements of what operators read and write.
pub(crate) trait Io: Element + Typed {}
impl<T: Element + Typed> Io for T {}

/// An argument that is a tensor: what messages call it, and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arg {
    pub op: &'static str,
    pub name: &'static str,
    pub tensor: *const SsmTensor,
}

/// The argument of this name.
macro_rules! arg {
    ($op:expr, $arguments:expr, $field:ident) => {
        $crate::tensor::Arg { op: $op, name: stringify!($field), tensor: $arguments.$field }
    };
}
pub(crate) use arg;

impl Arg {
    /// The tensor, if there is one.
    ///
    /// # Safety
    /// The pointer is null or that of a tensor.
    unsafe fn given<'a>(self) -> Option<&'a SsmTensor> {
        // SAFETY: the caller's promise.
        unsafe { self.tensor.as_ref() }
    }

    /// # Safety
    /// As for [`given`](Self::given).
    unsafe fn required<'a>(self) -> Result<&'a SsmTensor, Error> {
        // SAFETY: the caller's promise.
        match unsafe { self.given() } {
            Some(tensor) => Ok(tensor),
            None => refuse(self.op, self.name, "null", "a tensor"),
        }
    }

    /// Where it lies.
    ///
    /// # Safety
    /// As for [`given`](Self::given).
    pub unsafe fn place(self) -> Result<Place, Error> {
        // SAFETY: the caller's promise.
        let SsmDevice { device_type, device_id } = unsafe { self.required() }?.device;
        match (device_type, u32::try_from(device_id)) {
            (1 | 3, _) => Ok(Place::Host),
            (2, Ok(ordinal)) => Ok(Place::Cuda(ordinal)),
            _ => refuse(
                self.op,
                self.name,
                format!("on device {device_id} of type {device_type}"),
                "host (1 or 3) or CUDA (2) memory",
            ),
        }
    }

    /// Its dtype, one of those of x.
    ///
    /// # Safety
    /// As for [`given`](Self::given).
    pub unsafe fn dtype(self) -> Result<Dtype, Error> {
        // SAFETY: the caller's promise.
        match unsafe { self.required() }?.dtype {
            f32::KIND => Ok(Dtype::F32),
            f16::KIND => Ok(Dtype::F16),
            bf16::KIND => Ok(Dtype::BF16),
            other => refuse(self.op, self.name, describe(other), "f32, f16 or bf16"),
        }
    }

    /// How many dimensions it has, 0 if it is absent.
    ///
    /// # Safety
    /// As for [`given`](Self::given).
    pub unsafe fn rank(self) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.given() }.map_or(0, |tensor| usize::try_from(tensor.ndim).unwrap_or(0))
    }

    /// The view of a tensor with these dimensions.
    ///
    /// # Safety
    /// The tensor, if there is one, is as its fields say, and lives for `'a` with nobody writing it.
    pub unsafe fn view<'a, T: Typed, S: Lend>(self, names: &[&'static str]) -> Result<View<'a, T, S>, Error> {
        // SAFETY: the caller's promise.
        let region = unsafe { Region::new::<T, S>(self, self.required()?, names) }?;
        // SAFETY: the caller's promise; the region is as large as the strides say.
        Ok(unsafe { S::view(region.start.cast(), region.elements, region.ordinal, region.axes) })
    }

    /// The same of one that may be absent.
    ///
    /// # Safety
    /// As for [`view`](Self::view).
    pub unsafe fn optional<'a, T: Typed, S: Lend>(
        self,
        names: &[&'static str],
    ) -> Result<Option<View<'a, T, S>>, Error> {
        // SAFETY: the caller's promise.
        if self.tensor.is_null() { Ok(None) } else { unsafe { self.view(names) }.map(Some) }
    }

    /// The view of a tensor that is written.
    ///
    /// # Safety
    /// As for [`view`](Self::view), and nobody reads it either.
    pub unsafe fn view_mut<'a, T: Typed, S: Lend>(self, names: &[&'static str]) -> Result<ViewMut<'a, T, S>, Error> {
        // SAFETY: the caller's promise.
        let region = unsafe { Region::new::<T, S>(self, self.required()?, names) }?;
        // SAFETY: the caller's promise; the region is as large as the strides say.
        Ok(unsafe { S::view_mut(region.start.cast(), region.elements, region.ordinal, region.axes) })
    }

    /// The same of one that may be absent.
    ///
    /// # Safety
    /// As for [`view_mut`](Self::view_mut).
    pub unsafe fn optional_mut<'a, T: Typed, S: Lend>(
        self,
        names: &[&'static str],
    ) -> Result<Option<ViewMut<'a, T, S>>, Error> {
        // SAFETY: the caller's promise.
        if self.tensor.is_null() { Ok(None) } else { unsafe { self.view_mut(names) }.map(Some) }
    }
}

impl Arg {
    /// The elements of a list, one after the other.
    ///
    /// # Safety
    /// As for [`view`](Self::view).
    pub unsafe fn list<'a, T: Typed, S: Lend>(self) -> Result<Option<Slice<'a, T, S>>, Error> {
        // SAFETY: the caller's promise.
        let Some(region) = (unsafe { self.flat::<T, S>() })? else { return Ok(None) };
        // SAFETY: the caller's promise.
        Ok(Some(unsafe { S::slice(region.start.cast(), region.elements, region.ordinal) }))
    }

    /// The same of one that is written.
    ///
    /// # Safety
    /// As for [`view_mut`](Self::view_mut).
    pub unsafe fn list_mut<'a, T: Typed, S: Lend>(self) -> Result<Option<SliceMut<'a, T, S>>, Error> {
        // SAFETY: the caller's promise.
        let Some(region) = (unsafe { self.flat::<T, S>() })? else { return Ok(None) };
        // SAFETY: the caller's promise.
        Ok(Some(unsafe { S::slice_mut(region.start.cast(), region.elements, region.ordinal) }))
    }

    /// # Safety
    /// As for [`view`](Self::view).
    unsafe fn flat<T: Typed, S: Lend>(self) -> Result<Option<Region>, Error> {
        // SAFETY: the caller's promise.
        let Some(tensor) = (unsafe { self.given() }) else { return Ok(None) };
        // SAFETY: the caller's promise.
        let region = unsafe { Region::new::<T, S>(self, tensor, &["elements"]) }?;
        match region.axes.as_slice() {
            [axis] if axis.extent > 1 && axis.stride != 1 => {
                refuse(self.op, self.name, format!("of stride {}", axis.stride), "1: one element after the other")
            }
            _ => Ok(Some(region)),
        }
    }

    /// The sequences that this list of i32 in host memory, their cu_seqlens, says.
    ///
    /// # Safety
    /// As for [`view`](Self::view).
    pub unsafe fn segments(self) -> Result<Option<Segments>, Error> {
        // SAFETY: the caller's promise.
        let list = unsafe { self.list::<i32, Host>() }?;
        list.map(|list| Segments::new(list.as_slice())).transpose().map_err(|error| match error {
            // The crate checks them once for any operator; here they are an argument of this one.
            Error::Value { arg, got, expected, .. } => Error::Value { op: self.op, arg, got, expected },
            other => other,
        })
    }

    /// Packed sequences, with this argument, if given, as their table.
    ///
    /// # Safety
    /// As for [`view`](Self::view).
    pub unsafe fn packed<S: Lend>(self, segments: Option<&Segments>) -> Result<Option<Packed<'_, S>>, Error> {
        // SAFETY: the caller's promise.
        let table = if S::ON_HOST { None } else { unsafe { self.list::<i32, S>() }? };
        match (segments, self.tensor.is_null()) {
            (None, true) => Ok(None),
            (None, false) => refuse(self.op, self.name, "given", "null, or cu_seqlens in host memory beside it"),
            (Some(_), true) if !S::ON_HOST => refuse(self.op, self.name, "null", "a copy of cu_seqlens on the device"),
            (Some(segments), _) => Ok(Some(Packed { segments, table })),
        }
    }
}

/// The memory of a tensor, from its first to its last element.
struct Region {
    start: *mut c_void,
    elements: usize,
    ordinal: u32,
    axes: Axes,
}

impl Region {
    /// # Safety
    /// Shape and strides hold as many numbers as there are dimensions.
    unsafe fn new<T: Typed, S: Lend>(arg: Arg, tensor: &SsmTensor, names: &[&'static str]) -> Result<Self, Error> {
        let Arg { op, name, .. } = arg;
        if tensor.dtype != T::KIND {
            return refuse(op, name, describe(tensor.dtype), T::NAME);
        }
        // SAFETY: the caller's promise.
        let place = unsafe { arg.place() }?;
        let ordinal = match (place, S::ON_HOST) {
            (Place::Host, true) => 0,
            (Place::Cuda(ordinal), false) => ordinal,
            (Place::Cuda(_), true) => return refuse(op, name, "on a CUDA device", "host memory, as x"),
            (Place::Host, false) => return refuse(op, name, "in host memory", "the CUDA device of x"),
        };
        // SAFETY: the caller's promise.
        let axes = unsafe { axes(arg, tensor, names) }?;
        let span = axes.iter().map(|axis| (axis.extent, axis.stride));
        let elements = match elements(span) {
            Some(elements)
                if elements.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= isize::MAX as usize) =>
            {
                elements
            }
            _ => return refuse(op, name, "beyond any address", "extents and strides that fit the address space"),
        };
        let start = tensor.data.wrapping_byte_add(usize::try_from(tensor.byte_offset).unwrap_or(usize::MAX));
        if elements > 0 && (tensor.data.is_null() || !start.addr().is_multiple_of(align_of::<T>())) {
            return refuse(op, name, format!("at {start:p}"), &format!("memory aligned to {} bytes", align_of::<T>()));
        }
        // Null is no slice, even without elements.
        let start = if elements == 0 { std::ptr::without_provenance_mut(align_of::<T>()) } else { start };
        Ok(Self { start, elements, ordinal, axes: Axes::from_slice(&axes)? })
    }
}

/// # Safety
/// As for [`Region::new`].
unsafe fn axes(arg: Arg, tensor: &SsmTensor, names: &[&'static str]) -> Result<Vec<Axis>, Error> {
    let Arg { op, name, .. } = arg;
    let rank = names.len();
    if usize::try_from(tensor.ndim) != Ok(rank) || rank > MAX_RANK {
        return refuse(op, name, format!("of {} dimensions", tensor.ndim), &format!("{rank} ({})", names.join(", ")));
    }
    if rank > 0 && tensor.shape.is_null() {
        return refuse(op, name, "without a shape", "a shape");
    }
    let list = |numbers: *mut i64| {
        // SAFETY: the caller's promise; a null pointer is not read.
        (rank > 0 && !numbers.is_null()).then(|| unsafe { std::slice::from_raw_parts(numbers, rank) })
    };
    let shape = list(tensor.shape).unwrap_or_default();
    let mut axes = Vec::with_capacity(rank);
    for (&extent, &name) in shape.iter().zip(names) {
        match usize::try_from(extent) {
            Ok(extent) => axes.push(Axis { name, extent, stride: 1 }),
            Err(_) => return refuse(op, arg.name, format!("of extent {extent} along {name}"), "0 or more"),
        }
    }
    match list(tensor.strides) {
        Some(strides) => {
            for (axis, &stride) in axes.iter_mut().zip(strides) {
                // Along one element a stride says nothing, and some libraries write anything there.
                if stride < 0 && axis.extent > 1 {
                    return refuse(op, name, format!("of stride {stride} along {}", axis.name), "0 or more");
                }
                axis.stride = stride.max(0);
            }
        }
        None => {
            let mut stride = 1i64;
            for axis in axes.iter_mut().rev() {
                axis.stride = stride;
                stride = stride.saturating_mul(i64::try_from(axis.extent.max(1)).unwrap_or(i64::MAX));
            }
        }
    }
    Ok(axes)
}

/// From the first to the last element, both included, or `None` beyond counting.
fn elements(axes: impl Iterator<Item = (usize, i64)> + Clone) -> Option<usize> {
    if axes.clone().any(|(extent, _)| extent == 0) {
        return Some(0);
    }
    axes.map(|(extent, stride)| usize::try_from(stride).ok()?.checked_mul(extent - 1))
        .try_fold(1usize, |sum, reach| sum.checked_add(reach?))
}

fn describe(dtype: SsmDtype) -> String {
    let kind = match dtype.code {
        0 => "int",
        1 => "uint",
        2 => "float",
        4 => "bfloat",
        _ => return format!("of dtype code {}, {} bits", dtype.code, dtype.bits),
    };
    let lanes = if dtype.lanes == 1 { String::new() } else { format!(" of {} lanes", dtype.lanes) };
    format!("{kind}{}{lanes}", dtype.bits)
}
