//! A terminal strip on the kernel's simulated GPIO chip (`gpio-sim`, Linux 5.17 and later), for tests in a
//! virtual machine: its far side is the chip's folder in sysfs, its cable is the chip itself.
//!
//! Source: `Documentation/admin-guide/gpio/gpio-sim.rst` of the kernel. Needs root, configfs at
//! `/sys/kernel/config` and the module loaded. Own code and not the `gpiosim` crate, because that cannot pull
//! a chip out and put it back, and opens a file for every change.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::cdev::{Bias, InputLine, LineRef, OutputLine, Settings};
use crate::conformance::Bench;
use crate::wiring::{Input, InputWiring, OutputWiring};
use crate::{Line, Output, Outputs};

/// Where the kernel is told to make chips.
pub const CONFIGFS: &str = "/sys/kernel/config/gpio-sim";

/// How the strip is wired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Every line is active at its low level.
    pub active_low: bool,
    /// Debounce period of every input, microseconds.
    pub debounce_us: u32,
}

/// A simulated chip with the lines of one lane: outputs first, then inputs. Dropping it takes it away.
#[derive(Debug)]
pub struct GpioSim {
    name: String,
    folder: PathBuf,
    wiring: Wiring,
    /// None while it is unplugged.
    chip: Option<Chip>,
    /// Levels of the inputs, which outlive the chip.
    inputs: [bool; Line::ALL.len()],
}

#[derive(Debug)]
struct Chip {
    path: PathBuf,
    pulls: Vec<File>,
    values: Vec<File>,
}

impl GpioSim {
    /// Whether this kernel can simulate chips.
    #[must_use]
    pub fn is_available() -> bool {
        Path::new(CONFIGFS).is_dir()
    }

    /// Makes the chip and plugs it in, every line at rest. `name` is its label and the start of its lines'
    /// names, at most 14 bytes; it must be new.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(name: &str, wiring: Wiring) -> io::Result<Self> {
        let folder = Path::new(CONFIGFS).join(name);
        std::fs::create_dir(&folder)?;
        let inputs = Line::ALL.map(Line::at_rest);
        // From here on dropping it cleans up.
        let mut sim = Self { name: name.to_owned(), folder, wiring, chip: None, inputs };
        let bank = sim.folder.join("bank0");
        std::fs::create_dir(&bank)?;
        std::fs::write(bank.join("label"), name)?;
        std::fs::write(bank.join("num_lines"), sim.lines().len().to_string())?;
        for (offset, line) in sim.lines().into_iter().enumerate() {
            let folder = bank.join(format!("line{offset}"));
            std::fs::create_dir(&folder)?;
            std::fs::write(folder.join("name"), line)?;
        }
        sim.plug()?;
        Ok(sim)
    }

    /// The chip's device file, none while it is unplugged.
    #[must_use]
    pub fn chip_path(&self) -> Option<&Path> {
        self.chip.as_ref().map(|chip| chip.path.as_path())
    }

    /// The offset of an output on the chip.
    #[must_use]
    pub fn output_offset(output: Output) -> u32 {
        output as u32
    }

    /// The offset of an input on the chip.
    #[must_use]
    pub fn input_offset(line: Line) -> u32 {
        Output::ALL.len() as u32 + line as u32
    }

    /// Settings that find every line by its name on any chip.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Self::settings_of(&self.name, self.wiring)
    }

    /// The settings of a chip of that name that is made elsewhere, or later.
    #[must_use]
    pub fn settings_of(name: &str, wiring: Wiring) -> Settings {
        let named = |key: &str| LineRef::Name(format!("{name}.{key}"));
        describe(wiring, None, |output| named(output.name()), |line| named(line.name()))
    }

    /// Settings that find every line by its offset on the chip with our label.
    #[must_use]
    pub fn settings_by_offset(&self) -> Settings {
        describe(
            self.wiring,
            Some(self.name.clone()),
            |output| LineRef::Offset(Self::output_offset(output)),
            |line| LineRef::Offset(Self::input_offset(line)),
        )
    }

    /// Pulls the chip out. Its lines keep their names and inputs their levels; its device file may get
    /// another number.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unplug(&mut self) -> io::Result<()> {
        self.chip = None;
        std::fs::write(self.folder.join("live"), "0")
    }

    /// Puts the chip in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&mut self) -> io::Result<()> {
        std::fs::write(self.folder.join("live"), "1")?;
        let device = read(&self.folder.join("dev_name"))?;
        let chip = read(&self.folder.join("bank0/chip_name"))?;
        let lines = Path::new("/sys/devices/platform").join(device).join(&chip);
        let open = |offset: usize, file: &str| {
            let path = lines.join(format!("sim_gpio{offset}")).join(file);
            OpenOptions::new().read(true).write(file == "pull").open(path)
        };
        let count = self.lines().len();
        self.chip = Some(Chip {
            path: Path::new("/dev").join(chip),
            pulls: (0..count).map(|offset| open(offset, "pull")).collect::<io::Result<_>>()?,
            values: (0..count).map(|offset| open(offset, "value")).collect::<io::Result<_>>()?,
        });
        // The resistors that every lane must have on its outputs.
        for output in Output::ALL {
            self.pull(Self::output_offset(output), false)?;
        }
        for (line, active) in Line::ALL.into_iter().zip(self.inputs) {
            self.pull(Self::input_offset(line), active)?;
        }
        Ok(())
    }

    /// Pulls a line towards its active or its inactive level: switches an input, or fits the resistor of an
    /// output.
    ///
    /// # Errors
    /// When the chip is unplugged or the kernel refuses.
    pub fn pull(&self, offset: u32, active: bool) -> io::Result<()> {
        let pull = if active == self.wiring.active_low { "pull-down" } else { "pull-up" };
        file(self.chip.as_ref().map(|chip| &chip.pulls), offset)?.write_all_at(pull.as_bytes(), 0)
    }

    /// Whether a line is at its active level.
    ///
    /// # Errors
    /// When the chip is unplugged or the kernel refuses.
    pub fn is_active(&self, offset: u32) -> io::Result<bool> {
        let mut value = [0];
        file(self.chip.as_ref().map(|chip| &chip.values), offset)?.read_exact_at(&mut value, 0)?;
        Ok((value[0] == b'1') != self.wiring.active_low)
    }

    fn line_name(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// Names by offset.
    fn lines(&self) -> Vec<String> {
        let outputs = Output::ALL.into_iter().map(Output::name);
        outputs.chain(Line::ALL.into_iter().map(Line::name)).map(|key| self.line_name(key)).collect()
    }
}

