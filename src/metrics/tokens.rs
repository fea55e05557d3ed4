//! How many tokens something has of which nobody has counted them yet: pure.

/// How many bytes of a text or a JSON body make a token, about: English has four letters a token, and what JSON adds to them
/// makes up for languages that have fewer.
const BYTES_PER_TOKEN: u64 = 4;

/// How many tokens an answer is taken to have before any came.
const FIRST_GUESS: f64 = 256.0;

/// Of how many the usual one is an average, about.
const AVERAGED: f64 = 16.0;

/// The tokens of a text or a JSON body of so many bytes, about.
pub(crate) fn of_text(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// How many tokens answers usually have: an average in which the last ones weigh most.
#[derive(Debug)]
pub(crate) struct Usual(f64);

impl Usual {
    /// A guess.
    pub(crate) fn new() -> Self {
        Self(FIRST_GUESS)
    }

    /// What so many answers will have.
    pub(crate) fn tokens(&self, answers: u32) -> u64 {
        (f64::from(answers) * self.0) as u64
    }

    /// An answer had so many; none are no answer.
    pub(crate) fn note(&mut self, tokens: u64) {
        if tokens > 0 {
            self.0 += (tokens as f64 - self.0) / AVERAGED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_length_comes_near_what_answers_have() {
        let mut usual = Usual::new();
        assert_eq!((usual.tokens(0), usual.tokens(2)), (0, 512));
        usual.note(0);
        assert_eq!(usual.tokens(1), 256);
        (0..200).for_each(|_| usual.note(10));
        assert_eq!(usual.tokens(1), 10);
        assert_eq!((of_text(0), of_text(1), of_text(8)), (0, 1, 2));
    }
}
