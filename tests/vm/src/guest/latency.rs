//! From the scanner's report at the gadget to the level of the unlock line, through the real gate service.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use turnstile::Output;

use crate::figure::Figure;
use crate::gadget::reports;
use crate::gate::{ANSWER_MAX, Gate, Rig};
use crate::{lines, say};

/// What the design allows at the 99th percentile (design.md, section 5).
const P99_MAX: Duration = Duration::from_millis(20);
/// The emulator shares its two processors with whatever else runs: the floor of the same day stands beside it.
const PULSE_MAX: Duration = Duration::from_millis(1_900);

/// Lets `entries` people in, one after the other.
pub fn run(entries: usize) -> Result<()> {
    let mut rig = Rig::new()?;
    let gate = Gate::start(None)?;
    rig.let_in()?;
    rig.pass()?;
    let (mut from_last, mut from_first, mut pulses) = (Vec::new(), Vec::new(), Vec::new());
    for entry in 0..entries {
        let code = rig.code()?;
        let reports = reports(code.as_bytes());
        let (last, before) = reports.split_last().context("a code without reports")?;
        let first_sent = Instant::now();
        before.iter().try_for_each(|report| rig.scanner.send(report))?;
        let last_sent = Instant::now();
        rig.scanner.send(last)?;
        let high = lines::seen(&rig.strip, Output::UnlockA, true, ANSWER_MAX)?;
        let high = high.with_context(|| format!("entry {entry} of {entries} was not let in"))?;
        let low = lines::seen_now_and_then(&rig.strip, Output::UnlockA, false, PULSE_MAX)?;
        let low = low.with_context(|| format!("the pulse of entry {entry} goes on and on"))?;
        from_last.push(high - last_sent);
        from_first.push(high - first_sent);
        pulses.push(low - high);
        rig.pass()?;
    }
    ensure!(gate.stop()?.success(), "the gate did not end well");
    let figure = Figure::of("last report of a code to unlock line", from_last);
    say(&figure.line());
    say(&Figure::of("first of nine reports to unlock line", from_first).line());
    say(&Figure::of("unlock pulse", pulses).line());
    let p99 = figure.at(990);
    ensure!(p99 <= P99_MAX, "p99 is {:.1} ms, more than {} ms", p99.as_secs_f64() * 1e3, P99_MAX.as_millis());
    Ok(())
}
