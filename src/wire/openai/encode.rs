//! A client's body on its way to a provider: four places may change, every other byte stays.

use std::ops::Range;

use super::parse::usage_option;
use crate::model::BodyFields;
use crate::wire::chat::push_string;

/// What asks for usage, as the value of `stream_options`.
const ASK: &[u8] = br#"{"include_usage":true}"#;

/// Writes `body` for a provider into `out` (which is cleared first): with its own name for the model, without
/// `fallbacks`, and, on a stream whose caller did not ask for usage, asking for it.
///
/// `fields` must be what `parse` found in `body`. A `stream_options` that is neither object nor
/// null stays as it is, for the provider to refuse.
///
/// # Panics
/// If `fields` belong to another body whose places lie outside this one.
pub fn encode(body: &[u8], fields: &BodyFields, upstream_model: &str, out: &mut Vec<u8>) {
    splice(body, fields, upstream_model, true, out);
}

/// The same; where `asks_usage` is false, no usage is asked for, since the provider refuses that.
pub(crate) fn splice(body: &[u8], fields: &BodyFields, upstream_model: &str, asks_usage: bool, out: &mut Vec<u8>) {
    let mut edits: [(Range<usize>, Edit<'_>); 3] =
        [(fields.model_span.clone(), Edit::Model(upstream_model)), (0..0, Edit::Keep), (0..0, Edit::Keep)];
    if let Some(span) = &fields.fallbacks_span {
        edits[1] = (span.clone(), Edit::Put(b""));
    }
    if asks_usage && fields.stream && !fields.include_usage {
        edits[2] = ask_for_usage(body, fields);
    }
    // What is put in where a cut begins goes before it.
    edits.sort_by_key(|(span, _)| (span.start, span.end));

    out.clear();
    out.reserve(body.len() + upstream_model.len() + 48);
    let mut from = 0;
    for (span, edit) in edits {
        match edit {
            Edit::Keep => continue,
            Edit::Put(text) => {
                out.extend_from_slice(&body[from..span.start]);
                out.extend_from_slice(text);
            }
            Edit::Model(name) => {
                out.extend_from_slice(&body[from..span.start]);
                push_string(out, name);
            }
        }
        from = span.end;
    }
    out.extend_from_slice(&body[from..]);
}

enum Edit<'a> {
    Keep,
    Put(&'static [u8]),
    Model(&'a str),
}

fn ask_for_usage<'a>(body: &[u8], fields: &BodyFields) -> (Range<usize>, Edit<'a>) {
    let Some(span) = fields.stream_options_span.clone() else {
        // There is a comma to write always: `model` follows.
        return (fields.start..fields.start, Edit::Put(br#""stream_options":{"include_usage":true},"#));
    };
    if body[span.clone()] == *b"null" {
        return (span, Edit::Put(ASK));
    }
    let inside = span.start + 1..span.start + 1;
    match usage_option(&body[span.clone()]) {
        None => (0..0, Edit::Keep),
        Some(option) => match option.span {
            Some(value) => (span.start + value.start..span.start + value.end, Edit::Put(b"true")),
            None if option.empty => (inside, Edit::Put(br#""include_usage":true"#)),
            None => (inside, Edit::Put(br#""include_usage":true,"#)),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use crate::wire::openai::parse_chat;

    fn encode(body: &str, model: &str) -> String {
        let fields = parse_chat(body.as_bytes()).expect("a good body");
        let mut out = b"left over".to_vec();
        super::encode(body.as_bytes(), &fields, model, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn only_the_model_changes_and_odd_spelling_stays() {
        let body = "{ \"x\" : 1e400, \"messages\":[{\"content\":\"\\u00e9 \u{1f600}\"}],\n \"mod\\u0065l\" : \"p/m\" ,\"y\":1.0,\"y\":2}";
        let wanted = body.replace("p/m", "m\\\"x");
        assert_eq!(encode(body, "m\"x"), wanted);
        assert_eq!(encode(body, "p/m"), body);
    }

    #[test]
    fn fallbacks_are_cut_with_exactly_one_comma() {
        for (body, wanted) in [
            (r#"{"fallbacks":["b"],"model":"m","messages":[]}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{"model":"m","fallbacks":["b","c"],"messages":[]}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{"model":"m","messages":[],"fallbacks":[]}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{"model":"m","messages":[] , "fallbacks" : null }"#, r#"{"model":"m","messages":[]  }"#),
            (r#"{ "fallb\u0061cks" : [ "b" ] , "model":"m","messages":[]}"#, r#"{ "model":"m","messages":[]}"#),
        ] {
            assert_eq!(encode(body, "m"), wanted, "{body}");
        }
    }

    #[test]
    fn a_stream_is_made_to_say_its_usage() {
        let with = |options: &str| format!(r#"{{"model":"m","messages":[],"stream":true{options}}}"#);
        for (options, wanted) in [
            (r#","stream_options":null"#, r#","stream_options":{"include_usage":true}"#),
            (r#","stream_options":{}"#, r#","stream_options":{"include_usage":true}"#),
            (r#","stream_options":{ }"#, r#","stream_options":{"include_usage":true }"#),
            (r#","stream_options":{"a":{}}"#, r#","stream_options":{"include_usage":true,"a":{}}"#),
            (r#","stream_options":{"include_usage":false}"#, r#","stream_options":{"include_usage":true}"#),
            (
                r#","stream_options":{"a":1,"include_usage": null}"#,
                r#","stream_options":{"a":1,"include_usage": true}"#,
            ),
            (r#","stream_options":{"include_usage":true,"b":2}"#, r#","stream_options":{"include_usage":true,"b":2}"#),
            (r#","stream_options":"no""#, r#","stream_options":"no""#),
        ] {
            assert_eq!(encode(&with(options), "m"), with(wanted));
        }
        let put_in = r#"{"stream_options":{"include_usage":true},"model":"m","messages":[],"stream":true}"#;
        assert_eq!(encode(&with(""), "m"), put_in);
        let quiet = r#"{"model":"m","messages":[],"stream":false,"stream_options":{"include_usage":false}}"#;
        assert_eq!(encode(quiet, "m"), quiet);
    }

    #[test]
    fn all_edits_at_once_in_any_order() {
        let members = [
            r#""model":"p/m""#,
            r#""messages":[]"#,
            r#""fallbacks":["x"]"#,
            r#""stream":true"#,
            r#""stream_options":null"#,
        ];
        for turn in 0..members.len() {
            let mut members = members;
            members.rotate_left(turn);
            let sent: Value = serde_json::from_str(&encode(&format!("{{{}}}", members.join(",")), "m")).expect("JSON");
            let wanted = json!({"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}});
            assert_eq!(sent, wanted);
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..3).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_goes_upstream_means_what_was_sent_but_for_the_four_places(
            extra in prop::collection::btree_map("[a-z]{1,3}[0-9]", tree(), 0..4),
            place in 0..9usize, stream in any::<bool>(), fallbacks in any::<bool>(), pretty in any::<bool>(), model in ".{1,8}",
        ) {
            let mut members: Vec<(String, Value)> = extra.clone().into_iter().collect();
            let mut insert = |name: &str, value: Value| members.insert(place % (members.len() + 1), (name.to_owned(), value));
            insert("model", json!("a/b"));
            insert("messages", json!([{"role":"user","content":"hi"}]));
            insert("stream", json!(stream));
            if fallbacks {
                insert("fallbacks", json!(["c"]));
            }
            let object: Map<String, Value> = members.into_iter().collect();
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.expect("JSON");
            let sent: Map<String, Value> = serde_json::from_str(&encode(&text, &model)).expect("still JSON");
            let mut wanted = object;
            wanted.shift_remove("fallbacks");
            wanted.insert("model".to_owned(), json!(model));
            if stream {
                wanted.insert("stream_options".to_owned(), json!({"include_usage":true}));
            }
            prop_assert_eq!(sent, wanted);
        }
    }
}
