//! Canaries: keys that may show up nowhere but where they are sent, and a search that finds them in whatever dress.
//!
//! Everything that the library logs while the integration tests run, at the finest level, is searched as it is written, and so
//! is every panic; whoever leaks ends the whole run at once, with the line that gave it away. What the binary prints is searched
//! when it ends. The search is no copy of what the gateway masks by: it knows its own base64.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use memchr::memmem::Finder;
use rustls::pki_types::pem::PemObject as _;

/// The provider's key in most tests.
pub(crate) const PROVIDER: &str = "sk-canary-7f3a9";
/// The provider's key where the binary is run.
pub(crate) const UPSTREAM: &str = "sk-canary-5d1f0a77";
/// What a client must send.
pub(crate) const GATEWAY: &str = "gw-canary-91c24e/x+y";
/// What the admin plane asks for.
pub(crate) const ADMIN: &str = "admin-canary-3b6d08";
/// The value of a header that the configuration adds.
pub(crate) const HEADER: &str = "header-canary-e27a51";
/// A key that a client sends and nobody knows.
pub(crate) const WRONG: &str = "wrong-canary-c4490f";

/// All of them.
const KNOWN: [&str; 6] = [PROVIDER, UPSTREAM, GATEWAY, ADMIN, HEADER, WRONG];

/// What is in all of them, so that most texts are done with after a few looks.
const STEM: &str = "canary-";

/// What to look for: secrets, each in all its dresses.
pub(crate) struct Search {
    /// One of these is in every text that holds a secret; every text may if there are none.
    stems: Vec<Finder<'static>>,
    dressed: Vec<(String, Finder<'static>)>,
}

impl Search {
    /// For everything known.
    pub(crate) fn known() -> &'static Self {
        static KNOWN_ONES: OnceLock<Search> = OnceLock::new();
        KNOWN_ONES.get_or_init(|| {
            let mut stems: Vec<_> = dresses(STEM).into_iter().map(|(_, text)| text).collect();
            stems.sort_unstable();
            stems.dedup();
            let stems = stems.iter().map(|stem| Finder::new(stem).into_owned()).collect();
            Self { stems, ..Self::of(&KNOWN) }
        })
    }

    pub(crate) fn of(secrets: &[&str]) -> Self {
        let mut dressed = Vec::new();
        for secret in secrets {
            for (dress, text) in dresses(secret) {
                dressed.push((format!("{secret} {dress}"), Finder::new(&text).into_owned()));
            }
        }
        Self { stems: Vec::new(), dressed }
    }

    /// For eight characters in a row of anything known: whoever dumps bytes breaks a secret over two lines, and shows it.
    pub(crate) fn fragments() -> Self {
        let parts = KNOWN.iter().flat_map(|secret| (0..=secret.len() - 8).map(|at| &secret[at..at + 8]));
        let dressed = parts.map(|part| (format!("a part, {part},"), Finder::new(part).into_owned())).collect();
        Self { stems: Vec::new(), dressed }
    }

    /// What was found in `text`, and around it.
    pub(crate) fn find(&self, text: &[u8]) -> Option<String> {
        if !self.stems.is_empty() && self.stems.iter().all(|stem| stem.find(text).is_none()) {
            return None;
        }
        self.dressed.iter().find_map(|(name, finder)| {
            let at = finder.find(text)?;
            let around = &text[at.saturating_sub(60)..(at + 60).min(text.len())];
            Some(format!("{name}: …{}…", String::from_utf8_lossy(around)))
        })
    }

    /// Fails if a secret is in `text`.
    #[track_caller]
    pub(crate) fn assert_clean(&self, what: &str, text: impl AsRef<[u8]>) {
        if let Some(leak) = self.find(text.as_ref()) {
            panic!("a secret is in {what}: {leak}");
        }
    }
}

