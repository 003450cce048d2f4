//! The shared memory shadow against happens-before by definition: every access is kept, and for each thread the set of
//! accesses that are ordered before what it does next.

use super::clocks::Snapshot;
use super::shared::{Conflict, ConflictKind, SharedAccess, SharedShadow, Strong};
use proptest::prelude::*;
use std::collections::BTreeSet;

const WARPS: usize = 3;
const BYTES: u32 = 24;

#[derive(Clone, Debug)]
enum Act {
    Read,
    /// The lanes that write what is there, and whether lanes that overlap differ.
    Write(u32, bool),
    Strong(Strong),
}

#[derive(Clone, Debug)]
enum Op {
    Access { warp: usize, mask: u32, offsets: [u32; 4], size: u32, act: Act },
    Barrier(u32),
    Release(usize),
    Acquire(usize, usize),
    WarpSync(usize),
    StartBlock,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Read),
        4 => (prop_oneof![3 => Just(0), 1 => 0..16_u32], any::<bool>()).prop_map(|(same, differ)| Act::Write(same, differ)),
        1 => prop_oneof![Just(Strong::Load), Just(Strong::Store), Just(Strong::Update)].prop_map(Act::Strong),
    ]
}

/// Offsets of four lanes: in a row, all at one place, or any.
fn offsets(granule: u32, size: u32) -> impl Strategy<Value = [u32; 4]> {
    let places = (BYTES - size) / granule;
    prop_oneof![
        (0..=(BYTES - 4 * size.min(6)) / granule)
            .prop_map(move |at| [0, 1, 2, 3].map(|lane| at * granule + lane * size)),
        (0..=places).prop_map(move |at| [at * granule; 4]),
        prop::array::uniform4((0..=places).prop_map(move |at| at * granule)),
    ]
}

fn op(granule: u32) -> impl Strategy<Value = Op> {
    let access = (0..WARPS, prop_oneof![Just(15), 1..16_u32], prop_oneof![Just(granule), Just(4_u32)], act())
        .prop_flat_map(move |(warp, mask, size, act)| {
            offsets(granule, size).prop_map(move |offsets| Op::Access { warp, mask, offsets, size, act: act.clone() })
        });
    prop_oneof![
        20 => access,
        3 => (1..8_u32).prop_map(Op::Barrier),
        2 => (0..WARPS).prop_map(Op::Release),
        2 => (0..WARPS, any::<usize>()).prop_map(|(warp, which)| Op::Acquire(warp, which)),
        2 => (0..WARPS).prop_map(Op::WarpSync),
        1 => Just(Op::StartBlock),
    ]
}

struct Past {
    bytes: std::ops::Range<u32>,
    act: Act,
}

/// All accesses of a block, by number.
struct Oracle {
    granule: u32,
    past: Vec<Past>,
    /// Accesses and releases ordered before each thread.
    before: [[BTreeSet<usize>; 4]; WARPS],
    /// Releases of each warp, numbered with the accesses.
    released: [Vec<usize>; WARPS],
    /// Granules where something raced, after which the shadow no longer knows all writers.
    spoiled: BTreeSet<u32>,
}

#[derive(Debug, PartialEq)]
struct Verdict {
    race: bool,
    uninitialised: bool,
}

impl Oracle {
    fn new(granule: u32) -> Self {
        Self {
            granule,
            past: Vec::new(),
            before: Default::default(),
            released: Default::default(),
            spoiled: BTreeSet::new(),
        }
    }

    fn granules(&self, bytes: &std::ops::Range<u32>) -> std::ops::Range<u32> {
        bytes.start / self.granule..bytes.end.div_ceil(self.granule)
    }

    fn meet(&mut self, warps: &[usize], with: &BTreeSet<usize>) {
        let mut all = with.clone();
        for &warp in warps {
            all.extend(self.before[warp].iter().flatten());
            all.extend(&self.released[warp]);
        }
        for &warp in warps {
            self.before[warp].fill(all.clone());
        }
    }

