//! Tests of the floating-point forms, against arithmetic written apart from theirs.

mod listing;
