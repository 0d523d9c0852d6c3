//! Times, summed up for people.

use std::time::Duration;

use vm::report::MEASURED;

/// What was measured, how often, and how it is spread.
pub struct Figure {
    name: String,
    times: Vec<Duration>,
}

impl Figure {
    /// Of these times.
    pub fn of(name: impl Into<String>, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { name: name.into(), times }
    }

    /// What was measured.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The longest.
    pub fn worst(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }

    /// The time that `permille` of all do not exceed.
    pub fn at(&self, permille: usize) -> Duration {
        let index = (self.times.len().saturating_sub(1) * permille).div_ceil(1000);
        self.times.get(index).copied().unwrap_or_default()
    }

    /// One line that the host shows, milliseconds.
    pub fn line(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Self { name, times } = self;
        let count = times.len();
        let (middle, high, worst) = (ms(self.at(500)), ms(self.at(990)), ms(self.worst()));
        if count < 100 {
            return format!("{MEASURED}{name}: {count} times, p50 {middle:.2} ms, worst {worst:.2} ms");
        }
        let higher = ms(self.at(999));
        format!(
            "{MEASURED}{name}: {count} times, p50 {middle:.2} ms, p99 {high:.2} ms, p99.9 {higher:.2} ms, \
             worst {worst:.2} ms"
        )
    }
}