    fn release(&mut self, warp: usize) -> BTreeSet<usize> {
        let id = self.past.len();
        self.past.push(Past { bytes: 0..0, act: Act::Strong(Strong::Load) });
        self.released[warp].push(id);
        let mut all: BTreeSet<usize> = self.before[warp].iter().flatten().copied().collect();
        all.insert(id);
        all
    }

    /// A warp that acquires its own release counts as synchronised within, which is more than happens-before asks: not so
    /// where the shadow `may_miss`.
    fn acquire(&mut self, warp: usize, released: &BTreeSet<usize>, may_miss: bool) {
        let returned = self.released[warp].iter().any(|id| released.contains(id) && !self.before[warp][0].contains(id));
        if returned && !may_miss {
            self.meet(&[warp], released);
        }
        for lane in &mut self.before[warp] {
            lane.extend(released);
        }
    }

    /// The verdicts for the lanes of an access, `None` where the shadow cannot know.
    fn access(&mut self, warp: usize, mask: u32, offsets: [u32; 4], size: u32, act: &Act) -> [Option<Verdict>; 4] {
        let first = self.past.len();
        let lanes: Vec<usize> = (0..4).filter(|lane| mask >> lane & 1 != 0).collect();
        let mut verdicts = [const { None }; 4];
        let mut spoiled = BTreeSet::new();
        for &lane in &lanes {
            let bytes = offsets[lane]..offsets[lane] + size;
            let mut verdict = Verdict { race: false, uninitialised: false };
            for granule in self.granules(&bytes) {
                let here = |past: &Past| self.granules(&past.bytes).contains(&granule);
                let written = |past: &&Past| !matches!(past.act, Act::Read | Act::Strong(Strong::Load)) && here(past);
                // What an atomic update touches counts as written, however it came about.
                let reads = matches!(act, Act::Read | Act::Strong(Strong::Load | Strong::Update));
                let earlier_lanes =
                    if matches!(act, Act::Strong(_)) { lanes.iter().position(|&l| l == lane) } else { None };
                let earlier = earlier_lanes.is_some_and(|count| {
                    *act != Act::Strong(Strong::Load)
                        && lanes[..count]
                            .iter()
                            .any(|&l| self.granules(&(offsets[l]..offsets[l] + size)).contains(&granule))
                });
                verdict.uninitialised |= reads && !earlier && self.past.iter().find(written).is_none();
                for (id, past) in self.past.iter().enumerate() {
                    if here(past) && !self.before[warp][lane].contains(&id) {
                        let same = matches!(act, Act::Write(same, _) if same >> lane & 1 != 0);
                        match clash(&past.act, act) {
                            Clash::None => (),
                            Clash::Writes if same => drop(spoiled.insert(granule)),
                            _ => {
                                verdict.race |= !self.spoiled.contains(&granule);
                                spoiled.insert(granule);
                            }
                        }
                    }
                }
            }
            if let Act::Write(_, true) = act {
                let overlap = |&&other: &&usize| other < lane && offsets[other].abs_diff(offsets[lane]) < size;
                verdict.race |= lanes.iter().find(overlap).is_some();
            }
            let known = self.granules(&bytes).all(|granule| !self.spoiled.contains(&granule));
            verdicts[lane] = known.then_some(verdict);
        }
        for &lane in &lanes {
            self.past.push(Past { bytes: offsets[lane]..offsets[lane] + size, act: act.clone() });
        }
        for (index, &lane) in lanes.iter().enumerate() {
            self.before[warp][lane].insert(first + index);
        }
        self.spoiled.extend(spoiled);
        verdicts
    }
}

enum Clash {
    None,
    Writes,
    Race,
}

fn clash(past: &Act, now: &Act) -> Clash {
    use super::shared::Strong::Load;
    match (past, now) {
        // Atomic loads are not remembered.
        (Act::Strong(Load), _) | (Act::Strong(_), Act::Strong(_)) | (Act::Read, Act::Read | Act::Strong(Load)) => {
            Clash::None
        }
        (Act::Write(..), Act::Write(..)) => Clash::Writes,
        _ => Clash::Race,
    }
}

