//! A strict cursor over an instruction's modifiers, in the order of the PTX ISA.

use crate::types::Type;

/// What is left of an instruction's modifiers. A form takes them from the front, in the order that the PTX ISA writes
/// them; [`done`](Self::done) refuses what nobody took, so that no modifier is ever ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modifiers<'a> {
    left: &'a [&'a str],
}

impl<'a> Modifiers<'a> {
    /// The modifiers without their dots: `["rn", "ftz", "f32"]`.
    pub fn new(modifiers: &'a [&'a str]) -> Self {
        Self { left: modifiers }
    }

    /// Whether the next modifier is `name`; takes it if so.
    pub fn take(&mut self, name: &str) -> bool {
        self.take_any(&[name]).is_some()
    }

    /// Takes the next modifier if it is one of `names`.
    pub fn take_any(&mut self, names: &[&str]) -> Option<&'a str> {
        let (first, rest) = self.left.split_first()?;
        if !names.contains(first) {
            return None;
        }
        self.left = rest;
        Some(first)
    }

    /// Takes the next modifier if it names a type.
    pub fn take_type(&mut self) -> Option<Type> {
        let (first, rest) = self.left.split_first()?;
        let ty = Type::from_name(first)?;
        self.left = rest;
        Some(ty)
    }

    /// `None` unless every modifier was taken.
    pub fn done(self) -> Option<()> {
        self.left.is_empty().then_some(())
    }

    /// A type as the last modifier: the end of most forms.
    pub fn last_type(mut self) -> Option<Type> {
        let ty = self.take_type()?;
        self.done()?;
        Some(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_taken_from_the_front_alone() {
        let names = ["rn", "ftz", "f32"];
        let mut modifiers = Modifiers::new(&names);
        assert!(!modifiers.take("ftz"), "not the next one");
        assert_eq!(modifiers.take_any(&["rz", "rn"]), Some("rn"));
        assert_eq!(modifiers.take_type(), None);
        assert!(modifiers.take("ftz"));
        assert_eq!(modifiers.done(), None, "the type is left");
        assert_eq!(modifiers.last_type(), Some(Type::F32));
        assert_eq!(modifiers.take_type(), Some(Type::F32));
        assert_eq!(modifiers.done(), Some(()));
        assert!(!modifiers.take("f32"));
    }

    #[test]
    fn a_modifier_after_the_type_is_refused() {
        let names = ["f32", "sat"];
        assert_eq!(Modifiers::new(&names).last_type(), None);
    }
}
