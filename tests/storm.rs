//! Callers who do everything at once: each fault of the simulated provider, streamed and not, over sockets and through the
//! library, in both lanes, staying and leaving; and what they saw, to be held against what the gateway counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use sluicegate::Code;
use sluicegate::gateway::{CallOptions, Gateway};
use sluicegate::ids::RequestId;
use sluicegate::model::{Operation, Priority};
use sluicegate::sync::CancelToken;
use sluicegate::time::Deadline;
use sluicegate::wire::openai::ChatRequest;

use crate::client::Client;
use crate::house::{chat, ms, number};

/// What a model's answer may come to, beside the ends that any request can have: an error code, or `ok` for a whole answer.
const MODELS: &[(&str, &[&str])] = &[
    ("echo", &["ok"]),
    ("lorem-40", &["ok"]),
    ("lorem-9+gap-1ms", &["ok"]),
    ("echo+slow-20ms", &["ok"]),
    ("lorem-5+no-done", &["ok"]),
    ("lorem-5+garbage-2", &["ok", "upstream_bad_response"]),
    ("fail-400", &["upstream_error"]),
    ("fail-429", &["upstream_error"]),
    ("fail-500", &["upstream_error"]),
    ("fail-503", &["upstream_error"]),
    ("fail-429-once", &["ok", "upstream_error"]),
    ("flaky-30", &["ok", "upstream_error"]),
    ("error-in-200", &["upstream_error"]),
    ("reset", &["upstream_connect_error"]),
    ("lorem-9+cut-3", &["stream_cut", "upstream_bad_response"]),
    ("hang", &[]),
    ("lorem-9+stall-2", &["stream_too_long", "stream_idle_timeout"]),
    ("panic", &["internal"]),
];

/// How any request can end whose time is short.
const LATE: &[&str] = &["upstream_timeout", "first_token_timeout", "queue_timeout"];

/// Where a storm goes to.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The providers, and how their policies may end a request.
    pub(crate) providers: &'static [(&'static str, &'static [&'static str])],
    /// Whether the providers' own limits are short: then anything can be late, and what hangs needs no limit of its own.
    pub(crate) hasty: bool,
    /// Where some requests are to go when their own target fails; a target that is well.
    pub(crate) rescue: Option<&'static str>,
}

/// What callers saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sent: u64,
    /// They left, and saw no end.
    pub(crate) left: u64,
    /// How the others ended: by code, or `ok`.
    pub(crate) ends: BTreeMap<String, u64>,
}

impl Seen {
    pub(crate) fn add(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.left += other.left;
        other.ends.into_iter().for_each(|(end, count)| *self.ends.entry(end).or_default() += count);
        self
    }

    pub(crate) fn whole(&self) -> u64 {
        self.ends.get("ok").copied().unwrap_or(0)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.ends.values().sum::<u64>() - self.whole()
    }

    fn end(&mut self, plan: &Plan, end: &str) {
        assert!(plan.allowed.contains(&end), "{} ended with {end}", plan.model);
        *self.ends.entry(end.to_owned()).or_default() += 1;
    }

    /// Checks that the gateway counted what these callers saw: each end that was seen as what it was, and of those who left
    /// each as one end, if its request came to be read at all.
    pub(crate) fn matches(&self, stats: &Value) {
        let count = |what: &str| number(stats, &format!("/requests/{what}_total"));
        assert_eq!(self.sent, self.left + self.ends.values().sum::<u64>(), "{self:?}");
        let received = count("received");
        assert!(received <= self.sent && received >= self.sent - self.left, "{received} received, {self:?}");
        let mut unseen = received - (self.sent - self.left);
        let mut counted: BTreeMap<String, u64> =
            serde_json::from_value(stats["errors"].clone()).expect("codes and numbers");
        counted.insert("ok".to_owned(), count("succeeded"));
        for (end, counted) in counted {
            let seen = self.ends.get(&end).copied().unwrap_or(0);
            assert!(counted >= seen && counted - seen <= unseen, "{end}: {counted} counted, {self:?}\n{stats:#}");
            unseen -= counted - seen;
        }
        assert_eq!(unseen, 0, "{self:?}\n{stats:#}");
    }
}

/// One request to come.
struct Plan {
    id: String,
    model: String,
    allowed: Vec<&'static str>,
    stream: bool,
    is_batch: bool,
    limit: Option<Duration>,
    leaves: Option<Duration>,
    rescue: Option<&'static str>,
}

impl Plan {
    fn draw(random: &mut Rng, target: Target, caller: u64, count: u64) -> Self {
        let (name, ends) = MODELS[random.usize(..MODELS.len())];
        // Panics are dear: each is a thread. And what is not a test build has none.
        let calm = name == "panic" && (random.u8(..4) > 0 || !cfg!(debug_assertions));
        let (name, ends) = if calm { MODELS[0] } else { (name, ends) };
        let (provider, refusals) = target.providers[random.usize(..target.providers.len())];
        let endless = name.contains("hang") || name.contains("stall");
        let limit = (endless && (!target.hasty || random.bool())).then(|| ms(random.u64(10..60)));
        let late = if endless || target.hasty { LATE } else { &[] };
        let rescue = target.rescue.filter(|_| random.u8(..4) == 0);
        let rescued: &[&str] = if rescue.is_some() { &["ok"] } else { &[] };
        // "Once" is once for a name: here is one that was seldom used.
        let name =
            if name.ends_with("-once") { format!("lorem-{}+{name}", random.u32(1..400)) } else { name.to_owned() };
        Self {
            id: format!("caller-{caller}-{count}"),
            model: format!("{provider}/{name}"),
            allowed: [ends, refusals, late, rescued].concat(),
            stream: random.bool(),
            is_batch: random.u8(..4) == 0,
            limit,
            leaves: (random.u8(..6) == 0).then(|| Duration::from_micros(random.u64(..4000))),
            rescue,
        }
    }

