//! The discretisation on a file.

mod backward;
mod forward;
mod tensors;

use super::{Contents, Finished, refuse_given};
use crate::args::RunArgs;
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::metadata::{Metadata, refuse};
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use std::num::NonZeroUsize;
use tensors::Tensors;

const OP: &str = "discretise";

/// What a file may hold.
pub(super) const CONTENTS: Contents = Contents {
    inputs: &["dt", "delta", "A", "B", "dt_bias", "lambda", "ddelta", "dA_bar", "dB_bar", "dB_prev_bar"],
    results: &["delta", "A_bar", "B_bar", "B_prev_bar", "ddt", "ddelta", "dA", "dB", "dlambda", "ddt_bias"],
    keys: &["method", "rule", "dt_softplus", "dt_limit", "has_dt_bias", "lambda", "backward"],
};

/// The naive loops keep four tensors of f64, which grow by doubling.
const LOOPS: usize = 4 * 3 * size_of::<f64>();

/// The options of the call.
struct Options {
    rule: Rule,
    /// The file has `delta`, the effective step, in place of `dt`.
    effective: bool,
    dt_softplus: bool,
    dt_limit: Option<(f32, f32)>,
    threads: Option<u16>,
    repeat: Option<NonZeroUsize>,
}

impl Options {
    fn new(args: &RunArgs, input: &Input<'_>) -> Result<Self> {
        refuse_given(
            OP,
            [
                (args.layout.is_some(), "--layout"),
                (args.states_every.is_some(), "--states-every"),
                (args.split.is_some(), "--split"),
            ],
        )?;
        let metadata = &input.metadata;
        metadata.flag("backward")?;
        metadata.flag("lambda")?;
        metadata.check_flag("has_dt_bias", input.get("dt_bias").is_some(), "`dt_bias` is")?;
        let options = Self {
            rule: rule(metadata)?,
            effective: step_name(input)? == "delta",
            dt_softplus: metadata.flag("dt_softplus")?.unwrap_or(false),
            dt_limit: metadata.dt_limit()?,
            threads: args.threads,
            repeat: args.repeat,
        };
        if options.effective {
            let because = "because `delta` is the effective step already";
            if input.get("dt_bias").is_some() {
                return Err(CliError::value(OP, "dt_bias", "is in the file", format!("none {because}")));
            }
            if options.dt_softplus {
                return Err(refuse("dt_softplus", "true", format!("false {because}")));
            }
            if let Some(text) = metadata.text("dt_limit") {
                return Err(refuse("dt_limit", text, format!("none {because}")));
            }
        }
        Ok(options)
    }

    fn facts(&self, domain: &[usize]) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("method", self.rule.name().to_string()),
            ("shape", format!("{domain:?}")),
            ("dt_softplus", self.dt_softplus.to_string()),
        ];
        facts.extend(self.dt_limit.map(|(min, max)| ("dt_limit", format!("[{min:?}, {max:?}]"))));
        facts.extend(self.threads.map(|threads| ("threads", threads.to_string())));
        facts
    }
}

/// `dt` or `delta`, whichever the file has.
pub(super) fn step_name(input: &Input<'_>) -> Result<&'static str> {
    match (input.get("dt"), input.get("delta")) {
        (Some(_), None) => Ok("dt"),
        (None, Some(_)) => Ok("delta"),
        (None, None) => Err(CliError::value(OP, "dt", "is missing", "it or `delta` in every file")),
        (Some(_), Some(_)) => Err(CliError::value(OP, "delta", "is in the file", "none beside `dt`")),
    }
}

fn rule(metadata: &Metadata) -> Result<Rule> {
    let names = || format!("one of {}", Rule::ALL.map(Rule::name).join(", "));
    let parse = |key| metadata.text(key).map(|text| text.parse().map_err(|_| refuse(key, text, names()))).transpose();
    match (parse("method")?, parse("rule")?) {
        (Some(method), Some(rule)) if method != rule => {
            Err(refuse("rule", Rule::name(rule), format!("{} like `method`", Rule::name(method))))
        }
        (Some(rule), _) | (None, Some(rule)) => Ok(rule),
        (None, None) => Err(CliError::new(format!("metadata key `method` is missing, expected {}", names()))),
    }
}

/// Loads, runs, judges.
pub(super) fn run<T: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let options = Options::new(args, input)?;
    let tensors = Tensors::<T>::load(input, &options)?;
    let op = tensors.op(&options)?;
    let (results, rows, speed) = if args.backward {
        backward::run(args, &op, &tensors, &options, input, memory)?
    } else {
        forward::run(args, &op, &tensors, &options, input, memory)?
    };
    let domain = tensors.domain();
    let work = domain.iter().map(|&extent| extent as f64).product();
    Ok(Finished { facts: options.facts(domain), results, rows, speed, work: (work, "element") })
}
