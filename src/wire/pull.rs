//! JSON read member by member: what is borrowed stays borrowed, and what is wrong is named by its place.
//!
//! What a shape's reader needs on top of the scanner. The objects of a shape are small and know their members' names, so
//! they are gathered ([`Members`]) and asked for them, and what nobody asked for is there to be told at the end. Members that
//! are null are as if they were not there. Long lists are walked in place.

use std::borrow::Cow;
use std::fmt;

use super::json::{Scanner, Syntax, Text};
use crate::error::{Code, Error};

/// The most members of an object that is gathered: many times what any shape has, and a bound on the work of asking.
pub(crate) const MOST_MEMBERS: usize = 64;

/// What is wrong with a text.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It is no JSON.
    Syntax(Syntax),
    /// A value is not what its place is for.
    Field {
        /// The place, as in `messages.2.role`.
        path: String,
        /// What is wrong with it, as in `must be a string`.
        what: &'static str,
    },
}

impl From<Syntax> for Wrong {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

impl Wrong {
    /// The same as the refusal of a client's body.
    pub(crate) fn refused(self) -> Error {
        match self {
            Self::Syntax(syntax) => not_json(syntax),
            Self::Field { path, what } if path.is_empty() => {
                Error::new(Code::InvalidRequest, format!("the body {what}"))
            }
            Self::Field { path, what } => {
                let text = format!("'{path}' {what}");
                Error::invalid(path, text)
            }
        }
    }

    /// The same as the judgement of a provider's answer.
    pub(crate) fn unreadable(self) -> Error {
        let what = match self {
            Self::Syntax(syntax) => format!("it is no JSON object: {syntax}"),
            Self::Field { path, what } => format!("'{path}' {what}"),
        };
        Error::new(Code::UpstreamBadResponse, format!("the provider's answer cannot be read: {what}"))
    }
}

/// A client's body as text.
///
/// # Errors
/// [`Code::InvalidRequest`] if it is no UTF-8.
pub(crate) fn text_of(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|error| {
        Error::new(Code::InvalidRequest, format!("the body is not UTF-8: byte {}", error.valid_up_to()))
    })
}

/// A provider's answer as text.
///
/// # Errors
/// [`Code::UpstreamBadResponse`] if it is no UTF-8.
pub(crate) fn answer_text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|error| {
        let text = format!("the provider's answer cannot be read: no UTF-8 at byte {}", error.valid_up_to());
        Error::new(Code::UpstreamBadResponse, text)
    })
}

/// The refusal of a client's body that is no JSON.
pub(crate) fn not_json(syntax: Syntax) -> Error {
    Error::new(Code::InvalidRequest, format!("the body is not valid JSON: {syntax}"))
}

