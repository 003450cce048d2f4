//! Histograms over many orders of magnitude.

/// Bins of a decade: a quantile is within half of one, 10 %, of what it says.
const FINE: usize = 12;
const LOWEST: i32 = -48;
const HIGHEST: i32 = 48;
const BINS: usize = (HIGHEST - LOWEST) as usize * FINE;
/// Rows of a printed histogram at the most.
const MOST_ROWS: usize = 16;

/// Counts of positive values by their logarithm. What lies beyond 1e-48 and 1e48 counts as that.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    bins: Vec<u64>,
    pub smallest: f64,
    pub largest: f64,
}

/// Values from `from` (included) to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub from: f64,
    pub to: f64,
    pub count: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { bins: vec![0; BINS], smallest: f64::INFINITY, largest: 0.0 }
    }

    /// A value and its decimal logarithm, which callers have already.
    #[inline]
    pub fn add(&mut self, value: f64, logarithm: f64) {
        let bin = ((logarithm - f64::from(LOWEST)) * FINE as f64).clamp(0.0, (BINS - 1) as f64);
        self.bins[bin as usize] += 1;
        self.smallest = self.smallest.min(value);
        self.largest = self.largest.max(value);
    }

    pub fn merge(&mut self, other: &Self) {
        self.bins.iter_mut().zip(&other.bins).for_each(|(to, from)| *to += from);
        self.smallest = self.smallest.min(other.smallest);
        self.largest = self.largest.max(other.largest);
    }

    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The value below which so much of all lies, to the width of a bin.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.count() as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(edge(bin as f64 + 0.5).clamp(self.smallest, self.largest))
    }

    /// As few decades or parts of a decade as hold all values, in equal steps.
    pub fn rows(&self) -> Vec<Row> {
        let used = |bin: &usize| self.bins[*bin] > 0;
        let (Some(first), Some(last)) = ((0..BINS).find(used), (0..BINS).rfind(used)) else { return vec![] };
        let rows = |width: usize| last / width - first / width + 1;
        let widths = [FINE / 6, FINE / 3, FINE / 2, FINE, 2 * FINE, 4 * FINE, 8 * FINE];
        let width = widths.into_iter().find(|&width| rows(width) <= MOST_ROWS).unwrap_or(8 * FINE);
        let row = |i: usize| Row {
            from: edge((i * width) as f64),
            to: edge(((i + 1) * width) as f64),
            count: self.bins[i * width..((i + 1) * width).min(BINS)].iter().sum(),
        };
        (first / width..=last / width).map(row).collect()
    }
}

/// Where a bin begins.
fn edge(bin: f64) -> f64 {
    10f64.powf(bin / FINE as f64 + f64::from(LOWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|&value| histogram.add(value, value.log10()));
        histogram
    }

    #[test]
    fn rows_hold_all_values_and_nothing_else() {
        let histogram = of(&[0.002, 0.003, 5.0, 5.0, 1e60, 1e-60]);
        let rows = histogram.rows();
        assert!(rows.len() <= MOST_ROWS && rows.windows(2).all(|pair| pair[0].to == pair[1].from), "{rows:?}");
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 6);
        let narrow = of(&[0.002, 0.003, 0.09]).rows();
        let of_value = |value: f64| narrow.iter().find(|row| row.from <= value && value < row.to).unwrap().count;
        assert!(of_value(0.002) == 1 && of_value(0.003) == 1 && of_value(0.09) == 1, "{narrow:?}");
        assert!(Histogram::new().rows().is_empty() && Histogram::new().quantile(0.5).is_none());
    }

    #[test]
    fn quantiles_are_within_a_bin() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        let histogram = of(&values);
        for (share, value) in [(0.01, 10.0), (0.5, 500.0), (0.99, 990.0)] {
            let ratio: f64 = histogram.quantile(share).unwrap() / value;
            assert!((0.82..1.22).contains(&ratio), "{share}: {ratio}");
        }
        assert_eq!(histogram.quantile(1.0).map(|top| top <= 1000.0), Some(true));
        assert_eq!(of(&[3.0]).quantile(0.5), Some(3.0));
    }
}
