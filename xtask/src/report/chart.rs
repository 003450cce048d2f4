//! docs/kernel-report.svg: slots per state step by class, ours and the original's.

use std::fmt::Write as _;

use super::classes::Class;
use super::gather::Gathered;
use super::original;

const BAR: f64 = 16.0;
const GAP: f64 = 6.0;
const LABELS: f64 = 230.0;
const PLOT: f64 = 640.0;
const WIDTH: f64 = LABELS + PLOT + 60.0;
const TOP: f64 = 74.0;
/// By class, and of what was not classified.
const COLOURS: [&str; Class::ALL.len()] = [
    "#d62728", "#1f77b4", "#9467bd", "#ff7f0e", "#2ca02c", "#8c564b", "#17becf", "#e377c2", "#bcbd22", "#000000",
    "#9aa0a6",
];
const UNKNOWN: &str = "#d8dadd";

struct Bar {
    label: String,
    parts: Vec<(f64, &'static str)>,
}

pub fn svg(gathered: &Gathered) -> String {
    let bars: Vec<Option<Bar>> = bars(gathered);
    let length = |bar: &Bar| bar.parts.iter().map(|(slots, _)| slots).sum::<f64>();
    let longest = bars.iter().flatten().map(length).fold(1.0, f64::max);
    let height = TOP + bars.len() as f64 * (BAR + GAP) + 10.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"20\" font-size=\"14\">Issue \
         slots per state step, bf16, N = 16, z, D, dt_bias, softplus: counted, not measured</text>\n"
    );
    text += &legend();
    let mut top = TOP;
    for bar in &bars {
        if let Some(bar) = bar {
            let _ = writeln!(text, "<text x=\"10\" y=\"{}\">{}</text>", top + BAR - 4.0, bar.label);
            let mut left = LABELS;
            for (slots, colour) in bar.parts.iter().filter(|(slots, _)| *slots > 0.0) {
                let width = slots / longest * PLOT;
                let _ = writeln!(
                    text,
                    "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
                );
                left += width;
            }
            let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{}\">{:.1}</text>", left + 5.0, top + BAR - 4.0, length(bar));
        }
        top += BAR + GAP;
    }
    text + "</svg>\n"
}

fn legend() -> String {
    let names = Class::ALL.map(|class| (class.name(), COLOURS[class as usize]));
    let all = names.into_iter().chain([("not classified", UNKNOWN)]);
    let place = |(i, (name, colour)): (usize, (&str, &str))| {
        let (left, top) = (10 + i % 6 * 120, 32 + i / 6 * 17);
        format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"11\" height=\"11\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{name}</text>\n",
            left + 16,
            top + 10
        )
    };
    all.enumerate().map(place).collect()
}

/// A gap between groups.
fn bars(gathered: &Gathered) -> Vec<Option<Bar>> {
    let mut bars = Vec::new();
    for ran in gathered.main.iter().filter(|ran| !ran.done.call.channel_last) {
        let direction = ran.done.call.direction();
        for what in ["state loop", "all-in"] {
            for (architecture, slots) in &ran.slots {
                let counts = if what == "all-in" { &slots.all } else { &slots.state };
                let parts = counts.iter().copied().zip(COLOURS).collect();
                bars.push(Some(Bar { label: format!("{direction}, {what}, {architecture}"), parts }));
            }
            bars.push(Some(original(ran.done.call.backward, what == "all-in")));
            bars.push(None);
        }
    }
    bars
}

fn original(backward: bool, all_in: bool) -> Bar {
    let (by_class, rest) = original::by_class(backward);
    let mut parts: Vec<(f64, &str)> = by_class.into_iter().zip(COLOURS).collect();
    parts.push((rest[usize::from(all_in)], UNKNOWN));
    let (direction, what) =
        (if backward { "backward" } else { "forward" }, if all_in { "all-in" } else { "state loop" });
    Bar { label: format!("{direction}, {what}, original"), parts }
}
