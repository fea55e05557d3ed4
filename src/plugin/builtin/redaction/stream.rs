//! The events of a stream: each text of the answer goes through a voice of its own, and what it holds back is said when the
//! text ends.
//!
//! **Protocol.** A chat's or a completion's texts are told apart by choice and field, a tool call's arguments by its index,
//! too; a choice's texts end with its finish reason, in whose event the rest is put. A response's are told apart by item and
//! part; they end with the event that has the text whole, before which the rest is put as one more piece, and the events
//! behind it are numbered on. A message's are told apart by block; they end with it, and the rest is put before its end as one
//! more piece, and so do those of Converse's blocks. What does not come in pieces is changed as in a whole answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::placeholders::Originals;
use super::text::Flavour;
use super::words::Place;
use super::{Rules, Voice};
use crate::config::plugins::{Answers, Unreadable};
use crate::plugin::{Event, EventHook, PluginError};

/// What tells a text of an answer from the others: whose it is, and the way to it.
type Name = (u64, Way);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The text of a choice of a completion.
    Text,
    /// A field of a delta.
    Delta(String),
    /// The arguments of a delta's call.
    Call,
    /// Those of one of its calls of tools, or what a custom one is given.
    ToolCall(u64, &'static str),
    /// A text of a response.
    Response(String),
    /// What a block of a message says, or a tool is given.
    Block(Piece),
    /// The same of Converse's, by the place in its frame.
    Frame(&'static str),
}

/// What a piece of a message's block is: its type, and the field that has it.
type Piece = (&'static str, &'static str);

/// The pieces that are words.
const PIECES: [Piece; 3] =
    [("text_delta", "text"), ("thinking_delta", "thinking"), ("input_json_delta", "partial_json")];

/// Where words stand in Converse's frames.
const IN_FRAMES: [(&str, Flavour); 3] = [
    ("/delta/text", Flavour::Plain),
    ("/delta/reasoningContent/text", Flavour::Plain),
    ("/delta/toolUse/input", Flavour::Json),
];

/// What looks at the events of one stream.
pub(super) struct Hook {
    rules: Arc<Rules>,
    originals: Arc<Originals>,
    voices: BTreeMap<Name, Voice>,
    /// How many events were put among those of a response.
    put: u64,
}

impl Hook {
    pub(super) fn new(rules: Arc<Rules>, originals: Arc<Originals>) -> Self {
        Self { rules, originals, voices: BTreeMap::new(), put: 0 }
    }

    /// Changes a piece of a text in its place.
    fn hear(&mut self, name: Name, flavour: Flavour, piece: &mut Value) {
        if let Value::String(text) = piece {
            let voice = self.voices.entry(name).or_insert_with(|| Voice::new(&self.rules, flavour));
            *text = voice.say(&self.rules, &self.originals, text, false);
        }
    }

    /// What is left of the texts that `ended` names, each with its name; those that end without a rest are not among them.
    fn rests(&mut self, ended: impl Fn(&Name) -> bool) -> Vec<(Name, String)> {
        let names: Vec<Name> = self.voices.keys().filter(|name| ended(name)).cloned().collect();
        let rest = |name: Name| {
            let rest = self.voices.remove(&name)?.say(&self.rules, &self.originals, "", true);
            (!rest.is_empty()).then_some((name, rest))
        };
        names.into_iter().filter_map(rest).collect()
    }

    /// A chunk of a chat or a completion.
    fn choices(&mut self, data: &mut Value) {
        for (key, value) in data.as_object_mut().into_iter().flatten().filter(|(key, _)| *key != "choices") {
            self.rules.give_back(value, Place::Api.below(key), &self.originals);
        }
        let choices = data.get_mut("choices").and_then(Value::as_array_mut);
        for choice in choices.into_iter().flatten().filter_map(Value::as_object_mut) {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or_default();
            for (key, value) in choice.iter_mut() {
                match (key.as_str(), value) {
                    ("text", text) => self.hear((index, Way::Text), Flavour::Plain, text),
                    ("delta", Value::Object(fields)) => {
                        fields.iter_mut().for_each(|(key, value)| self.delta(index, key, value));
                    }
                    // Some providers say with each piece all that came before, too.
                    (key, value) => self.rules.give_back(value, Place::Api.below(key), &self.originals),
                }
            }
            if choice.get("finish_reason").is_some_and(|reason| !reason.is_null()) {
                for ((_, way), rest) in self.rests(|(of, _)| *of == index) {
                    put_back(choice, way, &rest);
                }
            }
        }
    }

    /// A field of a delta.
    fn delta(&mut self, index: u64, key: &str, value: &mut Value) {
        match (key, &mut *value) {
            (_, Value::String(_)) if Place::Api.below(key) != Place::Left => {
                self.hear((index, Way::Delta(key.to_owned())), Flavour::Plain, value);
            }
            ("tool_calls", Value::Array(calls)) => {
                for (at, call) in calls.iter_mut().enumerate() {
                    let number = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
                    if let Some(arguments) = call.pointer_mut("/function/arguments") {
                        self.hear((index, Way::ToolCall(number, "function")), Flavour::Json, arguments);
                    }
                    if let Some(input) = call.pointer_mut("/custom/input") {
                        self.hear((index, Way::ToolCall(number, "custom")), Flavour::Plain, input);
                    }
                }
            }
            ("function_call", Value::Object(call)) => {
                if let Some(arguments) = call.get_mut("arguments") {
                    self.hear((index, Way::Call), Flavour::Json, arguments);
                }
            }
            (_, value) => self.rules.give_back(value, Place::Api.below(key), &self.originals),
        }
    }

    /// An event of a message.
    fn message(&mut self, event: &mut Event<'_>) -> Option<()> {
        let data = event.json()?;
        let (kind, index) = (data["type"].as_str()?, data["index"].as_u64()?);
        // A signature is of all that was thought before it.
        if kind == "content_block_stop" || data["delta"]["type"] == "signature_delta" {
            for rest in self.rests_of_blocks(Some(index)) {
                let name = if event.name().is_empty() { "" } else { "content_block_delta" };
                event.put_before(name, rest);
            }
            return Some(());
        }
        let (kind, field) = PIECES.into_iter().find(|(kind, _)| data["delta"]["type"] == *kind)?;
        let flavour = if field == "partial_json" { Flavour::Json } else { Flavour::Plain };
        self.hear(
            (index, Way::Block((kind, field))),
            flavour,
            event.json_mut()?.pointer_mut(&format!("/delta/{field}"))?,
        );
        Some(())
    }

    /// What is left of the texts of a message's block, or of all, each as one more piece.
    fn rests_of_blocks(&mut self, index: Option<u64>) -> Vec<Value> {
        let is_of = |(of, way): &Name| matches!(way, Way::Block(_)) && index.is_none_or(|index| index == *of);
        let piece = |((index, way), rest): (Name, String)| {
            let Way::Block((kind, field)) = way else { return None };
            let delta = json!({ "type": kind, field: rest });
            Some(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
        };
        self.rests(is_of).into_iter().filter_map(piece).collect()
    }

    /// A frame of Converse's.
    fn converse(&mut self, event: &mut Event<'_>) -> Option<()> {
        let data = event.json()?;
        let index = data["contentBlockIndex"].as_u64()?;
        if event.name() == b"contentBlockStop" || data["delta"]["reasoningContent"].get("signature").is_some() {
            let is_of = |(of, way): &Name| matches!(way, Way::Frame(_)) && *of == index;
            for ((_, way), rest) in self.rests(is_of) {
                let Way::Frame(place) = way else { continue };
                let mut piece = Value::from(rest);
                for key in place.rsplit('/').filter(|key| !key.is_empty()) {
                    piece = json!({ key: piece });
                }
                piece["contentBlockIndex"] = index.into();
                event.put_before("contentBlockDelta", piece);
            }
            return Some(());
        }
        let (place, flavour) = IN_FRAMES.into_iter().find(|(place, _)| data.pointer(place).is_some())?;
        self.hear((index, Way::Frame(place)), flavour, event.json_mut()?.pointer_mut(place)?);
        Some(())
    }

    /// An event of a response.
    fn response(&mut self, event: &mut Event<'_>) -> Option<()> {
        let data = event.json_mut()?;
        let kind = data["type"].as_str()?.to_owned();
        self.number(data);
        if let Some(text) = kind.strip_suffix(".delta") {
            // Sound and pictures come in pieces, too, and are no words.
            if text.ends_with(".audio") {
                return Some(());
            }
            let name = (0, Way::Response(name_of(text, data)));
            self.hear(name, flavour_of(text), data.get_mut("delta")?);
            return Some(());
        }
        let text = kind.strip_suffix(".done");
        let mut before = None;
        if let Some(text) = text {
            let name = (0, Way::Response(name_of(text, data)));
            if let Some((_, rest)) = self.rests(|known| *known == name).into_iter().next() {
                let mut piece = data.clone();
                let object = piece.as_object_mut()?;
                object.retain(|key, _| WHERE.contains(&key.as_str()) || key == "sequence_number");
                object.insert("type".to_owned(), format!("{text}.delta").into());
                object.insert("delta".to_owned(), rest.into());
                before = Some(piece);
                self.put += 1;
            }
        }
        if before.is_some() {
            // It stands one further now.
            if let Some(number) = data["sequence_number"].as_u64() {
                data["sequence_number"] = (number + 1).into();
            }
        }
        self.rules.give_back(data, Place::Api, &self.originals);
        if let (Some(piece), Some(text)) = (before, text) {
            let name = if event.name().is_empty() { String::new() } else { format!("{text}.delta") };
            event.put_before(&name, piece);
        }
        Some(())
    }

    /// Counts on behind what was put in.
    fn number(&self, data: &mut Value) {
        if let Some(number) = data["sequence_number"].as_u64().filter(|_| self.put > 0) {
            data["sequence_number"] = (number + self.put).into();
        }
    }
}

/// What tells where in a response a text stands.
const WHERE: [&str; 4] = ["item_id", "output_index", "content_index", "summary_index"];

fn name_of(text: &str, data: &Value) -> String {
    WHERE.iter().fold(text.to_owned(), |name, key| format!("{name} {}", data[*key]))
}

fn flavour_of(text: &str) -> Flavour {
    if text.ends_with("_arguments") { Flavour::Json } else { Flavour::Plain }
}

/// Puts the rest of a text into the event that ends it.
fn put_back(choice: &mut Map<String, Value>, way: Way, rest: &str) {
    fn append(into: &mut Value, rest: &str) {
        *into = Value::from(into.as_str().unwrap_or_default().to_owned() + rest);
    }
    if way == Way::Text {
        return append(choice.entry("text").or_insert(Value::Null), rest);
    }
    let delta = choice.entry("delta").or_insert_with(|| json!({}));
    if !delta.is_object() {
        *delta = json!({});
    }
    match way {
        Way::Delta(field) => append(&mut delta[field], rest),
        Way::Call => {
            if !delta["function_call"].is_object() {
                delta["function_call"] = json!({});
            }
            append(&mut delta["function_call"]["arguments"], rest);
        }
        Way::ToolCall(number, kind) => {
            if !delta["tool_calls"].is_array() {
                delta["tool_calls"] = json!([]);
            }
            let Some(calls) = delta["tool_calls"].as_array_mut() else { return };
            let known = calls.iter().position(|call| call["index"] == number && call[kind].is_object());
            let at = known.unwrap_or_else(|| {
                calls.push(json!({ "index": number, kind: {} }));
                calls.len() - 1
            });
            let field = if kind == "function" { "arguments" } else { "input" };
            append(&mut calls[at][kind][field], rest);
        }
        Way::Text | Way::Response(_) | Way::Block(_) | Way::Frame(_) => {}
    }
}

impl EventHook for Hook {
    fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
        let Some(data) = event.json() else {
            let lets_pass = self.rules.answers == Answers::Off || self.rules.unreadable == Unreadable::Pass;
            return if lets_pass { Ok(()) } else { Err("an event that is no JSON".into()) };
        };
        let has_choices = data.get("choices").is_some();
        if self.rules.answers == Answers::Redact
            && let Some(data) = event.json_mut()
        {
            super::forget_tokens(data);
        }
        if has_choices {
            if let Some(data) = event.json_mut() {
                self.choices(data);
            }
        } else if self.message(event).is_none()
            && self.converse(event).is_none()
            && self.response(event).is_none()
            && let Some(data) = event.json_mut()
        {
            self.rules.give_back(data, Place::Api, &self.originals);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<Value>, PluginError> {
        // A stream may be complete by its end alone.
        let mut events = self.rests_of_blocks(None);
        // A frame of Converse's ends its block always, and what has no name is no frame.
        for ((index, way), rest) in self.rests(|(_, way)| !matches!(way, Way::Frame(_))) {
            if let Way::Response(name) = way {
                let text = name.split(' ').next().unwrap_or_default();
                events.push(json!({ "type": format!("{text}.delta"), "delta": rest }));
                continue;
            }
            let mut choice = Map::from_iter([("index".to_owned(), index.into())]);
            put_back(&mut choice, way, &rest);
            events.push(json!({ "choices": [choice] }));
        }
        Ok(events)
    }
}