/// Settings of a chip with all lines wired.
fn describe(
    wiring: Wiring,
    chip: Option<String>,
    output: impl Fn(Output) -> LineRef,
    input: impl Fn(Line) -> LineRef,
) -> Settings {
    let Wiring { active_low, debounce_us } = wiring;
    let output = |of| Some(OutputLine { line: output(of), chip: None, active_low });
    let input = |of| {
        Input::Wired(InputLine { line: input(of), chip: None, active_low, bias: Bias::AsIs, debounce_us })
    };
    Settings {
        chip,
        outputs: OutputWiring {
            unlock_a: output(Output::UnlockA),
            unlock_b: output(Output::UnlockB),
            stop: output(Output::Stop),
            beacon_red: output(Output::BeaconRed),
            beacon_green: output(Output::BeaconGreen),
            wide: output(Output::Wide),
        },
        inputs: InputWiring {
            passage_a: input(Line::PassageA),
            passage_b: input(Line::PassageB),
            fire_alarm: input(Line::FireAlarm),
            ready: input(Line::Ready),
            detector: input(Line::Detector),
            tamper: input(Line::Tamper),
            emergency_button: input(Line::EmergencyButton),
        },
    }
}

fn file(files: Option<&Vec<File>>, offset: u32) -> io::Result<&File> {
    let files = files.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the chip is unplugged"))?;
    files.get(offset as usize).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such line"))
}

fn read(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

impl Bench for GpioSim {
    /// # Panics
    /// When the chip is unplugged or the kernel refuses.
    fn set(&mut self, line: Line, active: bool) {
        self.inputs[line as usize] = active;
        self.pull(Self::input_offset(line), active).expect("the simulated chip takes a level");
    }

    /// # Panics
    /// When the chip is unplugged or the kernel refuses.
    fn outputs(&mut self) -> Outputs {
        let is =
            |output| self.is_active(Self::output_offset(output)).expect("the simulated chip has a level");
        Outputs {
            unlock_a: is(Output::UnlockA),
            unlock_b: is(Output::UnlockB),
            stop: is(Output::Stop),
            beacon_red: is(Output::BeaconRed),
            beacon_green: is(Output::BeaconGreen),
            wide: is(Output::Wide),
        }
    }
}

impl Drop for GpioSim {
    fn drop(&mut self) {
        // Whatever fails here was not made.
        let _ = self.unplug();
        let bank = self.folder.join("bank0");
        for offset in 0..self.lines().len() {
            let _ = std::fs::remove_dir(bank.join(format!("line{offset}")));
        }
        let _ = std::fs::remove_dir(bank);
        let _ = std::fs::remove_dir(&self.folder);
    }
}
