//! What is measured of each model by itself, under the names of OpenTelemetry's conventions for generative AI.
//!
//! The convention's *client* is a worker here and its operation one attempt at a provider, from when the worker takes it to
//! its end: only an attempt has one provider, one model and one outcome, and each is counted once, as `jobs` in `/stats`. Its
//! *server* is the gateway: a request from its arrival to its end, under what it first led to.
//!
//! **Cost.** One look-up an attempt and one a request, by the model's name, without a lock; then two counters a value. Nothing
//! is allocated once a series stands. The gaps between a stream's chunks are kept by its worker and counted at its end.
//!
//! **Invariants.** I4: models are what callers say, so a name has series of its own only where the configuration names it, or
//! where the provider has answered to it, at most [`MOST_MODELS`] such of a provider; all others count together as [`OTHER`].

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::figures::Figures;
use crate::config::{self, Kind};
use crate::error::Code;
use crate::metrics::{BOUNDS, Buckets, Spread};
use crate::model::{Operation, Usage};
use crate::time::micros_of;

/// The most models of a provider that have series of their own without being named by the configuration or the built-in list. A
/// model's take some 25 kB of each scrape, and 9 kB more for each error that it has ended with.
pub(crate) const MOST_MODELS: usize = 64;

/// The longest name that has, in bytes.
const LONGEST_NAME: usize = 128;

/// What the models are called that have none.
pub(crate) const OTHER: &str = "_other";

/// The convention's bounds of times, in microseconds: 0.01 s, and twice the last each time.
pub(crate) const TIMES_US: [u64; BOUNDS] = ladder(10_000, 2);

/// The convention's bounds of tokens: 1, and four times the last each time.
pub(crate) const TOKENS: [u64; BOUNDS] = ladder(1, 4);

const fn ladder(first: u64, factor: u64) -> [u64; BOUNDS] {
    let mut bounds = [first; BOUNDS];
    let mut at = 1;
    while at < BOUNDS {
        bounds[at] = bounds[at - 1] * factor;
        at += 1;
    }
    bounds
}

/// The convention's names of operations, and ours where it has none.
const OPERATIONS: [&str; 5] = ["chat", "text_completion", "embeddings", "count_tokens", "forward"];

fn operation_of(operation: &Operation) -> usize {
    match operation {
        Operation::Completions => 1,
        Operation::Embeddings => 2,
        Operation::CountTokens => 3,
        Operation::Forward(_) => 4,
        _ => 0,
    }
}

/// Each model's measures, by operation; made when a first value comes.
type Model = [OnceLock<Box<Measures>>; OPERATIONS.len()];

#[derive(Debug, Default)]
struct Measures {
    attempts: Outcomes,
    requests: Outcomes,
    first_chunk: Buckets,
    gaps: Buckets,
    input: Buckets,
    output: Buckets,
}

/// How long what ended well took, and what ended with each error.
#[derive(Debug, Default)]
struct Outcomes {
    good: Buckets,
    failed: [OnceLock<Box<Buckets>>; Code::ALL.len()],
}

impl Outcomes {
    fn record(&self, failed: Option<Code>, took: Duration) {
        let index = failed.and_then(|code| Code::ALL.iter().position(|each| *each == code));
        let buckets = match index {
            Some(index) => self.failed[index].get_or_init(Box::default),
            None => &self.good,
        };
        buckets.record(&TIMES_US, micros_of(took));
    }

    fn spreads(&self) -> Vec<(Option<Code>, Spread)> {
        let good = self.good.spread().map(|spread| (None, spread));
        let failed = Code::ALL.iter().zip(&self.failed);
        let failed = failed.filter_map(|(code, buckets)| Some((Some(*code), buckets.get()?.spread()?)));
        good.into_iter().chain(failed).collect()
    }
}

/// The series of one provider.
#[derive(Debug, Default)]
pub(crate) struct Series {
    table: ArcSwap<Table>,
    other: Arc<Model>,
}

/// The models that have series of their own.
#[derive(Clone, Debug, Default)]
struct Table {
    models: HashMap<Arc<str>, Arc<Model>>,
    /// Those of them that the provider alone knows.
    strangers: usize,
}

impl Series {
    /// Keeps places for these models, whether or not anybody asks for them.
    pub(super) fn know(&self, identity: &Identity) {
        for name in &identity.models {
            self.add(name, false);
        }
    }

    /// The series of a model: its own if it has some.
    fn find(&self, model: &str) -> Arc<Model> {
        self.table.load().models.get(model).unwrap_or(&self.other).clone()
    }

    /// The same of one that the provider answers to.
    fn own(&self, model: &Arc<str>) -> Arc<Model> {
        let table = self.table.load();
        if let Some(known) = table.models.get(model) {
            return Arc::clone(known);
        }
        // Where there is no room, nothing is made anew.
        if table.strangers < MOST_MODELS {
            self.add(model, true);
        }
        self.find(model)
    }

