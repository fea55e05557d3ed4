//! A provider's base URL: what the configuration takes the transport takes too, leads where it says, and reads back.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::json;
use sluicegate::Config;
use sluicegate::config::Network;
use sluicegate::sync::Threads;
use sluicegate::transport::{Resolver, Settings, UreqTransport, is_public};

static RESOLVER: LazyLock<Arc<Resolver>> = LazyLock::new(|| Resolver::start(&Threads::new(8, 1 << 18)));

/// One certificate authority, whose key nobody has: the hundreds that are built in take most of an execution's time.
const AUTHORITY: &str = include_str!("authority.pem");

/// Checks one input: a `base_url`.
///
/// # Panics
/// If a property does not hold.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.contains("${") || text.starts_with("env.") || text.starts_with("file:") {
        return;
    }
    let Ok((network, shown)) = read(text) else { return };
    let whole = format!("{}{}", network.base_url, network.api_prefix);
    assert!(whole.bytes().all(|byte| byte.is_ascii_graphic()) && !whole.contains(['?', '#']), "{whole}");
    let (scheme, rest) = whole.split_once("://").expect("a scheme");
    assert!(matches!(scheme, "http" | "https"));
    let authority = rest.split('/').next().unwrap_or_default();
    assert!(!authority.contains('@'), "{text} has a user");
    let after_scheme = text.split_once("://").expect("a scheme").1;
    assert!(after_scheme.to_ascii_lowercase().starts_with(authority), "{text} leads to {authority}");
    // Consent to a private place is never read into a public name or address.
    if network.allow_private && scheme == "https" {
        let host = authority.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let host = host.map_or(authority, |(host, _)| host);
        let ip: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let local = host == "localhost" || host.ends_with(".localhost");
        assert!(local || ip.is_some_and(|ip| !is_public(ip)), "{host} is public, and taken for private");
    }
    let settings = Settings {
        base_url: network.base_url.clone(),
        idle_connection_timeout: Duration::from_secs(1),
        max_idle: 1,
        ca_cert_pem: Some(AUTHORITY.to_owned()),
        allow_private: network.allow_private,
    };
    if let Err(error) = UreqTransport::new(settings, Arc::clone(&RESOLVER)) {
        panic!("{text} is taken by the configuration, and not by the transport: {error:?}");
    }
    let (again, shown_again) = read(&shown).expect("what is shown can be read again");
    assert_eq!(shown_again, shown);
    let place = |network: &Network| (network.base_url.clone(), network.api_prefix, network.allow_private);
    assert_eq!(place(&again), place(&network), "{shown} is shown for {text}");
}

/// What a base URL comes to, and how it is shown.
fn read(text: &str) -> Result<(Network, String), ()> {
    let document = json!({ "providers": { "p": { "kind": "openai", "network_config": { "base_url": text } } } });
    let config = Config::from_json(&document.to_string(), &|_: &str| None).map_err(drop)?;
    let shown = config.effective_json()["providers"]["p"]["network_config"]["base_url"].as_str().map(str::to_owned);
    let network = config.providers.into_iter().next().expect("the provider").network;
    Ok((network, shown.expect("a URL is shown")))
}
