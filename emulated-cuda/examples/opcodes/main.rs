//! Compares the emulator with a device, opcode by opcode: kernels of one instruction run on both, on the same operands.
//!
//! `opcodes --help` says how. The executable needs nothing but a CUDA driver.

pub(crate) mod coverage;
mod device;
pub(crate) mod emulated;
pub(crate) mod forms;
pub(crate) mod judge;
pub(crate) mod kernel;
pub(crate) mod operands;
mod options;
mod others;
pub(crate) mod report;
pub(crate) mod types;

use coverage::Target;
use device::Gpu;
use forms::Form;
use kernel::Batch;
use options::Options;
use report::{Summary, Verdict};
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

/// Kernels of one module.
const MOST_KERNELS: usize = 6;

fn main() -> ExitCode {
    ExitCode::from(run(std::env::args().skip(1)))
}

/// The exit status: 0 if all agree, 1 if something differs, 2 if nothing could be compared.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> u8 {
    let outcome = Options::parse(arguments).and_then(|options| match options {
        Some(options) => whole(&options),
        None => {
            print!("{}", options::HELP);
            Ok(true)
        }
    });
    match outcome {
        Ok(good) => u8::from(!good),
        Err(error) => {
            eprintln!("opcodes: {error}");
            2
        }
    }
}

/// Whether all is well.
fn whole(options: &Options) -> Result<bool, String> {
    let all = forms::all();
    let forms: Vec<&Form> = all.iter().filter(|form| form.label.starts_with(options.only.as_str())).collect();
    if let Some(folder) = &options.write_ptx {
        return write_ptx(options, &forms, folder).map(|()| true);
    }
    let gpu = Gpu::open(options.device)?;
    let Target { capability, ptx } = gpu.target;
    let head = format!(
        "{}, sm_{capability}, driver for CUDA {}.{} (PTX {}.{}); seed {}",
        gpu.name,
        gpu.driver / 1000,
        gpu.driver % 1000 / 10,
        ptx / 10,
        ptx % 10,
        options.seed
    );
    println!("{head}");
    let start = Instant::now();
    let (verdicts, failure) = compare(&gpu, options, &forms);
    let summary = Summary::of(&verdicts);
    print!("{}\nNot compared:\n{}\n", report::table(&forms, &verdicts), report::not_compared());
    println!("{head}\n{} ({:.1} s)", summary.line(), start.elapsed().as_secs_f64());
    if let Some(path) = &options.markdown {
        let text = report::markdown(&head, &forms, &verdicts);
        std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    failure.map_or(Ok(summary.is_good()), Err)
}

/// A verdict for each form, and why no more were compared, if the device failed.
fn compare(gpu: &Gpu, options: &Options, forms: &[&Form]) -> (Vec<Verdict>, Option<String>) {
    let mut verdicts: HashMap<&str, Verdict> = HashMap::new();
    let mut taken = Vec::new();
    for form in forms {
        match coverage::left_out(form, gpu.target) {
            Some(reason) => _ = verdicts.insert(&form.label, Verdict::LeftOut(reason)),
            None => taken.push(*form),
        }
    }
    let batches = kernel::batches(&taken, options.tuples);
    let mut modules = batches.chunks(MOST_KERNELS);
    let failure = modules.find_map(|batches| compare_module(gpu, options.seed, batches, &mut verdicts).err());
    let missing = || Verdict::Refused("not run: the device had failed".into());
    let verdicts = forms.iter().map(|form| verdicts.remove(form.label.as_str()).unwrap_or_else(missing)).collect();
    (verdicts, failure)
}

/// Runs the kernels of one module, or of several where the driver refuses it: down to single forms.
fn compare_module<'f>(
    gpu: &Gpu,
    seed: u64,
    batches: &[Batch<'f>],
    verdicts: &mut HashMap<&'f str, Verdict>,
) -> Result<(), String> {
    let loaded = match (gpu.load(&kernel::module(gpu.target, batches), batches.len()), batches) {
        (Ok(loaded), _) => loaded,
        (Err(reason), [only]) if only.forms.len() == 1 => {
            verdicts.insert(&only.forms[0].label, Verdict::Refused(reason));
            return Ok(());
        }
        (Err(_), [only]) => return compare_module(gpu, seed, &only.halves(), verdicts),
        (Err(_), several) => {
            let (first, second) = several.split_at(several.len() / 2);
            compare_module(gpu, seed, first, verdicts)?;
            return compare_module(gpu, seed, second, verdicts);
        }
    };
    for (index, batch) in batches.iter().enumerate() {
        let operands = operands::operands(batch.sources(), batch.count, seed);
        let device = gpu.run(&loaded, index, &operands, (batch.cells(), batch.count)).map_err(|error| {
            let labels: Vec<&str> = batch.forms.iter().map(|form| form.label.as_str()).collect();
            format!("the device failed: {error}, in one of {}", labels.join(", "))
        })?;
        match emulated::run(gpu.target, batch, &operands) {
            Ok(emulated) => verdicts.extend(judged(batch, &operands, &emulated, &device)),
            Err(error) => {
                let lacking = Verdict::NotEmulated(error.to_string());
                verdicts.extend(batch.forms.iter().map(|form| (form.label.as_str(), lacking.clone())));
            }
        }
    }
    Ok(())
}

/// The verdicts of a batch.
pub(crate) fn judged<'f>(
    batch: &Batch<'f>,
    operands: &[u64],
    emulated: &[u64],
    device: &[u64],
) -> Vec<(&'f str, Verdict)> {
    let mut cell = 0;
    let mut one = |form: &&'f Form| {
        let part = cell * batch.count..(cell + form.destinations.len()) * batch.count;
        cell += form.destinations.len();
        let outcome = judge::compare(form, batch.count, operands, &emulated[part.clone()], &device[part]);
        (form.label.as_str(), Verdict::Compared(outcome))
    };
    batch.forms.iter().map(&mut one).collect()
}

/// Writes the modules that a device would be given.
fn write_ptx(options: &Options, forms: &[&Form], folder: &str) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    let taken: Vec<&Form> =
        forms.iter().copied().filter(|form| coverage::left_out(form, options.target).is_none()).collect();
    for (index, batches) in kernel::batches(&taken, options.tuples).chunks(MOST_KERNELS).enumerate() {
        let path = format!("{folder}/module{index}.ptx");
        std::fs::write(&path, kernel::module(options.target, batches)).map_err(|error| format!("{path}: {error}"))?;
    }
    println!("{} of {} forms", taken.len(), forms.len());
    Ok(())
}
