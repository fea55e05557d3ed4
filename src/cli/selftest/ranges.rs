//! Claims about the ranges of the page: silence within, a warning outside, an error beyond the limit.

use serde_json::{Value, json};

use super::rig::{Miss, NAME, Verdict, ensure};
use crate::config::{Config, ConfigError};

/// What a configuration with this one value comes to.
fn read(section: &str, key: &str, value: &Value) -> Result<Config, ConfigError> {
    let settings = json!({ section: { key: value }, "kind": "sim" });
    let whole = match section {
        "server" => json!({ section: { key: value }, "providers": { NAME: { "kind": "sim" } } }),
        _ => json!({ "providers": { NAME: settings } }),
    };
    Config::from_json(&whole.to_string(), &|_| None)
}

/// Tries the ends of the page's range, the first values outside it, and the first beyond the limits.
fn edges(section: &str, key: &str, within: [Value; 2], outside: [Value; 2], beyond: &[Value]) -> Verdict {
    for value in &within {
        let warnings = read(section, key, value)?.warnings;
        ensure(warnings.is_empty(), || format!("{value} is within, and warns: {warnings:?}"))?;
    }
    for value in &outside {
        let warnings = read(section, key, value)?.warnings;
        let names_it = |warning: &String| warning.contains(key) && warning.contains("usual range");
        ensure(warnings.len() == 1 && warnings.iter().all(names_it), || format!("{value} is outside: {warnings:?}"))?;
    }
    for value in beyond {
        let error = read(section, key, value).err().ok_or_else(|| Miss::new(format!("{value} was taken")))?;
        ensure(error.to_string().contains(key), || format!("{value}: {error}"))?;
    }
    let ([low, high], [below, above]) = (within, outside);
    let beyond: Vec<_> = beyond.iter().map(Value::to_string).collect();
    Ok(format!("{low} and {high} silent, {below} and {above} warned of, {} refused", beyond.join(" and ")))
}

const SIZES: &str = "concurrency_and_buffer_size";

pub(super) fn buffer_size() -> Verdict {
    edges(SIZES, "buffer_size", [json!(100), json!(1000)], [json!(99), json!(1001)], &[json!(0), json!(1_000_001)])
}

pub(super) fn concurrency() -> Verdict {
    edges(SIZES, "concurrency", [json!(10), json!(100)], [json!(9), json!(101)], &[json!(0), json!(1_000_000)])
}

pub(super) fn result_buffer() -> Verdict {
    edges(SIZES, "result_buffer", [json!(50), json!(500)], [json!(49), json!(501)], &[json!(0), json!(65_537)])
}

pub(super) fn wait_timeout() -> Verdict {
    let outside = [json!("999ms"), json!("10001ms")];
    edges("queue", "wait_timeout", [json!("1s"), json!("10s")], outside, &[json!(0), json!("601s")])
}

pub(super) fn request_timeout() -> Verdict {
    let key = "default_request_timeout_in_seconds";
    edges("network_config", key, [json!(30), json!(300)], [json!(29), json!(301)], &[json!("9ms"), json!("25h")])
}

pub(super) fn shutdown_timeout() -> Verdict {
    let outside = [json!("4999ms"), json!("30001ms")];
    edges("server", "shutdown_timeout", [json!("5s"), json!("30s")], outside, &[json!("61m")])
}
