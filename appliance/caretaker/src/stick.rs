//! USB sticks: how a technician gives a box its provisioning file, and, where there is no network, an update, takes
//! the support file along, or resets it.
//!
//! A provisioning file is taken from any stick, because it is signed. Errands are run only for a stick that
//! also holds a file signed for this very box, no older than the one in use: whoever has that has the operator's
//! word. They are run when the stick is plugged in, never for one that was there at the start: a forgotten
//! stick must not take a box back to an old version after each restart.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use osimage::provision::FILE_NAME;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::first_boot::{self, now_ms};
use crate::place::{Place, partition};
use crate::{provisioning, update, volumes, watch, why};

/// On a stick: wants the support file. Its content does not matter.
pub const SUPPORT: &str = "stile.support";
/// On a stick: wants a factory reset. Holds the name of the box, so that a stick that went into the wrong one does
/// nothing. It is removed before the reset, so that there is one.
pub const RESET: &str = "stile.reset";
/// A bundle lies here while it is installed: RAUC's own process sees no stick that we mount.
const COPY: &str = "/var/lib/stile/stick.raucb";
/// What must be left on the state's file system beside the copy.
const ROOM: u64 = 64 << 20;
/// Sticks looked at; more is no technician's.
const STICKS_MAX: usize = 8;

/// The devices of sticks that are plugged in: whole sticks and their partitions.
#[must_use]
pub fn devices(place: &Place) -> Vec<PathBuf> {
    let listed = fs::read_dir(place.at("/dev/disk/by-path")).into_iter().flatten().flatten();
    let mut paths: Vec<_> = listed.map(|entry| entry.path()).collect();
    let own = place.partition(partition::STATE).and_then(|state| disk_of(place, &state));
    paths.retain(|path| {
        let usb = path.file_name().is_some_and(|name| name.to_string_lossy().contains("-usb-"));
        // A box may itself run from such a disk.
        usb && (own.is_none() || disk_of(place, path) != own)
    });
    paths.sort();
    paths.truncate(STICKS_MAX);
    paths
}

/// The disk that a device is, or is a part of, by the kernel's name (sysfs's class/block); None: it is not there.
fn disk_of(place: &Place, device: &Path) -> Option<OsString> {
    let device = device.canonicalize().ok()?;
    let listed = place.at("/sys/class/block").join(device.file_name()?).canonicalize().ok()?;
    let disk = if listed.join("partition").exists() { listed.parent()? } else { &listed };
    disk.file_name().map(ToOwned::to_owned)
}

/// The provisioning files on them.
#[must_use]
pub fn provisioning_files(place: &Place) -> Vec<provisioning::Stick> {
    let file = |device: &PathBuf| {
        let mounted = Mounted::new(place, "stick", device, MountFlags::RDONLY)?;
        let bytes = provisioning::head(mounted.0.join(FILE_NAME)).ok()?;
        Some((format!("{FILE_NAME} on the stick at {}", name_of(device)), bytes))
    };
    devices(place).iter().filter_map(file).collect()
}

/// Runs the errands of a stick; says what was done, or why not. None: it wants nothing.
#[must_use]
pub fn serve(place: &Place, device: &Path) -> Option<Result<String>> {
    // One mount after the other: the kernel mounts no device to read and to write at once.
    let looked = {
        let mounted = Mounted::new(place, "errand", device, MountFlags::RDONLY)?;
        look(place, &mounted.0)?
    };
    let told = {
        let mounted = Mounted::new(place, "errand", device, MountFlags::empty());
        answer(place, mounted.as_ref().map(|mounted| mounted.0.as_path()), looked)
    };
    // From here on the stick may be pulled out.
    Some(told.and_then(|Told { mut done, copy }| {
        if let Some(copy) = copy {
            done.push(install(place, &copy.0)?);
        }
        Ok(done.join("; "))
    }))
}

/// Removes what an errand left that was cut off.
pub fn clean(place: &Place) {
    let _ = fs::remove_file(place.at(COPY));
}

/// What a stick wants, and is allowed to.
struct Looked {
    /// The bundle, copied here.
    copy: Option<Copy>,
    support: bool,
    reset: bool,
}

/// What was done, and the bundle that is still to be installed.
struct Told {
    done: Vec<String>,
    copy: Option<Copy>,
}