/// Where a value stands: a chain on the stack, which becomes text only for an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'p> {
    up: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Whole,
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// The outermost object itself.
    pub(crate) const WHOLE: Self = Self { up: None, step: Step::Whole };

    /// A member of the outermost object.
    pub(crate) const fn top(key: &'p str) -> Self {
        Self { up: None, step: Step::Key(key) }
    }

    /// A member of what is here.
    pub(crate) const fn key(&'p self, key: &'p str) -> Self {
        Self { up: Some(self), step: Step::Key(key) }
    }

    /// An element of what is here.
    pub(crate) const fn index(&'p self, index: usize) -> Self {
        Self { up: Some(self), step: Step::Index(index) }
    }

    /// What is wrong here.
    pub(crate) fn wrong(&self, what: &'static str) -> Wrong {
        Wrong::Field { path: self.to_string(), what }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up.filter(|up| !matches!(up.step, Step::Whole)) {
            write!(f, "{up}.")?;
        }
        match self.step {
            Step::Whole => Ok(()),
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// A value that was passed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    raw: &'a str,
    text: Option<Text<'a>>,
}

impl<'a> Value<'a> {
    /// Its JSON text.
    pub(crate) fn raw(&self) -> &'a str {
        self.raw
    }

    pub(crate) fn is_null(&self) -> bool {
        self.raw == "null"
    }

    /// It as a string.
    pub(crate) fn string(&self, path: &Path<'_>) -> Result<Cow<'a, str>, Wrong> {
        let text = self.text.ok_or_else(|| path.wrong("must be a string"))?;
        text.decode().ok_or_else(|| path.wrong("has half a surrogate pair"))
    }

    /// The text of an object, or the text that it is.
    pub(crate) fn object_or_text(&self, path: &Path<'_>) -> Result<Cow<'a, str>, Wrong> {
        if self.text.is_some() { self.string(path) } else { self.object(path).map(Cow::Borrowed) }
    }

    pub(crate) fn boolean(&self, path: &Path<'_>) -> Result<bool, Wrong> {
        match self.raw {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(path.wrong("must be true or false")),
        }
    }

    /// It as a whole number that is not negative.
    pub(crate) fn whole(&self, path: &Path<'_>) -> Result<u64, Wrong> {
        self.raw.parse().map_err(|_| path.wrong("must be a whole number"))
    }

    pub(crate) fn number(&self, path: &Path<'_>) -> Result<f64, Wrong> {
        let number = self.raw.parse::<f64>().ok().filter(|number| number.is_finite() && self.text.is_none());
        number.ok_or_else(|| path.wrong("must be a number"))
    }

    /// The text of an object.
    pub(crate) fn object(&self, path: &Path<'_>) -> Result<&'a str, Wrong> {
        if self.raw.starts_with('{') { Ok(self.raw) } else { Err(path.wrong("must be an object")) }
    }

    /// The members of an object.
    pub(crate) fn members(&self, path: &Path<'_>) -> Result<Members<'a>, Wrong> {
        Pull::new(self.raw).members(path)
    }

    /// Each element of an array.
    pub(crate) fn elements<E: From<Wrong>>(
        &self,
        path: &Path<'_>,
        each: impl FnMut(&mut Pull<'a>, &Path<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        Pull::new(self.raw).elements(path, each)
    }
}

/// A position in a text that is UTF-8.
#[derive(Debug)]
pub(crate) struct Pull<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
}

impl<'a> Pull<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, scanner: Scanner::new(text.as_bytes()) }
    }

    /// The first byte of what comes next, spaces left out.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.scanner.peek()
    }

    /// Reads the value that comes next.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Wrong> {
        if self.scanner.peek() == Some(b'"') {
            let start = self.scanner.at();
            let text = self.scanner.text()?;
            return Ok(Value { raw: &self.text[start..self.scanner.at()], text: Some(text) });
        }
        let place = self.scanner.skip()?;
        Ok(Value { raw: &self.text[place], text: None })
    }

    /// Walks the object that comes next: `each` is given the key and reads the value.
    pub(crate) fn object<E: From<Wrong>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, [u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let syntax = |syntax| E::from(Wrong::Syntax(syntax));
        self.scanner.enter_object().map_err(syntax)?;
        let mut first = true;
        while let Some(key) = self.scanner.next_key(&mut first).map_err(syntax)? {
            each(self, key.text.key())?;
        }
        Ok(())
    }

    /// Walks the array that comes next: `each` reads an element, and is told its place.
    pub(crate) fn elements<E: From<Wrong>>(
        &mut self,
        path: &Path<'_>,
        mut each: impl FnMut(&mut Self, &Path<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.scanner.peek() != Some(b'[') {
            return Err(path.wrong("must be an array").into());
        }
        let syntax = |syntax| E::from(Wrong::Syntax(syntax));
        self.scanner.enter_array().map_err(syntax)?;
        let (mut first, mut index) = (true, 0);
        while self.scanner.next_element(&mut first).map_err(syntax)? {
            each(self, &path.index(index))?;
            index += 1;
        }
        Ok(())
    }

    /// Walks the object that comes next as one whose members are known: none stands twice, and those that are null are passed
    /// over.
    pub(crate) fn fields<E: From<Wrong>>(
        &mut self,
        path: &Path<'_>,
        mut each: impl FnMut(&mut Self, &Cow<'a, [u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.scanner.peek() != Some(b'{') {
            return Err(path.wrong("must be an object").into());
        }
        let mut known: Vec<Cow<'a, [u8]>> = Vec::with_capacity(8);
        self.object(|pull, key| {
            if known.contains(&key) {
                return Err(path.key(&String::from_utf8_lossy(&key)).wrong("stands twice").into());
            }
            if known.len() == MOST_MEMBERS {
                return Err(path.wrong("has too many members").into());
            }
            match pull.peek() {
                Some(b'n') => drop(pull.value()?),
                _ => each(pull, &key)?,
            }
            known.push(key);
            Ok(())
        })
    }

    /// Gathers the members of the object that comes next, as [`fields`](Self::fields) does.
    pub(crate) fn members(&mut self, path: &Path<'_>) -> Result<Members<'a>, Wrong> {
        self.scanner.peek();
        let start = self.scanner.at();
        let mut list: Vec<(Cow<'a, [u8]>, Value<'a>)> = Vec::with_capacity(4);
        self.fields(path, |pull, key| {
            list.push((key.clone(), pull.value()?));
            Ok::<_, Wrong>(())
        })?;
        Ok(Members { raw: &self.text[start..self.scanner.at()], list })
    }

    /// Checks that nothing but space is left.
    pub(crate) fn end(&mut self) -> Result<(), Wrong> {
        Ok(self.scanner.end()?)
    }
}

/// The members of one object that nobody has asked for yet.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    raw: &'a str,
    list: Vec<(Cow<'a, [u8]>, Value<'a>)>,
}

impl<'a> Members<'a> {
    /// The object's text.
    pub(crate) fn raw(&self) -> &'a str {
        self.raw
    }

    /// Takes a member out; `None` if it is not there.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.list.iter().position(|(key, _)| **key == *name.as_bytes())?;
        Some(self.list.remove(at).1)
    }

    /// Takes a member out that must be there.
    pub(crate) fn need(&mut self, name: &str, path: &Path<'_>) -> Result<Value<'a>, Wrong> {
        self.take(name).ok_or_else(|| path.key(name).wrong("is missing"))
    }

    /// Takes a string out that must be there.
    pub(crate) fn string(&mut self, name: &str, path: &Path<'_>) -> Result<Cow<'a, str>, Wrong> {
        self.need(name, path)?.string(&path.key(name))
    }

    /// What is left, by name.
    pub(crate) fn rest(self) -> impl Iterator<Item = (String, Value<'a>)> {
        self.list.into_iter().map(|(key, value)| (String::from_utf8_lossy(&key).into_owned(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Result<Members<'_>, Wrong> {
        Pull::new(text).members(&Path::top("a"))
    }

    #[test]
    fn members_are_asked_for_by_name_and_what_is_left_is_told() {
        let mut found = members(r#"{"t\u0079pe":"x","n":3,"gone":null,"o":{"k":[1]},"more":[]}"#).expect("good");
        let path = Path::top("a");
        assert_eq!(found.string("type", &path).expect("there"), "x");
        assert_eq!(found.take("n").expect("there").whole(&path).expect("whole"), 3);
        assert!(found.take("gone").is_none(), "null is as if it were not there");
        assert_eq!(found.take("o").expect("there").object(&path).expect("an object"), r#"{"k":[1]}"#);
        let rest: Vec<_> = found.rest().map(|(name, value)| (name, value.raw())).collect();
        assert_eq!(rest, [("more".to_owned(), "[]")]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let named = |wrong: Wrong| wrong.refused().param().map(str::to_owned);
        let list = Path::top("messages");
        let element = list.index(2);
        let path = element.key("role");
        let value = Pull::new("5").value().expect("JSON");
        assert_eq!(named(value.string(&path).expect_err("no string")).as_deref(), Some("messages.2.role"));
        assert_eq!(named(value.boolean(&path).expect_err("no boolean")).as_deref(), Some("messages.2.role"));
        assert_eq!(named(members("[]").expect_err("no object")).as_deref(), Some("a"));
        assert_eq!(named(members(r#"{"b":1,"\u0062":2}"#).expect_err("twice")).as_deref(), Some("a.b"));
        let many: Vec<String> = (0..=MOST_MEMBERS).map(|n| format!("\"k{n}\":1")).collect();
        assert_eq!(named(members(&format!("{{{}}}", many.join(","))).expect_err("too many")).as_deref(), Some("a"));
        assert_eq!(named(members("{\"b\":").expect_err("no JSON")), None);
        for text in ["-1", "1.5", "1e3", "\"1\""] {
            assert!(Pull::new(text).value().expect("JSON").whole(&path).is_err(), "{text}");
        }
        for text in ["\"1\"", "true", "1e999"] {
            assert!(Pull::new(text).value().expect("JSON").number(&path).is_err(), "{text}");
        }
    }
}
