use super::*;

/// sum of exp over a row, a loop with an error of its own.
struct Sums(Vec<Vec<f32>>);

impl Loop for Sums {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let sum = |row: &Vec<f32>| row.iter().fold(R::of(0.0), |sum, &v| sum + R::of(v).exp());
        vec![self.0.iter().map(|row| sum(row).to_f64()).collect()]
    }
}

fn sums() -> Sums {
    Sums((0..8).map(|r| (0..50).map(|i| ((i * 7 + r * 3) % 11) as f32 * 0.1).collect()).collect())
}

fn yardstick(naive: &Sums) -> Yardstick {
    Yardstick::measure(naive, &[4]).remove(0)
}

fn shares(change: impl Fn(f64) -> f64, dtype: Dtype) -> Verdict {
    let yardstick = yardstick(&sums());
    let got: Vec<f64> = yardstick.truth().iter().map(|&t| change(t)).collect();
    yardstick.judge(&got, dtype)
}

#[test]
fn the_truth_and_plain_loops_pass() {
    assert_eq!(shares(|t| t, Dtype::F32).share, 0.0);
    let yardstick = yardstick(&sums());
    for run in [
        sums().run::<f32>(),
        Noisy::with_seed(3, || sums().run::<Noisy>()),
        Noisy::with_seed(99, || sums().run::<Noisy>()),
    ] {
        assert!(yardstick.judge(&run[0], Dtype::F32).share <= 1.0);
    }
}

#[test]
fn small_wrongs_fail() {
    for change in [|t: f64| t * 1.00001, |t: f64| t + 1e-3, |_| f64::NAN, |_| f64::INFINITY, |_| 0.0] {
        let verdict = shares(change, Dtype::F32);
        assert!(verdict.share > 1.0 && verdict.failure.is_some(), "{verdict:?}");
    }
    assert!(shares(|t| t * 1.00001, Dtype::BF16).failure.is_none());
    assert!(shares(|t| t * 1.1, Dtype::BF16).failure.is_some());
}

#[test]
fn non_finite_exactly_where_the_loop_is() {
    let naive = Sums(vec![vec![1.0], vec![800.0], vec![95.0], vec![88.0]]);
    let yardstick = yardstick(&naive);
    let e88 = 88f64.exp();
    let e = std::f64::consts::E;
    let passes = |got: [f64; 4]| yardstick.judge(&got, Dtype::F32).failure.is_none();
    assert!(passes([e, f64::NAN, f64::INFINITY, e88]));
    assert!(passes([e, f64::NEG_INFINITY, f64::NAN, e88]));
    assert!(!passes([e, 1.0, f64::INFINITY, e88]));
    // f16 ends at 65504: of a truth just beyond, the plain loop may stay just below. A result may be either, but near.
    let edge = Yardstick { truth: vec![65520.5], plain: vec![65519.0], largest_error: 1.5, row: 1 };
    for (got, passes) in [(f64::INFINITY, true), (65504.0, true), (1.0, false), (-65504.0, false)] {
        assert_eq!(edge.judge(&[got], Dtype::F16).failure.is_none(), passes, "{got}");
    }
    // Not rounded to f32 yet: 800 and 95 overflow there.
    assert!(passes([e, f64::MAX, 95f64.exp(), e88]));
    assert!(!passes([f64::NAN, f64::NAN, f64::INFINITY, e88]));
    assert!(!passes([e, f64::NAN, f64::INFINITY, f64::INFINITY]));
}

#[test]
fn a_wrong_truth_does_not_excuse_itself() {
    let (right, plain) = (sums().run::<f64>().remove(0), sums().run::<f32>().remove(0));
    let wrong: Vec<f64> = right.iter().map(|t| t * 1.01).collect();
    assert!(yardstick(&sums()).against(right).judge(&plain, Dtype::F32).failure.is_none());
    assert!(yardstick(&sums()).against(wrong).judge(&plain, Dtype::F32).failure.is_some());
}

/// The constants of the rule: 2 yardsticks and 4 ulp at the row's largest truth, each row by itself.
#[test]
fn the_allowance_is_exact() {
    let naive = Sums(vec![vec![1.5, 2.5, 0.25], vec![0.1, 0.3], vec![6.0, 5.5, 1.25], vec![-3.0, 0.7]]);
    let yardstick = Yardstick::measure(&naive, &[2]).remove(0);
    let mut runs = vec![naive.run::<f32>()];
    runs.extend(disturbed_runs(&naive));
    assert_eq!(runs.len(), 17);
    let errors = runs.iter().flat_map(|run| run[0].iter().zip(yardstick.truth()).map(|(r, t)| (r - t).abs()));
    let largest = errors.fold(0.0, f64::max);
    assert!(largest > 0.0 && yardstick.largest_error() == largest);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for index in 0..4 {
            let row = &yardstick.truth()[index / 2 * 2..][..2];
            let allowed = 2.0 * largest + 4.0 * dtype.ulp(row[0].abs().max(row[1].abs()));
            for (factor, passes) in [(0.999, true), (-0.999, true), (1.001, false), (-1.001, false)] {
                let mut got = yardstick.truth().to_vec();
                got[index] += factor * allowed;
                assert_eq!(yardstick.judge(&got, dtype).failure.is_none(), passes, "{dtype} {index} {factor}");
            }
        }
    }
}
