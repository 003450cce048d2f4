//! One body for several values of a modifier: the companions of `by_type!`.

/// `by_flag!(ftz, FTZ, form!(...))`: the expression with a constant `FTZ` of the value of `ftz`.
macro_rules! by_flag {
    ($flag:expr, $name:ident, $form:expr) => {
        if $flag {
            const $name: bool = true;
            $form
        } else {
            const $name: bool = false;
            $form
        }
    };
}

/// `by_mode!(mode, MODE, form!(...))`: the expression with a constant `MODE`, a [`Mode`](crate::arith::Mode), of one of
/// the four roundings of PTX. Others return `None` from the function.
macro_rules! by_mode {
    ($mode:expr, $name:ident, $form:expr) => {
        match $mode {
            $crate::arith::Mode::Nearest => {
                const $name: $crate::arith::Mode = $crate::arith::Mode::Nearest;
                $form
            }
            $crate::arith::Mode::Zero => {
                const $name: $crate::arith::Mode = $crate::arith::Mode::Zero;
                $form
            }
            $crate::arith::Mode::Down => {
                const $name: $crate::arith::Mode = $crate::arith::Mode::Down;
                $form
            }
            $crate::arith::Mode::Up => {
                const $name: $crate::arith::Mode = $crate::arith::Mode::Up;
                $form
            }
            $crate::arith::Mode::Away => return None,
        }
    };
}

/// `by_choice!(value, NAME: Type = [A, B], form!(...))`: the expression with a constant `NAME` of the value that
/// matches. Others return `None` from the function.
macro_rules! by_choice {
    ($value:expr, $name:ident: $type:ty = [$($choice:path),+], $form:expr) => {
        match $value {
            $($choice => {
                const $name: $type = $choice;
                $form
            })+
            #[allow(unreachable_patterns)]
            _ => return None,
        }
    };
}

/// `by_ftz!(ty, ftz, T, FTZ in [F32: f32] or [F64: f64], form!(...))`: the expression with `T` standing for the Rust
/// type of `ty` and a constant `FTZ`, which is true for types of the first list alone. What is in neither list, and
/// `ftz` with a type of the second, return `None` from the function.
macro_rules! by_ftz {
    (
        $ty:expr, $ftz:expr, $alias:ident, $name:ident in
        [$($flushing:ident: $flushing_type:ty),*] or [$($other:ident: $other_type:ty),*],
        $form:expr
    ) => {
        match ($ty, $ftz) {
            $(
                ($crate::types::Type::$flushing, true) => {
                    type $alias = $flushing_type;
                    const $name: bool = true;
                    $form
                }
                ($crate::types::Type::$flushing, false) => {
                    type $alias = $flushing_type;
                    const $name: bool = false;
                    $form
                }
            )*
            $(($crate::types::Type::$other, false) => {
                type $alias = $other_type;
                const $name: bool = false;
                $form
            })*
            _ => return None,
        }
    };
}

pub(crate) use {by_choice, by_flag, by_ftz, by_mode};
