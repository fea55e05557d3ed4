//! Providers that a program itself is: what they give, how they fail, when they are cancelled; behind the whole machinery.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use sluicegate::config::{Config, process_env};
use sluicegate::custom::{CallContext, ChunkIter, CustomProvider, ProviderError, ProviderVectors};
use sluicegate::error::Retry;
use sluicegate::front::Front;
use sluicegate::gateway::Builder;
use sluicegate::sync::CancelReason;
use sluicegate::time::Deadline;
use sluicegate::{
    BreakerSetup, ChatChunk, ChatRequest, Code, Concurrency, EmbedRequest, Gateway, KeySetup, Policy, ProviderReply,
    ProviderSetup, StartError,
};

use crate::client::Client;
use crate::house::{FUSE, code, eventually, ms, number, unrest};

type Chat = dyn Fn(&ChatRequest, &CallContext<'_>) -> Result<ProviderReply, ProviderError> + Send + Sync;
type Stream = dyn Fn(&ChatRequest, &CallContext<'_>) -> Result<ChunkIter, ProviderError> + Send + Sync;
type Models = dyn Fn() -> Result<Vec<String>, ProviderError> + Send + Sync;

/// A provider whose methods are a test's closures.
struct Played {
    chat: Box<Chat>,
    stream: Option<Box<Stream>>,
    models: Box<Models>,
}

impl Played {
    fn new(
        chat: impl Fn(&ChatRequest, &CallContext<'_>) -> Result<ProviderReply, ProviderError> + Send + Sync + 'static,
    ) -> Self {
        Self { chat: Box::new(chat), stream: None, models: Box::new(|| Ok(vec!["one".into(), "two".into()])) }
    }

    /// One that streams; asked for a whole answer it panics.
    fn streaming(
        stream: impl Fn(&ChatRequest, &CallContext<'_>) -> Result<ChunkIter, ProviderError> + Send + Sync + 'static,
    ) -> Self {
        Self { stream: Some(Box::new(stream)), ..Self::new(|_, _| panic!("nobody asks for a whole answer")) }
    }

    fn with_models(self, models: impl Fn() -> Result<Vec<String>, ProviderError> + Send + Sync + 'static) -> Self {
        Self { models: Box::new(models), ..self }
    }
}

impl CustomProvider for Played {
    fn chat(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
        (self.chat)(request, context)
    }

    fn chat_stream(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ChunkIter, ProviderError> {
        self.stream.as_ref().expect("nobody asks for a stream")(request, context)
    }

    fn models(&self) -> Result<Vec<String>, ProviderError> {
        (self.models)()
    }
}

/// The default of the trait, asked for by one that says nothing of streams.
struct Plain(Played);

impl CustomProvider for Plain {
    fn chat(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
        self.0.chat(request, context)
    }

    fn embed(&self, request: &EmbedRequest, _: &CallContext<'_>) -> Result<ProviderVectors, ProviderError> {
        let short = request.extra.get("short").is_some();
        let texts = request.input.iter().skip(usize::from(short));
        Ok(ProviderVectors::new(texts.map(|text| vec![text.len() as f32, 0.5]).collect()).with_usage(4))
    }
}

/// A gateway of `provider` under the name `p`, whose failures are seen at once and each time.
fn gateway(setup: ProviderSetup, provider: impl CustomProvider) -> Gateway {
    builder(setup, provider).build().unwrap_or_else(|error| panic!("{error}"))
}

fn builder(setup: ProviderSetup, provider: impl CustomProvider) -> Builder {
    Gateway::builder().provider(setup).custom_provider("p", provider)
}

fn p() -> ProviderSetup {
    let setup = ProviderSetup::custom("p").concurrency(Concurrency::fixed(1)).max_retries(0);
    setup.breaker(BreakerSetup::off()).check_on_start(false).health_interval(Duration::ZERO)
}

/// A provider that waits for the test at each request: what arrives, and how it goes on.
fn gated() -> (Played, Receiver<()>, Sender<()>) {
    let ((arrive, arrived), (go, going)) = (bounded(16), bounded::<()>(16));
    let chat = move |_: &ChatRequest, context: &CallContext<'_>| {
        let _ = arrive.send(());
        crossbeam_channel::select! {
            recv(going) -> _ => Ok(ProviderReply::text("went on")),
            recv(context.cancel().channel()) -> _ => Err(ProviderError::new(499, "cancelled")),
            default(FUSE) => panic!("nobody lets it go on"),
        }
    };
    (Played::new(chat), arrived, go)
}

fn stats(gateway: &Gateway) -> Value {
    serde_json::to_value(gateway.stats()).expect("JSON")
}

fn at_rest(gateway: &Gateway) -> Value {
    eventually("it is at rest", || unrest(&stats(gateway)).is_none());
    stats(gateway)
}

fn text(gateway: &Gateway, request: &ChatRequest) -> sluicegate::Result<String> {
    gateway.chat_stream(request)?.map(|chunk| chunk.map(|chunk| chunk.text().to_owned())).collect()
}

#[test]
fn it_gets_a_request_typed_and_its_answer_comes_whole_and_streamed() {
    let chat = |request: &ChatRequest, context: &CallContext<'_>| {
        assert_eq!((request.model.as_str(), context.model()), ("m/x", "m/x"));
        assert_eq!((&request.extra["temperature"], request.extra.len()), (&json!(0.5), 1), "{:?}", request.extra);
        assert!(context.remaining() > Duration::ZERO && !context.is_cancelled());
        assert!(context.request_id().is_some_and(|id| id.as_str().starts_with("req_")));
        Ok(ProviderReply::text(format!("you said {}", request.messages[0].text())).with_usage(3, 4))
    };
    let gateway = gateway(p(), Plain(Played::new(chat)));
    let request = ChatRequest::new("p/m/x", "hi").with("temperature", 0.5);
    let reply = gateway.chat(&request).expect("an answer");
    assert_eq!((reply.text(), reply.finish_reason()), ("you said hi", Some("stop")));
    assert_eq!(reply.usage.map(|usage| (usage.input, usage.output)), Some((3, 4)));
    assert_eq!((&reply.raw["object"], &reply.raw["model"]), (&json!("chat.completion"), &json!("m/x")));
    assert_eq!(text(&gateway, &request).expect("a stream"), "you said hi");
    let stats = at_rest(&gateway);
    assert_eq!(number(&stats, "/providers/p/jobs/tokens_in_total"), 6);
    assert_eq!(number(&stats, "/providers/p/jobs/succeeded_total"), 2);
}

#[test]
fn its_failures_are_judged_as_any_providers() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let chat = move |request: &ChatRequest, _: &CallContext<'_>| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        match request.model.as_str() {
            "once" if call == 0 => Err(ProviderError::new(503, "not yet")),
            "once" => Ok(ProviderReply::text("now")),
            "wrong" => Err(ProviderError::new(400, "too hot").with_code("bad_temperature")),
            "limited" => Err(ProviderError::new(429, "slow down").with_retry_after(Duration::from_secs(7))),
            _ => Ok(ProviderReply::text("x".parse::<u8>()?.to_string())),
        }
    };
    let setup =
        p().max_retries(1).retry_backoff(ms(1), ms(1)).retry_after_patience(Duration::ZERO).key(KeySetup::new("k"));
    let gateway = gateway(setup, Played::new(chat));
    assert_eq!(gateway.ask("p/once", "x").expect("the second try"), "now");
    let failed = |model: &str| {
        calls.store(0, Ordering::SeqCst);
        let error = gateway.ask(&format!("p/{model}"), "x").expect_err("it fails");
        (error, calls.load(Ordering::SeqCst))
    };
    let (error, tries) = failed("wrong");
    assert_eq!((error.code(), error.status(), tries), (Code::UpstreamError, 400, 1));
    assert_eq!(error.upstream_answer().and_then(|answer| answer.code.as_deref()), Some("bad_temperature"));
    let (error, tries) = failed("broken");
    assert_eq!((error.status(), error.message(), tries), (500, "invalid digit found in string", 2));
    let (error, _) = failed("limited");
    assert_eq!((error.status(), error.retry()), (429, Retry::After(Duration::from_secs(7))));
    let rested = gateway.ask("p/limited", "x").expect_err("its key rests");
    assert_eq!((rested.code(), calls.load(Ordering::SeqCst)), (Code::RateLimited, 1), "it was not asked again");
    at_rest(&gateway);
}

