//! Parts of a provider as a program writes them: its keys, its limits a minute, its breaker, its scaling.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::expand::refers;
use super::{Draft, Said, setters};
use crate::secret::Secret;

/// Makes the type of a part: how it begins and how it is shown.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq)]
        pub struct $name {
            draft: Draft,
        }

        impl Said for $name {
            fn said(self) -> Value {
                self.draft.said()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.draft).finish()
            }
        }
    };
}

part! {
    /// A key of a provider's. Prints nothing of it.
    ///
    /// ```
    /// use sluicegate::{KeySetup, ProviderSetup, RateLimitSetup};
    ///
    /// let small = KeySetup::new("sk-small").named("small").models(["gpt-4o-mini"]).weight(3.0);
    /// let large = KeySetup::from_env("LARGE_KEY").rate_limit(RateLimitSetup::default().requests_per_minute(60));
    /// let provider = ProviderSetup::known("openai").key(small).key(large).key(KeySetup::from_file("/run/secrets/key"));
    /// assert!(!format!("{provider:?}").contains("sk-small"));
    /// ```
    KeySetup
}

impl KeySetup {
    /// The key itself, printable ASCII; taken as it is, whatever it looks like.
    #[must_use]
    pub fn new(value: impl Into<Secret>) -> Self {
        Self::of(&value.into())
    }

    /// The key that stands in a variable of the environment, looked up when the gateway is built.
    #[must_use]
    pub fn from_env(variable: &str) -> Self {
        let short = format!("env.{variable}");
        // What is no variable's name must not be taken for the key: in this form it is refused.
        Self::of(Value::from(if refers(&short) { short } else { format!("${{{variable}}}") }))
    }

    /// The key that stands in a file, read when the gateway is built; its last line end is none of it.
    #[must_use]
    pub fn from_file(path: impl AsRef<Path>) -> Self {
        Self::of(Value::from(format!("file:{}", path.as_ref().display())))
    }

    /// A key of AWS's, by which each request is signed: for Bedrock.
    ///
    /// ```
    /// use sluicegate::{KeySetup, ProviderSetup};
    ///
    /// let key = KeySetup::aws("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG").region("eu-central-1");
    /// let provider = ProviderSetup::known("bedrock").key(key);
    /// assert!(!format!("{provider:?}").contains("AKIDEXAMPLE"));
    /// ```
    #[cfg(feature = "bedrock")]
    #[must_use]
    pub fn aws(access_key: impl Into<Secret>, secret_key: impl Into<Secret>) -> Self {
        let mut key = Self::default();
        key.draft.set(&["bedrock_key_config", "access_key"], &access_key.into());
        key.draft.set(&["bedrock_key_config", "secret_key"], &secret_key.into());
        key
    }

    /// What temporary keys of AWS's carry.
    #[cfg(feature = "bedrock")]
    #[must_use]
    pub fn session_token(mut self, token: impl Into<Secret>) -> Self {
        self.draft.set(&["bedrock_key_config", "session_token"], &token.into());
        self
    }

    /// The region of AWS's that the key is for; by default what the environment names, or `us-east-1`.
    #[cfg(feature = "bedrock")]
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.draft.set(&["bedrock_key_config", "region"], region);
        self
    }

    fn of(value: impl Said) -> Self {
        let mut key = Self::default();
        key.draft.set(&["value"], value);
        key
    }

    /// Names it in logs and figures, instead of by its place. No two keys of a provider have one name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.draft.set(&["name"], name);
        self
    }

    /// The models that it is for, by the provider's names, instead of any.
    #[must_use]
    pub fn models(mut self, models: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        models.into_iter().for_each(|model| self.draft.push(&["models"], model.as_ref()));
        self
    }
}

setters! { KeySetup:
    /// Its share among the keys of a model: 1 by default, 0 to 10⁹. One of 0 is used where no other is there.
    weight(f64) => "weight";
    /// What it may be used for in a minute; no limit by default.
    rate_limit(RateLimitSetup) => "rate_limit";
}

