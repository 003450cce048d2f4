//! Everything that the report tells, counted.

use std::collections::{BTreeMap, HashMap};

use ssm_kernels::Dtype;
use ssm_kernels::gpu::MODULES;

use super::assemble::{ARCHITECTURES, Tools};
use super::calls::{self, Call, Done, Launched};
use super::counts::{Code, Slots, total};
use super::devices::{DEVICES, Device, Multiprocessor};
use super::model::{self, Modelled, Sample};
use super::original;
use crate::ptxas::Usage;

/// The call that slots are counted on: blocks of 128 channels, sums over sequences and blocks.
const MAIN: [usize; 3] = [2, 256, 2048];
/// States that need 2, 4, 8 and 32 lanes.
const STATES: [usize; 4] = [32, 64, 128, 512];
/// (batch, dim, seqlen) of the plans.
const PLANNED: [[usize; 3]; 12] = [
    [1, 256, 1 << 20],
    [1, 1024, 1 << 16],
    [1, 2048, 64],
    [1, 2048, 2048],
    [1, 2048, 65536],
    [1, 5120, 1024],
    [1, 8192, 8192],
    [2, 4096, 3000],
    [8, 2048, 2048],
    [8, 3072, 8192],
    [64, 1536, 512],
    [64, 8192, 64],
];
/// What the parallelism of the plan is judged by.
pub const JUDGED: [usize; 3] = [8, 2048, 2048];

/// An entry on an architecture.
pub struct Entry {
    pub usage: Usage,
    pub architecture: &'static str,
    pub threads: u32,
    pub dynamic: u32,
    pub resident: u32,
    pub occupancy: f64,
}

/// A call that ran, and its slots by architecture.
pub struct Ran {
    pub done: Done,
    pub slots: Vec<(&'static str, Slots)>,
}

impl Ran {
    /// The most of all architectures.
    pub fn most(&self, of: fn(&Slots) -> f64) -> f64 {
        self.slots.iter().map(|(_, slots)| of(slots)).fold(0.0, f64::max)
    }

