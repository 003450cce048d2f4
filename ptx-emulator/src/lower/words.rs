//! Modifiers of `ld`, `st`, `atom` and `red` beside their operation and type.

use crate::parse::ast::Space;
use crate::program::Release;

/// Whose modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Load,
    Store,
    Atomic,
}

/// What the modifiers say. What steers caches alone is checked, and has no effect here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub space: Option<Space>,
    pub vector: Option<u32>,
    /// Other blocks may be waiting for it: volatile, or ordered.
    pub volatile: bool,
    pub release: Release,
    pub noncoherent: bool,
    /// A cache policy follows the operands.
    pub cache_hint: bool,
}

/// Kinds of modifiers, of which an instruction has one each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Order,
    Mmio,
    Scope,
    Cache,
    First,
    Second,
    Policy,
    Prefetch,
    NonCoherent,
    Vector,
}

/// Reads them in any order; `None` if one is unknown, comes twice, or contradicts the others.
pub(super) fn words(owner: Owner, modifiers: &[&str]) -> Option<Words> {
    let mut words = Words::default();
    let mut seen: Vec<Kind> = Vec::new();
    let (mut order, mut scope) = ("weak", "gpu");
    for &modifier in modifiers {
        let kind = kind(owner, modifier)?;
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            Kind::Space => words.space = space(modifier),
            Kind::Order => order = modifier,
            Kind::Cache => words.volatile |= matches!(modifier, "cv" | "wt"),
            Kind::Policy => words.cache_hint = true,
            Kind::NonCoherent => words.noncoherent = true,
            Kind::Vector => words.vector = modifier[1..].parse().ok(),
            Kind::Scope => scope = modifier,
            Kind::Mmio | Kind::First | Kind::Second | Kind::Prefetch => {}
        }
    }
    let has = |kind| seen.contains(&kind);
    let ordered = !matches!(order, "weak" | "volatile");
    words.volatile |= ordered || order == "volatile";
    words.release = match (order, scope) {
        ("release" | "acq_rel", "cta") => Release::Block,
        ("release" | "acq_rel", _) => Release::Device,
        _ => Release::None,
    };
    let consistent = match owner {
        Owner::Atomic => !matches!(words.space, Some(Space::Local | Space::Const | Space::Param)),
        // A scope belongs to an order; the non-coherent path is that of global memory and knows none.
        _ => {
            ordered == has(Kind::Scope)
                && (!has(Kind::Mmio) || order == "relaxed")
                && (!words.noncoherent || (words.space == Some(Space::Global) && !has(Kind::Order)))
                && (owner == Owner::Load || words.space != Some(Space::Const))
        }
    };
    consistent.then_some(words)
}

fn kind(owner: Owner, modifier: &str) -> Option<Kind> {
    let (load, atomic) = (owner == Owner::Load, owner == Owner::Atomic);
    Some(match modifier {
        _ if space(modifier).is_some() => Kind::Space,
        "relaxed" => Kind::Order,
        "weak" | "volatile" if !atomic => Kind::Order,
        "acquire" if owner != Owner::Store => Kind::Order,
        "release" if !load => Kind::Order,
        "acq_rel" if atomic => Kind::Order,
        "mmio" if !atomic => Kind::Mmio,
        "cta" | "cluster" | "gpu" | "sys" => Kind::Scope,
        "cg" | "cs" if !atomic => Kind::Cache,
        "ca" | "lu" | "cv" if load => Kind::Cache,
        "wb" | "wt" if owner == Owner::Store => Kind::Cache,
        "L1::evict_normal" | "L1::evict_unchanged" | "L1::evict_first" | "L1::evict_last" | "L1::no_allocate"
            if !atomic =>
        {
            Kind::First
        }
        "L2::evict_normal" | "L2::evict_first" | "L2::evict_last" if !atomic => Kind::Second,
        "L2::cache_hint" => Kind::Policy,
        "L2::64B" | "L2::128B" | "L2::256B" if load => Kind::Prefetch,
        "nc" if load => Kind::NonCoherent,
        "v2" | "v4" | "v8" if !atomic => Kind::Vector,
        _ => return None,
    })
}

fn space(modifier: &str) -> Option<Space> {
    Some(match modifier {
        "global" => Space::Global,
        "shared" | "shared::cta" => Space::Shared,
        "local" => Space::Local,
        "const" => Space::Const,
        "param" | "param::entry" | "param::func" => Space::Param,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(owner: Owner, text: &str) -> Option<Words> {
        words(owner, &text.split('.').filter(|word| !word.is_empty()).collect::<Vec<_>>())
    }

    #[test]
    fn what_belongs_together_is_taken() {
        let found = read(Owner::Load, "global.nc.L1::no_allocate.L2::128B.v4").unwrap();
        assert_eq!((found.space, found.vector, found.noncoherent), (Some(Space::Global), Some(4), true));
        assert!(!found.volatile && !found.cache_hint);
        for text in ["volatile.shared", "relaxed.gpu.global", "acquire.sys", "global.cv", "mmio.relaxed.sys.global"] {
            assert!(read(Owner::Load, text).unwrap().volatile, "{text}");
        }
        assert!(!read(Owner::Load, "weak.global").unwrap().volatile);
        assert!(read(Owner::Atomic, "acq_rel.gpu.global").is_some() && read(Owner::Atomic, "gpu").is_some());
        for (text, release) in
            [("relaxed.gpu", Release::None), ("release.cta", Release::Block), ("release.sys", Release::Device)]
        {
            assert_eq!(read(Owner::Store, text).unwrap().release, release, "{text}");
        }
        assert_eq!(read(Owner::Atomic, "acq_rel").unwrap().release, Release::Device);
        assert!(read(Owner::Store, "release.cta.shared::cta").is_some());
    }

    #[test]
    fn what_does_not_is_refused() {
        for (owner, text) in [
            (Owner::Load, "global.global"),
            (Owner::Load, "global.shared"),
            (Owner::Load, "v2.v4"),
            (Owner::Load, "nc"),
            (Owner::Load, "shared.nc"),
            (Owner::Load, "volatile.global.nc"),
            (Owner::Load, "release.gpu"),
            (Owner::Load, "relaxed"),
            (Owner::Load, "gpu.global"),
            (Owner::Load, "volatile.gpu"),
            (Owner::Load, "mmio.global"),
            (Owner::Load, "wt"),
            (Owner::Load, "L2::1B"),
            (Owner::Load, "L3::evict_last"),
            (Owner::Store, "global.nc"),
            (Owner::Store, "const"),
            (Owner::Store, "acquire.gpu"),
            (Owner::Store, "L2::64B"),
            (Owner::Atomic, "volatile"),
            (Owner::Atomic, "local"),
            (Owner::Atomic, "v2"),
            (Owner::Atomic, "cg"),
        ] {
            assert_eq!(read(owner, text), None, "{owner:?} {text}");
        }
    }
}
