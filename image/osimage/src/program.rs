//! Programs of the build machine that this tool wraps.

use std::ffi::OsStr;
use std::io;
use std::process::Command;

/// Characters of a program's complaint that are shown.
const COMPLAINT_MAX: usize = 2000;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there.
    #[error("program {program:?} is missing: install the package {package}")]
    Missing {
        /// Which.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It cannot be started.
    #[error("start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed: {complaint}")]
    Failed {
        /// Which.
        program: String,
        /// What it said.
        complaint: String,
    },
}

/// Runs `program` of the Debian package `package`, and returns what it prints.
///
/// # Errors
///
/// [`ProgramError`].
pub fn run<A: AsRef<OsStr>>(
    program: &str,
    package: &'static str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Vec<u8>, ProgramError> {
    let output = Command::new(program).args(arguments).output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProgramError::Missing { program: program.to_owned(), package },
        _ => ProgramError::Start { program: program.to_owned(), source },
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(COMPLAINT_MAX);
    let complaint =
        if text.is_empty() { output.status.to_string() } else { text.chars().skip(skip).collect() };
    Err(ProgramError::Failed { program: program.to_owned(), complaint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_and_one_that_fails_are_told() {
        let missing = run("stile-no-such-program", "stile-none", ["x"]).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "program \"stile-no-such-program\" is missing: install the package stile-none"
        );
        let failed = run("ls", "coreutils", ["/no/such/file"]).unwrap_err().to_string();
        assert!(failed.starts_with("ls failed: ") && failed.contains("/no/such/file"), "{failed}");
    }
}