    /// Gives a model series of its own. Once for each: the table is made anew, and those who read it go on with the one that
    /// they have.
    fn add(&self, model: &Arc<str>, is_stranger: bool) {
        // What all others are called is nobody's name.
        if model.len() > LONGEST_NAME || **model == *OTHER {
            return;
        }
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            let has_room = !is_stranger || table.strangers < MOST_MODELS;
            if has_room && !table.models.contains_key(model) {
                table.models.insert(Arc::clone(model), Arc::default());
                table.strangers += usize::from(is_stranger);
            }
            table
        });
    }

    /// Everything that was measured, by model and operation; a name's rows always in the same order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let table = self.table.load();
        let mut all: Vec<_> = table.models.iter().map(|(name, model)| (Arc::clone(name), model)).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all.push((OTHER.into(), &self.other));
        let rows = all.iter().flat_map(|(name, model)| {
            let measures = OPERATIONS.iter().zip(model.iter());
            measures.filter_map(|(operation, measures)| Some(measures.get()?.row(operation, Arc::clone(name))))
        });
        rows.collect()
    }
}

impl Measures {
    fn row(&self, operation: &'static str, model: Arc<str>) -> Row {
        Row {
            operation,
            model,
            attempts: self.attempts.spreads(),
            requests: self.requests.spreads(),
            first_chunk: self.first_chunk.spread(),
            gaps: self.gaps.spread(),
            input: self.input.spread(),
            output: self.output.spread(),
        }
    }
}

/// What was measured of one operation of one model. Times are microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) model: Arc<str>,
    /// Attempts that a worker took, by the error that they ended with.
    pub(crate) attempts: Vec<(Option<Code>, Spread)>,
    /// Requests that first led here, by the error that they ended with.
    pub(crate) requests: Vec<(Option<Code>, Spread)>,
    /// From a worker's taking to a stream's first chunk.
    pub(crate) first_chunk: Option<Spread>,
    /// Between a stream's chunks.
    pub(crate) gaps: Option<Spread>,
    /// Tokens of requests, and of answers.
    pub(crate) input: Option<Spread>,
    pub(crate) output: Option<Spread>,
}

/// What an attempt or a request asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    operation: usize,
    model: Arc<str>,
    /// Its series, once they are looked up for good.
    found: Option<Arc<Model>>,
}

impl Asked {
    pub(crate) fn of(operation: &Operation, model: &Arc<str>) -> Self {
        Self { operation: operation_of(operation), model: Arc::clone(model), found: None }
    }

    /// The provider has begun to answer well: it knows the model.
    pub(super) fn accepted(&mut self, series: &Series) {
        self.found = Some(series.own(&self.model));
    }

    pub(super) fn note_usage(&self, series: &Series, usage: Usage) {
        self.measure(series, |measures| {
            measures.input.record(&TOKENS, usage.input);
            measures.output.record(&TOKENS, usage.output);
        });
    }

    pub(super) fn note_chunks(&self, series: &Series, chunks: &Chunks) {
        let Some(first) = chunks.first else { return };
        self.measure(series, |measures| {
            measures.first_chunk.record(&TIMES_US, micros_of(first));
            for (gap, count) in chunks.gaps() {
                measures.gaps.add(&TIMES_US, gap, count);
            }
        });
    }

    /// The attempt has ended.
    pub(super) fn note_attempt(&self, series: &Series, failed: Option<Code>, took: Duration) {
        self.measure(series, |measures| measures.attempts.record(failed, took));
    }

    fn measure(&self, series: &Series, note: impl FnOnce(&Measures)) {
        let looked_up;
        let model = match &self.found {
            Some(found) => found,
            None => {
                looked_up = series.find(&self.model);
                &looked_up
            }
        };
        note(model[self.operation].get_or_init(Box::default));
    }
}

/// What a request first led to.
#[derive(Debug)]
pub(crate) struct Asking {
    figures: Arc<Figures>,
    asked: Asked,
}

impl Asking {
    pub(super) fn new(figures: &Arc<Figures>, operation: &Operation, model: &Arc<str>) -> Self {
        Self { figures: Arc::clone(figures), asked: Asked::of(operation, model) }
    }

    /// The request has ended.
    pub(crate) fn ended(&self, failed: Option<Code>, took: Duration) {
        self.asked.measure(&self.figures.series, |measures| measures.requests.record(failed, took));
    }
}

