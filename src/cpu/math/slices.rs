//! The functions over slices, for tests and benches.

use super::decay::{self, Decay, Held, Rate, Small};
use super::exp::{Any, UpTo70};
use super::lanes::fma;
use super::{exp, logistic};
use pulp::{Arch, Simd, WithSimd};

/// A function of N arguments, element by element.
pub trait Function<const N: usize>: Copy {
    fn call<S: Simd>(self, simd: S, arguments: [S::f32s; N]) -> S::f32s;
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),+): |$simd:ident| $result:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Function<{ [$(stringify!($argument)),+].len() }> for $name {
            #[inline(always)]
            fn call<S: Simd>(self, $simd: S, [$($argument),+]: [S::f32s; [$(stringify!($argument)),+].len()]) -> S::f32s {
                $result
            }
        }
    )+};
}

functions! {
    /// [`exp::exp`].
    Exp(v): |simd| exp::exp(simd, Any, v);
    /// [`exp::exp`] for arguments up to 70.
    ExpUpTo70(v): |simd| exp::exp(simd, UpTo70, v);
    /// [`exp::exp2`].
    Exp2(v): |simd| exp::exp2(simd, Any, v);
    /// [`exp::exp2`] for arguments up to 101.
    Exp2UpTo70(v): |simd| exp::exp2(simd, UpTo70, v);
    /// e^(delta a) h + input, of [`decay::Small`].
    DecaySmall(delta, a, h, input): |simd| decayed(simd, Small, [delta, a, h, input]);
    /// e^(delta a) h + input, of [`decay::Any`].
    DecayAny(delta, a, h, input): |simd| decayed(simd, decay::Any, [delta, a, h, input]);
    /// e^(delta a), of [`decay::Small`].
    DecayValueSmall(delta, a): |simd| Small.value(simd, Small.power(simd, delta, Rate::new(simd, a)));
    /// e^(delta a), of [`decay::Any`].
    DecayValueAny(delta, a): |simd| decay::Any.value(simd, decay::Any.power(simd, delta, Rate::new(simd, a)));
    /// e^v, of [`decay::Any`], v being a rounded product.
    DecayValueOfProduct(v): |simd| decay::Any.value(simd, decay::Any.power(simd, v, Rate::one(simd)));
    /// e^(delta a) h + input, of [`Held`].
    HeldAdvance(delta, a, h, input): |simd| {
        Held::<S, true>::advance(simd, held(simd, decay::Any, [delta, a]), h, input)
    };
    /// The same where nothing is held.
    UnheldAdvance(delta, a, h, input): |simd| {
        Held::<S, false>::advance(simd, held(simd, Small, [delta, a]), h, input)
    };
    /// e^(delta a) dh + g c, of [`Held`].
    HeldPlus(delta, a, dh, g, c): |simd| {
        Held::<S, true>::new(simd, held(simd, decay::Any, [delta, a]), dh).plus(simd, g, c)
    };
    /// e^(delta a) dh h, times one factor and added to one sum, and by itself added to another, of [`Held`]: the first.
    HeldTimes(delta, a, dh, h, factor, sum, other): |simd| {
        let product = Held::<S, true>::new(simd, held(simd, decay::Any, [delta, a]), dh);
        let both = product.times_beside(simd, h, [[factor, sum], [simd.splat_f32s(1.0), other]]);
        fma(simd, both, factor, sum)
    };
    /// The same where nothing is held.
    UnheldTimes(delta, a, dh, h, factor, sum): |simd| {
        let product = Held::<S, false>::new(simd, held(simd, Small, [delta, a]), dh);
        let both = product.times_beside(simd, h, [[factor, sum], [factor, sum]]);
        fma(simd, both, factor, sum)
    };
    /// [`exp::exp_m1`].
    ExpM1(v): |simd| exp::exp_m1(simd, v);
    /// [`logistic::ln_1p_unit`].
    Ln1pUnit(y): |simd| logistic::ln_1p_unit(simd, y);
    /// [`logistic::softplus`].
    Softplus(v): |simd| logistic::softplus(simd, v);
    /// [`logistic::softplus_derivative`].
    SoftplusDerivative(v): |simd| logistic::softplus_derivative(simd, v);
    /// [`logistic::sigmoid`].
    Sigmoid(v): |simd| logistic::sigmoid(simd, v);
    /// [`logistic::silu`].
    Silu(v): |simd| logistic::silu(simd, v);
    /// [`logistic::silu_derivative`].
    SiluDerivative(v): |simd| logistic::silu_derivative(simd, v);
}

#[inline(always)]
fn held<S: Simd>(simd: S, decay: impl Decay, [delta, a]: [S::f32s; 2]) -> S::f32s {
    decay.held(simd, decay.power(simd, delta, Rate::new(simd, a)))
}

#[inline(always)]
fn decayed<S: Simd>(simd: S, decay: impl Decay, [delta, a, h, input]: [S::f32s; 4]) -> S::f32s {
    decay.advance(simd, decay.power(simd, delta, Rate::new(simd, a)), h, input)
}

struct Map<'a, F, const N: usize> {
    function: F,
    arguments: [&'a [f32]; N],
    results: &'a mut [f32],
}

impl<F: Function<N>, const N: usize> WithSimd for Map<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_mut_simd_f32s(self.results);
        let split = self.arguments.map(|argument| S::as_simd_f32s(argument));
        let split = split.map(|(whole, rest)| (&whole[..vectors.len()], rest));
        for (i, vector) in vectors.iter_mut().enumerate() {
            *vector = self.function.call(simd, split.map(|(vectors, _)| vectors[i]));
        }
        if !rest.is_empty() {
            let last = self.function.call(simd, split.map(|(_, rest)| simd.partial_load_f32s(rest)));
            simd.partial_store_f32s(rest, last);
        }
    }
}

/// `function` of each element with the instructions of `simd`.
///
/// # Panics
/// If the slices' lengths differ.
pub fn map_with<const N: usize>(
    simd: impl Simd,
    function: impl Function<N>,
    arguments: [&[f32]; N],
    results: &mut [f32],
) {
    assert!(arguments.iter().all(|argument| argument.len() == results.len()), "slices of one length");
    simd.vectorize(Map { function, arguments, results });
}

/// `function` of each element with the best instructions that the machine has.
///
/// # Panics
/// If the slices' lengths differ.
pub fn map<const N: usize>(function: impl Function<N>, arguments: [&[f32]; N], results: &mut [f32]) {
    assert!(arguments.iter().all(|argument| argument.len() == results.len()), "slices of one length");
    Arch::new().dispatch(Map { function, arguments, results });
}
