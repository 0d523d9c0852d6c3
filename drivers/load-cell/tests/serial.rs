//! A line of simulated modules behind a pseudo-terminal, read through a serial port that is opened by its path.

use std::ffi::OsStr;
use std::io::{ErrorKind::WouldBlock, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use load_cell::serial::{self, Parity, Settings};
use load_cell::sim::{self, ModuleSpec};
use load_cell::{ErrorKind, LoadCells};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The adapter's end of a pseudo-terminal, and the path of ours.
fn terminal() -> (std::fs::File, PathBuf) {
    let far =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
    grantpt(&far).expect("granted");
    unlockpt(&far).expect("unlocked");
    rustix::io::ioctl_fionbio(&far, true).expect("non-blocking");
    let path = ptsname(&far, Vec::new()).expect("its name");
    (far.into(), OsStr::from_bytes(path.as_bytes()).into())
}

/// Carries bytes between the modules and the terminal until it is aborted; the adapter is gone then.
#[expect(deprecated, reason = "a file is sound; the new call is unsafe")]
async fn carry(mut line: DuplexStream, far: std::fs::File) {
    let far = AsyncFd::new(far).expect("in the runtime");
    let (mut said, mut asked) = ([0; 256], [0; 256]);
    loop {
        tokio::select! {
            length = line.read(&mut said) => {
                let length = length.expect("the modules answer");
                far.get_ref().write_all(&said[..length]).expect("a terminal takes an answer whole");
            }
            ready = far.readable() => {
                let mut ready = ready.expect("polled");
                match far.get_ref().read(&mut asked) {
                    Ok(length) => line.write_all(&asked[..length]).await.expect("the modules hear"),
                    // EIO: nobody has our end open just now.
                    Err(error) if error.kind() == WouldBlock => ready.clear_ready(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        }
    }
}

#[tokio::test]
async fn modules_are_read_through_a_port_and_its_end_is_noticed() {
    let (line, modules, handle) = sim::line(&[ModuleSpec { address: 1, channels: 3 }]);
    let (far, path) = terminal();
    tokio::spawn(modules.run());
    let wire = tokio::spawn(carry(line, far));

    // A pseudo-terminal takes any speed and knows no parity; a port that does not take what it is told is refused.
    for baud in [9_600, 115_200] {
        let settings = Settings { path: path.clone(), baud, parity: Parity::None };
        // A busy machine may be slow; what is said does not change.
        let mut cells =
            LoadCells::with_timeout(serial::open(&settings).expect("opens"), Duration::from_secs(5));
        handle.set_counts(1, 2, 1234);
        let reading = cells.read(1).await.expect("answers");
        assert_eq!(reading.channels.iter().map(|channel| channel.tenths).collect::<Vec<_>>(), [0, 0, 1234]);
    }

    let settings = Settings { path, baud: 9_600, parity: Parity::Even };
    assert!(serial::open(&settings).is_err());
    let settings = Settings { parity: Parity::None, ..settings };
    let mut cells = LoadCells::with_timeout(serial::open(&settings).expect("opens"), Duration::from_secs(5));
    wire.abort();
    let _ = wire.await;
    let kind = cells.read(1).await.expect_err("the adapter is gone").kind();
    assert_eq!(kind, ErrorKind::Disconnected);
}

#[tokio::test]
async fn what_is_no_port_is_refused() {
    let settings = |path: &str| Settings { path: path.into(), baud: 115_200, parity: Parity::Even };
    assert!(serial::open(&settings("/dev/serial/by-path/none")).is_err());
    assert!(serial::open(&settings("/dev/null")).is_err());
}
