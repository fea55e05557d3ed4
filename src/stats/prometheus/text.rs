//! The two formats that Prometheus reads, written as their specifications have them: families whole and one after the other,
//! values and labels escaped. Pure: bytes out of numbers.
//!
//! Our own two hundred lines and no crate: those that keep metrics themselves, `prometheus-client` and `prometheus` among
//! them, want to own the counters, which here are a snapshot's, and each writes one of the two formats only.
//!
//! Sources: "Exposition formats" of Prometheus' documentation (text format 0.0.4), and "OpenMetrics, version 1.0". The
//! optional `_created` of the latter is left out.

use crate::metrics::Spread;

/// How a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' own, 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for; where it leaves the choice, Prometheus' own.
    pub(crate) fn of(accept: &str) -> Self {
        let (mut text, mut open) = (0.0, 0.0);
        for one in accept.split(',') {
            let mut parts = one.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0_f32, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match kind.as_str() {
                "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                    open = weight.max(open);
                }
                "text/plain" | "text/*" | "*/*" => text = weight.max(text),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family's numbers are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It only grows; its samples end in `_total`.
    Counter,
    /// It comes and goes.
    Gauge,
    /// It is always 1, and its labels say something; its sample ends in `_info`.
    Info,
    /// How values are spread: by these bounds, so many of which make one of the unit.
    Histogram(&'static [u64], u64),
}

/// A family as it is announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Without what its kind puts behind it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The base unit that the name ends in, if it does.
    pub(super) unit: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

impl Family {
    /// What the samples of a counter or an info have behind the name.
    fn ending(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram(..) => "",
        }
    }

    /// The name by which samples are found; those of a histogram have more behind it.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.name, self.ending())
    }

    pub(super) fn type_name(&self, format: Format) -> &'static str {
        match (self.kind, format) {
            (Kind::Counter, _) => "counter",
            (Kind::Histogram(..), _) => "histogram",
            (Kind::Info, Format::OpenMetrics) => "info",
            (Kind::Gauge | Kind::Info, _) => "gauge",
        }
    }
}

/// A scrape being written.
#[derive(Debug)]
pub(super) struct Scrape {
    format: Format,
    out: String,
}

impl Scrape {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: String::with_capacity(64 << 10) }
    }

    /// Writes a family: its head, if `fill` has samples for it, and these.
    pub(super) fn family(&mut self, family: &Family, fill: impl FnOnce(&mut Samples<'_>)) {
        let bounds = match family.kind {
            Kind::Histogram(bounds, per_unit) => {
                let text = |bound: &u64| format!("le=\"{:?}\"}} ", *bound as f64 / per_unit as f64);
                bounds.iter().map(text).chain(["le=\"+Inf\"} ".to_owned()]).collect()
            }
            _ => Vec::new(),
        };
        let (format, out) = (self.format, &mut self.out);
        fill(&mut Samples { family, format, bounds, labels: String::new(), announced: false, out });
    }

    /// The whole of it.
    pub(super) fn end(mut self) -> Vec<u8> {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out.into_bytes()
    }
}

/// The samples of one family. Labels are given in the family's order; an empty one is left out, as if it were not there.
pub(super) struct Samples<'a> {
    family: &'a Family,
    format: Format,
    /// What follows the labels of each bucket.
    bounds: Vec<String>,
    labels: String,
    announced: bool,
    out: &'a mut String,
}

impl Samples<'_> {
    /// A whole number.
    pub(super) fn count(&mut self, labels: &[&str], value: u64) {
        self.sample(labels, itoa::Buffer::new().format(value));
    }

    /// A number; one that is none is not known, and left out.
    pub(super) fn number(&mut self, labels: &[&str], value: f64) {
        if value.is_finite() {
            self.sample(labels, &value.to_string());
        }
    }

    /// A whole number, if it is known.
    pub(super) fn maybe(&mut self, labels: &[&str], value: Option<u64>) {
        if let Some(value) = value {
            self.count(labels, value);
        }
    }

    /// A histogram's buckets, count and sum.
    pub(super) fn histogram(&mut self, labels: &[&str], spread: &Spread) {
        let Kind::Histogram(bounds, per_unit) = self.family.kind else { return };
        debug_assert_eq!(spread.counts.len(), bounds.len() + 1, "{} has other bounds", self.family.name);
        self.begin(labels);
        let (name, comma) = (self.family.name, if self.labels.is_empty() { "" } else { "," });
        let (mut below, mut digits) = (0, itoa::Buffer::new());
        for (count, bound) in spread.counts.iter().zip(&self.bounds) {
            below += count;
            for part in [name, "_bucket{", &self.labels, comma, bound, digits.format(below), "\n"] {
                self.out.push_str(part);
            }
        }
        self.line("_sum", &(spread.sum as f64 / per_unit as f64).to_string());
        self.line("_count", digits.format(below));
    }

    fn sample(&mut self, labels: &[&str], value: &str) {
        self.begin(labels);
        self.line(self.family.ending(), value);
    }

    fn line(&mut self, ending: &str, value: &str) {
        let (open, close) = if self.labels.is_empty() { ("", " ") } else { ("{", "} ") };
        for part in [self.family.name, ending, open, &self.labels, close, value, "\n"] {
            self.out.push_str(part);
        }
    }

    /// Announces the family before its first sample, and writes down what the next one's labels are.
    fn begin(&mut self, labels: &[&str]) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{} has other labels", self.family.name);
        if !std::mem::replace(&mut self.announced, true) {
            self.announce();
        }
        self.labels.clear();
        for (name, value) in self.family.labels.iter().zip(labels).filter(|(_, value)| !value.is_empty()) {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(value, true, &mut self.labels);
            self.labels.push('"');
        }
    }

    fn announce(&mut self) {
        let Family { name, unit, help, .. } = *self.family;
        // Of OpenMetrics a counter's family has no `_total`, which in Prometheus' own format is part of its name.
        let name = if self.format == Format::OpenMetrics { name.to_owned() } else { self.family.shown() };
        self.out.push_str(&format!("# HELP {name} "));
        escape(help, self.format == Format::OpenMetrics, self.out);
        self.out.push_str(&format!("\n# TYPE {name} {}\n", self.family.type_name(self.format)));
        if self.format == Format::OpenMetrics && !unit.is_empty() {
            self.out.push_str(&format!("# UNIT {name} {unit}\n"));
        }
    }
}

