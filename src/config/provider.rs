//! `providers.NAME`: how one provider is reached, how many work for it, and how jobs wait.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::azure::{self, Resource};
use super::base_url::{self, BaseUrl};
#[cfg(feature = "bedrock")]
use super::bedrock;
use super::kinds::{
    Certificates, Choice, Count, ElseAuto, Flag, Limits as _, Maybe, Number, Parsed, Span, Text, Url, millis, secs,
};
use super::known;
use super::near::nearest;
use super::raw::join;
use super::section::{Section, asks_nothing};
use super::server::required_value;
use super::types::{
    AwsKey, Breaker, Client, Health, Key, KeyHeader, KeyModels, Kind, Network, Offer, Optimization, Policy, Provider,
    Queue, RateLimit, RateLimits, Retries, Scaling, Sizing, StreamGarbage, StreamRecovery, ThreadLimits,
};
use super::well_known::{self, WellKnown, well_known};
use crate::secret::{REDACTED, Secret};
use crate::time::Backoff;

/// The most workers where the thread limit is the machine's: what `pid_max` is on most of them.
const MOST_WORKERS: usize = 32_768;

/// The most workers that `"auto"` comes to: the lanes are as deep as they may become from the start, and 1024 workers with
/// three places each take a quarter of a megabyte.
const MOST_AUTO: usize = 1024;

/// The most keys of one provider: each is looked at when one is chosen.
const MOST_KEYS: usize = 256;

/// The fewest workers by default.
const FEWEST: usize = 10;

/// The most requests or tokens a minute that a limit may be.
const MOST_A_MINUTE: usize = 1_000_000_000;

/// The longest that a time-out may be: a day.
const DAY: u64 = 86_400;

/// Headers that are the transport's own business.
const RESERVED_HEADERS: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The words for how a provider is spoken to.
pub(super) const KINDS: &[(&str, Kind)] = &[
    ("openai", Kind::OpenAi),
    ("anthropic", Kind::Anthropic),
    #[cfg(feature = "bedrock")]
    ("bedrock", Kind::Bedrock),
    ("sim", Kind::Sim),
    ("custom", Kind::Custom),
];

/// What of them this build has not.
const KINDS_WITHOUT: &[(&str, &str)] = &[
    #[cfg(not(feature = "bedrock"))]
    ("bedrock", "kind \"bedrock\" needs the cargo feature `bedrock`, which"),
];

/// The words for what becomes of a stream that fails.
pub(super) const STREAM_RECOVERIES: &[(&str, StreamRecovery)] =
    &[("off", StreamRecovery::Off), ("buffer", StreamRecovery::Buffer)];

/// The words for what becomes of an event that is no JSON.
pub(super) const STREAM_GARBAGE: &[(&str, StreamGarbage)] =
    &[("skip", StreamGarbage::Skip), ("fail", StreamGarbage::Fail)];

/// Keys of `network_config` that say where a provider is and how it is reached: one that the program itself has is nowhere.
const OF_CONNECTIONS: [&str; 3] = ["base_url", "extra_headers", "ca_cert_pem"];

/// The word for `value`.
pub(super) fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

/// What a provider's section needs to know of the others.
pub(super) struct Around<'a> {
    pub(super) client: &'a Client,
    pub(super) threads: &'a ThreadLimits,
}

/// Why a provider of a file of Bifrost's is left out, if it is: there is none of its name here, or no key that it could be sent.
pub(super) fn left_out(name: &str, raw: &Value) -> Option<&'static str> {
    if raw.get("kind").is_some() {
        return None;
    }
    let custom = raw.get("custom_provider_config").is_some() && well_known(name).is_none();
    if known::is_others(name) || custom {
        return Some("there is no such provider here; it is left out (or write \"kind\": \"openai\" and its base_url)");
    }
    let keys = raw.get("keys").and_then(Value::as_array).filter(|keys| name == "azure" && !keys.is_empty())?;
    let is_keyless = |key: &Value| key.get("value").is_none_or(|value| value.is_null() || value == "");
    keys.iter().all(is_keyless).then_some("it has no key, and Microsoft Entra ID is not supported; it is left out")
}

