//! The on-screen keyboard: its keys, and how typed Hangul letters become syllables.

/// Which letters the keyboard shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPage {
    /// ㄱ to ㅣ in dictionary order.
    Hangul,
    /// A to Z.
    Latin,
    /// Digits and signs.
    Digits,
}

/// Deletes the letter before.
pub const DELETE: char = '⌫';

impl KeyPage {
    /// Keys in reading order, eight a row. The last deletes.
    #[must_use]
    pub fn keys(self) -> &'static str {
        match self {
            Self::Hangul => "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎㅏㅐㅑㅓㅔㅕㅗㅛㅜㅠㅡㅣ⌫",
            Self::Latin => "ABCDEFGHIJKLMNOPQRSTUVWXYZ-.'&%⌫",
            Self::Digits => "1234567890.,-+%⌫",
        }
    }
}

/// Whether a key is a Hangul vowel; they are tinted, so that the two kinds are told apart at a glance.
#[must_use]
pub fn is_vowel(key: char) -> bool {
    VOWELS.contains(&key)
}

const INITIALS: [char; 19] = [
    'ㄱ', 'ㄲ', 'ㄴ', 'ㄷ', 'ㄸ', 'ㄹ', 'ㅁ', 'ㅂ', 'ㅃ', 'ㅅ', 'ㅆ', 'ㅇ', 'ㅈ', 'ㅉ', 'ㅊ', 'ㅋ', 'ㅌ',
    'ㅍ', 'ㅎ',
];
const VOWELS: [char; 21] = [
    'ㅏ', 'ㅐ', 'ㅑ', 'ㅒ', 'ㅓ', 'ㅔ', 'ㅕ', 'ㅖ', 'ㅗ', 'ㅘ', 'ㅙ', 'ㅚ', 'ㅛ', 'ㅜ', 'ㅝ', 'ㅞ', 'ㅟ',
    'ㅠ', 'ㅡ', 'ㅢ', 'ㅣ',
];
const FINALS: [char; 27] = [
    'ㄱ', 'ㄲ', 'ㄳ', 'ㄴ', 'ㄵ', 'ㄶ', 'ㄷ', 'ㄹ', 'ㄺ', 'ㄻ', 'ㄼ', 'ㄽ', 'ㄾ', 'ㄿ', 'ㅀ', 'ㅁ', 'ㅂ',
    'ㅄ', 'ㅅ', 'ㅆ', 'ㅇ', 'ㅈ', 'ㅊ', 'ㅋ', 'ㅌ', 'ㅍ', 'ㅎ',
];
/// Two letters that join into one.
const JOINED: [(char, char, char); 22] = [
    ('ㅗ', 'ㅏ', 'ㅘ'),
    ('ㅗ', 'ㅐ', 'ㅙ'),
    ('ㅗ', 'ㅣ', 'ㅚ'),
    ('ㅜ', 'ㅓ', 'ㅝ'),
    ('ㅜ', 'ㅔ', 'ㅞ'),
    ('ㅜ', 'ㅣ', 'ㅟ'),
    ('ㅡ', 'ㅣ', 'ㅢ'),
    ('ㅏ', 'ㅣ', 'ㅐ'),
    ('ㅑ', 'ㅣ', 'ㅒ'),
    ('ㅓ', 'ㅣ', 'ㅔ'),
    ('ㅕ', 'ㅣ', 'ㅖ'),
    ('ㄱ', 'ㅅ', 'ㄳ'),
    ('ㄴ', 'ㅈ', 'ㄵ'),
    ('ㄴ', 'ㅎ', 'ㄶ'),
    ('ㄹ', 'ㄱ', 'ㄺ'),
    ('ㄹ', 'ㅁ', 'ㄻ'),
    ('ㄹ', 'ㅂ', 'ㄼ'),
    ('ㄹ', 'ㅅ', 'ㄽ'),
    ('ㄹ', 'ㅌ', 'ㄾ'),
    ('ㄹ', 'ㅍ', 'ㄿ'),
    ('ㄹ', 'ㅎ', 'ㅀ'),
    ('ㅂ', 'ㅅ', 'ㅄ'),
];

fn join(first: char, second: char) -> Option<char> {
    JOINED.iter().find(|(a, b, _)| (*a, *b) == (first, second)).map(|(_, _, joined)| *joined)
}

fn part(joined: char) -> Option<(char, char)> {
    JOINED.iter().find(|(_, _, whole)| *whole == joined).map(|(a, b, _)| (*a, *b))
}

/// The syllable being built.
#[derive(Clone, Copy, Default)]
struct Building {
    initial: Option<char>,
    vowel: Option<char>,
    last: Option<char>,
}

