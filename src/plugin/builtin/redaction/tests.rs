//! What is taken out, what is left, that everything comes back, and that it makes no difference how an answer comes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::placeholders::{Given, Originals, Restorer};
use super::text::{Flavour, Window};
use super::words::Place;
use super::*;
use crate::config::Config;
use crate::config::plugins::Plugin as Settings;

/// The rules of these settings.
fn rules(config: Value) -> Arc<Rules> {
    let document = json!({ "providers": { "sim": {} }, "plugins": [{ "name": "redaction", "config": config }] });
    let config = Config::from_json(&document.to_string(), &|_: &str| None).unwrap_or_else(|error| panic!("{error}"));
    match &config.plugins[..] {
        [Settings::Redaction(settings)] => Redaction::new(settings).expect("good patterns").0,
        other => panic!("{other:?}"),
    }
}

fn all() -> Arc<Rules> {
    rules(json!({
        "kinds": { "ip_address": true, "us_ssn": true },
        "literals": ["Project Falcon"],
        "patterns": [{ "name": "ticket", "pattern": r"\bTCK-\d{6}\b" }],
        "answers": "redact",
    }))
}

/// What goes to the provider of a body, and what was taken out of it.
fn sent(rules: &Rules, body: &Value) -> (Value, Originals) {
    let mut sent = body.clone();
    match rules.look_at(body.to_string().as_bytes()) {
        Look::Found(given) => {
            let originals = rules.redact(&mut sent, given);
            (sent, originals)
        }
        Look::Clean => (sent, Originals::default()),
        Look::Unreadable => panic!("it is JSON"),
    }
}

fn redacted(rules: &Rules, text: &str) -> String {
    let (sent, _) = sent(rules, &json!({ "messages": [{ "content": text }] }));
    sent["messages"][0]["content"].as_str().expect("a text").to_owned()
}

#[test]
fn each_kind_is_taken_out_and_told_by_its_name() {
    let rules = all();
    let pem = format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{}\nab==\n-----END RSA PRIVATE KEY-----",
        "MIIEow1B\n".repeat(4).replace('\n', "ABCDEFGHIJ\n").trim()
    );
    for (secret, kind) in [
        ("sk-proj-abcdefghij0123456789", "API_KEY"),
        ("AKIAIOSFODNN7EXAMPLE", "API_KEY"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "API_KEY"),
        ("github_pat_0123456789abcdefghijAB_x", "API_KEY"),
        ("xoxb-123456789012-abcdefghij", "API_KEY"),
        ("AIzaSyA-0123456789abcdefghijABCDEFGHIJ0", "API_KEY"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-DEF_123", "API_KEY"),
        (&pem, "API_KEY"),
        ("bob.o'hara+x@mail.example.co.uk", "EMAIL"),
        ("jürgen@example.de", "EMAIL"),
        ("+49 30 1234567", "PHONE"),
        ("4111 1111 1111 1111", "CREDIT_CARD"),
        ("DE89 3704 0044 0532 0130 00", "IBAN"),
        ("192.168.10.1", "IP_ADDRESS"),
        ("123-45-6789", "US_SSN"),
        ("Project Falcon", "LITERAL"),
        ("TCK-123456", "TICKET"),
    ] {
        assert_eq!(redacted(&rules, &format!("it is {secret}, you see")), format!("it is [{kind}_1], you see"));
        assert_eq!(redacted(&rules, secret), format!("[{kind}_1]"), "alone");
        assert_eq!(redacted(&rules, &format!("\"{secret}\"")), format!("\"[{kind}_1]\""), "in quotes");
    }
    assert_eq!(redacted(&rules, "Authorization: Bearer abcdef0123456789abcd"), "Authorization: Bearer [API_KEY_1]");
    assert_eq!(redacted(&rules, "api_key = 0123456789abcdef"), "api_key = [API_KEY_1]");
    assert_eq!(redacted(&rules, "postgres://me:hunter@localhost/x"), "postgres://me:[API_KEY_1]@localhost/x");
    for words in [
        "task-list-for-the-whole-team-and-more",
        "sk-learn-is-a-library-for-the-many",
        "the bearer of responsibilities-and-duties",
        "me@home, or @everyone at 12:30",
        "https://example.com/a:b/c",
        "AKIA is a prefix, eyJ another",
        "-----BEGIN PRIVATE KEY----- is how one begins",
        "in 2024 there were 123456789012345 of them",
        "TCK-1234567",
    ] {
        assert_eq!(redacted(&rules, words), words);
    }
}

