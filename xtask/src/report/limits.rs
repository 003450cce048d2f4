//! `limits.toml`: what no count may exceed.

use std::collections::BTreeMap;

use crate::build;
use crate::root;

pub const FILE: &str = "limits.toml";

/// A bound on one number: the most (or the least) that it may be, and what it is to become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    pub ceiling: Option<f64>,
    pub floor: Option<f64>,
    pub target: Option<f64>,
}

/// By dotted name.
pub type Limits = BTreeMap<String, Limit>;

pub fn read() -> Result<Limits, String> {
    parse(&build::read(&root().join(FILE))?)
}

fn parse(text: &str) -> Result<Limits, String> {
    let table: toml::Table = text.parse().map_err(|error| format!("{FILE}: {error}"))?;
    let mut limits = Limits::new();
    flatten("", &table, &mut limits)?;
    Ok(limits)
}

/// A table of numbers is a limit, of tables a part of a name.
fn flatten(name: &str, table: &toml::Table, limits: &mut Limits) -> Result<(), String> {
    let number = |key: &str| match table.get(key) {
        Some(toml::Value::Float(number)) => Ok(Some(*number)),
        Some(toml::Value::Integer(number)) => Ok(Some(*number as f64)),
        Some(_) => Err(format!("{FILE}: {name}.{key} is no number")),
        None => Ok(None),
    };
    let is_limit = |key: &str| ["ceiling", "floor", "target"].contains(&key);
    if table.keys().any(|key| is_limit(key)) {
        if let Some(key) = table.keys().find(|key| !is_limit(key)) {
            return Err(format!("{FILE}: {name}.{key}: expected ceiling, floor or target"));
        }
        let limit = Limit { ceiling: number("ceiling")?, floor: number("floor")?, target: number("target")? };
        if limit.ceiling.is_some() == limit.floor.is_some() {
            return Err(format!("{FILE}: {name}: expected a ceiling or a floor"));
        }
        limits.insert(name.to_string(), limit);
        return Ok(());
    }
    for (key, value) in table {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&name, table, limits)?,
            _ => return Err(format!("{FILE}: {name} is no table")),
        }
    }
    Ok(())
}

impl Limit {
    fn holds(&self, number: f64) -> bool {
        self.ceiling.is_none_or(|ceiling| number <= ceiling) && self.floor.is_none_or(|floor| number >= floor)
    }

    /// None if there is no target.
    pub fn is_reached(&self, number: f64) -> Option<bool> {
        let target = self.target?;
        Some(if self.ceiling.is_some() { number <= target } else { number >= target })
    }
}

/// What is beyond its limit, has none, or is not counted.
pub fn broken(limits: &Limits, counted: &BTreeMap<String, f64>) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, &number) in counted {
        match limits.get(name) {
            None => broken.push(format!("{name} is {number:.3}, and {FILE} has no limit for it")),
            Some(limit) if !limit.holds(number) => {
                let (what, bound) =
                    limit.ceiling.map_or(("at least", limit.floor), |ceiling| ("at most", Some(ceiling)));
                broken.push(format!("{name} is {number:.3}: {what} {}", bound.unwrap_or(f64::NAN)));
            }
            Some(_) => {}
        }
    }
    let missing = limits.keys().filter(|name| !counted.contains_key(*name));
    broken.extend(missing.map(|name| format!("{name} has a limit in {FILE}, and is not counted")));
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_held() {
        let text = "[a]\nb = { ceiling = 2, target = 1.5 }\n[a.c]\nd = { floor = 1 }\n";
        let limits = parse(text).expect("limits");
        let counted = |b: f64, d: f64| BTreeMap::from([("a.b".to_string(), b), ("a.c.d".to_string(), d)]);
        assert!(broken(&limits, &counted(2.0, 1.0)).is_empty());
        assert_eq!(broken(&limits, &counted(2.1, 0.9)), ["a.b is 2.100: at most 2", "a.c.d is 0.900: at least 1"]);
        assert_eq!(limits["a.b"].is_reached(1.6), Some(false));
        assert_eq!(limits["a.c.d"].is_reached(1.6), None);
        let none = BTreeMap::from([("a.x".to_string(), 1.0)]);
        assert_eq!(broken(&limits, &none).len(), 3);
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["a = 1", "[a]\nceiling = 1\nfloor = 2", "[a]\nceiling = 1\nother = 2", "[a]\nceiling = \"x\"", "["]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