#[test]
fn its_breaker_opens_and_a_fallback_answers_for_it() {
    let chat = |_: &ChatRequest, _: &CallContext<'_>| Err(ProviderError::new(500, "down"));
    let setup = p().breaker(BreakerSetup::default().consecutive_failures(2).open_for(FUSE));
    let gateway = builder(setup, Played::new(chat)).provider(ProviderSetup::sim("sim")).build().expect("it starts");
    let request = ChatRequest::new("p/m", "hi").with_fallback("sim/echo");
    for _ in 0..3 {
        assert_eq!(gateway.chat(&request).expect("the fallback").text(), "hi");
    }
    assert_eq!(code(&gateway.ask("p/m", "hi")), Code::CircuitOpen);
    let stats = at_rest(&gateway);
    assert_eq!(number(&stats, "/providers/p/jobs/failed_total"), 2);
}

#[test]
fn a_panic_fails_its_request_and_no_other() {
    let chat = |request: &ChatRequest, _: &CallContext<'_>| match request.model.as_str() {
        "panic" => panic!("as the test wants"),
        _ => Ok(ProviderReply::text("fine")),
    };
    let gateway = gateway(p(), Played::new(chat).with_models(|| panic!("as the test wants")));
    assert_eq!(code(&gateway.ask("p/panic", "x")), Code::Internal);
    assert_eq!(gateway.ask("p/m", "x").expect("another worker"), "fine");
    assert!(gateway.models().is_empty());
    let stats = at_rest(&gateway);
    assert_eq!(number(&stats, "/providers/p/workers/panics_total"), 1);
}

