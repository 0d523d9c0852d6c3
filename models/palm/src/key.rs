//! The keyed transform of templates: a secret order of the points and a secret pad on their bits.

use ring::hmac;
use zeroize::{Zeroize, Zeroizing};

use crate::code::{Template, WORDS};
use crate::region::POINTS;

const POINT_COUNT: usize = POINTS * POINTS;

/// The secret of one deployment. Templates transformed with different keys cannot be compared, so a new key
/// makes all old templates worthless and two store groups cannot be linked. Who has the key can undo the
/// transform: at rest, templates are encrypted as well.
pub struct Key {
    /// Where each point goes.
    order: Zeroizing<Vec<u16>>,
    pads: [[u64; WORDS]; 3],
    pub(crate) sealing: Zeroizing<[u8; 32]>,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.pads.zeroize();
    }
}

/// A template after the transform; comparable only with others of the same key.
pub(crate) struct Protected(pub(crate) Template);

impl Key {
    /// The key grown from 32 secret random bytes, as a sealed key store gives them.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let mut stream = Stream::new(secret, b"stile palm order v1");
        let mut order = Zeroizing::new((0..POINT_COUNT as u16).collect::<Vec<_>>());
        for last in (1..POINT_COUNT).rev() {
            let other = stream.below(last as u32 + 1);
            order.swap(last, other as usize);
        }
        let mut stream = Stream::new(secret, b"stile palm pad v1");
        let pads = std::array::from_fn(|_| std::array::from_fn(|_| u64::from_le_bytes(stream.bytes())));
        let sealing = Zeroizing::new(Stream::new(secret, b"stile palm sealing v1").bytes());
        Self { order, pads, sealing }
    }

    /// Transforms `template`. Distances between templates of one key stay what they were.
    pub(crate) fn protect(&self, template: &Template) -> Protected {
        let mut out = Template { planes: self.pads, mask: [0; WORDS] };
        for (from, to) in self.order.iter().map(|to| usize::from(*to)).enumerate() {
            let bit = |plane: &[u64; WORDS]| (plane[from / 64] >> (from % 64) & 1) << (to % 64);
            for (out, plane) in out.planes.iter_mut().zip(&template.planes) {
                out[to / 64] ^= bit(plane);
            }
            out.mask[to / 64] |= bit(&template.mask);
        }
        Protected(out)
    }
}

/// Bytes from HMAC-SHA-256 of a label and a counter under the secret.
struct Stream {
    key: hmac::Key,
    label: &'static [u8],
    counter: u64,
    block: Zeroizing<[u8; 32]>,
    used: usize,
}

impl Stream {
    fn new(secret: &[u8; 32], label: &'static [u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { key, label, counter: 0, block: Zeroizing::new([0; 32]), used: 32 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let mut context = hmac::Context::with_key(&self.key);
            context.update(self.label);
            context.update(&self.counter.to_be_bytes());
            self.block.copy_from_slice(context.sign().as_ref());
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// A number below `limit`, each equally likely.
    fn below(&mut self, limit: u32) -> u32 {
        let fair = u32::MAX - u32::MAX % limit;
        loop {
            let value = u32::from_le_bytes(self.bytes());
            if value < fair {
                return value % limit;
            }
        }
    }
}