/// Whether a text can name a provider: it is what stands before the first `/` of a model's name.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if fits { Ok(()) } else { Err("a provider's name is 1 to 64 printable ASCII characters without spaces or \"/\"") }
}

/// Reads one provider. `None` if its kind cannot be told, which is a problem noted.
pub(super) fn provider(name: &str, s: &mut Section<'_>, around: &Around<'_>) -> Option<Provider> {
    let kind = kind(name, s);
    // What is known of a name holds for what it usually is.
    let well_known = well_known(name).filter(|known| kind == Some(known.kind));
    let has_base_url =
        s.object_at("network_config").is_some_and(|o| o.get("base_url").is_some_and(|url| !url.is_null()));
    let Keys { keys, region, of_azure } = keys(s, kind, well_known, has_base_url);
    let is_azure = well_known.is_some_and(|known| known.key_header == azure::KEY_HEADER) || !of_azure.is_empty();
    if is_azure && kind.is_some_and(|kind| kind != Kind::OpenAi) {
        s.problem("keys", "azure_key_config is for a provider of kind \"openai\"");
    }
    let mut resource = is_azure.then(|| Resource::of(of_azure.into_iter(), s));
    let key_header = match (&resource, well_known) {
        (Some(_), _) => azure::KEY_HEADER,
        (None, Some(known)) => known.key_header,
        (None, None) => KeyHeader::of(kind.unwrap_or(Kind::OpenAi)),
    };
    let key_in = (!keys.is_empty()).then_some(key_header.name);
    let places = (resource.as_ref(), address(s, kind, region.as_deref()));
    let network = s.section("network_config", |s| network(s, kind, name, well_known, places, key_in));
    let region = network.as_ref().and_then(|network| self::region(s, kind, region, &network.base_url));
    let sizes = s.section("concurrency_and_buffer_size", |s| sizes(s, around.threads));
    let queue = s.section("queue", |s| queue(s, around.client));
    let scaling = s.section("scaling", scaling);
    let optimization = s.section("optimization", optimization);
    let breaker = s.section("breaker", breaker);
    let health = s.section("health", |s| health(s, kind));
    let rate_limit =
        s.section("rate_limit", |s| RateLimits { all: rate_limit(s), models: s.each("models", rate_limit) });
    let stream_recovery =
        s.get("stream_recovery", Choice { built: STREAM_RECOVERIES, unbuilt: &[], default: Some(StreamRecovery::Off) });
    let stream_garbage =
        s.get("stream_garbage", Choice { built: STREAM_GARBAGE, unbuilt: &[], default: Some(StreamGarbage::Skip) });
    let early_keepalive = s.get("early_keepalive", Flag(false));
    s.foreign(known::PROVIDER);
    Some(Provider {
        name: name.to_owned(),
        kind: kind?,
        keys,
        key_header,
        models: well_known.map_or(&[], |known| known.models),
        offer: well_known.map_or(Offer::UNSAID, |known| known.offer),
        deployments: resource.as_mut().map(Resource::take_deployments).unwrap_or_default(),
        network: network?,
        region,
        concurrency: sizes.concurrency,
        min_concurrency: sizes.min_concurrency,
        buffer_size: sizes.buffer_size,
        sizing: sizes.sizing,
        scaling,
        optimization,
        rate_limit,
        result_buffer: sizes.result_buffer,
        queue,
        breaker,
        health,
        stream_recovery: stream_recovery.unwrap_or(StreamRecovery::Off),
        stream_garbage: stream_garbage.unwrap_or(StreamGarbage::Skip),
        early_keepalive,
        effective: Value::Null,
    })
}

