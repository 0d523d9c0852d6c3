//! Cards of the fall-back readers (OSDP, Wiegand): which number belongs to whom.
//!
//! The list carries no card numbers, only their HMAC under the store's card salt, so that a list on its own
//! opens nothing. That is worth what the salt is worth: a 26-bit number can be guessed by whoever has both. A
//! card proves no moment and can be cloned; deny list, anti-passback and the lane's rate limit are what holds.
//!
//! Entries: hash (16), handle (8), until (4, unix seconds), entitlements (1, as in a pass), strictly ascending
//! by hash.

use ring::hmac;

use super::deny::{count, verify};
use super::keys::Issuers;
use super::list::{Frame, Kind, Refusal, Version};
use super::pass::{Entitlements, number};
use crate::units::MemberHandle;

/// Most cards: 580 kB on the bus, 800 kB in memory.
pub const CARDS_MAX: usize = 20_000;
/// Most bits of a card number.
pub const CARD_BITS_MAX: u16 = 256;
const HASH_LENGTH: usize = 16;
const ENTRY_LENGTH: usize = 29;

/// A card's number as the reader reports it. It is a credential, so it has no `Debug` and no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct CardNumber {
    bits: u16,
    bytes: Vec<u8>,
}

/// A card of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    hash: [u8; HASH_LENGTH],
    /// Whose card.
    pub member: MemberHandle,
    /// Unix seconds, exclusive.
    pub until: u64,
    /// What it entitles to; a card proves no age.
    pub entitlements: Entitlements,
}

/// A card list whose form is right and whose signature fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardList {
    /// Its version.
    pub version: Version,
    /// Unix seconds.
    pub made_at: u64,
    cards: Vec<Card>,
}

impl CardNumber {
    /// A number of so many bits, the most significant bit of the first byte first, as OSDP reports raw card
    /// data; bits beyond the last are ignored. `None` when there are no bits, more than [`CARD_BITS_MAX`], or
    /// fewer bytes than they need.
    #[must_use]
    pub fn new(bits: u16, bytes: &[u8]) -> Option<Self> {
        if bits == 0 || bits > CARD_BITS_MAX {
            return None;
        }
        let mut bytes = bytes.get(..usize::from(bits).div_ceil(8))?.to_vec();
        if let (Some(last), 1..8) = (bytes.last_mut(), bits % 8) {
            *last &= 0xff << (8 - bits % 8);
        }
        Some(Self { bits, bytes })
    }

    fn hash(&self, salt: &[u8; 32]) -> [u8; HASH_LENGTH] {
        let message = [Kind::Cards.domain(), &self.bits.to_be_bytes(), &self.bytes].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), &message);
        let mut hash = [0; HASH_LENGTH];
        hash.copy_from_slice(&tag.as_ref()[..HASH_LENGTH]);
        hash
    }
}

impl Card {
    /// The entry for a card.
    #[must_use]
    pub fn new(
        salt: &[u8; 32],
        number: &CardNumber,
        member: MemberHandle,
        until: u64,
        entitlements: Entitlements,
    ) -> Self {
        Self { hash: number.hash(salt), member, until, entitlements }
    }
}

impl CardList {
    /// Reads a card list and checks everything about it but its version.
    ///
    /// # Errors
    /// As for a deny list.
    pub fn parse(
        bytes: &[u8],
        store_group: u32,
        issuers: &Issuers,
        root: Option<&[u8; 32]>,
    ) -> Result<Self, Refusal> {
        let kind = Kind::Cards;
        let frame = Frame::parse(kind, bytes)?;
        let count = count(&frame, ENTRY_LENGTH, CARDS_MAX)?;
        verify(&frame, store_group, issuers, root)?;
        let content = |what| Refusal::Content { kind, what };
        let mut cards: Vec<Card> = Vec::with_capacity(count);
        for entry in frame.entries.chunks_exact(ENTRY_LENGTH) {
            let mut hash = [0; HASH_LENGTH];
            hash.copy_from_slice(&entry[..HASH_LENGTH]);
            if cards.last().is_some_and(|last| last.hash >= hash) {
                return Err(content("cards are not in ascending order"));
            }
            let entitlements =
                Entitlements::parse(entry[28]).ok_or(content("a card admits a party of nobody"))?;
            let member = MemberHandle(number(&entry[16..24]));
            cards.push(Card { hash, member, until: number(&entry[24..28]), entitlements });
        }
        Ok(Self { version: frame.version, made_at: frame.made_at, cards })
    }

    /// The card of this number.
    #[must_use]
    pub fn find(&self, salt: &[u8; 32], number: &CardNumber) -> Option<&Card> {
        let hash = number.hash(salt);
        let place = self.cards.binary_search_by_key(&hash, |card| card.hash).ok()?;
        Some(&self.cards[place])
    }

    /// All cards, by hash.
    #[must_use]
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }
}

/// The entries of a list, sorted, the last one of each number.
pub(super) fn encode_entries(bytes: &mut Vec<u8>, cards: &[Card]) {
    let sorted: std::collections::BTreeMap<_, _> = cards.iter().map(|card| (card.hash, card)).collect();
    for (hash, card) in sorted {
        bytes.extend(hash);
        bytes.extend(card.member.0.to_be_bytes());
        bytes.extend(u32::try_from(card.until).unwrap_or(u32::MAX).to_be_bytes());
        bytes.push(card.entitlements.byte());
    }
}
