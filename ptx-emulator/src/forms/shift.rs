//! Shifts whose amount may be anything, as PTX has them: amounts beyond the width act as the width.

/// An integer that shifts by any amount.
pub(crate) trait Shift: Sized {
    /// Zeros from the right.
    fn left(self, amount: u32) -> Self;
    /// Copies of the sign from the left if the type is signed, zeros if not.
    fn right(self, amount: u32) -> Self;
}

macro_rules! shift {
    ($($type:ty, |$value:ident| $emptied:expr;)*) => {$(
        impl Shift for $type {
            #[inline(always)]
            fn left(self, amount: u32) -> Self {
                if amount < Self::BITS { self.wrapping_shl(amount) } else { 0 }
            }
            #[inline(always)]
            fn right(self, amount: u32) -> Self {
                let $value = self;
                if amount < Self::BITS { $value.wrapping_shr(amount) } else { $emptied }
            }
        }
    )*};
}
shift! {
    u16, |_value| 0;
    u32, |_value| 0;
    u64, |_value| 0;
    i16, |value| value >> 15;
    i32, |value| value >> 31;
    i64, |value| value >> 63;
}
