//! The one time line of a box.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch on the box's own time line, which never runs backwards: the shell's clock starts
/// from wall time and then follows the monotonic clock, slewing towards wall time, so that deadlines, journals and
/// receipts share one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Instant {
    /// This instant moved forward by `span`; saturates at the end of time.
    #[must_use]
    pub const fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This instant moved back by `span`; saturates at the epoch.
    #[must_use]
    pub const fn before(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// Time from `earlier` to `self`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole Unix seconds, as entry codes carry them.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }
}

impl Millis {
    /// A span of whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// The span in seconds.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}