/// A secret as it is, percent-encoded, in hexadecimal, and in base64 in each of the three places of a group, in both alphabets.
fn dresses(secret: &str) -> Vec<(&'static str, String)> {
    let each = |form: &dyn Fn(u8) -> String| secret.bytes().map(form).collect::<String>();
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut dresses = vec![
        ("as it is", secret.to_owned()),
        ("escaped by Rust or JSON", secret.escape_debug().to_string()),
        (
            "percent-encoded",
            each(&|byte| if unreserved(byte) { char::from(byte).into() } else { format!("%{byte:02X}") }),
        ),
        ("percent-encoded whole", each(&|byte| format!("%{byte:02X}"))),
        ("in hexadecimal", each(&|byte| format!("{byte:02x}"))),
        ("in capital hexadecimal", each(&|byte| format!("{byte:02X}"))),
        ("as a list of bytes", each(&|byte| format!("{byte}, ")).trim_end_matches(", ").to_owned()),
    ];
    for lead in 0..3 {
        let padded = [&vec![0; lead][..], secret.as_bytes()].concat();
        let whole = base64(&padded[..padded.len() - padded.len() % 3]);
        // Without the first group's characters that the bytes before have a part in.
        let core = &whole[[0, 2, 3][lead]..];
        dresses.push(("in base64", core.to_owned()));
        dresses.push(("in base64 for URLs", core.replace('+', "-").replace('/', "_")));
    }
    dresses
}

/// Base64 with its padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let at = |n: usize| group.get(n).copied().unwrap_or(0);
        let word = u32::from_be_bytes([0, at(0), at(1), at(2)]);
        let all = [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(word >> shift & 63) as usize]));
        out.extend(&all[..=group.len()]);
        out.extend(std::iter::repeat_n('=', 3 - group.len()));
    }
    out
}

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    /// Where a test that plants a leak finds what was seen of it.
    static PLANTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static SEARCHED: AtomicU64 = AtomicU64::new(0);

/// A log that keeps nothing and searches everything.
struct Watch;

impl log::Log for Watch {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // The HTTP library dumps what it sends, key and all, at this level; the binary's logger leaves that out, and a test of
        // the binary sees to it. A library has no say in what its host's logger takes.
        if record.target().starts_with("ureq_proto") && record.level() == log::Level::Trace {
            return;
        }
        SEARCHED.fetch_add(1, Ordering::Relaxed);
        LINE.with(|line| {
            // What is logged while a line is being made is made of the same things.
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            let _ = write!(line, "{}", record.args());
            judge(record.target(), &line);
        });
    }

    fn flush(&self) {}
}

fn judge(source: &str, text: &str) {
    let Some(leak) = Search::known().find(text.as_bytes()) else { return };
    let report = format!("a secret is in what {source} says: {leak}");
    let planted = PLANTED.with(|planted| {
        let mut planted = planted.borrow_mut();
        planted.as_mut().map(|seen| seen.push(report.clone())).is_some()
    });
    if !planted {
        // No test may hide it: a panic here could be caught as any other.
        let _ = writeln!(std::io::stderr(), "\n{report}\n");
        std::process::abort();
    }
}

/// Searches, from now on, everything that this process logs and every panic of it.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Watch).expect("no other logger");
        log::set_max_level(log::LevelFilter::Trace);
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // An assertion of a test shows what it looked at, which may be what was sent upstream.
            if PLANTED.with(|planted| planted.borrow().is_some())
                || panic.location().is_none_or(|place| !place.file().starts_with("tests/"))
            {
                judge("a panic", &panic.to_string());
            }
            usual(panic);
        }));
    });
}

#[test]
fn a_planted_secret_is_found_in_every_dress_and_in_what_is_logged_and_panicked() {
    watch();
    PLANTED.with(|planted| *planted.borrow_mut() = Some(Vec::new()));
    let mut plants = 0;
    for secret in KNOWN {
        for (_, dressed) in dresses(secret) {
            log::trace!("something before {dressed} and behind");
            plants += 1;
        }
        for lead in 0..3 {
            let text = base64(format!("{}{secret}:::::", &"user:"[..lead]).as_bytes());
            assert!(Search::known().find(text.as_bytes()).is_some(), "{text}");
        }
    }
    assert!(Search::fragments().find(b"0000  6b2d  sk-cana\n0010 6233  ry-5d1f0a77").is_some(), "in one of two lines");
    log::error!("nothing at all");
    let hooked = std::panic::catch_unwind(|| std::panic::panic_any(format!("with {PROVIDER}")));
    let seen = PLANTED.with(|planted| planted.borrow_mut().take()).expect("planted");
    assert!(hooked.is_err());
    assert_eq!(seen.len(), plants + 1, "{seen:#?}");
}

