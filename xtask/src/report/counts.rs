//! A call's launches, counted on an architecture.

use std::collections::HashMap;

use super::assemble::Tools;
use super::calls::{Done, Launched};
use super::classes::Class;
use super::sass::Function;
use super::weigh::{self, ByClass, Counted, StateLoop};

type Functions = HashMap<String, Function>;

/// Machine code by unit and architecture, made when it is first asked for.
pub struct Code<'t> {
    tools: &'t Tools,
    made: HashMap<(&'static str, &'static str), Functions>,
}

/// What a call issues per state step of a lane: 32 times the instructions of its warps, divided by its state steps.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    pub all: ByClass,
    pub state: ByClass,
    /// Of its kernel with the most work.
    pub loops: Vec<StateLoop>,
    /// Bank conflicts of the state loops, in passes per state step of a lane.
    pub bank_conflicts: f64,
    pub by_source: Vec<((String, u32), [f64; 2])>,
}

impl<'t> Code<'t> {
    pub fn new(tools: &'t Tools) -> Self {
        Self { tools, made: HashMap::new() }
    }

    /// One launch.
    pub fn launch(&mut self, launched: &Launched, architecture: &'static str) -> Result<Counted, String> {
        let key = (launched.unit, architecture);
        if !self.made.contains_key(&key) {
            let functions = self.tools.disassemble(launched.unit, launched.ptx, architecture)?;
            self.made.insert(key, functions);
        }
        let function = self.made[&key].get(launched.kernel);
        let function = function.ok_or_else(|| format!("{architecture}: no machine code of {}", launched.kernel))?;
        let report = launched.report.as_ref().ok_or("a launch that did not run")?;
        weigh::count(function, &weigh::lines(report)).map_err(|message| format!("{architecture}, {message}"))
    }

    /// A whole call.
    pub fn call(&mut self, done: &Done, architecture: &'static str) -> Result<Slots, String> {
        let mut slots = Slots::default();
        let mut by_source: HashMap<(String, u32), [f64; 2]> = HashMap::new();
        let per_step = 32.0 / done.call.state_steps();
        for launched in &done.launches {
            let counted = self.launch(launched, architecture)?;
            for class in Class::ALL {
                slots.all[class as usize] += counted.all[class as usize] * per_step;
                slots.state[class as usize] += counted.state[class as usize] * per_step;
            }
            slots.bank_conflicts += counted.bank_conflicts as f64 * per_step;
            for (source, [all, state]) in counted.by_source {
                let sum = by_source.entry(source).or_default();
                *sum = [sum[0] + all * per_step, sum[1] + state * per_step];
            }
            if counted.loops.len() > slots.loops.len() {
                slots.loops = counted.loops;
            }
        }
        slots.by_source = by_source.into_iter().collect();
        slots.by_source.sort_by(|(a, [x, _]), (b, [y, _])| y.total_cmp(x).then_with(|| a.cmp(b)));
        Ok(slots)
    }
}

/// Of all classes.
pub fn total(by_class: &ByClass) -> f64 {
    by_class.iter().sum()
}
