//! Logging: one line an event on standard error, which is the journal on a box.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging for a program. `STILE_LOG` overrides the level by the directives of `tracing-subscriber`'s
/// `EnvFilter`, for example `info,gated=debug`. A second call changes nothing.
pub fn init() {
    init_at("info");
}

/// As [`init`], with other directives where `STILE_LOG` is not set: a program for people at a terminal is quieter.
pub fn init_at(directives: &str) {
    let filter = EnvFilter::try_from_env("STILE_LOG").unwrap_or_else(|_| EnvFilter::new(directives));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only when a logger is installed already, as in tests.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.event_format(ForJournal::new()).try_init()
    } else {
        builder.try_init()
    };
}

/// Lines for the journal: it knows the time itself, and learns the level from a number in angle brackets
/// (sd-daemon(3)).
struct ForJournal(Format<Full, ()>);

impl ForJournal {
    fn new() -> Self {
        Self(tracing_subscriber::fmt::format().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_learns_the_level() {
        let heard = Heard::default();
        let writer = heard.clone();
        let logger = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(ForJournal::new())
            .finish();
        tracing::subscriber::with_default(logger, || {
            tracing::warn!(lane = "entry-1", "reader lost");
            tracing::info!("ready");
        });
        let text = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<4>runtime::telemetry::tests: reader lost lane=\"entry-1\"\n<6>runtime::telemetry::tests: ready\n"
        );
    }
}
