//! What makes two requests the same one: a digest over everything that the answer depends on.
//!
//! The body is read for its meaning: keys of an object in any order, blanks, and the ways of writing a character make no
//! difference. Numbers count as they are written, since not every reader takes `1` and `1.0` for one. What stands for
//! something else is put in its place: `fallbacks` by what they came to, wherever they were named, and `stream` by whether
//! there is one. Everything else in a body counts, known or not.
//!
//! Whatever is hashed says its kind and its length first, so that no two contents make the same bytes, and of two that differ
//! a SHA-256 tells: no request is answered with another's answer (I3) unless somebody finds a collision of that.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::model::{BodyFields, Call, Operation};
use crate::wire::json::{Scanner, Syntax, Text};

/// Header lines that name one exchange, and change nothing about its answer.
const NAMES_ONLY: [&str; 1] = ["x-client-request-id"];

/// A text longer than this stands by its digest, so that what is put in order stays short.
const SHORT: usize = 64;

/// One request's meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    #[cfg(test)]
    pub(super) fn numbered(n: u8) -> Self {
        Self([n; 32])
    }
}

/// Shows nothing: it would let a user's words be guessed (I10).
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// What a request says about its being kept.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) key: Key,
    /// Whether the same comes out each time, as far as a provider can promise that.
    pub(super) deterministic: bool,
    /// Whether the answer depends on something beside the request: a conversation that the provider keeps, or work that it
    /// goes on with afterwards.
    pub(super) bound: bool,
}

/// Reads a request whose body is `body` by now; `None` if that is nothing to be kept, or no JSON.
pub(super) fn read(call: &Call, body: &[u8], fields: &BodyFields) -> Option<Asked> {
    let operation: &[u8] = match call.operation {
        Operation::ChatCompletions => b"chat",
        Operation::Completions => b"completions",
        Operation::Embeddings => b"embeddings",
        Operation::Responses => b"responses",
        Operation::Messages => b"messages",
        // Of what Bedrock is asked for not even the model stands in the body.
        #[cfg(feature = "bedrock")]
        Operation::Converse(_) | Operation::Invoke(_) => return None,
        Operation::CountTokens | Operation::Forward(_) => return None,
    };
    let embeddings = call.operation == Operation::Embeddings;
    let mut reader = Reader { body, out: Vec::with_capacity(512), cool: None, bound: false };
    reader.text(operation);
    reader.maybe(call.prefix);
    reader.maybe(call.key.as_deref());
    // What a key may use no more, it is not answered from here either, whatever a plugin makes of the model.
    reader.texts(call.scope.lines());
    reader.out.push(u8::from(fields.stream));
    reader.texts(fields.fallbacks.iter());
    let headers = || call.headers.iter().filter(|(name, _)| !NAMES_ONLY.contains(name));
    reader.texts(headers().flat_map(|(name, value)| [*name, value.as_str()]));
    let mut scanner = Scanner::new(body);
    reader.whole(&mut scanner, embeddings).ok()?;
    let deterministic = embeddings || reader.cool == Some(true);
    Some(Asked { key: Key(Sha256::digest(&reader.out).into()), deterministic, bound: reader.bound })
}

/// Writes a body's meaning down.
struct Reader<'a> {
    body: &'a [u8],
    out: Vec<u8>,
    /// Whether every `temperature` is 0, if there is one.
    cool: Option<bool>,
    bound: bool,
}

/// A member that was written: where its key and its value stand.
type Member<'a> = (std::borrow::Cow<'a, [u8]>, Range<usize>);

impl<'a> Reader<'a> {
    /// The body itself, an object.
    fn whole(&mut self, scanner: &mut Scanner<'a>, embeddings: bool) -> Result<(), Syntax> {
        self.object(scanner, |reader, key, scanner| {
            match key {
                b"fallbacks" => return scanner.skip().map(|_| false),
                // Of embeddings it is passed on, whatever it says.
                b"stream" if !embeddings => return scanner.skip().map(|_| false),
                b"temperature" => {
                    let text = std::str::from_utf8(&reader.body[peek(scanner)?]).ok();
                    let zero = text.and_then(|text| text.parse().ok()) == Some(0.0);
                    reader.cool = Some(zero && reader.cool.unwrap_or(true));
                }
                b"background" | b"conversation" => {
                    reader.bound |= !matches!(&reader.body[peek(scanner)?], b"null" | b"false");
                }
                _ => {}
            }
            reader.value(scanner)?;
            Ok(true)
        })?;
        scanner.end()
    }