    pub fn on(&self, architecture: &str) -> Option<&Slots> {
        self.slots.iter().find(|(one, _)| *one == architecture).map(|(_, slots)| slots)
    }
}

/// A call on a device.
pub struct Row {
    pub call: Call,
    pub device: &'static Device,
    pub lanes: usize,
    pub split: usize,
    pub blocks: usize,
    pub ours: Modelled,
    pub original: f64,
}

pub struct Gathered {
    pub versions: [String; 2],
    pub entries: Vec<Entry>,
    /// Forward, backward; each with steps, then channels side by side.
    pub main: Vec<Ran>,
    /// In f32 and f16.
    pub dtypes: Vec<Ran>,
    /// One block with more states, and so more lanes.
    pub lanes: Vec<Ran>,
    /// One block with other lengths and places, by name; each direction's first is what the others are held to.
    pub variants: Vec<(&'static str, Ran)>,
    pub rows: Vec<Row>,
}

pub fn gather(tools: &Tools) -> Result<Gathered, String> {
    let mut code = Code::new(tools);
    let mut run = |call: Call, architectures: &[&'static str]| -> Result<Ran, String> {
        println!("{} {:?}", call.direction(), [call.batch, call.dim, call.dstate, call.seqlen]);
        let done = calls::run(call).map_err(|error| error.to_string())?;
        let slots = architectures.iter().map(|&one| Ok((one, code.call(&done, one)?)));
        Ok(Ran { slots: slots.collect::<Result<_, String>>()?, done })
    };
    let (mut main, mut dtypes, mut lanes, mut variants) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for backward in [false, true] {
        let call = Call::new(backward, MAIN).whole();
        main.push(run(call, &ARCHITECTURES)?);
        main.push(run(Call { channel_last: true, ..call }, &ARCHITECTURES)?);
        for dtype in [Dtype::F32, Dtype::F16] {
            dtypes.push(run(Call { dtype, ..call }, &ARCHITECTURES)?);
        }
        for dstate in STATES {
            lanes.push(run(Call { dstate, ..Call::new(backward, [1, 128, 256]).whole() }, &ARCHITECTURES)?);
        }
        for (name, call) in varied(backward) {
            variants.push((name, run(call, &["sm_80", "sm_90"])?));
        }
    }
    let dynamic = dynamic_shared(main.iter().chain(&lanes));
    let entries = entries(tools, &dynamic)?;
    let rows = rows(&mut code, &entries)?;
    Ok(Gathered { versions: tools.versions.clone(), entries, main, dtypes, lanes, variants, rows })
}

fn varied(backward: bool) -> [(&'static str, Call); 6] {
    let of = |seqlen| Call::new(backward, [1, 128, seqlen]).whole();
    [
        ("seqlen 2048", of(2048)),
        ("seqlen 2047", of(2047)),
        ("seqlen 3000", of(3000)),
        ("seqlen 64", of(64)),
        ("seqlen 2048, misaligned", Call { misaligned: true, ..of(2048) }),
        ("seqlen 2048, decayed", Call { decayed: true, ..of(2048) }),
    ]
}

/// Dynamic shared memory by entry, without its dtype: the most that a call asked for.
fn dynamic_shared<'r>(ran: impl Iterator<Item = &'r Ran>) -> HashMap<String, u32> {
    let mut dynamic = HashMap::new();
    for launched in ran.flat_map(|ran| &ran.done.launches) {
        let most: &mut u32 = dynamic.entry(without_dtype(launched.kernel)).or_default();
        *most = launched.shared_bytes.max(*most);
    }
    dynamic
}

fn without_dtype(entry: &str) -> String {
    entry.split('_').filter(|part| !["f32", "f16", "bf16"].contains(part)).collect::<Vec<_>>().join("_")
}

fn entries(tools: &Tools, dynamic: &HashMap<String, u32>) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for architecture in ARCHITECTURES {
        println!("registers on {architecture}");
        for module in MODULES {
            for usage in tools.assemble(module.unit, module.ptx, architecture)? {
                let threads = threads(&usage.entry);
                let dynamic = dynamic.get(&without_dtype(&usage.entry)).copied().unwrap_or(0);
                let multiprocessor = Multiprocessor::of(architecture);
                let resident = multiprocessor.resident(threads, usage.registers, usage.shared + dynamic);
                let occupancy = multiprocessor.occupancy(resident, threads);
                entries.push(Entry { usage, architecture, threads, dynamic, resident, occupancy });
            }
        }
    }
    Ok(entries)
}

/// Of a block, as `src/gpu` launches them.
fn threads(entry: &str) -> u32 {
    let several_lanes = entry.starts_with("selective_scan_fwd_") && !entry.ends_with("_lanes1");
    if several_lanes || entry.starts_with("discretise") { 256 } else { 128 }
}

fn rows(code: &mut Code<'_>, entries: &[Entry]) -> Result<Vec<Row>, String> {
    let resident = |launched: &Launched, multiprocessor: &Multiprocessor| {
        let is_it =
            |entry: &&Entry| entry.usage.entry == launched.kernel && entry.architecture == multiprocessor.architecture;
        let entry = entries.iter().find(is_it).ok_or_else(|| format!("no registers of {}", launched.kernel))?;
        let shared = entry.usage.shared + launched.shared_bytes;
        Ok(multiprocessor.resident(launched.threads, entry.usage.registers, shared))
    };
    let mut rows = Vec::new();
    for backward in [false, true] {
        for shape in PLANNED {
            println!("plan of {} {shape:?}", if backward { "backward" } else { "forward" });
            let plan = calls::plan(Call::new(backward, shape)).map_err(|error| error.to_string())?;
            let sample = Sample::of(&plan)?;
            for device in &DEVICES {
                let ours = model::time(&plan, &sample, device, code, &resident)?;
                let blocks = model::scans(&plan).last().map_or(0, |one| one.blocks);
                let (call, original) = (plan.call, original::time(&plan.call, device));
                rows.push(Row { call, device, lanes: plan.lanes, split: plan.split, blocks, ours, original });
            }
        }
    }
    Ok(rows)
}

impl Gathered {
    /// All calls whose slots are told on every architecture.
    pub fn all(&self) -> impl Iterator<Item = &Ran> {
        self.main.iter().chain(&self.dtypes).chain(&self.lanes)
    }

