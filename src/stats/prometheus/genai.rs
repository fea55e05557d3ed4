//! What OpenTelemetry's semantic conventions for generative AI name, by OpenTelemetry's own rules for Prometheus: dots become
//! underscores, and a unit that is one stands behind the name.
//!
//! *Client* is one attempt of the gateway's at a provider, *server* one request that the gateway answers. Of the server's
//! measures the time to a first token and per output token are those of a model's own server, which the gateway is not.
//! `gen_ai.response.model` is left out: it stands within answers that pass through unread. `provider` stands beside the
//! convention's attributes, since two providers of a configuration may be one by the convention.
//!
//! Source: "Semantic conventions for generative AI metrics", status Development.

use super::text::{Family, Kind, Samples};
use super::{Entry, Scene};
use crate::error::Code;
use crate::metrics::Spread;
use crate::provider::{ProviderStats, Row, TIMES_US, TOKENS};

const SECONDS: Kind = Kind::Histogram(&TIMES_US, 1_000_000);

/// What all of a client's have.
const CLIENT: [&str; 6] = [
    "provider",
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "server_address",
    "server_port",
];

/// The same with one more.
const fn client_and(label: &'static str) -> [&'static str; 7] {
    let [a, b, c, d, e, f] = CLIENT;
    [a, b, c, d, e, f, label]
}

const CLIENT_ERROR: [&str; 7] = client_and("error_type");
const CLIENT_TOKENS: [&str; 7] = client_and("gen_ai_token_type");

pub(super) const FAMILIES: &[Entry] = &[
    Entry {
        family: Family {
            name: "gen_ai_client_operation_duration_seconds",
            kind: SECONDS,
            unit: "seconds",
            labels: &CLIENT_ERROR,
            help: "How long each attempt at a provider took, from the worker that took it to its end.",
        },
        fill: |scene, samples| {
            each(scene, |client, row| {
                for (failed, spread) in &row.attempts {
                    samples.histogram(&client.and(word(*failed)), spread);
                }
            });
        },
    },
    Entry {
        family: Family {
            name: "gen_ai_client_operation_time_to_first_chunk_seconds",
            kind: SECONDS,
            unit: "seconds",
            labels: &CLIENT,
            help: "How long the first chunk of a stream took to come.",
        },
        fill: |scene, samples| streams(scene, samples, |row| row.first_chunk.as_ref()),
    },
    Entry {
        family: Family {
            name: "gen_ai_client_operation_time_per_output_chunk_seconds",
            kind: SECONDS,
            unit: "seconds",
            labels: &CLIENT,
            help: "How long after the one before each further chunk of a stream came, counted at the stream's end.",
        },
        fill: |scene, samples| streams(scene, samples, |row| row.gaps.as_ref()),
    },
    Entry {
        family: Family {
            name: "gen_ai_client_token_usage",
            kind: Kind::Histogram(&TOKENS, 1),
            unit: "",
            labels: &CLIENT_TOKENS,
            help: "Tokens of each attempt that the provider counted.",
        },
        fill: |scene, samples| {
            each(scene, |client, row| {
                for (kind, spread) in [("input", &row.input), ("output", &row.output)] {
                    if let Some(spread) = spread {
                        samples.histogram(&client.and(kind), spread);
                    }
                }
            });
        },
    },
    Entry {
        family: Family {
            name: "gen_ai_server_request_duration_seconds",
            kind: SECONDS,
            unit: "seconds",
            labels: &[
                "provider",
                "gen_ai_operation_name",
                "gen_ai_provider_name",
                "gen_ai_request_model",
                "error_type",
            ],
            help: "How long each request took, from its arrival to its end, by the provider and model that it first led to.",
        },
        fill: |scene, samples| {
            each(scene, |client, row| {
                let [provider, operation, name, model, ..] = client.labels();
                for (failed, spread) in &row.requests {
                    samples.histogram(&[provider, operation, name, model, word(*failed)], spread);
                }
            });
        },
    },
];

/// Whom a row is of.
struct Client<'a> {
    provider: &'a str,
    stats: &'a ProviderStats,
    row: &'a Row,
    port: &'a str,
}

impl Client<'_> {
    fn labels(&self) -> [&str; 6] {
        let identity = &self.stats.measured.identity;
        let address = identity.address.as_ref().map_or("", |(host, _)| host);
        [self.provider, self.row.operation, &identity.name, &self.row.model, address, self.port]
    }

    fn and<'a>(&'a self, value: &'a str) -> [&'a str; 7] {
        let [a, b, c, d, e, f] = self.labels();
        [a, b, c, d, e, f, value]
    }
}

fn each(scene: &Scene<'_>, mut visit: impl FnMut(&Client<'_>, &Row)) {
    for (provider, stats) in scene.providers() {
        let port = stats.measured.identity.address.as_ref().map_or_else(String::new, |(_, port)| port.to_string());
        for row in &stats.measured.rows {
            visit(&Client { provider, stats, row, port: &port }, row);
        }
    }
}

fn streams(scene: &Scene<'_>, samples: &mut Samples<'_>, of: fn(&Row) -> Option<&Spread>) {
    each(scene, |client, row| {
        if let Some(spread) = of(row) {
            samples.histogram(&client.labels(), spread);
        }
    });
}

/// `error.type`: a code of ours, and nothing where there was no error.
fn word(failed: Option<Code>) -> &'static str {
    failed.map_or("", Code::as_str)
}
