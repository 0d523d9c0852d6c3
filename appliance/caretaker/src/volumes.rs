//! Makes, checks and mounts the partitions of ours: performs what [`crate::disks`] decides.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};

use crate::disks::{self, HEAD_BYTES, Note, Step};
use crate::files::{self, to};
use crate::place::{Place, partition};

/// The name under which an encrypted state is opened.
const OPENED: &str = "stile-state";
/// The note on identity about the state.
const NOTE: &str = "state";

/// A mounted state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// It was made just now.
    pub new: bool,
    /// It lies encrypted on the medium.
    pub encrypted: bool,
}

/// Mounts identity, after making or repairing it.
///
/// # Errors
/// Names the partition and what failed; then nothing is mounted.
pub fn open_identity(place: &Place) -> Result<()> {
    let folder = place.identity("");
    to("make the folder", &folder, fs::create_dir_all(&folder))?;
    if is_mounted(place, &folder) {
        return Ok(());
    }
    let device = place.partition(partition::IDENTITY).context("no partition identity")?;
    match disks::identity(disks::found(&head(&device)?)) {
        Step::Make => make_identity(place, &device).context("identity cannot be made")?,
        Step::Use => check(&device).context("identity is damaged")?,
        Step::Leave(why) => bail!("identity is left alone: {why}"),
    }
    // Flushed with every file: it is small and rarely written.
    mount_ext4(&device, &folder, c"errors=remount-ro")
}

/// Mounts the state at `/var`, after making or repairing it. Identity is mounted.
///
/// # Errors
/// Names the partition and what failed; then nothing is mounted.
pub fn open_state(place: &Place) -> Result<Opened> {
    let folder = place.at("/var");
    let device = place.partition(partition::STATE).context("no partition state")?;
    let found = disks::found(&head(&device)?);
    let note = match files::text(&place.identity(NOTE)).as_deref().map(str::trim) {
        None => Note::None,
        Some("making") => Note::Making,
        // Also a note that nobody understands: when in doubt it holds data.
        Some(_) => Note::Made,
    };
    let opened = match disks::state(found, note) {
        Step::Make => {
            files::replace(&place.identity(NOTE), b"making\n", 0o600)?;
            let (inner, encrypted) = make_state(place, &device).context("the state cannot be made")?;
            mount_ext4(&inner, &folder, c"")?;
            Opened { new: true, encrypted }
        }
        Step::Use => {
            let (inner, encrypted) = match found {
                disks::Found::Luks => (unlock(place, &device)?, true),
                _ => (device, false),
            };
            check(&inner).context("the state is damaged")?;
            mount_ext4(&inner, &folder, c"")?;
            Opened { new: false, encrypted }
        }
        Step::Leave(why) => bail!("the state is left alone: {why}"),
    };
    if note != Note::Made {
        files::flush_folder(&folder)?;
        files::replace(&place.identity(NOTE), b"made\n", 0o600)?;
    }
    Ok(opened)
}

/// A factory reset: the next boot makes the state anew. Identity stays.
///
/// # Errors
/// Names the file.
pub fn forget_state(place: &Place) -> Result<()> {
    Ok(files::replace(&place.identity(NOTE), b"making\n", 0o600)?)
}

/// `/var` in memory, so that the gate starts on a box whose state cannot be had.
///
/// # Errors
/// What the kernel says.
pub fn state_in_memory(place: &Place) -> Result<()> {
    let folder = place.at("/var");
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("stile-state", &folder, "tmpfs", flags, c"mode=0755,size=64m")
        .map_err(io::Error::from)
        .with_context(|| format!("cannot mount memory at {}", folder.display()))
}

/// Whether something is mounted at a folder.
#[must_use]
pub fn is_mounted(place: &Place, folder: &Path) -> bool {
    let mounts = files::text(&place.at("/proc/self/mounts")).unwrap_or_default();
    // As paths: a folder's may end with a slash, the kernel's does not.
    mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == folder))
}

