//! A peer of the network for tests: answers from a script.

use std::collections::VecDeque;

use crate::{Detect, Detection, Error, check_picture};

/// Answers each picture with the next entry of its script, then with nobody.
#[derive(Debug, Default)]
pub struct Scripted {
    answers: VecDeque<Result<Vec<Detection>, Error>>,
}

impl Scripted {
    /// A script: one answer a picture, in order.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = Result<Vec<Detection>, Error>>) -> Self {
        Self { answers: answers.into_iter().collect() }
    }
}

impl Detect for Scripted {
    /// The next answer; refuses pictures that the network would refuse, without using up an answer.
    fn detect(&mut self, width: u32, height: u32, rgb: &[u8]) -> Result<Vec<Detection>, Error> {
        check_picture(width, height, rgb)?;
        self.answers.pop_front().unwrap_or_else(|| Ok(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_order_then_nobody() {
        let someone = Detection { head: [1.0, 2.0], foot: [1.0, 9.0], score: 0.9, hands: Vec::new() };
        let mut scripted =
            Scripted::new([Ok(vec![someone.clone()]), Err(Error::Picture { width: 1, height: 1, bytes: 0 })]);
        assert!(scripted.detect(2, 1, &[0; 5]).is_err(), "a short picture is refused");
        assert_eq!(scripted.detect(2, 1, &[0; 6]).expect("first answer"), vec![someone]);
        assert!(scripted.detect(2, 1, &[0; 6]).is_err(), "the scripted failure");
        assert!(scripted.detect(2, 1, &[0; 6]).expect("after the script").is_empty());
    }
}
