//! The metrics of runs.

use telemetry::list::REDRIVES;

const SENT: &str = "sent";
const PARKED: &str = "parked";
const ALREADY: &str = "already";
const UNDER_WAY: &str = "under-way";
const REFUSED: &str = "refused";

/// How many letters a run brought to which end.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub sent: u64,
    pub parked: u64,
    pub already: u64,
    pub under_way: u64,
    pub refused: u64,
}

impl Letters {
    /// Adds to the metrics. With zeros it makes them visible.
    pub(crate) fn count(&self) {
        for (result, letters) in [
            (SENT, self.sent),
            (PARKED, self.parked),
            (ALREADY, self.already),
            (UNDER_WAY, self.under_way),
            (REFUSED, self.refused),
        ] {
            REDRIVES.add(letters, [result]);
        }
    }
}
