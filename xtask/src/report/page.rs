//! docs/kernel-report.md.

use std::fmt::Write as _;

use ssm_kernels::Dtype;

use super::assemble::ARCHITECTURES;
use super::calls::Done;
use super::classes::Class;
use super::counts::{Slots, total};
use super::devices::{ALONE, DEVICES};
use super::gather::{Entry, Gathered, Ran};
use super::limits::{FILE, Limits};
use super::original;
use crate::{build, root};

/// Source lines that are told.
const LINES: usize = 24;
/// The architecture that source lines are told of.
const TOLD: &str = "sm_90";

/// The line by which a check knows what made the report.
pub fn compilers(versions: &[String; 2]) -> String {
    format!("Made with {}.", versions.join(" and "))
}

pub fn page(gathered: &Gathered, limits: &Limits, made_by: &str) -> String {
    let mut text = head(gathered, made_by);
    text += &limits_table(gathered, limits);
    text += &slots_table(gathered);
    text += &loops_table(gathered);
    text += &sources_table(gathered);
    text += &variants_table(gathered);
    text += &traffic_table(gathered);
    text += &plans_table(gathered);
    text += &entries_table(gathered);
    text
}

fn head(gathered: &Gathered, made_by: &str) -> String {
    let classes = Class::ALL.map(|class| format!("- **{}**: {}\n", class.name(), class.members())).concat();
    format!(
        "# What the kernels cost, counted\n\nWritten by `cargo xtask report`; `cargo xtask report --check` compares it. \
         {}\nThe PTX is that of `kernels-ptx`, made by {made_by}. **Nothing here was measured on a GPU**: instructions, bytes \
         and conflicts are counted, times are modelled.\n\n![Slots per state step](kernel-report.svg)\n\n\
         ## How it is counted\n\
         - **Slot**: an instruction issued for a warp. Slots per state step are 32 times the warp instructions of all kernels \
         of a call, divided by batch * dim * dstate * seqlen: all-in counts staging, pointwise work (z, D, dt_bias, \
         softplus), reductions and tails; bf16, N = 16 unless said. Backward is given the checkpoints of forward, and makes all \
         gradients but the initial state's.\n\
         - **Executed instructions**: the emulator runs the call and counts each line of PTX. ptxas tells for each machine \
         instruction the PTX line that it comes from (each line is its own `.loc`; the machine code is the same as without). \
         ptxas moves instructions between blocks, so these counts are votes: a basic block was executed as often as \
         contradicts the fewest of them, among all counts that control can have (what goes into a block comes out of it); \
         instructions that are not moved (branches, stores, barriers, shuffles) weigh four times, predicated ones nothing, and where ptxas \
         has put several passes of a loop into one they share the count. A predicated \
         instruction takes its slot whether it does anything or not. Parts of a warp that a branch has split count as \
         one if they hold more than half of it together: a device joins them again, the emulator may do so later. Ways that \
         ptxas adds for rare operands of a division count as not taken. It is checked that exponentials (within \
         2 %), shuffles and barriers (10 %), which are the same in PTX and machine code, agree in every kernel.\n\
         - **State loop**: an innermost loop (from a branch back) with eight MUFU.EX2 or more and without global memory, in machine \
         code. The divisor of one pass, state steps per lane, is the number of its MUFU.EX2. The state-loop column of a call is \
         all that its state loops executed, per state step: a backward scan that runs forward twice and back once has three.\n\
         - **Sectors**: 32 bytes of global memory, counted warp by warp and instruction by instruction; what a cache would \
         merge is not merged.\n\
         - The original's numbers were counted once in its machine code: see `xtask/src/report/original.rs`.\n\n\
         Classes:\n{classes}\n",
        compilers(&gathered.versions)
    )
}

/// A table in Markdown; numbers are at the right.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text + "\n"
}

fn number(value: f64) -> String {
    format!("{value:.2}")
}

fn limits_table(gathered: &Gathered, limits: &Limits) -> String {
    let rows = gathered.measures().into_iter().map(|(name, value)| {
        let Some(limit) = limits.get(&name) else { return vec![name, number(value), "none".into(), String::new()] };
        let bound = match (limit.ceiling, limit.floor) {
            (Some(ceiling), _) => format!("at most {ceiling}"),
            (_, floor) => format!("at least {}", floor.unwrap_or_default()),
        };
        let target = limit.target.map_or(String::new(), |target| match limit.is_reached(value) {
            Some(true) => format!("{target}, reached"),
            _ => format!("**{target}, not reached**"),
        });
        vec![format!("`{name}`"), number(value), bound, target]
    });
    format!(
        "## Limits and targets\n`{FILE}` holds today's ceilings, which CI does not let grow, and the targets. Slots, registers and \
         conflicts are the most over all architectures.\n\n{}",
        table(&["number", "now", "limit", "target"], rows)
    )
}

