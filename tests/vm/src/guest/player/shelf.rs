//! The weighing modules of a shelf on a serial line: the driver's own simulator behind a pseudo-terminal.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use anyhow::{Context, Result};
use load_cell::sim::{ModuleSpec, SimHandle, line};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vm::shop::{PACK, SHELF_LINE};

/// Packs on each plate at the start.
const PACKS: i32 = 10;

/// One line with one module of three plates.
pub struct Shelf {
    modules: SimHandle,
    /// Held open, so that the line stays when the service closes it.
    _service_end: File,
}

impl Shelf {
    /// Makes it, and its name.
    pub fn new() -> Result<Self> {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("cannot make a pseudo-terminal")?;
        grantpt(&master).context("cannot grant the pseudo-terminal")?;
        unlockpt(&master).context("cannot unlock the pseudo-terminal")?;
        let path = ptsname(&master, Vec::new()).context("the pseudo-terminal has no name")?;
        let path = path.to_str().context("the pseudo-terminal's name is not UTF-8")?;
        let service_end = File::options()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {path}"))?;
        let mut settings = tcgetattr(&service_end).context("cannot read the line's settings")?;
        settings.make_raw();
        tcsetattr(&service_end, OptionalActions::Now, &settings).context("cannot set the line")?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .with_context(|| format!("cannot share {path}"))?;
        let _ = fs::remove_file(SHELF_LINE);
        symlink(path, SHELF_LINE).with_context(|| format!("cannot make {SHELF_LINE}"))?;

        let master = File::from(master);
        let other = master.try_clone().context("cannot share the pseudo-terminal")?;
        let (near, sim, modules) = line(&[ModuleSpec { address: 1, channels: 3 }]);
        for (channel, mass) in (0_u8..).zip(PACK) {
            modules.set_counts(1, channel, mass * PACKS);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let (mut from_modules, mut to_modules) = tokio::io::split(near);
                let (mut reads, mut writes) =
                    (tokio::fs::File::from_std(master), tokio::fs::File::from_std(other));
                let ask = async move {
                    let mut bytes = [0; 256];
                    while let Ok(count @ 1..) = reads.read(&mut bytes).await {
                        if to_modules.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                };
                let answer = async move {
                    let mut bytes = [0; 256];
                    while let Ok(count @ 1..) = from_modules.read(&mut bytes).await {
                        if writes.write_all(&bytes[..count]).await.is_err() || writes.flush().await.is_err() {
                            return;
                        }
                    }
                };
                tokio::join!(sim.run(), ask, answer);
            });
        });
        Ok(Self { modules, _service_end: service_end })
    }

    /// Puts a load on a plate.
    pub fn load(&self, address: u8, channel: u8, tenths: i32) {
        self.modules.set_counts(address, channel, tenths);
    }
}