    fn value(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Syntax> {
        match scanner.peek() {
            Some(b'{') => self.object(scanner, |reader, _, scanner| reader.value(scanner).map(|()| true)),
            Some(b'[') => {
                scanner.enter_array()?;
                self.out.push(b'[');
                let mut first = true;
                while scanner.next_element(&mut first)? {
                    self.value(scanner)?;
                }
                self.out.push(b']');
                Ok(())
            }
            Some(b'"') => {
                let text = scanner.text()?;
                self.string(&text);
                Ok(())
            }
            _ => {
                let place = scanner.skip()?;
                self.out.push(b'#');
                let word = &self.body[place];
                self.text(word);
                Ok(())
            }
        }
    }

    /// An object, its members in the order of their keys; equal ones stay in theirs. `member` writes a value and says
    /// whether the member counts.
    fn object(
        &mut self,
        scanner: &mut Scanner<'a>,
        mut member: impl FnMut(&mut Self, &[u8], &mut Scanner<'a>) -> Result<bool, Syntax>,
    ) -> Result<(), Syntax> {
        scanner.enter_object()?;
        self.out.push(b'{');
        let begun = self.out.len();
        let mut members: Vec<Member<'a>> = Vec::new();
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let start = self.out.len();
            let text = key.text.key();
            self.string(&key.text);
            if member(self, &text, scanner)? {
                members.push((text, start..self.out.len()));
            } else {
                self.out.truncate(start);
            }
        }
        if !members.is_sorted_by(|(one, _), (next, _)| one <= next) {
            members.sort_by(|(one, _), (next, _)| one.cmp(next));
            let written: Vec<u8> = members.iter().flat_map(|(_, place)| &self.out[place.clone()]).copied().collect();
            self.out.truncate(begun);
            self.out.extend_from_slice(&written);
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A text by its meaning; one that has none as it is written.
    fn string(&mut self, text: &Text<'a>) {
        match text.decode() {
            Some(text) => {
                self.out.push(b'"');
                self.text(text.as_bytes());
            }
            None => {
                self.out.push(b'?');
                self.text(&text.key());
            }
        }
    }

    fn maybe(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text.as_bytes()),
            None => self.out.push(b'-'),
        }
    }

    fn texts(&mut self, texts: impl Iterator<Item = impl AsRef<[u8]>>) {
        texts.for_each(|text| {
            self.out.push(b',');
            self.text(text.as_ref());
        });
        self.out.push(b';');
    }

    /// Bytes with their length before them; long ones by their digest, which no length can be taken for.
    fn text(&mut self, bytes: &[u8]) {
        if bytes.len() > SHORT {
            self.out.push(b'%');
            self.out.extend_from_slice(&Sha256::digest(bytes));
        } else {
            self.out.push(b'0' + bytes.len() as u8);
            self.out.extend_from_slice(bytes);
        }
    }
}

/// Where the value stands that comes next, which is not passed over.
fn peek(scanner: &Scanner<'_>) -> Result<Range<usize>, Syntax> {
    scanner.clone().skip()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gateway::CallOptions;
    use crate::model::Forward;
    use crate::time::now;
    use crate::wire::openai;

    fn call(operation: Operation, body: &str) -> Call {
        let fields = openai::parse(&operation, body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
        Call { operation, ..CallOptions::new().call(body.as_bytes().to_vec(), fields, now()).expect("good") }
    }

    fn asked(call: &Call) -> Asked {
        read(call, &call.body, &call.fields).expect("it is one to be kept")
    }

    fn chat(body: &str) -> Asked {
        asked(&call(Operation::ChatCompletions, body))
    }

    const PLAIN: &str = r#"{"model":"a/b","messages":[{"role":"user","content":"h\u0069\n"}],"n":1}"#;

    #[test]
    fn order_blanks_and_the_writing_of_characters_make_no_difference() {
        let long = "x".repeat(500);
        let with = |text: &str| PLAIN.replace("\\n", text);
        for (one, same) in [
            (
                PLAIN.to_owned(),
                r#" { "n" : 1 , "messages":[{"content":"hi\u000a","role":"user"}],"model":"a\/b"} "#.to_owned(),
            ),
            (PLAIN.to_owned(), PLAIN.replace("\"n\":1", "\"n\":1,\"stream\":false")),
            (PLAIN.to_owned(), PLAIN.replace("\"n\":1", "\"n\":1,\"fallbacks\":[]")),
            (with(&long), with(&long.replacen('x', "\\u0078", 3))),
        ] {
            assert_eq!(chat(&one).key, chat(&same).key, "{one} {same}");
        }
    }

    #[test]
    fn whatever_the_answer_may_depend_on_makes_a_difference() {
        let mut bodies: Vec<String> = [
            ("", ""),
            ("a/b", "a/c"),
            ("user", "system"),
            ("\"n\":1", "\"n\":1.0"),
            ("\"n\":1", "\"n\":1e0"),
            ("\"n\":1", "\"n\":\"1\""),
            ("\"n\":1", "\"n\":null"),
            ("\"n\":1", "\"n\":10000000000000000000000000000000000000000001"),
            ("\"n\":1", "\"n\":10000000000000000000000000000000000000000002"),
            ("\"n\":1", "\"n\":1,\"n\":2"),
            ("\"n\":1", "\"n\":2,\"n\":1"),
            ("\"n\":1", "\"n\":1,\"stream\":true"),
            ("\"n\":1", "\"n\":1,\"user\":\"u\""),
            ("\"n\":1", "\"n\":1,\"fallbacks\":[\"c/d\"]"),
            ("\"n\":1", "\"n\":1,\"fallbacks\":[\"c/d\",\"e\"]"),
            ("\"n\":1", "\"n\":1,\"stop\":[\"a\",\"b\"]"),
            ("\"n\":1", "\"n\":1,\"stop\":[\"a,b\"]"),
            ("\"n\":1", "\"n\":1,\"stop\":[[\"a\"],\"b\"]"),
            ("\"n\":1", "\"n\":1,\"stop\":[[\"a\",\"b\"]]"),
            ("\"n\":1", "\"n\":1,\"stop\":{\"a\":\"b\"}"),
            ("\"n\":1", "\"n\":1,\"stop\":\"\\ud800\""),
            ("\"n\":1", "\"n\":1,\"stop\":\"\\ud801\""),
        ]
        .iter()
        .map(|(from, to)| PLAIN.replacen(from, to, 1))
        .collect();
        bodies.extend((500..504).map(|n| PLAIN.replace("\\n", &"x".repeat(n))));
        let keys: std::collections::HashSet<_> = bodies.iter().map(|body| chat(body).key).collect();
        assert_eq!(keys.len(), bodies.len());
    }

    #[test]
    fn who_asks_and_which_way_makes_a_difference() {
        let usual = || call(Operation::ChatCompletions, PLAIN);
        let header = |name, value: &str| Call { headers: vec![(name, value.to_owned())], ..usual() };
        let key = |name: &str| Call { key: Some(Arc::from(name)), ..usual() };
        let beside = |fallbacks: &[&str]| {
            let fields = usual().fields;
            CallOptions::new()
                .fallbacks(fallbacks.iter().copied())
                .call(PLAIN.as_bytes().to_vec(), fields, now())
                .expect("good")
        };
        let different = [
            usual(),
            key("one"),
            key("other"),
            Call { prefix: Some("openai"), ..usual() },
            header("openai-beta", "x"),
            header("openai-organization", "x"),
            beside(&["c/d"]),
            beside(&["c/d", "e"]),
            beside(&["c/de"]),
        ];
        let keys: std::collections::HashSet<_> = different.iter().map(|call| asked(call).key).collect();
        assert_eq!(keys.len(), different.len());
        for same in [
            header("x-client-request-id", "mine"),
            CallOptions::new()
                .tag("team", "x")
                .priority(crate::model::Priority::Batch)
                .call(PLAIN.as_bytes().to_vec(), usual().fields, now())
                .expect("good"),
        ] {
            assert_eq!(asked(&same).key, asked(&usual()).key);
        }
        let within = PLAIN.replace("\"n\":1", "\"n\":1,\"fallbacks\":[\"c/d\"]");
        assert_eq!(chat(&within).key, asked(&beside(&["c/d"])).key, "wherever they were named");
        let text = r#"{"model":"a/b","prompt":"x"}"#;
        assert_ne!(asked(&call(Operation::Completions, text)).key, asked(&call(Operation::Responses, text)).key);
    }

    #[test]
    fn it_says_what_may_be_kept() {
        let with = |more: &str| chat(&PLAIN.replace("\"n\":1", more));
        for (more, deterministic) in [
            ("\"n\":1", false),
            ("\"temperature\":0", true),
            ("\"temperature\":0.0", true),
            ("\"temperature\":0.1", false),
            ("\"temperature\":null", false),
            ("\"temperature\":1,\"temperature\":0", false),
            ("\"metadata\":{\"temperature\":0}", false),
        ] {
            assert_eq!(with(more).deterministic, deterministic, "{more}");
        }
        assert!(asked(&call(Operation::Embeddings, r#"{"model":"a/b","input":"x"}"#)).deterministic);
        let response = |more: &str| asked(&call(Operation::Responses, &format!("{{\"model\":\"a/b\"{more}}}"))).bound;
        for (more, bound) in [
            ("", false),
            (",\"background\":false,\"conversation\":null", false),
            (",\"background\":true", true),
            (",\"conversation\":\"conv_1\"", true),
            (",\"conversation\":{\"id\":\"conv_1\"}", true),
        ] {
            assert_eq!(response(more), bound, "{more}");
        }
        let forward = Forward { method: "POST", path: "/files".to_owned(), content_type: None, accept: None };
        let forwarded = Call { operation: Operation::Forward(forward), ..call(Operation::ChatCompletions, PLAIN) };
        assert!(read(&forwarded, &forwarded.body, &forwarded.fields).is_none());
    }
}
