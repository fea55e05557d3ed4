//! `server.tls`: its files, and what is wrong with each.

use serde_json::{Value, json};

use sluicegate::config::Config;

use super::taken;
use crate::certificates::{Authority, Files};

/// Everything that is wrong with `server.tls`, and what is warned of.
fn tls(settings: Value) -> (Vec<String>, Vec<String>) {
    let document = json!({"server": {"tls": settings}, "providers": {"sim": {}}}).to_string();
    match Config::from_json(&document, &|_: &str| None) {
        Ok(config) => (Vec::new(), config.warnings),
        Err(error) => (error.problems.iter().map(ToString::to_string).collect(), Vec::new()),
    }
}

#[test]
fn tls_names_its_files_and_says_what_is_wrong_with_each() {
    let authority = Authority::new("root");
    let (pair, other) = (authority.issue(), authority.issue());
    let files = Files::of(&pair);
    let at = |name: &str, text: &str| files.write(name, text).display().to_string();
    let (cert, key) = (at("cert.pem", &pair.cert), at("key.pem", &pair.key));
    let roots = at("roots.pem", &authority.pem());
    let config = taken(json!({
        "server": {"tls": {"cert_file": cert, "key_file": key, "client_ca_file": roots, "min_version": "1.3"}},
        "providers": {"sim": {}},
    }));
    assert_eq!(config.effective_json()["server"]["tls"]["min_version"], "1.3");
    assert_eq!(config.effective_json()["server"]["tls"]["key_file"], key.as_str());
    assert!(config.server.tls.is_some());
    let both = at("both.pem", &(pair.cert.clone() + &pair.key));
    assert_eq!(tls(json!({"cert_file": both, "key_file": both})).0, [""; 0]);
    let expired = authority.issue_expired();
    let old = json!({"cert_file": at("old.pem", &expired.cert), "key_file": at("old.key", &expired.key)});
    let (problems, warnings) = tls(old);
    assert!(
        problems.is_empty() && warnings[0].contains("server.tls.cert_file: the certificate expired"),
        "{warnings:?}"
    );

    let encrypted =
        at("encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let cases = [
        (json!({"key_file": key}), "cert_file", "it is missing"),
        (json!({"cert_file": cert}), "key_file", "it is missing"),
        (json!({"cert_file": "/no/such/file", "key_file": key}), "cert_file", "cannot read the file /no/such/file"),
        (json!({"cert_file": key, "key_file": key}), "cert_file", "is that key_file?"),
        (json!({"cert_file": cert, "key_file": cert}), "key_file", "is that cert_file?"),
        (json!({"cert_file": cert, "key_file": at("other.pem", &other.key)}), "key_file", "does not fit"),
        (json!({"cert_file": cert, "key_file": encrypted}), "key_file", "is encrypted"),
        (json!({"cert_file": cert, "key_file": at("none.pem", "none")}), "key_file", "there is no private key"),
        (json!({"cert_file": at("nor.pem", "none"), "key_file": key}), "cert_file", "there is no certificate"),
        (
            json!({"cert_file": cert, "key_file": key, "client_ca_file": key}),
            "client_ca_file",
            "there is no certificate",
        ),
        (json!({"cert_file": cert, "key_file": format!("file:{key}")}), "key_file", "write the path alone"),
        (json!({"cert_file": cert, "key_file": pair.key}), "key_file", "the path of a file"),
        (json!({"cert_file": cert, "key_file": key, "min_version": "1.1"}), "min_version", "\"1.2\", \"1.3\""),
        (json!({"cert": cert, "key_file": key, "cert_file": cert}), "cert", "the nearest is \"cert_file\""),
    ];
    for (settings, key, words) in cases {
        let (problems, _) = tls(settings.clone());
        let [problem] = &problems[..] else { panic!("{settings}: {problems:#?}") };
        assert!(problem.starts_with(&format!("server.tls.{key}: ")) && problem.contains(words), "{problem}");
        assert!(!problem.contains("MAAA") && !problem.contains("BEGIN PRIVATE KEY-----\n"), "{problem}");
    }
    let (problems, _) = tls(json!({"cert_file": "/no/cert", "key_file": "/no/key", "client_ca_file": "/no/roots"}));
    assert_eq!(problems.len(), 3, "all at once: {problems:#?}");
    assert_eq!(tls(json!({})), (Vec::new(), Vec::new()), "asks for nothing");
}