impl Building {
    fn finish(&mut self, out: &mut String) {
        let index = |letters: &[char], letter: char| letters.iter().position(|other| *other == letter);
        let initial = self.initial.and_then(|letter| index(&INITIALS, letter));
        let vowel = self.vowel.and_then(|letter| index(&VOWELS, letter));
        let last = self.last.and_then(|letter| index(&FINALS, letter));
        match (initial, vowel) {
            (Some(initial), Some(vowel)) => {
                let code = 0xAC00 + (initial * 21 + vowel) * 28 + last.map_or(0, |last| last + 1);
                out.extend(u32::try_from(code).ok().and_then(char::from_u32));
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => out.extend(self.initial.or(self.vowel)),
        }
        *self = Self::default();
    }

    fn consonant(&mut self, letter: char, out: &mut String) {
        match (self.initial, self.vowel, self.last) {
            (Some(_), Some(_), None) if FINALS.contains(&letter) => self.last = Some(letter),
            (Some(_), Some(_), Some(last)) if join(last, letter).is_some() => self.last = join(last, letter),
            (_, _, _) => {
                self.finish(out);
                self.initial = Some(letter);
            }
        }
    }

    fn vowel(&mut self, letter: char, out: &mut String) {
        match (self.vowel, self.last) {
            (None, _) => self.vowel = Some(letter),
            (Some(vowel), None) => match join(vowel, letter) {
                Some(joined) => self.vowel = Some(joined),
                None => {
                    self.finish(out);
                    self.vowel = Some(letter);
                }
            },
            // The last consonant, or the second of two, begins the next syllable.
            (Some(_), Some(last)) => {
                let (stays, moves) = part(last).map_or((None, last), |(a, b)| (Some(a), b));
                self.last = stays;
                self.finish(out);
                self.initial = Some(moves);
                self.vowel = Some(letter);
            }
        }
    }
}

/// The text that typed letters make: Hangul letters join into syllables, others stand as they are.
#[must_use]
pub fn compose(typed: &[char]) -> String {
    let mut out = String::new();
    let mut building = Building::default();
    for letter in typed {
        if INITIALS.contains(letter) {
            building.consonant(*letter, &mut out);
        } else if VOWELS.contains(letter) {
            building.vowel(*letter, &mut out);
        } else {
            building.finish(&mut out);
            out.push(*letter);
        }
    }
    building.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_syllables() {
        let table = [
            ("", ""),
            ("ㄱ", "ㄱ"),
            ("ㅏ", "ㅏ"),
            ("ㅂㅏ", "바"),
            ("ㅂㅏㄴ", "반"),
            ("ㅂㅏㄴㅏㄴㅏ", "바나나"),
            ("ㅅㅓㅇㅜㄹㅇㅜㅇㅠ", "서울우유"),
            ("ㄷㅏㄹㄱ", "닭"),
            ("ㄷㅏㄹㄱㅏㄹㅂㅣ", "달갈비"),
            ("ㄱㅏㅂㅅ", "값"),
            ("ㄱㅏㅂㅅㅣ", "갑시"),
            ("ㅇㅗㅏ", "와"),
            ("ㅇㅜㅓㄴ", "원"),
            ("ㅇㅡㅣ", "의"),
            ("ㅇㅑㅣ", "얘"),
            ("ㄸㅓㄱㅂㅗㄲㅇㅣ", "떡볶이"),
            ("ㅂㅃㅏ", "ㅂ빠"),
            ("ㅅㄹㅁ", "ㅅㄹㅁ"),
            ("ㅏㅏ", "ㅏㅏ"),
            ("ㄱㅏㄸㅏ", "가따"),
            ("ㄱㅏ1ㄴ", "가1ㄴ"),
            ("A ㅂㅣ", "A 비"),
        ];
        for (typed, expected) in table {
            let typed: Vec<char> = typed.chars().collect();
            assert_eq!(compose(&typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn every_syllable_can_be_typed() {
        let keys: Vec<char> = KeyPage::Hangul.keys().chars().collect();
        for code in 0xAC00..=0xD7A3_u32 {
            let syllable = char::from_u32(code).unwrap();
            let index = (code - 0xAC00) as usize;
            let mut typed = Vec::new();
            let last = (index % 28).checked_sub(1).map(|last| FINALS[last]);
            let letters = [Some(INITIALS[index / 588]), Some(VOWELS[index / 28 % 21]), last];
            for letter in letters.into_iter().flatten() {
                // A letter without a key of its own is typed as its parts, which may have parts again.
                match part(letter) {
                    Some((a, b)) if !keys.contains(&letter) => typed.extend([a, b]),
                    Some(_) | None => typed.push(letter),
                }
            }
            assert!(typed.iter().all(|letter| keys.contains(letter)), "{syllable}");
            assert_eq!(compose(&typed), syllable.to_string());
        }
    }
}
