//! Who is loaded: where a URL leads, what is sent there, and what tells that an answer is whole.

use std::ops::Range;

use serde_json::{Value, json};

use crate::cli::args::Bench;
use crate::cli::client::Client;
use crate::cli::output::Failure;
use crate::secret::Secret;
use crate::sync::Threads;
use crate::wire::sse::Event;

/// The most that an Anthropic model is asked to say: its shape has to name some.
const MAX_TOKENS: u32 = 1024;

/// What a request looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
}

/// The ends of paths that say which shape is spoken there. The first that fits counts.
const ROUTES: [(&str, Shape); 5] = [
    ("/chat/completions", Shape::Chat),
    ("/completions", Shape::Completions),
    ("/embeddings", Shape::Embeddings),
    ("/responses", Shape::Responses),
    ("/messages", Shape::Messages),
];

/// What stands in the place of a request's number at the beginning of its prompt.
const NUMBER: &str = "##########";

/// Who is asked, and what.
#[derive(Debug)]
pub(super) struct Target {
    /// What it is called in the report.
    pub(super) name: &'static str,
    /// Where the requests go.
    pub(super) url: String,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) path: String,
    /// The body, and where in it the request's number stands.
    body: Vec<u8>,
    number: Range<usize>,
    pub(super) client: Client,
    headers: Vec<(&'static str, Secret)>,
    shape: Shape,
}

/// What an event of a stream says of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing: it goes on.
    More,
    /// The answer is whole.
    End,
    /// It failed: what is said of that.
    Failed(Vec<u8>),
}

impl Target {
    /// What `--url` names.
    pub(super) fn gateway(command: &Bench, threads: &Threads) -> Result<Self, Failure> {
        let key = command.key.clone().or_else(|| key("SLUICEGATE_KEY"));
        Self::new(("gateway", "--url"), &command.url, command.model.clone(), key, command, threads)
    }

    /// What `--direct` names, if it does.
    pub(super) fn direct(command: &Bench, threads: &Threads) -> Result<Option<Self>, Failure> {
        let Some(url) = &command.direct else { return Ok(None) };
        let own = || command.model.split_once('/').map_or(&*command.model, |(_, model)| model).to_owned();
        let model = command.direct_model.clone().unwrap_or_else(own);
        Self::new(("direct", "--direct"), url, model, key("SLUICEGATE_DIRECT_KEY"), command, threads).map(Some)
    }

    fn new(
        (name, flag): (&'static str, &str),
        url: &str,
        model: String,
        key: Option<Secret>,
        command: &Bench,
        threads: &Threads,
    ) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::Usage(format!("{flag} {why}"));
        let (base, path, shape) = take_apart(url).map_err(wrong)?;
        if command.stream && shape == Shape::Embeddings {
            return Err(wrong("asks for embeddings, which are not streamed: leave --stream out"));
        }
        let client = Client::keeping(command.conns as usize, &base, threads)
            .map_err(|error| wrong(&format!("is not where requests can be sent: {error}")))?;
        let body = shape.body(&model, command.prompt_bytes as usize, command.stream).to_string().into_bytes();
        // The prompt is behind the model's name, whatever that is.
        let mark = &NUMBER.as_bytes()[..NUMBER.len().min(command.prompt_bytes as usize)];
        let at = memchr::memmem::rfind(&body, mark).unwrap_or(body.len());
        let number = at..(at + mark.len()).min(body.len());
        let mut headers = vec![("content-type", Secret::from("application/json"))];
        if shape == Shape::Messages {
            headers.push(("anthropic-version", Secret::from("2023-06-01")));
        }
        headers.extend(key.map(|key| match shape {
            Shape::Messages => ("x-api-key", key),
            _ => ("authorization", Secret::new(format!("Bearer {}", key.expose()))),
        }));
        Ok(Self {
            name,
            url: format!("{base}{path}"),
            model,
            stream: command.stream,
            path,
            body,
            number,
            client,
            headers,
            shape,
        })
    }

    /// What each request says beside its body, the key among it.
    pub(super) fn headers(&self) -> Vec<(&'static str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.expose())).collect()
    }

    /// The body of a request. No two are the same, so that none is answered from a cache, the provider's own among them.
    pub(super) fn body(&self, number: u64) -> Vec<u8> {
        let mut body = self.body.clone();
        let digits = format!("{number:0width$}", width = self.number.len());
        body[self.number.clone()].copy_from_slice(&digits.as_bytes()[digits.len() - self.number.len()..]);
        body
    }

    /// What an event says of the end of its stream.
    pub(super) fn said(&self, event: &Event<'_>) -> Said {
        let ended = match self.shape {
            Shape::Chat | Shape::Completions | Shape::Embeddings => event.data == b"[DONE]",
            Shape::Responses => matches!(event.name, b"response.completed" | b"response.incomplete"),
            Shape::Messages => event.name == b"message_stop",
        };
        match ended {
            true => Said::End,
            false if is_error(event) => Said::Failed(event.data.to_vec()),
            false => Said::More,
        }
    }
}