#[test]
fn a_panic_in_the_middle_of_a_stream_is_told_and_the_next_is_served() {
    let stream = |request: &ChatRequest, _: &CallContext<'_>| {
        let bad = request.model == "panic";
        let words = (0..2).map(move |n| {
            assert!(!bad || n == 0, "as the test wants");
            Ok(ChatChunk::from_text("word "))
        });
        Ok(Box::new(words) as ChunkIter)
    };
    let gateway = gateway(p(), Played::streaming(stream));
    let mut chunks = gateway.chat_stream(&ChatRequest::new("p/panic", "x")).expect("it begins");
    assert_eq!(chunks.next().expect("an event").expect("good").text(), "word ");
    assert_eq!(chunks.next().expect("an end").expect_err("it panicked").code(), Code::Internal);
    assert_eq!(text(&gateway, &ChatRequest::new("p/m", "x")).expect("a stream"), "word word ");
    at_rest(&gateway);
}

#[test]
fn requests_wait_in_its_queue_and_are_refused_by_its_policy() {
    let (provider, arrived, go) = gated();
    let gateway = gateway(p().buffer_size(1).policy(Policy::Error).wait_timeout(FUSE), provider);
    std::thread::scope(|scope| {
        let ask = || gateway.ask("p/m", "x");
        let first = scope.spawn(ask);
        arrived.recv_timeout(FUSE).expect("it runs");
        let second = scope.spawn(ask);
        eventually("the second waits", || number(&stats(&gateway), "/providers/p/queue/depth") == 1);
        assert_eq!(code(&ask()), Code::QueueFull);
        go.send(()).expect("open");
        go.send(()).expect("open");
        for waited in [first, second] {
            assert_eq!(waited.join().expect("no panic").expect("an answer"), "went on");
        }
    });
    at_rest(&gateway);
}

#[test]
fn a_request_that_nobody_waits_for_is_cancelled_in_the_provider() {
    let (told, hears) = bounded(1);
    let stream = move |_: &ChatRequest, context: &CallContext<'_>| {
        let (cancel, told) = (context.cancel().clone(), told.clone());
        let endless = std::iter::once(Ok(ChatChunk::from_text("first"))).chain(std::iter::from_fn(move || {
            let _ = cancel.channel().recv_timeout(FUSE);
            let _ = told.send(cancel.reason());
            Some(Ok(ChatChunk::from_text("never read")))
        }));
        Ok(Box::new(endless) as ChunkIter)
    };
    let gateway = gateway(p(), Played::streaming(stream));
    let mut chunks = gateway.chat_stream(&ChatRequest::new("p/m", "x")).expect("it begins");
    assert_eq!(chunks.next().expect("an event").expect("good").text(), "first");
    drop(chunks);
    assert_eq!(hears.recv_timeout(FUSE).expect("it hears"), Some(CancelReason::Caller));
    let stats = at_rest(&gateway);
    assert_eq!(number(&stats, "/requests/cancelled_total"), 1);
}

