//! Values out of JSON text, each with the place where it stands, so that a wrong one is named as its sender wrote it.
//!
//! A layer over `wire::json`'s scanner: strings are borrowed, nothing is built that is not asked for, and a member that is
//! `null` is as if it were not there. Of a key that stands twice the last counts, as readers of JSON have it.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Code, Error};
use crate::wire::json::{Scanner, Syntax};

/// Where a value stands. Written out only where something is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'p> {
    Top,
    Member(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outer, dot) = match self {
            Self::Top => return Ok(()),
            Self::Member(outer, _) | Self::Item(outer, _) => (outer, if matches!(outer, Self::Top) { "" } else { "." }),
        };
        match self {
            Self::Member(_, name) => write!(f, "{outer}{dot}{name}"),
            Self::Item(_, index) => write!(f, "{outer}{dot}{index}"),
            Self::Top => Ok(()),
        }
    }
}

impl Place<'_> {
    pub(super) fn fault(&self, what: impl Into<Cow<'static, str>>) -> Fault {
        Fault { at: self.to_string(), what: what.into() }
    }
}

/// What is wrong, and where. Whose fault it is depends on who sent the text.
#[derive(Debug)]
pub(super) struct Fault {
    /// Empty for the text as a whole.
    at: String,
    what: Cow<'static, str>,
}

impl Fault {
    /// A client sent it.
    pub(super) fn in_request(self) -> Error {
        if self.at.is_empty() {
            return Error::new(Code::InvalidRequest, format!("the body {}", self.what));
        }
        let text = format!("'{}' {}", self.at, self.what);
        Error::invalid(self.at, text)
    }

    /// A provider sent it.
    pub(super) fn in_answer(self) -> Error {
        let at = if self.at.is_empty() { String::new() } else { format!(": '{}'", self.at) };
        Error::new(Code::UpstreamBadResponse, format!("the provider's answer{at} {}", self.what))
    }
}

impl From<Syntax> for Fault {
    fn from(syntax: Syntax) -> Self {
        Self { at: String::new(), what: format!("is not valid JSON: {syntax}").into() }
    }
}

/// A position in a text.
#[derive(Debug)]
pub(super) struct Pull<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
}

impl<'a> Pull<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body)
            .map_err(|error| Place::Top.fault(format!("is not UTF-8: byte {}", error.valid_up_to())))?;
        Ok(Self { text, scanner: Scanner::new(body) })
    }

    /// The first byte of the value that comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.scanner.peek()
    }

    /// Nothing but space may be left.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        Ok(self.scanner.end()?)
    }

    /// The text of the value that comes next, whatever it is.
    pub(super) fn raw(&mut self) -> Result<&'a str, Fault> {
        let range = self.scanner.skip()?;
        Ok(&self.text[range])
    }

    /// The text of an object.
    pub(super) fn raw_object(&mut self, at: &Place<'_>) -> Result<&'a str, Fault> {
        if self.peek() == Some(b'{') { self.raw() } else { Err(at.fault("must be an object")) }
    }

    pub(super) fn string(&mut self, at: &Place<'_>) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(at.fault("must be a string"));
        }
        self.scanner.text()?.decode().ok_or_else(|| at.fault("has half a surrogate pair"))
    }

    /// A string of a model's words, half a surrogate pair in it replaced: servers that cut a stream between the two halves of
    /// a character send such.
    pub(super) fn words(&mut self, at: &Place<'_>) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(at.fault("must be a string"));
        }
        Ok(self.scanner.text()?.decode_lossy())
    }

    pub(super) fn truth(&mut self, at: &Place<'_>) -> Result<bool, Fault> {
        match self.raw()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(at.fault("must be true or false")),
        }
    }

    pub(super) fn whole(&mut self, at: &Place<'_>) -> Result<u64, Fault> {
        self.raw()?.parse().map_err(|_| at.fault("must be a whole number from 0 on"))
    }

    pub(super) fn number(&mut self, at: &Place<'_>) -> Result<f64, Fault> {
        let number: Option<f64> = self.raw()?.parse().ok();
        // JSON has numbers that no float is; what is written for them would be `null`.
        number.filter(|number| number.is_finite()).ok_or_else(|| at.fault("must be a number"))
    }

    /// Calls `member` for each member that is not null; it must take the value.
    pub(super) fn object(
        &mut self,
        at: &Place<'_>,
        mut member: impl FnMut(&mut Self, &str, &Place<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.peek() != Some(b'{') {
            return Err(at.fault("must be an object"));
        }
        self.scanner.enter_object()?;
        let mut first = true;
        while let Some(key) = self.scanner.next_key(&mut first)? {
            if self.scanner.peek() == Some(b'n') {
                self.scanner.skip()?;
                continue;
            }
            let name = key.text.decode().ok_or_else(|| at.fault("has a key with half a surrogate pair"))?;
            member(self, &name, &Place::Member(at, &name))?;
        }
        Ok(())
    }

    /// Calls `item` for each element; it must take the value.
    pub(super) fn array(
        &mut self,
        at: &Place<'_>,
        mut item: impl FnMut(&mut Self, &Place<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.peek() != Some(b'[') {
            return Err(at.fault("must be an array"));
        }
        self.scanner.enter_array()?;
        let (mut first, mut index) = (true, 0);
        while self.scanner.next_element(&mut first)? {
            item(self, &Place::Item(at, index))?;
            index += 1;
        }
        Ok(())
    }
}