/// When the chunks of one stream came, which is its worker's alone.
///
/// The relay looks at its clock once for what one read brought, and so do these: chunks that came together have nothing
/// between them.
#[derive(Debug)]
pub(crate) struct Chunks {
    taken: Instant,
    /// Those since the clock was last read.
    new: u64,
    first: Option<Duration>,
    last: Option<Instant>,
    /// Chunks that came together with the one before.
    together: u64,
    /// How many of the others came in each range of time, and those times together.
    counts: [u64; BOUNDS + 1],
    sums: [u64; BOUNDS + 1],
}

impl Chunks {
    /// None yet, of a stream whose job was taken at `taken`.
    pub(super) fn since(taken: Instant) -> Self {
        let none = [0; BOUNDS + 1];
        Self { taken, new: 0, first: None, last: None, together: 0, counts: none, sums: none }
    }

    /// One more has come.
    pub(super) fn came(&mut self) {
        self.new += 1;
    }

    /// It is now `at`, and what has come since the last time came now.
    pub(super) fn heard(&mut self, at: Instant) {
        let Some(more) = self.new.checked_sub(1) else { return };
        self.new = 0;
        self.together += more;
        match self.last.replace(at) {
            None => self.first = Some(at.saturating_duration_since(self.taken)),
            Some(last) => {
                let gap = micros_of(at.saturating_duration_since(last));
                let range = TIMES_US.partition_point(|bound| *bound < gap);
                self.counts[range] += 1;
                self.sums[range] = self.sums[range].saturating_add(gap);
            }
        }
    }

    /// The gaps: each range's mean, which lies in that range, and how many there were of it.
    fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let ranges = self.sums.iter().zip(&self.counts).filter(|(_, count)| **count > 0);
        let together = (self.together > 0).then_some((0, self.together));
        together.into_iter().chain(ranges.map(|(sum, count)| (sum / count, *count)))
    }
}

/// Who a provider is by the convention, and the models that its configuration names.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `gen_ai.provider.name`.
    pub(crate) name: Arc<str>,
    /// `server.address` and `server.port`, where it has one.
    pub(crate) address: Option<(Arc<str>, u16)>,
    models: Vec<Arc<str>>,
}