/// The kind as written, else as the name says.
fn kind(name: &str, s: &mut Section<'_>) -> Option<Kind> {
    let words = Choice { built: KINDS, unbuilt: KINDS_WITHOUT, default: None };
    let written = s.raw("kind").is_some_and(|value| !value.is_null());
    let kind = s.get("kind", words);
    if kind.is_some() || written {
        return kind;
    }
    let kind = match name {
        "sim" => Some(Kind::Sim),
        _ if let Some(known) = well_known(name) => Some(known.kind),
        _ if known::UNBUILT_KINDS.iter().any(|(unbuilt, _)| *unbuilt == name) => {
            let text = format!(
                "a provider of kind {name:?} needs the cargo feature `{name}`, which is not built in; leave it out"
            );
            s.problem("kind", text);
            None
        }
        _ => {
            let near = nearest(name, well_known::WELL_KNOWN.iter().map(|known| known.name)).unwrap_or_default();
            let message = format!(
                "{name:?} is no provider known by name; write \"kind\": \"openai\" and a base_url (nearest name: {near:?})"
            );
            s.problem("kind", message);
            None
        }
    };
    s.show("kind", kind.map_or(Value::Null, |kind| word_of(KINDS, kind).into()));
    kind
}

/// The keys of a provider.
#[derive(Default)]
struct Keys {
    keys: Vec<Key>,
    /// The region that they are for, where they name one.
    region: Option<String>,
    /// What they say of Azure.
    of_azure: Vec<azure::OfKey>,
}

/// The keys as written; else, for a provider at its built-in address, the one of its environment variable: a key found
/// by its name never goes to an address that somebody else wrote.
fn keys(s: &mut Section<'_>, kind: Option<Kind>, well_known: Option<&WellKnown>, has_base_url: bool) -> Keys {
    let read = |index: usize, s: &mut Section<'_>| key(index, s, kind);
    if let Some(found) = s.list("keys", read) {
        if found.len() > MOST_KEYS {
            s.problem("keys", format!("there are {}; a provider has at most {MOST_KEYS}", found.len()));
        }
        let (mut keys, mut regions, mut of_azure) = (Vec::new(), Vec::new(), Vec::new());
        for (key, region, azure) in found.into_iter().take(MOST_KEYS) {
            keys.extend(key);
            regions.extend(region);
            of_azure.extend(azure);
        }
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.name == key.name) {
                let message =
                    format!("two keys have the name {:?}; names tell them apart in logs and figures", key.name);
                s.problem("keys", message);
            }
            // Nothing goes wrong by it, but one 429 would cool half of what is one key, and the other half would ask again.
            if let Some(other) = keys[..index].iter().find(|other| other.value == key.value) {
                let message = format!("{:?} and {:?} have the same value; write it once", other.name, key.name);
                s.warn("keys", &message);
            }
        }
        regions.dedup();
        if let [one, other, ..] = regions.as_slice() {
            s.problem(
                "keys",
                format!("they are of the regions {one:?} and {other:?}; write a provider for each region"),
            );
        }
        return Keys { keys, region: regions.pop(), of_azure };
    }
    let none = Keys::default();
    if has_base_url {
        return none;
    }
    #[cfg(feature = "bedrock")]
    if kind == Some(Kind::Bedrock) {
        let Some((document, _)) = bedrock::of_environment(|variable| s.walk().is_set(variable)) else {
            s.problem("keys", bedrock::NO_KEY);
            return none;
        };
        let ((key, region, _), shown) =
            Section::read(s.walk(), s.path_of("keys[0]"), Some(&document), |s| key(0, s, kind));
        s.show("keys", json!([shown.effective]));
        return Keys { keys: key.into_iter().collect(), region, ..none };
    }
    let Some(variable) = well_known.and_then(|known| known.key_variable) else { return none };
    if !s.walk().is_set(variable) {
        s.problem("keys", format!("there is none; set the environment variable {variable}, or write keys"));
        return none;
    }
    let value = s.walk().secret(s.path_of("keys"), &format!("env.{variable}").into());
    s.show("keys", json!([{"name": variable, "value": REDACTED, "models": ["*"], "weight": 1.0}]));
    let named = |value| Key {
        name: variable.to_owned(),
        value,
        aws: None,
        weight: 1.0,
        models: KeyModels::Any,
        rate_limit: RateLimit::default(),
    };
    Keys { keys: value.into_iter().map(named).collect(), ..none }
}

