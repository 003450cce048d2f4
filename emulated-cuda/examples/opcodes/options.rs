//! What the command line asks for.

use super::coverage::Target;
use super::device::newest_ptx;

/// What `--help` prints.
pub const HELP: &str = "opcodes [OPTION ...] [FILE.md]
Compares the emulator with a CUDA device, a kernel for each form of instruction; writes the table to FILE.md as well.

  --tuples N      operand tuples of each form (16384; from 4096 on every value of a single operand of 16 bits)
  --seed N        draws other operands (1)
  --only NAME     forms whose names begin so
  --device N      the device of this number (0)
  --write-ptx FOLDER [--capability 9.0] [--driver 13.0]
                  writes the modules for such a device and driver instead: for ptxas

Exit status: 0 if all agree, 1 if something differs beyond what it may, 2 if nothing could be compared.
";

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub tuples: usize,
    pub seed: u64,
    pub only: String,
    pub device: i32,
    pub markdown: Option<String>,
    pub write_ptx: Option<String>,
    /// For `write_ptx`.
    pub target: Target,
}

impl Options {
    /// `None` if help is asked for.
    ///
    /// # Errors
    /// If something is not understood.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let target = Target { capability: 90, ptx: newest_ptx(13_000) };
        let (only, markdown, write_ptx) = (String::new(), None, None);
        let mut options = Self { tuples: 16384, seed: 1, only, device: 0, markdown, write_ptx, target };
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(None);
            }
            if !argument.starts_with('-') {
                if options.markdown.replace(argument).is_some() {
                    return Err("more than one file".into());
                }
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{argument} wants a value"))?;
            options.set(&argument, value)?;
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let wrong = || format!("{name} {value}: not understood");
        let number = || value.parse::<u64>().map_err(|_| wrong());
        // `9.0` is 90.
        let version = || {
            let (major, minor) = value.split_once('.')?;
            Some(10 * major.parse::<u32>().ok()? + minor.parse::<u32>().ok().filter(|minor| *minor < 10)?)
        };
        match name {
            "--tuples" => self.tuples = (number()? as usize).clamp(1, 1 << 20),
            "--seed" => self.seed = number()?,
            "--only" => self.only = value,
            "--device" => self.device = i32::try_from(number()?).map_err(|_| wrong())?,
            "--write-ptx" => self.write_ptx = Some(value),
            "--capability" => self.target.capability = version().ok_or_else(wrong)?,
            "--driver" => {
                let version = version().ok_or_else(wrong)? as i32;
                self.target.ptx = newest_ptx(version / 10 * 1000 + version % 10 * 10);
            }
            _ => return Err(format!("{name} is no option: see --help")),
        }
        Ok(())
    }
}
