//! Pulses from two lines of the GPIO character device, stamped by the kernel.
#![expect(unsafe_code, reason = "tokio waits on a descriptor that the GPIO request owns")]

use std::time::Duration;

use gpiocdev::line::{Bias, EdgeDetection, EventClock, Offset};
use gpiocdev::{Chip, Request};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::{Data, Edges, Pulse, Settings};
use crate::error::is_gone;
use crate::{Cause, Error, ErrorKind};

/// A line of the chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LineId {
    /// Its number on the chip.
    Offset(u32),
    /// The name that the device tree or the firmware gives it.
    Name(String),
}

/// Edges that the kernel keeps for us: the longest card twice.
const EVENTS_MAX: u32 = 1024;

/// The two lines, held.
#[derive(Debug)]
pub struct Gpio {
    request: AsyncFd<Request>,
    d0: Offset,
}

impl Gpio {
    pub(super) fn open(settings: &Settings) -> Result<Self, Error> {
        let chip = Chip::from_path(&settings.chip).map_err(|error| refused(&settings.chip, error))?;
        let find = |line: &LineId| match line {
            LineId::Offset(offset) => Ok(*offset),
            LineId::Name(name) => chip.find_line_info(name).map(|info| info.offset).ok_or_else(|| {
                let what = Some(Cause::Setting("the chip has no line of this name"));
                Error::new(ErrorKind::NotFound, "open", what).at(format!("{} line {name}", settings.chip))
            }),
        };
        let [d0, d1] = [find(&settings.d0)?, find(&settings.d1)?];
        if d0 == d1 {
            return Err(Error::setting("d0 and d1 must be two lines"));
        }
        let mut builder = Request::builder();
        builder
            .on_chip(&settings.chip)
            .with_consumer("stile-wiegand")
            .with_lines(&[d0, d1])
            .as_input()
            .with_edge_detection(if settings.inverted {
                EdgeDetection::RisingEdge
            } else {
                EdgeDetection::FallingEdge
            })
            .with_event_clock(EventClock::Monotonic)
            .with_kernel_event_buffer_size(EVENTS_MAX);
        if settings.pull_up {
            builder.with_bias(Bias::PullUp);
        }
        let request = builder.request().map_err(|error| refused(&settings.chip, error))?;
        // SAFETY: the request owns its descriptor, which stays open and the same until it is dropped.
        let request = unsafe { AsyncFd::register(request) }
            .map_err(|error| Error::open(&settings.chip, error.into()))?;
        Ok(Self { request, d0 })
    }
}

impl Edges for Gpio {
    async fn next_pulse(&mut self) -> Result<Pulse, Error> {
        loop {
            let mut ready = self.request.readable().await.map_err(lost)?;
            // Asked before it is read, so that reading cannot block the runtime.
            if !self.request.get_ref().has_edge_event().map_err(gone)? {
                ready.clear_ready();
                continue;
            }
            let event = self.request.get_ref().read_edge_event().map_err(gone)?;
            let data = if event.offset == self.d0 { Data::Zero } else { Data::One };
            return Ok(Pulse { data, at: Duration::from_nanos(event.timestamp_ns) });
        }
    }
}

fn refused(chip: &str, error: gpiocdev::Error) -> Error {
    let kind = match os(&error).map(|error| Error::open(chip, error).kind()) {
        Some(kind) => kind,
        None => ErrorKind::Io,
    };
    Error::new(kind, "open", Some(Cause::Gpio(error))).at(chip)
}

fn gone(error: gpiocdev::Error) -> Error {
    let kind = match os(&error) {
        Some(error) if !is_gone(&error) => ErrorKind::Io,
        _ => ErrorKind::Disconnected,
    };
    Error::new(kind, "read", Some(Cause::Gpio(error)))
}

fn lost(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Disconnected, "read", Some(Cause::Io(error)))
}

/// What the operating system said, if it was it.
fn os(error: &gpiocdev::Error) -> Option<std::io::Error> {
    let number = match error {
        gpiocdev::Error::Os(number) | gpiocdev::Error::Uapi(_, gpiocdev_uapi::Error::Os(number)) => number,
        _ => return None,
    };
    Some(std::io::Error::from_raw_os_error(number.0))
}
