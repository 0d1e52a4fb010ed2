//! What a check found: figures, violations of invariants, notes.

use std::collections::BTreeMap;
use std::fmt;

/// Violations printed of each kind; the rest is counted.
const SHOWN: usize = 5;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct TrialFindings {
    /// Events in the ledger.
    pub events: usize,
    /// Of these with a receipt.
    pub acked: usize,
    /// Records on `raw-events`.
    pub records: usize,
    /// I1: acknowledged events that ended nowhere.
    pub lost: usize,
    /// I2: events with more than one effect.
    pub duplicated: usize,
    /// Copies of outcomes on `processed-events`, each beyond the first.
    pub outcome_copies: usize,
    /// Events that the scorer was asked about again.
    pub rescored: usize,
    pub violations: BTreeMap<&'static str, Vec<String>>,
    /// Figures worth telling.
    pub notes: Vec<String>,
}

impl TrialFindings {
    /// Notes a violation.
    pub fn add(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.violations.entry(invariant).or_default().push(what.into());
    }

    /// Takes over violations and notes that were found elsewhere.
    pub fn take_over(&mut self, other: TrialFindings) {
        for (invariant, found) in other.violations {
            self.violations.entry(invariant).or_default().extend(found);
        }
        self.notes.extend(other.notes);
    }
}

impl fmt::Display for TrialFindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (invariant, found) in &self.violations {
            for what in found.iter().take(SHOWN) {
                writeln!(f, "    {invariant}: {what}")?;
            }
            if found.len() > SHOWN {
                writeln!(f, "    {invariant}: and {} more", found.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}
