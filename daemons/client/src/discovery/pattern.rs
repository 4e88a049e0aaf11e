//! Which segments a query means.

use std::{collections::HashSet, ops::Bound};

use regex::Regex;
use trough_core::SegmentId;

/// A condition on segment ids.
#[derive(Clone, Debug)]
pub enum SegmentPattern {
    /// Every segment.
    All,
    /// Ids that begin with the text.
    Prefix(String),
    /// Ids in which the regular expression matches somewhere.
    Regex(Regex),
    /// Ids between two bounds, compared byte by byte.
    Range {
        /// The lower bound.
        low: Bound<String>,
        /// The upper bound.
        high: Bound<String>,
    },
    /// These and no others.
    Ids(Vec<SegmentId>),
    /// All of the conditions hold.
    And(Vec<SegmentPattern>),
}

impl SegmentPattern {
    /// A regular expression's pattern.
    ///
    /// # Errors
    /// [`regex::Error`] if it is none.
    pub fn regex(pattern: &str) -> Result<Self, regex::Error> {
        Regex::new(pattern).map(Self::Regex)
    }

    /// Whether an id fulfils the condition.
    pub fn matches(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => id.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_match(id),
            Self::Range { low, high } => {
                let above = match low {
                    Bound::Included(low) => id >= low.as_str(),
                    Bound::Excluded(low) => id > low.as_str(),
                    Bound::Unbounded => true,
                };
                let below = match high {
                    Bound::Included(high) => id <= high.as_str(),
                    Bound::Excluded(high) => id < high.as_str(),
                    Bound::Unbounded => true,
                };
                above && below
            }
            Self::Ids(ids) => ids.iter().any(|i| i.as_str() == id),
            Self::And(all) => all.iter().all(|p| p.matches(id)),
        }
    }

    /// A text that every id which fulfils the condition begins with; empty where none is known.
    pub fn literal_prefix(&self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.clone(),
            Self::Regex(regex) => anchored_literal(regex.as_str()),
            Self::And(all) => all.iter().map(Self::literal_prefix).max_by_key(String::len).unwrap_or_default(),
            Self::All | Self::Range { .. } | Self::Ids(_) => String::new(),
        }
    }

    /// If the condition names its segments: those of them that fulfil all of it, each once, in their order.
    pub fn named(&self) -> Option<Vec<SegmentId>> {
        let candidates = match self {
            Self::Ids(ids) => ids.clone(),
            Self::And(all) => {
                // The shortest list decides; every other one is a condition on it.
                let (at, ids) = all
                    .iter()
                    .enumerate()
                    .filter_map(|(at, p)| Some((at, p.named()?)))
                    .min_by_key(|(_, ids)| ids.len())?;
                let sets: Vec<(usize, HashSet<SegmentId>)> = all
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| *i != at)
                    .filter_map(|(i, p)| Some((i, p.named()?.into_iter().collect())))
                    .collect();
                ids.into_iter()
                    .filter(|id| {
                        all.iter().enumerate().filter(|(i, _)| *i != at).all(|(i, p)| {
                            match sets.iter().find(|(j, _)| *j == i) {
                                Some((_, set)) => set.contains(id),
                                None => p.matches(id.as_str()),
                            }
                        })
                    })
                    .collect()
            }
            _ => return None,
        };
        let mut seen = HashSet::with_capacity(candidates.len());
        Some(candidates.into_iter().filter(|id| seen.insert(id.clone())).collect())
    }

    /// Whether the condition names its segments.
    pub(crate) fn is_named(&self) -> bool {
        match self {
            Self::Ids(_) => true,
            Self::And(all) => all.iter().any(Self::is_named),
            Self::All | Self::Prefix(_) | Self::Regex(_) | Self::Range { .. } => false,
        }
    }

    /// A text equal for equal conditions, by which listings are kept.
    pub(crate) fn key(&self) -> String {
        format!("{self:?}")
    }
}

/// The plain characters after a regular expression's `^`, if it can match nowhere else: `^N1` in `^N1[0-9]+`. Characters that may
/// mean something end it.
fn anchored_literal(pattern: &str) -> String {
    let Some(rest) = pattern.strip_prefix('^').filter(|rest| !rest.contains('|')) else { return String::new() };
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '/');
    let mut literal: String = rest.chars().take_while(plain).collect();
    // What follows may make the last character optional.
    if rest[literal.len()..].starts_with(['*', '?', '{']) {
        literal.pop();
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(s: &str) -> SegmentId {
        SegmentId::new(s).expect("valid id")
    }

    #[test]
    fn conditions_combine() {
        let p = SegmentPattern::And(vec![
            SegmentPattern::Prefix("N1".into()),
            SegmentPattern::regex("[0-9]$").expect("valid"),
            SegmentPattern::Range { low: Bound::Excluded("N10".into()), high: Bound::Included("N15".into()) },
        ]);
        assert!(p.matches("N11") && p.matches("N15") && p.matches("N149"));
        assert!(!p.matches("N10") && !p.matches("N1X") && !p.matches("N16") && !p.matches("M11"));
        assert!(p.named().is_none() && !p.is_named());
        let named = SegmentPattern::And(vec![SegmentPattern::Ids(vec![id("N11"), id("N10"), id("N11"), id("N12")]), p]);
        assert!(named.is_named());
        assert_eq!(named.named(), Some(vec![id("N11"), id("N12")]));
        let both = SegmentPattern::And(vec![named, SegmentPattern::Ids(vec![id("N12")])]);
        assert_eq!(both.named(), Some(vec![id("N12")]));
    }
    #[test]
    fn anchored_expressions_have_a_prefix() {
        let prefix = |pattern: &str| SegmentPattern::regex(pattern).expect("valid").literal_prefix();
        for (pattern, expected) in [
            ("^N1[0-9]+$", "N1"),
            ("^300123$", "300123"),
            ("^N1?", "N"),
            ("^N1*x", "N"),
            ("^ab{2}", "a"),
            ("^ab+", "ab"),
            ("^a|b", ""),
            ("N1", ""),
            ("(?i)^n1", ""),
            (".*", ""),
            ("^", ""),
            ("^crawl-\\d", "crawl-"),
        ] {
            assert_eq!(prefix(pattern), expected, "{pattern}");
        }
        let both = SegmentPattern::And(vec![
            SegmentPattern::Prefix("N".into()),
            SegmentPattern::regex("^N12").expect("valid"),
        ]);
        assert_eq!(both.literal_prefix(), "N12");
    }
}