fn make_identity(place: &Place, device: &Path) -> Result<()> {
    let mut target = to("open", device, OpenOptions::new().read(true).write(true).open(device))?;
    let length = to("measure", device, target.seek(SeekFrom::End(0)))?;
    let path = place.at("/run/caretaker/identity.img");
    let file = to("write", &path, File::create(&path))?;
    to("write", &path, file.set_len(length))?;
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", "identity", "-m", "0"]).arg(&path))?;
    let image = to("read", &path, fs::read(&path))?;
    to("remove", &path, fs::remove_file(&path))?;
    for (at, bytes) in disks::making(&image) {
        to("write", device, target.seek(SeekFrom::Start(at)))?;
        to("write", device, target.write_all(&bytes))?;
        to("flush", device, target.sync_all())?;
    }
    Ok(())
}

/// Formats the state; returns what is to be mounted, and whether it is encrypted.
fn make_state(place: &Place, device: &Path) -> Result<(PathBuf, bool)> {
    let inner = match encrypt(place, device) {
        Ok(Some(inner)) => Some(inner),
        Ok(None) => None,
        Err(error) => {
            // A TPM that does not work must not keep a gate from serving.
            tracing::error!(error = %format!("{error:#}"), "the state is not encrypted");
            close();
            None
        }
    };
    let encrypted = inner.is_some();
    let inner = inner.unwrap_or_else(|| device.to_owned());
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", "state", "-m", "1"]).arg(&inner))?;
    Ok((inner, encrypted))
}

/// The key file that a technician may have put on identity.
fn key_file(place: &Place) -> Option<PathBuf> {
    Some(place.identity("state.key")).filter(|path| path.exists())
}

/// Makes a LUKS2 volume where a TPM or a key file allows, and opens it.
fn encrypt(place: &Place, device: &Path) -> Result<Option<PathBuf>> {
    let key = key_file(place);
    let tpm = place.at("/dev/tpmrm0").exists();
    if key.is_none() && !tpm {
        return Ok(None);
    }
    close();
    let drawn = place.at("/run/caretaker/state.key");
    let path = match &key {
        Some(path) => path.clone(),
        None => {
            let mut secret = [0; 64];
            let random = place.at("/dev/urandom");
            to("read", &random, File::open(&random).and_then(|mut it| it.read_exact(&mut secret)))?;
            files::replace(&drawn, &secret, 0o600)?;
            drawn.clone()
        }
    };
    // Bytes that are drawn at random need no slow derivation.
    let format = ["luksFormat", "--type", "luks2", "--batch-mode", "--pbkdf", "pbkdf2"];
    let made = run(Command::new("cryptsetup")
        .args(format)
        .args(["--pbkdf-force-iterations", "1000", "--key-file"])
        .arg(&path)
        .arg(device))
    .and_then(|()| match &key {
        Some(_) => Ok(()),
        None => seal(device, &path),
    })
    .and_then(|()| {
        run(Command::new("cryptsetup").arg("open").arg("--key-file").arg(&path).arg(device).arg(OPENED))
    })
    .and_then(|()| match &key {
        Some(_) => Ok(()),
        // From here on only the TPM opens it.
        None => run(Command::new("systemd-cryptenroll")
            .arg(format!("--unlock-key-file={}", path.display()))
            .arg("--wipe-slot=password")
            .arg(device)),
    });
    files::remove(&drawn)?;
    made?;
    Ok(Some(Path::new("/dev/mapper").join(OPENED)))
}

/// Lets the TPM open it while the machine starts what it started today: PCR 7 holds the secure boot policy, which
/// updates of ours do not change.
fn seal(device: &Path, key: &Path) -> Result<()> {
    run(Command::new("systemd-cryptenroll")
        .arg(format!("--unlock-key-file={}", key.display()))
        .args(["--tpm2-device=auto", "--tpm2-pcrs=7"])
        .arg(device))
}

