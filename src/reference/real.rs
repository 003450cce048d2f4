//! The arithmetic that a reference loop runs in.

use std::ops::{Add, Div, Mul, Neg, Sub};

pub trait Sealed {}
impl Sealed for f32 {}
impl Sealed for f64 {}
impl Sealed for super::Noisy {}

/// Arithmetic of a reference loop: [`f64`], [`f32`] or [`Noisy`](super::Noisy). Sealed.
pub trait Real:
    Sealed
    + Copy
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// An input; exact.
    fn of(value: f32) -> Self;
    /// A result; exact.
    fn to_f64(self) -> f64;
    /// e^self.
    fn exp(self) -> Self;
    /// e^self - 1.
    fn exp_m1(self) -> Self;
    /// ln(1 + self).
    fn ln_1p(self) -> Self;
    /// Which of `len` terms a sum takes after `i` others.
    fn nth(i: usize, _len: usize) -> usize {
        i
    }
    /// The sum of the terms, one after the other, in the order of [`nth`](Self::nth).
    fn sum(terms: &[Self]) -> Self {
        (0..terms.len()).fold(Self::of(0.0), |sum, i| sum + terms[Self::nth(i, terms.len())])
    }
}

macro_rules! real_float {
    ($float:ty) => {
        impl Real for $float {
            fn of(value: f32) -> Self {
                value.into()
            }
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
        }
    };
}
real_float!(f32);
real_float!(f64);
