//! A JSON text read once, from front to back, with the name of the place where the reader stands.
//!
//! What the shapes of Bedrock have is borrowed from the text. A member that the reader does not know is kept by its name, so
//! that whoever writes the chat in another shape can refuse it; of what a provider says, it is passed over.

use std::borrow::Cow;

use crate::error::{Code, Error};
use crate::model::chat::Rest;
use crate::wire::json::{Scanner, Syntax};
use crate::wire::pull::MOST_MEMBERS;

/// What is wrong with a text, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    place: String,
    what: String,
}

impl Wrong {
    /// The text is a client's.
    pub(super) fn of_request(self) -> Error {
        match self.place.is_empty() {
            true => Error::new(Code::InvalidRequest, format!("the body is not valid: {}", self.what)),
            false => {
                let text = format!("{:?} is not valid: {}", self.place, self.what);
                Error::invalid(self.place, text)
            }
        }
    }

    /// The text is a provider's.
    pub(super) fn of_reply(self) -> Error {
        let place = if self.place.is_empty() { String::new() } else { format!(" at {:?}", self.place) };
        Error::new(Code::UpstreamBadResponse, format!("the provider's answer cannot be read{place}: {}", self.what))
    }
}

/// A step towards a place in the text.
#[derive(Debug)]
enum Step<'a> {
    Member(Cow<'a, str>),
    Element(usize),
}

/// A position in a text.
#[derive(Debug)]
pub(super) struct Input<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    place: Vec<Step<'a>>,
    /// What was not known, if that is kept.
    rest: Option<Vec<Rest<'a>>>,
}

impl<'a> Input<'a> {
    /// The beginning of a client's text, of which nothing is passed over.
    pub(super) fn strict(text: &'a [u8]) -> Result<Self, Wrong> {
        Ok(Self { rest: Some(Vec::new()), ..Self::lenient(text)? })
    }

    /// The beginning of a provider's.
    pub(super) fn lenient(text: &'a [u8]) -> Result<Self, Wrong> {
        let text = std::str::from_utf8(text).map_err(|error| Wrong {
            place: String::new(),
            what: format!("it is no UTF-8 at byte {}", error.valid_up_to()),
        })?;
        Ok(Self { text, scanner: Scanner::new(text.as_bytes()), place: Vec::new(), rest: None })
    }

    /// Reads the object that comes next: `member` reads the value of each member, or returns `false` without having touched
    /// it if it does not know the name. A member that is `null` is as if it were not there. In a client's none stands twice.
    pub(super) fn object(&mut self, member: impl FnMut(&mut Self, &str) -> Result<bool, Wrong>) -> Result<(), Wrong> {
        self.members(MOST_MEMBERS, member)
    }

    /// Reads an object that is one of several things, and says which by its one member: of a client's that has two, one would be
    /// lost.
    pub(super) fn union(&mut self, member: impl FnMut(&mut Self, &str) -> Result<bool, Wrong>) -> Result<(), Wrong> {
        self.members(1, member)
    }

    fn members(
        &mut self,
        most: usize,
        mut member: impl FnMut(&mut Self, &str) -> Result<bool, Wrong>,
    ) -> Result<(), Wrong> {
        self.scanner.enter_object().or_else(|syntax| self.fail(syntax))?;
        let (mut first, mut known) = (true, Vec::new());
        while let Some(key) = self.scanner.next_key(&mut first).or_else(|syntax| self.fail(syntax))? {
            if self.scanner.peek() == Some(b'n') {
                self.raw()?;
                continue;
            }
            let Some(name) = key.text.decode() else { return self.wrong("a name is no text") };
            if self.rest.is_some() && known.len() == most {
                return self.wrong(&format!("it has more members than {most}"));
            }
            self.place.push(Step::Member(name.clone()));
            if self.rest.is_some() {
                if known.contains(&name) {
                    return self.wrong("it stands twice");
                }
                known.push(name.clone());
            }
            if !member(self, &name)? {
                self.unknown(false)?;
            }
            self.place.pop();
        }
        Ok(())
    }

    /// Reads what comes next as an object if it is one, and passes over it if it is anything else.
    pub(super) fn object_or_other(
        &mut self,
        member: impl FnMut(&mut Self, &str) -> Result<bool, Wrong>,
    ) -> Result<(), Wrong> {
        match self.scanner.peek() {
            Some(b'{') => self.object(member),
            _ => self.raw().map(drop),
        }
    }