/// Whether an event is an error's: few even hold the word, and only those are parsed.
fn is_error(event: &Event<'_>) -> bool {
    if matches!(event.name, b"error" | b"response.failed") {
        return true;
    }
    memchr::memmem::find(event.data, b"\"error\"").is_some()
        && serde_json::from_slice::<Value>(event.data)
            .is_ok_and(|value| value.get("error").is_some_and(|error| !error.is_null()))
}

impl Shape {
    fn body(self, model: &str, prompt_bytes: usize, stream: bool) -> Value {
        let words = NUMBER.chars().chain(" Hello through the gate.".chars().cycle());
        let prompt: String = words.take(prompt_bytes).collect();
        let mut body = match self {
            Self::Chat => json!({ "model": model, "messages": [{ "role": "user", "content": prompt }] }),
            Self::Completions => json!({ "model": model, "prompt": prompt }),
            Self::Embeddings | Self::Responses => json!({ "model": model, "input": prompt }),
            Self::Messages => {
                json!({ "model": model, "max_tokens": MAX_TOKENS, "messages": [{ "role": "user", "content": prompt }] })
            }
        };
        if stream {
            body["stream"] = true.into();
        }
        body
    }
}

/// A URL's scheme and authority, the path that is asked, and what is spoken there.
fn take_apart(url: &str) -> Result<(String, String, Shape), &'static str> {
    const FORM: &str = "wants a URL such as http://127.0.0.1:8080, or one with its route, …/v1/chat/completions";
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let scheme = scheme.to_ascii_lowercase();
    if !["http", "https"].contains(&scheme.as_str()) {
        return Err("speaks http and https alone: write a URL such as http://127.0.0.1:8080");
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
        return Err(FORM);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err(FORM);
    }
    if authority.contains('@') {
        return Err("takes no user and password: a key goes into SLUICEGATE_KEY, or SLUICEGATE_DIRECT_KEY");
    }
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let path = path.trim_end_matches('/');
    let named = ROUTES.iter().find(|(end, _)| path.ends_with(end));
    let (end, shape) = match named {
        Some((_, shape)) => ("", *shape),
        None if path.ends_with("/v1") => ("/chat/completions", Shape::Chat),
        None => ("/v1/chat/completions", Shape::Chat),
    };
    Ok((format!("{scheme}://{authority}"), format!("{path}{end}{query}"), shape))
}

fn key(variable: &str) -> Option<Secret> {
    std::env::var(variable).ok().filter(|key| !key.is_empty()).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_base_url_means_chat_and_a_route_means_itself() {
        for (url, base, path) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "/v1/chat/completions"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", "/v1/chat/completions"),
            ("https://api.example.com/", "https://api.example.com", "/v1/chat/completions"),
            ("http://h/v1/", "http://h", "/v1/chat/completions"),
            ("http://h/openai/v1", "http://h", "/openai/v1/chat/completions"),
            ("http://h/v1/messages", "http://h", "/v1/messages"),
            ("http://h/x/chat/completions?api-version=1", "http://h", "/x/chat/completions?api-version=1"),
        ] {
            let (found, route, _) = take_apart(url).expect(url);
            assert_eq!((found.as_str(), route.as_str()), (base, path), "{url}");
        }
    }

    #[test]
    fn what_is_no_http_url_is_refused_with_what_would_be_right() {
        for (url, word) in [
            ("ftp://h", "http and https"),
            ("", "http://127.0.0.1:8080"),
            ("http://", "http://127.0.0.1:8080"),
            ("http://h/a b", "http://127.0.0.1:8080"),
            ("http://u:p@h", "SLUICEGATE_KEY"),
        ] {
            assert!(take_apart(url).is_err_and(|why| why.contains(word)), "{url}");
        }
    }

    #[test]
    fn no_two_bodies_are_the_same_and_all_are_of_one_length() {
        let threads = Threads::new(1, 256 << 10);
        for prompt_bytes in ["1", "10", "64"] {
            let args = ["sluicegate", "bench", "--url", "http://127.0.0.1:1", "--prompt-bytes", prompt_bytes];
            let args = crate::cli::args::Args::try_parse_from(args).expect("it is right");
            let crate::cli::args::Command::Bench(command) = args.command else { panic!("another command") };
            let target = Target::gateway(&command, &threads).expect("a URL");
            let prompt = |number| {
                let body: Value = serde_json::from_slice(&target.body(number)).expect("JSON");
                body["messages"][0]["content"].as_str().expect("a prompt").to_owned()
            };
            assert_eq!(prompt(7).len(), prompt_bytes.parse::<usize>().expect("a number"));
            assert_ne!(prompt(7), prompt(8));
        }
    }

    #[test]
    fn an_event_that_only_speaks_of_errors_is_none() {
        let event = |name: &'static str, data: &'static str| {
            is_error(&Event { raw: b"", data: data.as_bytes(), name: name.as_bytes(), is_comment: false })
        };
        assert!(event("", r#"{"error":{"message":"cut"}}"#) && event("error", "{}") && event("response.failed", "{}"));
        assert!(!event("", r#"{"choices":[{"delta":{"content":"\"error\""}}]}"#) && !event("", r#"{"error":null}"#));
    }
}
