//! The folder of an operator's keys, made once and kept safe: who has it can make updates for the boxes.
//!
//! | file | for |
//! |---|---|
//! | `release.key`, `release.pub` | images (`osimage sign`) |
//! | `provision.key`, `provision.pub` | provisioning files |
//! | `rauc-ca.key.pem`, `rauc-ca.pem` | the certificates of those who sign bundles; boxes know the latter |
//! | `rauc.key.pem`, `rauc.cert.pem` | bundles |
//! | `secureboot.key.pem`, `secureboot.cert.pem` | what UEFI firmware starts |

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::key::{KeyError, SecretKey};
use crate::program::{self, ProgramError};

/// How long certificates are valid: longer than a box lives.
const DAYS: &str = "7300";

/// Why the folder could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFolderError {
    /// It is there already: keys are never overwritten.
    #[error("{path} exists already; keys are never overwritten")]
    Exists {
        /// The folder.
        path: String,
    },
    /// The name does not go into a certificate.
    #[error(
        "{name:?} is no name for a certificate: 1 to 40 letters, digits, spaces, dots and hyphens are allowed"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// It cannot be written.
    #[error("write {path}")]
    Write {
        /// What.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate cannot be made.
    #[error("make certificate")]
    Certificate(#[from] ProgramError),
}

/// Makes a new folder of keys at `path` for the operator `name`, whole or not at all.
///
/// # Errors
///
/// [`KeyFolderError`].
pub fn make(path: &Path, name: &str) -> Result<(), KeyFolderError> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '-');
    if name.is_empty() || name.chars().count() > 40 || !name.chars().all(plain) {
        return Err(KeyFolderError::Name { name: name.to_owned() });
    }
    if path.symlink_metadata().is_ok() {
        return Err(KeyFolderError::Exists { path: path.display().to_string() });
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let write = |source| KeyFolderError::Write { path: path.display().to_string(), source };
    DirBuilder::new().mode(0o700).create(&part).map_err(write)?;
    let made = fill(&part, name).and_then(|()| fs::rename(&part, path).map_err(write));
    if made.is_err() {
        // The error is what counts; a left-over has a name that says what it is.
        let _ = fs::remove_dir_all(&part);
    }
    made
}

fn fill(folder: &Path, name: &str) -> Result<(), KeyFolderError> {
    for pair in ["release", "provision"] {
        let key = SecretKey::generate()?;
        key.write_new(&folder.join(format!("{pair}.key")))?;
        key.public().write_new(&folder.join(format!("{pair}.pub")))?;
    }
    let elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let ca = [folder.join("rauc-ca.pem"), folder.join("rauc-ca.key.pem")];
    let subject = format!("/O={name}/CN={name} update CA");
    let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n";
    certificate(&ca, &subject, &elliptic, extensions, None)?;
    let bundle = [folder.join("rauc.cert.pem"), folder.join("rauc.key.pem")];
    let subject = format!("/O={name}/CN={name} updates");
    let extensions = "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n\
                      extendedKeyUsage = codeSigning, emailProtection\n";
    certificate(&bundle, &subject, &elliptic, extensions, Some(&ca))?;
    let boot = [folder.join("secureboot.cert.pem"), folder.join("secureboot.key.pem")];
    let subject = format!("/O={name}/CN={name} secure boot");
    // UEFI firmware in the field knows no other kind of key for sure.
    let rsa = ["-newkey", "rsa:2048", "-sha256"];
    let extensions = "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n\
                      extendedKeyUsage = codeSigning\n";
    certificate(&boot, &subject, &rsa, extensions, None)
}

/// Makes a key and a certificate of it, signed by `ca` or by itself. Each pair is certificate, key.
fn certificate(
    pair: &[PathBuf; 2],
    subject: &str,
    kind: &[&str],
    extensions: &str,
    ca: Option<&[PathBuf; 2]>,
) -> Result<(), KeyFolderError> {
    let [certificate, key] = pair;
    // Its own configuration, so that the machine's adds nothing.
    let config = key.with_extension("cnf");
    let text = format!(
        "[req]\ndistinguished_name = dn\nx509_extensions = ext\nutf8 = yes\nstring_mask = utf8only\n\
         [dn]\n[ext]\n{extensions}\
         subjectKeyIdentifier = hash\n"
    );
    let write = |path: &Path| {
        let path = path.display().to_string();
        move |source| KeyFolderError::Write { path, source }
    };
    fs::write(&config, text).map_err(write(&config))?;
    let mut arguments: Vec<&std::ffi::OsStr> =
        ["req", "-x509", "-noenc", "-utf8", "-days", DAYS, "-subj", subject].map(AsRef::as_ref).to_vec();
    arguments.extend(kind.iter().map(|word| std::ffi::OsStr::new(*word)));
    let files = [("-config", &config), ("-keyout", key), ("-out", certificate)];
    let signer = ca.into_iter().flat_map(|[certificate, key]| [("-CA", certificate), ("-CAkey", key)]);
    for (option, file) in files.into_iter().chain(signer) {
        arguments.extend([option.as_ref(), file.as_os_str()]);
    }
    program::run("openssl", "openssl", arguments)?;
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).map_err(write(key))?;
    fs::remove_file(&config).map_err(write(&config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PublicKey;

    #[test]
    fn a_folder_has_all_keys_and_is_not_made_twice() {
        if let Err(ProgramError::Missing { .. }) = program::run("openssl", "openssl", ["version"]) {
            return crate::skipped("openssl is missing");
        }
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("keys");
        make(&folder, "Läden Ltd.").unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "provision.key",
            "provision.pub",
            "rauc-ca.key.pem",
            "rauc-ca.pem",
            "rauc.cert.pem",
            "rauc.key.pem",
            "release.key",
            "release.pub",
            "secureboot.cert.pem",
            "secureboot.key.pem",
        ];
        assert_eq!(names, expected);
        for name in names {
            let mode = fs::metadata(folder.join(&name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode == 0o600, name.contains(".key"), "{name}: {mode:o}");
        }
        let path = |name: &str| folder.join(name).into_os_string();
        assert_eq!(
            PublicKey::read_all(&folder.join("release.pub")).unwrap(),
            [SecretKey::read(&folder.join("release.key")).unwrap().public()]
        );
        let verified = program::run(
            "openssl",
            "openssl",
            [
                "verify".into(),
                "-purpose".into(),
                "codesign".into(),
                "-CAfile".into(),
                path("rauc-ca.pem"),
                path("rauc.cert.pem"),
            ],
        );
        // Older versions of the program do not know the purpose.
        if let Err(ProgramError::Failed { complaint, .. }) = &verified {
            assert!(complaint.contains("purpose"), "{complaint}");
        }
        let plain = ["verify".into(), "-CAfile".into(), path("rauc-ca.pem"), path("rauc.cert.pem")];
        program::run("openssl", "openssl", plain).unwrap();
        let error = make(&folder, "Again").unwrap_err().to_string();
        assert!(error.ends_with("exists already; keys are never overwritten"), "{error}");
        assert!(matches!(make(&parent.path().join("x"), "a/CN=b"), Err(KeyFolderError::Name { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
