//! Reading a file: names, dtypes, shapes.

use crate::error::{CliError, Result};
use crate::memory::{Memory, elements, filled};
use crate::metadata::Metadata;
use crate::tensor::Scalar;
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// A tensor of a file.
#[derive(Debug)]
pub struct Stored<'f> {
    /// Element type.
    pub dtype: Dtype,
    /// Extents, last dimension fastest.
    pub shape: Vec<usize>,
    bytes: &'f [u8],
}

/// A tensor of a file whose element type is known.
#[derive(Debug)]
pub struct Typed<'f, T: Clone> {
    /// Extents, last dimension fastest.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Cow<'f, [T]>,
}

/// All that a file holds, for one operator.
#[derive(Debug)]
pub struct Input<'f> {
    op: String,
    tensors: BTreeMap<String, Stored<'f>>,
    /// Key and value pairs.
    pub metadata: Metadata,
}

/// The bytes of a file that fits into `memory`.
pub fn read(path: &Path, memory: &mut Memory) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| CliError::new(format!("cannot be read: {error}"));
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(CliError::new("cannot be read: not a regular file"));
    }
    // The file, and copies of its tensors where they lie unaligned or are widened.
    memory.plan(usize::try_from(metadata.len()).unwrap_or(usize::MAX), 3)?;
    memory.reserve()?;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // A file that grows meanwhile is cut, and then refused as malformed.
    file.take(metadata.len()).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl<'f> Input<'f> {
    /// Checks the header.
    pub fn parse(bytes: &'f [u8]) -> Result<Self> {
        check_offsets(bytes)?;
        let malformed = |error| CliError::new(format!("not a safetensors file: {error}"));
        let (header, info) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        let data = &bytes[size_of::<u64>() + header..];
        let mut tensors = BTreeMap::new();
        for (name, info) in info.tensors() {
            elements(&name, &info.shape)?;
            let (start, end) = info.data_offsets;
            tensors.insert(name, Stored { dtype: info.dtype, shape: info.shape.clone(), bytes: &data[start..end] });
        }
        let metadata = Metadata::new(info.metadata().clone().unwrap_or_default());
        Ok(Self { op: "file".into(), tensors, metadata })
    }

    /// For `op`: every F64 tensor is one of `results`, every other one of `inputs`.
    pub fn for_op(mut self, op: &str, inputs: &[&str], results: &[&str]) -> Result<Self> {
        self.op = op.into();
        for (name, tensor) in &self.tensors {
            let (is_input, is_result) = (inputs.contains(&name.as_str()), results.contains(&name.as_str()));
            let expected = match (tensor.dtype == Dtype::F64, is_input, is_result) {
                (true, _, true) | (false, true, _) => continue,
                (true, true, false) => "another, since F64 is for truths",
                (false, false, true) => "F64, since it can only be a truth",
                (_, false, false) => {
                    return Err(CliError::value(op, name, "is not known", format!("one of {}", inputs.join(", "))));
                }
            };
            return Err(CliError::value(op, name, format!("has dtype {}", tensor.dtype), expected));
        }
        Ok(self)
    }

    /// The operator, for messages.
    pub fn op(&self) -> &str {
        &self.op
    }

    /// The input `name`, if the file has it; a truth of that name is none.
    pub fn get(&self, name: &str) -> Option<&Stored<'f>> {
        self.tensors.get(name).filter(|tensor| tensor.dtype != Dtype::F64)
    }

    /// The input `name`, which must be there.
    pub fn required(&self, name: &str) -> Result<&Stored<'f>> {
        self.get(name).ok_or_else(|| CliError::value(&self.op, name, "is missing", "in every file"))
    }

    /// The input `name` with elements of `T`, if the file has it.
    pub fn optional<T: Scalar>(&self, name: &str) -> Result<Option<Typed<'f, T>>> {
        self.get(name).map(|tensor| tensor.typed(&self.op, name)).transpose()
    }

    /// The input `name` with elements of `T`, which must be there.
    pub fn typed<T: Scalar>(&self, name: &str) -> Result<Typed<'f, T>> {
        self.required(name)?.typed(&self.op, name)
    }

    /// Whether the file has a truth for `name`: it then is computed, even if nothing else in the file asks for it.
    pub fn asks_for(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|tensor| tensor.dtype == Dtype::F64)
    }

    /// Whether the file has a truth for `name`, which then has this shape.
    pub fn has_truth(&self, name: &str, shape: &[usize]) -> Result<bool> {
        match self.tensors.get(name).filter(|tensor| tensor.dtype == Dtype::F64) {
            Some(truth) if truth.shape != shape => {
                let got = format!("has shape {:?} as a truth", truth.shape);
                Err(CliError::value(&self.op, name, got, format!("{shape:?}")))
            }
            truth => Ok(truth.is_some()),
        }
    }

    /// The truth for `name`, if the file has it.
    pub fn truth(&self, name: &str) -> Result<Option<Typed<'f, f64>>> {
        let truth = self.tensors.get(name).filter(|tensor| tensor.dtype == Dtype::F64);
        truth.map(|tensor| tensor.typed(&self.op, name)).transpose()
    }
}

impl<'f> Stored<'f> {
    fn typed<T: Scalar>(&self, op: &str, name: &str) -> Result<Typed<'f, T>> {
        if self.dtype != T::STORED {
            return Err(CliError::value(op, name, format!("has dtype {}", self.dtype), T::STORED));
        }
        let data = match bytemuck::try_cast_slice(self.bytes) {
            Ok(data) => Cow::Borrowed(data),
            // A header of odd length leaves the data unaligned.
            Err(_) => {
                let mut copy = filled(self.bytes.len() / size_of::<T>(), T::zeroed())?;
                bytemuck::cast_slice_mut(&mut copy).copy_from_slice(self.bytes);
                Cow::Owned(copy)
            }
        };
        Ok(Typed { shape: self.shape.clone(), data })
    }
}

impl<T: Clone> Typed<'_, T> {
    /// The extents as an array, one for each of `names`.
    pub fn extents<const R: usize>(&self, op: &str, name: &str, names: [&str; R]) -> Result<[usize; R]> {
        self.shape.as_slice().try_into().map_err(|_| {
            let expected = format!("{R} dimensions ({})", names.join(", "));
            CliError::value(op, name, format!("has shape {:?}", self.shape), expected)
        })
    }
}

/// No tensor ends beyond the file. The format's own check adds to the last end before it compares, and overflows.
fn check_offsets(bytes: &[u8]) -> Result<()> {
    let header = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        serde_json::from_slice::<serde_json::Value>(rest.get(..length)?).ok()
    });
    // Anything malformed is left to the format's own check.
    let ends =
        header.iter().filter_map(|header| header.as_object()).flatten().filter(|(name, _)| *name != "__metadata__");
    for (name, info) in ends {
        if info["data_offsets"][1].as_u64().is_some_and(|end| end > bytes.len() as u64) {
            return Err(CliError::new(format!("not a safetensors file: tensor `{name}` ends beyond the file")));
        }
    }
    Ok(())
}
