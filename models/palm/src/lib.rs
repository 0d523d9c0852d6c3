//! Recognises an enrolled palm by its veins: template extraction, protected templates and one-to-many search.
//!
//! It deliberately talks to no scanner, keeps no picture, stores nothing by itself and opens no gate. It does
//! not detect presentation attacks yet (prints, screens): a palm alone must not open where that matters.
//!
//! A near-infrared picture goes through [`Palm::find`] (where is the palm), [`Probe::new`] or
//! [`Template::extract`] (a competitive code of 3 x 1,024 bits), and [`Gallery::search`]. What is kept is
//! transformed with a key of the deployment ([`Key`]) and, at rest, encrypted record by record ([`Vault`]).
//!
//! Nothing that holds biometric bits has `Debug` or `Clone`, and all of it is overwritten when dropped.
//!
//! Sources: A. Kong and D. Zhang, "Competitive coding scheme for palmprint verification", ICPR 2004 (the
//! code); ISO/IEC 24745 (what protecting a template means).

mod code;
mod gallery;
mod key;
mod region;
mod vault;

pub use code::Template;
pub use gallery::{Consent, EnrolError, Enrolment, Gallery, MemberId, Outcome, Probe, Thresholds};
pub use key::Key;
pub use region::{NoPalm, Palm, Picture, Region};
pub use vault::{SealedRecord, Vault, VaultError};
