//! Files that the original implementations produced.

use super::buffer::{Buffer, Order};
use super::conv::{ConvCase, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::discretise::DiscretiseCase;
use super::scan::{ProjectionBuffer, ScanCase};
use super::scan_backward::ScanUpstream;
use super::squared_attention::AttentionCase;
use super::squared_attention_backward::AttentionUpstream;
use super::squared_attention_update::AttentionUpdateCase;
use super::state_update::UpdateCase;
use safetensors::{Dtype as FileDtype, SafeTensors};
use ssm_kernels::Element;
use ssm_kernels::prelude::*;
use std::collections::HashMap;
use std::path::PathBuf;

/// One file, its tensors as f64 (every dtype in them is exact there).
pub struct Fixture {
    pub name: String,
    pub metadata: HashMap<String, String>,
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
}

/// All files of one operator, in order of name.
pub fn all(op: &str) -> Vec<Fixture> {
    // Where cargo says, or whoever runs this program elsewhere.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let folder = root.join("tests/fixtures").join(op);
    let list = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = list.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.into_iter().map(Fixture::read).collect()
}

impl Fixture {
    fn read(path: PathBuf) -> Self {
        let bytes = std::fs::read(&path).expect("a readable fixture");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensor = |name: &str| {
            let tensor = file.tensor(name).expect("a name of the file");
            (name.to_string(), (tensor.shape().to_vec(), values(tensor.dtype(), tensor.data())))
        };
        Self {
            name: path.file_stem().expect("a file").to_string_lossy().into_owned(),
            metadata: header.metadata().clone().expect("metadata"),
            tensors: file.names().into_iter().map(tensor).collect(),
        }
    }

    pub fn flag(&self, key: &str) -> bool {
        self.metadata.get(key).is_some_and(|value| value == "true")
    }

    pub fn truth(&self, name: &str) -> Option<Vec<f64>> {
        self.tensors.get(name).map(|(_, values)| values.clone())
    }

    fn rank(&self, name: &str) -> usize {
        self.tensors[name].0.len()
    }

    /// A tensor rounded to `T`, with its dimensions named.
    fn buffer<T: Element>(&self, name: &str, dims: &[&'static str], order: Order) -> Option<Buffer<T>> {
        let (shape, values) = self.tensors.get(name)?;
        assert_eq!(shape.len(), dims.len(), "{}: {name}", self.name);
        let dims: Vec<(&'static str, usize)> = dims.iter().copied().zip(shape.iter().copied()).collect();
        let mut values = values.iter();
        Some(Buffer::filled(&dims, order, || *values.next().expect("as many as the shape says") as f32))
    }

    pub fn scan_case<T: Element>(&self, order: Order) -> ScanCase<T> {
        const SEQUENCE: [&str; 3] = ["batch", "dim", "seqlen"];
        let sequence = |name| self.buffer(name, &SEQUENCE, order);
        let channel = |name| self.buffer(name, &["dim"], order);
        let projection = |name| match self.rank(name) {
            2 => self.buffer(name, &["dim", "dstate"], order).map(ProjectionBuffer::Constant),
            _ => self.buffer(name, &["batch", "ngroups", "dstate", "seqlen"], order).map(ProjectionBuffer::Variable),
        };
        let boundaries = self.integers("cu_seqlens");
        ScanCase {
            x: sequence("x").expect("x"),
            dt: sequence("dt").expect("dt"),
            A: self.buffer("A", &["dim", "dstate"], order).expect("A"),
            B: projection("B").expect("B"),
            C: projection("C").expect("C"),
            D: channel("D"),
            z: sequence("z"),
            dt_bias: channel("dt_bias"),
            dt_softplus: self.flag("dt_softplus"),
            dt_limit: None,
            initial_state: self.buffer("initial_state", &["batch", "dim", "dstate"], order),
            segments: boundaries.map(|ends| Segments::new(&ends).expect("boundaries")),
            reverse: self.flag("reverse"),
            split: None,
            lanes: None,
        }
    }

    pub fn scan_upstream<T: Element>(&self, order: Order) -> ScanUpstream<T> {
        ScanUpstream {
            dout: self.buffer("dout", &["batch", "dim", "seqlen"], order),
            dfinal_state: self.buffer("dfinal_state", &["batch", "dim", "dstate"], order),
            checkpoints: None,
        }
    }

    pub fn conv_case<T: Element, W: Element>(&self, order: Order) -> ConvCase<T, W> {
        let boundaries = self.integers("cu_seqlens");
        ConvCase {
            x: self.buffer("x", &["batch", "dim", "seqlen"], order).expect("x"),
            weight: self.buffer("weight", &["dim", "width"], order).expect("weight"),
            bias: self.buffer("bias", &["dim"], order),
            silu: self.flag("silu"),
            initial_state: self.buffer("initial_state", &["batch", "dim", "state_len"], order),
            segments: boundaries.map(|ends| Segments::new(&ends).expect("boundaries")),
        }
    }

    pub fn conv_upstream<T: Element>(&self, order: Order) -> ConvUpstream<T> {
        ConvUpstream {
            dout: self.buffer("dout", &["batch", "dim", "seqlen"], order),
            dfinal_state: self.buffer("dfinal_state", &["batch", "dim", "state_len"], order),
        }
    }

    pub fn conv_update_case<T: Element, W: Element>(&self, order: Order) -> ConvUpdateCase<T, W> {
        ConvUpdateCase {
            x: self.buffer("x", &["batch", "dim", "seqlen"], order).expect("x"),
            weight: self.buffer("weight", &["dim", "width"], order).expect("weight"),
            bias: self.buffer("bias", &["dim"], order),
            silu: self.flag("silu"),
            cache_seqlens: self.integers("cache_seqlens"),
            state_indices: self.integers("state_indices"),
            state: self.buffer("initial_state", &["slots", "dim", "state_len"], order).expect("initial_state"),
        }
    }

    fn integers(&self, name: &str) -> Option<Vec<i32>> {
        self.truth(name).map(|values| values.iter().map(|&value| value as i32).collect())
    }

    pub fn update_case<T: Element, H: Element>(&self, order: Order) -> UpdateCase<T, H> {
        let headed = self.metadata["nheads"] != "0";
        let channels: &[&str] = if headed { &["nheads", "headdim"] } else { &["dim"] };
        let named = |name: &str, all: &[&'static str]| all[..self.rank(name)].to_vec();
        let per_channel =
            |name| self.tensors.contains_key(name).then(|| self.buffer(name, &named(name, channels), order));
        let sequence = |name| self.buffer(name, &named(name, &[&["batch"], channels].concat()), order);
        let rows = |name| match self.rank(name) {
            2 => self.buffer(name, &["batch", "dstate"], order),
            _ => self.buffer(name, &["batch", "ngroups", "dstate"], order),
        };
        let indices = self.truth("state_indices").map(|rows| rows.iter().map(|&row| row as i32).collect());
        let row = if indices.is_some() { "slots" } else { "batch" };
        UpdateCase {
            x: sequence("x").expect("x"),
            dt: sequence("dt").expect("dt"),
            A: self.buffer("A", &named("A", &[channels, &["dstate"]].concat()), order).expect("A"),
            B: rows("B").expect("B"),
            C: rows("C").expect("C"),
            D: per_channel("D").flatten(),
            z: self.tensors.contains_key("z").then(|| sequence("z")).flatten(),
            dt_bias: per_channel("dt_bias").flatten(),
            dt_softplus: self.flag("dt_softplus"),
            dt_limit: None,
            state: self.buffer("initial_state", &[&[row], channels, &["dstate"]].concat(), order).expect("a state"),
            state_indices: indices,
        }
    }

    pub fn attention_case<T: Element>(&self, order: Order) -> AttentionCase<T> {
        const KEY: [&str; 4] = ["batch", "nheads", "seqlen", "dim"];
        AttentionCase {
            q: self.buffer("q", &KEY, order).expect("q"),
            k: self.buffer("k", &KEY, order).expect("k"),
            v: self.buffer("v", &["batch", "nheads", "seqlen", "vdim"], order).expect("v"),
            log_decay: self.buffer("log_decay", &KEY[..3], order).expect("log_decay"),
            scale: None,
            initial: None,
            segments: None,
            chunk_size: None,
        }
    }

    pub fn attention_upstream<T: Element>(&self, order: Order) -> AttentionUpstream<T> {
        let dout = self.buffer("dout", &["batch", "nheads", "seqlen", "vdim"], order);
        AttentionUpstream { dout, dfinal_state: None, dfinal_norm: None }
    }

    pub fn attention_update_case<T: Element>(&self, order: Order) -> AttentionUpdateCase<T, f32> {
        const STATE: [&str; 4] = ["slots", "nheads", "features", "vdim"];
        let state = self.buffer("initial_state", &STATE, order).expect("initial_state");
        let norm = self.buffer("initial_norm", &STATE[..3], order).expect("initial_norm");
        AttentionUpdateCase::of(self.attention_case(order), None, (state, norm))
    }

    pub fn discretise_case<T: Element>(&self, order: Order) -> DiscretiseCase<T> {
        let vector = |name| self.buffer(name, &["element"], order);
        DiscretiseCase {
            rule: self.metadata["method"].parse().expect("a rule"),
            dt: vector("delta").expect("delta"),
            A: self.buffer("A", &["element"], order).expect("A"),
            B: vector("B").expect("B"),
            dt_bias: None,
            lambda: vector("lambda"),
            dt_softplus: self.flag("dt_softplus"),
            dt_limit: None,
            upstream: [None, None, None, None],
        }
    }
}

fn values(dtype: FileDtype, data: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.chunks_exact(N).map(|bytes| value(bytes.try_into().expect("N bytes"))).collect()
    }
    match dtype {
        FileDtype::F64 => each(data, f64::from_le_bytes),
        FileDtype::F32 => each(data, |bytes| f32::from_le_bytes(bytes).into()),
        FileDtype::F16 => each(data, |bytes| half::f16::from_le_bytes(bytes).into()),
        FileDtype::BF16 => each(data, |bytes| half::bf16::from_le_bytes(bytes).into()),
        FileDtype::I32 => each(data, |bytes| i32::from_le_bytes(bytes).into()),
        other => panic!("no fixture has {other:?}"),
    }
}
