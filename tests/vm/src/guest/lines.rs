//! What an oscilloscope at the terminal strip would see.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use turnstile::Output;
use turnstile::gpiosim::GpioSim;

/// Whether a released output keeps its level, as in Raspberry Pi kernels (our switch; see kernel.sh).
const KEEP_RELEASED: &str = "/sys/module/gpio_sim/parameters/keep_released";

/// Looks every 50 microseconds until an output has this level: when it was seen, or `None` after `limit`. Not without a
/// pause: what is measured has one processor with us.
pub fn seen(strip: &GpioSim, output: Output, active: bool, limit: Duration) -> Result<Option<Instant>> {
    look(strip, output, active, limit, Duration::from_micros(50))
}

/// As [`seen`], looking every 200 microseconds only.
pub fn seen_now_and_then(
    strip: &GpioSim,
    output: Output,
    active: bool,
    limit: Duration,
) -> Result<Option<Instant>> {
    look(strip, output, active, limit, Duration::from_micros(200))
}

fn look(
    strip: &GpioSim,
    output: Output,
    active: bool,
    limit: Duration,
    pause: Duration,
) -> Result<Option<Instant>> {
    let began = Instant::now();
    loop {
        let is = is_active(strip, output)?;
        let now = Instant::now();
        if is == active {
            return Ok(Some(now));
        }
        if now - began > limit {
            return Ok(None);
        }
        std::thread::sleep(pause);
    }
}

/// An output's level now.
pub fn is_active(strip: &GpioSim, output: Output) -> Result<bool> {
    strip.is_active(GpioSim::output_offset(output)).with_context(|| format!("cannot sense {output:?}"))
}

/// The outputs that are active now.
pub fn active(strip: &GpioSim) -> Result<Vec<Output>> {
    let mut active = Vec::new();
    for output in Output::ALL {
        if is_active(strip, output)? {
            active.push(output);
        }
    }
    Ok(active)
}

/// Chooses between a kernel that lets go of a dead process's outputs and one that does not.
pub fn keep_released(keep: bool) -> Result<()> {
    std::fs::write(KEEP_RELEASED, if keep { "Y" } else { "N" })
        .with_context(|| format!("cannot write {KEEP_RELEASED}"))
}
