//! The report that a run prints at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::scenarios::Scenario;
use crate::trial::Trial;

/// How a scenario ended.
#[derive(Debug)]
pub enum ScenarioResult {
    Judged(Vec<Trial>),
    /// It could not be run.
    Broken(anyhow::Error),
    /// This machine or this broker lacks something that it needs.
    NotRun(String),
}

/// One scenario's line.
#[derive(Debug)]
pub struct ScenarioLine {
    pub scenario: Scenario,
    pub verdict: ScenarioResult,
    pub took: Duration,
}

impl ScenarioLine {
    pub fn passed(&self) -> bool {
        matches!(&self.verdict, ScenarioResult::Judged(trials) if trials.iter().all(Trial::passed))
    }

    pub fn failed(&self) -> bool {
        match &self.verdict {
            ScenarioResult::Judged(trials) => trials.iter().any(Trial::failed),
            ScenarioResult::Broken(_) => true,
            ScenarioResult::NotRun(_) => false,
        }
    }

    /// What of it was not run, and why.
    fn not_run(&self) -> Vec<String> {
        match &self.verdict {
            ScenarioResult::Judged(trials) => {
                let reasons = trials.iter().filter_map(|trial| Some((&trial.name, trial.findings.not_run.as_ref()?)));
                reasons.map(|(name, why)| format!("{name} NOT RUN: {why}")).collect()
            }
            ScenarioResult::Broken(_) => Vec::new(),
            ScenarioResult::NotRun(why) => vec![format!("{:?} NOT RUN: {why}", self.scenario)],
        }
    }
}

impl fmt::Display for ScenarioLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4} {:<29}", format!("{:?}", self.scenario), self.scenario.title())?;
        match &self.verdict {
            ScenarioResult::NotRun(why) => writeln!(f, " NOT RUN: {why}"),
            ScenarioResult::Broken(error) => writeln!(f, " failed: {error:#}"),
            ScenarioResult::Judged(trials) => {
                let sum = |of: fn(&Trial) -> usize| trials.iter().map(of).sum::<usize>();
                let recovery = trials.iter().filter_map(|trial| trial.recovery).max().unwrap_or_default();
                let memory = trials.iter().flat_map(|trial| trial.memory.values().copied()).max().unwrap_or_default();
                writeln!(
                    f,
                    " {:>6} {:>8} {:>8} {:>7} {:>5} {:>10} {:>9.1} s {:>5} MB {:>6.0} s  {}",
                    trials.len(),
                    sum(|trial| trial.findings.events),
                    sum(|trial| trial.findings.records),
                    sum(|trial| trial.faults),
                    sum(|trial| trial.findings.lost),
                    sum(|trial| trial.findings.duplicated),
                    recovery.as_secs_f64(),
                    memory / 1024,
                    self.took.as_secs_f64(),
                    match (self.passed(), self.failed()) {
                        (true, _) => "passed",
                        (false, true) => "FAILED",
                        (false, false) => "NOT RUN",
                    },
                )?;
                for note in trials.iter().flat_map(|trial| &trial.findings.notes) {
                    writeln!(f, "     {note}")?;
                }
                for trial in trials.iter().filter(|trial| trial.failed()) {
                    write!(f, "  {}:\n{}", trial.name, trial.findings)?;
                }
                Ok(())
            }
        }
    }
}

/// The lines of all scenarios.
#[derive(Debug)]
pub struct RunReport {
    pub seed: u64,
    pub lines: Vec<ScenarioLine>,
}

impl RunReport {
    pub fn failed(&self) -> usize {
        self.lines.iter().filter(|line| line.failed()).count()
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<34} {:>6} {:>8} {:>8} {:>7} {:>5} {:>10} {:>11} {:>8} {:>8}  verdict",
            "scenario", "trials", "events", "records", "faults", "lost", "duplicated", "recovery", "memory", "took"
        )?;
        for line in &self.lines {
            write!(f, "{line}")?;
        }
        let trials = || {
            self.lines.iter().flat_map(|line| match &line.verdict {
                ScenarioResult::Judged(trials) => trials.as_slice(),
                ScenarioResult::Broken(_) | ScenarioResult::NotRun(_) => &[],
            })
        };
        let copies: usize = trials().map(|trial| trial.findings.outcome_copies).sum();
        let records: usize = trials().map(|trial| trial.findings.records).sum();
        writeln!(f, "outcomes published again: {copies} for {records} records")?;
        let rescored: usize = trials().map(|trial| trial.findings.rescored).sum();
        writeln!(f, "events scored again: {rescored}")?;
        let mut peaks: BTreeMap<&str, u64> = BTreeMap::new();
        for (function, peak) in trials().flat_map(|trial| &trial.memory) {
            let highest = peaks.entry(function).or_default();
            *highest = (*peak).max(*highest);
        }
        let peaks: Vec<String> = peaks.iter().map(|(function, peak)| format!("{function} {}", peak / 1024)).collect();
        writeln!(f, "peak memory in MB: {}", peaks.join(", "))?;
        for why in self.lines.iter().flat_map(ScenarioLine::not_run) {
            writeln!(f, "{why}")?;
        }
        writeln!(f, "seed {}", self.seed)?;
        let passed = self.lines.iter().filter(|line| line.passed()).count();
        write!(f, "{passed} passed, {} failed", self.failed())
    }
}
