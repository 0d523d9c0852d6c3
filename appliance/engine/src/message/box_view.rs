//! What a box says of itself: what it is, from which slot it runs, and why it is not provisioned or went back.

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// A box as the caretaker sees it, for screens. Every field has a default, so that a screen also shows what an older
/// or a newer caretaker wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxView {
    /// The box's name ("entry gate 1"); empty before it is provisioned.
    pub name: String,
    /// The store it belongs to.
    pub store: String,
    /// Its role ("entry-gate").
    pub role: String,
    /// The maker's serial number.
    pub serial: String,
    /// The image's version.
    pub version: String,
    /// The slot that runs, "a" or "b"; empty when nobody can tell.
    pub slot: String,
    /// The generation of the slot's boot entry: larger is newer.
    pub generation: u64,
    /// Whether the slot has proved itself.
    pub boot: BootState,
    /// How far this boot has come, in the caretaker's words.
    pub stage: String,
    /// Anybody can sign for this box: its image was built with development keys.
    pub development_keys: bool,
    /// The last time the box went back to its other slot.
    pub rollback: Option<Rollback>,
    /// Whether the box knows what it is.
    pub provisioning: Provisioning,
    /// Interface and address, one a line ("eth0 10.0.0.5/24").
    pub addresses: Vec<String>,
    /// How far its clock can be trusted.
    pub clock: ClockView,
    /// What did not hold when it started, for people.
    pub troubles: Vec<String>,
    /// When this was said.
    pub at: Instant,
}

/// Whether a slot has proved itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootState {
    /// Nobody has said.
    #[default]
    Unknown,
    /// On trial: if it does not prove itself, the next boot takes the other slot.
    Trial,
    /// Proved.
    Good,
}

/// A return to the other slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollback {
    /// When it was noticed.
    pub at: Instant,
    /// The version that was left.
    pub from_version: String,
    /// The slot that was left.
    pub from_slot: String,
    /// Why, for people.
    pub reason: String,
}

/// Whether a box knows what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provisioning {
    /// The outcome of the newest attempt.
    pub state: ProvisioningState,
    /// For people: where the file came from, or why it was refused.
    pub detail: String,
}

/// The outcome of provisioning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisioningState {
    /// There was no file yet.
    #[default]
    None,
    /// A file was taken.
    Accepted,
    /// The newest file was refused; an older one may still hold.
    Refused,
}

/// How far a clock can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockView {
    /// Set by a time server or a clock that runs without power.
    pub trusted: bool,
    /// What set it ("10.0.0.1", "rtc"), or why it is not trusted.
    pub source: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_or_newer_caretaker_wrote_is_read() {
        let text = r#"{"slot":"a","version":"1.2.0","boot":"trial","weather":"fine"}"#;
        let view: BoxView = serde_json::from_str(text).expect("read");
        let want = BoxView {
            slot: "a".to_owned(),
            version: "1.2.0".to_owned(),
            boot: BootState::Trial,
            ..BoxView::default()
        };
        assert_eq!(view, want);
        let back: BoxView = serde_json::from_str(&serde_json::to_string(&view).expect("JSON")).expect("read");
        assert_eq!(back, view);
    }
}