#[test]
fn the_end_of_the_gateway_reaches_a_provider_that_waits() {
    let (provider, arrived, _go) = gated();
    let gateway = gateway(p(), provider);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.ask("p/m", "x"));
        arrived.recv_timeout(FUSE).expect("it runs");
        let report = gateway.shutdown(Duration::ZERO);
        assert_eq!((report.cut, report.stragglers.len()), (1, 0));
        assert_eq!(code(&asked.join().expect("no panic")), Code::ShuttingDown);
    });
}

#[test]
fn what_comes_too_late_is_a_time_out_and_counts_as_one() {
    let chat = |_: &ChatRequest, context: &CallContext<'_>| {
        // A provider that looks at nothing.
        let (_open, never) = bounded::<()>(0);
        let _ = never.recv_timeout(context.remaining() + ms(1));
        Ok(ProviderReply::text("late"))
    };
    let gateway = gateway(p().request_timeout(ms(30)), Played::new(chat));
    let error = gateway.ask("p/m", "x").expect_err("too late");
    assert_eq!(error.code(), Code::UpstreamTimeout);
    assert!(error.message().contains("within 30ms"), "{error}");
    let stats = at_rest(&gateway);
    assert_eq!(number(&stats, "/providers/p/jobs/timed_out_total"), 1);
}

#[test]
fn a_stream_that_is_silent_for_too_long_fails_as_any_does() {
    let stream = |_: &ChatRequest, _: &CallContext<'_>| {
        let words = (0..2).map(|n| {
            let (_open, never) = bounded::<()>(0);
            let _ = never.recv_timeout(ms(60 * n));
            Ok(ChatChunk::from_text("word"))
        });
        Ok(Box::new(words) as ChunkIter)
    };
    let gateway = gateway(p().stream_idle_timeout(ms(20)), Played::streaming(stream));
    let mut chunks = gateway.chat_stream(&ChatRequest::new("p/m", "x")).expect("it begins");
    assert_eq!(chunks.next().expect("an event").expect("good").text(), "word");
    assert_eq!(chunks.next().expect("an end").expect_err("silent").code(), Code::StreamIdleTimeout);
    at_rest(&gateway);
}

#[test]
fn what_a_stream_fails_by_before_its_first_event_is_tried_again_and_later_ends_it() {
    let calls = AtomicUsize::new(0);
    let stream = move |request: &ChatRequest, _: &CallContext<'_>| {
        let failed = || Err(ProviderError::new(503, "broken"));
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let events = match request.model.as_str() {
            "at-once" if first => vec![failed()],
            "later" => vec![Ok(ChatChunk::from_text("a")), failed()],
            _ => vec![Ok(ChatChunk::from_text("good"))],
        };
        Ok(Box::new(events.into_iter()) as ChunkIter)
    };
    let gateway = gateway(p().max_retries(1).retry_backoff(ms(1), ms(1)), Played::streaming(stream));
    assert_eq!(text(&gateway, &ChatRequest::new("p/at-once", "x")).expect("the second try"), "good");
    let mut chunks = gateway.chat_stream(&ChatRequest::new("p/later", "x")).expect("it begins");
    assert_eq!(chunks.next().expect("an event").expect("good").text(), "a");
    let error = chunks.next().expect("an end").expect_err("it broke");
    assert_eq!((error.code(), error.message()), (Code::UpstreamError, "broken"));
    at_rest(&gateway);
}

#[test]
fn it_is_asked_with_the_keys_of_its_configuration() {
    let chat = |_: &ChatRequest, context: &CallContext<'_>| {
        let key = context.key().ok_or_else(|| ProviderError::new(400, "without a key"))?;
        assert!(!format!("{context:?}").contains("Bearer sk-own"), "no key is printed");
        Ok(ProviderReply::text(key.expose().replace("Bearer ", "no ")))
    };
    let gateway = gateway(p().key(KeySetup::new("env.Bearer sk-own")), Played::new(chat));
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "env.no sk-own");
}

