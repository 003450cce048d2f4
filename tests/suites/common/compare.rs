//! The accuracy rule as an assertion.

use super::buffer::Buffer;
use ssm_kernels::Element;
use ssm_kernels::reference::accuracy::Yardstick;

/// Fails unless `got` keeps the accuracy rule, and its surroundings are as they were.
pub fn expect_accurate<T: Element>(label: &str, got: &Buffer<T>, yardstick: &Yardstick) {
    got.expect_untouched_surroundings(label);
    let verdict = yardstick.judge(&got.dense(), T::DTYPE);
    if let Some(failure) = &verdict.failure {
        panic!(
            "{label}: element {} of {:?} is {:e}, expected {:e} within {:e} ({:.2} times what is allowed)",
            failure.index,
            got.dims(),
            failure.got,
            failure.truth,
            failure.allowed,
            verdict.share
        );
    }
}

/// Fails unless `got` is exactly the truth, NaN where it is, and its surroundings are as they were.
pub fn expect_exact<T: Element>(label: &str, got: &Buffer<T>, yardstick: &Yardstick) {
    got.expect_untouched_surroundings(label);
    let (got, truth) = (got.dense(), yardstick.truth());
    assert_eq!(got.len(), truth.len(), "{label}");
    for (i, (got, &truth)) in got.into_iter().zip(truth).enumerate() {
        assert!(got == truth || got.is_nan() && truth.is_nan(), "{label}: element {i} is {got:e}, expected {truth:e}");
    }
}