/// One key, the region that it is for if it names one, and what it says of Azure.
fn key(index: usize, s: &mut Section<'_>, kind: Option<Kind>) -> (Option<Key>, Option<String>, Option<azure::OfKey>) {
    let name = s.get("name", Text(format!("key-{}", index + 1)));
    let (value, aws, region) = credential(s, kind);
    let models = key_models(s);
    let weight = s.get("weight", Number(1.0).hard(0.0, 1e9));
    let rate_limit = s.section("rate_limit", rate_limit);
    let of_azure = azure::of_key(s);
    s.foreign(known::KEY);
    (value.map(|value| Key { name, value, aws, weight, models, rate_limit }), region, of_azure)
}

/// What a key is sent as. Bedrock's may sign.
#[cfg_attr(not(feature = "bedrock"), expect(unused_variables, reason = "no other kind differs"))]
fn credential(s: &mut Section<'_>, kind: Option<Kind>) -> (Option<Secret>, Option<AwsKey>, Option<String>) {
    #[cfg(feature = "bedrock")]
    if kind == Some(Kind::Bedrock) || s.walk().is_describing() {
        let bedrock::Credential { value, aws, region } = bedrock::credential(s);
        return (value, aws, region);
    }
    s.foreign(known::KEY_OF_BEDROCK);
    (required_value(s), None, None)
}

/// Where a provider lives whose address depends on what its keys are for.
#[cfg_attr(not(feature = "bedrock"), expect(unused_variables, reason = "there is none"))]
fn address(s: &Section<'_>, kind: Option<Kind>, region: Option<&str>) -> Option<String> {
    #[cfg(feature = "bedrock")]
    if kind == Some(Kind::Bedrock) {
        let usual = || bedrock::usual_region(s.walk());
        return Some(bedrock::address(&region.map_or_else(usual, str::to_owned)));
    }
    None
}

/// The region that requests are signed for: that of the keys, of the address, or of the environment.
#[cfg_attr(not(feature = "bedrock"), expect(unused_variables, reason = "nothing signs"))]
fn region(s: &Section<'_>, kind: Option<Kind>, of_keys: Option<String>, base_url: &str) -> Option<String> {
    #[cfg(feature = "bedrock")]
    if kind == Some(Kind::Bedrock) {
        let named = of_keys.or_else(|| bedrock::region_of(base_url));
        return Some(named.unwrap_or_else(|| bedrock::usual_region(s.walk())));
    }
    None
}

/// The name of a model as its provider knows it, or `*` for any.
const MODEL: Parsed<String> = Parsed(|text| {
    // A pattern within a name would be taken for the name itself, and fit nothing.
    let fits = text == "*" || !(text.is_empty() || text.contains('*') || text.contains(char::is_control));
    if fits { Ok(text.to_owned()) } else { Err("a model's name as the provider knows it, or \"*\" for any".into()) }
});

/// The models that a key is for.
fn key_models(s: &mut Section<'_>) -> KeyModels {
    let Some(mut models) = s.texts("models", &MODEL, &json!(["*"])) else { return KeyModels::Any };
    if models.is_empty() {
        if s.raw("models").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            s.warn("models", "an empty list is taken as [\"*\"]: any model");
        }
        s.show("models", json!(["*"]));
    }
    let mut seen = BTreeSet::new();
    models.retain(|model| seen.insert(model.clone()));
    let any = models.is_empty() || models.iter().any(|model| model == "*");
    if any { KeyModels::Any } else { KeyModels::Only(models) }
}

