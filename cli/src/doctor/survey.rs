//! What the steps of a part do to its states: delta, and how long states remember.

use super::case::{Case, Part, Seen};
use super::histogram::Histogram;

/// softplus(v) is v above it, as upstream.
const LINEAR: f64 = 20.0;
/// exp(-p) rounds to 1 in f32 for a p up to 2^-25, half the distance from 1 to the number below it.
const ONE_IN_F32: f64 = 1.0 / (1u64 << 25) as f64;
/// The same in bf16, to its first order.
const ONE_IN_BF16: f64 = 1.0 / (1u64 << 9) as f64;

/// Counts over all steps; those of pairs count (batch, channel, state, time).
#[derive(Debug)]
pub(super) struct Survey {
    /// Of those that are positive and finite.
    pub delta: Histogram,
    /// 1/(delta |A|) where the state decays.
    pub horizon: Histogram,
    pub nonfinite: Seen,
    pub negative: Seen,
    pub zero: Seen,
    /// The argument of softplus is beyond 20.
    pub linear: Seen,
    pub at_min: Seen,
    pub at_max: Seen,
    /// delta A > 0: the state grows.
    pub growing: Seen,
    /// delta A = 0: the state stays.
    pub staying: Seen,
    /// The state decays, but not in f32, or not where the decay is held in bf16.
    pub one_in_f32: Seen,
    pub one_in_bf16: Seen,
    /// All of them.
    pub steps: u64,
    pub pairs: u64,
}

impl Survey {
    pub fn new() -> Self {
        Self {
            delta: Histogram::new(),
            horizon: Histogram::new(),
            nonfinite: Seen::default(),
            negative: Seen::default(),
            zero: Seen::default(),
            linear: Seen::default(),
            at_min: Seen::default(),
            at_max: Seen::default(),
            growing: Seen::default(),
            staying: Seen::default(),
            one_in_f32: Seen::default(),
            one_in_bf16: Seen::default(),
            steps: 0,
            pairs: 0,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.delta.merge(&other.delta);
        self.horizon.merge(&other.horizon);
        self.nonfinite.merge(&other.nonfinite);
        self.negative.merge(&other.negative);
        self.zero.merge(&other.zero);
        self.linear.merge(&other.linear);
        self.at_min.merge(&other.at_min);
        self.at_max.merge(&other.at_max);
        self.growing.merge(&other.growing);
        self.staying.merge(&other.staying);
        self.one_in_f32.merge(&other.one_in_f32);
        self.one_in_bf16.merge(&other.one_in_bf16);
        self.steps += other.steps;
        self.pairs += other.pairs;
    }

    /// Takes in channel `channel` of the call, which is `c` of `part`. Returns the sum of delta over its steps, without
    /// those where it is no number.
    pub fn take(&mut self, case: &Case<'_>, Part { tensors: part, .. }: &Part<'_>, c: usize, channel: usize) -> f64 {
        let [batches, channels, seqlen] = part.x.extents;
        let dstate = part.A.extents[1];
        let bias = part.dt_bias.as_ref().map_or(0.0, |bias| f64::from(bias.data[c]));
        let A: Vec<(f64, f64)> =
            part.A.data[c * dstate..][..dstate].iter().map(|&a| (f64::from(a), f64::from(a).abs().log10())).collect();
        let mut sum = 0.0;
        // Without elements there may be rows beyond counting.
        for batch in 0..if seqlen == 0 { 0 } else { batches } {
            for (time, &dt) in part.dt.data[(batch * channels + c) * seqlen..][..seqlen].iter().enumerate() {
                let place = || case.place(batch, channel, time);
                let raw = f64::from(dt) + bias;
                let (free, delta) = case.delta(raw);
                self.steps += 1;
                self.linear.add((case.options.dt_softplus && raw > LINEAR).into(), place);
                self.at_min.add((delta > free).into(), place);
                self.at_max.add((delta < free).into(), place);
                self.negative.add((delta < 0.0).into(), place);
                self.zero.add((delta == 0.0).into(), place);
                if !delta.is_finite() {
                    self.nonfinite.add(1, place);
                    continue;
                }
                sum += delta;
                let logarithm = delta.abs().log10();
                if delta > 0.0 {
                    self.delta.add(delta, logarithm);
                }
                self.pairs_of(&A, delta, logarithm).into_iter().zip(self.pair_counts()).for_each(|(n, seen)| {
                    seen.add(n, place);
                });
            }
        }
        sum
    }

    /// The states of one step. Returns how many grow, stay, and round to 1 in f32 and bf16.
    fn pairs_of(&mut self, A: &[(f64, f64)], delta: f64, logarithm: f64) -> [u64; 4] {
        let mut counts = [0; 4];
        self.pairs += A.len() as u64;
        for &(a, log_a) in A {
            let exponent = delta * a;
            if exponent > 0.0 {
                counts[0] += 1;
            } else if exponent < 0.0 {
                // Of an A of -infinity nothing is left at once.
                let (horizon, log_horizon) = (-1.0 / exponent, (-(logarithm + log_a)).max(f64::MIN));
                self.horizon.add(horizon, log_horizon);
                counts[2] += u64::from(-exponent <= ONE_IN_F32);
                counts[3] += u64::from(-exponent <= ONE_IN_BF16);
            } else if exponent == 0.0 {
                counts[1] += 1;
            }
        }
        counts
    }

    fn pair_counts(&mut self) -> [&mut Seen; 4] {
        [&mut self.growing, &mut self.staying, &mut self.one_in_f32, &mut self.one_in_bf16]
    }
}
