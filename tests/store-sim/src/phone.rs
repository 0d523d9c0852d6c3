//! Members' phones: the pass on them, the codes they show, and pictures of their screens.

mod glass;
pub mod screen;
pub mod set;
pub mod shot;
pub mod show;

use std::fmt;

use engine::admission::GroupKey;
use engine::admission::issue::{Device, Issuer, Terms, WalletPass};
use engine::time::{Instant, Millis};
use engine::units::MemberHandle;
use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};

use crate::dice::Dice;

/// The store group that the simulated issuer serves.
pub const STORE_GROUP: u32 = 0x00_57_11;
/// White modules around a QR code (ISO/IEC 18004: at least 4).
const QUIET: usize = 4;

/// The issuer of the store's passes and the secret of its wallet passes.
pub struct Office {
    issuer: Issuer,
    group_key: GroupKey,
}

/// A phone with a pass.
pub struct Phone {
    member: MemberHandle,
    pass: Pass,
}

/// The two kinds of pass (design.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The store's own app: 455 digits.
    Device,
    /// A wallet pass: 238 digits.
    Wallet,
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Device, Self::Wallet];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Wallet => "wallet",
        })
    }
}

enum Pass {
    /// The store's own app.
    App(Box<Device>),
    /// A wallet pass.
    Wallet(WalletPass),
}

impl Office {
    /// The office of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 5);
        Self {
            issuer: Issuer::new(1, STORE_GROUP, &secret(&mut dice)),
            group_key: GroupKey(secret(&mut dice)),
        }
    }

    /// Id and public key of the issuer, for gates.
    #[must_use]
    pub fn issuer_key(&self) -> (u8, [u8; 32]) {
        (self.issuer.key_id(), self.issuer.public_key())
    }

    /// The secret behind wallet passes, for gates.
    #[must_use]
    pub fn group_key(&self) -> GroupKey {
        self.group_key.clone()
    }

    /// A phone for a party of this size, with a pass made a while before `now`. One in ten singles uses a
    /// wallet pass.
    #[must_use]
    pub fn phone(&self, now: Instant, party: u8, dice: &mut Dice) -> Phone {
        let member = MemberHandle(dice.bits());
        let age = Millis::from_seconds(60 + dice.below(6 * 3600) as u64);
        let mut terms = Terms::single(member, now.before(age));
        terms.party = party;
        terms.wide = dice.chance(0.03);
        let seed = secret(dice);
        let wallet = party == 1 && dice.chance(0.1);
        let serial = dice.below(0x1_0000) as u16;
        let pass = if wallet {
            Pass::Wallet(self.issuer.wallet_pass(&terms, serial, &self.group_key))
        } else {
            Pass::App(Box::new(self.issuer.device(&terms, &seed)))
        };
        Phone { member, pass }
    }

    /// A phone of one person, with a pass of this kind, made a minute before `now`.
    #[must_use]
    pub fn phone_with(&self, now: Instant, profile: Profile, dice: &mut Dice) -> Phone {
        let member = MemberHandle(dice.bits());
        let terms = Terms::single(member, now.before(Millis::from_seconds(60)));
        let pass = match profile {
            Profile::Device => Pass::App(Box::new(self.issuer.device(&terms, &secret(dice)))),
            Profile::Wallet => {
                let serial = dice.below(0x1_0000) as u16;
                Pass::Wallet(self.issuer.wallet_pass(&terms, serial, &self.group_key))
            }
        };
        Phone { member, pass }
    }
}

impl Phone {
    /// The pseudonym on the pass.
    #[must_use]
    pub fn member(&self) -> MemberHandle {
        self.member
    }

    /// The digits on the screen at `at`, for this member of the party.
    #[must_use]
    pub fn show(&self, at: Instant, party_member: u8) -> String {
        match &self.pass {
            Pass::App(device) => device.show(at, party_member),
            Pass::Wallet(pass) => pass.show(at),
        }
    }
}

/// The phone's screen with a code: black on white, `scale` pixels a module, quiet zone included.
///
/// # Errors
/// When the text is too long for a QR code.
///
/// # Panics
/// When `scale` is 0.
pub fn picture(text: &str, scale: u32) -> Result<camera::Rgb, QrError> {
    assert!(scale > 0, "a module needs at least one pixel");
    let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
    let modules = code.width();
    let side = (modules + 2 * QUIET) as u32 * scale;
    let mut picture = camera::Rgb::new(side, side);
    for row in 0..side {
        for column in 0..side {
            let module =
                |pixel: u32| ((pixel / scale) as usize).checked_sub(QUIET).filter(|place| *place < modules);
            let dark = match (module(column), module(row)) {
                (Some(x), Some(y)) => code[(x, y)] == Color::Dark,
                (None, _) | (_, None) => false,
            };
            let at = ((row * side + column) * 3) as usize;
            picture.data[at..at + 3].fill(if dark { 12 } else { 244 });
        }
    }
    Ok(picture)
}

fn secret(dice: &mut Dice) -> [u8; 32] {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&dice.bits().to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::admission::{Admission, Issuers, PartyEntry, Settings, UntrustedClock};

    #[test]
    fn the_gate_takes_what_phones_show() {
        let office = Office::new(3);
        let (key_id, key) = office.issuer_key();
        let mut issuers = Issuers::default();
        issuers.install(key_id, key);
        let mut admission = Admission::new(Settings {
            store_group: STORE_GROUP,
            issuers,
            group_key: Some(office.group_key()),
            untrusted_clock: UntrustedClock::Refuse,
            party: PartyEntry::CountIn,
            ..Settings::default()
        });
        let now = Instant(1_790_000_000_000);
        let mut dice = Dice::new(3, 99);
        for party in [1_u8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3] {
            let phone = office.phone(now, party, &mut dice);
            let admitted = admission.check(now, true, phone.show(now, 0).as_bytes()).expect("a good code");
            assert_eq!((admitted.grant.member, admitted.passages), (phone.member(), party));
        }
    }

    #[test]
    fn a_code_fits_the_version_of_its_profile() {
        let office = Office::new(3);
        let now = Instant(1_790_000_000_000);
        let phone = office.phone(now, 2, &mut Dice::new(1, 99));
        let picture = picture(&phone.show(now, 0), 3).expect("fits");
        // Version 10 has 57 modules (design.md section 4), and 4 of quiet zone on both sides.
        assert_eq!(picture.width, (57 + 8) * 3);
    }
}
