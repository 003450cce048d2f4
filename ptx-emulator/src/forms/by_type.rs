//! One body for several types.

/// `by_type!(ty, T in [S32: i32, U32: u32], form!(...))`: the expression with `T` standing for the Rust type of `ty`, a
/// [`Type`](crate::types::Type). Other types return `None` from the function. Sets that come often have names:
/// `integers`, `signed`, `bits` and `unsigned`.
macro_rules! by_type {
    ($ty:expr, $alias:ident in integers, $form:expr) => {
        by_type!($ty, $alias in [S16: i16, U16: u16, S32: i32, U32: u32, S64: i64, U64: u64], $form)
    };
    ($ty:expr, $alias:ident in signed, $form:expr) => {
        by_type!($ty, $alias in [S16: i16, S32: i32, S64: i64], $form)
    };
    ($ty:expr, $alias:ident in unsigned, $form:expr) => {
        by_type!($ty, $alias in [U16: u16, U32: u32, U64: u64], $form)
    };
    ($ty:expr, $alias:ident in bits, $form:expr) => {
        by_type!($ty, $alias in [B16: u16, B32: u32, B64: u64], $form)
    };
    ($ty:expr, $alias:ident in [$($name:ident: $type:ty),+], $form:expr) => {
        match $ty {
            $($crate::types::Type::$name => {
                type $alias = $type;
                $form
            })+
            _ => return None,
        }
    };
    ($ty:expr, $narrow:ident < $wide:ident in [$($name:ident: $type:ty, $twice:ty;)+], $form:expr) => {
        match $ty {
            $($crate::types::Type::$name => {
                type $narrow = $type;
                type $wide = $twice;
                $form
            })+
            _ => return None,
        }
    };
}

pub(crate) use by_type;
