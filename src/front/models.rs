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
    let aliases = gateway.aliases(scope);
    let models = gateway.models();
    let models = models.iter().filter(|model| may_use(scope, model)).map(|model| (model.to_string(), &*model.provider));
    let models = models.filter(|(name, _)| !aliases.contains(name));
    let aliases = aliases.iter().map(|alias| object(alias, OURS));
    let data: Vec<_> = aliases.chain(models.map(|(name, owner)| object(&name, owner))).collect();
    answer::json(&json!({ "object": "list", "data": data }))
}

/// One of them.
///
/// # Errors
/// [`Code::ModelNotFound`], for one that the caller may not use too: what is there is not told to everybody.
pub(super) fn one(gateway: &Gateway, id: Option<&str>, scope: &Scope) -> Result<Response, Error> {
    if let Some(alias) = gateway.aliases(scope).iter().find(|alias| id == Some(alias)) {
        return Ok(answer::json(&object(alias, OURS)));
    }
    match id.and_then(|id| gateway.model(id)).filter(|model| may_use(scope, model)) {
        Some(model) => Ok(answer::json(&object(&model.to_string(), &model.provider))),
        None => {
            let shown: String = id.unwrap_or_default().chars().take(120).collect();
            let text = format!("there is no model {shown:?} in the list; GET /v1/models gives it");
            Err(Error::new(Code::ModelNotFound, text).with_param("model"))
        }
    }
}

fn may_use(scope: &Scope, model: &ModelName) -> bool {
    scope.lists(&model.to_string())
}

/// When a model was made only its provider knows; the shape has a number there.
fn object(name: &str, owner: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}
