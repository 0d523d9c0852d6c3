//! Finds and opens the ONNX Runtime library, once in a process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use crate::Error;

/// The runtime allows one environment a process; it stays for the process's life.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Where the library is: the file that `STILE_ONNXRUNTIME` names, else `ORT_DYLIB_PATH`; else `libonnxruntime.so*` in
/// `.cache/onnxruntime` of this folder or one above it (where `make` unpacks it), else in the system's library folders.
///
/// # Errors
/// `Error::NoLibrary` with every place that was looked at.
pub fn library_path() -> Result<PathBuf, Error> {
    for variable in ["STILE_ONNXRUNTIME", "ORT_DYLIB_PATH"] {
        if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) {
            return if path.is_file() { Ok(path) } else { Err(Error::NoLibrary(vec![path])) };
        }
    }
    let here = std::env::current_dir().unwrap_or_default();
    let caches = here.ancestors().map(|folder| folder.join(".cache/onnxruntime"));
    let system = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib"];
    let folders: Vec<PathBuf> = caches.chain(system.map(PathBuf::from)).collect();
    folders.iter().find_map(|folder| library_in(folder)).ok_or_else(|| {
        Error::NoLibrary(folders.iter().map(|folder| folder.join("libonnxruntime.so")).collect())
    })
}

/// The plain name first; of the versioned ones the last, so that the answer does not depend on the folder's order.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join("libonnxruntime.so");
    if plain.is_file() {
        return Some(plain);
    }
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with("libonnxruntime.so.")) && path.is_file()
        })
        .max()
}

/// The process's environment. The first caller's library is the process's library.
pub fn environment(library: &Path) -> Result<Environment, Error> {
    if !library.is_file() {
        return Err(Error::NoLibrary(vec![library.to_owned()]));
    }
    let fault = |source: Box<dyn std::error::Error + Send + Sync>| Error::Library {
        path: library.to_owned(),
        source,
    };
    let mut held = ENVIRONMENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(environment) = &*held {
        return Ok(environment.clone());
    }
    // An absolute path: the loader would search its own folders for a bare name.
    let absolute = library.canonicalize().map_err(|source| fault(source.into()))?;
    let builder = ort::init_from(absolute).map_err(|source| fault(source.to_string().into()))?;
    let environment = builder.with_telemetry(false).build().map_err(|source| fault(source.into()))?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    *held = Some(environment.clone());
    Ok(environment)
}
