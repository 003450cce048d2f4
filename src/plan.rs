//! Plans: how a backend will run one call, and the workspace it needs for that.

use crate::error::{Error, Result};
use crate::tensor::{SliceMut, Storage};

/// Unit of workspace memory: 256 bytes, aligned to 256 bytes. A workspace needs no initialisation.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(256))]
pub struct WorkspaceBlock([u8; 256]);

impl WorkspaceBlock {
    /// A block filled with `byte`: for allocating, and for tests that a workspace's content does not matter.
    pub const fn filled(byte: u8) -> Self {
        Self([byte; 256])
    }
}

/// How a backend runs one call: a pure function of operator, direction, dtype, dimensions, groups, strides and, packed, the
/// lengths of the sequences, never of device load or number of threads. The run uses exactly the plan that it is given.
///
/// ```
/// use ssm_kernels::prelude::*;
/// # let (ones, a) = ([1.0f32; 4], [-0.5f32]);
/// # let sequence = [("batch", 1), ("dim", 1), ("seqlen", 4)];
/// # let rows = View::new(&ones, [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 4)]);
/// # let (x, A) = (View::new(&ones, sequence), View::new(&a, [("dim", 1), ("dstate", 1)]));
/// let scan = SelectiveScan::new(x, x, A, rows, rows)?;
/// let plan = Cpu::new().forward_plan(&scan)?;
/// assert_eq!((plan.kernel.as_str(), plan.split), ("selective_scan_fwd_f32", 1));
/// // Once for many calls of this shape, which then allocate nothing.
/// let mut workspace = plan.allocate()?;
/// assert_eq!(workspace.len(), plan.workspace_blocks());
/// let mut out = [0.0; 4];
/// for _ in 0..2 {
///     let mut view = ViewMut::new(&mut out, sequence);
///     Cpu::new().forward_with(&scan, SelectiveScanOutputs::new(&mut view), &plan, (&mut workspace).into())?;
/// }
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What runs, in the form `<op>_<fwd|bwd>_<dtype>`.
    pub kernel: String,
    /// The call it was made for, by dimension.
    pub dims: Vec<(&'static str, usize)>,
    /// Bytes of workspace, a multiple of 256. May be 0.
    pub workspace_bytes: usize,
    /// Lanes of a warp that share the states of one channel; 1 where a backend has no lanes.
    pub lanes: usize,
    /// Parts that each sequence is cut into along seqlen; 1 where sequences stay whole.
    pub split: usize,
    /// Steps of a part, in scan order from the sequence's start; 0 where sequences stay whole.
    pub part: usize,
    /// Steps between the checkpoints that a forward direction saves for the backward one; 0 where there are none.
    pub checkpoint_every: usize,
}

impl Plan {
    pub(crate) fn new(kernel: String, dims: Vec<(&'static str, usize)>, workspace_bytes: usize) -> Self {
        let block = size_of::<WorkspaceBlock>();
        let workspace_bytes = workspace_bytes.checked_next_multiple_of(block).unwrap_or(usize::MAX / block * block);
        Self { kernel, dims, workspace_bytes, lanes: 1, split: 1, part: 0, checkpoint_every: 0 }
    }

    /// Number of [`WorkspaceBlock`]s to allocate.
    pub fn workspace_blocks(&self) -> usize {
        self.workspace_bytes / size_of::<WorkspaceBlock>()
    }

    /// Host workspace for this plan.
    pub fn allocate(&self) -> Result<Vec<WorkspaceBlock>> {
        self.allocate_bytes(self.workspace_bytes)
    }

    /// Host workspace of so many f32: for a call that needs less than the plan says, because it knows its threads.
    pub(crate) fn allocate_floats(&self, floats: usize) -> Result<Vec<WorkspaceBlock>> {
        self.allocate_bytes(floats.saturating_mul(size_of::<f32>()).min(self.workspace_bytes))
    }

    fn allocate_bytes(&self, bytes: usize) -> Result<Vec<WorkspaceBlock>> {
        let (mut blocks, count) = (Vec::new(), bytes.div_ceil(size_of::<WorkspaceBlock>()));
        let refused = |_| Error::OutOfMemory { what: format!("workspace of {}", self.kernel), bytes: Some(bytes) };
        blocks.try_reserve_exact(count).map_err(refused)?;
        blocks.resize(count, WorkspaceBlock::filled(0));
        Ok(blocks)
    }

    /// The plan given is the plan of this call, and the workspace is large enough for it.
    pub(crate) fn check<S: Storage>(
        &self,
        op: &'static str,
        given: &Plan,
        workspace: &SliceMut<'_, WorkspaceBlock, S>,
    ) -> Result<()> {
        if given != self {
            let (mut got, mut expected) = (given.describe(), self.describe());
            if got == expected {
                // The same dimensions in another order of memory, or with sequences of other lengths.
                got += &format!(", {} bytes of workspace", given.workspace_bytes);
                expected += &format!(", {} bytes of workspace", self.workspace_bytes);
            }
            return Err(Error::Plan { op, got, expected });
        }
        let got = workspace.elements() * size_of::<WorkspaceBlock>();
        if got < self.workspace_bytes {
            return Err(Error::Workspace { op, needed: self.workspace_bytes, got });
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(|(name, extent)| format!("{name} {extent}")).collect();
        let split = if self.split > 1 { format!(", split {}", self.split) } else { String::new() };
        format!("{} with {}{split}", self.kernel, dims.join(", "))
    }
}

/// The first `len` f32 of a host workspace.
pub(crate) fn as_f32(workspace: SliceMut<'_, WorkspaceBlock>, len: usize) -> &mut [f32] {
    &mut bytemuck::cast_slice_mut(workspace.into_slice())[..len]
}