    fn body(&self, random: &mut Rng) -> String {
        let body = chat(&self.model, self.stream).replace("one two", &format!("{} {}", self.id, random.u32(..)));
        match self.rescue {
            Some(target) => body.replacen('{', &format!("{{\"fallbacks\":[\"{target}\"],"), 1),
            None => body,
        }
    }
}

/// One caller over sockets.
pub(crate) fn over_sockets(addr: SocketAddr, target: Target, caller: u64, until: Deadline) -> Seen {
    let mut random = Rng::with_seed(caller);
    let (mut seen, mut kept) = (Seen::default(), None::<Client>);
    while !until.passed() {
        let plan = Plan::draw(&mut random, target, caller, seen.sent);
        let mut client = kept.take().unwrap_or_else(|| Client::connect(addr));
        let id = format!("x-request-id: {}", plan.id);
        let limit = plan.limit.map(|limit| format!("x-sluicegate-timeout: {}ms", limit.as_millis()));
        let lane = plan.is_batch.then_some("x-sluicegate-priority: batch");
        let headers: Vec<&str> = std::iter::once(&*id).chain(limit.as_deref()).chain(lane).collect();
        client.chat(&headers, &plan.body(&mut random));
        seen.sent += 1;
        if let Some(patience) = plan.leaves {
            std::thread::park_timeout(patience);
            seen.left += 1;
            continue;
        }
        let answer = client.answer();
        assert_eq!(answer.header("x-request-id"), Some(&*plan.id), "an answer of somebody else");
        for time in ["queue", "upstream", "overhead"] {
            let header =
                answer.header(&format!("x-sluicegate-{time}-us")).unwrap_or_else(|| panic!("{time}: {answer:?}"));
            assert!(header.parse::<u64>().is_ok(), "{time}: {header}");
        }
        let end = match (answer.status, plan.stream) {
            (200, false) => {
                assert!(answer.complete && !answer.text().contains("[DONE]"), "{}: {}", plan.model, answer.text());
                if plan.model.contains("echo") {
                    assert!(answer.text().contains(&plan.id), "an answer of somebody else: {}", answer.text());
                }
                "ok".to_owned()
            }
            (200, true) if answer.complete => {
                assert_eq!(answer.text().matches("[DONE]").count(), 1, "{}: {}", plan.model, answer.text());
                assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}: {}", plan.model, answer.text());
                "ok".to_owned()
            }
            (200, true) => {
                assert!(!answer.text().contains("[DONE]"), "{}: {}", plan.model, answer.text());
                answer.last_error()
            }
            _ => {
                assert_eq!(answer.json()["sluicegate"]["request_id"], *plan.id);
                let shed = matches!(answer.code().as_str(), "queue_full" | "request_dropped" | "queue_timeout");
                assert!(!shed || answer.header("retry-after").is_some(), "{answer:?}");
                answer.code()
            }
        };
        seen.end(&plan, &end);
        if answer.complete && answer.header("connection").is_none() && random.u8(..10) > 0 {
            kept = Some(client);
        } else if !answer.complete {
            assert!(client.is_closed(), "a stream that was cut ends its connection");
        }
    }
    seen
}

/// One caller through the library.
pub(crate) fn through_the_library(gateway: &Gateway, target: Target, caller: u64, until: Deadline) -> Seen {
    let mut random = Rng::with_seed(caller);
    let mut seen = Seen::default();
    while !until.passed() {
        let mut plan = Plan::draw(&mut random, target, caller, seen.sent);
        // A typed stream takes no time limit: what would not end without one is asked for whole.
        plan.stream &= plan.limit.is_none();
        seen.sent += 1;
        if plan.stream {
            match gateway.chat_stream(&ChatRequest::new(plan.model.as_str(), plan.id.as_str())) {
                Err(error) => seen.end(&plan, error.code().as_str()),
                Ok(mut stream) if plan.leaves.is_some() => {
                    let _ = stream.next();
                    seen.left += 1;
                }
                Ok(stream) => {
                    let last = stream.last().expect("an item");
                    seen.end(&plan, last.err().map_or("ok", |error| error.code().as_str()));
                }
            }
            continue;
        }
        let token = CancelToken::new();
        let options = CallOptions::new()
            .request_id(RequestId::from_client(&plan.id).expect("good"))
            .cancel(token.clone())
            .priority(if plan.is_batch { Priority::Batch } else { Priority::Interactive });
        let options = plan.limit.map_or_else(|| options.clone(), |limit| options.clone().deadline(limit));
        let result = std::thread::scope(|scope| {
            if let Some(patience) = plan.leaves {
                scope.spawn(move || {
                    std::thread::park_timeout(patience);
                    token.cancel();
                });
            }
            gateway.with(&options).raw(Operation::ChatCompletions, plan.body(&mut random).into_bytes())
        });
        match result {
            Ok(answer) => {
                if plan.model.contains("echo") {
                    let text = String::from_utf8(answer.body.into_vec()).expect("text");
                    assert!(text.contains(&plan.id), "an answer of somebody else: {text}");
                }
                seen.end(&plan, "ok");
            }
            Err(error) if error.code() == Code::ClientClosed => {
                assert!(plan.leaves.is_some(), "nobody left");
                seen.left += 1;
            }
            Err(error) => {
                assert_eq!(error.request_id().map(RequestId::as_str), Some(&*plan.id));
                seen.end(&plan, error.code().as_str());
            }
        }
    }
    seen
}