fn unlock(place: &Place, device: &Path) -> Result<PathBuf> {
    let opened = Path::new("/dev/mapper").join(OPENED);
    if opened.exists() {
        return Ok(opened);
    }
    let mut command = Command::new("cryptsetup");
    command.arg("open");
    match key_file(place) {
        Some(key) => command.arg("--key-file").arg(key),
        None => command.arg("--token-only"),
    };
    run(command.arg(device).arg(OPENED))
        .context("the state is encrypted, and neither this machine's TPM nor its key file opens it")?;
    Ok(opened)
}

fn close() {
    // Fails when it is not open, which is what is wanted.
    let _ = Command::new("cryptsetup").args(["close", OPENED]).output();
}

/// Replays the journal and repairs what can be.
fn check(device: &Path) -> Result<()> {
    // Exit status of e2fsck: 0 fine, 1 and 2 repaired, 4 and above not (its manual page).
    for mode in ["-p", "-y"] {
        let output = Command::new("e2fsck").arg(mode).arg(device).output().context("cannot run e2fsck")?;
        match output.status.code() {
            Some(0..=2) => return Ok(()),
            code => {
                let said = String::from_utf8_lossy(&output.stdout);
                tracing::warn!(mode, ?code, said = said.trim(), "{} needs repair", device.display());
            }
        }
    }
    bail!("e2fsck cannot repair {}", device.display())
}

fn mount_ext4(device: &Path, folder: &Path, options: &std::ffi::CStr) -> Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NOATIME;
    mount(device, folder, "ext4", flags, options)
        .map_err(io::Error::from)
        .with_context(|| format!("cannot mount {} at {}", device.display(), folder.display()))
}

fn head(device: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = to("open", device, File::open(device))?;
    to("read", device, file.take(HEAD_BYTES as u64).read_to_end(&mut head))?;
    Ok(head)
}

/// Runs a program; its complaint becomes the error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{name} failed ({}): {}", output.status, said.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the real mke2fs and e2fsck, on a file in the place of the partition.
    #[test]
    fn what_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        let identity = place.identity("");
        assert!(!is_mounted(&place, &identity));
        let line = format!("/dev/vda3 {} ext4 rw 0 0\n", identity.to_str().unwrap().trim_end_matches('/'));
        files::replace(&place.at("/proc/self/mounts"), line.as_bytes(), 0o644).unwrap();
        assert!(is_mounted(&place, &identity));
        assert!(!is_mounted(&place, &place.at("/var")));
    }

    #[test]
    fn identity_is_made_and_mends_after_a_cut() {
        if Command::new("mke2fs").arg("-V").output().is_err() {
            println!("skipped: no mke2fs");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        fs::create_dir_all(place.at("/run/caretaker")).unwrap();
        let device = folder.path().join("identity");
        File::create(&device).unwrap().set_len(16 << 20).unwrap();
        make_identity(&place, &device).unwrap();
        let whole = fs::read(&device).unwrap();
        assert_eq!(disks::found(&whole[..HEAD_BYTES]), disks::Found::Ext4);
        check(&device).unwrap();
        // A cut at each write: made again, and sound again.
        let writes: Vec<_> = disks::making(&whole).collect();
        for cut in 0..writes.len() {
            let mut medium = vec![0; whole.len()];
            for (at, bytes) in &writes[..cut] {
                let at = usize::try_from(*at).unwrap();
                medium[at..at + bytes.len()].copy_from_slice(bytes);
            }
            fs::write(&device, &medium).unwrap();
            let found = disks::found(&medium[..HEAD_BYTES]);
            if disks::identity(found) == Step::Make && cut % 6 == 1 {
                make_identity(&place, &device).unwrap();
                check(&device).unwrap();
            }
        }
        // A lost first superblock: the others are known to the check.
        let mut damaged = whole.clone();
        damaged[1024..2048].fill(0xff);
        fs::write(&device, &damaged).unwrap();
        assert_eq!(disks::identity(disks::found(&damaged[..HEAD_BYTES])), Step::Use);
        check(&device).unwrap();
        assert_eq!(disks::found(&fs::read(&device).unwrap()[..HEAD_BYTES]), disks::Found::Ext4);
    }
}
