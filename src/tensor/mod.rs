//! Tensors: element types, storage, strided views with named dimensions, and the checks that contracts share.

mod element;
mod layout;
mod overlap;
mod region;
mod storage;
mod view;

pub use element::{Dtype, Element};
pub use layout::{Axes, Axis, MAX_RANK};
pub use storage::{Device, Host, Slice, SliceMut, Storage};
pub use view::{View, ViewMut};

pub(crate) use layout::Layout;
pub(crate) use overlap::Memory;
pub(crate) use region::RegionMut;
pub(crate) use view::{Strided, StridedMut};