fn name(done: &Done) -> String {
    let call = &done.call;
    format!(
        "{}, {} ({}, {}, {}), N = {}, {}, lanes {}",
        call.direction(),
        call.dtype,
        call.batch,
        call.dim,
        call.seqlen,
        call.dstate,
        call.layout(),
        done.lanes
    )
}

fn by_class(what: &str, architecture: &str, counts: &[f64]) -> Vec<String> {
    let all = counts.iter().sum();
    let mut row = vec![what.to_string(), architecture.to_string(), format!("**{}**", number(all))];
    row.extend(counts.iter().map(|&count| number(count)));
    row
}

fn slots_table(gathered: &Gathered) -> String {
    let mut head = vec!["", "arch", "slots"];
    head.extend(Class::ALL.map(Class::name));
    let mut text = String::from("## Slots per state step, by class\n");
    for ran in gathered.all() {
        let mut rows = Vec::new();
        for (architecture, slots) in &ran.slots {
            rows.push(by_class("state loop", architecture, &slots.state));
            rows.push(by_class("all-in", architecture, &slots.all));
        }
        if ran.done.call.dstate == original::STATES && ran.done.call.dtype == Dtype::BF16 {
            rows.extend(original_rows(ran.done.call.backward));
        }
        let _ = writeln!(text, "\n{}:\n\n{}", name(&ran.done), table(&head, rows));
    }
    let least = original::BACKWARD_LEAST;
    let _ = writeln!(
        text,
        "Of the original's loops a part was classified; its all-in numbers add pointwise work. Backward counts what one warp of \
         four does alone as if all did; without that the loop has {least}.\n"
    );
    text
}

/// The original's loop by class as far as it is known, and its sums.
fn original_rows(backward: bool) -> [Vec<String>; 2] {
    let (by_class, rest) = original::by_class(backward);
    let row = |what: &str, all_in: usize| {
        let sum = total(&by_class) + rest[all_in];
        let mut row = vec![what.to_string(), "original, sm_90".into(), format!("**{}**", number(sum))];
        row.extend(by_class.iter().map(|&count| match (all_in, count > 0.0) {
            (0, true) => number(count),
            _ => String::new(),
        }));
        row
    };
    [row("state loop", 0), row("all-in", 1)]
}

fn loops_table(gathered: &Gathered) -> String {
    let mut rows = Vec::new();
    for ran in gathered.main.iter().filter(|ran| !ran.done.call.channel_last).chain(&gathered.lanes) {
        for (architecture, slots) in &ran.slots {
            for (i, one) in slots.loops.iter().enumerate() {
                let instructions = total(&one.instructions);
                rows.push(vec![
                    ran.done.call.direction().into(),
                    ran.done.lanes.to_string(),
                    ran.done.call.dstate.to_string(),
                    architecture.to_string(),
                    (i + 1).to_string(),
                    number(one.exponentials),
                    number(instructions),
                    number(instructions / one.exponentials),
                    one.passes.to_string(),
                ]);
            }
        }
    }
    let head = ["", "lanes", "N", "arch", "loop", "ex2 a pass", "slots a pass", "slots per ex2", "passes of warps"];
    format!("## State loops\n{}", table(&head, rows))
}

/// The lines that the most slots come from, with their text where it is ours.
fn sources_table(gathered: &Gathered) -> String {
    let mut text = format!(
        "## Where the slots come from\nSource lines of the kernels with the most slots per state step, {TOLD}.\n"
    );
    for ran in gathered.main.iter().filter(|ran| !ran.done.call.channel_last) {
        let Some(slots) = ran.on(TOLD) else { continue };
        let rows = slots.by_source.iter().take(LINES).map(|((file, line), [all, state])| {
            vec![number(*all), number(*state), format!("{file}:{line}"), format!("`{}`", source(file, *line))]
        });
        let table = table(&["all-in", "state loop", "line", "text"], rows);
        let _ = writeln!(text, "\n{}:\n\n{table}", name(&ran.done));
    }
    text
}

fn source(file: &str, line: u32) -> String {
    let text = build::read(&root().join(file)).unwrap_or_default();
    let line = text.lines().nth((line as usize).wrapping_sub(1)).unwrap_or("").trim();
    line.replace('|', "\\|").replace('`', "'").chars().take(100).collect()
}