/// The convention's names of those that speak OpenAI's shape: what each is called here, and how the host ends where it lives,
/// whatever it is called.
const NAMES: [(&str, &str, &str); 11] = [
    ("openai", "api.openai.com", "openai"),
    ("azure", ".openai.azure.com", "azure.ai.openai"),
    ("gemini", "generativelanguage.googleapis.com", "gcp.gemini"),
    ("mistral", "api.mistral.ai", "mistral_ai"),
    ("xai", "api.x.ai", "x_ai"),
    ("groq", "api.groq.com", "groq"),
    ("deepseek", "api.deepseek.com", "deepseek"),
    ("perplexity", "api.perplexity.ai", "perplexity"),
    ("vertex", "aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("moonshot", "api.moonshot.ai", "moonshot_ai"),
    ("cohere", "api.cohere.ai", "cohere"),
];

impl Identity {
    /// One that no configuration has.
    pub(crate) fn nobody() -> Self {
        Self { name: "".into(), address: None, models: Vec::new() }
    }

    pub(crate) fn of(provider: &config::Provider) -> Self {
        let address = provider.address();
        let host = address.as_ref().map_or("", |(host, _)| host);
        let by_host = || NAMES.iter().find(|(_, end, _)| host.ends_with(end));
        let by_name = || NAMES.iter().find(|(own, ..)| *own == provider.name);
        let name = match provider.kind {
            Kind::Anthropic => "anthropic",
            #[cfg(feature = "bedrock")]
            Kind::Bedrock => "aws.bedrock",
            Kind::OpenAi => by_host().or_else(by_name).map_or(provider.name.as_str(), |(.., name)| name),
            _ => &provider.name,
        };
        Self {
            name: name.into(),
            models: provider.known_models(provider.models).into_iter().map(Arc::from).collect(),
            address: address.map(|(host, port)| (host.into(), port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    fn rows_of(series: &Series, of: fn(&Row) -> u64) -> Vec<(String, u64)> {
        series.rows().iter().map(|row| (row.model.to_string(), of(row))).collect()
    }

    fn attempts(row: &Row) -> u64 {
        row.attempts.iter().map(|(_, spread)| spread.count()).sum()
    }

    #[test]
    fn a_storm_of_names_has_as_many_series_as_are_allowed_and_counts_them_all() {
        let series = Series::default();
        for n in 0..10_000 {
            let mut asked = Asked::of(&Operation::ChatCompletions, &format!("model-{n}").into());
            if n % 2 == 0 {
                asked.accepted(&series);
            }
            asked.note_attempt(&series, None, Duration::from_millis(n));
        }
        let rows = rows_of(&series, attempts);
        assert_eq!(rows.len(), MOST_MODELS + 1);
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
        assert_eq!(rows.last(), Some(&(OTHER.to_owned(), 10_000 - MOST_MODELS as u64)));
        assert!(!rows.iter().any(|(name, _)| name == "model-1"), "the provider never answered to it");
        // What the configuration names has room all the same.
        let identity = Identity { models: vec!["named".into()], ..Identity::nobody() };
        series.know(&identity);
        Asked::of(&Operation::ChatCompletions, &identity.models[0]).note_attempt(&series, None, Duration::ZERO);
        assert!(rows_of(&series, attempts).contains(&("named".to_owned(), 1)));
        for name in ["x".repeat(LONGEST_NAME + 1), OTHER.to_owned()] {
            let fresh = Series::default();
            let mut asked = Asked::of(&Operation::Embeddings, &name.into());
            asked.accepted(&fresh);
            asked.note_attempt(&fresh, Some(Code::StreamCut), Duration::ZERO);
            assert_eq!(rows_of(&fresh, attempts), [(OTHER.to_owned(), 1)]);
        }
    }

    #[test]
    fn threads_that_meet_a_new_model_count_in_one_series() {
        let series = Series::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200 {
                        let mut asked = Asked::of(&Operation::Completions, &format!("model-{}", n % 20).into());
                        asked.accepted(&series);
                        asked.note_usage(&series, Usage { input: 3, output: 5 });
                    }
                });
            }
        });
        let rows = rows_of(&series, |row| row.input.as_ref().map_or(0, Spread::count));
        assert_eq!((rows.len(), rows.iter().all(|(_, count)| *count == 40)), (20, true));
    }

    #[test]
    fn chunks_that_came_together_have_nothing_between_them_and_the_others_their_gaps() {
        let (start, ms) = (now(), Duration::from_millis);
        let mut chunks = Chunks::since(start);
        chunks.heard(start);
        assert_eq!((chunks.first, chunks.gaps().count()), (None, 0), "no chunk has come");
        for (at, came) in [(30, 2), (40, 0), (45, 1), (60, 3), (1060, 1)] {
            (0..came).for_each(|_| chunks.came());
            chunks.heard(start + ms(at));
        }
        assert_eq!(chunks.first, Some(ms(30)));
        let in_ms: Vec<_> = chunks.gaps().map(|(gap, count)| (gap / 1000, count)).collect();
        assert_eq!(in_ms, [(0, 3), (15, 2), (1000, 1)]);
        let series = Series::default();
        Asked::of(&Operation::Messages, &"m".into()).note_chunks(&series, &chunks);
        let rows = series.rows();
        let gaps = rows[0].gaps.as_ref().expect("there are gaps");
        assert_eq!((gaps.count(), gaps.sum), (6, 1_030_000));
        assert_eq!(rows[0].first_chunk.as_ref().map(Spread::count), Some(1));
    }

    #[test]
    fn the_bounds_are_the_conventions() {
        let seconds = TIMES_US.map(|bound| bound as f64 / 1e6);
        let wanted = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
        assert_eq!(seconds, wanted);
        let wanted =
            [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];
        assert_eq!(TOKENS, wanted);
    }

    #[test]
    fn a_provider_has_its_conventional_name_by_its_kind_its_host_or_its_name() {
        let document = r#"{ "providers": {
            "openai": { "keys": [ { "value": "k" } ] }, "mistral": { "keys": [ { "value": "k" } ] },
            "azure": { "keys": [ { "value": "k" } ], "network_config": { "base_url": "https://me.openai.azure.com" } },
            "eu": { "kind": "openai", "network_config": { "base_url": "https://eu.api.openai.com" } },
            "claude": { "kind": "anthropic", "network_config": { "base_url": "http://127.0.0.1:9000" } },
            "own": { "kind": "openai", "network_config": { "base_url": "http://[::1]:9000/v1" },
                     "keys": [ { "value": "k", "models": ["a", "b"] } ] }, "sim": {} } }"#;
        let config = config::Config::from_json(document, &|_: &str| None).expect("a configuration");
        let names = config.providers.iter().map(|provider| (provider.name.as_str(), Identity::of(provider)));
        let all: HashMap<_, _> = names.collect();
        for (own, name) in [
            ("openai", "openai"),
            ("mistral", "mistral_ai"),
            ("azure", "azure.ai.openai"),
            ("eu", "openai"),
            ("claude", "anthropic"),
            ("own", "own"),
            ("sim", "sim"),
        ] {
            assert_eq!(&*all[own].name, name, "{own}");
        }
        assert_eq!(all["own"].address, Some(("::1".into(), 9000)));
        assert_eq!(all["eu"].address, Some(("eu.api.openai.com".into(), 443)));
        assert_eq!(all["sim"].address, None);
        assert_eq!(all["own"].models, ["a".into(), "b".into()]);
        assert!(all["openai"].models.contains(&"gpt-4o-mini".into()));
    }
}