#[test]
fn it_is_looked_after_by_its_list_of_models_and_never_by_a_completion() {
    let there = Arc::new(AtomicUsize::new(0));
    let looked = Arc::clone(&there);
    let models = move || match looked.load(Ordering::SeqCst) {
        0 => Err(ProviderError::new(503, "away")),
        _ => Ok(vec!["m".to_owned()]),
    };
    let played = Played::new(|_, _| panic!("a check asks for no completion")).with_models(models);
    let setup = p().check_on_start(true).health_interval(ms(20));
    let gateway = gateway(setup, played);
    let state = || stats(&gateway)["providers"]["p"]["health"]["state"].clone();
    assert_eq!(state(), "unhealthy");
    assert!(!gateway.is_ready() && gateway.models().is_empty());
    there.store(1, Ordering::SeqCst);
    eventually("it is there", || state() == "healthy" && gateway.is_ready());
    assert_eq!(gateway.models()[0].to_string(), "p/m");
    assert_eq!(gateway.model("p/m").map(|model| model.model), Some("m".to_owned()));
}

#[test]
fn a_reload_gives_it_other_settings_and_refuses_one_that_nobody_is() {
    let read = |document: Value| Config::from_json(&document.to_string(), &process_env).expect("good");
    let custom = |retries: u32| {
        read(json!({ "providers": { "p": { "kind": "custom", "network_config": { "max_retries": retries } } } }))
    };
    let shared = Arc::new(Played::new(|_, _| Ok(ProviderReply::text("still me"))));
    let gateway = Gateway::builder().config(custom(0)).custom_provider("p", shared).build().expect("it starts");
    let changes = gateway.reload(custom(3)).expect("good");
    assert_eq!(changes.providers.changed[0].name, "p");
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "still me");
    let error = gateway.reload(read(json!({ "providers": { "q": { "kind": "custom" } } }))).expect_err("nobody is q");
    assert!(error.to_string().contains("providers.q.kind: no program has registered"), "{error}");
    let taken = read(json!({ "providers": { "p": { "kind": "sim" } } }));
    let error = gateway.reload(taken.clone()).expect_err("it is the program's name");
    assert!(error.to_string().contains("providers.p.kind: the program has registered"), "{error}");
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "still me");
    let refused = Gateway::builder().config(taken).custom_provider("p", Played::new(|_, _| panic!())).build();
    assert!(matches!(refused, Err(StartError::Config(_))));
}

#[test]
fn over_http_it_is_a_provider_like_any_other() {
    let played = Played::new(|_, _| Ok(ProviderReply::text("over the wire").with_usage(1, 2)));
    let gateway = Gateway::builder().provider(p()).custom_provider("p", Plain(played)).build().expect("it starts");
    let named = Gateway::builder()
        .custom_provider("q", Played::new(|_, _| Ok(ProviderReply::text("x"))))
        .build()
        .expect("it starts");
    let listen = || "127.0.0.1:0".parse().expect("an address");
    let front = Front::start(&gateway, listen()).expect("it listens");
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        Client::connect(front.addr()).send(head + &body).answer()
    };
    let messages = json!([{ "role": "user", "content": "x" }]);
    let whole = post("/v1/chat/completions", json!({ "model": "p/m", "messages": messages }));
    assert!(whole.status == 200 && whole.text().contains("over the wire"), "{whole:?}");
    let streamed = post("/v1/chat/completions", json!({ "model": "p/m", "messages": messages, "stream": true }));
    assert!(streamed.complete && streamed.text().ends_with("data: [DONE]\n\n"), "{streamed:?}");
    assert!(streamed.text().contains("\"role\":\"assistant\"") && !streamed.text().contains("usage"), "{streamed:?}");
    let options = json!({ "include_usage": true });
    let counted = json!({ "model": "p/m", "messages": messages, "stream": true, "stream_options": options });
    assert!(post("/v1/chat/completions", counted).text().contains("\"completion_tokens\":2"));

    let vectors = gateway.embed(&EmbedRequest::new("p/m", ["a", "abc"])).expect("vectors");
    assert_eq!(
        (&*vectors.vectors, vectors.usage.map(|usage| usage.input)),
        (&[vec![1.0, 0.5], vec![3.0, 0.5]][..], Some(4))
    );
    let single = post("/v1/embeddings", json!({ "model": "p/m", "input": "ab" }));
    assert!(single.status == 200 && single.text().contains("[2.0,0.5]"), "{single:?}");
    let short = post("/v1/embeddings", json!({ "model": "p/m", "input": ["a"], "short": true }));
    assert!(short.status == 500 && short.text().contains("0 vectors for 1 texts"), "{short:?}");

    for (path, body) in [
        ("/v1/completions", json!({ "model": "p/m", "prompt": "x" })),
        ("/v1/responses", json!({ "model": "p/m", "input": "x" })),
    ] {
        let answer = post(path, body);
        assert!(answer.status == 400 && answer.text().contains("\"code\":\"unsupported\""), "{path}: {answer:?}");
    }
    let unreadable = post("/v1/chat/completions", json!({ "model": "p/m", "messages": [{ "content": 5 }] }));
    assert_eq!(unreadable.status, 400, "{unreadable:?}");
    assert!(front.shutdown(Deadline::after(FUSE)).is_empty());

    let front = Front::start(&named, listen()).expect("it listens");
    let models = Client::connect(front.addr()).get("/v1/models");
    assert!(models.text().contains("\"q/one\"") && models.text().contains("\"q/two\""), "{models:?}");
    let body = json!({ "model": "q/m", "input": "x" }).to_string();
    let head = format!("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let none = Client::connect(front.addr()).send(head + &body).answer();
    assert!(none.status == 400 && none.text().contains("\"code\":\"unsupported\""), "{none:?}");
    assert!(front.shutdown(Deadline::after(FUSE)).is_empty());
}

