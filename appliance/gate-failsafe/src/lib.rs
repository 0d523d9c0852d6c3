//! Makes every output of every lane of a box inactive when the gate service cannot do it any more.
//!
//! Two nets, because each has a hole. The gate starts `gate-failsafe --watch` with its own process number
//! before it touches a line: it sleeps on a pidfd, so that it wakes when the kernel has taken the gate apart
//! and its lines are free, without the service manager's part in it; but it dies with the gate when somebody
//! kills the whole unit. `ExecStopPost=gate-failsafe` runs after any end of the unit; but some milliseconds
//! later.
//!
//! It deliberately has no runtime, bus, log or engine, reads only the turnstiles of the manifest, ignores
//! what it does not know there, and knows no level but inactive.

pub mod lanes;
pub mod watch;

use std::fmt;

/// A lane whose outputs can be made inactive.
pub trait Lane {
    /// Its name, for people.
    fn id(&self) -> &str;
    /// Makes its outputs inactive, each that it can; what it could not, one text a line.
    fn make_inactive(&mut self) -> Vec<String>;
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lanes tried: all of them.
    pub lanes: usize,
    /// What failed, one text a line, with the lane's name.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failures.len() {
            0 => write!(formatter, "outputs of {} lanes are inactive", self.lanes),
            count => write!(formatter, "{count} failures in {} lanes, outputs may be active", self.lanes),
        }
    }
}

/// Makes the outputs of every lane inactive; one that fails does not keep the others up.
pub fn make_inactive(lanes: &mut [impl Lane]) -> Report {
    let mut report = Report::default();
    for lane in lanes {
        report.lanes += 1;
        let failures = lane.make_inactive();
        report.failures.extend(failures.into_iter().map(|failure| format!("lane {}: {failure}", lane.id())));
    }
    report
}
