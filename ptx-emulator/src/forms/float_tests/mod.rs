//! Tests of the floating-point forms, against arithmetic written apart from theirs.

mod adversarial;
mod arithmetic;
mod compare;
mod convert;
mod listing;
mod oracle;
mod signs;
mod special;