/// Panics when it is dropped.
struct Brittle;

impl Drop for Brittle {
    fn drop(&mut self) {
        panic!("as the test wants, at the drop");
    }
}

#[test]
fn a_stream_that_panics_when_it_is_dropped_too_costs_its_request_alone() {
    let stream = |request: &ChatRequest, _: &CallContext<'_>| {
        let (brittle, bad) = (Brittle, request.model == "panic");
        let words = (0..2).map(move |n| {
            let _kept = &brittle;
            assert!(!bad, "as the test wants");
            Ok(ChatChunk::from_text(format!("{n} ")))
        });
        Ok(Box::new(words) as ChunkIter)
    };
    let gateway = gateway(p(), Played::streaming(stream));
    assert_eq!(gateway.chat_stream(&ChatRequest::new("p/panic", "x")).expect_err("it panics").code(), Code::Internal);
    assert_eq!(text(&gateway, &ChatRequest::new("p/m", "x")).expect("a stream"), "0 1 ");
    drop(gateway.chat_stream(&ChatRequest::new("p/m", "x")).expect("it begins"));
    let stats = at_rest(&gateway);
    assert_eq!(number(&stats, "/requests/received_total"), 3);
}

/// What a panic carries is the provider's own, too.
#[test]
fn a_panic_that_panics_when_it_is_dropped_costs_its_request_alone() {
    let chat = |request: &ChatRequest, _: &CallContext<'_>| {
        if request.model == "panic" {
            std::panic::panic_any(Brittle);
        }
        Ok(ProviderReply::text("fine"))
    };
    let mut played = Played::new(chat);
    played.models = Box::new(|| std::panic::panic_any(Brittle));
    let gateway = gateway(p(), played);
    for round in 1..=3 {
        assert_eq!(code(&gateway.ask("p/panic", "x")), Code::Internal);
        assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "fine");
        let stats = at_rest(&gateway);
        assert_eq!(number(&stats, "/providers/p/workers/panics_total"), round);
        let told = gateway.events().list().into_iter().filter(|event| event.kind == "panic").count();
        assert_eq!(told as u64, round, "its worker has ended in order each time");
    }
    assert!(gateway.models().is_empty());
}

#[test]
fn providers_that_panic_when_they_are_dropped_do_not_keep_the_gateway_from_its_end() {
    struct Frail(Brittle);
    impl CustomProvider for Frail {
        fn chat(&self, _: &ChatRequest, _: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
            let Self(Brittle) = self;
            Ok(ProviderReply::text("fine"))
        }
    }
    let builder = builder(p(), Frail(Brittle)).provider(ProviderSetup::custom("q").check_on_start(false));
    let gateway = builder.custom_provider("q", Frail(Brittle)).build().expect("good");
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "fine");
    drop(gateway);
}

#[test]
fn a_stream_that_has_ended_is_not_asked_again() {
    let stream = |_: &ChatRequest, _: &CallContext<'_>| {
        let mut asked = 0;
        let none = std::iter::from_fn(move || {
            asked += 1;
            (asked > 1).then(|| Ok(ChatChunk::from_text("more")))
        });
        Ok(Box::new(none.take(5)) as ChunkIter)
    };
    let gateway = gateway(p(), Played::streaming(stream));
    assert_eq!(text(&gateway, &ChatRequest::new("p/m", "x")).expect("an empty stream"), "");
}
