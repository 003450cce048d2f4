//! Backends with the memory that their calls work in.

use crate::error::Result;
use bytemuck::Pod;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Host, Slice, SliceMut, Storage, WorkspaceBlock};
#[cfg(feature = "cuda")]
use ssm_kernels::{
    Device,
    gpu::{DriverBuffer, Gpu, OnStream},
};

/// A backend that can be given memory of its kind.
pub trait Place {
    /// The kind.
    type Storage: Storage;
    /// Elements in it.
    type Buffer<E: Pod + Send>: Buffer<E, Self::Storage> + Send + 'static;

    /// Memory with these elements.
    fn store<E: Pod + Send>(&self, elements: Vec<E>) -> Result<Self::Buffer<E>>;

    /// Workspace for a plan, whose kernels are loaded then.
    fn workspace(&self, plan: &Plan) -> Result<Self::Buffer<WorkspaceBlock>>;
}

/// Elements in memory of one kind.
pub trait Buffer<E, S: Storage> {
    /// All of them.
    fn shared(&self) -> Slice<'_, E, S>;

    /// All of them, to be written.
    fn exclusive(&mut self) -> SliceMut<'_, E, S>;

    /// A dense tensor, to be written.
    fn tensor<const N: usize>(&mut self, dims: [(&'static str, usize); N]) -> ViewMut<'_, E, S> {
        ViewMut::from_parts(self.exclusive(), Axes::dense(dims))
    }
}

impl Place for Cpu {
    type Storage = Host;
    type Buffer<E: Pod + Send> = Vec<E>;

    fn store<E: Pod + Send>(&self, elements: Vec<E>) -> Result<Vec<E>> {
        Ok(elements)
    }

    fn workspace(&self, plan: &Plan) -> Result<Vec<WorkspaceBlock>> {
        Ok(plan.allocate()?)
    }
}

impl<E> Buffer<E, Host> for Vec<E> {
    fn shared(&self) -> Slice<'_, E, Host> {
        self.as_slice().into()
    }

    fn exclusive(&mut self) -> SliceMut<'_, E, Host> {
        self.into()
    }
}

#[cfg(feature = "cuda")]
impl Place for Gpu<OnStream> {
    type Storage = Device;
    type Buffer<E: Pod + Send> = DriverBuffer<E>;

    fn store<E: Pod + Send>(&self, elements: Vec<E>) -> Result<DriverBuffer<E>> {
        Ok(self.upload(&elements)?)
    }

    fn workspace(&self, plan: &Plan) -> Result<DriverBuffer<WorkspaceBlock>> {
        self.driver().prepare(plan)?;
        Ok(self.alloc(plan.workspace_blocks())?)
    }
}

#[cfg(feature = "cuda")]
impl<E: Pod> Buffer<E, Device> for DriverBuffer<E> {
    fn shared(&self) -> Slice<'_, E, Device> {
        self.slice()
    }

    fn exclusive(&mut self) -> SliceMut<'_, E, Device> {
        self.slice_mut()
    }
}