/// A bundle on our own disk, until it is dropped.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads a stick. None: it wants nothing.
fn look(place: &Place, folder: &Path) -> Option<Result<Looked>> {
    let bundle = update::compatible(place).ok().map(|board| folder.join(format!("{board}.raucb")));
    let bundle = bundle.filter(|bundle| bundle.is_file());
    let support = folder.join(SUPPORT).exists();
    let reset = fs::read_to_string(folder.join(RESET)).ok();
    if bundle.is_none() && !support && reset.is_none() {
        return None;
    }
    let allowed = || {
        if let Some(wanted) = &reset {
            let (wanted, name) = (wanted.trim(), first_boot::told(place).view.name);
            ensure!(!name.is_empty() && wanted == name, "{RESET} is for box {wanted:?}, this is {name:?}");
        }
        permit(place, folder)?;
        let copy = bundle.map(|bundle| copy_here(place, &bundle)).transpose()?;
        Ok(Looked { copy, support, reset: reset.is_some() })
    };
    Some(allowed())
}

/// Does what is to be written to the stick, and notes there what was done, for a box without a screen. Without a
/// folder the stick cannot be written to.
fn answer(place: &Place, folder: Option<&Path>, looked: Result<Looked>) -> Result<Told> {
    let answered = looked.and_then(|Looked { copy, support, reset }| {
        let mut done = Vec::new();
        if support {
            let folder = folder.context("no support file: the stick cannot be written to")?;
            let path = why::support(place, Some(folder.to_owned()))?;
            done.push(format!("wrote {}", name_of(&path)));
        }
        if reset {
            let folder = folder.context("no reset: the stick cannot be written to")?;
            fs::remove_file(folder.join(RESET)).context("the wish for a reset cannot be removed")?;
            let flushed = File::open(folder).and_then(|folder| folder.sync_all());
            flushed.context("the stick cannot be flushed")?;
            volumes::forget_state(place)?;
            watch::ask_restart(place, "a factory reset")?;
            done.push("factory reset at the next restart, when nobody is at a lane".to_owned());
        }
        Ok(Told { done, copy })
    });
    let line = match &answered {
        Ok(told) => {
            let copied = told.copy.as_ref().map(|_| "update copied, you may pull the stick out");
            told.done.iter().map(String::as_str).chain(copied).collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("refused: {error:#}"),
    };
    if let Some(Err(error)) = folder.map(|folder| note(place, folder, &line)) {
        tracing::info!(error = %format!("{error:#}"), "nothing is noted on the stick");
    }
    answered
}

/// Whether the stick has the operator's word for this box.
fn permit(place: &Place, folder: &Path) -> Result<()> {
    let bytes = provisioning::head(folder.join(FILE_NAME));
    let bytes = bytes.with_context(|| format!("the stick has no {FILE_NAME}, signed for this box"))?;
    provisioning::permit(place, &bytes).with_context(|| format!("the {FILE_NAME} beside it"))
}

fn copy_here(place: &Place, bundle: &Path) -> Result<Copy> {
    // From now on it is removed, whatever happens.
    let copy = Copy(place.at(COPY));
    let length = bundle.metadata().context("the bundle cannot be read")?.len();
    if let Some(folder) = copy.0.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let stat = rustix::fs::statvfs(folder).context("cannot tell how much room there is")?;
        let room = stat.f_bavail.saturating_mul(stat.f_frsize);
        if room < length.saturating_add(ROOM) {
            bail!("no room for the bundle: it has {length} bytes, {room} are free");
        }
    }
    fs::copy(bundle, &copy.0).context("the bundle cannot be copied from the stick")?;
    Ok(copy)
}

fn install(place: &Place, copy: &Path) -> Result<String> {
    let path = copy.to_str().context("the path of the copy is no text")?;
    let version = update::inspect(place, path)?.version;
    if version == first_boot::told(place).view.version {
        return Ok(format!("version {version} runs already"));
    }
    update::command(place, path, true, &mut std::io::sink())?;
    Ok(format!("version {version} is installed; it starts when nobody is at a lane"))
}

fn note(place: &Place, folder: &Path, line: &str) -> Result<()> {
    let told = first_boot::told(place).view;
    let name = if told.name.is_empty() { "box".to_owned() } else { told.name };
    let path = folder.join(format!("stile-{name}.txt"));
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{} version {}: {line}", why::at(now_ms()), told.version)?;
    Ok(file.sync_all()?)
}