    /// Reads the array that comes next, an element at a time.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Wrong>) -> Result<(), Wrong> {
        self.scanner.enter_array().or_else(|syntax| self.fail(syntax))?;
        let (mut first, mut nth) = (true, 0);
        while self.scanner.next_element(&mut first).or_else(|syntax| self.fail(syntax))? {
            self.place.push(Step::Element(nth));
            element(self)?;
            self.place.pop();
            nth += 1;
        }
        Ok(())
    }

    /// Reads the text that comes next.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Wrong> {
        let text = self.scanner.text().or_else(|syntax| self.fail(syntax))?;
        text.decode().map_or_else(|| self.wrong("it is no text"), Ok)
    }

    /// Reads whatever comes next, as it stands there.
    pub(super) fn raw(&mut self) -> Result<&'a str, Wrong> {
        let place = self.scanner.skip().or_else(|syntax| self.fail(syntax))?;
        Ok(&self.text[place])
    }

    /// Reads a number, or `true` and `false`.
    pub(super) fn value<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, Wrong> {
        let text = self.raw()?;
        text.parse().or_else(|_| self.wrong(&format!("{what} is expected")))
    }

    /// Reads whatever comes next, as it stands there, or the text that it is.
    pub(super) fn raw_or_text(&mut self) -> Result<Cow<'a, str>, Wrong> {
        if self.scanner.peek() == Some(b'"') { self.string() } else { self.raw().map(Cow::Borrowed) }
    }

    /// Whether the text is a client's.
    pub(super) fn is_strict(&self) -> bool {
        self.rest.is_some()
    }

    /// Passes over what comes next. `hint`: the answer is as good without it. Hints are kept by names without numbers: each block
    /// of each message may have the same.
    pub(super) fn unknown(&mut self, hint: bool) -> Result<(), Wrong> {
        let value = self.raw()?;
        if self.rest.is_some() {
            let name = Cow::Owned(if hint { self.named_without_numbers() } else { self.named() });
            Rest::keep(self.rest.get_or_insert_default(), name, value, hint);
        }
        Ok(())
    }

    /// Checks that nothing is left, and gives what was not known.
    pub(super) fn end(mut self) -> Result<Vec<Rest<'a>>, Wrong> {
        self.scanner.end().or_else(|syntax| self.fail(syntax))?;
        Ok(self.rest.unwrap_or_default())
    }

    /// Says what is wrong with what stands here.
    pub(super) fn wrong<T>(&self, what: &str) -> Result<T, Wrong> {
        Err(Wrong { place: self.named(), what: what.to_owned() })
    }

    /// Says that a member of the object that was read here is not there.
    pub(super) fn missing<T>(&self, name: &str) -> Result<T, Wrong> {
        let place = self.named();
        let place = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
        Err(Wrong { place, what: "it is missing".to_owned() })
    }

    fn fail<T>(&self, syntax: Syntax) -> Result<T, Wrong> {
        self.wrong(&syntax.to_string())
    }

    /// The place as errors name it: `messages.2.content.0.text`.
    fn named(&self) -> String {
        let steps = self.place.iter().map(|step| match step {
            Step::Member(name) => name.clone(),
            Step::Element(nth) => Cow::Owned(nth.to_string()),
        });
        steps.collect::<Vec<_>>().join(".")
    }

    fn named_without_numbers(&self) -> String {
        let steps = self.place.iter().filter_map(|step| match step {
            Step::Member(name) => Some(&**name),
            Step::Element(_) => None,
        });
        steps.collect::<Vec<_>>().join(".")
    }
}

/// Whether a text is a JSON object and nothing besides.
pub(super) fn is_object(text: &str) -> bool {
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.peek() == Some(b'{') && is_json_at(&mut scanner)
}

/// Whether a text is a JSON value and nothing besides.
pub(super) fn is_json(text: &str) -> bool {
    is_json_at(&mut Scanner::new(text.as_bytes()))
}

fn is_json_at(scanner: &mut Scanner<'_>) -> bool {
    scanner.skip().and_then(|_| scanner.end()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let read = |text: &'static str| {
            let mut input = Input::strict(text.as_bytes()).expect("UTF-8");
            let read = input.object(|input, key| match key {
                "a" => input.array(|input| input.value::<u64>("a whole number").map(drop)).map(|()| true),
                _ => Ok(false),
            });
            read.and_then(|()| input.end()).map_err(Wrong::of_request)
        };
        assert_eq!(read(r#"{"a":[1,2],"b":null}"#).expect("good"), []);
        let rest = read(r#"{"b":{"c":[ 1 ]},"a":[]}"#).expect("good");
        assert_eq!(rest, [Rest { name: "b".into(), value: r#"{"c":[ 1 ]}"#.into(), hint: false }]);
        for (text, place) in [
            (r#"{"a":[],"\u0061":[]}"#, Some("a")),
            (r#"{"a":[1,"x"]}"#, Some("a.1")),
            (r#"{"a":5}"#, Some("a")),
            (r#"{"a":[1}"#, Some("a")),
            ("[]", None),
            (r#"{"a":[]} x"#, None),
        ] {
            let error = read(text).expect_err("bad");
            assert_eq!((error.code(), error.param()), (Code::InvalidRequest, place), "{text}");
        }
        let error = Input::lenient(b"\xff").expect_err("no UTF-8").of_reply();
        assert_eq!(error.code(), Code::UpstreamBadResponse);
    }

    #[test]
    fn an_object_is_told_from_other_json_and_from_none() {
        for text in ["{}", " {\"a\":1}\n"] {
            assert!(is_object(text) && is_json(text), "{text}");
        }
        for text in ["[]", "1", "\"{}\""] {
            assert!(!is_object(text) && is_json(text), "{text}");
        }
        for text in ["", "{", "{}x", "nul"] {
            assert!(!is_object(text) && !is_json(text), "{text}");
        }
    }
}
