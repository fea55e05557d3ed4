//! Names as a program writes them: aliases for models, and the keys by which a front end knows its clients.

use std::fmt;

use serde_json::{Value, json};

use super::super::Strategy;
use super::{Draft, Said, setters, text};
use crate::secret::Secret;

/// A name for one or several models, which a request has in `model`.
///
/// ```
/// use sluicegate::{AliasSetup, Gateway, ProviderSetup, Strategy};
///
/// let gateway = Gateway::builder()
///     .provider(ProviderSetup::sim("one"))
///     .provider(ProviderSetup::sim("two"))
///     .alias(AliasSetup::new("fast", "one/echo").fallback("two/echo"))
///     .alias(AliasSetup::new("even", "one/echo").weight(3.0).target("two/echo").strategy(Strategy::LeastBusy))
///     .build()?;
/// assert_eq!(gateway.ask("fast", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AliasSetup {
    name: String,
    targets: Vec<(String, Option<f64>)>,
    draft: Draft,
}

impl AliasSetup {
    /// `name` stands for `model`, which is a `provider/model`.
    #[must_use]
    pub fn new(name: impl Into<String>, model: impl Into<String>) -> Self {
        Self { name: name.into(), targets: vec![(model.into(), None)], draft: Draft::default() }
    }

    /// It stands for `model`, too. At most 64, none twice.
    #[must_use]
    pub fn target(mut self, model: impl Into<String>) -> Self {
        self.targets.push((model.into(), None));
        self
    }

    /// How often the model named last comes first beside the others, a share of the sum of all: 1 by default, 0 to 10⁶.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        if let Some((_, last)) = self.targets.last_mut() {
            *last = Some(weight);
        }
        self
    }

    /// What is tried after all of these, unless the request names fallbacks of its own: a `provider/model`. At most 64.
    #[must_use]
    pub fn fallback(mut self, model: &str) -> Self {
        self.draft.push(&["fallbacks"], model);
        self
    }

    /// Its name and what a document has of it.
    pub(crate) fn into_parts(self) -> (String, impl Said) {
        let Self { name, targets, mut draft } = self;
        for (model, weight) in targets {
            draft.push(&["targets"], json!({ "model": text(&model), "weight": weight.map(Said::said) }));
        }
        (name, draft)
    }
}

setters! { AliasSetup:
    /// In which order its models are tried: drawn by weight by default.
    strategy(Strategy) => "strategy";
}

/// A client that a front end on the gateway lets in; with none it lets everybody in.
///
/// ```
/// use sluicegate::{Gateway, GatewayKeySetup, ProviderSetup};
///
/// let gateway = Gateway::builder()
///     .provider(ProviderSetup::sim("sim"))
///     .gateway_key(GatewayKeySetup::new("team", "gw-secret").models(["sim/*"]))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct GatewayKeySetup {
    draft: Draft,
}

impl GatewayKeySetup {
    /// The client `name`, which sends this key.
    #[must_use]
    pub fn new(name: &str, key: impl Into<Secret>) -> Self {
        let mut draft = Draft::default();
        draft.set(&["name"], name);
        draft.set(&["value"], &key.into());
        Self { draft }
    }

    /// What it may ask for, instead of everything: `provider/model`, `provider/*`, or an alias's name.
    #[must_use]
    pub fn models(mut self, models: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        // One that may ask for nothing is told so when the gateway is built.
        self.draft.set(&["models"], Value::Array(models.into_iter().map(|model| text(model.as_ref())).collect()));
        self
    }
}

impl Said for GatewayKeySetup {
    fn said(self) -> Value {
        self.draft.said()
    }
}

impl fmt::Debug for GatewayKeySetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GatewayKeySetup").field(&self.draft).finish()
    }
}
