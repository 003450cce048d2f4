//! Files to run on, and what came of it.

#![allow(dead_code, non_snake_case, reason = "each test file uses some of it; A, B, C and D are the field's names")]

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A folder of the test's own, empty.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Every fixture of an operator.
pub fn fixtures(op: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(op);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures of {op}");
    paths
}

/// One fixture.
pub fn fixture(op: &str, name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(op);
    File::read(&path.join(format!("{name}.safetensors")))
}

/// Exit status, standard output, standard error.
#[derive(Debug)]
pub struct Ran {
    pub status: u8,
    pub out: String,
    pub err: String,
}

/// The command line in this process.
pub fn ssm<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Ran {
    let args = std::iter::once("ssm".into()).chain(args.into_iter().map(Into::into));
    let (mut out, mut err) = (vec![], vec![]);
    let status = ssm_cli::main(args, &mut out, &mut err);
    Ran { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// `ssm run` with one timed call, in this process.
pub fn run(options: &[&str], input: &Path, output: &Path) -> Ran {
    let options = ["run", "--repeat", "1"].iter().chain(options).map(OsString::from);
    ssm(options.chain([input.into(), output.into()]))
}

/// Runs `file` in `folder` with success and returns the results.
pub fn results(options: &[&str], file: &File, folder: &Path) -> File {
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    file.write(&input);
    let ran = run(options, &input, &output);
    assert_eq!(ran.status, 0, "{options:?}: {}{}", ran.out, ran.err);
    assert_eq!(ran.err, "");
    File::read(&output)
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A safetensors file in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct File {
    pub tensors: BTreeMap<String, Stored>,
    pub metadata: HashMap<String, String>,
}

impl File {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut file = File { metadata: header.metadata().clone().unwrap_or_default(), ..File::default() };
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            file.set(&name, view.dtype(), view.shape(), view.data());
        }
        file
    }

    pub fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, tensor)| {
            (name.clone(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
        });
        safetensors::serialize(views, Some(self.metadata.clone())).unwrap()
    }

    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }

    pub fn set(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        let tensor = Stored { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() };
        self.tensors.insert(name.to_string(), tensor);
    }

    /// Numbers in any dtype.
    pub fn with(mut self, name: &str, dtype: Dtype, shape: &[usize], values: &[f64]) -> Self {
        let bytes: Vec<u8> = match dtype {
            Dtype::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect(),
            Dtype::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
            _ => unreachable!("not used here"),
        };
        self.set(name, dtype, shape, &bytes);
        self
    }

    /// f32 between `low` and `high` in a fixed pattern.
    pub fn with_pattern(self, name: &str, dtype: Dtype, shape: &[usize], (low, high): (f64, f64)) -> Self {
        let count: usize = shape.iter().product();
        let phase = name.bytes().map(usize::from).sum::<usize>();
        let value = |i: usize| low + (high - low) * (((i * 37 + phase * 11) % 101) as f64 / 100.0);
        self.with(name, dtype, shape, &(0..count).map(value).collect::<Vec<_>>())
    }

    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.tensors.remove(name);
        self.metadata.remove(name);
        self
    }

    /// Only the tensors that are no truth.
    pub fn without_truth(mut self) -> Self {
        self.tensors.retain(|_, tensor| tensor.dtype != Dtype::F64);
        self
    }

    /// With all tensors of `other` beside its own.
    pub fn beside(mut self, other: &File) -> Self {
        self.tensors.extend(other.tensors.clone());
        self
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].shape
    }

    pub fn dtype(&self, name: &str) -> Dtype {
        self.tensors[name].dtype
    }

    pub fn values(&self, name: &str) -> Vec<f64> {
        let Stored { dtype, bytes, .. } = &self.tensors[name];
        let chunks = bytes.chunks_exact(dtype.bitsize() / 8);
        match dtype {
            Dtype::F64 => chunks.map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F32 => chunks.map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::F16 => chunks.map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            Dtype::BF16 => chunks.map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            Dtype::I32 => chunks.map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            other => unreachable!("{other} is not used here"),
        }
    }

    /// The part `range` of a tensor's last axis.
    pub fn cut_last(mut self, name: &str, range: std::ops::Range<usize>) -> Self {
        let Stored { dtype, mut shape, bytes } = self.tensors.remove(name).unwrap();
        let row = shape.pop().unwrap() * (dtype.bitsize() / 8);
        let size = dtype.bitsize() / 8;
        let cut = bytes.chunks(row).flat_map(|row| row[range.start * size..range.end * size].to_vec());
        shape.push(range.len());
        self.set(name, dtype, &shape, &cut.collect::<Vec<u8>>());
        self
    }
}

/// Every element of `got` is within `share` of the largest |truth|.
pub fn assert_close(got: &[f64], truth: &[f64], share: f64, what: &str) {
    assert_eq!(got.len(), truth.len(), "{what}");
    let scale = truth.iter().fold(0.0f64, |max, t| max.max(t.abs()));
    for (i, (got, truth)) in got.iter().zip(truth).enumerate() {
        assert!((got - truth).abs() <= share * scale, "{what}[{i}] is {got}, expected {truth}");
    }
}

/// The rounding of a dtype, with room for the arithmetic before it.
pub fn precision(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F64 => 1e-12,
        Dtype::F32 => 2e-6,
        Dtype::F16 => 1e-3,
        _ => 8e-3,
    }
}

/// A small discretisation that broadcasts to (2, 3, 4).
pub fn broadcast_case(rule: &str, dtype: Dtype) -> File {
    let file = File::default()
        .with_pattern("dt", dtype, &[2, 1, 4], (-2.0, 1.0))
        .with_pattern("A", Dtype::F32, &[3, 1], (-4.0, 0.0))
        .with_pattern("B", dtype, &[2, 3, 1], (-1.0, 1.0))
        .with_pattern("dt_bias", Dtype::F32, &[4], (-0.5, 0.5))
        .meta("op", "discretise")
        .meta("method", rule)
        .meta("dt_softplus", "true");
    if rule == "exp_trapezoidal" { file.with_pattern("lambda", dtype, &[1], (0.25, 0.25)) } else { file }
}

/// A small selective scan without a truth: batch 2, dim 4, seqlen 12, dstate 3, two groups.
pub fn scan_case(dtype: Dtype) -> File {
    File::default()
        .with_pattern("x", dtype, &[2, 4, 12], (-1.0, 1.0))
        .with_pattern("dt", dtype, &[2, 4, 12], (-1.0, 1.0))
        .with_pattern("A", Dtype::F32, &[4, 3], (-2.0, -0.1))
        .with_pattern("B", dtype, &[2, 2, 3, 12], (-1.0, 1.0))
        .with_pattern("C", dtype, &[2, 2, 3, 12], (-1.0, 1.0))
        .meta("op", "selective_scan")
        .meta("dt_softplus", "true")
}
