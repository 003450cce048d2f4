//! Writing a file: complete or not at all.

use crate::error::{CliError, Result};
use crate::tensor::Tensor;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// What would make writing fail in any case, before the run takes its time.
pub fn check(input: &Path, output: &Path) -> Result<()> {
    if let (Ok(input), Ok(existing)) = (input.canonicalize(), output.canonicalize())
        && input == existing
    {
        return Err(CliError::new("cannot be written: it is the input"));
    }
    check_place(output)
}

/// The same for an output that has no input.
pub fn check_place(output: &Path) -> Result<()> {
    if output.exists() && !output.is_file() {
        return Err(CliError::new("cannot be written: not a regular file"));
    }
    let folder = folder(output);
    if output.file_name().is_none() || !folder.is_dir() {
        return Err(CliError::new(format!("cannot be written: no folder {}", folder.display())));
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes tensors.
pub fn write(path: &Path, metadata: &BTreeMap<&str, String>, tensors: &[Tensor]) -> Result<()> {
    replace(path, |file| fill(file, metadata, tensors))
}

/// Writes a text.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    replace(path, |mut file| file.write_all(text.as_bytes()))
}

/// Writes beside `path` and renames.
fn replace(path: &Path, fill: impl FnOnce(File) -> std::io::Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| CliError::new(format!("cannot be written: {error}"));
    let (temporary, file) = Temporary::beside(path).map_err(failed)?;
    fill(file).map_err(failed)?;
    std::fs::rename(&temporary.0, path).map_err(failed)
}

/// The same tensors and metadata give the same bytes: keys in order, tensors by descending size of element.
fn fill(file: File, metadata: &BTreeMap<&str, String>, tensors: &[Tensor]) -> std::io::Result<()> {
    let mut tensors: Vec<&Tensor> = tensors.iter().collect();
    tensors.sort_by_key(|tensor| (std::cmp::Reverse(tensor.data.dtype().bitsize()), tensor.name));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut end = 0;
    for tensor in &tensors {
        let start = end;
        end += tensor.data.bytes().len();
        let (dtype, shape) = (tensor.data.dtype().to_string(), &tensor.shape);
        header.insert(tensor.name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut writer = BufWriter::new(file);
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    tensors.iter().try_for_each(|tensor| writer.write_all(tensor.data.bytes()))?;
    writer.flush()
}

/// A file that goes when this goes, unless it was renamed before.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> std::io::Result<(Self, File)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = folder(path).join(format!(".ssm-{}-{count}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        Ok((Self(temporary), file))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}
