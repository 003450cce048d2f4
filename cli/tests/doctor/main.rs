//! `ssm doctor` on calls that something was done to: it says what, where, and since when.

mod backward;
mod causes;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod nonfinite;
mod report;

use common::{File, folder, ssm};
use serde_json::{Value, json};
use std::ffi::OsString;

/// What came of a file.
struct Diagnosis {
    status: u8,
    text: String,
    json: Value,
}

fn doctor(name: &str, options: &[&str], file: &File) -> Diagnosis {
    let folder = folder(&format!("doctor_{name}"));
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.json"));
    file.write(&input);
    let options = ["doctor"].iter().chain(options).map(OsString::from);
    let ran = ssm(options.chain(["--json".into(), output.clone().into(), input.into()]));
    assert!(ran.status < 2 && ran.err.is_empty(), "{name}: {}{}", ran.out, ran.err);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "no temporary is left");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(output).unwrap()).unwrap();
    assert_eq!(json["healthy"], ran.status == 0);
    ran.out.lines().for_each(|line| assert!(line.chars().count() < 100, "{line}"));
    Diagnosis { status: ran.status, text: ran.out, json }
}

impl Diagnosis {
    /// What is not finite in f64, f32, bf16 or f16.
    fn source(&self, dtype: &str) -> &Value {
        self.json["nonfinite"].as_array().unwrap().iter().find(|one| one["dtype"] == dtype).unwrap()
    }

    fn error(&self, result: &str, dtype: &str) -> &Value {
        let mut all = self.json["errors"].as_array().unwrap().iter();
        all.find(|one| one["result"] == result && one["dtype"] == dtype).unwrap()
    }

    /// Severity and count of a kind of finding, the first of them.
    fn finding(&self, kind: &str) -> Option<(&str, u64)> {
        let one = self.json["findings"].as_array().unwrap().iter().find(|one| one["kind"] == kind)?;
        Some((one["severity"].as_str().unwrap(), one["count"].as_u64().unwrap()))
    }
}

fn place(batch: usize, channel: usize, time: usize, sequence: usize, step: usize) -> Value {
    json!({"batch": batch, "channel": channel, "time": time, "sequence": sequence, "step": step})
}

/// The file with another value at one element.
fn planted(file: &File, name: &str, index: usize, value: f64) -> File {
    let (dtype, shape, mut values) = (file.dtype(name), file.shape(name).to_vec(), file.values(name));
    values[index] = value;
    file.clone().with(name, dtype, &shape, &values)
}
