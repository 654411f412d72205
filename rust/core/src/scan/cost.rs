//! The choice between a scan of the sketch and a scan of the full codes.

use std::time::Duration;

/// Number of panels before the first scan of the full codes, and between later trials of the slower pass.
const FIRST_TRIAL: usize = 5;
const TRIAL_INTERVAL: usize = 24;

/// The codes by which a panel is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The sketch first, then the full codes of the rows that it does not rule out.
    Sketch,
    /// The full codes of all rows.
    Full,
}

/// Recent cost per block of both passes. How much a sketch rules out depends on the queries, on how far their
/// thresholds have risen, and on where the codes are in memory, so it is measured. Only speed depends on the choice,
/// never the result.
#[derive(Debug, Default)]
pub(super) struct CostModel {
    /// Seconds per block of each pass; 0 before the first panel of that pass.
    sketch: f64,
    full: f64,
    since_trial: usize,
}

impl CostModel {
    /// The cheaper pass, or from time to time the other pass, to update its cost.
    pub(super) fn choose(&mut self) -> Pass {
        let cheaper = if self.sketch <= self.full { Pass::Sketch } else { Pass::Full };
        self.since_trial += 1;
        let interval = if self.full == 0.0 { FIRST_TRIAL } else { TRIAL_INTERVAL };
        if self.since_trial <= interval {
            return cheaper;
        }
        self.since_trial = 0;
        if cheaper == Pass::Sketch { Pass::Full } else { Pass::Sketch }
    }

    /// Records the time that a pass took for `blocks` blocks.
    pub(super) fn record(&mut self, pass: Pass, time: Duration, blocks: usize) {
        let cost = time.as_secs_f64() / blocks as f64;
        match pass {
            Pass::Sketch => self.sketch = cost,
            Pass::Full => self.full = cost,
        }
    }
}