impl PartialEq for Act {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Strong(one), Self::Strong(two)) if one == two)
    }
}

/// Runs both. They must agree; where clocks run out early the shadow may miss races but must not invent any.
fn compare(granule: u32, ops: &[Op], last_step: Option<u32>) -> Result<u32, TestCaseError> {
    let mut shadow = SharedShadow::new(BYTES as usize, WARPS, granule);
    if let Some(step) = last_step {
        shadow.clocks.set_last_step(step);
    }
    let mut oracle = Oracle::new(granule);
    let mut snapshots: Vec<(Snapshot, BTreeSet<usize>)> = Vec::new();
    let mut races = 0;
    for (index, op) in ops.iter().enumerate() {
        match op {
            Op::Barrier(warps) => {
                shadow.barrier(*warps);
                let warps: Vec<_> = (0..WARPS).filter(|warp| warps >> warp & 1 != 0).collect();
                oracle.meet(&warps, &BTreeSet::new());
            }
            Op::Release(warp) => snapshots.push((shadow.release(*warp), oracle.release(*warp))),
            Op::Acquire(warp, which) if !snapshots.is_empty() => {
                let (mine, theirs) = &snapshots[which % snapshots.len()];
                shadow.acquire(*warp, mine);
                oracle.acquire(*warp, theirs, last_step.is_some());
            }
            Op::Acquire(..) => (),
            Op::WarpSync(warp) => {
                shadow.warp_sync(*warp);
                oracle.meet(&[*warp], &BTreeSet::new());
            }
            Op::StartBlock => {
                shadow.start_block();
                oracle = Oracle::new(granule);
                snapshots.clear();
            }
            Op::Access { warp, mask, offsets, size, act } => {
                let found = perform(&mut shadow, index as u32, *warp, *mask, offsets, *size, act);
                for (lane, expected) in oracle.access(*warp, *mask, *offsets, *size, act).into_iter().enumerate() {
                    let Some(expected) = expected else { continue };
                    let has = |race: bool| {
                        found.iter().any(|conflict| {
                            conflict.lane == lane as u32 && (conflict.kind != ConflictKind::Uninitialised) == race
                        })
                    };
                    let got = Verdict { race: has(true), uninitialised: has(false) };
                    races += u32::from(got.race);
                    let missed = last_step.is_some() && expected.race && !got.race;
                    let want = if missed { Verdict { race: false, ..expected } } else { expected };
                    prop_assert_eq!(got, want, "operation {}, lane {}", index, lane);
                }
            }
        }
    }
    Ok(races)
}

fn perform(
    shadow: &mut SharedShadow,
    instruction: u32,
    warp: usize,
    mask: u32,
    offsets: &[u32; 4],
    size: u32,
    act: &Act,
) -> Vec<Conflict> {
    let mut all = [0; 32];
    all[..4].copy_from_slice(offsets);
    let access = SharedAccess { warp, mask, offsets: &all, size, instruction };
    let mut found = Vec::new();
    match act {
        Act::Read => shadow.read(&access, &mut found),
        Act::Write(same, differ) => shadow.write(&access, *same, |_, _| *differ, &mut found),
        Act::Strong(strong) => shadow.atomic(&access, *strong, &mut found),
    }
    found
}

fn program() -> impl Strategy<Value = (u32, Vec<Op>)> {
    prop_oneof![Just(1_u32), Just(2), Just(4)]
        .prop_flat_map(|granule| (Just(granule), prop::collection::vec(op(granule), 1..50)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shadow_agrees_with_happens_before((granule, ops) in program()) {
        compare(granule, &ops, None)?;
    }

    #[test]
    fn clocks_that_run_out_invent_nothing((granule, ops) in program(), last in 7..20_u32) {
        compare(granule, &ops, Some(last))?;
    }
}
