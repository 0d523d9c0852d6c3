//! Scenarios of a lane with the real gate service, on the kernel's own devices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use turnstile::gpiosim::GpioSim;
use turnstile::{Line, Output};

use crate::figure::Figure;
use crate::gadget::reports;
use crate::gate::{Gate, Rig, watchers};
use crate::{lines, say, wait};

/// Longest unlock pulse there may be (engine::gate::UNLOCK_MAX), and what the emulator may be late.
const PULSE_MAX: Duration = Duration::from_millis(1_950);
/// Nobody who is refused is let in later.
const REFUSED: Duration = Duration::from_millis(700);
/// A device that came back is used again by then.
const BACK_MAX: Duration = Duration::from_secs(15);

/// Runs them one after the other, with one gate service.
pub fn run() -> Result<()> {
    let mut rig = Rig::new()?;
    let gate = Gate::start(None)?;
    ensure!(watchers()?.len() == 1, "the gate started without its watcher");
    type Scenario = fn(&mut Rig) -> Result<()>;
    let scenarios: [(&str, Scenario); 7] = [
        ("a code opens, the pulse ends, somebody passes", entry),
        ("a code opens once", replay),
        ("what is no code opens nothing", no_code),
        ("a reader that is pulled in the middle of a code and comes back", reader_pulled),
        ("a terminal strip that goes and comes back", strip_pulled),
        ("while the fire alarm lasts nothing is driven", fire),
        ("somebody passes after all that", entry),
    ];
    for (name, scenario) in scenarios {
        let began = Instant::now();
        scenario(&mut rig).with_context(|| name.to_owned())?;
        say(&format!("{}{name}: ok, {:.1} s", vm::report::MEASURED, began.elapsed().as_secs_f64()));
    }
    gate.signal(Signal::TERM)?;
    let status = gate.ended()?;
    ensure!(status.success(), "the gate ended with {status}");
    let left = lines::active(&rig.strip)?;
    ensure!(left.is_empty(), "the gate left {left:?} active");
    Ok(())
}

fn entry(rig: &mut Rig) -> Result<()> {
    let high = rig.let_in()?;
    let low =
        lines::seen(&rig.strip, Output::UnlockA, false, PULSE_MAX)?.context("the pulse does not end")?;
    say(&Figure::of("its pulse", vec![low - high]).line());
    rig.pass()
}

fn replay(rig: &mut Rig) -> Result<()> {
    let code = rig.code()?;
    rig.show(&code)?.context("the code is not taken")?;
    lines::seen(&rig.strip, Output::UnlockA, false, PULSE_MAX)?.context("the pulse does not end")?;
    rig.pass()?;
    // Beyond the time in which the same code in front of the scanner is the same show of it.
    std::thread::sleep(Duration::from_secs(4));
    refused(rig, code.as_bytes())
}

fn no_code(rig: &mut Rig) -> Result<()> {
    let mut forged = rig.code()?.into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'5' { b'6' } else { b'5' };
    for text in [&b"https://example.com/"[..], b"5", &[b'7'; 455], &[0xff; 90], &forged] {
        refused(rig, text)?;
    }
    Ok(())
}

fn refused(rig: &mut Rig, text: &[u8]) -> Result<()> {
    rig.scanner.show(text)?;
    let opened = lines::seen(&rig.strip, Output::UnlockA, true, REFUSED)?.is_some();
    ensure!(!opened, "{} opens", String::from_utf8_lossy(text));
    Ok(())
}

fn reader_pulled(rig: &mut Rig) -> Result<()> {
    let code = rig.code()?;
    let half = reports(code.as_bytes());
    half[..4].iter().try_for_each(|report| rig.scanner.send(report))?;
    rig.scanner.unplug()?;
    rig.scanner.plug()?;
    let plugged = Instant::now();
    let high = rig.let_in()?;
    ensure!(high - plugged < BACK_MAX, "the reader is used again only after {:?}", high - plugged);
    say(&Figure::of("reader plugged in to the next entry", vec![high - plugged]).line());
    rig.pass()
}

fn strip_pulled(rig: &mut Rig) -> Result<()> {
    rig.strip.unplug().context("cannot pull the strip")?;
    std::thread::sleep(Duration::from_millis(300));
    rig.strip.plug().context("cannot put the strip back")?;
    let plugged = Instant::now();
    let high = rig.let_in()?;
    ensure!(high - plugged < BACK_MAX, "the strip is used again only after {:?}", high - plugged);
    say(&Figure::of("terminal strip back to the next entry", vec![high - plugged]).line());
    rig.pass()
}

fn fire(rig: &mut Rig) -> Result<()> {
    let offset = GpioSim::input_offset(Line::FireAlarm);
    rig.let_in()?;
    rig.strip.pull(offset, true)?;
    wait("every line that moves the barrier to be inactive", Duration::from_millis(200), || {
        let moving = [Output::UnlockA, Output::UnlockB, Output::Stop, Output::Wide];
        Ok((!lines::active(&rig.strip)?.iter().any(|output| moving.contains(output))).then_some(()))
    })?;
    let code = rig.code()?;
    refused(rig, code.as_bytes())?;
    rig.strip.pull(offset, false)?;
    // The grant that the alarm met may still be taken.
    std::thread::sleep(Duration::from_millis(500));
    rig.pass()
}
