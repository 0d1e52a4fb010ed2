//! What a check found: figures, violations of invariants, notes.

use std::collections::BTreeMap;
use std::fmt;

/// How many violations of each invariant are printed; the rest are counted.
const SHOWN: usize = 5;

/// The figures and violations of one trial.
#[derive(Clone, Debug, Default)]
pub struct TrialFindings {
    /// Events in the ledger.
    pub events: usize,
    /// Events with a receipt.
    pub acked: usize,
    /// Records on `raw-events`.
    pub records: usize,
    /// I1: acknowledged events that are lost.
    pub lost: usize,
    /// I2: events with more than one effect.
    pub duplicated: usize,
    /// Copies of outcomes on `processed-events`, each beyond the first.
    pub outcome_copies: usize,
    /// Events that the scorer was asked about again.
    pub rescored: usize,
    /// The records of each minute and how they ended, for a trial that failed.
    pub minutes: Vec<String>,
    pub violations: BTreeMap<&'static str, Vec<String>>,
    /// Why the trial proves nothing about its fault, if so: it did not happen.
    pub not_run: Option<String>,
    /// Figures for the report.
    pub notes: Vec<String>,
}

impl TrialFindings {
    /// Adds a violation.
    pub fn add(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.violations.entry(invariant).or_default().push(what.into());
    }

    /// Adds the violations and notes of another check.
    pub fn take_over(&mut self, other: TrialFindings) {
        for (invariant, found) in other.violations {
            self.violations.entry(invariant).or_default().extend(found);
        }
        self.not_run = self.not_run.take().or(other.not_run);
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
        for minute in &self.minutes {
            writeln!(f, "    {minute}")?;
        }
        Ok(())
    }
}
