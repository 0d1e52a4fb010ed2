//! The rules: data with a version, compiled once per cold start.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// Highest score, and the limit for the sum of the weights.
const MAX_SCORE: u8 = 100;

/// The rules in this build.
const SHIPPED: &str = include_str!("../rules.json");

/// Why a set of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("the rules do not have the format of rules.json")]
    Malformed(#[from] serde_json::Error),
    #[error("the rules have no version")]
    NoVersion,
    #[error("rule {name:?} has weight {weight}, more than {MAX_SCORE}")]
    Weight { name: String, weight: u8 },
    #[error("two rules have the name {0:?}")]
    SameName(String),
}

/// What a rule looks at.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Condition {
    /// The address is in one of the networks.
    AddressIn { ranges: Vec<IpNet> },
    /// The event has no address.
    AddressMissing,
}

impl Condition {
    fn matches(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Condition::AddressIn { ranges }, Some(address)) => ranges.iter().any(|range| range.contains(&address)),
            (Condition::AddressIn { .. }, None) | (Condition::AddressMissing, Some(_)) => false,
            (Condition::AddressMissing, None) => true,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Rule {
    name: String,
    /// Points added to the score on a match, 0 to 100. A rule of weight 0 only adds its name to the reasons.
    weight: u8,
    #[serde(flatten)]
    condition: Condition,
}

/// A versioned set of rules.
#[derive(Debug, Deserialize)]
pub struct Rules {
    version: String,
    rules: Vec<Rule>,
}

/// The result of the rules for one event.
#[derive(Debug, PartialEq, Eq)]
pub struct Assessment<'a> {
    /// The sum of the weights of the rules that matched, at most 100.
    pub risk_score: u8,
    /// The names of those rules, in the order of the rules.
    pub reasons: Vec<&'a str>,
}

impl Rules {
    /// The rules in this build.
    ///
    /// # Errors
    /// [`RulesError`] if the file in this build is wrong; a test checks that it is not.
    pub fn shipped() -> Result<Self, RulesError> {
        Self::parse(SHIPPED)
    }

    /// Reads rules in the format of `rules.json`.
    ///
    /// # Errors
    /// [`RulesError`] if the text has another format, no version, a weight above 100 or the same name twice.
    pub fn parse(json: &str) -> Result<Self, RulesError> {
        let set: Rules = serde_json::from_str(json)?;
        if set.version.is_empty() {
            return Err(RulesError::NoVersion);
        }
        for (index, rule) in set.rules.iter().enumerate() {
            if rule.weight > MAX_SCORE {
                return Err(RulesError::Weight { name: rule.name.clone(), weight: rule.weight });
            }
            if set.rules[..index].iter().any(|earlier| earlier.name == rule.name) {
                return Err(RulesError::SameName(rule.name.clone()));
            }
        }
        Ok(set)
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// Scores an event by its address. IPv4 written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn assess(&self, address: Option<IpAddr>) -> Assessment<'_> {
        let address = address.map(|address| address.to_canonical());
        let mut assessment = Assessment { risk_score: 0, reasons: Vec::new() };
        for rule in self.rules.iter().filter(|rule| rule.condition.matches(address)) {
            assessment.risk_score = assessment.risk_score.saturating_add(rule.weight).min(MAX_SCORE);
            assessment.reasons.push(&rule.name);
        }
        assessment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped_score(address: &str) -> u8 {
        Rules::shipped().unwrap().assess(Some(address.parse().unwrap())).risk_score
    }

    #[test]
    fn the_private_range_scores_100_and_nothing_else_does() {
        for address in ["10.0.0.0", "10.1.2.3", "10.255.255.255", "::ffff:10.9.8.7"] {
            assert_eq!(shipped_score(address), 100, "{address}");
        }
        for address in ["9.255.255.255", "11.0.0.0", "192.168.1.1", "203.0.113.10", "::1", "2001:db8::10"] {
            assert_eq!(shipped_score(address), 0, "{address}");
        }
    }

    #[test]
    fn a_missing_address_scores_0_and_says_so() {
        let rules = Rules::shipped().unwrap();
        assert_eq!(rules.assess(None), Assessment { risk_score: 0, reasons: vec!["no-address"] });
    }

    #[test]
    fn weights_add_up_to_100_at_most() {
        let rules = Rules::parse(
            r#"{"version":"1","rules":[
                {"name":"a","weight":70,"kind":"address-in","ranges":["192.0.2.0/24","2001:db8::/32"]},
                {"name":"b","weight":20,"kind":"address-in","ranges":["192.0.2.0/25"]},
                {"name":"c","weight":60,"kind":"address-in","ranges":["192.0.2.0/26"]}]}"#,
        )
        .unwrap();
        let assess = |address: &str| rules.assess(Some(address.parse().unwrap()));
        assert_eq!(assess("192.0.2.200"), Assessment { risk_score: 70, reasons: vec!["a"] });
        assert_eq!(assess("192.0.2.100"), Assessment { risk_score: 90, reasons: vec!["a", "b"] });
        assert_eq!(assess("192.0.2.1"), Assessment { risk_score: 100, reasons: vec!["a", "b", "c"] });
        assert_eq!(assess("2001:db8::1"), Assessment { risk_score: 70, reasons: vec!["a"] });
    }

    #[test]
    fn refuses_rules_it_cannot_mean() {
        for (json, message) in [
            ("[]", "the rules do not have the format of rules.json"),
            (r#"{"version":"","rules":[]}"#, "the rules have no version"),
            (
                r#"{"version":"1","rules":[{"name":"a","weight":101,"kind":"address-missing"}]}"#,
                "rule \"a\" has weight 101, more than 100",
            ),
            (
                r#"{"version":"1","rules":[{"name":"a","weight":1,"kind":"user-is-odd"}]}"#,
                "the rules do not have the format of rules.json",
            ),
            (
                r#"{"version":"1","rules":[{"name":"a","weight":1,"kind":"address-missing"},
                    {"name":"a","weight":2,"kind":"address-missing"}]}"#,
                "two rules have the name \"a\"",
            ),
        ] {
            assert_eq!(Rules::parse(json).unwrap_err().to_string(), message);
        }
    }
}
