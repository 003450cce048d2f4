//! Builder methods that take one tensor of a call's argument structs.

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
