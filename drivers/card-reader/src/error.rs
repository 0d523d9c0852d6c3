//! Why a card reader failed, and what a shell can do about it.

use crate::codec::BadCard;

/// What a shell can act on when a card reader fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such reader now.
    NotFound,
    /// Somebody else uses its line.
    Busy,
    /// Its line went away while in use.
    Disconnected,
    /// It sent what makes no card; it may well go on.
    Garbled,
    /// It cannot do this, or its settings name what no reader can do.
    Unsupported,
    /// Its key is missing, readable by others, or no key.
    Key,
    /// The operating system refused for another reason.
    Io,
}

/// A failure of the card reader.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the card reader{}: {}", at(.path), .kind.text())]
pub struct Error {
    kind: ErrorKind,
    doing: &'static str,
    path: Option<String>,
    #[source]
    source: Option<Cause>,
}

/// What a failure of the card reader comes from.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operating system.
    #[error("the operating system refused")]
    Io(#[source] std::io::Error),
    /// The GPIO character device.
    #[error("the GPIO lines were refused")]
    Gpio(#[source] gpiocdev::Error),
    /// The OSDP library.
    #[error("the OSDP library refused")]
    Osdp(#[source] libosdp::OsdpError),
    /// The bits.
    #[error("card refused")]
    Card(#[source] BadCard),
    /// A setting.
    #[error("{0}")]
    Setting(&'static str),
}

impl Error {
    /// A failure of `kind` while `doing` ("open", "read", "signal").
    #[must_use]
    pub fn new(kind: ErrorKind, doing: &'static str, source: Option<Cause>) -> Self {
        Self { kind, doing, path: None, source }
    }

    /// The same, naming the file it is about.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A refusal of the operating system while opening `path`.
    pub(crate) fn open(path: &str, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::WouldBlock => ErrorKind::Busy,
            _ if is_gone(&source) => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, "open", Some(Cause::Io(source))).at(path)
    }

    /// A setting that no reader can have.
    pub(crate) fn setting(what: &'static str) -> Self {
        Self::new(ErrorKind::Unsupported, "open", Some(Cause::Setting(what)))
    }
}

/// Whether this is what Linux says of a device that was pulled.
pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::NODEV, rustix::io::Errno::NXIO, rustix::io::Errno::IO]
        .iter()
        .any(|gone| code == Some(gone.raw_os_error()))
}

impl From<BadCard> for Error {
    fn from(bad: BadCard) -> Self {
        Self::new(ErrorKind::Garbled, "read", Some(Cause::Card(bad)))
    }
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such device",
            Self::Busy => "somebody else uses it",
            Self::Disconnected => "device went away",
            Self::Garbled => "what it sent makes no card",
            Self::Unsupported => "no reader can do that",
            Self::Key => "no good key",
            Self::Io => "the operating system refused",
        }
    }
}

fn at(path: &Option<String>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" at {path}"))
}