    /// The numbers that `limits.toml` bounds.
    pub fn measures(&self) -> BTreeMap<String, f64> {
        let mut measures = BTreeMap::new();
        let scans = |direction: &str| {
            let prefix = format!("selective_scan_{direction}_");
            let entries = self.entries.iter().filter(move |entry| entry.usage.entry.starts_with(&prefix));
            entries.map(|entry| f64::from(entry.usage.registers)).fold(0.0, f64::max)
        };
        measures.insert("registers.forward".into(), scans("fwd"));
        measures.insert("registers.backward".into(), scans("bwd"));
        let spilled = self.entries.iter().flat_map(|entry| entry.usage.memory).map(f64::from).sum();
        measures.insert("spills.bytes".into(), spilled);
        for ran in &self.main {
            self.measure_call(ran, &mut measures);
        }
        for ran in self.main.iter().filter(|ran| !ran.done.call.channel_last).chain(&self.lanes) {
            let (direction, lanes) = (ran.done.call.direction(), ran.done.lanes);
            let state = ran.most(|slots| total(&slots.state));
            // Several numbers of states may have the same lanes: the one that fills them best counts.
            let least: &mut f64 = measures.entry(format!("slots.{direction}.state.lanes{lanes}")).or_insert(state);
            *least = least.min(state);
        }
        let mut whole = 1.0;
        for (name, ran) in &self.variants {
            let all = ran.most(|slots| total(&slots.all));
            match *name {
                "seqlen 2048" => whole = all,
                name => {
                    let key = name.replace("seqlen 2048, ", "").replace("seqlen ", "length");
                    measures.insert(format!("slots.{}.relative.{key}", ran.done.call.direction()), all / whole);
                }
            }
        }
        self.measure_plans(&mut measures);
        measures
    }

    fn measure_call(&self, ran: &Ran, measures: &mut BTreeMap<String, f64>) {
        let (call, moved) = (ran.done.call, ran.done.moved());
        let (direction, order) = (call.direction(), if call.channel_last { "channels" } else { "steps" });
        let mut insert = |name: String, number| {
            measures.insert(format!("{name}.{direction}.{order}"), number);
        };
        insert("traffic.bytes".into(), moved.sequences / call.least_bytes());
        insert("traffic.sectors".into(), moved.sector_bytes / (call.least_bytes() + call.least_projection_bytes()));
        insert("traffic.projections".into(), moved.projections / call.elements());
        insert("conflicts".into(), ran.most(|slots| slots.bank_conflicts));
        measures.insert(format!("slots.{direction}.all.{order}"), ran.most(|slots| total(&slots.all)));
    }

    fn measure_plans(&self, measures: &mut BTreeMap<String, f64>) {
        for device in &DEVICES {
            let slower = self.rows.iter().filter(|row| row.device.name == device.name && row.is_slower()).count();
            measures.insert(format!("plans.slower.{}", device.name), slower as f64);
        }
        let is_judged = |row: &&Row| [row.call.batch, row.call.dim, row.call.seqlen] == JUDGED;
        for row in self.rows.iter().filter(is_judged).filter(|row| row.device.name == "H200") {
            measures.insert(format!("plans.warps.{}", row.call.direction()), row.ours.warps_per_scheduler);
        }
    }
}

impl Row {
    pub fn is_slower(&self) -> bool {
        self.ours.time > self.original
    }
}