fn network(
    s: &mut Section<'_>,
    kind: Option<Kind>,
    name: &str,
    well_known: Option<&WellKnown>,
    (azure, address): (Option<&Resource>, Option<String>),
    key_in: Option<&str>,
) -> Option<Network> {
    let (ms, most) = (millis(1), secs(DAY));
    let given = s.raw("base_url").is_some_and(|value| !value.is_null());
    let mut base = s.get("base_url", Url(well_known.and_then(|known| known.base_url)));
    if let Some(azure) = azure {
        base = azure.base(base, s);
    }
    if let Some(address) = &address {
        if !given {
            base = base_url::parse(address).ok();
            s.show("base_url", address.as_str().into());
        }
        // Its routes have no version in front of them.
        base = base.map(|base| BaseUrl { api_prefix: "", ..base });
    }
    let api_prefix = base.as_ref().map_or("/v1", |base| base.api_prefix);
    let network = Network {
        base_url: base.as_ref().map_or(String::new(), |base| base.url.clone()),
        api_prefix: azure.map_or(api_prefix, Resource::api_prefix),
        api_version: azure.and_then(Resource::api_version),
        request_timeout: s.get(
            "default_request_timeout_in_seconds",
            Span(secs(120)).hard(millis(10), most).page(secs(30), secs(300)),
        ),
        connect_timeout: s.get("connect_timeout", Span(secs(5)).hard(ms, most)),
        first_token_timeout: s.get("first_token_timeout", Span(secs(60)).hard(ms, most)),
        stream_idle_timeout: s.get("stream_idle_timeout_in_seconds", Span(secs(60)).hard(ms, most)),
        stream_max_duration: s.get("stream_max_duration", Span(secs(1800)).hard(ms, most)),
        idle_connection_timeout: s.get("idle_connection_timeout", Span(secs(30)).hard(ms, most)),
        retries: retries(s),
        extra_headers: extra_headers(s, key_in),
        ca_cert_pem: s.get("ca_cert_pem", Certificates),
        allow_private: kind == Some(Kind::Sim) || base.as_ref().is_some_and(|base: &BaseUrl| base.private),
    };
    s.absent("proxy", json!(null), "going through a proxy");
    s.foreign(known::NETWORK);

    if kind == Some(Kind::Custom) {
        for key in OF_CONNECTIONS.into_iter().filter(|key| s.raw(key).is_some_and(|value| !asks_nothing(value))) {
            s.problem(
                key,
                "a provider of kind \"custom\" is a part of the program and is connected to nowhere; leave it out",
            );
        }
    }
    if let Some(address) = address.filter(|_| base.is_none() && !given) {
        s.problem("base_url", format!("the region that the environment names makes no address: {address}"));
        return None;
    }
    if base.is_none() && !given && matches!(kind, Some(Kind::OpenAi | Kind::Anthropic)) {
        let variable = well_known.and_then(|known| known.url_variable);
        let such_as = variable.map_or(String::new(), |variable| format!(", such as \"env.{variable}\""));
        s.problem(
            "base_url",
            format!("it is missing, and there is none built in for {name:?}; write the provider's URL{such_as}"),
        );
        return None;
    }
    Some(network)
}

fn retries(s: &mut Section<'_>) -> Retries {
    let (usual, most) = (Retries::default(), secs(DAY));
    let backoff = Backoff {
        initial: s.get("retry_backoff_initial", Span(usual.backoff.initial).hard(secs(0), most)),
        max: s.get("retry_backoff_max", Span(usual.backoff.max).hard(secs(0), most)),
    };
    if backoff.initial > backoff.max {
        s.problem("retry_backoff_initial", "it is longer than retry_backoff_max, the longest pause");
    }
    Retries {
        most: s.get("max_retries", Count(usual.most as usize).hard(0, 100)) as u32,
        backoff,
        patience: s.get("retry_after_patience", Span(usual.patience).hard(secs(0), most)),
    }
}

