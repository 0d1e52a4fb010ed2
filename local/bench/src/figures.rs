//! What was measured, as a table and as JSON.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

/// One thing, measured several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Figure {
    /// `None` if nothing was measured.
    fn of(name: &str, unit: &'static str, mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (first, last) = (*values.first()?, *values.last()?);
        Some(Figure { name: name.to_owned(), unit, min: first, median: values[values.len() / 2], max: last })
    }
}

/// Values of the runs so far, by figure, in the order in which the figures came.
#[derive(Debug, Default)]
pub struct Figures {
    values: Vec<(String, &'static str, Vec<f64>)>,
}

impl Figures {
    /// Adds what one run measured.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        let name = name.into();
        match self.values.iter_mut().find(|(known, _, _)| *known == name) {
            Some((_, _, values)) => values.push(value),
            None => self.values.push((name, unit, vec![value])),
        }
    }

    /// Adds `<name>_p50`, `<name>_p95` and `<name>_p99` of a histogram of microseconds.
    pub fn add_quantiles(&mut self, name: &str, latencies: &Histogram<u64>) {
        for (quantile, text) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")] {
            self.add(format!("{name}_{text}"), "ms", latencies.value_at_quantile(quantile) as f64 / 1000.0);
        }
    }

    fn summed_up(&self) -> Vec<Figure> {
        self.values.iter().filter_map(|(name, unit, values)| Figure::of(name, unit, values.clone())).collect()
    }

    /// Writes a list of `{name, unit, min, median, max}`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.summed_up())?;
        let folder = path.parent().context("the result needs a folder")?;
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(path, text + "\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} {:>12} {:>12} {:>12}  unit", "figure", "min", "median", "max")?;
        for Figure { name, unit, min, median, max } in self.summed_up() {
            let digits = if max < 100.0 { 2 } else { 0 };
            writeln!(f, "{name:<34} {min:>12.digits$} {median:>12.digits$} {max:>12.digits$}  {unit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_smallest_the_middle_and_the_largest_of_its_runs() {
        let mut figures = Figures::default();
        for value in [5.0, 1.0, 4.0, 2.0, 3.0] {
            figures.add("ingest_batch", "events/CPU-s", value);
            figures.add("chain", "events/s", value * 1000.0);
        }
        let summed_up = figures.summed_up();
        let expected = Figure { name: "ingest_batch".into(), unit: "events/CPU-s", min: 1.0, median: 3.0, max: 5.0 };
        assert_eq!(summed_up[0], expected);
        assert_eq!((summed_up[1].min, summed_up[1].median, summed_up[1].max), (1000.0, 3000.0, 5000.0));
        let json = serde_json::to_string(&summed_up[0]).unwrap();
        assert_eq!(json, r#"{"name":"ingest_batch","unit":"events/CPU-s","min":1.0,"median":3.0,"max":5.0}"#);
        let table = figures.to_string();
        assert!(table.contains("ingest_batch") && table.contains("5000") && table.contains("3.00"), "{table}");
    }
}