part! {
    /// What may be asked for in a minute; a limit that is not set is none.
    ///
    /// ```
    /// use sluicegate::{ProviderSetup, RateLimitSetup};
    ///
    /// let limit = RateLimitSetup::default().requests_per_minute(500).tokens_per_minute(200_000);
    /// let provider = ProviderSetup::known("openai").rate_limit(limit);
    /// ```
    RateLimitSetup
}

setters! { RateLimitSetup:
    /// Attempts: 1 to 10⁹.
    requests_per_minute(usize) => "requests_per_minute";
    /// Tokens of requests and answers together: 1 to 10⁹.
    tokens_per_minute(usize) => "tokens_per_minute";
}

part! {
    /// When a provider, or a model of its, is given a rest.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use sluicegate::{BreakerSetup, ProviderSetup};
    ///
    /// let quick = BreakerSetup::default().consecutive_failures(3).open_for(Duration::from_secs(2));
    /// let provider = ProviderSetup::sim("sim").breaker(quick);
    /// let patient = ProviderSetup::sim("other").breaker(BreakerSetup::off());
    /// ```
    BreakerSetup
}

impl BreakerSetup {
    /// No rest, whatever fails.
    #[must_use]
    pub fn off() -> Self {
        let mut off = Self::default();
        off.draft.set(&["enabled"], false);
        off
    }
}

setters! { BreakerSetup:
    /// The share of failed calls that opens a circuit: 0.5 by default, 0 to 1; 0 is none.
    failure_ratio(f64) => "failure_ratio";
    /// The fewest calls by which a share is judged: 10 by default, 1 to 10⁶.
    min_requests(usize) => "min_requests";
    /// What counts for shares, the calls of so long: 30 s by default, 1 ms to a day.
    window(Duration) => "window";
    /// So many failed calls one after the other open a circuit: 5 by default, up to 10⁶; 0 is none.
    consecutive_failures(usize) => "consecutive_failures";
    /// How long a circuit is open: 10 s by default, 1 ms to a day.
    open_for(Duration) => "open_for";
    /// How many calls try a half-open circuit at a time, and how many must go well: 1 by default, up to 1000.
    half_open_probes(usize) => "half_open_probes";
    /// A call that takes longer is slow, a stream if its first event does: none by default, 1 ms to a day.
    slow_after(Duration) => "slow_after";
    /// The share of slow calls that opens a circuit: 0.5 by default, 0 to 1.
    slow_ratio(f64) => "slow_ratio";
}

part! {
    /// When workers are added and removed, between the fewest and the most that [`Concurrency`](super::Concurrency) says.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use sluicegate::{Concurrency, ProviderSetup, ScalingSetup};
    ///
    /// let eager = ScalingSetup::default().up_threshold(0.5).min_interval(Duration::from_millis(200));
    /// let provider = ProviderSetup::sim("sim").concurrency(Concurrency::between(2, 32)).scaling(eager);
    /// ```
    ScalingSetup
}

impl ScalingSetup {
    /// As many workers as there may be, always.
    #[must_use]
    pub fn off() -> Self {
        let mut off = Self::default();
        off.draft.set(&["enabled"], false);
        off
    }
}

setters! { ScalingSetup:
    /// Above this share of the queue, or of the workers' time, some are added: 0.8 by default, 0 to 1.
    up_threshold(f64) => "up_threshold";
    /// Below this share of both, some are removed: 0.3 by default, 0 to 1, and below the one for more.
    down_threshold(f64) => "down_threshold";
    /// What their number is multiplied by for more: 1.5 by default, 1 to 100.
    up_factor(f64) => "up_factor";
    /// What their number is multiplied by for fewer: 0.75 by default, 0 to 1.
    down_factor(f64) => "down_factor";
    /// The least time between two changes: 1 s by default, 1 ms to a day. A request that finds nobody free does not wait for it.
    min_interval(Duration) => "min_interval";
    /// While work waits, none is removed unless answers take less than this: 2 s by default, 1 ms to a day.
    target_response(Duration) => "target_response";
    /// While work waits, some are added if answers take more than this: 10 s by default, 1 ms to a day.
    max_response(Duration) => "max_response";
}