#[test]
fn what_the_gateway_logs_at_the_finest_level_is_searched() {
    use crate::house::{House, sim};
    let house = House::new(serde_json::json!({ "sim": sim(serde_json::json!({})) }), &[]);
    let before = SEARCHED.load(Ordering::Relaxed);
    house.gateway().ask("sim/echo", "one").expect("an answer");
    assert_eq!(log::max_level(), log::LevelFilter::Trace);
    assert!(SEARCHED.load(Ordering::Relaxed) > before, "a call to a provider is logged by the HTTP library at least");
}

#[test]
fn nothing_that_holds_a_secret_shows_it_to_debug() {
    use std::time::Duration;

    use serde_json::json;
    use sluicegate::config::Config;
    use sluicegate::http::Certificates;
    use sluicegate::provider::AttemptSettings;
    use sluicegate::secret::{Digest, Mask, Secret};
    use sluicegate::sync::CancelToken;
    use sluicegate::time::Deadline;
    use sluicegate::transport::{Control, Outgoing};

    use crate::certificates::{Authority, Files};
    use crate::house::provider;

    let pair = Authority::new("root").issue();
    let files = Files::of(&pair);
    let tls = files.settings();
    let document = json!({
        "server": {
            "keys": [GATEWAY, { "name": "n", "value": WRONG }], "admin_key": ADMIN,
            "tls": { "cert_file": tls.cert_file, "key_file": tls.key_file },
        },
        "providers": { "p": provider(json!({ "network_config": { "extra_headers": { "x-team": HEADER } } })) },
    });
    let config = Config::from_json(&document.to_string(), &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let (secret, text) = (Secret::new(UPSTREAM), format!("Bearer {UPSTREAM}"));
    let headers = vec![("authorization".to_owned(), text.clone())];
    let attempt =
        AttemptSettings { headers, mask: Mask::of([secret.clone()]), ..AttemptSettings::within(Duration::MAX) };
    let outgoing =
        Outgoing { method: "POST", path: "/", headers: &[("authorization", &text)], body: UPSTREAM.as_bytes() };
    let token = CancelToken::new();
    let control = Control {
        request_id: None,
        cancel: &token,
        deadline: Deadline::after(Duration::ZERO),
        connect_timeout: Duration::ZERO,
    };
    let loaded = tls.load().expect("they fit");
    let certificates = Certificates::load(&tls).expect("they fit");
    let shown = [
        format!("{secret:?} {secret} {:?} {:?}", Digest::of(UPSTREAM.as_bytes()), Mask::of([secret.clone()])),
        format!("{config:#?} {:#?} {:#?} {:#?}", config.server, config.providers, config.server.keys),
        format!("{:?}", config.secrets().collect::<Vec<_>>()),
        format!("{attempt:?} {outgoing:?} {control:?}"),
        format!("{tls:?} {loaded:?} {certificates:?}"),
        format!("{:?}", sluicegate::Gateway::builder().config(config.clone())),
        format!("{:?}", sluicegate::Gateway::builder().config(config.clone()).build().expect("it starts")),
        config.effective_json().to_string(),
        serde_json::to_string(&secret).expect("JSON"),
    ];
    let keys: Vec<_> = pair.key.lines().filter(|line| !line.starts_with('-')).collect();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let as_bytes = format!("{:?}", &key.secret_der()[..16]);
    for text in shown {
        Search::known().assert_clean("Debug", &text);
        Search::of(&keys).assert_clean("Debug", &text);
        assert!(!text.contains(as_bytes.trim_matches(['[', ']'])), "the key's bytes");
    }
}
