//! Files that a power cut leaves old or new and never half.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What was being done to which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub struct Error {
    /// The verb.
    pub what: &'static str,
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Adds what was being done.
pub fn to<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error { what, path: path.to_owned(), source })
}

/// Replaces a file whole: written beside it, flushed, renamed, and the folder flushed.
///
/// # Errors
/// Names the file.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    to("make the folder", folder, fs::create_dir_all(folder))?;
    let new = beside(path);
    let mut file =
        to("write", &new, OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new))?;
    to("write", &new, file.write_all(bytes))?;
    // The mode of the call above is narrowed by the process's mask, and a left-over file keeps its own.
    to("set the rights of", &new, file.set_permissions(Permissions::from_mode(mode)))?;
    to("flush", &new, file.sync_all())?;
    drop(file);
    to("rename", path, fs::rename(&new, path))?;
    flush_folder(folder)
}

/// The name under which a file is written before it is whole.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(osimage::slots::UNFINISHED);
    PathBuf::from(name)
}

/// Removes a file; none is fine.
///
/// # Errors
/// Names the file.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => to("remove", path, result),
    }?;
    flush_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Brings a folder, the file system that it is on, and the medium's own cache up to date.
///
/// # Errors
/// Names the folder.
pub fn flush_folder(folder: &Path) -> Result<(), Error> {
    let opened = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => to("open", folder, result)?,
    };
    to("flush", folder, rustix::fs::syncfs(&opened).map_err(io::Error::from))?;
    // Last: on FAT only this one also asks the medium to empty its cache.
    to("flush", folder, opened.sync_all())
}

/// A file's text; `None` where there is none, or where it is not text of a sensible length.
#[must_use]
pub fn text(path: &Path) -> Option<String> {
    const LENGTH_MAX: u64 = 8 << 20;
    use io::Read;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LENGTH_MAX + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > LENGTH_MAX { None } else { String::from_utf8(bytes).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        replace(&path, b"one", 0o640).unwrap();
        fs::write(beside(&path), b"left over by a cut").unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(text(&path).as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside(&path).exists());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(text(&path), None);
        let error = replace(Path::new("/proc/none/file"), b"", 0o600).unwrap_err();
        assert!(error.to_string().contains("/proc/none"), "{error}");
    }
}
