//! Charts. `console.js` draws them; next to each is a table with the same numbers.

use std::iter;

use event::Timestamp;
use maud::{Markup, html};
use serde::Serialize;

use super::layout::{Column, head, instant, scrolling};

/// Numbers over time.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub starts: Vec<Timestamp>,
    /// As many numbers as starts, each.
    pub series: Vec<(&'a str, Vec<i64>)>,
}

/// What `console.js` reads.
#[derive(Serialize)]
struct Drawn<'a> {
    /// Seconds since 1970.
    starts: Vec<i64>,
    series: Vec<DrawnSeries<'a>>,
}

#[derive(Serialize)]
struct DrawnSeries<'a> {
    label: &'a str,
    values: &'a [i64],
}

impl Chart<'_> {
    pub fn markup(&self) -> Markup {
        let Chart { title, starts, series } = self;
        let drawn = Drawn {
            starts: starts.iter().map(|start| start.as_secs()).collect(),
            series: series.iter().map(|(label, values)| DrawnSeries { label, values }).collect(),
        };
        // Numbers and texts always make JSON.
        let drawn = serde_json::to_string(&drawn).unwrap_or_default();
        let table = html! {
            table {
                caption { (title) }
                (head(iter::once(Column::Texts("From")).chain(series.iter().map(|(label, _)| Column::Numbers(label)))))
                tbody {
                    @for (row, start) in starts.iter().enumerate() {
                        tr {
                            th scope="row" { (instant(*start)) }
                            @for (_, values) in series { td class="number" { (values.get(row).copied().unwrap_or(0)) } }
                        }
                    }
                }
            }
        };
        html! {
            figure {
                figcaption { (title) }
                div class="chart" role="img" aria-label={ (title) "; the table below has the same numbers" } data-chart=(drawn) {}
            }
            details { summary { "The numbers of this chart" } (scrolling(title, &table)) }
        }
    }
}
