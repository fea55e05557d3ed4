//! What the simulated provider says: text, tokens, tool calls and vectors, all of them functions of the request.

use serde_json::{Map, Value};

/// The filler, each word with its space.
const LOREM: [&str; 19] = [
    " lorem",
    " ipsum",
    " dolor",
    " sit",
    " amet",
    " consectetur",
    " adipiscing",
    " elit",
    " sed",
    " do",
    " eiusmod",
    " tempor",
    " incididunt",
    " ut",
    " labore",
    " et",
    " dolore",
    " magna",
    " aliqua",
];

/// How many bytes of a tool call's arguments are one token.
const PIECE: usize = 8;

/// How deep a sample of a tool's schema goes.
const SAMPLE_DEPTH: u32 = 8;

/// An even 64-bit digest: FNV-1a, its bits then mixed as in SplitMix64. For choices and vectors, not for secrets.
pub(super) fn seed(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Text(String),
    Lorem(u64),
    Tool { name: String, arguments: String },
}

impl Said {
    /// Its tokens in order. Put together they are the text, or the arguments, exactly.
    pub(super) fn tokens(&self) -> Tokens<'_> {
        match self {
            Self::Text(text) => Tokens::Words(text),
            Self::Lorem(n) => Tokens::Lorem { next: 0, count: *n },
            Self::Tool { arguments, .. } => Tokens::Pieces(arguments),
        }
    }

    /// About how many bytes it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Lorem(n) => usize::try_from(*n).unwrap_or(usize::MAX).saturating_mul(7),
            Self::Tool { arguments, .. } => arguments.len(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Text(text) => words(text),
            Self::Lorem(n) => *n,
            Self::Tool { .. } => self.tokens().count() as u64,
        }
    }
}

/// The words of a text: what counts as its tokens. A text of spaces alone is one.
pub(super) fn words(text: &str) -> u64 {
    let words = text.split_ascii_whitespace().count() as u64;
    words.max(u64::from(!text.is_empty()))
}

/// Tokens one by one.
#[derive(Clone, Debug)]
pub(super) enum Tokens<'a> {
    Words(&'a str),
    Lorem { next: u64, count: u64 },
    Pieces(&'a str),
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match self {
            Self::Words(rest) => take(rest, word_end),
            Self::Pieces(rest) => take(rest, |rest| rest.ceil_char_boundary(PIECE)),
            Self::Lorem { next, count } => {
                if next == count {
                    return None;
                }
                let word = LOREM[(*next % LOREM.len() as u64) as usize];
                let first = *next == 0;
                *next += 1;
                Some(if first { &word[1..] } else { word })
            }
        }
    }
}

fn take<'a>(rest: &mut &'a str, end: impl FnOnce(&str) -> usize) -> Option<&'a str> {
    if rest.is_empty() {
        return None;
    }
    let (token, left) = rest.split_at(end(rest));
    *rest = left;
    Some(token)
}

/// A token is a word with the spaces before it; the last one has those after it, too.
fn word_end(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let find = |from: usize, space: bool| {
        bytes[from..].iter().position(|b| b.is_ascii_whitespace() == space).map_or(bytes.len(), |at| from + at)
    };
    let end = find(find(0, false), true);
    if find(end, false) == bytes.len() { bytes.len() } else { end }
}

/// The object that the word `json` answers with.
pub(super) fn json_object(prompt: &str) -> String {
    serde_json::json!({ "answer": prompt, "words": words(prompt) }).to_string()
}

/// Arguments that fit a tool's JSON schema well enough to be parsed by whoever offered it.
pub(super) fn arguments(schema: Option<&Value>) -> String {
    schema.map_or_else(|| Value::Object(Map::new()), |schema| sample(schema, SAMPLE_DEPTH)).to_string()
}

fn sample(schema: &Value, depth: u32) -> Value {
    if let Some(value) = schema.get("const").or_else(|| schema.get("enum")?.as_array()?.first()) {
        return value.clone();
    }
    let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.as_array()?.first()?.as_str()));
    match kind {
        Some("string") => "sim".into(),
        Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        Some("number") => schema.get("minimum").cloned().unwrap_or_else(|| 1.5.into()),
        Some("boolean") => true.into(),
        Some("null") => Value::Null,
        Some("array") if depth > 0 => schema.get("items").map(|items| sample(items, depth - 1)).into_iter().collect(),
        Some("array") => Value::Array(Vec::new()),
        _ if depth > 0 => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members =
                properties.into_iter().flatten().map(|(name, schema)| (name.clone(), sample(schema, depth - 1)));
            Value::Object(members.collect())
        }
        _ => Value::Object(Map::new()),
    }
}

/// A vector of length one that depends on nothing but `text` and `dimensions`.
pub(super) fn unit_vector(text: &[u8], dimensions: usize) -> Vec<f32> {
    let start = seed(text);
    let raw = (1..=dimensions as u64).map(|n| {
        let bits = mix(start.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        // 53 random bits as a number from -1 to 1.
        (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    });
    let raw: Vec<f64> = raw.collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_falls_into_words_with_their_spaces() {
        let said = Said::Text(" a  b\nc ".to_owned());
        assert_eq!(said.tokens().collect::<Vec<_>>(), [" a", "  b", "\nc "]);
        assert_eq!(Said::Text("  ".to_owned()).tokens().collect::<Vec<_>>(), ["  "]);
        assert_eq!(Said::Text(String::new()).tokens().count(), 0);
        assert_eq!(Said::Lorem(21).tokens().collect::<String>().split(' ').count(), 21);
    }

    #[test]
    fn arguments_fit_the_schema() {
        let schema = json!({"type":"object","properties":{
            "city":{"type":"string"},"unit":{"enum":["c","f"]},"days":{"type":"integer","minimum":3},
            "tags":{"type":"array","items":{"type":["string","null"]}},"where":{"properties":{"lat":{"type":"number"}}}}});
        let wanted = json!({"city":"sim","unit":"c","days":3,"tags":["sim"],"where":{"lat":1.5}});
        assert_eq!(serde_json::from_str::<Value>(&arguments(Some(&schema))).expect("JSON"), wanted);
        assert_eq!(arguments(None), "{}");
    }

    #[test]
    fn vectors_have_length_one_and_differ_by_text() {
        let vector = unit_vector(b"a", 64);
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(vector, unit_vector(b"a", 64));
        assert_ne!(vector, unit_vector(b"b", 64));
    }

    proptest! {
        #[test]
        fn tokens_put_together_are_the_text(text in "[a-c é\n\t]{0,40}") {
            let said = Said::Text(text.clone());
            prop_assert_eq!(said.tokens().collect::<String>(), text.as_str());
            prop_assert_eq!(said.tokens().count() as u64, said.count());
            let tool = Said::Tool { name: "f".to_owned(), arguments: text.clone() };
            prop_assert_eq!(tool.tokens().collect::<String>(), text);
        }
    }
}
