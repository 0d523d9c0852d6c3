//! Passes that gates refuse: their handles, sorted, each with the hour after which its certificate is over
//! anyway. Entries: handle (8), hours after the list was made (2, rounded up; 65535 for ever), strictly
//! ascending by handle, so that one list has one form and is searched as it lies.

use super::keys::Issuers;
use super::list::{Frame, Kind, ROOT_KEY_ID, Refusal, Version};
use super::pass::number;
use crate::time::Instant;
use crate::units::MemberHandle;

/// Most handles: 656 kB on the bus and 1 MiB in memory. A certificate lives a week at most, so this is 9,000
/// revocations a day.
pub const DENIED_MAX: usize = 1 << 16;
pub(super) const ENTRY_LENGTH: usize = 10;
const FOR_EVER: u16 = u16::MAX;
const HOUR: u64 = 3600;

/// A deny list whose form is right and whose signature fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyList {
    /// Its version.
    pub version: Version,
    /// Unix seconds.
    pub made_at: u64,
    /// Handle and hours, ascending by handle.
    entries: Vec<(MemberHandle, u16)>,
}

impl DenyList {
    /// Reads a deny list and checks everything about it but its version.
    ///
    /// # Errors
    /// When it is not a deny list of this group, or not signed by the root or by an issuer whose key was live
    /// when the list was made.
    pub fn parse(
        bytes: &[u8],
        store_group: u32,
        issuers: &Issuers,
        root: Option<&[u8; 32]>,
    ) -> Result<Self, Refusal> {
        let kind = Kind::Deny;
        let frame = Frame::parse(kind, bytes)?;
        let count = count(&frame, ENTRY_LENGTH, DENIED_MAX)?;
        verify(&frame, store_group, issuers, root)?;
        let mut entries = Vec::with_capacity(count);
        for entry in frame.entries.chunks_exact(ENTRY_LENGTH) {
            let handle = MemberHandle(number(&entry[..8]));
            if entries.last().is_some_and(|(last, _)| *last >= handle) {
                return Err(Refusal::Content { kind, what: "handles are not in ascending order" });
            }
            entries.push((handle, number(&entry[8..]) as u16));
        }
        Ok(Self { version: frame.version, made_at: frame.made_at, entries })
    }

    /// Whether the list refuses this pass, when it is at least this late.
    #[must_use]
    pub fn denies(&self, earliest: Instant, member: MemberHandle) -> bool {
        self.entries.binary_search_by_key(&member, |(handle, _)| *handle).is_ok_and(|place| {
            let hours = self.entries[place].1;
            hours == FOR_EVER || earliest.unix_seconds() < self.made_at + u64::from(hours) * HOUR
        })
    }

    /// Handles on the list and until when each counts, unix seconds; `None`: for ever.
    pub fn entries(&self) -> impl Iterator<Item = (MemberHandle, Option<u64>)> {
        self.entries.iter().map(|(handle, hours)| {
            (*handle, (*hours != FOR_EVER).then(|| self.made_at + u64::from(*hours) * HOUR))
        })
    }
}

/// How many entries of this length there are.
pub(super) fn count(frame: &Frame<'_>, length: usize, max: usize) -> Result<usize, Refusal> {
    let kind = frame.kind;
    if !frame.entries.len().is_multiple_of(length) {
        return Err(Refusal::Malformed(kind));
    }
    let entries = frame.entries.len() / length;
    if entries > max { Err(Refusal::TooLong { kind, entries, max }) } else { Ok(entries) }
}

/// Whether a list that issuers may sign is for this group and signed by one of them, or by the root.
pub(super) fn verify(
    frame: &Frame<'_>,
    store_group: u32,
    issuers: &Issuers,
    root: Option<&[u8; 32]>,
) -> Result<(), Refusal> {
    let (kind, key_id) = (frame.kind, frame.key_id);
    let unknown = Refusal::UnknownKey { kind, key_id };
    let key = if key_id == ROOT_KEY_ID && root.is_some() {
        root
    } else {
        issuers.find(key_id).ok().filter(|key| key.live(frame.made_at)).map(|key| &key.key)
    };
    frame.verify(key.ok_or(unknown)?)?;
    if frame.store_group == store_group {
        Ok(())
    } else {
        Err(Refusal::OtherGroup { kind, group: frame.store_group })
    }
}

/// The entries of a list made at `made_at`, sorted and each handle once, with the later end.
pub(super) fn encode_entries(
    bytes: &mut Vec<u8>,
    made_at: Instant,
    members: &[(MemberHandle, Option<Instant>)],
) {
    let mut entries: Vec<(MemberHandle, u16)> = members
        .iter()
        .map(|(member, until)| (*member, until.map_or(FOR_EVER, |until| hours(made_at, until))))
        .collect();
    entries.sort_unstable_by_key(|(member, hours)| (*member, u16::MAX - hours));
    entries.dedup_by_key(|(member, _)| *member);
    for (member, hours) in entries {
        bytes.extend(member.0.to_be_bytes());
        bytes.extend(hours.to_be_bytes());
    }
}

fn hours(made_at: Instant, until: Instant) -> u16 {
    let hours = until.unix_seconds().saturating_sub(made_at.unix_seconds()).div_ceil(HOUR);
    u16::try_from(hours).unwrap_or(FOR_EVER)
}