/// A stick, mounted until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// None when it is not FAT: then it is somebody else's.
    fn new(place: &Place, name: &str, device: &Path, flags: MountFlags) -> Option<Self> {
        let folder = place.at("/run/caretaker").join(name);
        fs::create_dir_all(&folder).ok()?;
        let flags = flags | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        mount(device, &folder, "vfat", flags, c"").ok()?;
        Some(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use osimage::key::SecretKey;
    use osimage::provision::Provision;

    use super::*;
    use crate::files;

    struct Bench {
        _folder: tempfile::TempDir,
        place: Place,
        stick: PathBuf,
        key: SecretKey,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let place = Place::below(&folder.path().join("box"));
            let stick = folder.path().join("stick");
            fs::create_dir_all(&stick).unwrap();
            let key = SecretKey::generate().unwrap();
            let keys = key.public().to_string();
            files::replace(&place.at("/usr/share/stile/keys/provision.pub"), keys.as_bytes(), 0o644).unwrap();
            files::replace(&place.at("/etc/rauc/system.conf"), b"compatible=stile-x86-64\n", 0o644).unwrap();
            let mut told = first_boot::Told::default();
            told.view.name = "gate-1".to_owned();
            told.view.version = "6".to_owned();
            first_boot::tell(&place, &told).unwrap();
            let bench = Self { _folder: folder, place, stick, key };
            bench.identity("gate-1", 100);
            bench
        }

        fn file(&self, name: &str, issued: u64, key: &SecretKey) -> String {
            let text =
                format!("issued = {issued}\nstore = \"S\"\nrole = \"kiosk\"\n[box]\nname = \"{name}\"\n");
            Provision::parse(&text).unwrap().sign(key).unwrap()
        }

        fn identity(&self, name: &str, issued: u64) {
            let text = self.file(name, issued, &self.key);
            files::replace(&self.place.identity("provision"), text.as_bytes(), 0o600).unwrap();
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.stick.join(name), text).unwrap();
        }

        fn run(&self) -> Option<Result<Told>> {
            Some(answer(&self.place, Some(&self.stick), look(&self.place, &self.stick)?))
        }

        fn refused(&self) -> String {
            format!("{:#}", self.run().unwrap().err().expect("refused"))
        }
    }

    #[test]
    fn a_stick_without_wishes_is_left_alone() {
        let bench = Bench::new();
        bench.put("holiday.jpg", "x");
        bench.put("stile-raspberry-pi.raucb", "for another board");
        assert!(bench.run().is_none());
        assert_eq!(fs::read_dir(&bench.stick).unwrap().count(), 2, "nothing is written to it");
    }

    /// Whoever has no word of the operator's for this very box gets nothing, and is told why.
    #[test]
    fn who_may_ask() {
        let bench = Bench::new();
        bench.put(SUPPORT, "");
        assert!(bench.refused().contains("has no stile.provision, signed for this box"));
        let stranger = SecretKey::generate().unwrap();
        for (text, says) in [
            ("nonsense".to_owned(), "stile.provision"),
            (bench.file("gate-1", 100, &stranger), "key"),
            (bench.file("gate-2", 100, &bench.key), "gate-2"),
            (bench.file("gate-1", 99, &bench.key), "older"),
        ] {
            bench.put(FILE_NAME, &text);
            let refused = bench.refused();
            assert!(refused.contains(says), "{says} in {refused}");
        }
        let note = fs::read_to_string(bench.stick.join("stile-gate-1.txt")).unwrap();
        assert_eq!(note.lines().filter(|line| line.contains("version 6: refused: ")).count(), 5, "{note}");
        assert!(!bench.place.at(watch::RESTART).exists());
    }

    #[test]
    fn support_and_update() {
        let bench = Bench::new();
        bench.put(FILE_NAME, &bench.file("gate-1", 100, &bench.key));
        bench.put(SUPPORT, "");
        bench.put("stile-x86-64.raucb", "a bundle");
        let told = bench.run().unwrap().unwrap();
        let written = told.done[0].strip_prefix("wrote ").unwrap();
        assert!(bench.stick.join(written).metadata().unwrap().len() > 0);
        let copy = bench.place.at(COPY);
        assert_eq!(fs::read_to_string(&copy).unwrap(), "a bundle");
        drop(told);
        assert!(!copy.exists(), "it is not left behind");
        let note = fs::read_to_string(bench.stick.join("stile-gate-1.txt")).unwrap();
        assert!(note.contains("wrote stile-support-gate-1-") && note.contains("update copied"), "{note}");
    }

    #[test]
    fn a_reset_is_for_one_box_and_happens_once() {
        let bench = Bench::new();
        bench.put(FILE_NAME, &bench.file("gate-1", 100, &bench.key));
        bench.put(RESET, "gate-2\n");
        assert!(bench.refused().contains("is for box \"gate-2\", this is \"gate-1\""));
        bench.put(RESET, "gate-1\n");
        bench.run().unwrap().unwrap();
        assert!(!bench.stick.join(RESET).exists());
        assert_eq!(files::text(&bench.place.at(watch::RESTART)).unwrap(), "a factory reset");
        assert!(bench.run().is_none(), "once");
        // Where it cannot be taken off the stick, it does not happen at all.
        fs::remove_file(bench.place.at(watch::RESTART)).unwrap();
        bench.put(RESET, "gate-1");
        let refused = answer(&bench.place, None, look(&bench.place, &bench.stick).unwrap());
        assert!(format!("{:#}", refused.err().unwrap()).contains("cannot be written to"));
        assert!(!bench.place.at(watch::RESTART).exists());
    }
}
