//! The sections that go for the whole gateway: `server`, `client`, `threads`, `pools`, `locks`.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;

use super::kinds::{
    Address, Bytes, Choice, Count, FilePath, Flag, Hidden, Kind as _, Limits as _, Number, OrAuto, Parsed, Span, Text,
    millis, secs,
};
use super::known;
use super::origin::Origin;
use super::range::AddressRange;
use super::scope::{Entry, Scope};
use super::section::{Section, Walk};
use super::tls::{Tls, TlsVersion};
use super::types::{Client, GatewayKey, Locks, Pools, Server, ThreadLimits};
use crate::recycle::Limits;
use crate::secret::{Digest, Secret};
use crate::sync::LockTimes;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// How many idle objects a pool keeps, unless more are made beforehand.
const MAX_IDLE: usize = 4096;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

const RANGE: Parsed<AddressRange> = Parsed(|text| {
    let expects = "an address or a range of addresses, such as \"127.0.0.1\", \"10.0.0.0/8\" or \"fd00::/8\"";
    AddressRange::parse(text).ok_or_else(|| expects.into())
});

const ORIGIN: Parsed<Origin> = Parsed(|text| {
    let expects = "an origin as a browser sends it, such as \"https://app.example\" or \"http://localhost:3000\" (in \
                   lower case, no path, no slash at its end, no usual port), or \"*\"";
    Origin::parse(text).ok_or_else(|| expects.into())
});

/// Reads `server`.
pub(super) fn server(s: &mut Section<'_>) -> Server {
    let server = Server {
        listen: s.get("listen", Address(loopback(8080))),
        admin: s.get("admin", Address(loopback(8081))),
        admin_key: s.get("admin_key", Hidden),
        keys: gateway_keys(s),
        max_connections: s.get("max_connections", Count(8192).hard(1, 1_000_000)),
        max_in_flight: s.get("max_in_flight", OrAuto(Count(0).hard(1, 1_000_000))),
        max_buffered_bytes: s.get("max_buffered_bytes", Bytes(GIB).hard(MIB, 1024 * GIB)),
        max_body_bytes: s.get("max_body_bytes", Bytes(32 * MIB).hard(1, 4 * GIB)),
        max_header_bytes: s.get("max_header_bytes", Bytes(32 * KIB).hard(KIB, 16 * MIB)),
        header_timeout: s.get("header_timeout", Span(secs(10)).hard(millis(1), secs(3600))),
        body_timeout: s.get("body_timeout", Span(secs(60)).hard(millis(1), secs(3600))),
        idle_timeout: s.get("idle_timeout", Span(secs(75)).hard(millis(1), secs(86_400))),
        write_timeout: s.get("write_timeout", Span(secs(30)).hard(millis(1), secs(3600))),
        shutdown_timeout: s.get("shutdown_timeout", Span(secs(30)).hard(secs(0), secs(3600)).page(secs(5), secs(30))),
        trusted_proxies: s.texts("trusted_proxies", &RANGE, &json!([])).unwrap_or_default(),
        cors_origins: s.texts("cors_origins", &ORIGIN, &json!([])).unwrap_or_default(),
        tls: tls(s),
    };
    s.foreign(known::SERVER);

    if server.max_body_bytes > server.max_buffered_bytes {
        s.problem("max_body_bytes", "it is more than max_buffered_bytes, so that such a body never gets in");
    }
    server
}

/// Where the warning stands that whoever reaches the data plane may use it.
pub(super) const OPEN_TO_ALL: &str = "server.listen:";

/// Notes what is wrong with where the gateway listens. `walk` is told, so that a command line can be checked alike.
pub(super) fn check_addresses(server: &Server, walk: &Walk<'_>) {
    if !server.admin.ip().is_loopback() && server.admin_key.is_none() {
        let message = format!(
            "{} is beyond loopback, which needs server.admin_key; set it, or listen on 127.0.0.1",
            server.admin
        );
        walk.problem("server.admin".to_owned(), message);
    }
    if server.listen == server.admin && server.listen.port() != 0 {
        walk.problem("server.admin".to_owned(), "it is the same address as server.listen; give it a port of its own");
    }
    if !server.listen.ip().is_loopback() && server.keys.is_empty() {
        walk.warn(
            "server.listen",
            "it is beyond loopback and server.keys is empty: whoever reaches it can use your providers",
        );
    }
}

/// Reads `tls`, and its files: a gateway that could not shake hands with anybody is told so before it starts.
fn tls(s: &mut Section<'_>) -> Option<Tls> {
    let min_version = Choice {
        built: &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)],
        unbuilt: &[],
        default: Some(TlsVersion::Tls12),
    };
    let asked = s.section_if_asked("tls", |s| {
        let [cert_file, key_file, client_ca_file] = ["cert_file", "key_file", "client_ca_file"].map(|key| {
            if s.raw(key).and_then(serde_json::Value::as_str).is_some_and(|text| text.starts_with("file:")) {
                // It would stand for what is in the file, which is no path; and a message might show it.
                s.problem(key, "it begins with file:, which stands for what is in the file; write the path alone");
                s.declare(key, FilePath.schema(key));
                s.show(key, serde_json::Value::Null);
                return None;
            }
            s.get(key, FilePath)
        });
        (cert_file, key_file, client_ca_file, s.get("min_version", min_version))
    });
    let (cert_file, key_file, client_ca_file, min_version) = asked?;
    let wrote = |key: &str| s.object_at("tls").is_some_and(|tls| tls.get(key).is_some_and(|value| !value.is_null()));
    for key in ["cert_file", "key_file"] {
        if !wrote(key) {
            s.walk().problem(format!("server.tls.{key}"), "it is missing; write the path of a file in PEM");
        }
    }
    let (cert_file, key_file) = cert_file.zip(key_file)?;
    let tls = Tls { cert_file, key_file, client_ca_file, min_version: min_version.unwrap_or(TlsVersion::Tls12) };
    match tls.load() {
        Ok(loaded) => {
            if let Some(remark) = loaded.remark() {
                s.walk().warn("server.tls.cert_file", &remark);
            }
        }
        Err(problems) => problems.into_iter().for_each(|problem| s.walk().problem(problem.path, problem.message)),
    }
    Some(tls)
}

