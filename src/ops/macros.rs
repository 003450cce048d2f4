//! Builder methods that take one tensor of a call's argument structs, and what those structs are before any was taken.

/// A method that takes an output.
macro_rules! writes {
    ($(#[$doc:meta])* $field:ident: $element:ty) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: &'o mut ViewMut<'_, $element, S>) -> Self {
            self.$field = Some($field.reborrow());
            self
        }
    };
}

/// A method that takes an upstream gradient.
macro_rules! reads {
    ($(#[$doc:meta])* $field:ident: $element:ty) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: View<'u, $element, S>) -> Self {
            self.$field = Some($field);
            self
        }
    };
}

/// `Default` of a struct of optional tensors: none yet.
macro_rules! none_yet {
    ($name:ident<$($generic:ident),*>: $($field:ident),+) => {
        impl<$($generic,)* S: Storage> Default for $name<'_, $($generic,)* S> {
            fn default() -> Self {
                Self { $($field: None),+ }
            }
        }
    };
}

/// Upstream gradients are references: copied, whatever their dtype and storage, and none yet.
macro_rules! upstream {
    ($name:ident<$($generic:ident),*>: $($field:ident),+) => {
        impl<$($generic,)* S: Storage> Clone for $name<'_, $($generic,)* S> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($generic,)* S: Storage> Copy for $name<'_, $($generic,)* S> {}
        none_yet!($name<$($generic),*>: $($field),+);
    };
}
