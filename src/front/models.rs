//! `GET /v1/models` and `/v1/models/{id}`: what there is to ask for, in OpenAI's shape, told without asking a provider, unless the
//! query says `refresh=1`. Aliases come first, as they do where a name is looked up.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer;
use crate::config::Scope;
use crate::error::{Code, Error};
use crate::gateway::{Gateway, ModelName, ModelsRefresh};
use crate::http::{Head, Response};

/// The header that names the providers whose list is from before, because they gave none when they were asked.
const STALE: &str = "x-sluicegate-models-stale";

/// The longest that an answer waits for the providers' lists: longer than they may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// What an alias is owned by.
const OURS: &str = "sluicegate";

/// Asks the providers for their lists, if that is asked for.
pub(super) fn refreshed(gateway: &Gateway, head: &Head) -> ModelsRefresh {
    let is_asked = head.query().is_some_and(|query| query.split('&').any(|pair| pair == "refresh=1"));
    if is_asked { gateway.refresh_models(PATIENCE) } else { ModelsRefresh::default() }
}

/// Names the providers that gave no list, as far as a caller may know of them.
pub(super) fn dressed(response: Response, refresh: &ModelsRefresh, scope: &Scope) -> Response {
    let failed = refresh.failed.iter().map(|failure| failure.provider.as_str());
    let failed: Vec<_> = failed.filter(|provider| scope.names_any_of(provider)).collect();
    if failed.is_empty() { response } else { response.header(STALE, failed.join(", ")) }
}

/// The aliases that a caller may use, and the models, of those that are known.
pub(super) fn list(gateway: &Gateway, scope: &Scope) -> Response {
    let all = gateway.aliases();
    let models = gateway.models();
    let models = models.iter().filter(|model| may_use(scope, model)).map(|model| (model.to_string(), Some(model)));
    // A model that an alias has taken the name of cannot be asked for by it.
    let models = models.filter(|(name, _)| !all.contains(name));
    let aliases = gateway.aliases_in(scope).into_iter().map(|alias| (alias, None));
    let data: Vec<_> = aliases.chain(models).map(|(name, model)| object(&name, model)).collect();
    answer::json(&json!({ "object": "list", "data": data }))
}

/// One of them.
///
/// # Errors
/// [`Code::ModelNotFound`], for one that the caller may not use too: what is there is not told to everybody.
pub(super) fn one(gateway: &Gateway, id: Option<&str>, scope: &Scope) -> Result<Response, Error> {
    let has = |scope: &Scope| gateway.aliases_in(scope).iter().any(|alias| id == Some(alias));
    let found = if has(&Scope::default()) {
        id.filter(|_| has(scope)).map(|alias| object(alias, None))
    } else {
        let model = id.and_then(|id| gateway.model(id)).filter(|model| may_use(scope, model));
        model.map(|model| object(&model.to_string(), Some(&model)))
    };
    found.map(|found| answer::json(&found)).ok_or_else(|| {
        let shown: String = id.unwrap_or_default().chars().take(120).collect();
        let text = format!("there is no model {shown:?} in the list; GET /v1/models gives it");
        Error::new(Code::ModelNotFound, text).with_param("model")
    })
}

fn may_use(scope: &Scope, model: &ModelName) -> bool {
    scope.lists(&model.to_string())
}

/// When a model was made only its provider knows, and where it does not say so, the shape has a number there all the same.
fn object(name: &str, model: Option<&ModelName>) -> Value {
    let created = model.and_then(|model| model.created).unwrap_or(0);
    let owner = model.map_or(OURS, |model| model.owned_by.as_deref().unwrap_or(&model.provider));
    json!({ "id": name, "object": "model", "created": created, "owned_by": owner })
}
