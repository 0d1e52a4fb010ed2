//! What a run says at its end.

use std::fmt;
use std::time::Duration;

use crate::scenarios::Scenario;
use crate::trial::Trial;

/// How a scenario ended.
#[derive(Debug)]
pub enum Verdict {
    Judged(Vec<Trial>),
    /// It could not be carried out.
    Broken(anyhow::Error),
    NotBuilt,
}

/// One scenario's line.
#[derive(Debug)]
pub struct Line {
    pub scenario: Scenario,
    pub verdict: Verdict,
    pub took: Duration,
}

impl Line {
    pub fn passed(&self) -> bool {
        matches!(&self.verdict, Verdict::Judged(trials) if trials.iter().all(Trial::passed))
    }

    pub fn failed(&self) -> bool {
        !self.passed() && !matches!(self.verdict, Verdict::NotBuilt)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4} {:<29}", format!("{:?}", self.scenario), self.scenario.title())?;
        match &self.verdict {
            Verdict::NotBuilt => writeln!(f, " not built"),
            Verdict::Broken(error) => writeln!(f, " failed: {error:#}"),
            Verdict::Judged(trials) => {
                let sum = |of: fn(&Trial) -> usize| trials.iter().map(of).sum::<usize>();
                let recovery = trials.iter().filter_map(|trial| trial.recovery).max().unwrap_or_default();
                writeln!(
                    f,
                    " {:>6} {:>8} {:>8} {:>7} {:>5} {:>10} {:>9.1} s {:>6.0} s  {}",
                    trials.len(),
                    sum(|trial| trial.findings.events),
                    sum(|trial| trial.findings.records),
                    sum(|trial| trial.faults),
                    sum(|trial| trial.findings.lost),
                    sum(|trial| trial.findings.duplicated),
                    recovery.as_secs_f64(),
                    self.took.as_secs_f64(),
                    if self.passed() { "passed" } else { "FAILED" },
                )?;
                for trial in trials.iter().filter(|trial| !trial.passed()) {
                    write!(f, "  {}:\n{}", trial.name, trial.findings)?;
                }
                Ok(())
            }
        }
    }
}

/// All lines.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub lines: Vec<Line>,
}

impl Report {
    pub fn failed(&self) -> usize {
        self.lines.iter().filter(|line| line.failed()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<34} {:>6} {:>8} {:>8} {:>7} {:>5} {:>10} {:>11} {:>8}  verdict",
            "scenario", "trials", "events", "records", "faults", "lost", "duplicated", "recovery", "took"
        )?;
        for line in &self.lines {
            write!(f, "{line}")?;
        }
        let trials = || {
            self.lines.iter().flat_map(|line| match &line.verdict {
                Verdict::Judged(trials) => trials.as_slice(),
                Verdict::Broken(_) | Verdict::NotBuilt => &[],
            })
        };
        let copies: usize = trials().map(|trial| trial.findings.outcome_copies).sum();
        let records: usize = trials().map(|trial| trial.findings.records).sum();
        writeln!(f, "outcomes published again: {copies} for {records} records")?;
        writeln!(f, "seed {}", self.seed)?;
        let passed = self.lines.iter().filter(|line| line.passed()).count();
        write!(f, "{passed} passed, {} failed", self.failed())
    }
}