/// Headers for every request; their values may hold keys, so that none is ever shown. `key_in` is the one that the provider's
/// own keys go into.
fn extra_headers(s: &mut Section<'_>, key_in: Option<&str>) -> Vec<(String, String)> {
    let path = s.path_of("extra_headers");
    let object = s.object_at("extra_headers");
    s.declare("extra_headers", json!({"type": "object", "additionalProperties": {"type": "string"}, "default": {}}));
    let mut headers = Vec::new();
    for (name, value) in object.into_iter().flatten() {
        let path = join(&path, name);
        let lower = name.to_ascii_lowercase();
        let token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !token {
            s.walk().problem(path, "this is no header's name");
        } else if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            s.walk().problem(path, "the gateway sets this header itself; leave it out");
        } else if key_in == Some(lower.as_str()) {
            s.walk().problem(path, "the provider's key goes into this header; leave out one of the two");
        } else if let Some(value) = s.walk().secret(path, value) {
            headers.push((lower, value.expose().to_owned()));
        }
    }
    s.show("extra_headers", headers.iter().map(|(name, _)| (name.clone(), json!(REDACTED))).collect());
    headers
}

/// Workers, places to wait, and events held for a caller.
struct Sizes {
    concurrency: usize,
    min_concurrency: usize,
    buffer_size: usize,
    sizing: Sizing,
    result_buffer: usize,
}

fn sizes(s: &mut Section<'_>, threads: &ThreadLimits) -> Sizes {
    const DEFAULT: usize = 64;
    let most = threads.max.unwrap_or(MOST_WORKERS);
    let given = s.get("concurrency", ElseAuto(Count(DEFAULT).hard(1, most).page(10, 100)));
    let buffer = s.raw("buffer_size").is_none_or(Value::is_null);
    let sizing = match given {
        Some(_) => Sizing::Given,
        None => Sizing::Auto { most: most.min(MOST_AUTO), buffer },
    };
    let concurrency = given.unwrap_or_else(|| DEFAULT.min(most));
    let ceiling = match sizing {
        Sizing::Given => concurrency,
        Sizing::Auto { most, .. } => most,
    };
    let min_concurrency = s.get("min_concurrency", Count(FEWEST.min(concurrency)).hard(1, ceiling));
    let buffer_size = s.get("buffer_size", Count(500).hard(1, 1_000_000).page(100, 1000));
    let result_buffer = s.get("result_buffer", Count(256).hard(1, 65_536).page(50, 500));
    Sizes { concurrency: concurrency.max(min_concurrency), min_concurrency, buffer_size, sizing, result_buffer }
}

fn scaling(s: &mut Section<'_>) -> Scaling {
    let usual = Scaling::default();
    let time = |default| Span(default).hard(millis(1), secs(DAY));
    let ratio = |default| Number(default).hard(0.0, 1.0);
    let scaling = Scaling {
        enabled: s.get("enabled", Flag(usual.enabled)),
        up_threshold: s.get("up_threshold", ratio(usual.up_threshold)),
        down_threshold: s.get("down_threshold", ratio(usual.down_threshold)),
        up_factor: s.get("up_factor", Number(usual.up_factor).hard(1.0, 100.0)),
        down_factor: s.get("down_factor", ratio(usual.down_factor)),
        min_interval: s.get("min_interval", time(usual.min_interval)),
        target_response: s.get("target_response", time(usual.target_response)),
        max_response: s.get("max_response", time(usual.max_response)),
    };
    if scaling.down_threshold >= scaling.up_threshold {
        s.problem("down_threshold", "it is not below up_threshold; workers would be added and removed for ever");
    }
    scaling
}

/// What the operator knows of the provider. A rate or a latency of nothing says nothing.
fn optimization(s: &mut Section<'_>) -> Optimization {
    Optimization {
        rate_limit: s.get("rate_limit", Maybe(Number(0.0).hard(0.0, 1e6))).filter(|rate| *rate > 0.0),
        avg_latency: s.get("avg_latency", Maybe(Span(secs(0)).hard(secs(0), secs(DAY)))).filter(|time| !time.is_zero()),
        error_rate: s.get("error_rate", Maybe(Number(0.0).hard(0.0, 1.0))),
    }
}