/// A text as it stands within quotes, or in a help text, where Prometheus' own format leaves quotes as they are.
fn escape(text: &str, quotes: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNTER: Family =
        Family { name: "x_bytes", kind: Kind::Counter, unit: "bytes", labels: &["a", "b"], help: "A \"\\\n." };
    const SPREAD: Family = Family {
        name: "y_seconds",
        kind: Kind::Histogram(&[10, 1000], 1000),
        unit: "seconds",
        labels: &["a"],
        help: "B.",
    };

    fn written(format: Format, fill: impl FnOnce(&mut Scrape)) -> String {
        let mut scrape = Scrape::new(format);
        fill(&mut scrape);
        String::from_utf8(scrape.end()).expect("it is text")
    }

    /// The labels of a line as whoever reads it understands them: its own small reading of the grammar.
    fn labels_of(line: &str) -> Vec<(String, String)> {
        let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
        let (mut chars, mut labels) = (rest.chars(), Vec::new());
        loop {
            let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
            assert_eq!(chars.next(), Some('"'), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().expect("a quote ends it") {
                    '"' => break,
                    '\\' => value.push(match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('"' | '\\')) => c,
                        other => panic!("{other:?} after a backslash in {line}"),
                    }),
                    c => value.push(c),
                }
            }
            labels.push((name, value));
            match chars.next() {
                Some(',') => {}
                Some('}') => return labels,
                other => panic!("{other:?} in {line}"),
            }
        }
    }

    #[test]
    fn both_formats_are_as_their_specifications_have_them() {
        let fill = |scrape: &mut Scrape| {
            scrape.family(&COUNTER, |samples| {
                samples.count(&["1", ""], 7);
                samples.number(&["", ""], 0.5);
                samples.number(&["nobody", "knows"], f64::NAN);
                samples.maybe(&["nobody", "knows"], None);
            });
            scrape.family(&COUNTER, |_| {});
            scrape.family(&SPREAD, |samples| {
                samples.histogram(&["z"], &Spread { counts: vec![1, 0, 2], sum: 2500 });
                samples.histogram(&[""], &Spread { counts: vec![0, 0, 0], sum: 0 });
            });
        };
        let lines = |name: &str| {
            format!(
                "x_bytes_total{{a=\"1\"}} 7\nx_bytes_total 0.5\n{name}\
                 y_seconds_bucket{{a=\"z\",le=\"0.01\"}} 1\ny_seconds_bucket{{a=\"z\",le=\"1.0\"}} 1\n\
                 y_seconds_bucket{{a=\"z\",le=\"+Inf\"}} 3\ny_seconds_sum{{a=\"z\"}} 2.5\ny_seconds_count{{a=\"z\"}} 3\n\
                 y_seconds_bucket{{le=\"0.01\"}} 0\ny_seconds_bucket{{le=\"1.0\"}} 0\ny_seconds_bucket{{le=\"+Inf\"}} 0\n\
                 y_seconds_sum 0\ny_seconds_count 0\n"
            )
        };
        assert_eq!(
            written(Format::Text, fill),
            format!(
                "# HELP x_bytes_total A \"\\\\\\n.\n# TYPE x_bytes_total counter\n{}",
                lines("# HELP y_seconds B.\n# TYPE y_seconds histogram\n")
            )
        );
        assert_eq!(
            written(Format::OpenMetrics, fill),
            format!(
                "# HELP x_bytes A \\\"\\\\\\n.\n# TYPE x_bytes counter\n# UNIT x_bytes bytes\n{}# EOF\n",
                lines("# HELP y_seconds B.\n# TYPE y_seconds histogram\n# UNIT y_seconds seconds\n")
            )
        );
    }

    #[test]
    fn the_format_is_what_is_asked_for_most() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=0.0.1", Format::Text),
            ("Application/OpenMetrics-Text; Q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.3", Format::Text),
            (prometheus, Format::OpenMetrics),
        ] {
            assert_eq!(Format::of(accept), wanted, "{accept}");
        }
    }

    proptest! {
        /// Whatever a label says, it says to whoever reads it, and no line more than there are samples.
        #[test]
        fn hostile_labels_come_back_as_they_were(values in proptest::collection::vec(("\\PC*|[\\\\\"\n\r{},= ]*", any::<String>()), 1..8)) {
            for format in [Format::Text, Format::OpenMetrics] {
                let text = written(format, |scrape| scrape.family(&COUNTER, |samples| {
                    values.iter().for_each(|(a, b)| samples.count(&[a, b], 1));
                }));
                let lines: Vec<_> = text.split('\n').filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
                prop_assert_eq!(lines.len(), values.len());
                for (line, (a, b)) in lines.iter().zip(&values) {
                    let wanted = [("a", a), ("b", b)].into_iter().filter(|(_, value)| !value.is_empty());
                    let wanted: Vec<_> = wanted.map(|(name, value)| (name.to_owned(), value.clone())).collect();
                    prop_assert_eq!(labels_of(line), wanted);
                    prop_assert!(line.ends_with(" 1"));
                }
            }
        }
    }
}