fn variants_table(gathered: &Gathered) -> String {
    let of = |ran: &Ran, architecture: &str, of: fn(&Slots) -> f64| ran.on(architecture).map_or(0.0, of);
    let rows = gathered.variants.iter().map(|(name, ran)| {
        let all = |architecture| number(of(ran, architecture, |slots| total(&slots.all)));
        let state = |architecture| number(of(ran, architecture, |slots| total(&slots.state)));
        let direction = ran.done.call.direction().to_string();
        vec![direction, name.to_string(), state("sm_80"), all("sm_80"), state("sm_90"), all("sm_90")]
    });
    let head = ["", "", "state loop, sm_80", "all-in, sm_80", "state loop, sm_90", "all-in, sm_90"];
    format!("## Other lengths and places\nOne block of 128 channels, slots per state step.\n\n{}", table(&head, rows))
}

fn traffic_table(gathered: &Gathered) -> String {
    let rows = gathered.all().map(|ran| {
        let (call, moved) = (ran.done.call, ran.done.moved());
        let per_element = |bytes: f64| number(bytes / call.elements());
        vec![
            name(&ran.done),
            per_element(moved.sequences),
            per_element(call.least_bytes()),
            per_element(moved.projections),
            per_element(call.least_projection_bytes()),
            per_element(moved.bytes - moved.sequences - moved.projections),
            per_element(moved.sector_bytes),
            number(moved.bank_conflicts as f64 * 32.0 / call.state_steps()),
            number(moved.instructions as f64 * 32.0 / call.state_steps()),
        ]
    });
    let head = [
        "call",
        "x, dt, z ...",
        "least",
        "B, C ...",
        "least",
        "the rest",
        "sectors",
        "conflicts per state step",
        "PTX per state step",
    ];
    format!(
        "## Global and shared memory\nBytes per element of (batch, dim, seqlen) that lanes load and store; several lanes of a \
         channel load the same x and dt, in one sector. \"The rest\": states, sums and the workspace, which stay in L2 for the \
         most part. Conflicts: passes through shared memory beyond the fewest, per state step like slots.\n\n{}",
        table(&head, rows)
    )
}

fn plans_table(gathered: &Gathered) -> String {
    let mut text = format!(
        "## Plans: a model, not a measurement\nbf16, N = 16, in ms: the largest of HBM (least bytes over bandwidth), \
         special functions (16 a clock and multiprocessor) and issue (one a clock and scheduler with two warps or more, {ALONE} \
         with one), the last two of the multiprocessor with the most blocks. Passes between scans, launches and latencies are \
         left out, and so are sectors beyond the least. The original is its slots, each scheduler issuing in every \
         clock: less than it can take.\n"
    );
    for device in &DEVICES {
        let rows = gathered.rows.iter().filter(|row| row.device.name == device.name).map(|row| {
            let (call, ours) = (&row.call, &row.ours);
            let ms = |seconds: f64| format!("{:.4}", seconds * 1e3);
            let ratio = format!("{:.2}", row.original / ours.time);
            vec![
                format!("{} ({}, {}, {})", call.direction(), call.batch, call.dim, call.seqlen),
                format!("{} / {} / {}", row.lanes, row.blocks, row.split),
                format!("{:.2}", ours.warps_per_scheduler),
                ms(ours.hbm),
                ms(ours.special),
                ms(ours.issue),
                ms(ours.time),
                ms(row.original),
                if row.is_slower() { format!("**{ratio}, slower**") } else { ratio },
            ]
        });
        let head = [
            "call",
            "lanes / blocks / split",
            "warps a scheduler",
            "HBM",
            "special",
            "issue",
            "ours",
            "original",
            "ratio",
        ];
        let _ =
            writeln!(text, "\n{} ({}; {}):\n\n{}", device.name, device.architecture, device.source, table(&head, rows));
    }
    text
}

/// An entry a row, architectures side by side.
fn entries_table(gathered: &Gathered) -> String {
    let first = gathered.entries.iter().filter(|entry| entry.architecture == ARCHITECTURES[0]);
    let rows = first.map(|entry| {
        let name = &entry.usage.entry;
        let same = |other: &&Entry| other.usage.entry == *name;
        let mut row = vec![format!("`{name}`"), entry.threads.to_string(), entry.dynamic.to_string()];
        for other in gathered.entries.iter().filter(same) {
            let [stack, stores, loads] = other.usage.memory;
            let spills =
                if stack + stores + loads > 0 { format!(", **spills {stores}/{loads}**") } else { String::new() };
            let share = 100.0 * other.occupancy;
            row.push(format!(
                "{}, {}, {}: {share:.0} %{spills}",
                other.usage.registers, other.usage.shared, other.resident
            ));
        }
        row
    });
    let mut head = vec!["entry", "threads", "dynamic shared"];
    head.extend(ARCHITECTURES);
    format!(
        "## Registers, shared memory, occupancy\nPer architecture: registers, static shared memory in bytes, resident blocks of a \
         multiprocessor by arithmetic, and their share of its warps. Dynamic shared memory is that of the calls above.\n\n{}",
        table(&head, rows)
    )
}