#[test]
fn the_same_has_the_same_number_and_what_the_caller_wrote_is_never_given() {
    let rules = rules(json!({}));
    let body = json!({ "messages": [
        { "role": "user", "content": "a@x.org, b@x.org and a@x.org; [EMAIL_2] is mine" },
        { "role": "tool", "content": [{ "type": "text", "text": "b@x.org +49301234567" }] },
    ] });
    let (sent, originals) = sent(&rules, &body);
    assert_eq!(sent["messages"][0]["content"], "[EMAIL_1], [EMAIL_3] and [EMAIL_1]; [EMAIL_2] is mine");
    assert_eq!(sent["messages"][1]["content"][0]["text"], "[EMAIL_3] [PHONE_1]");
    let mut back = sent;
    rules.give_back(&mut back, Place::Api, &originals);
    assert_eq!(back, body);
}

#[test]
fn words_are_changed_wherever_they_stand_and_nothing_else_is() {
    let rules = rules(json!({}));
    let (hidden, bare) = ("[EMAIL_1]", "a@x.org");
    let body = |mail: &str, quoted: &str| {
        json!({
            "model": bare, "user": mail, "instructions": mail, "prompt": [mail],
            "input": [{ "role": "user", "content": mail, "call_id": bare }, { "type": "x", "arguments": quoted, "output": mail }],
            "messages": [
                { "role": bare, "content": mail, "name": bare, "tool_call_id": bare },
                { "content": [{ "type": "text", "text": mail }, { "image_url": { "url": bare } }, { "input_audio": { "data": bare } }] },
                { "tool_calls": [{ "id": bare, "function": { "name": bare, "arguments": quoted } }] },
                { "content": [{ "type": "tool_use", "id": bare, "input": { "name": mail, "id": mail } }] },
            ],
            "tools": [{ "function": { "name": bare, "description": mail } }, { "headers": { "x": bare }, "server_url": bare }],
            "mcp_servers": [{ "type": "url", "url": bare, "name": bare, "authorization_token": bare }],
            "metadata": { "id": mail }, "unheard_of": { "deep": [[mail]] }, "a@x.org": 1,
        })
    };
    let quote = |mail: &str| format!(r#"{{"to": "{mail}", "n": 4111111111111111, "note": "line\n{mail}"}}"#);
    let before = body(bare, &quote(bare));
    let (sent, originals) = sent(&rules, &before);
    assert_eq!(sent, body(hidden, &quote(hidden)));
    let mut back = sent;
    rules.give_back(&mut back, Place::Api, &originals);
    assert_eq!(back, before);
}

#[test]
fn of_a_message_no_words_pass_unread_and_no_data_is_changed() {
    let rules = rules(json!({}));
    let secret = "AKIAIOSFODNN7EXAMPLE";
    let base64 =
        |kind: &str| json!({ "type": kind, "source": { "type": "base64", "data": secret, "media_type": "x/y" } });
    let body = json!({
        "system": [{ "type": "text", "text": secret, "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": [
                base64("image"),
                base64("document"),
                { "type": "document", "title": secret, "source": { "data": secret, "media_type": "text/plain", "type": "text" } },
                { "type": "tool_result", "tool_use_id": secret, "content": [{ "type": "text", "text": secret }] },
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": secret, "signature": secret },
                { "type": "redacted_thinking", "data": secret },
                { "type": "tool_use", "id": "t", "name": "f", "input": { "type": "text", "data": secret } },
            ] },
        ],
    });
    let (sent, originals) = sent(&rules, &body);
    let left = sent.to_string().matches(secret).count();
    assert_eq!(left, 5, "two pictures' data, an id, a signature, and what is for the provider alone: {sent}");
    assert_eq!(sent["messages"][0]["content"][2]["source"]["data"], sent["system"][0]["text"]);
    let mut back = sent;
    rules.give_back(&mut back, Place::Api, &originals);
    assert_eq!(back, body);
    // However it is written, it is what it says.
    let escaped = format!(r#"{{"source":{{"data":"{secret}","type":"t\u0065xt"}}}}"#);
    assert!(matches!(rules.look_at(escaped.as_bytes()), Look::Found(_)));
}

#[test]
fn a_key_that_stands_twice_hides_nothing() {
    let rules = rules(json!({}));
    let body = br#"{"messages":[{"content":"a@x.org"}],"messages":[{"content":"clean"}]}"#;
    assert!(matches!(rules.look_at(body), Look::Found(_)));
    assert!(matches!(rules.look_at(br#"{"messages":[{"content":"\u0061@x.org"}]}"#), Look::Found(_)));
    assert!(matches!(rules.look_at(br#"{"messages":[{"content":"a"}]}"#), Look::Clean));
    for other in [&b"{"[..], b"", b"--boundary\r\n", b"{} {}", b"\xff"] {
        assert!(matches!(rules.look_at(other), Look::Unreadable), "{other:?}");
    }
}

#[test]
fn arguments_stay_json_whatever_stood_in_them() {
    let rules = rules(json!({ "patterns": [{ "name": "quoted", "pattern": "<[^>]*>" }] }));
    let arguments = r#"{"a": "say <\"hi\\\n\u00fc\ud83d\ude00> to a\u0040x.org", "<key>": [1, "<"], "b": ">"}"#;
    let (sent, originals) = sent(&rules, &json!({ "arguments": arguments }));
    let sent = sent["arguments"].as_str().expect("a text");
    assert_eq!(sent, r#"{"a": "say [QUOTED_1] to [EMAIL_1]", "[QUOTED_2]": [1, "<"], "b": ">"}"#);
    let mut back = json!({ "arguments": sent });
    rules.give_back(&mut back, Place::Api, &originals);
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(parse(back["arguments"].as_str().expect("a text")), parse(arguments));
}

#[test]
fn a_pattern_ends_where_a_string_of_arguments_does() {
    let rules = rules(
        json!({ "patterns": [{ "name": "password", "pattern": r"password=\S+" }, { "name": "note", "pattern": "secret: .*" }] }),
    );
    let arguments = r#"{"cmd":"login password=hunter2","note":"secret: the plan","n":1}"#;
    let (sent, _) = sent(&rules, &json!({ "arguments": arguments }));
    assert_eq!(sent["arguments"], r#"{"cmd":"login [PASSWORD_1]","note":"[NOTE_1]","n":1}"#);
}

#[test]
fn arguments_that_are_no_json_are_looked_at_as_words() {
    let rules = rules(json!({}));
    for (arguments, wanted) in [
        ("a@x.org", "[EMAIL_1]"),
        ("{'to': ['a', a@x.org]}", "{'to': ['a', [EMAIL_1]]}"),
        (r#"{"to": "a@x.org"#, r#"{"to": "[EMAIL_1]"#),
        (r#"{} a@x.org"#, "{} [EMAIL_1]"),
    ] {
        let before = json!({ "arguments": arguments });
        let (sent, originals) = sent(&rules, &before);
        assert_eq!(sent["arguments"], wanted);
        let mut back = sent;
        rules.give_back(&mut back, Place::Api, &originals);
        assert_eq!(back, before);
    }
}

#[test]
fn half_a_surrogate_pair_before_any_character_is_no_harm() {
    let rules = all();
    for after in ["", "\u{20ac}", "\u{e9}", "\u{1f600}", "\\", "\\u", "\\u{e9}", "x\u{20ac}"] {
        for end in ["", "\""] {
            let text = format!("{{\"a\":\"\\ud83d{after}{end}");
            assert_eq!(in_pieces(&rules, &Originals::default(), Flavour::Json, &text, &[1]), text);
            assert_eq!(whole(&rules, &Originals::default(), Flavour::Json, &text), text);
        }
    }
}

#[test]
fn what_a_schema_calls_a_property_hides_no_words() {
    let rules = rules(json!({}));
    let body = |mail: &str| {
        let properties = json!({
            "name": { "type": "string", "description": mail, "default": mail },
            "user_id": { "description": mail },
            "properties": { "type": "object", "properties": { "url": { "description": mail } } },
        });
        json!({ "tools": [
            { "function": { "name": "f", "parameters": { "type": "object", "properties": properties, "$defs": { "data": { "description": mail } } } } },
            { "name": "g", "input_schema": { "properties": properties } },
        ] })
    };
    assert_eq!(sent(&rules, &body("a@x.org")).0, body("[EMAIL_1]"));
}

#[test]
fn of_two_that_overlap_no_end_is_left() {
    let rules = rules(json!({ "literals": ["abcdefghijklmnop1$the-rest-of-it"] }));
    let text = "Bearer x-abcdefghijklmnop1$the-rest-of-it, then";
    assert_eq!(redacted(&rules, text), "Bearer [API_KEY_1], then");
}

#[test]
fn what_comes_whole_in_a_chunk_is_changed_as_in_a_whole_answer() {
    let rules = all();
    let mut given = Given::default();
    given.give(1, "email", "me@x.org");
    let mut hook = stream::Hook::new(Arc::clone(&rules), Arc::new(given.into_originals()));
    let chunk = |said: &str, source: &str| {
        let choice =
            json!({ "index": 0, "delta": { "content": "" }, "message": { "role": "assistant", "content": said } });
        json!({ "id": "eve@x.org", "choices": [choice], "sources": [{ "title": source }] })
    };
    let data = chunk("[EMAIL_1] or eve@x.org", "by [EMAIL_1]").to_string();
    let mut event = crate::plugin::Event::new(crate::wire::pieces::Framing::Events, b"", data.as_bytes(), None);
    hook.event(&mut event).expect("it is JSON");
    assert_eq!(event.json(), Some(&chunk("me@x.org or [EMAIL]", "by me@x.org")));
}

#[test]
fn a_private_key_whose_headers_are_long_is_seen_letter_by_letter() {
    let rules = all();
    for (kind, headers) in [
        ("PGP PRIVATE KEY BLOCK", "Version: GnuPG v2.0.22 (GNU/Linux)\nComment: made for nobody at all\n"),
        ("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123456789ABCDEF0123456789ABCDEF\n"),
    ] {
        let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB0123456789abcdef\n".repeat(6);
        let text = format!("here: -----BEGIN {kind}-----\n{headers}\n{body}-----END {kind}-----, and more words");
        let out = in_pieces(&rules, &Originals::default(), Flavour::Plain, &text, &[1]);
        assert_eq!(out, "here: [API_KEY], and more words");
    }
}

#[test]
fn only_what_could_begin_a_placeholder_is_held_back() {
    let mut given = Given::default();
    let name = given.give(0, "email", "a@x.org");
    assert_eq!(name, "[EMAIL_1]");
    let originals = given.into_originals();
    let mut restorer = Restorer::new(Flavour::Plain);
    let mut say = |text: &str, last| {
        let mut out = String::new();
        restorer.take(&originals, text, last, &mut out);
        out
    };
    for (piece, said) in [
        ("Dear [", "Dear "),
        ("EM", ""),
        ("AIL_1", ""),
        ("], ", "a@x.org, "),
        ("a[0], [E", "a[0], "),
        ("X[EMAIL_", "[EX"),
        ("12] [[EMAIL_1]]", "[EMAIL_12] [a@x.org]"),
    ] {
        assert_eq!(say(piece, false), said, "{piece}");
    }
    assert_eq!((&*say("[EMAIL", false), &*say("", true)), ("", "[EMAIL"));
}

#[test]
fn a_window_holds_back_a_bounded_part_and_sees_a_key_that_comes_letter_by_letter() {
    let rules = all();
    let mut window = Window::new(Flavour::Plain);
    let (mut out, mut most, mut came) = (String::new(), 0, 0);
    let key = format!(
        "-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB0123456789abcdef\n".repeat(20)
    );
    let text = format!("here it is: {key} and {} and {}", "x".repeat(3_000), "some more words ".repeat(10));
    for letter in text.split_inclusive(|_| true) {
        window.take(&rules.detector, letter, false, &mut |kind, _| rules.said(kind), &mut out);
        came += letter.len();
        most = most.max(came.saturating_sub(out.len()));
        if came < key.len() {
            assert!(!out.contains("MIIE"), "a part of it was said");
        }
    }
    window.take(&rules.detector, "", true, &mut |kind, _| rules.said(kind), &mut out);
    assert_eq!(out, text.replace(&key, "[API_KEY]"));
    assert!(most < (2 << 10) + key.len(), "{most} bytes were held back");
}

#[test]
fn time_grows_with_the_text_and_no_faster() {
    let rules = all();
    for near in [
        "a@a.",
        "sk-aaaa ",
        "sk-",
        "4111 ",
        "+1 2 ",
        "00",
        "eyJ-",
        "-----BEGIN ",
        "1.",
        "a:",
        "DE89 ",
        "[EMAIL_",
        "1234567890",
        "bearer ",
        "://a:a",
    ] {
        // What this thread itself took, the least of two times: others use the machine, too.
        let used = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
        };
        let time = |bytes: usize| {
            let body = json!({ "messages": [{ "content": near.repeat(bytes / near.len()) }] }).to_string();
            let once = || {
                let start = used();
                let _ = rules.look_at(body.as_bytes());
                used() - start
            };
            (0..2).map(|_| once()).fold(f64::MAX, f64::min)
        };
        let (little, much) = (time(4 << 10), time(64 << 10));
        assert!(much < little * 16.0 * 5.0, "{near:?}: 16 times the text took {:.0} times as long", much / little);
    }
}

/// A secret of each kind, made by chance.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}\\.[a-z]{1,8}@[a-z]{2,8}\\.(com|org|de)",
        "sk-[a-zA-Z]{10}[0-9]{4}[a-zA-Z0-9]{10,30}",
        "AKIA[A-Z0-9]{16}",
        "ghp_[a-zA-Z0-9]{36}",
        "eyJ[a-zA-Z0-9]{10,200}\\.[a-zA-Z0-9]{10,200}\\.[a-zA-Z0-9]{10,80}",
        "\\+49 [1-9][0-9]{2} [0-9]{5,8}",
        "[1-5][0-9]{2}-[1-9][0-9]-[1-9][0-9]{3}",
        "10\\.[1-9][0-9]\\.[1-9][0-9]\\.[1-9]",
        "4[0-9]{14}".prop_map(|digits| {
            let luhn = |(nth, digit): (usize, u8)| {
                let doubled = u32::from(digit - b'0') * if nth % 2 == 0 { 2 } else { 1 };
                doubled / 10 + doubled % 10
            };
            let sum: u32 = digits.bytes().rev().enumerate().map(luhn).sum();
            format!("{digits}{}", (10 - sum % 10) % 10)
        }),
        Just("DE89 3704 0044 0532 0130 00".to_owned()),
        Just("Project Falcon".to_owned()),
        "TCK-[0-9]{6}",
    ]
}

/// Words, what nearly is a secret, and what JSON has to escape.
fn filler() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,9}( [a-z]{1,9}){0,12}",
        "[0-9 +@.:\\[\\]_/-]{1,12}",
        Just("\u{fc}\u{1f600}\"\\\n".to_owned()),
        Just("[EMAIL_1] [EMAIL] [".to_owned()),
        Just("sk-".to_owned()),
    ]
}

/// A text, and the secrets that stand in it with blanks around them.
fn text() -> impl Strategy<Value = (String, Vec<String>)> {
    proptest::collection::vec((filler(), secret()), 0..5).prop_map(|parts| {
        let mut text = String::new();
        let mut secrets = Vec::new();
        for (filler, secret) in parts {
            text = format!("{text}{filler} , {secret} , ");
            secrets.push(secret);
        }
        (text, secrets)
    })
}

/// Says `text` in pieces of these lengths.
fn in_pieces(rules: &Rules, originals: &Originals, flavour: Flavour, text: &str, lengths: &[usize]) -> String {
    let mut voice = Voice::new(rules, flavour);
    let (mut out, mut rest, mut lengths) = (String::new(), text, lengths.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().copied().unwrap_or(1);
        let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        out += &voice.say(rules, originals, &rest[..end], false);
        rest = &rest[end..];
    }
    out + &voice.say(rules, originals, "", true)
}

/// Said in one piece.
fn whole(rules: &Rules, originals: &Originals, flavour: Flavour, text: &str) -> String {
    Voice::new(rules, flavour).say(rules, originals, text, true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_goes_upstream_and_all_of_them_come_back((text, secrets) in text(), system in text()) {
        let rules = rules(json!({
            "kinds": { "ip_address": true, "us_ssn": true },
            "literals": ["Project Falcon"],
            "patterns": [{ "name": "ticket", "pattern": r"\bTCK-\d{6}\b" }],
        }));
        let arguments = json!({ "to": text, "n": 1 }).to_string();
        let body = json!({
            "messages": [
                { "role": "system", "content": system.0 },
                { "role": "user", "content": [{ "type": "text", "text": text }] },
                { "role": "assistant", "tool_calls": [{ "function": { "arguments": arguments } }] },
            ],
            "input": text,
        });
        let (sent, originals) = sent(&rules, &body);
        let written = sent.to_string();
        for secret in secrets.iter().chain(&system.1) {
            prop_assert!(!written.contains(secret.as_str()), "{secret} is in {written}");
        }
        let mut back = sent;
        rules.give_back(&mut back, Place::Api, &originals);
        prop_assert_eq!(back, body);
    }

    #[test]
    fn it_makes_no_difference_how_an_answer_comes(
        (text, _) in text(),
        lengths in proptest::collection::vec(1usize..40, 1..8),
        restores in any::<bool>(),
    ) {
        let rules = all();
        let originals = if restores {
            let mut given = Given::default();
            given.give(1, "email", "me \"and\" my\nown");
            given.into_originals()
        } else {
            Originals::default()
        };
        let arguments = json!({ "to": text, "list": [text, 1, null] }).to_string();
        for (flavour, text) in [(Flavour::Plain, &text), (Flavour::Json, &arguments)] {
            let at_once = whole(&rules, &originals, flavour, text);
            prop_assert_eq!(&in_pieces(&rules, &originals, flavour, text, &lengths), &at_once, "in pieces of {:?}", lengths);
            prop_assert_eq!(&in_pieces(&rules, &originals, flavour, text, &[1]), &at_once, "letter by letter");
            if flavour == Flavour::Json {
                prop_assert!(serde_json::from_str::<Value>(&at_once).is_ok(), "{at_once}");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", json in "[\\[\\]{}\"\\\\u0-9a-fd8x\n@.]{0,80}", length in 1usize..9) {
        let rules = all();
        for flavour in [Flavour::Plain, Flavour::Json] {
            for text in [&text, &json] {
                in_pieces(&rules, &Originals::default(), flavour, text, &[length]);
            }
        }
    }
}
