//! Where in a body a person's or a model's words stand: in every string but names, roles, ids, addresses and data.
//!
//! What must be left as it is for the request to mean what it meant is listed; whatever else there is, fields that nobody
//! has heard of among it, is looked at. A body is looked at as it is written, so that no key that stands twice hides one of
//! its values, and it is built only where something has to be changed.
//!
//! Pure.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::text::Flavour;

/// Keys below which nothing is anybody's words: names and ids, addresses that a provider is to fetch, and what it is to send
/// there, data in base64.
const LEFT: [&str; 32] = [
    "model",
    "models",
    "fallbacks",
    "role",
    "type",
    "id",
    "object",
    "name",
    "tool_choice",
    "finish_reason",
    "status",
    "service_tier",
    "system_fingerprint",
    "url",
    "image_url",
    "file_url",
    "server_url",
    "headers",
    "authorization",
    "authorization_token",
    "data",
    "file_data",
    "input_audio",
    "b64_json",
    "embedding",
    "encrypted_content",
    "signature",
    "logprobs",
    // Bedrock's.
    "bytes",
    "redactedContent",
    "stopReason",
    "toolUseId",
];

/// The key of data that is words in one place: where Anthropic's documents are plain text, and say so beside it.
const DATA: &str = "data";

/// What says so: the key, and its value.
const PLAIN: (&str, &str) = ("type", "text");

/// A place in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Fields of the API, and words.
    Api,
    /// What a tool is given or gave, as an object: all of it is words, whatever its keys are called.
    Free,
    /// The arguments of a tool's call: a text that is JSON.
    Arguments,
    /// Words as a text, and items of the API as a list; as an object it is what a tool is given.
    Input,
    /// What a schema says of properties, by names of the caller's own.
    Schemas,
    /// No words.
    Left,
}

impl Place {
    /// The place under a key of an object at this place.
    pub(super) fn below(self, key: &str) -> Self {
        match self {
            Self::Left => Self::Left,
            Self::Free | Self::Arguments | Self::Input => Self::Free,
            Self::Schemas => Self::Api,
            Self::Api => match key {
                _ if LEFT.contains(&key) || key.ends_with("_id") || key.ends_with("_ids") => Self::Left,
                "arguments" => Self::Arguments,
                "input" => Self::Input,
                "metadata" | "variables" => Self::Free,
                "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => Self::Schemas,
                _ => Self::Api,
            },
        }
    }

    /// The place of a list's items.
    fn item(self) -> Self {
        match self {
            Self::Input => Self::Api,
            Self::Arguments => Self::Free,
            other => other,
        }
    }

    /// What a text at this place is; none if it is nobody's words. What a model wrote as arguments may be no JSON, and is
    /// words then.
    fn flavour(self, text: &str) -> Option<Flavour> {
        match self {
            Self::Left => None,
            Self::Arguments if serde_json::from_str::<IgnoredAny>(text).is_ok() => Some(Flavour::Json),
            Self::Api | Self::Free | Self::Input | Self::Schemas | Self::Arguments => Some(Flavour::Plain),
        }
    }
}

/// Shows `look` each text of a body that holds words.
///
/// # Errors
/// If the body is no JSON, or nested too deep.
pub(super) fn look_at(body: &[u8], mut look: impl FnMut(&str, Flavour)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Looker { place: Place::Api, look: &mut look }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Changes each text in `value`, at `place`, that holds words, as `change` says; what gives none stays.
pub(super) fn change(value: &mut Value, place: Place, f: &mut dyn FnMut(&str, Flavour) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(changed) = place.flavour(text).and_then(|flavour| f(text, flavour)) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| change(item, place.item(), f)),
        Value::Object(fields) => {
            let is_plain = place == Place::Api && fields.get(PLAIN.0).is_some_and(|kind| kind == PLAIN.1);
            for (key, value) in fields {
                let below = if is_plain && key == DATA { place } else { place.below(key) };
                change(value, below, f);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

struct Looker<'a> {
    place: Place,
    look: &'a mut dyn FnMut(&str, Flavour),
}

impl<'de> DeserializeSeed<'de> for Looker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Looker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if let Some(flavour) = self.place.flavour(text) {
            (self.look)(text, flavour);
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Looker { place: self.place.item(), look: &mut *self.look })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        // What the data is may stand behind it.
        let (mut is_plain, mut data) = (false, Vec::new());
        while let Some(Key(key)) = fields.next_key()? {
            if self.place == Place::Api && (key == DATA || key == PLAIN.0) {
                let value = fields.next_value::<&RawValue>()?;
                is_plain |=
                    serde_json::from_str::<Key<'_>>(value.get()).is_ok_and(|kind| key != DATA && kind.0 == PLAIN.1);
                data.push((value, key == DATA));
            } else {
                fields.next_value_seed(Looker { place: self.place.below(&key), look: &mut *self.look })?;
            }
        }
        for (value, is_data) in data {
            let place = if is_plain && is_data { self.place } else { Place::Left };
            let looker = Looker { place, look: &mut *self.look };
            let looked = looker.deserialize(&mut serde_json::Deserializer::from_str(value.get()));
            looked.map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

/// A key, borrowed where it holds no escape.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
