//! Files and times of the command line; every error names the file and the cause.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use engine::admission::provision::{KeyFile, from_hex};
use engine::time::Instant;
use engine::units::MemberHandle;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nothing that is read here is larger: a full deny list as text has some 3 MB.
const FILE_MAX: u64 = 8 * 1024 * 1024;

/// Reads a file, `-` for standard input.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let name = path.display();
    if path == Path::new("-") {
        std::io::stdin().take(FILE_MAX + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let file = fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
        file.take(FILE_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    }
    if bytes.len() as u64 > FILE_MAX {
        bail!("{name} is larger than {FILE_MAX} bytes");
    }
    Ok(bytes)
}

/// Reads a text file.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("{} is not text", path.display()))
}

/// Reads a TOML file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        // The parser's own message would show the line, which may be a secret.
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
        anyhow::anyhow!("{} is not valid: line {line}: {}", path.display(), error.message())
    })
}

/// Reads a key file.
pub fn read_key(path: &Path) -> anyhow::Result<KeyFile> {
    read_toml(path)
}

/// Writes a new file that only its owner may read.
pub fn write_secret(path: &Path, title: &str, value: &impl Serialize) -> anyhow::Result<()> {
    let text = format!(
        "# {title} Secret: whoever can read this file can do what it does.\n{}",
        toml::to_string(value)?
    );
    let failed = || format!("cannot write {}", path.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
}

/// Writes a file that holds nothing secret.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// 32 bytes that nobody can guess.
pub fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bail!("the system gives no random bytes");
    }
    Ok(bytes)
}

/// The machine's time.
pub fn now() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time as written: RFC 3339, a date, `@` and unix seconds, `now`, `now+SPAN` or `now-SPAN`.
pub fn time(text: &str) -> Result<Instant, String> {
    if let Some(rest) = text.strip_prefix("now") {
        let now = now();
        return match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
            (None, None) if rest.is_empty() => Ok(now),
            (Some(ahead), _) => Ok(Instant(now.0.saturating_add(millis(span(ahead)?)))),
            (_, Some(back)) => Ok(Instant(now.0.saturating_sub(millis(span(back)?)))),
            (None, None) => Err("after now comes + or - and a span".to_owned()),
        };
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: u64 = seconds.parse().map_err(|error| format!("unix seconds: {error}"))?;
        return seconds.checked_mul(1000).map(Instant).ok_or_else(|| "too far away".to_owned());
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole).map_err(|error| error.to_string())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "before 1970".to_owned())?;
    Ok(Instant(millis(since)))
}

/// A span as written: `90s`, `30m`, `12h`, `7d`.
pub fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// A time for people.
pub fn said(unix_seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds));
    // Later than what RFC 3339 can write.
    time.filter(|_| unix_seconds < 253_402_300_800).map_or_else(
        || format!("@{unix_seconds}"),
        |time| humantime::format_rfc3339_seconds(time).to_string(),
    )
}

/// A member handle as written: 16 hexadecimal digits.
pub fn handle(text: &str) -> Result<MemberHandle, String> {
    let bytes = from_hex::<8>(text).ok_or("a member handle is 16 hexadecimal digits")?;
    Ok(MemberHandle(u64::from_be_bytes(bytes)))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
