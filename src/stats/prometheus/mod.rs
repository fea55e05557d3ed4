//! A snapshot as Prometheus reads it: `GET /metrics`. Pure: text out of a snapshot, which is the one that `/stats` shows.
//!
//! `families` is the list of what there is, `genai` what stands there under OpenTelemetry's names, `text` how it is written.

mod families;
mod genai;
mod text;

use std::time::Duration;

pub(crate) use text::Format;

use crate::gateway::Snapshot;
use crate::provider::ProviderStats;
use text::{Family, Samples, Scrape};

/// What a scrape is made of.
struct Scene<'a> {
    snapshot: &'a Snapshot,
    /// How long ago the snapshot was taken.
    age: Duration,
}

impl Scene<'_> {
    /// The providers, each by the name that the configuration has for it.
    fn providers(&self) -> impl Iterator<Item = (&str, &ProviderStats)> {
        self.snapshot.providers.iter().map(|(name, stats)| (name.as_str(), stats))
    }
}

/// A family, and where its samples come from.
struct Entry {
    family: Family,
    fill: fn(&Scene<'_>, &mut Samples<'_>),
}

fn all() -> impl Iterator<Item = &'static Entry> {
    families::FAMILIES.iter().chain(genai::FAMILIES)
}

/// Writes a snapshot that was taken so long ago.
pub(crate) fn encode(snapshot: &Snapshot, age: Duration, format: Format) -> Vec<u8> {
    let scene = Scene { snapshot, age };
    let mut scrape = Scrape::new(format);
    for Entry { family, fill } in all() {
        scrape.family(family, |samples| fill(&scene, samples));
    }
    scrape.end()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The README's table of what there is, a line each.
    fn table() -> String {
        let row = |Entry { family, .. }: &Entry| {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = family.type_name(Format::Text);
            format!("| `{}` | {kind} | {} | {} |\n", family.shown(), labels.join(", "), family.help)
        };
        all().map(row).collect()
    }

    #[test]
    fn the_readme_lists_what_there_is() {
        let readme = include_str!("../../../README.md");
        let table = table();
        assert!(readme.contains(&table), "the table in the README is not this one:\n{table}");
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = BTreeSet::new();
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        for Entry { family, .. } in all() {
            let Family { name, unit, labels, help, .. } = family;
            assert!(seen.insert(*name), "{name} stands there twice");
            assert!(word(name) && labels.iter().all(|label| word(label) && *label != "le"), "{name} {labels:?}");
            assert!(["sluicegate_", "gen_ai_", "process_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert!(
                !["_total", "_info", "_count", "_sum", "_bucket", "_created"].iter().any(|end| name.ends_with(end))
            );
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name} does not end in {unit}");
            assert!(!["_us", "_ms", "_ns"].iter().any(|end| name.ends_with(end)), "{name} has no base unit");
            assert!(help.ends_with('.') && !help.contains(['|', '\n']), "{name}: {help}");
        }
    }

    /// The value of a series.
    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn a_reload_counts_on_and_a_provider_that_is_removed_is_gone_with_its_last_work() {
        let config = |text: &str| crate::Config::from_json(text, &|_: &str| None).expect("a configuration");
        let both = r#"{ "providers": { "one": { "kind": "sim" }, "two": { "kind": "sim" } } }"#;
        let gateway = crate::Gateway::builder().config(config(both)).build().expect("it starts");
        let shown = || {
            let text = encode(&gateway.stats(), Duration::ZERO, Format::Text);
            String::from_utf8(text).expect("it is text")
        };
        let series = "gen_ai_client_operation_duration_seconds_count{provider=\"one\",gen_ai_operation_name=\"chat\",\
                      gen_ai_provider_name=\"one\",gen_ai_request_model=\"echo\"}";
        for model in ["one/echo", "two/echo"] {
            gateway.ask(model, "Hello").expect("it answers");
        }
        assert_eq!(value(&shown(), series), Some(1.0));
        let one = r#"{ "providers": { "one": { "kind": "sim", "queue": { "wait_timeout": "3s" } } } }"#;
        gateway.reload(config(one)).expect("it is taken");
        gateway.ask("one/echo", "Hello").expect("it answers");
        assert_eq!(value(&shown(), series), Some(2.0));
        assert_eq!(value(&shown(), "sluicegate_queue_submitted_total{provider=\"one\"}"), Some(2.0));
        let fuse = crate::time::Deadline::after(Duration::from_secs(5));
        while shown().contains("provider=\"two\"") {
            assert!(!fuse.passed(), "its series stay");
            std::thread::yield_now();
        }
    }

    #[test]
    fn families_are_whole_and_no_series_stands_twice() {
        let gateway = crate::Gateway::from_env().expect("it starts");
        for model in ["sim/echo", "sim/lorem-3", "sim/fail-400", "sim/fail-404"] {
            let _ = gateway.ask(model, "Hello");
        }
        let snapshot = gateway.stats();
        for format in [Format::Text, Format::OpenMetrics] {
            let text = String::from_utf8(encode(&snapshot, Duration::from_millis(5), format)).expect("it is text");
            let (mut family, mut families, mut series) = (String::new(), BTreeSet::new(), BTreeSet::new());
            for line in text.lines().filter(|line| *line != "# EOF") {
                if let Some(rest) = line.strip_prefix("# HELP ") {
                    family = rest.split(' ').next().expect("a name").to_owned();
                    assert!(families.insert(family.clone()), "{family} begins twice");
                } else if !line.starts_with('#') {
                    let (name, value) = line.rsplit_once(' ').expect("a value");
                    assert!(name.starts_with(&family), "{line} stands in {family}");
                    assert!(series.insert(name.to_owned()), "{name} stands there twice");
                    assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                }
            }
            assert!(families.len() > 80 && series.iter().any(|name| name.contains("error_type=\"upstream_error\"")));
        }
    }
}
