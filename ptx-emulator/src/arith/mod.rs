//! Scalar arithmetic, exactly as PTX defines it.