/// Limits of what goes in a minute. Nothing a minute says nothing: whoever wants that leaves the provider out.
fn rate_limit(s: &mut Section<'_>) -> RateLimit {
    let mut most =
        |key| s.get(key, Maybe(Count(0).hard(0, MOST_A_MINUTE))).map(|most| most as u64).filter(|most| *most > 0);
    RateLimit { requests_per_minute: most("requests_per_minute"), tokens_per_minute: most("tokens_per_minute") }
}

fn queue(s: &mut Section<'_>, client: &Client) -> Queue {
    let default = if client.drop_excess_requests { Policy::Drop } else { Policy::Block };
    let policies = Choice {
        built: &[
            ("block", Policy::Block),
            ("error", Policy::Error),
            ("drop", Policy::Drop),
            ("drop_oldest", Policy::DropOldest),
        ],
        unbuilt: &[],
        default: Some(default),
    };
    Queue {
        policy: s.get("policy", policies).unwrap_or(default),
        wait_timeout: s.get("wait_timeout", Span(secs(5)).hard(millis(1), secs(600)).page(secs(1), secs(10))),
        batch_share: s.get("batch_share", Number(0.125).hard(0.0, 1.0)),
    }
}

fn breaker(s: &mut Section<'_>) -> Breaker {
    let usual = Breaker::default();
    let time = |default| Span(default).hard(millis(1), secs(DAY));
    let ratio = |default| Number(default).hard(0.0, 1.0);
    let count = |default: u32, least, most| Count(default as usize).hard(least, most);
    Breaker {
        enabled: s.get("enabled", Flag(usual.enabled)),
        failure_ratio: s.get("failure_ratio", ratio(usual.failure_ratio)),
        min_requests: s.get("min_requests", count(usual.min_requests, 1, 1_000_000)) as u32,
        window: s.get("window", time(usual.window)),
        consecutive_failures: s.get("consecutive_failures", count(usual.consecutive_failures, 0, 1_000_000)) as u32,
        open_for: s.get("open_for", time(usual.open_for)),
        half_open_probes: s.get("half_open_probes", count(usual.half_open_probes, 1, 1000)) as u32,
        slow_after: s.get("slow_after", Maybe(time(secs(0)))),
        slow_ratio: s.get("slow_ratio", ratio(usual.slow_ratio)),
    }
}

fn health(s: &mut Section<'_>, kind: Option<Kind>) -> Health {
    let usual = usual_health(kind);
    // Whoever writes `null` or 0 wants no checks.
    let never = s.raw("interval").is_some_and(Value::is_null);
    let default = if never { secs(0) } else { usual.interval };
    let wish = Health {
        on_start: s.get("on_start", Flag(usual.on_start)),
        interval: s.get("interval", Span(default).hard(secs(0), secs(DAY))),
    };
    if usual == NO_CHECKS && wish != usual {
        for (key, value) in [("on_start", json!(false)), ("interval", json!("0s"))] {
            s.show(key, value);
        }
        s.warn(
            "interval",
            "it has no effect: there is nothing to look at that costs nothing, and only calls tell how it is",
        );
    }
    if usual == NO_CHECKS { usual } else { wish }
}

/// No look at a provider but what its calls show.
const NO_CHECKS: Health = Health { on_start: false, interval: std::time::Duration::ZERO };

/// How it is looked whether a provider is there. Bedrock's runtime has no list of models, nor anything else that is free.
fn usual_health(kind: Option<Kind>) -> Health {
    match kind {
        #[cfg(feature = "bedrock")]
        Some(Kind::Bedrock) => NO_CHECKS,
        _ => Health::default(),
    }
}
