//! `GET /v1/models` and `/v1/models/{id}`: what there is to ask for, in OpenAI's shape, told without asking a provider.
//! Aliases come first, as they do where a name is looked up.

use serde_json::{Value, json};

use super::answer;
use crate::config::Scope;
use crate::error::{Code, Error};
use crate::gateway::{Gateway, ModelName};
use crate::http::Response;

/// What an alias is owned by.
const OURS: &str = "sluicegate";

/// The aliases that a caller may use, and the models, of those that are known.
pub(super) fn list(gateway: &Gateway, scope: &Scope) -> Response {
    let all = gateway.aliases();
    let models = gateway.models();
    let models = models.iter().filter(|model| may_use(scope, model)).map(|model| (model.to_string(), &*model.provider));
    // A model that an alias has taken the name of cannot be asked for by it.
    let models = models.filter(|(name, _)| !all.contains(name));
    let aliases = gateway.aliases_in(scope).into_iter().map(|alias| (alias, OURS));
    let data: Vec<_> = aliases.chain(models).map(|(name, owner)| object(&name, owner)).collect();
    answer::json(&json!({ "object": "list", "data": data }))
}

/// One of them.
///
/// # Errors
/// [`Code::ModelNotFound`], for one that the caller may not use too: what is there is not told to everybody.
pub(super) fn one(gateway: &Gateway, id: Option<&str>, scope: &Scope) -> Result<Response, Error> {
    let has = |scope: &Scope| gateway.aliases_in(scope).iter().any(|alias| id == Some(alias));
    let found = if has(&Scope::default()) {
        id.filter(|_| has(scope)).map(|alias| object(alias, OURS))
    } else {
        let model = id.and_then(|id| gateway.model(id)).filter(|model| may_use(scope, model));
        model.map(|model| object(&model.to_string(), &model.provider))
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

/// When a model was made only its provider knows; the shape has a number there.
fn object(name: &str, owner: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}