fn gateway_keys(s: &mut Section<'_>) -> Vec<GatewayKey> {
    let read = |index: usize, s: &mut Section<'_>| {
        let name = s.get("name", Text(format!("key-{}", index + 1)));
        let value = required_value(s);
        let models = s.texts("models", &Parsed(Entry::parse), &json!(["*"]));
        // An empty list could be read as "no model" and as "no restriction": what restricts a client is never guessed.
        if models.is_some() && s.raw("models").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
            s.problem("models", "an empty list names no model; write [\"*\"] for all of them, or leave it out");
        }
        let scope = models.map(Scope::of).unwrap_or_default();
        value.map(|value| GatewayKey { name: name.into(), digest: Digest::of(value.expose().as_bytes()), scope })
    };
    let keys: Vec<_> = s.list("keys", read).unwrap_or_default().into_iter().flatten().collect();
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|other| other.name == key.name) {
            s.problem("keys", format!("two keys have the name {:?}; names tell them apart in logs", key.name));
        }
        // Which of the two would say what the client may use?
        if let Some(other) = keys[..index].iter().find(|other| key.digest.find_in([&other.digest]).is_some()) {
            s.problem("keys", format!("{:?} and {:?} have the same value; write it once", other.name, key.name));
        }
    }
    keys
}

/// A key's `value`, which must be there.
pub(super) fn required_value(s: &mut Section<'_>) -> Option<Secret> {
    if s.raw("value").is_none_or(serde_json::Value::is_null) {
        s.problem("value", "it is missing; write the key, or where it is: \"env.NAME\" or \"file:PATH\"");
    }
    s.get("value", Hidden)
}

/// Reads `client`.
pub(super) fn client(s: &mut Section<'_>) -> Client {
    let client = Client {
        drop_excess_requests: s.get("drop_excess_requests", Flag(false)),
        initial_pool_size: s.get("initial_pool_size", Count(300).hard(0, 1_000_000)),
    };
    s.foreign(known::CLIENT);
    client
}

/// Reads `threads`.
pub(super) fn threads(s: &mut Section<'_>) -> ThreadLimits {
    ThreadLimits {
        max: s.get("max", OrAuto(Count(0).hard(32, 1_000_000))),
        stack_bytes: s.get("stack_kib", Count(256).hard(64, 65_536)) * KIB,
        idle_timeout: s.get("idle_timeout", Span(secs(30)).hard(millis(1), secs(3600))),
        health_interval: s.get("health_interval", Span(secs(1)).hard(millis(10), secs(60))),
    }
}

/// Reads `pools`.
pub(super) fn pools(s: &mut Section<'_>, client: &Client) -> Pools {
    let mut pool = |name, alert_below| s.section(name, |s| pool_limits(s, client.initial_pool_size, alert_below));
    Pools {
        reply_channel: pool("reply_channel", 0.85),
        job: pool("job", 0.80),
        response: pool("response", 0.70),
        buffer: pool("buffer", 0.70),
    }
}

fn pool_limits(s: &mut Section<'_>, auto: usize, alert_below: f64) -> Limits {
    let initial = s.get("initial", OrAuto(Count(0).hard(0, 1_000_000))).unwrap_or(auto);
    let max_idle = s.get("max_idle", Count(MAX_IDLE.max(initial)).hard(0, 1_000_000));
    if initial > max_idle {
        s.warn("initial", &format!("only max_idle ({max_idle}) of {initial} are kept, so only so many are made"));
    }
    Limits {
        initial: initial.min(max_idle),
        max_idle,
        idle_max_age: s.get("idle_max_age", Span(secs(60)).hard(millis(1), secs(86_400))),
        alert_below: s.get("alert_below", Number(alert_below).hard(0.0, 1.0)),
    }
}

/// Reads `locks`.
pub(super) fn locks(s: &mut Section<'_>) -> Locks {
    let LockTimes { default_timeout, max_timeout } = LockTimes::DEFAULT;
    let times = LockTimes {
        default_timeout: s.get("default_timeout", Span(default_timeout).hard(millis(1), secs(3600))),
        max_timeout: s.get("max_timeout", Span(max_timeout).hard(millis(1), secs(3600))),
    };
    if times.default_timeout > times.max_timeout {
        s.problem("default_timeout", "it is more than max_timeout, beyond which nobody waits");
    }
    Locks { times, detect_interval: s.get("detect_interval", Span(millis(250)).hard(millis(1), secs(60))) }
}
